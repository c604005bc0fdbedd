"""The landing folder: what providers sent, as Parquet, never overwritten, named by what is in it."""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tickstock_assets.domain.errors import LandingError
from tickstock_assets.domain.windows import Window


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
    symbol_folder = window.symbol.replace("/", "%2F").replace(":", "%3A")
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
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".landing-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).rename(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
