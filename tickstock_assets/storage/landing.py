"""The landing folder: what providers sent, as Parquet, never overwritten, named by what is in it."""

import contextlib
import fcntl
import hashlib
import os
import uuid
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tickstock_assets.domain.errors import LandingError
from tickstock_assets.domain.windows import WHOLE_MARKET, Window
from tickstock_assets.storage.cluster import try_lock

TEMPORARY = ".landing-"


@dataclass(frozen=True)
class LandedFile:
    """A payload that is durable: `path` is relative to the landing folder."""

    path: str
    sha256: str
    rows: int


def land(folder: Path, provider: str, dataset: str, window: Window, payload: pa.Table) -> LandedFile:
    """Write a payload and return where it is, once it is on disk for good.

    The same payload gives the same file, so landing twice changes nothing.
    """
    buffer = pa.BufferOutputStream()
    pq.write_table(payload, buffer, compression="zstd")
    content = buffer.getvalue().to_pybytes()
    sha256 = hashlib.sha256(content).hexdigest()
    # Slashes and colons are legal in a symbol and not in a file's name.
    symbol_folder = window.symbol.replace("/", "%2F").replace(":", "%3A").replace(WHOLE_MARKET, "%2A")
    path = Path(provider) / dataset / symbol_folder / f"{window.start}_{window.end}_{sha256[:16]}.parquet"
    if not (folder / path).exists():
        _write_durably(folder / path, content)
    return LandedFile(path.as_posix(), sha256, payload.num_rows)


def read(folder: Path, path: str, sha256: str) -> pa.Table:
    """Return a landed payload as it was written.

    Raises:
        LandingError: the file is gone, or is not what was written.
    """
    try:
        content = (folder / path).read_bytes()
    except FileNotFoundError:
        raise LandingError(
            f"{folder / path}: expected the payload that load_ledger names, found no file; restore it from a backup, "
            "or delete its row from load_ledger to fetch it again"
        ) from None
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise LandingError(
            f"{folder / path}: expected sha256 {sha256}, found {found}; restore it from a backup, "
            "or delete the file and its row from load_ledger to fetch it again"
        )
    return pq.read_table(pa.BufferReader(content))


def _write_durably(path: Path, content: bytes) -> None:
    """Write under another name, flush to disk, rename: a crash leaves the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path.parent)
    handle, temporary = _new_temporary(path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _new_temporary(folder: Path) -> tuple[int, Path]:
    """Return a new file that is locked for as long as it is open, which tells it from a killed process's leftover."""
    while True:
        temporary = folder / f"{TEMPORARY}{uuid.uuid4().hex}"
        handle = try_lock(temporary, fcntl.LOCK_EX)
        if handle is not None:
            return handle, temporary


def _remove_leftovers(folder: Path) -> None:
    for leftover in folder.glob(f"{TEMPORARY}*"):
        with contextlib.suppress(FileNotFoundError):
            handle = os.open(leftover, os.O_RDWR)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                leftover.unlink()
            except BlockingIOError:
                pass  # another process is at work on it
            finally:
                os.close(handle)
