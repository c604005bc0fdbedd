"""A backfill request as Dagster's runs: which it takes, and how they are stopped.

Elsewhere: the requests themselves (storage/backfill_requests.py), who starts the runs (sensors.py), how they stand
(request_standing.py).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import batched

import dagster as dg
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
from dagster._core.storage.tags import RETRY_NUMBER_TAG, SENSOR_NAME_TAG

from tickstock_assets.defs.jobs import DAILY_HISTORY, MINUTE_HISTORY, REFERENCE, TICK_HISTORY
from tickstock_assets.defs.partitions import BY_DAY, BY_MONTH, BY_YEAR, Grid, rectangle_tags, side_by_side
from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.storage.backfill_requests import BackfillRequest


@dataclass(frozen=True)
class History:
    """How bars of a timeframe are loaded.

    Attributes:
        job: Dagster's, by name.
        grid: its partitions.
        assets: those of its assets that have these partitions, from the first to the last.
    """

    job: str
    grid: Grid
    assets: Sequence[str]


# Other timeframes are rolled up from minutes.
HISTORIES: Mapping[str, History] = {
    "1d": History(DAILY_HISTORY.name, BY_YEAR, ("raw_daily_bars", "ohlcv_daily", "bar_features", "patterns")),
    "1m": History(MINUTE_HISTORY.name, BY_MONTH, ("raw_minute_bars", "ohlcv_1min")),
}
TRADES = History(TICK_HISTORY.name, BY_DAY, ("raw_trades", "ticks", "tick_minute_bars"))
# Of other kinds of requests: the job whose one run, without partitions, does all of it.
GAP_HEALING = "gap_healing"
WHOLE_JOBS = {"gaps": GAP_HEALING, "reference": REFERENCE.name}

# The sensor that starts them.
SENSOR = "due_requests"
# By these tags the web UI finds the runs of a request.
REQUEST_TAG = "tickstock/request"
ATTEMPT_TAG = "tickstock/attempt"
# Metadata of the failure of a run that a budget held up.
CONTINUES_AT = "continues_at"
SHARE_LANDED = "share_landed"

# More in one run would be longer than a person wants to wait for the first of them.
SYMBOLS_A_RUN = 50
UNKNOWN_NAMED = 5
STOPPABLE = [status for status in NOT_FINISHED_STATUSES if status is not dg.DagsterRunStatus.CANCELING]


@dataclass(frozen=True)
class PlannedRun:
    """A run of a request: what Dagster is asked for, of which symbols, and how many partitions each of its assets has."""

    request: dg.RunRequest
    symbols: Sequence[str]
    n_partitions: int


def history_of(request: BackfillRequest) -> History | None:
    """Return how what a request asks for is loaded; None where that has no partitions."""
    if request.kind in WHOLE_JOBS:
        return None
    return TRADES if request.kind == "trades" else HISTORIES.get(request.timeframe)


def planned_runs(request: BackfillRequest, known: Sequence[str]) -> list[PlannedRun]:
    """Return the runs of an attempt at a request, the same ones whenever it is asked.

    Args:
        request: whose `attempts` counts this one.
        known: Dagster's own list of the symbols, in its order.

    Raises:
        ConfigError: a symbol is unknown, a day is outside of the partitions, or its bars have no partitions.
    """
    attempt = {REQUEST_TAG: request.id, ATTEMPT_TAG: str(request.attempts)}
    if request.kind in WHOLE_JOBS:
        key = f"{request.id}/{request.attempts}"
        whole = dg.RunRequest(run_key=key, job_name=WHOLE_JOBS[request.kind], tags=attempt)
        return [PlannedRun(whole, request.symbols, 1)]
    history = history_of(request)
    if history is None:
        raise ConfigError(
            f"Request: expected timeframe {' or '.join(HISTORIES)}, found {request.timeframe}, which is rolled up from minutes"
        )
    if unknown := sorted(set(request.symbols) - set(known)):
        named = ", ".join(unknown[:UNKNOWN_NAMED]) + (", ..." if len(unknown) > UNKNOWN_NAMED else "")
        raise ConfigError(
            f"Request: expected symbols that are partitions, found {len(unknown)} that are not: {named}; "
            "`tickstock load --symbols` adds them"
        )
    groups = [part for group in side_by_side(request.symbols, known) for part in batched(group, SYMBOLS_A_RUN)]
    first, last = (day.strftime(history.grid.periods.fmt) for day in (request.start, request.end))
    n_periods = sum(first <= period <= last for period in history.grid.periods.get_partition_keys())
    return [
        PlannedRun(
            dg.RunRequest(
                run_key=f"{request.id}/{request.attempts}/{group[0]}",
                job_name=history.job,
                tags={**rectangle_tags(group, known, request.start, request.end, history.grid), **attempt},
            ),
            group,
            len(group) * n_periods,
        )
        for group in groups
    ]


def unfinished_runs(instance: dg.DagsterInstance, request_ids: Sequence[str] | None = None) -> list[dg.DagsterRun]:
    """Return the runs of some requests, or of all, that may be stopped.

    Those that a person has started again by hand are no part of a request any more, and left out.
    """
    chosen = {SENSOR_NAME_TAG: SENSOR} if request_ids is None else {REQUEST_TAG: list(request_ids)}
    runs = instance.get_runs(dg.RunsFilter(statuses=STOPPABLE, tags=chosen)) if chosen != {REQUEST_TAG: []} else []
    return [
        run for run in runs if REQUEST_TAG in run.tags and (run.parent_run_id is None or RETRY_NUMBER_TAG in run.tags)
    ]


def stop(instance: dg.DagsterInstance, runs: Iterable[dg.DagsterRun]) -> int:
    """Stop unfinished runs, and return how many; what they have finished stays."""
    n_stopped = 0
    for run in runs:
        n_stopped += 1
        if run.status == dg.DagsterRunStatus.NOT_STARTED:
            instance.report_run_canceling(run)
            instance.report_run_canceled(run)
            continue
        try:
            instance.run_coordinator.cancel_run(run.run_id)
        except DagsterUserCodeUnreachableError:
            # The process that runs it is gone. It stands as canceling, and Dagster's monitoring ends it.
            continue
    return n_stopped
