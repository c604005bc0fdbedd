"""Splits that came after the bars of their years: what was computed without them is computed anew.

A load asks for splits last, a budget may end before them, a vendor corrects one, a person adds one. None of these writes a
bar, so Dagster is told here that the bars' years have changed, and `catch_up` does the rest.

Elsewhere: what catches up and when (automation.py), which splits count (storage/counted_actions.py).
"""

from datetime import UTC, datetime, timedelta

import dagster as dg

from tickstock_assets.defs.automation import DAILY_BARS
from tickstock_assets.defs.materializations import told_at
from tickstock_assets.defs.partitions import BY_YEAR
from tickstock_assets.defs.resources import engine
from tickstock_assets.domain.windows import Window
from tickstock_assets.storage.counted_actions import splits_changed_since
from tickstock_assets.storage.database import server_time

# A transaction may show later what it has written before; what was told is not told twice.
OVERLAP = timedelta(hours=1)
PARTITIONS_A_TICK = 500
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


@dg.sensor(
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Has features and patterns computed anew from the year on in which a split was recorded after the bars.",
)
def late_splits(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Tell of the years since each such split whose bars Dagster was told of before it; killed in between, it tells again."""
    since = datetime.fromisoformat(context.cursor) if context.cursor else BEGINNING
    with engine().connect() as connection:
        now = server_time(connection)
        changed = splits_changed_since(connection, since)
    due: set[str] = set()
    if changed:
        told = told_at(context.instance, DAILY_BARS)
        windows = [Window(symbol, day, max(day, now.date())) for symbol, day, _ in changed]
        for (_, _, at), keys in zip(changed, BY_YEAR.keys_of_each(windows), strict=True):
            due |= {key for key in keys if key in told and told[key] < at}
    events = [
        dg.AssetMaterialization(
            DAILY_BARS, partition=key, metadata={"recorded_for": "a split that came after its bars"}
        )
        for key in sorted(due)[:PARTITIONS_A_TICK]
    ]
    is_all = len(events) == len(due)
    return dg.SensorResult(
        skip_reason=None if events else "No split was recorded after its bars",
        asset_events=events,
        cursor=(now - OVERLAP).isoformat() if is_all else context.cursor,
    )
