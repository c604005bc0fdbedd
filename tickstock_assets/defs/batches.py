"""A run's partitions, a batch of symbols at a time: memory is bounded by a batch, and each is told of when it is done.

A batch is a transaction or a few of its own. What of it breaks on its rows is found by halves, down to single partitions:
these fail, the rest is stored, and the step's failure names them. Partitions whose inputs a hard rule holds back are left
out (blocked.py). Elsewhere: what Dagster is told (partition_log.py).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from time import perf_counter

import dagster as dg
import sqlalchemy.exc

from tickstock_assets.defs.blocked import blocked
from tickstock_assets.defs.partition_log import Metadata, PartitionLog, Told
from tickstock_assets.defs.partitions import windows_of
from tickstock_assets.defs.resources import Database
from tickstock_assets.defs.retries import may_succeed_later
from tickstock_assets.defs.run_cost import add_cost
from tickstock_assets.domain.errors import DatabaseError
from tickstock_assets.domain.windows import Window
from tickstock_assets.storage.partition_counts import all_rows

# Years of daily bars: 25 symbols over ten years.
PARTITIONS_A_BATCH = 250
# After so many that fail one by one it is not their rows.
FAILURES_AT_MOST = 20
NAMED = 5


@dataclass(frozen=True)
class Batch:
    """Partitions to be worked on at once, all of a symbol's together where they are many."""

    keys: Sequence[str]

    @cached_property
    def windows(self) -> list[Window]:
        """The fewest windows that they stand for."""
        return windows_of(self.keys)

    @cached_property
    def symbols(self) -> list[str]:
        """Whose they are."""
        return sorted({window.symbol for window in self.windows})

    def halves(self) -> list["Batch"]:
        """Return two of it; none of a single partition."""
        middle = len(self.keys) // 2
        return [Batch(self.keys[:middle]), Batch(self.keys[middle:])] if middle else []


@dataclass(frozen=True)
class Outcome:
    """What became of a batch.

    Attributes:
        counts: what adds up over batches.
        by_partition: metadata of single partitions, by key.
        metadata: of the whole batch besides.
    """

    counts: Mapping[str, int]
    by_partition: Mapping[str, Metadata] = field(default_factory=dict)
    metadata: Metadata = field(default_factory=dict)

    def with_more(self, more: Mapping[str, Metadata]) -> "Outcome":
        """Return the same with further metadata of its partitions, by key."""
        joined = {key: {**entries, **more.get(key, {})} for key, entries in self.by_partition.items()}
        return replace(self, by_partition=joined)


Work = Callable[[Batch], Outcome]


@dataclass
class Progress:
    """What became of a run's partitions so far."""

    n_done: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    failed: dict[str, str] = field(default_factory=dict)
    held_back: dict[str, str] = field(default_factory=dict)
    n_rows: int | None = None

    def count_rows(self, database: Database, table: str, counts: Mapping[str, int]) -> dict[str, int]:
        """Return how many rows a table has after a batch; they are counted once a run, and then reckoned on."""
        if self.n_rows is None:
            with database.begin() as connection:
                self.n_rows = all_rows(connection, table)
        else:
            self.n_rows += counts["rows_inserted"] - counts["rows_removed"]
        return {"dagster/row_count": self.n_rows}


def in_batches(
    context: dg.AssetExecutionContext,
    database: Database,
    work: Work,
    *,
    computed_from: Sequence[str] = (),
    size: int = PARTITIONS_A_BATCH,
    table: str | None = None,
) -> Told:
    """Do the work of the run's partitions batch by batch, and tell Dagster of each when it is done.

    Args:
        context: of the asset; its step yields what this yields.
        database: what is held back is asked there.
        work: is handed a batch, makes it durable, and is called again with parts of one on which it raised.
        computed_from: the assets whose blocked partitions are left out.
        size: how many partitions a batch has.
        table: whose rows are counted; None where that would take longer than the work.

    Raises:
        dg.Failure: some partitions failed, or all were held back; the others are stored and told of.
    """
    log, progress = PartitionLog(context), Progress()
    progress.n_done = len(log.told)
    started = perf_counter()
    for batch in batches(log.left, size):
        held_back = _held_back(database, batch, computed_from)
        progress.held_back |= held_back
        open_keys = [key for key in batch.keys if key not in held_back]
        began = perf_counter()
        for done, outcome in _done(work, Batch(open_keys), progress) if open_keys else ():
            seconds = round(perf_counter() - began, 3)
            progress.n_done += len(done.keys)
            progress.counts.update(outcome.counts)
            of = {"counts_are_of": f"a batch of {len(done.keys)} partitions", "seconds": seconds}
            total = progress.count_rows(database, table, outcome.counts) if table else {}
            yield from log.tell(done.keys, {**outcome.counts, **outcome.metadata, **of, **total}, outcome.by_partition)
            began = perf_counter()
    seconds = perf_counter() - started
    add_cost(context, rows_written=progress.counts["rows_written"], seconds=seconds)
    _require_done(context, progress, len(log.keys))
    yield log.everything_told()


def batches(keys: Iterable[str], size: int) -> Iterator[Batch]:
    """Yield partition keys in batches of about a size, in order; a symbol's are in one, where there are not too many."""
    by_symbol: dict[str, list[str]] = {}
    for key in keys:
        by_symbol.setdefault(key.partition("|")[0], []).append(key)
    batch: list[str] = []
    for of_symbol in by_symbol.values():
        if batch and len(batch) + len(of_symbol) > size:
            yield Batch(batch)
            batch = []
        while len(of_symbol) > size:
            yield Batch(of_symbol[:size])
            of_symbol = of_symbol[size:]  # noqa: PLW2901 what is left
        batch = [*batch, *of_symbol]
    if batch:
        yield Batch(batch)


def _held_back(database: Database, batch: Batch, computed_from: Sequence[str]) -> dict[str, str]:
    if not computed_from:
        return {}
    with database.begin() as connection:
        return blocked(connection, computed_from, batch.windows)


def _done(work: Work, batch: Batch, progress: Progress) -> Iterator[tuple[Batch, Outcome]]:
    """Yield what of a batch could be done; what breaks on its rows is tried by halves."""
    try:
        outcome = work(batch)
    except (dg.Failure, dg.RetryRequested, DatabaseError, sqlalchemy.exc.OperationalError):
        # Of the surroundings and not of these rows: the others would meet it too.
        raise
    except Exception as error:
        if may_succeed_later(error):
            raise
        halves = batch.halves()
        for half in halves:
            yield from _done(work, half, progress)
        if not halves:
            progress.failed[batch.keys[0]] = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            if len(progress.failed) >= FAILURES_AT_MOST:
                raise
        return
    yield batch, outcome


def _require_done(context: dg.AssetExecutionContext, progress: Progress, n_partitions: int) -> None:
    """Name what was left out; end the run where something failed or nothing could be done."""
    if progress.held_back:
        said = f"{len(progress.held_back)} of {n_partitions} partitions are held back: {_named(progress.held_back)}"
        context.log.warning(said)
        if not progress.n_done and not progress.failed:
            raise dg.Failure(f"{said}; correct what they are computed from", allow_retries=False)
    if progress.failed:
        raise dg.Failure(
            f"{len(progress.failed)} of {n_partitions} partitions failed, the others are stored: {_named(progress.failed)}",
            metadata={"partitions_failed": len(progress.failed), "partitions_stored": progress.n_done},
            allow_retries=False,
        )


def _named(partitions: Mapping[str, str]) -> str:
    """Return the first partitions with their reasons, in a sentence."""
    first = [f"{key} ({why})" for key, why in list(partitions.items())[:NAMED]]
    left = len(partitions) - len(first)
    return ", ".join(first) + (f" and {left} more" if left else "")
