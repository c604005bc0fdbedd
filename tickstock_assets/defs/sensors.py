"""Sensors: work that nobody clicks together, started as long as Dagster's daemon runs (`tickstock ui` has one).

Each decides in its own module what is to be done and is declared here; a tick does little and may be killed anywhere.
"""

from collections.abc import Iterable
from functools import partial

import dagster as dg
from sqlalchemy import Connection

from tickstock_assets.defs.assets.raw import POOL
from tickstock_assets.defs.jobs import DAILY_HISTORY
from tickstock_assets.defs.partitions import SYMBOLS
from tickstock_assets.defs.request_runs import Standing, planned_runs, standing
from tickstock_assets.defs.resources import engine
from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.storage import audit, backfill_requests
from tickstock_assets.storage.backfill_requests import BackfillRequest
from tickstock_assets.storage.retry import in_transaction

# What a tick starts, and how many requests are worked on at once; the others wait in their table.
RUNS_A_TICK = 20
REQUESTS_AT_ONCE = 10


@dg.sensor(
    job=DAILY_HISTORY,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Starts the runs of backfill requests that are due, and closes requests whose runs have ended.",
)
def due_requests(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Start what is due, and close what has ended.

    A request is marked as running before its runs exist. A tick that is killed in between leaves one without runs, and the
    next tick asks for those that are missing; by their keys, of request, attempt and symbol, Dagster makes none twice.
    """
    instance = context.instance
    _limit_pool(instance)
    with engine().connect() as connection:
        at_work = backfill_requests.running(connection)
        due = backfill_requests.due(connection, max(REQUESTS_AT_ONCE - len(at_work), 0))
    wanted: list[dg.RunRequest] = []
    for request in at_work:
        wanted += _carried_on(instance, request)
    for request in due:
        if len(wanted) < RUNS_A_TICK:
            wanted += _begun(instance, request)
    return dg.SensorResult(run_requests=wanted[:RUNS_A_TICK])


def _begun(instance: dg.DagsterInstance, request: BackfillRequest) -> Iterable[dg.RunRequest]:
    """Mark a due request as running and return its runs; close one that cannot be loaded."""
    try:
        planned_runs(request, _known(instance))
    except ConfigError as error:
        _in_transaction(request, partial(backfill_requests.fail, request_id=request.id, error=str(error)))
        return []
    with_attempt = _in_transaction(request, partial(backfill_requests.begin, request_id=request.id))
    return planned_runs(with_attempt, _known(instance)) if with_attempt else []


def _carried_on(instance: dg.DagsterInstance, request: BackfillRequest) -> Iterable[dg.RunRequest]:
    """Return the runs of a running request that are still to be started; say how far it is, or close it."""
    try:
        state = standing(instance, request, planned_runs(request, _known(instance)))
    except ConfigError as error:
        _in_transaction(request, partial(backfill_requests.fail, request_id=request.id, error=str(error)))
        return []
    _in_transaction(request, partial(_write_down, request=request, state=state))
    return state.not_started


def _write_down(connection: Connection, request: BackfillRequest, state: Standing) -> None:
    if not state.is_over:
        backfill_requests.progress(connection, request.id, state.share)
    elif not state.endings:
        backfill_requests.succeed(connection, request.id)
    elif state.continues_at is not None:
        backfill_requests.postpone(connection, request.id, state.continues_at, state.share)
    else:
        end = backfill_requests.cancel if any(one.is_cancelled for one in state.endings) else backfill_requests.fail
        end(connection, request.id, "; ".join(one.reason for one in state.endings))


def _in_transaction[T](request: BackfillRequest, work: "partial[T]") -> T:
    return in_transaction(engine(), work, audit.Run("sensor due_requests", request.id))


def _known(instance: dg.DagsterInstance) -> list[str]:
    return list(instance.get_dynamic_partitions(str(SYMBOLS.name)))


def _limit_pool(instance: dg.DagsterInstance) -> None:
    """Give the pool its default limit before its first runs are queued: Dagster does it with them, and lets those pass."""
    storage = instance.event_log_storage
    if POOL not in storage.get_concurrency_keys():
        storage.initialize_concurrency_limit_to_default(POOL)


SENSORS = [due_requests]
