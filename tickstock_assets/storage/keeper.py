"""The process that keeps one embedded PostgreSQL: creates, starts, restarts it, and stops it after its last user.

Run as a program by embedded.py. Standard library only, so that it starts in milliseconds.

What lives is told by locks on files, which the kernel drops however a process dies; a process id is never
trusted, as it may by now be another process:

    holders.lock   shared, one hold per process that uses the server
    keeper.lock    exclusive, by the keeper; the id written in it is believed only while the lock is held
    server.lock    exclusive, by initdb, the postmaster and all its children, which inherit it open

Elsewhere: where the cluster is and who runs it (placement.py), what callers see (embedded.py).
"""

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

PORT = 5432  # only part of the socket's name: the server listens on no network
SUPERUSER = "tickstock"
TICK_SECONDS = 0.25
POLL_SECONDS = 0.02
ORPHAN_SECONDS = 5.0  # children of a killed postmaster leave by themselves; a busy one may need telling
STOP_SECONDS = 30.0

# Nothing of the caller's environment reaches the server: neither PG* variables nor vendors' keys.
SERVER_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}

# Rewritten at every start; a value set by ALTER SYSTEM wins over it.
SETTINGS = """\
# Written by tickstock at every start. To change a setting for good use ALTER SYSTEM.
listen_addresses = ''
port = {port}
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
max_wal_size = 2GB
min_wal_size = 128MB
wal_compression = on
checkpoint_timeout = 15min
log_checkpoints = off
log_line_prefix = '%m [%p] %a '
timezone = 'UTC'
log_timezone = 'UTC'
"""


class KeeperError(Exception):
    """The server cannot be kept; the message goes to the log, where embedded.py finds it."""


@dataclass(frozen=True)
class Account:
    """The unprivileged user that runs PostgreSQL for root."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Cluster:
    """The files of one embedded server: its own in `folder`, its socket in `sockets`."""

    folder: Path
    sockets: Path

    @property
    def data(self) -> Path:
        """PostgreSQL's data directory."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """What keeper, initdb and server have to say."""
        return self.folder / "keeper.log"

    @property
    def holders_lock(self) -> Path:
        """Held shared by every process that uses the server."""
        return self.folder / "holders.lock"

    @property
    def keeper_lock(self) -> Path:
        """Held by the keeper."""
        return self.folder / "keeper.lock"

    @property
    def server_lock(self) -> Path:
        """Held by the processes of PostgreSQL; for the keeper only, since who opens it may be taken for one."""
        return self.folder / "server.lock"

    @property
    def stop_request(self) -> Path:
        """Its presence asks the keeper to stop the server though it is in use."""
        return self.folder / "stop"

    @property
    def socket(self) -> Path:
        """Where the server listens."""
        return self.sockets / f".s.PGSQL.{PORT}"

    def postmaster_pid(self) -> int | None:
        """Return the id of the listening postmaster as the kernel tells it: 0 if hidden from us, None if none listens."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(str(self.socket))
            except BlockingIOError:  # its queue is full, so it is there
                return 0
            except OSError:
                return None
            with contextlib.suppress(OSError):
                return _peer_pid(probe)
            return 0

    def is_ready(self) -> bool:
        """Whether the server accepts connections."""
        try:
            status = (self.data / "postmaster.pid").read_text().splitlines()[7:8]
        except FileNotFoundError:
            return False
        return [line.strip() for line in status] == ["ready"] and self.postmaster_pid() is not None


def _peer_pid(connection: socket.socket) -> int:
    if sys.platform == "darwin":
        return connection.getsockopt(0, 2)  # SOL_LOCAL, LOCAL_PEERPID
    pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(pid)


def try_lock(path: Path, operation: int) -> int | None:
    """Return a descriptor that holds the lock, or None when another process is in the way."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:
            os.close(descriptor)
            raise
        if is_same_file(descriptor, path):
            return descriptor
        os.close(descriptor)  # deleted and perhaps made anew meanwhile: this lock protects nothing


def is_same_file(descriptor: int, path: Path) -> bool:
    """Whether `path` still names the file that was opened."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def require_private(folder: Path, uid: int) -> None:
    """Raise KeeperError unless `folder` is a real folder that belongs to `uid` alone."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or found.st_mode & 0o077:
        raise KeeperError(
            f"{folder}: expected a folder of user id {uid} with mode 0700, "
            f"found user id {found.st_uid} with mode {stat.filemode(found.st_mode)}; remove it"
        )


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
            if not self._was_ready:
                raise KeeperError(f"the server ended with status {self._server.returncode} before it was ready")
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
        for leftover in (self.cluster.data / "postmaster.pid", self.cluster.socket, Path(f"{self.cluster.socket}.lock")):
            leftover.unlink(missing_ok=True)
        command = [self.binaries / "postgres", "-D", self.cluster.data, "-k", self.cluster.sockets]
        self._was_ready = False
        self._server = self._popen(command, lock)

    def _create(self, lock: int) -> None:
        """Run initdb beside the data folder and rename, so that a kill never leaves half a cluster."""
        new = self.cluster.folder / "data.new"
        if new.exists():
            shutil.rmtree(new)
        self._own_folder(new)
        command = [self.binaries / "initdb", "-D", new, f"--username={SUPERUSER}", "--auth=trust", "--encoding=UTF8"]
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "--no-instructions"]
        if status := self._popen(command, lock).wait():
            raise KeeperError(f"initdb ended with status {status}")
        # The folder belongs to another user, who could have put a link in place of the file.
        configuration = os.open(new / "postgresql.conf", os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
        with os.fdopen(configuration, "w") as file:
            file.write("\ninclude_if_exists = '../server.conf'\n")
        new.rename(self.cluster.data)

    def _popen(self, command: list[str | Path], lock: int) -> subprocess.Popen[bytes]:
        """Run a program of PostgreSQL as the server's user; it and its children inherit the lock."""
        return subprocess.Popen(
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
        new.write_text(SETTINGS.format(port=PORT, shared_memory=_shared_memory_type()))
        new.chmod(0o644)
        new.rename(self.cluster.folder / "server.conf")

    def _stop(self) -> None:
        for how, patience in ((signal.SIGINT, STOP_SECONDS), (signal.SIGQUIT, ORPHAN_SECONDS)):
            if self._server is not None:
                self._server.send_signal(how)
            elif pid := self.cluster.postmaster_pid():
                os.kill(pid, how)
            if self._is_gone(patience):
                return
        self._kill_orphans()

    def _is_gone(self, patience: float) -> bool:
        deadline = time.monotonic() + patience
        while (lock := try_lock(self.cluster.server_lock, fcntl.LOCK_EX)) is None and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        if lock is not None:
            os.close(lock)
        return lock is not None


def _shared_memory_type() -> str:
    """Containers often have 64 MB of /dev/shm, too little for one parallel hash join; System V memory has no such bound."""
    try:
        shm = os.statvfs("/dev/shm")  # noqa: S108 a question about its size
    except OSError:
        return "posix"
    return "posix" if shm.f_frsize * shm.f_blocks >= 1 << 30 else "sysv"


def _processes_with_open(path: Path) -> Iterator[int]:
    """Yield the processes other than ours that have `path` open."""
    if not Path("/proc/self/fd").exists():  # macOS
        listed = subprocess.run(["lsof", "-t", str(path)], capture_output=True, text=True, check=False)
        yield from (int(pid) for pid in listed.stdout.split() if int(pid) != os.getpid())
        return
    wanted = path.stat()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone, or another user's
            if int(process.name) != os.getpid() and any(
                os.path.samestat(wanted, descriptor.stat()) for descriptor in (process / "fd").iterdir()
            ):
                yield int(process.name)


def main(lock: str, folder: str, sockets: str, binaries: str, uid: str = "", gid: str = "") -> int:
    """Detach, then keep the cluster; `lock` is the descriptor of keeper.lock, held for us by our parent."""
    if os.fork():
        return 0  # so that the keeper is nobody's child and leaves no zombie
    cluster = Cluster(Path(folder), Path(sockets))
    account = Account(int(uid), int(gid)) if uid else None
    keeper = Keeper(cluster, Path(binaries), account, int(lock))
    os.write(keeper.lock, f"{os.getpid()}\n".encode())
    cluster.stop_request.unlink(missing_ok=True)

    def wake(number: int, _frame: object) -> None:
        keeper.is_terminated = keeper.is_terminated or number != signal.SIGCHLD
        keeper.wake.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, wake)
    try:
        keeper.run()
    except (KeeperError, OSError) as error:
        _say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
