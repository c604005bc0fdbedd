"""The rollup job: bars of 5 and 15 minutes, of the hour and of the session, made anew where minutes were written.

    roll_up_intraday(engine)
    roll_up_daily(engine)
    verify(engine)

It looks at stale hours (touched_buckets.py) only, so that it costs what changed and nothing where nothing did. A batch of
hours is a transaction that first takes the locks which writers of those symbols take. So it sees of a write the minutes and
the touch, or neither; without the locks it could read the minutes before a write and mark the hour after it, and the write's
bars would stay stale for ever. On TimescaleDB Community a refresh is a transaction of its own and waits for writers, so that
it must not keep them waiting; there an hour is marked only if it was not touched again since it was looked at.

Hours before which minutes may have been dropped are never computed: their rollups outlive them. A late minute of theirs is
stored, but reaches no rollup.

Elsewhere: the statements (intraday_rollups.py, daily_rollups.py, continuous_aggregates.py), the check
(rollup_verification.py).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from itertools import pairwise

import pandas as pd
from psycopg import sql
from sqlalchemy import Connection, Engine

from tickstock_assets.domain.windows import Window
from tickstock_assets.storage import (
    audit,
    continuous_aggregates,
    daily_rollups,
    intraday_rollups,
    minutes_dropped,
    touched_buckets,
)
from tickstock_assets.storage.bulk import lock_symbols
from tickstock_assets.storage.database import driver
from tickstock_assets.storage.intraday_rollups import BarCounts
from tickstock_assets.storage.retry import in_transaction
from tickstock_assets.storage.rollup_sql import TIMEFRAMES
from tickstock_assets.storage.rollup_verification import verify as verify  # noqa: PLC0414 part of what this module offers

type OnProgress = Callable[[int, int], object]

# Hours computed at a time: a year of one symbol's regular sessions, or 120,000 minutes.
HOURS_TOGETHER = 2_000
# On Community, hours of all symbols that are refreshed at a time, and the time from the first to the last of them.
HOURS_REFRESHED, LONGEST_REFRESH = 50_000, timedelta(days=31)


@dataclass(frozen=True)
class RollupCounts:
    """What a run of the rollup job did.

    `hours` were computed anew, of every symbol each; `bars` says by timeframe what became of them, where we write them and not
    the server. `outranked` daily bars gave way to a provider's. Of the other stale hours, `skipped_dropped` lie where minutes
    may have been dropped and will never be computed; `under_way` in an hour or a session that is not over, and
    `not_in_calendar` where no session is known, and stay stale.
    """

    hours: int = 0
    bars: dict[str, BarCounts] = field(default_factory=dict)
    outranked: int = 0
    skipped_dropped: int = 0
    under_way: int = 0
    not_in_calendar: int = 0
    seconds: float = 0.0

    def __add__(self, other: "RollupCounts") -> "RollupCounts":
        of_bars = {
            timeframe: self.bars.get(timeframe, BarCounts()) + other.bars.get(timeframe, BarCounts())
            for timeframe in [*self.bars, *(name for name in other.bars if name not in self.bars)]
        }
        numbers = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self) if f.name != "bars"}
        return RollupCounts(bars=of_bars, **numbers)

    @property
    def written(self) -> int:
        """Bars inserted, corrected or removed."""
        return sum(one.written + one.removed for one in self.bars.values())


def roll_up_intraday(
    engine: Engine,
    run: audit.Run | None = None,
    windows: Sequence[Window] | None = None,
    on_progress: OnProgress | None = None,
) -> RollupCounts:
    """Make the bars of 5 and 15 minutes and of the hour anew whose minutes were written to.

    What an earlier run made of hours that are done with in every respect is forgotten first, so that a check which follows
    looks at what is new. To be run before `roll_up_daily`.

    Args:
        engine: whose statements are bounded in time as settings say.
        run: for the audit trail.
        windows: only the hours that may have minutes of these sessions; None for all.
        on_progress: called after each batch with the hours done so far and those there are.
    """
    began = time.monotonic()
    with engine.begin() as connection:
        touched_buckets.forget(driver(connection).cursor(), windows)
        is_continuous = continuous_aggregates.exist(connection)
    work = _refresh_stale(engine, windows) if is_continuous else _recompute_stale(engine, run, windows, "intraday_at")
    return _summed(work, on_progress, began)


def roll_up_daily(
    engine: Engine,
    run: audit.Run | None = None,
    windows: Sequence[Window] | None = None,
    on_progress: OnProgress | None = None,
) -> RollupCounts:
    """Make the daily bars anew of sessions whose minutes were written to; see `roll_up_intraday`.

    A session makes its bar once it has closed: until then its hours stay stale, since who reads a daily bar takes the day for
    over. A session that is closed by override makes none. A bar whose minutes are all gone is removed. Of a bar that a
    provider sent, nothing changes.
    """
    began = time.monotonic()
    return _summed(_recompute_stale(engine, run, windows, "daily_at"), on_progress, began)


# Hours dealt with, hours there are, and what came of them.
type Step = tuple[int, int, RollupCounts]


def _summed(work: Iterator[Step], on_progress: OnProgress | None, began: float) -> RollupCounts:
    counts, done = RollupCounts(), 0
    for hours, total, of_step in work:
        counts, done = counts + of_step, done + hours
        if on_progress is not None:
            on_progress(min(done, total), total)
    return counts + RollupCounts(seconds=time.monotonic() - began)


def _recompute_stale(
    engine: Engine, run: audit.Run | None, windows: Sequence[Window] | None, stamp: touched_buckets.Stamp
) -> Iterator[Step]:
    """Compute the stale hours, a batch and a transaction at a time."""
    with engine.connect() as connection:
        stale = touched_buckets.stale_symbols(driver(connection).cursor(), stamp, windows)
    total = sum(number for _, number in stale)
    for symbols in _grouped(stale):
        after: tuple[str, datetime] | None = None
        while True:
            batch = _Batch(stamp, symbols, windows, after)
            number, after, counts = in_transaction(engine, batch.recompute, run)
            yield number, total, counts
            if number < HOURS_TOGETHER:
                break


@dataclass(frozen=True)
class _Batch:
    """The next stale hours of some symbols, after the last one that was dealt with."""

    stamp: touched_buckets.Stamp
    symbols: Sequence[str]
    windows: Sequence[Window] | None
    after: tuple[str, datetime] | None

    def recompute(self, connection: Connection) -> tuple[int, tuple[str, datetime] | None, RollupCounts]:
        """Return how many hours there were, the last of them, and what came of them."""
        cursor = driver(connection).cursor()
        tables = [touched_buckets.TABLE] if self.stamp == "intraday_at" else [touched_buckets.TABLE, "ohlcv_daily"]
        lock_symbols(cursor, tables, self.symbols)
        hours = touched_buckets.stale_hours(
            cursor, self.stamp, self.symbols, self.windows, most=HOURS_TOGETHER, after=self.after
        )
        if hours.empty:
            return 0, None, RollupCounts()
        last = hours.iloc[-1]
        return len(hours), (last["symbol"], last["timestamp"]), _of_hours(connection, hours, self.stamp)


def _of_hours(connection: Connection, hours: pd.DataFrame, stamp: touched_buckets.Stamp) -> RollupCounts:
    kept_from, cursor = minutes_dropped.kept_from(connection), driver(connection).cursor()
    if stamp == "daily_at":
        outcome = daily_rollups.recompute(connection, hours, kept_from)
        touched_buckets.mark(cursor, stamp, outcome.done)
        bars = outcome.counts
        return RollupCounts(
            hours=len(outcome.done) - outcome.dropped,
            bars={"1d": BarCounts(bars.written, bars.unchanged, bars.removed)},
            outranked=bars.outranked,
            skipped_dropped=outcome.dropped,
            under_way=outcome.under_way,
            not_in_calendar=outcome.not_in_calendar,
        )
    kept = hours if kept_from is None else hours[hours["timestamp"] >= kept_from]
    found = intraday_rollups.recompute(cursor, touched_buckets.stretches(kept)) if len(kept) else {}
    touched_buckets.mark(cursor, stamp, hours)
    return RollupCounts(
        hours=len(kept),
        bars={TIMEFRAMES[table]: of_table for table, of_table in found.items()},
        skipped_dropped=len(hours) - len(kept),
    )


def _grouped(stale: Sequence[tuple[str, int]]) -> Iterator[list[str]]:
    """Yield symbols, as many at a time as have a batch's hours; one alone may have more."""
    group: list[str] = []
    n_hours = 0
    for symbol, number in stale:
        if group and n_hours + number > HOURS_TOGETHER:
            yield group
            group, n_hours = [], 0
        group.append(symbol)
        n_hours += number
    if group:
        yield group


def _refresh_stale(engine: Engine, windows: Sequence[Window] | None) -> Iterator[Step]:
    """Have the server refresh the stretches of time that have stale hours; on TimescaleDB Community."""
    with engine.connect() as connection:
        cursor, kept_from = driver(connection).cursor(), minutes_dropped.dropped_before(connection)
        cursor.execute(
            sql.SQL(
                "SELECT timestamp, count(*), timestamp < date_trunc('hour', now(), 'UTC') FROM touched_buckets t "
                "WHERE intraday_at IS NULL AND {} GROUP BY timestamp ORDER BY timestamp"
            ).format(touched_buckets.inside(windows))
        )
        stale = cursor.fetchall()
    total = sum(number for _, number, _ in stale)
    # The hour that is not over is computed when it is asked for.
    under_way = sum(number for *_, number, is_over in stale if not is_over)
    yield under_way, total, RollupCounts(under_way=under_way)
    over = [(moment, number) for moment, number, is_over in stale if is_over]
    for low, high in _stretches_to_refresh(over, kept_from):
        counts = _refresh_stretch(engine, windows, (low, high), is_kept=kept_from is None or low >= kept_from)
        yield counts.hours + counts.skipped_dropped, total, counts


def _refresh_stretch(
    engine: Engine, windows: Sequence[Window] | None, stretch: tuple[datetime, datetime], *, is_kept: bool
) -> RollupCounts:
    with engine.connect() as connection:
        hours = touched_buckets.stale_hours_between(driver(connection).cursor(), windows, *stretch)
    if is_kept:
        continuous_aggregates.refresh_over(engine, [stretch])
    with engine.begin() as connection:
        cursor = driver(connection).cursor()
        lock_symbols(cursor, [touched_buckets.TABLE], hours["symbol"].unique().tolist())
        if is_kept:
            continuous_aggregates.forget_older_bars(cursor, hours)
        touched_buckets.mark(cursor, "intraday_at", hours)
    return RollupCounts(hours=len(hours)) if is_kept else RollupCounts(skipped_dropped=len(hours))


def _stretches_to_refresh(
    stale: Sequence[tuple[datetime, int]], kept_from: datetime | None
) -> Iterator[tuple[datetime, datetime]]:
    """Yield from and to before of stretches that hold these hours, whose numbers of symbols are given.

    A refresh looks only at what changed in its stretch, so that holes in it cost nothing; but not across the moment before
    which minutes may have been dropped.
    """
    if not stale:
        return
    begin, n_hours = stale[0][0], stale[0][1]
    for (last, _), (moment, number) in pairwise(stale):
        is_across = kept_from is not None and last < kept_from <= moment
        if is_across or n_hours + number > HOURS_REFRESHED or moment - begin >= LONGEST_REFRESH:
            yield begin, last + touched_buckets.ONE_HOUR
            begin, n_hours = moment, 0
        n_hours += number
    yield begin, stale[-1][0] + touched_buckets.ONE_HOUR
