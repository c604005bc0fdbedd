"""The nightly updates: of all watched symbols, after each session of each exchange that they trade on, whenever that ends.

No clock says when a session ends, half days and what a person has closed or shortened included, so a tick every quarter of
an hour looks into the table of sessions. Which of them are loaded is read off the tags of Dagster's runs: whatever was
missed while nothing ran is caught up with, and nothing is started twice.

Elsewhere: which sessions are due (domain/closes.py), which symbols (storage/watched.py).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from tickstock_assets.defs.jobs import MINUTE_HISTORY, NIGHTLY_UPDATE
from tickstock_assets.defs.lost_retries import is_waited_for
from tickstock_assets.defs.partitions import (
    BY_MONTH,
    BY_YEAR,
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
from tickstock_assets.defs.run_records import ended_at
from tickstock_assets.domain.closes import Close, in_utc, newest_closes
from tickstock_assets.domain.timeframes import Timeframe
from tickstock_assets.loading.calendar import know_sessions
from tickstock_assets.settings import settings
from tickstock_assets.storage import bars
from tickstock_assets.storage.retry import in_transaction
from tickstock_assets.storage.watched import watched_symbols

# By these tags the web UI finds the runs of a session; exchanges that close together are one update.
CLOSE_TAG, SESSION_TAG = "tickstock/close", "tickstock/session"
# By this one they are told from backfills, which are of the same jobs.
UPDATE_TAG = "tickstock/update"
# Longer than any pause between sessions; and as far back as vendors correct bars, weekends and holidays included.
AROUND = timedelta(days=21)
STILL_CORRECTED = timedelta(days=10)
# A session has a run for each stretch of neighbours.
UPDATES_LOOKED_AT = 200
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
    """

    job: UnresolvedAssetJobDefinition
    timeframe: Timeframe
    grid: Grid
    first: Sequence[str] = ()
    last: Sequence[str] = ()

    def assets(self, place: int, n_runs: int) -> list[dg.AssetKey] | None:
        """Return what one of a session's runs makes; None for all of the job's."""
        if n_runs == 1 or not (self.first or self.last):
            return None
        chosen = [*HISTORIES[self.timeframe].assets]
        chosen += self.first if place == 0 else ()
        chosen += self.last if place == n_runs - 1 else ()
        return [dg.AssetKey(name) for name in chosen]


DAILY = Update(NIGHTLY_UPDATE, "1d", BY_YEAR, ("symbols", "sessions", "splits", "dividends"), ("data_gaps",))
MINUTES = Update(MINUTE_HISTORY, "1m", BY_MONTH)


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
    """Yield the runs that a session still takes: rectangles of neighbours, each over what could have changed."""
    known = known_symbols(instance)
    tags = {
        CLOSE_TAG: in_utc(close.at),
        SESSION_TAG: f"{' '.join(close.exchanges)} {close.session}",
        UPDATE_TAG: update.timeframe,
    }
    found = _runs_by_first_symbol(instance, update, tags[CLOSE_TAG])
    updated = _updated_before(instance, update, known)
    groups = side_by_side(symbols, known)
    for place, group in enumerate(groups):
        earlier = found.get(group[0], [])
        if earlier and not _is_due_again(instance, earlier, now):
            continue
        attempt = str(len([run for run in earlier if run.parent_run_id is None]) + 1)
        first_day = min(updated.get(group[0], close.session), close.session) - STILL_CORRECTED
        yield dg.RunRequest(
            run_key=f"{update.job.name}/{tags[CLOSE_TAG]}/{attempt}/{group[0]}",
            asset_selection=update.assets(place, len(groups)),
            tags={
                **rectangle_tags(group, known, first_day, close.session, update.grid),
                **tags,
                ATTEMPT_TAG: attempt,
            },
        )


def _runs_by_first_symbol(
    instance: dg.DagsterInstance, update: Update, closed_at: str
) -> Mapping[str, list[dg.DagsterRun]]:
    """Return the runs of a session, newest first, by where their rectangle begins: symbols that are new stand at its end."""
    found: dict[str, list[dg.DagsterRun]] = {}
    for run in instance.get_runs(dg.RunsFilter(job_name=update.job.name, tags={CLOSE_TAG: closed_at})):
        found.setdefault(window_of(run.tags[RANGE_START_TAG]).symbol, []).append(run)
    return found


def _is_due_again(instance: dg.DagsterInstance, runs: Sequence[dg.DagsterRun], now: datetime) -> bool:
    """Whether the newest of some runs failed a while ago, is not done again by Dagster, and was not tried too often."""
    newest = runs[0]
    if newest.status != dg.DagsterRunStatus.FAILURE or is_waited_for(instance, newest):
        return False
    ended = ended_at(instance, newest) or now
    return len([run for run in runs if run.parent_run_id is None]) < ATTEMPTS and ended + AGAIN_AFTER <= now


def _updated_before(instance: dg.DagsterInstance, update: Update, known: Sequence[str]) -> Mapping[str, date]:
    """Return the last session after which each symbol was updated; what was missed since then is missing."""
    done = dg.RunsFilter(
        job_name=update.job.name, statuses=[dg.DagsterRunStatus.SUCCESS], tags={UPDATE_TAG: update.timeframe}
    )
    places = {symbol: place for place, symbol in enumerate(known)}
    updated: dict[str, date] = {}
    for run in instance.get_runs(done, limit=UPDATES_LOOKED_AT):
        first, last = (window_of(run.tags[tag]).symbol for tag in (RANGE_START_TAG, RANGE_END_TAG))
        session = date.fromisoformat(run.tags[SESSION_TAG].rsplit(" ", 1)[-1])
        for symbol in known[places.get(first, len(known)) : places.get(last, -1) + 1]:
            updated[symbol] = max(updated.get(symbol, session), session)
    return updated


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
