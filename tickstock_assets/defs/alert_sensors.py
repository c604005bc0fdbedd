"""The sensors of alerts: one looks for what people are to be told of, one tells them. Both do nothing while alerts are off.

They are two so that what cannot be looked at, or not be sent, never holds up the other. What was seen waits in its table.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from tickstock_assets.domain.alerts import Condition, Kind, quiet_periods
from tickstock_assets.domain.errors import ReceiverError, TransientDatabaseError
from tickstock_assets.settings import Settings, settings
from tickstock_assets.storage import alerts
from tickstock_assets.storage.health import health
from tickstock_assets.storage.retry import in_transaction, is_transient

# Under this Dagster's storage has the position of a tick that failed: of such a one Dagster itself keeps no cursor.
POSITION_KEY = "tickstock/alert_watch"


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Looks for runs, checks, requests and ticks that failed, gaps given up, a slow database, a full disk and "
    "bars that are behind, and enters them for `alert_delivery`.",
)
def alert_watch(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Look at all there is to be told of, each by itself; where one look fails, the tick does after the others.

    What is found is entered under keys, and the position is kept only after that: a tick that is killed in between is
    done again and counts nothing twice.
    """
    chosen = settings()
    if not receivers(chosen):
        return dg.SkipReason(f"Nothing is looked for: {OFF}")
    raised: list[Exception] = []
    position = _count_what_happened(context, chosen, raised)
    _hold_what_is_wrong(context, chosen, raised)
    if raised:
        context.instance.daemon_cursor_storage.set_cursor_values({POSITION_KEY: position.as_cursor()})
        for other in raised[1:]:
            context.log.error("Another look failed too: %s", other)
        raise raised[0]
    with engine().connect() as connection:
        n_open = len(alerts.newest(connection, limit=1000, only_open=True))
    return dg.SensorResult(skip_reason=f"{n_open} alerts are open", cursor=position.as_cursor())


@contextmanager
def _by_itself(raised: list[Exception]) -> Iterator[None]:
    """Keep for the end of the tick what a look raises; that the database is away it raises at once, for all of them."""
    try:
        yield
    except Exception as error:
        if isinstance(error, TransientDatabaseError) or is_transient(error):
            raise
        raised.append(error)


def _position(context: dg.SensorEvaluationContext) -> Position:
    """Return up to where was read, also by ticks that have failed since the cursor was written."""
    kept = context.instance.daemon_cursor_storage.get_cursor_values({POSITION_KEY})
    return Position.read(context.cursor).or_later(Position.read(kept.get(POSITION_KEY)))


def _count_what_happened(context: dg.SensorEvaluationContext, chosen: Settings, raised: list[Exception]) -> Position:
    instance, warnings, position = context.instance, chosen.alert_warnings, _position(context)
    with _by_itself(raised):
        position = in_transaction(engine(), lambda connection: count_failed_runs(instance, connection, position))
    with _by_itself(raised):
        graph = context.repository_def.asset_graph if context.repository_def else None
        unpartitioned = graph.unpartitioned_asset_keys if graph else set()
        position = in_transaction(
            engine(),
            lambda connection: count_failed_checks(
                instance, connection, position, with_warnings=warnings, unpartitioned=unpartitioned
            ),
        )
    for count in (count_failed_requests, count_gaps_given_up, alerts.forget):
        with _by_itself(raised):
            in_transaction(engine(), count)
    return position


def _hold_what_is_wrong(context: dg.SensorEvaluationContext, chosen: Settings, raised: list[Exception]) -> None:
    looks: Mapping[Kind, Callable[[], Sequence[Condition]]] = {
        Kind.DATABASE_SLOW: lambda: _slow_database(chosen),
        Kind.DISK_LOW: lambda: low_disk(chosen.home_path, chosen.low_disk_gb),
        Kind.LAG: lambda: _lagging(chosen),
        Kind.TICK_FAILED: lambda: failing_ticks(context.instance),
    }
    for kind, look in looks.items():
        with _by_itself(raised):
            in_transaction(engine(), partial(alerts.hold, kind=kind, conditions=look()))


def _slow_database(chosen: Settings) -> list[Condition]:
    home = None if chosen.database_url else chosen.home_path
    return slow_database(health(engine(), home, chosen.low_disk_gb))


def _lagging(chosen: Settings) -> list[Condition]:
    with engine().connect() as connection:
        behind = lags(connection, lineup().horizon())
    return lagging(behind, chosen.alert_lag_sessions)


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
