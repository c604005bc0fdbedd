"""Sensors: work that nobody clicks together, started as long as Dagster's daemon runs (`tickstock ui` has one).

Each decides in its own module what is to be done and is declared here; a tick does little and may be killed anywhere.
"""

from collections.abc import Iterable, Sequence
from functools import partial

import dagster as dg
from sqlalchemy import Connection

from tickstock_assets.defs.alert_sensors import ALERT_SENSORS
from tickstock_assets.defs.assets.raw import POOL
from tickstock_assets.defs.automation import catch_up
from tickstock_assets.defs.gap_healing import HEALING
from tickstock_assets.defs.gap_sensor import heal_gaps, look_for_gaps
from tickstock_assets.defs.jobs import DAILY_HISTORY, MINUTE_HISTORY, REFERENCE, TICK_HISTORY
from tickstock_assets.defs.lost_retries import lost_retries
from tickstock_assets.defs.partitions import known_symbols
from tickstock_assets.defs.pools import HEAVY_WRITES
from tickstock_assets.defs.request_runs import (
    REQUEST_TAG,
    SENSOR,
    planned_runs,
    stop,
    unfinished_runs,
)
from tickstock_assets.defs.request_standing import Standing, standing
from tickstock_assets.defs.resources import engine
from tickstock_assets.defs.split_sensor import late_splits
from tickstock_assets.defs.symbol_sensor import new_symbols
from tickstock_assets.defs.watch_lists import watch_lists
from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.storage import audit, backfill_requests
from tickstock_assets.storage.backfill_requests import BackfillRequest
from tickstock_assets.storage.retry import in_transaction

# What a tick starts, and how many requests are worked on at once; the others wait in their table.
RUNS_A_TICK = 20
REQUESTS_AT_ONCE = 10


@dg.sensor(
    name=SENSOR,
    jobs=[DAILY_HISTORY, MINUTE_HISTORY, TICK_HISTORY, REFERENCE, HEALING],
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Starts the runs of backfill requests that are due, and closes requests whose runs have ended.",
)
def due_requests(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Start what is due, close what has ended, and stop what is cancelled.

    A request is marked as running before its runs exist. A tick that is killed in between leaves one without runs, and the
    next tick asks for those that are missing; by their keys, of request, attempt and symbol, Dagster makes none twice.
    """
    instance = context.instance
    _limit_pools(instance)
    with engine().connect() as connection:
        at_work = backfill_requests.running(connection)
        due = backfill_requests.due(connection, max(REQUESTS_AT_ONCE - len(at_work), 0))
    _stop_cancelled(instance)
    known = known_symbols(instance) if at_work or due else []
    wanted: list[dg.RunRequest] = []
    for request in at_work:
        wanted += _carried_on(instance, request, known)
    for request in due:
        if len(wanted) < RUNS_A_TICK:
            wanted += _begun(request, known)
    if not wanted:
        return dg.SensorResult(skip_reason=_what_is_waited_for())
    return dg.SensorResult(run_requests=wanted[:RUNS_A_TICK])


def _begun(request: BackfillRequest, known: Sequence[str]) -> Iterable[dg.RunRequest]:
    """Mark a due request as running and return its runs; close one that cannot be loaded."""
    try:
        planned_runs(request, known)
    except ConfigError as error:
        _in_transaction(request, partial(backfill_requests.fail, request_id=request.id, error=str(error)))
        return []
    with_attempt = _in_transaction(request, partial(backfill_requests.begin, request_id=request.id))
    return [one.request for one in planned_runs(with_attempt, known)] if with_attempt else []


def _carried_on(
    instance: dg.DagsterInstance, request: BackfillRequest, known: Sequence[str]
) -> Iterable[dg.RunRequest]:
    """Return the runs of a running request that are still to be started; say how far it is, or close it."""
    try:
        state = standing(instance, request, planned_runs(request, known))
    except ConfigError as error:
        _in_transaction(request, partial(backfill_requests.fail, request_id=request.id, error=str(error)))
        return []
    _in_transaction(request, partial(_write_down, request=request, state=state))
    return state.to_be_started


def _write_down(connection: Connection, request: BackfillRequest, state: Standing) -> None:
    if not state.is_over:
        backfill_requests.progress(connection, request.id, state.share)
    elif not state.endings:
        backfill_requests.succeed(connection, request.id)
    elif state.is_cancelled:
        # Also where a budget ended another of its runs: what a person stopped is not begun again tomorrow.
        backfill_requests.cancel(connection, request.id, _reasons(state))
    elif state.continues_at is not None:
        backfill_requests.postpone(connection, request.id, state.continues_at, state.share)
    else:
        backfill_requests.fail(connection, request.id, _reasons(state))


def _reasons(state: Standing) -> str:
    reasons = [one.reason for one in state.endings]
    if state.n_left_out:
        reasons.append(f"{state.n_left_out} of its {len(state.runs)} runs were not started any more")
    return "; ".join(reasons)


def _stop_cancelled(instance: dg.DagsterInstance) -> None:
    """Stop runs of cancelled requests: those that a tick was about to start when somebody cancelled, or said so by SQL."""
    runs = unfinished_runs(instance)
    if runs:
        with engine().connect() as connection:
            unwanted = backfill_requests.cancelled(connection, [run.tags[REQUEST_TAG] for run in runs])
        stop(instance, [run for run in runs if run.tags[REQUEST_TAG] in unwanted])


def _what_is_waited_for() -> str:
    with engine().connect() as connection:
        n_running = len(backfill_requests.running(connection))
        n_waiting, first = backfill_requests.waiting(connection)
    until = f", the first until {first:%Y-%m-%d %H:%M} UTC" if first else ""
    return f"No request is due: {n_running} at work, {n_waiting} waiting for a budget{until}"


def _in_transaction[T](request: BackfillRequest, work: "partial[T]") -> T:
    return in_transaction(engine(), work, audit.Run("sensor due_requests", request.id))


def _limit_pools(instance: dg.DagsterInstance) -> None:
    """Give the pools their default limit before their first runs are queued: Dagster does it with them, and lets those pass."""
    storage = instance.event_log_storage
    for pool in {POOL, HEAVY_WRITES} - storage.get_concurrency_keys():
        storage.initialize_concurrency_limit_to_default(pool)


SENSORS = [
    due_requests,
    heal_gaps,
    look_for_gaps,
    new_symbols,
    watch_lists,
    late_splits,
    catch_up,
    lost_retries,
    *ALERT_SENSORS,
]
