"""The PostgreSQL server inside the home folder: started on first use, shared, stopped after its last user.

    server = acquire(home)                 # this process now holds the server until it ends, however it ends
    ensure_database(server, "tickstock")
    server.url("tickstock")                # for psycopg, psycopg2 and SQLAlchemy alike

Elsewhere: files and locks (cluster.py), the process behind it (keeper.py), folders and users (placement.py), which
server to use (database.py).
"""

import atexit
import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from tickstock_assets.domain.errors import DatabaseError
from tickstock_assets.storage import keeper, placement
from tickstock_assets.storage.cluster import POLL_SECONDS, PORT, Cluster, is_same_file, require_private, try_lock

START_SECONDS = 60.0
STOP_SECONDS = 60.0
# A keeper that fails writes why and exits; one more attempt tells a passing trouble from a lasting one.
ATTEMPTS = 2
LARGEST_LOG_BYTES = 10_000_000
PACKAGE_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Server:
    """How to reach an embedded server."""

    socket_folder: Path
    port: int
    user: str

    def url(self, database: str) -> str:
        """Return the connection string of a database of this server."""
        host = quote(str(self.socket_folder), safe="")
        return f"postgresql://{self.user}@/{quote(database, safe='')}?host={host}&port={self.port}"


# The descriptor of holders.lock by cluster folder. A forked child shares the hold, an executed program does not.
_held: dict[Path, int] = {}
# Also held around forks: a child born while keeper.lock is in our hands would keep it locked for its lifetime.
_guard = threading.RLock()
os.register_at_fork(before=_guard.acquire, after_in_parent=_guard.release, after_in_child=_guard.release)


def acquire(home: Path, timeout_seconds: float = START_SECONDS) -> Server:
    """Hold the server of `home` until this process ends, and wait until it accepts connections.

    Cheap when it is running; calling it again revives a server or a keeper that was killed meanwhile.

    Raises:
        DatabaseError: the folder cannot be used, or the server does not start in time.
    """
    deadline = time.monotonic() + timeout_seconds
    with _explained(home):
        cluster = placement.place_cluster(home.resolve())
        is_new = _hold(cluster, deadline)
        try:
            _wait_until_ready(cluster, deadline)
            require_private(cluster.sockets, cluster.data.stat().st_uid)
        except BaseException:
            if is_new:
                _let_go(cluster)
            raise
    return _server(cluster)


def ensure_database(server: Server, name: str) -> None:
    """Create the database unless it exists."""
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        if connection.execute("select from pg_database where datname = %s", [name]).fetchone() is not None:
            return
        # Another process may create it meanwhile: one of the two errors, depending on how far it is.
        with contextlib.suppress(psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))


def is_running(home: Path) -> bool:
    """Whether the server of `home` accepts connections; never starts it."""
    with _explained(home):
        cluster = placement.find_cluster(home.resolve())
        return cluster is not None and cluster.is_ready()


def release(home: Path) -> None:
    """Give the server up before this process ends."""
    cluster = placement.find_cluster(home.resolve())
    if cluster is None:
        return
    _heal(cluster)
    _let_go(cluster)


def stop(home: Path, *, force: bool = False) -> None:
    """Stop the server of `home` and wait until it is down; with `force` also while other processes use it.

    Raises:
        DatabaseError: other processes use it, or it does not stop.
    """
    with _explained(home):
        release(home)
        cluster = placement.find_cluster(home.resolve())
        if cluster is None or not cluster.folder.exists():
            return
        deadline = time.monotonic() + STOP_SECONDS
        while _is_kept(cluster) or cluster.postmaster_pid() is not None:
            if force:
                cluster.stop_request.touch()
            elif _is_held(cluster):
                raise DatabaseError(
                    f"embedded PostgreSQL in {cluster.folder}: expected no other process to use it, "
                    f"found {_applications(cluster)}; end them, or run `tickstock db stop --force`"
                )
            _heal(cluster)  # a server whose keeper was killed needs one to stop it
            if time.monotonic() > deadline:
                raise _failure(cluster, 0, "did not stop in time")
            time.sleep(POLL_SECONDS)
        cluster.stop_request.unlink(missing_ok=True)


def destroy(home: Path) -> None:
    """Stop the server of `home`, whoever uses it, and delete its databases."""
    stop(home, force=True)
    with _explained(home):
        cluster = placement.find_cluster(home.resolve())
        folders = {home.resolve() / "postgres"} | ({cluster.folder, cluster.sockets} if cluster else set())
        for folder in sorted(folders, reverse=True):  # inner ones first
            if folder.exists():
                shutil.rmtree(folder)


def _server(cluster: Cluster) -> Server:
    return Server(cluster.sockets, PORT, keeper.SUPERUSER)


def _hold(cluster: Cluster, deadline: float) -> bool:
    """Take the shared lock unless this process has it; return whether it was taken."""
    while True:
        with _guard:
            descriptor = _held.get(cluster.folder)
            if descriptor is not None and is_same_file(descriptor, cluster.holders_lock):
                return False
            descriptor = try_lock(cluster.holders_lock, fcntl.LOCK_SH)
            if descriptor is not None:
                if not _held:
                    atexit.register(_heal_all)
                _held[cluster.folder] = descriptor
                return True
        if time.monotonic() > deadline:
            raise _failure(cluster, 0, "is still being stopped")
        time.sleep(POLL_SECONDS)


def _let_go(cluster: Cluster) -> None:
    with _guard:
        descriptor = _held.pop(cluster.folder, None)
        if descriptor is not None:
            os.close(descriptor)


def _wait_until_ready(cluster: Cluster, deadline: float) -> None:
    log_start = cluster.log.stat().st_size if cluster.log.exists() else 0
    starts = 0
    while True:
        if _is_kept(cluster):
            if cluster.is_ready():
                return
        elif starts == ATTEMPTS:
            raise _failure(cluster, log_start, "cannot be started")
        else:
            starts += _ensure_keeper(cluster)
        if time.monotonic() > deadline:
            raise _failure(cluster, log_start, "did not start in time")
        time.sleep(POLL_SECONDS)


def _ensure_keeper(cluster: Cluster) -> bool:
    """Start a keeper unless there is one; return whether it was started."""
    with _guard:
        lock = try_lock(cluster.keeper_lock, fcntl.LOCK_EX)
        if lock is None:
            return False
        try:
            os.ftruncate(lock, 0)
            _spawn_keeper(cluster, lock)
        finally:
            os.close(lock)  # the keeper has inherited it, still locked
    return True


def _spawn_keeper(cluster: Cluster, lock: int) -> None:
    account = placement.server_account(cluster.data)
    command = [sys.executable, "-m", keeper.__name__, str(lock), str(cluster.folder), str(cluster.sockets)]
    command.append(str(placement.binaries(account)))
    if account:
        command += [str(account.uid), str(account.gid)]
    if cluster.log.exists() and cluster.log.stat().st_size > LARGEST_LOG_BYTES:
        cluster.log.replace(cluster.log.with_suffix(".old.log"))
    with cluster.log.open("ab") as log:
        subprocess.run(  # noqa: S603 our own program and folders
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=PACKAGE_ROOT,  # found there by `-m`, installed or not
            pass_fds=(lock,),
            start_new_session=True,
            check=True,
        )


def _is_kept(cluster: Cluster) -> bool:
    with _guard:
        return not _is_free(cluster.keeper_lock, fcntl.LOCK_EX)


def _is_held(cluster: Cluster) -> bool:
    """Whether other processes hold the server; a keeper that is stopping it does not count."""
    with _guard:
        return not _is_free(cluster.holders_lock, fcntl.LOCK_EX) and _is_free(cluster.holders_lock, fcntl.LOCK_SH)


def _is_free(path: Path, operation: int) -> bool:
    descriptor = try_lock(path, operation)
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is not None


def _heal(cluster: Cluster) -> None:
    """Give a server whose keeper was killed a new one, which will stop it when its time has come."""
    if cluster.folder.exists() and cluster.postmaster_pid() is not None:
        _ensure_keeper(cluster)


def _heal_all() -> None:
    for cluster_folder in list(_held):
        _heal(placement.cluster_in(cluster_folder))


def _applications(cluster: Cluster) -> str:
    query = """select distinct application_name from pg_stat_activity
               where backend_type = 'client backend' and pid <> pg_backend_pid() and application_name <> ''"""
    try:
        with psycopg.connect(_server(cluster).url("postgres")) as connection:
            names = sorted(name for (name,) in connection.execute(query))
    except psycopg.Error:
        names = []
    return ", ".join(names) or "some"


def _failure(cluster: Cluster, log_start: int, what: str) -> DatabaseError:
    line = _last_useful_line(cluster.log, log_start)
    return DatabaseError(
        f"embedded PostgreSQL in {cluster.folder} {what}: expected it to accept connections, "
        f"found {line!r}; see {cluster.log}, correct the cause and try again"
    )


def _last_useful_line(log: Path, start: int) -> str:
    if not log.exists():
        return "no log"
    with log.open("rb") as file:
        file.seek(start if start <= log.stat().st_size else 0)
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    useful = [line for line in lines if any(word in line for word in ("FATAL", "PANIC", "error:"))]
    foreign = [line for line in useful if "keeper: error: " not in line]
    return (foreign or useful or lines or ["nothing in its log"])[-1]


@contextlib.contextmanager
def _explained(home: Path) -> Iterator[None]:
    """Turn what the operating system refuses into a sentence."""
    try:
        yield
    except (OSError, subprocess.CalledProcessError) as error:
        raise DatabaseError(
            f"embedded PostgreSQL in {home}: expected a folder we can write and lock files in, found {error}; "
            f"set TICKSTOCK_HOME to another folder or TICKSTOCK_DATABASE_URL to a server"
        ) from error
