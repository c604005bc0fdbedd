"""The process that keeps one embedded PostgreSQL: creates, starts, restarts it, and stops it after its last user.

Run as a program by embedded.py. It imports nothing but the standard library, so that it starts in milliseconds.

Elsewhere: files and locks (cluster.py), where they are and who runs the server (placement.py), what callers see
(embedded.py).
"""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tickstock_assets.domain.errors import DatabaseError
from tickstock_assets.storage.cluster import POLL_SECONDS, PORT, Cluster, is_same_file, require_private, try_lock

SUPERUSER = "tickstock"
TICK_SECONDS = 0.25
ORPHAN_SECONDS = 5.0  # children of a killed postmaster leave by themselves; a busy one may need telling
STOP_SECONDS = 30.0

# Nothing of the caller's environment reaches the server: neither PG* variables nor vendors' keys.
SERVER_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}

# Rewritten at every start; a value set by ALTER SYSTEM wins over it.
SETTINGS = """\
# Written by tickstock at every start. To change a setting for good use ALTER SYSTEM.
listen_addresses = ''
port = {port}
unix_socket_directories = '{sockets}'
max_connections = 200
shared_buffers = 256MB
effective_cache_size = 2GB
work_mem = 16MB
maintenance_work_mem = 256MB
dynamic_shared_memory_type = {shared_memory}
random_page_cost = 1.1
jit = off
fsync = on
synchronous_commit = on
wal_level = minimal
max_wal_senders = 0
max_logical_replication_workers = 0
max_wal_size = 2GB
min_wal_size = 128MB
wal_compression = on
checkpoint_timeout = 15min
log_checkpoints = off
log_line_prefix = '%m [%p] %a '
timezone = 'UTC'
log_timezone = 'UTC'
"""


@dataclass(frozen=True)
class Account:
    """The unprivileged user that runs PostgreSQL for root."""

    uid: int
    gid: int


def _say(message: str) -> None:
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    sys.stderr.write(f"{now} UTC [{os.getpid()}] keeper: {message}\n")
    sys.stderr.flush()


@dataclass
class Keeper:
    """Keeps the server of one cluster running for as long as somebody holds it."""

    cluster: Cluster
    binaries: Path
    account: Account | None
    lock: int
    wake: threading.Event = field(default_factory=threading.Event)
    is_terminated: bool = False
    _server: subprocess.Popen[bytes] | None = None
    _was_ready: bool = False

    def run(self) -> None:
        """Keep the server until nobody holds it any more or we are told to stop it."""
        while not self._must_stop():
            # Not released before we exit: a newcomer waits at this lock until the server is down.
            if try_lock(self.cluster.holders_lock, fcntl.LOCK_EX) is not None:
                break
            self._tend()
            self.wake.wait(TICK_SECONDS)
            self.wake.clear()
        self._stop()

    def _must_stop(self) -> bool:
        is_deleted = not is_same_file(self.lock, self.cluster.keeper_lock)
        return self.is_terminated or is_deleted or self.cluster.stop_request.exists()

    def _tend(self) -> None:
        """Start the server, unless ours or one that a killed keeper left behind is running."""
        if self._server is not None:
            self._was_ready = self._was_ready or self.cluster.is_ready()
            if self._server.poll() is None:
                return
            # A negative status is a signal: it was killed, and starting it again may well help.
            if self._server.returncode > 0 and not self._was_ready:
                raise DatabaseError(f"the server ended with status {self._server.returncode} before it was ready")
            _say(f"the server ended with status {self._server.returncode} while in use; starting it again")
            self._server = None
        elif self.cluster.postmaster_pid() is not None:
            return
        lock = self._wait_for_server_lock()
        if lock is None:
            _say("found the server running; keeping it")
            return
        try:
            self._start(lock)
        finally:
            os.close(lock)

    def _wait_for_server_lock(self) -> int | None:
        """Return the lock once no process of the cluster lives, or None when a server answers after all."""
        deadline = time.monotonic() + ORPHAN_SECONDS
        while (lock := try_lock(self.cluster.server_lock, fcntl.LOCK_EX)) is None:
            if self.cluster.postmaster_pid() is not None:
                return None
            if time.monotonic() > deadline:
                self._kill_orphans()
            time.sleep(POLL_SECONDS)
        return lock

    def _kill_orphans(self) -> None:
        # The shared memory they work in is gone with their postmaster, so nothing of theirs can be saved.
        for pid in _processes_with_open(self.cluster.server_lock):
            _say(f"ending process {pid}, left behind by a killed server")
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _start(self, lock: int) -> None:
        if not (self.cluster.data / "PG_VERSION").exists():
            self._create(lock)
        self._own_folder(self.cluster.sockets)
        self._write_settings()
        # Leftovers of a killed server. PostgreSQL would ask whether the process id in them lives, and that may
        # now be a stranger's; the lock we have tells for certain that the server does not.
        for leftover in (
            self.cluster.data / "postmaster.pid",
            self.cluster.socket,
            Path(f"{self.cluster.socket}.lock"),
        ):
            leftover.unlink(missing_ok=True)
        command: list[str | Path] = [self.binaries / "postgres", "-D", self.cluster.data]
        self._was_ready = False
        self._server = self._popen(command, lock)

    def _create(self, lock: int) -> None:
        """Run initdb beside the data folder and rename, so that a kill never leaves half a cluster."""
        if self.cluster.data.exists():
            raise DatabaseError(
                f"{self.cluster.data}: expected a cluster or nothing, found other files; move them away"
            )
        new = self.cluster.folder / "data.new"
        if new.exists():
            shutil.rmtree(new)
        self._own_folder(new)
        command: list[str | Path] = [
            self.binaries / "initdb",
            "-D",
            new,
            f"--username={SUPERUSER}",
            "--auth=trust",
            "--encoding=UTF8",
        ]
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "--no-instructions"]
        if sys.platform == "linux":
            command.append("--sync-method=syncfs")  # halves the time of a thousand single syncs
        if status := self._popen(command, lock).wait():
            raise DatabaseError(f"initdb ended with status {status}")
        # The folder belongs to another user, who could have put a link in place of the file.
        configuration = os.open(new / "postgresql.conf", os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
        with os.fdopen(configuration, "w") as file:
            file.write("\ninclude_if_exists = '../server.conf'\n")
        new.rename(self.cluster.data)

    def _popen(self, command: list[str | Path], lock: int) -> subprocess.Popen[bytes]:
        """Run a program of PostgreSQL as the server's user; it and its children inherit the lock."""
        return subprocess.Popen(  # noqa: S603 our own programs and folders
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            cwd="/",
            env=SERVER_ENVIRONMENT,
            pass_fds=(lock,),
            start_new_session=True,
            user=self.account.uid if self.account else None,
            group=self.account.gid if self.account else None,
            extra_groups=[] if self.account else None,
        )

    def _own_folder(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        uid = self.account.uid if self.account else os.geteuid()
        if self.account and folder.lstat().st_uid == os.geteuid():
            os.chown(folder, self.account.uid, self.account.gid, follow_symlinks=False)
        require_private(folder, uid)

    def _write_settings(self) -> None:
        new = self.cluster.folder / "server.conf.new"
        values = {"port": PORT, "sockets": self.cluster.sockets, "shared_memory": _shared_memory_type()}
        new.write_text(SETTINGS.format(**values))
        new.chmod(0o644)
        new.rename(self.cluster.folder / "server.conf")

    def _stop(self) -> None:
        for how, patience in ((signal.SIGINT, STOP_SECONDS), (signal.SIGQUIT, ORPHAN_SECONDS)):
            if self._server is not None:
                self._server.send_signal(how)
            elif pid := self.cluster.postmaster_pid():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, how)
            if self._is_gone(patience):
                return
        self._kill_orphans()
        if not self._is_gone(ORPHAN_SECONDS):
            raise DatabaseError("the server did not stop")

    def _is_gone(self, patience: float) -> bool:
        deadline = time.monotonic() + patience
        while (lock := try_lock(self.cluster.server_lock, fcntl.LOCK_EX)) is None and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        if lock is not None:
            os.close(lock)
        return lock is not None


def _shared_memory_type() -> str:
    """Return `sysv` where /dev/shm is too small for a parallel hash join, as the 64 MB of most containers are."""
    try:
        shm = os.statvfs("/dev/shm")  # noqa: S108 a question about its size
    except OSError:
        return "posix"
    return "posix" if shm.f_frsize * shm.f_blocks >= 1 << 30 else "sysv"


def _processes_with_open(path: Path) -> Iterator[int]:
    """Yield the processes other than ours that have `path` open."""
    if not Path("/proc/self/fd").exists():  # macOS
        command = ["/usr/sbin/lsof", "-t", str(path)]
        listed = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 a constant program
        yield from (int(pid) for pid in listed.stdout.split() if int(pid) != os.getpid())
        return
    wanted = path.stat()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone, or another user's
            if int(process.name) != os.getpid() and any(
                os.path.samestat(wanted, descriptor.stat()) for descriptor in (process / "fd").iterdir()
            ):
                yield int(process.name)


def main(lock: str, folder: str, sockets: str, binaries: str, *account: str) -> int:
    """Detach, then keep the cluster; `lock` is the descriptor of keeper.lock, locked for us by our parent."""
    if os.fork():
        return 0  # so that the keeper is nobody's child and leaves no zombie
    os.chdir("/")
    cluster = Cluster(Path(folder), Path(sockets))
    server_account = Account(*map(int, account)) if account else None
    keeper = Keeper(cluster, Path(binaries), server_account, int(lock))
    os.write(keeper.lock, f"{os.getpid()}\n".encode())
    cluster.stop_request.unlink(missing_ok=True)

    def wake(number: int, _frame: object) -> None:
        keeper.is_terminated = keeper.is_terminated or number != signal.SIGCHLD
        keeper.wake.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, wake)
    try:
        keeper.run()
    except (DatabaseError, OSError) as error:
        _say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
