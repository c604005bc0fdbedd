"""Ticks on their way to the database: files of a folder, appended to before a tick is acknowledged, deleted when it is stored.

A segment is a file of records; a record is one Arrow batch behind its length and checksum. Who is killed while he appends
leaves half a record at the end: that was never acknowledged, so whoever reads the segment ends before it. What `write` has
taken survives the process, killed or not; the machine's power failing it survives only where the file was synced.

Elsewhere: who appends, stores and deletes (ticks.py).
"""

import fcntl
import logging
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.domain.trades import TICKS
from tickstock_assets.storage.cluster import try_lock
from tickstock_assets.storage.tick_rules import allowed

log = logging.getLogger(__name__)

SUFFIX, DAMAGED = ".ticks", ".damaged"
# A mark, which also names the columns of `TICKS`, and of what follows: rows, bytes, checksum.
RECORD = struct.Struct("<4sIII")
MARK = b"TKS1"


def unflushed(folder: Path) -> pa.Table:
    """Return the ticks that a writer has acknowledged and not yet deleted as stored, in the order they came.

    For any process, while the writer goes on. To miss none, ask this *before* the table: what is not here any more is
    stored by then. What is both here and stored is the same by symbol, timestamp, exchange and trade_id.

    Args:
        folder: of the spill; without a writer ever it need not be there.

    Returns:
        Columns of `TICKS`; price in quote currency per share, quantity in shares. Those that break a rule of
        tick_rules.py, which quarantine is for, are left out.
    """
    batches = [batch for path in segments(folder) for batch in Segment(path).batches()]
    return allowed(pa.Table.from_batches(batches, TICKS))


def segments(folder: Path) -> list[Path]:
    """Return the segments there are, oldest first."""
    return sorted(folder.glob(f"*{SUFFIX}"))


@dataclass(frozen=True)
class Segment:
    """One file of records."""

    path: Path

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the batches that were appended whole, none where the file is gone."""
        content = self._content()
        for place, length, _ in _records(content):
            yield pa.ipc.read_record_batch(pa.py_buffer(content[place : place + length]), TICKS)

    def table(self) -> pa.Table:
        """Return all its ticks."""
        return pa.Table.from_batches(self.batches(), TICKS)

    def rows(self) -> int:
        """Return how many ticks it has."""
        return sum(rows for _, _, rows in _records(self._content()))

    def drop(self) -> None:
        """Delete it; where more than half a record at its end cannot be read, keep it aside under another name."""
        if self.is_damaged():
            kept = self.path.with_suffix(DAMAGED)
            self.path.rename(kept)
            log.error(
                "%s: expected whole records up to the last, found a broken one before the end; the file is kept", kept
            )
        else:
            self.path.unlink()

    def is_damaged(self) -> bool:
        """Whether there is more behind the last record that can be read than one that was cut short."""
        content = self._content()
        end = 0
        for place, length, _ in _records(content):
            end = place + length
        rest = content[end:]
        if len(rest) < RECORD.size:
            return False
        mark, _, length, _ = RECORD.unpack_from(rest)
        return bool(mark != MARK or RECORD.size + length <= len(rest))

    def _content(self) -> memoryview:
        try:
            return memoryview(self.path.read_bytes())
        except FileNotFoundError:
            return memoryview(b"")


def _records(content: memoryview) -> Iterator[tuple[int, int, int]]:
    """Yield place and length of each payload, and its rows, up to the first that is not whole."""
    place = 0
    while place + RECORD.size <= len(content):
        mark, rows, length, checksum = RECORD.unpack_from(content, place)
        place += RECORD.size
        payload = content[place : place + length]
        if mark != MARK or len(payload) < length or zlib.crc32(payload) != checksum:
            return
        yield place, length, rows
        place += length


def encoded(batch: pa.RecordBatch) -> bytes:
    """Return the record of a batch of `TICKS`."""
    payload = memoryview(batch.serialize())
    return b"".join([RECORD.pack(MARK, batch.num_rows, len(payload), zlib.crc32(payload)), payload])


class Spill:
    """The folder of one writer, who holds its lock until it is closed. Not for several threads at once."""

    def __init__(self, folder: Path) -> None:
        """Take the folder; segments that an earlier writer left are there as closed ones.

        Raises:
            ConfigError: another process writes there.
        """
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        lock = try_lock(folder / "writer.lock", fcntl.LOCK_EX)
        if lock is None:
            raise ConfigError(
                f"{folder}: expected to be the only one who writes ticks there, found another process at it; "
                "stop that one, or give this one a TICKSTOCK_HOME of its own"
            )
        self._lock = lock
        self.left = [Segment(path) for path in segments(folder)]
        # A name is not used again while a damaged file of that name is kept, or the next one would take its place.
        taken = [*segments(folder), *folder.glob(f"*{DAMAGED}")]
        self._number = 1 + max((int(path.stem) for path in taken), default=0)
        self._open: tuple[Segment, int] | None = None
        self._length = 0

    def append(self, record: bytes) -> None:
        """Append a record; when this returns, it outlives the process. OSError where it does not fit the disk."""
        if self._open is None:
            segment = Segment(self.folder / f"{self._number:012d}{SUFFIX}")
            descriptor = os.open(segment.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
            self._open, self._length = (segment, descriptor), 0
            self._number += 1
        descriptor = self._open[1]
        rest = memoryview(record)
        try:
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        except OSError:
            # What comes after half a record could not be read.
            os.ftruncate(descriptor, self._length)
            raise
        self._length += len(record)

    def cut(self, *, sync: bool = False) -> Segment | None:
        """Close the segment that is appended to and return it, None when nothing was; the next record begins another.

        Args:
            sync: have it on the disk before.
        """
        if self._open is None:
            return None
        segment, descriptor = self._open
        self._open = None
        if sync:
            os.fsync(descriptor)
        os.close(descriptor)
        return segment

    def close(self) -> None:
        """Leave the folder to others; what was not deleted stays for them."""
        self.cut()
        os.close(self._lock)
