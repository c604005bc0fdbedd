"""The sensors of alerts: one looks for what people are to be told of, one tells them. Both do nothing while alerts are off.

They are two so that what cannot be looked at, or not be sent, never holds up the other. What was seen waits in its table.
"""

from functools import partial

import dagster as dg

from tickstock_assets.alerting.addresses import OFF, receivers
from tickstock_assets.alerting.delivery import deliver, wording
from tickstock_assets.defs.resources import engine, lineup
from tickstock_assets.defs.run_alerts import Position, count_failed_checks, count_failed_runs, failing_ticks
from tickstock_assets.defs.state_alerts import (
    count_failed_requests,
    count_gaps_given_up,
    lagging,
    lags,
    low_disk,
    slow_database,
)
from tickstock_assets.domain.alerts import Kind, quiet_periods
from tickstock_assets.domain.errors import ReceiverError
from tickstock_assets.settings import Settings, settings
from tickstock_assets.storage import alerts
from tickstock_assets.storage.health import health
from tickstock_assets.storage.retry import in_transaction


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Looks for runs, checks, requests and ticks that failed, gaps given up, a slow database, a full disk and "
    "bars that are behind, and enters them for `alert_delivery`.",
)
def alert_watch(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Look at all there is to be told of.

    What is found is entered under keys, and Dagster keeps the position only after that: a tick that is killed in between is
    done again and counts nothing twice.
    """
    chosen = settings()
    if not receivers(chosen):
        return dg.SkipReason(f"Nothing is looked for: {OFF}")
    position = _count_what_happened(context, chosen)
    _hold_what_is_wrong(context, chosen)
    with engine().connect() as connection:
        n_open = len(alerts.newest(connection, limit=1000, only_open=True))
    return dg.SensorResult(skip_reason=f"{n_open} alerts are open", cursor=position.as_cursor())


def _count_what_happened(context: dg.SensorEvaluationContext, chosen: Settings) -> Position:
    position = Position.read(context.cursor)
    instance, warnings = context.instance, chosen.alert_warnings
    position = in_transaction(engine(), lambda connection: count_failed_runs(instance, connection, position))
    graph = context.repository_def.asset_graph if context.repository_def else None
    unpartitioned = graph.unpartitioned_asset_keys if graph else set()
    position = in_transaction(
        engine(),
        lambda connection: count_failed_checks(
            instance, connection, position, with_warnings=warnings, unpartitioned=unpartitioned
        ),
    )
    in_transaction(engine(), count_failed_requests)
    in_transaction(engine(), count_gaps_given_up)
    in_transaction(engine(), alerts.forget)
    return position


def _hold_what_is_wrong(context: dg.SensorEvaluationContext, chosen: Settings) -> None:
    home = None if chosen.database_url else chosen.home_path
    with engine().connect() as connection:
        behind = lags(connection, lineup().horizon())
    found = {
        Kind.DATABASE_SLOW: slow_database(health(engine(), home, chosen.low_disk_gb)),
        Kind.DISK_LOW: low_disk(chosen.home_path, chosen.low_disk_gb),
        Kind.LAG: lagging(behind, chosen.alert_lag_sessions),
        Kind.TICK_FAILED: failing_ticks(context.instance),
    }
    for kind, conditions in found.items():
        in_transaction(engine(), partial(alerts.hold, kind=kind, conditions=conditions))


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Sends what `alert_watch` has entered to webhooks and by e-mail, once in a quiet period each.",
)
def alert_delivery(_: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Send what is due.

    Raises:
        ReceiverError: a receiver takes nothing until something is changed; the others were told before.
    """
    chosen = settings()
    known = receivers(chosen)
    if not known:
        return dg.SkipReason(f"Nobody is told: {OFF}")
    outcome = deliver(engine(), known, quiet_periods(chosen.alert_quiet_minutes), wording(chosen))
    if outcome.refusals:
        raise ReceiverError("; ".join(outcome.refusals))
    told = [f"{name} was told of {n_alerts}" for name, n_alerts in outcome.told.items() if n_alerts]
    return dg.SkipReason("; ".join([*told, *outcome.put_off]) or f"Nothing new for {len(known)} receivers")


ALERT_SENSORS = [alert_watch, alert_delivery]
