"""pg_dump and pg_restore: which of those on this machine will do for a server, and running them.

Elsewhere: the wheel's programs, of which the embedded server is one (placement.py), what is done with them (backup.py).
"""

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from psycopg.conninfo import make_conninfo
from sqlalchemy import URL

from tickstock_assets.domain.errors import DatabaseError
from tickstock_assets.storage import placement
from tickstock_assets.storage.pool import libpq_arguments

DEBIAN_FOLDERS = "/usr/lib/postgresql"
# Its pg_restore sets transaction_timeout, which servers before do not know.
TRANSACTION_TIMEOUT_SINCE = 17
# What pg_dump says of TimescaleDB's own tables; its documentation says to pay no heed.
EXPECTED_WARNINGS = re.compile(
    r"circular foreign-key constraints|^pg_dump: (detail|hint)|^pg_dump: warning: .*hypertable data are in the chunks"
    r"|^(hypertable|chunk|continuous_agg)$|^\s*$"
)
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class ClientPrograms:
    """The folder of a pg_dump and pg_restore, and their version."""

    folder: Path
    major: int


def programs_for(server_major: int, archive_major: int = 0) -> ClientPrograms:
    """Return the oldest programs that know a server's version and, to restore it, that of the dump.

    Raises:
        DatabaseError: this machine has none.
    """
    wanted = max(server_major, archive_major)
    found = sorted(_found(), key=lambda programs: programs.major)
    for programs in found:
        if programs.major >= wanted and not (
            archive_major and programs.major >= TRANSACTION_TIMEOUT_SINCE > server_major
        ):
            return programs
    versions = ", ".join(sorted({str(programs.major) for programs in found})) or "none"
    raise DatabaseError(
        f"pg_dump and pg_restore: expected version {wanted} for this server, found {versions}; "
        f"install PostgreSQL's client programs of version {wanted} and have them on PATH"
    )


def _found() -> Iterator[ClientPrograms]:
    on_path = shutil.which("pg_dump")
    debian = sorted(Path(DEBIAN_FOLDERS).glob("*/bin"))
    wheel: list[Path] = []
    with contextlib.suppress(DatabaseError):  # no wheel for this machine
        wheel = [placement.binaries(None)]
    for folder in [*([Path(on_path).parent] if on_path else []), *debian, *wheel]:
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            said = subprocess.run(  # noqa: S603 PostgreSQL's own program
                [folder / "pg_dump", "--version"], capture_output=True, text=True, check=True
            )
            if (folder / "pg_restore").exists() and (version := re.search(r"\) (\d+)", said.stdout)):
                yield ClientPrograms(folder, int(version[1]))


def connection_arguments(url: URL) -> list[str]:
    """Return the options that name a database, without its password, which every user of the machine could see."""
    named = {name: value for name, value in libpq_arguments(url).items() if name != "password"}
    return ["--no-password", f"--dbname={make_conninfo(**named)}"]


def environment(url: URL) -> dict[str, str]:
    """Return the environment of a program that connects to `url`, with the password if it has one."""
    password = libpq_arguments(url).get("password")
    return {**os.environ, "LC_ALL": "C", **({"PGPASSWORD": password} if password else {})}


@contextlib.contextmanager
def running(command: Sequence[str | Path], url: URL, output: int) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a program that writes to the descriptor `output`; wait for it to end, or end it when the block fails.

    Raises:
        DatabaseError: it failed; the sentence has its own words.
    """
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(  # noqa: S603 PostgreSQL's own program
            [str(part) for part in command],
            stdin=subprocess.DEVNULL, stdout=output, stderr=complaints, env=environment(url),
        )  # fmt: skip
        try:
            yield process
            process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
        complaints.seek(0)
        lines = [line for line in complaints.read().decode(errors="replace").splitlines() if line.strip()]
    if process.returncode != 0:
        raise DatabaseError(f"{Path(command[0]).name}: expected it to succeed, found {cause_of(lines)!r}")


def cause_of(lines: Sequence[str]) -> str:
    """Return the first line in which a program of PostgreSQL says what was wrong."""
    said = [line for line in lines if not EXPECTED_WARNINGS.search(line)]
    errors = [line for line in said if "error:" in line]
    return (errors or said or ["no word"])[0]
