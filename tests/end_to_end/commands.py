"""The real command as a running process: started, watched, killed; and who uses the embedded server of a home."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.storage.servers import cluster_of
from tickstock_assets.storage import keeper

TICKSTOCK = str(Path(sys.executable).parent / "tickstock")


def environment(home: Path, **variables: str) -> dict[str, str]:
    """Return what a command sees: this home, and only the variables named besides what any program needs."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "TICKSTOCK_HOME": str(home),
        **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")},
        **variables,
    }


# The command on a disk that takes a while to have a file for good: long enough for the moment before to be met.
SLOW_DISK = (
    "import os, time; sync = os.fsync; os.fsync = lambda file: (time.sleep(0.3), sync(file))[1]; "
    "from tickstock_assets.cli import main; main()"
)


def start(
    *arguments: str, home: Path, log: Path, program: Sequence[str] = (TICKSTOCK,), **variables: str
) -> subprocess.Popen[bytes]:
    """Start the command in a session of its own, so that it can be killed with everything it started."""
    with log.open("wb") as output:
        return subprocess.Popen(
            [*program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            env=environment(home, **variables),
            start_new_session=True,
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def other_holders(home: Path) -> set[int]:
    """Return the processes, other than this one and the keeper, that hold the embedded server of `home`."""
    cluster = cluster_of(home)
    kept_by = set(keeper._processes_with_open(cluster.keeper_lock))
    return set(keeper._processes_with_open(cluster.holders_lock)) - kept_by
