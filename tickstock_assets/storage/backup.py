"""A database in a file: PostgreSQL's own custom format, and beside it a manifest that a restore is held against.

Elsewhere: the way back (restore.py), finding and running pg_dump (client_programs.py), tables as Parquet (export.py).
"""

import contextlib
import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter
from sqlalchemy import URL, Connection, text

from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.storage import migrate
from tickstock_assets.storage.client_programs import (
    POLL_SECONDS,
    ClientPrograms,
    connection_arguments,
    programs_for,
    running,
)
from tickstock_assets.storage.database import driver, open_engine
from tickstock_assets.storage.pool import MAINTENANCE
from tickstock_assets.storage.whole_file import whole_file

MANIFEST_SUFFIX = ".manifest.json"
# Of a manifest whose dump is about to be put in its place.
COMING_SUFFIX = ".coming"
Progress = Callable[[int, int | None], None]
OWN_TABLES = """
    SELECT c.relname FROM pg_class c
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
    ORDER BY c.relname
"""

# What TimescaleDB adds to them. Not the continuous aggregates, which their policies go on filling meanwhile.
TIER_RELATIONS = """
    SELECT c.oid::regclass::text FROM pg_class c
    WHERE c.relnamespace = to_regnamespace('tier') AND c.relkind IN ('r', 'p') ORDER BY 1
"""


@dataclass(frozen=True)
class Manifest:
    """What a dump holds, written beside it as `FILE.manifest.json`; `rows` are exact, by table."""

    database: str
    made_at: str
    server_version: str
    pg_dump_major: int
    timescaledb: str | None
    revision: str | None
    size_bytes: int
    sha256: str
    rows: dict[str, int]

    @property
    def server_major(self) -> int:
        """Major version of the server that was dumped."""
        return int(self.server_version.split(".")[0])


def manifest_path(file: Path) -> Path:
    """Return where the manifest of a dump is."""
    return Path(f"{file}{MANIFEST_SUFFIX}")


def dump(url: URL, file: Path, on_progress: Progress = lambda *_: None) -> Manifest:
    """Write a database to a file, as it is at one moment, and a manifest beside it.

    Args:
        url: as a role that may read every table.
        file: replaced when the dump is complete; until then what was there stays, and can be restored.
        on_progress: told the bytes written so far.

    Raises:
        ConfigError: `file` cannot be written.
        DatabaseError: the server cannot be reached or read, or there is no pg_dump of its version.
    """
    if file.name.endswith(MANIFEST_SUFFIX):
        raise ConfigError(f"{file}: expected the name of a dump, found that of a dump's manifest; name another")
    engine = open_engine(url, "tickstock db dump", MAINTENANCE)
    try:
        with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
            connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            programs = programs_for(driver(connection).info.server_version // 10_000)
            # The rows that are counted are the rows that are dumped. A snapshot alone does not see to that, as a dropped
            # chunk is gone for it too: what is counted first stays locked until the transaction ends, after pg_dump.
            rows = count_rows(connection)
            snapshot = connection.execute(text("SELECT pg_export_snapshot()")).scalar_one()
            with _beside_its_manifest(file) as output:
                _run_pg_dump(programs, url, snapshot, output, on_progress)
                manifest = _describe(connection, url, programs, output, rows)
                with whole_file(_coming(file)) as beside:
                    os.write(beside, (json.dumps(asdict(manifest), indent=2) + "\n").encode())
    finally:
        engine.dispose()
    return manifest


@contextlib.contextmanager
def _beside_its_manifest(file: Path) -> Iterator[int]:
    """Yield a descriptor to write a dump to; when the block ends it is put in place, and then the coming manifest is.

    Two files do not change in one moment. So the manifest that was there stays until the dump has changed, and whoever is
    stopped in between leaves a dump that one of the two manifests describes.
    """
    try:
        with whole_file(file) as output:
            _settle(file)
            yield output
    except BaseException:
        _settle(file)
        raise
    _coming(file).replace(manifest_path(file).resolve())


def _coming(file: Path) -> Path:
    """Return where the manifest of a dump is before the dump is in its place."""
    return Path(f"{manifest_path(file).resolve()}{COMING_SUFFIX}")  # in one folder with it, also where that is a link


def _settle(file: Path) -> None:
    """Put the coming manifest of one who was stopped in its place, or remove it where its dump never came."""
    coming = _coming(file)
    if _describes(coming, file):
        coming.replace(manifest_path(file).resolve())
    coming.unlink(missing_ok=True)


def _run_pg_dump(programs: ClientPrograms, url: URL, snapshot: str, output: int, on_progress: Progress) -> None:
    how = ["--format=custom", f"--snapshot={snapshot}", *connection_arguments(url)]
    command: list[str | Path] = [programs.folder / "pg_dump", *how]
    with running(command, url, output) as process:
        while True:
            try:
                process.wait(POLL_SECONDS)
                break
            except subprocess.TimeoutExpired:
                on_progress(os.fstat(output).st_size, None)


def _describe(
    connection: Connection, url: URL, programs: ClientPrograms, output: int, rows: dict[str, int]
) -> Manifest:
    os.lseek(output, 0, os.SEEK_SET)
    with os.fdopen(os.dup(output), "rb") as written:
        digest = hashlib.file_digest(written, "sha256").hexdigest()
    return Manifest(
        database=str(url.database),
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        server_version=connection.execute(text("SHOW server_version")).scalar_one().split()[0],
        pg_dump_major=programs.major,
        timescaledb=_timescaledb(connection),
        revision=migrate.current_revision(connection),
        size_bytes=os.fstat(output).st_size,
        sha256=digest,
        rows=rows,
    )


def _timescaledb(connection: Connection) -> str | None:
    version = connection.execute(text("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'")).scalar()
    return str(version) if version else None


def count_rows(connection: Connection) -> dict[str, int]:
    """Return how many rows every table and rollup has."""
    own = {table: f'"{table}"' for table in connection.execute(text(OWN_TABLES)).scalars()}
    of_tier = {relation: relation for relation in connection.execute(text(TIER_RELATIONS)).scalars()}
    return {
        name: connection.execute(text(f"SELECT count(*) FROM {quoted}")).scalar_one()  # noqa: S608 from the catalog
        for name, quoted in (own | of_tier).items()
    }


def read_manifest(file: Path) -> Manifest:
    """Return the manifest of a dump, after a look that both are what was written.

    Raises:
        ConfigError: one is missing or is not what `dump` wrote.
    """
    beside = _coming(file) if _describes(_coming(file), file) else manifest_path(file)
    try:
        digest = _digest(file)
        manifest = _parsed(beside)
    except OSError as error:
        raise ConfigError(
            f"{error.filename}: expected a dump of `tickstock db dump` and its manifest {beside.name}, "
            f"found {error.strerror}; name the dump and keep both files together"
        ) from None
    except ValueError:
        raise ConfigError(f"{beside}: expected the manifest of a dump, found something else; restore another") from None
    if digest != manifest.sha256:
        raise ConfigError(
            f"{file}: expected the {manifest.size_bytes:,} bytes that its manifest describes, found others; "
            "the file is damaged or of another dump, restore another one"
        )
    return manifest


def _describes(beside: Path, file: Path) -> bool:
    """Whether there is such a manifest, and it is of the dump that is there."""
    try:
        return _parsed(beside).sha256 == _digest(file)
    except (OSError, ValueError):
        return False


def _parsed(beside: Path) -> Manifest:
    return TypeAdapter(Manifest).validate_json(beside.read_bytes(), strict=True)


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
