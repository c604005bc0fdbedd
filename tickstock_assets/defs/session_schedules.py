"""The nightly updates: of all watched symbols, after each session of each exchange that they trade on, whenever that ends.

No clock says when a session ends, half days and what a person has closed or shortened included, so a tick every quarter of
an hour looks into the table of sessions. Which of them are loaded is read off the tags of Dagster's runs: whatever was
missed while nothing ran is caught up with, and nothing is started twice.

Elsewhere: which sessions are due (domain/closes.py), which symbols (storage/watched.py).
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import groupby

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from tickstock_assets.defs.jobs import MINUTE_HISTORY, NIGHTLY_UPDATE
from tickstock_assets.defs.lost_retries import is_waited_for
from tickstock_assets.defs.partitions import (
    BY_MONTH,
    BY_YEAR,
    FIRST_DAY,
    HAS_ENDED_AFTER,
    RANGE_END_TAG,
    RANGE_START_TAG,
    Grid,
    known_symbols,
    rectangle_tags,
    side_by_side,
    window_of,
)
from tickstock_assets.defs.request_runs import ATTEMPT_TAG, HISTORIES
from tickstock_assets.defs.resources import engine, lineup
from tickstock_assets.defs.run_records import ended_at, newest_first
from tickstock_assets.domain.closes import Close, in_utc, newest_closes
from tickstock_assets.domain.timeframes import Timeframe
from tickstock_assets.loading.calendar import know_sessions
from tickstock_assets.settings import settings
from tickstock_assets.storage import bars
from tickstock_assets.storage.retry import in_transaction
from tickstock_assets.storage.watched import stored_until, watched_symbols

# By these tags the web UI finds the runs of a session; exchanges that close together are one update.
CLOSE_TAG, SESSION_TAG = "tickstock/close", "tickstock/session"
# By this one they are told from backfills, which are of the same jobs.
UPDATE_TAG = "tickstock/update"
# Longer than any pause between sessions; and as far back as vendors correct bars, weekends and holidays included.
AROUND = timedelta(days=21)
STILL_CORRECTED = timedelta(days=10)
# Of minutes; each month is partitions of its own, and calls.
A_YEAR = timedelta(days=365)
# So many are worth it that no symbol is asked for what only its neighbour lacks; each takes seconds.
RUNS_MORE = 20
# A session has a run for each stretch of neighbours.
UPDATES_LOOKED_AT = 2_000
# A failed run is done again, by itself twice.
ATTEMPTS, AGAIN_AFTER = 3, timedelta(hours=1)


@dataclass(frozen=True)
class Update:
    """What is brought up to date after a session.

    Attributes:
        job: Dagster's.
        timeframe: of the bars.
        grid: their partitions.
        first, last: those of its assets that only the first and the last run of a session make, for all of them.
        most_missed: what was missed longer ago than that is not caught up with; None for no such limit.
    """

    job: UnresolvedAssetJobDefinition
    timeframe: Timeframe
    grid: Grid
    first: Sequence[str] = ()
    last: Sequence[str] = ()
    most_missed: timedelta | None = None

    def assets(self, *, with_first: bool, with_last: bool) -> list[dg.AssetKey] | None:
        """Return what one of a session's runs makes; None for all of the job's."""
        if not (self.first or self.last) or (with_first and with_last):
            return None
        chosen = [*HISTORIES[self.timeframe].assets]
        chosen += self.first if with_first else ()
        chosen += self.last if with_last else ()
        return [dg.AssetKey(name) for name in chosen]


DAILY = Update(NIGHTLY_UPDATE, "1d", BY_YEAR, ("symbols", "sessions", "splits", "dividends"), ("data_gaps",))
MINUTES = Update(MINUTE_HISTORY, "1m", BY_MONTH, most_missed=A_YEAR)


def runs_due(instance: dg.DagsterInstance, update: Update, now: datetime) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Yield the runs to start at a moment (with a time zone), or the reason why there is none."""
    horizon = lineup().horizon()
    if now.date() - horizon > HAS_ENDED_AFTER:
        yield dg.SkipReason(f"The data of {lineup().first.name} ends on {horizon}: there is no session to wait for.")
        return
    with engine().connect() as connection:
        watched = watched_symbols(connection, update.timeframe)
    if not watched:
        yield dg.SkipReason(f"No symbol is watched for bars of {update.timeframe}; `tickstock load` adds some.")
        return
    newest, following = _closes(set(watched.values()), now, horizon)
    n_started = 0
    for close in newest:
        symbols = [symbol for symbol, exchange in watched.items() if exchange in close.exchanges]
        for wanted in _not_loaded(instance, update, close, symbols, now):
            n_started += 1
            yield wanted
    if not n_started:
        yield dg.SkipReason(_waits_for(newest, following))


def _closes(exchanges: set[str], now: datetime, horizon: date) -> tuple[list[Close], list[Close]]:
    first, last = (now - AROUND).date(), (now + AROUND).date()
    # A new year's are entered by the first tick that looks into it.
    in_transaction(engine(), lambda connection: know_sessions(connection, first, last))
    with engine().connect() as connection:
        sessions = {exchange: bars.sessions(connection, exchange, first, last) for exchange in exchanges}
    return newest_closes(sessions, now, horizon, timedelta(minutes=settings().update_delay_minutes))


def _not_loaded(
    instance: dg.DagsterInstance, update: Update, close: Close, symbols: Sequence[str], now: datetime
) -> Iterator[dg.RunRequest]:
    """Yield the runs that a session still takes: those to be done again, and rectangles of symbols that are in none yet.

    What a run has begun stays with it, whichever symbols are watched or not by now.
    """
    known = known_symbols(instance)
    tags = {
        CLOSE_TAG: in_utc(close.at),
        SESSION_TAG: f"{' '.join(close.exchanges)} {close.session}",
        UPDATE_TAG: update.timeframe,
    }
    # Newest first.
    begun = instance.get_runs(dg.RunsFilter(job_name=update.job.name, tags={CLOSE_TAG: tags[CLOSE_TAG]}))
    yield from _done_again(instance, update, begun, known, now)

    loaded = {symbol for run in begun for symbol in _symbols_of(run, known)}
    left = (set(symbols) - loaded) & set(known)
    if not left:
        return
    starts = _starts(update, close, left, _updated_before(instance, update, known, left))
    groups = _groups(update.grid, starts, known)
    for place, group in enumerate(groups):
        first = min(starts[symbol] for symbol in group)
        yield dg.RunRequest(
            run_key=_key(update, tags, "1", group[0]),
            asset_selection=update.assets(
                with_first=place == 0 and not _is_made(update.first, begun),
                with_last=place == len(groups) - 1 and not _is_made(update.last, begun),
            ),
            tags={
                **rectangle_tags(group, known, first, close.session, update.grid),
                **tags,
                ATTEMPT_TAG: "1",
            },
        )


def _done_again(
    instance: dg.DagsterInstance, update: Update, begun: Sequence[dg.DagsterRun], known: Sequence[str], now: datetime
) -> Iterator[dg.RunRequest]:
    """Yield once more, as they were, the runs of a session that have failed and are due again."""
    same: dict[tuple[str, str], list[dg.DagsterRun]] = {}
    for run in begun:
        if _symbols_of(run, known):
            same.setdefault((run.tags[RANGE_START_TAG], run.tags[RANGE_END_TAG]), []).append(run)
    for runs in same.values():
        if not _is_due_again(instance, runs, now):
            continue
        newest = runs[0]
        attempt = str(_attempts(runs) + 1)
        names = (RANGE_START_TAG, RANGE_END_TAG, CLOSE_TAG, SESSION_TAG, UPDATE_TAG)
        yield dg.RunRequest(
            run_key=_key(update, newest.tags, attempt, window_of(newest.tags[RANGE_START_TAG]).symbol),
            asset_selection=None if newest.asset_selection is None else sorted(newest.asset_selection),
            tags={**{name: newest.tags[name] for name in names}, ATTEMPT_TAG: attempt},
        )


def _key(update: Update, tags: Mapping[str, str], attempt: str, first_symbol: str) -> str:
    return f"{update.job.name}/{tags[CLOSE_TAG]}/{attempt}/{first_symbol}"


def _symbols_of(run: dg.DagsterRun, known: Sequence[str]) -> Sequence[str]:
    """Return the symbols of a run's rectangle; none where one of its corners is no partition any more."""
    first, last = (window_of(run.tags[tag]).symbol for tag in (RANGE_START_TAG, RANGE_END_TAG))
    places = {symbol: place for place, symbol in enumerate(known)}
    return known[places[first] : places[last] + 1] if first in places and last in places else ()


def _is_made(names: Sequence[str], begun: Sequence[dg.DagsterRun]) -> bool:
    """Whether a session's runs make some assets."""
    return all(
        any(run.asset_selection is None or dg.AssetKey(name) in run.asset_selection for run in begun) for name in names
    )


def _is_due_again(instance: dg.DagsterInstance, runs: Sequence[dg.DagsterRun], now: datetime) -> bool:
    """Whether the newest of some runs failed a while ago, is not done again by Dagster, and was not tried too often."""
    newest = runs[0]
    if newest.status != dg.DagsterRunStatus.FAILURE or is_waited_for(instance, newest):
        return False
    ended = ended_at(instance, newest) or now
    return _attempts(runs) < ATTEMPTS and ended + AGAIN_AFTER <= now


def _attempts(runs: Sequence[dg.DagsterRun]) -> int:
    return len([run for run in runs if run.parent_run_id is None])


def _updated_before(
    instance: dg.DagsterInstance, update: Update, known: Sequence[str], symbols: Set[str]
) -> Mapping[str, date]:
    """Return the last session after which each of some symbols was updated; what was missed since then is missing."""
    done = dg.RunsFilter(
        job_name=update.job.name, statuses=[dg.DagsterRunStatus.SUCCESS], tags={UPDATE_TAG: update.timeframe}
    )
    updated: dict[str, date] = {}
    for run in newest_first(instance, done, UPDATES_LOOKED_AT):
        if symbols <= updated.keys():
            break
        session = date.fromisoformat(run.tags[SESSION_TAG].rsplit(" ", 1)[-1])
        for symbol in _symbols_of(run, known):
            updated.setdefault(symbol, session)
    return updated


def _starts(update: Update, close: Close, symbols: Set[str], updated: Mapping[str, date]) -> dict[str, date]:
    """Return from which day on each of some symbols is brought up to date after a session.

    What was loaded by hand before the first update is in no run of an update, so what is stored is asked too.
    """
    with engine().connect() as connection:
        stored = stored_until(connection, update.timeframe, symbols)
    earliest = max(FIRST_DAY, close.session - update.most_missed) if update.most_missed else FIRST_DAY
    starts: dict[str, date] = {}
    for symbol in symbols:
        complete_until = min([close.session, *(days[symbol] for days in (updated, stored) if symbol in days)])
        starts[symbol] = max(earliest, complete_until - STILL_CORRECTED)
    return starts


def _groups(grid: Grid, starts: Mapping[str, date], known: Sequence[str]) -> list[list[str]]:
    """Return the symbols of each run: neighbours, apart where they start in different periods and that takes few runs more.

    So no symbol has history fetched that nobody asked for because its neighbour has a hole.
    """
    together = side_by_side(starts, known)
    apart = [
        list(group)
        for neighbours in together
        for _, group in groupby(neighbours, key=lambda symbol: starts[symbol].strftime(grid.periods.fmt))
    ]
    return apart if len(apart) <= len(together) + RUNS_MORE else together


def _waits_for(newest: Sequence[Close], following: Sequence[Close]) -> str:
    """Return which sessions are loaded or on their way, and when the next one closes."""
    said = [f"{close}: started" for close in newest]
    delay = settings().update_delay_minutes
    return "; ".join([*said, *(f"next {close}, loaded {delay} minutes later at the earliest" for close in following)])


def _schedule(name: str, update: Update, description: str) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=name,
        job=update.job,
        cron_schedule="*/15 * * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=description,
    )
    def evaluate(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        yield from runs_due(context.instance, update, context.scheduled_execution_time)

    return evaluate


UPDATE_AFTER_SESSIONS = _schedule(
    "update_after_sessions",
    DAILY,
    "After each session of each exchange that a watched symbol trades on, half days included: instruments, corporate "
    "actions, daily bars, features, patterns and gaps; findings and scores catch up. It looks every quarter of an hour "
    "(UTC); a tick that starts nothing says when the next session closes, in UTC and at the exchange.",
)
MINUTES_AFTER_SESSIONS = _schedule(
    "minutes_after_sessions",
    MINUTES,
    "Likewise the minute bars of the symbols that have some, and what is rolled up from them.",
)
SESSION_SCHEDULES = [UPDATE_AFTER_SESSIONS, MINUTES_AFTER_SESSIONS]
