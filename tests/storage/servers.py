"""Real processes around embedded servers: start, watch and kill them."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg

from tickstock_assets.storage import embedded, placement
from tickstock_assets.storage.cluster import Cluster, try_lock

PROJECT = Path(__file__).parents[2]
WAIT_SECONDS = 300.0
HOLDER = """
import sys
from pathlib import Path
from tickstock_assets.storage import embedded
server = embedded.acquire(Path(sys.argv[1]))
embedded.ensure_database(server, "tickstock")
print(server.url("tickstock"), flush=True)
{then}
sys.stdin.read()
"""


class Holder:
    """A process that holds the server of `home` until it is told to leave, or killed."""

    def __init__(self, home: Path, then: str = "", path: tuple[Path, ...] = ()) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*path, PROJECT]))}
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER.format(then=then), str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def wait_until_ready(self) -> str:
        """Return the URL that the holder got."""
        assert self.process.stdout is not None
        url = self.process.stdout.readline().strip()
        assert url, self.process.communicate()[1]
        return url

    def leave(self) -> None:
        """End in the ordinary way."""
        _, complaint = self.process.communicate()
        assert (self.process.returncode, complaint) == (0, "")

    def kill(self) -> None:
        """End without a chance to clean up."""
        self.process.kill()
        self.process.communicate()


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def cluster_of(home: Path) -> Cluster:
    cluster = placement.find_cluster(home)
    assert cluster is not None
    return cluster


def is_locked(path: Path) -> bool:
    descriptor = try_lock(path, fcntl.LOCK_EX)
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is None


def wait_until_stopped(home: Path) -> None:
    """Until neither a process of PostgreSQL nor a keeper lives."""
    cluster = cluster_of(home)
    wait_until(lambda: not is_locked(cluster.server_lock) and not is_locked(cluster.keeper_lock))
    assert not embedded.is_running(home)


def keeper_pid(home: Path) -> int:
    lock = cluster_of(home).keeper_lock
    wait_until(lambda: is_locked(lock) and lock.read_text())
    return int(lock.read_text())


def postmaster_pid(home: Path) -> int:
    """Return the id of the postmaster; waits for one that is being started."""
    found: list[int] = []
    wait_until(lambda: found.append(cluster_of(home).postmaster_pid() or 0) or found[-1])
    return found[-1]


def kill_keeper(home: Path) -> None:
    lock = cluster_of(home).keeper_lock
    os.kill(keeper_pid(home), signal.SIGKILL)
    wait_until(lambda: not is_locked(lock))


def fetch_one(url: str, query: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]
