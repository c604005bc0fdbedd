"""A buffer between a feed and the table of ticks: it acknowledges at once, stores in batches, and loses none it acknowledged.

What is acknowledged stands in the spill (tick_spill.py), which is the queue: only the segment that is being stored is in
memory. A thread of the buffer cuts the spill when a flush is due, stores segment after segment, and deletes each when it is
committed. Whoever dies in between leaves segments that the next one stores; what is there already is not stored twice.

Elsewhere: feeds (providers/), the statements (tick_store.py).
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pyarrow as pa
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from tickstock_assets.domain.errors import DatabaseError
from tickstock_assets.storage.pool import place
from tickstock_assets.storage.retry import is_transient
from tickstock_assets.storage.tick_counts import Counter, TickCounts
from tickstock_assets.storage.tick_frames import Tick, as_batch, conformed
from tickstock_assets.storage.tick_numbers import TradeNumbers
from tickstock_assets.storage.tick_spill import Segment, Spill, encoded
from tickstock_assets.storage.tick_store import store

log = logging.getLogger(__name__)

# Ticks of a segment, by which memory is bounded however long the queue is.
SEGMENT_TICKS = 50_000
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.05, 2.0
# Classes of SQLSTATE: insufficient resources, not in the required state, operator intervention.
MAY_PASS = ("53", "55", "57")
FULL_UP = "too many"  # refused connections have no SQLSTATE


@dataclass(frozen=True)
class FlushPolicy:
    """When what is buffered is stored; a flush takes everything there is.

    Attributes:
        seconds: at the latest so long after the oldest came.
        count: as soon as there are so many.
        most: acknowledged and not yet stored, at most; then whoever brings more is held back.
        sync: have the spill on the disk when a flush begins, so that a power failure takes none from before it.
    """

    seconds: float = 5.0
    count: int = 100
    most: int = 1_000_000
    sync: bool = False


@dataclass(frozen=True)
class _Waiting:
    """A segment that nothing is appended to any more, with its ticks and when the oldest came."""

    segment: Segment
    rows: int
    since: float


class TickBuffer:
    """Takes ticks from any number of threads; to be closed, as a context manager or with `close`."""

    def __init__(self, engine: Engine, folder: Path, policy: FlushPolicy | None = None) -> None:
        """Take the spill and begin with what an earlier one left there.

        Args:
            engine: of a database whose schema is up to date.
            folder: of the spill.
            policy: when to flush.

        Raises:
            ConfigError: another process writes to this folder.
        """
        self.folder, self.policy = folder, policy or FlushPolicy()
        self._engine = engine
        self._spill = Spill(folder)
        now = time.monotonic()
        self._waiting = deque(_Waiting(segment, segment.rows(), now) for segment in self._spill.left)
        self._unflushed = self._replayed = sum(waiting.rows for waiting in self._waiting)
        self._active, self._active_since = 0, 0.0
        self._taken = self._unflushed  # ever, and of those how many are stored or set aside
        self._done = 0
        self._numbers = TradeNumbers(self._spill.left)
        self._counter = Counter()
        self._flush_wanted, self._is_closed, self._has_ended = False, False, False
        self._deadline: float | None = None  # of storing what is left, once it is closing
        self._failure: Exception | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="tick flush", daemon=True)
        self._thread.start()

    # --- taking ticks

    def put(self, tick: Tick) -> None:
        """Take one tick; when this returns it is acknowledged. A batch of them costs little more: see `put_many`."""
        if tick.trade_id is None:
            with self._changed:
                tick = replace(tick, trade_id=self._numbers.next(tick.symbol, tick.timestamp, tick.exchange))
        self._append(as_batch(tick))

    def put_many(self, ticks: pa.Table | pa.RecordBatch) -> None:
        """Take ticks; when this returns they are acknowledged: they will be stored, or set aside for a reason.

        Held back while `policy.most` are waiting for the database.

        Args:
            ticks: the columns of `tick_spill.TICKS` in any order; a missing trade_id is numbered.

        Raises:
            ContractError: a column is missing or cannot be what it is to be.
            DatabaseError: the buffer is closed, or was while this waited; what was not acknowledged is not stored.
            OSError: the disk takes no more; none from there on are acknowledged.
        """
        for batch in conformed(ticks).to_batches(max_chunksize=min(SEGMENT_TICKS, self.policy.most)):
            self._append(batch)

    def _append(self, batch: pa.RecordBatch) -> None:
        rows = batch.num_rows
        record = encoded(batch) if batch["trade_id"].null_count == 0 else None
        with self._changed:
            self._wait_for_room(rows)
            self._spill.append(record or encoded(self._numbers.numbered(batch)))
            now = time.monotonic()
            if not self._active:
                self._active_since = now
            self._active += rows
            self._unflushed += rows
            self._taken += rows
            self._counter.acknowledged(rows, now)
            if self._active >= SEGMENT_TICKS:
                self._cut()
            if self._active == rows or self._is_due():
                self._changed.notify_all()

    def _wait_for_room(self, rows: int) -> None:
        begun = time.monotonic()
        self._changed.wait_for(lambda: self._is_over() or self._unflushed + rows <= self.policy.most)
        self._counter.held_back_seconds += time.monotonic() - begun
        self.raise_failure()
        if self._is_over():
            raise DatabaseError(
                f"{self.folder}: expected an open buffer, found it closed; these ticks are not acknowledged"
            )

    def _is_over(self) -> bool:
        return self._failure is not None or self._deadline is not None

    # --- looking on, and ending

    def counts(self) -> TickCounts:
        """Return what was done so far, and how quickly."""
        with self._changed:
            return self._counter.counts(time.monotonic(), waiting=self._unflushed, replayed=self._replayed)

    def flush(self, timeout_seconds: float | None = None) -> bool:
        """Store what is acknowledged now; return whether that is done, False after the timeout or where it closes before."""
        with self._changed:
            until = self._taken
            self._flush_wanted = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._done >= until or self._has_ended, timeout_seconds)
            self.raise_failure()
            return self._done >= until

    def close(self, patience_seconds: float = 10.0) -> int:
        """Take no more, store what there is, and return how many ticks are left in the spill for the next one.

        Args:
            patience_seconds: how long to try where the database cannot be reached.
        """
        with self._changed:
            if self._is_closed:
                return self._unflushed
            self._is_closed = True
            self._deadline = time.monotonic() + patience_seconds
            self._changed.notify_all()
        self._thread.join()
        self._spill.close()
        if self._unflushed:
            log.warning(
                "%s: %d ticks are not stored yet; they are kept in %s for the next one who streams",
                place(self._engine.url), self._unflushed, self.folder,
            )  # fmt: skip
        return self._unflushed

    def raise_failure(self) -> None:
        """Raise what the database refused for good, where it did; `close` alone says only how many ticks are left."""
        if self._failure is not None:
            raise self._failure

    def __enter__(self) -> "TickBuffer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        if _[0] is None:
            self.raise_failure()

    # --- storing, in a thread of its own

    def _run(self) -> None:
        try:
            while self._next_flush():
                begun = time.monotonic()
                self._counter.flushes += bool(self._waiting)
                while self._waiting:
                    if not self._store_oldest(begun):
                        return
        except Exception as error:  # noqa: BLE001 the thread that brings ticks raises it
            self._failure = error
        finally:
            # Nobody stores any more, so whoever waits for it is let go.
            with self._changed:
                self._has_ended = True
                self._changed.notify_all()

    def _next_flush(self) -> bool:
        """Wait until a flush is due and cut the spill for it; return False when there is nothing left to come."""
        with self._changed:
            while not self._is_due():
                left = self._active_since + self.policy.seconds - time.monotonic() if self._active else None
                self._changed.wait(left)
            self._flush_wanted = False
            self._cut()
            return bool(self._waiting) or self._deadline is None

    def _is_due(self) -> bool:
        is_old = self._active and time.monotonic() - self._active_since >= self.policy.seconds
        return bool(
            self._waiting
            or self._active >= self.policy.count
            or is_old
            or self._flush_wanted
            or self._deadline is not None
        )

    def _cut(self) -> None:
        segment = self._spill.cut(sync=self.policy.sync)
        if segment is not None:
            self._waiting.append(_Waiting(segment, self._active, self._active_since))
        self._active = 0

    def _store_oldest(self, begun: float) -> bool:
        """Store the oldest segment and delete it; return False where the database could not be reached in time."""
        waiting = self._waiting[0]
        ticks = waiting.segment.table()
        stored = self._until_reached(lambda: store(self._engine, ticks))
        if stored is None:
            return False
        now = time.monotonic()
        waiting.segment.drop()
        with self._changed:
            self._waiting.popleft()
            self._unflushed -= waiting.rows
            self._done += waiting.rows
            self._counter.stored(stored, now - waiting.since, now - begun)
            self._changed.notify_all()
        return True

    def _until_reached[T](self, work: Callable[[], T]) -> T | None:
        """Return what the work returns, tried until the database can be reached; None when the buffer closes before."""
        wait = FIRST_WAIT_SECONDS
        while True:
            try:
                return work()
            except (DBAPIError, psycopg.Error, DatabaseError) as error:
                if not may_pass(error):
                    raise
                if wait == FIRST_WAIT_SECONDS:
                    log.warning("%s: ticks wait in %s (%s)", place(self._engine.url), self.folder, _first_line(error))
            with self._changed:
                self._changed.wait_for(lambda: self._deadline is not None, wait)
                if self._deadline is not None:
                    if time.monotonic() >= self._deadline:
                        return None
                    # The condition holds by now, so it does not wait any more.
                    time.sleep(min(wait, 0.2))
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)


def may_pass(error: Exception) -> bool:
    """Whether it is for the database to mend: it is away, or has no room, no connection or no time for us."""
    if isinstance(error, DatabaseError) or is_transient(error):
        return True
    cause = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(cause, psycopg.Error):
        return False
    if cause.sqlstate is None:
        return FULL_UP in str(cause)
    return cause.sqlstate.startswith(MAY_PASS)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0]
