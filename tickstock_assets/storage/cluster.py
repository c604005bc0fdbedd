"""The files of one embedded PostgreSQL, the locks on them, and whether it lives.

What lives is told by locks (flock), which the kernel drops however a process dies, and by the socket. A process
id in a file is never trusted, as it may by now be another process:

    holders.lock   shared, by every process that uses the server
    keeper.lock    exclusive, by the keeper; the id written in it is believed only while the lock is held
    server.lock    exclusive, by initdb, the postmaster and all its children, which inherit it open

Standard library only, for the keeper's sake.

Elsewhere: the keeper (keeper.py), where the files are (placement.py), what callers see (embedded.py).
"""

import contextlib
import fcntl
import os
import socket
import stat
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

from tickstock_assets.domain.errors import DatabaseError

PORT = 5432  # only part of the socket's name: the server listens on no network
POLL_SECONDS = 0.02


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
        """Return the id of the listening postmaster, as the kernel tells it; None if none listens, 0 if hidden."""
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
    """Raise DatabaseError unless `folder` is a real folder that belongs to `uid` alone."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or found.st_mode & 0o077:
        raise DatabaseError(
            f"{folder}: expected a folder of user id {uid} with mode 0700, "
            f"found user id {found.st_uid} with mode {stat.filemode(found.st_mode)}; remove it"
        )
