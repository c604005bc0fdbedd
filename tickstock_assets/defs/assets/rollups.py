"""Bars made from minutes. Without partitions: each write of minutes notes which hours it touched, and these are computed.

So late, corrected and removed minutes are covered wherever they lie, and a run over a month costs no more than its month.
"""

from collections.abc import Iterator
from datetime import datetime

import dagster as dg

from tickstock_assets.defs.assets import reference
from tickstock_assets.defs.assets.bars import GROUP, ohlcv_1min
from tickstock_assets.defs.assets.ticks import tick_minute_bars
from tickstock_assets.defs.materializations import newest_observed
from tickstock_assets.defs.partitions import BY_YEAR
from tickstock_assets.defs.pools import HEAVY_WRITES
from tickstock_assets.defs.resources import Database, engine
from tickstock_assets.defs.retries import retried
from tickstock_assets.domain.timeframes import Timeframe
from tickstock_assets.storage import rollups
from tickstock_assets.storage.database import server_time
from tickstock_assets.storage.partition_counts import all_rows, days_changed_since
from tickstock_assets.storage.rollups import RollupCounts

INTRADAY: dict[str, Timeframe] = {"ohlcv_5min": "5m", "ohlcv_15min": "15m", "ohlcv_1h": "1h"}
# In observations of `daily_rollups`: since when days may have changed that Dagster was not told of; null for never.
UNTOLD_SINCE = "untold_since"


@dg.multi_asset(
    name="intraday_rollups",
    specs=[
        dg.AssetSpec(
            name,
            group_name=GROUP,
            kinds={"postgres"},
            deps=[ohlcv_1min, tick_minute_bars],
            code_version="1",
            description=f"Bars of {length} made from minutes, extended hours included: a continuous aggregate on TimescaleDB "
            "Community, elsewhere a table in which the touched hours are computed anew. They outlive their minutes.",
        )
        for name, length in zip(INTRADAY, ("5 minutes", "15 minutes", "an hour"), strict=True)
    ],
    pool=HEAVY_WRITES,
)
@retried
def intraday_rollups(database: Database) -> Iterator[dg.MaterializeResult[None]]:
    """Roll up the touched hours."""
    made = rollups.roll_up_intraday(engine(), run=database.run)
    for name, timeframe in INTRADAY.items():
        yield dg.MaterializeResult(asset_key=name, metadata=rollup_metadata(made, timeframe))


@dg.asset(
    group_name=GROUP,
    kinds={"postgres"},
    deps=[ohlcv_1min, tick_minute_bars, reference.sessions],
    pool=HEAVY_WRITES,
    code_version="1",
)
@retried
def daily_rollups(context: dg.AssetExecutionContext, database: Database) -> dg.MaterializeResult[None]:
    """Daily bars made from the minutes of regular hours, in the table `ohlcv_daily`, where no provider has the day.

    It is an asset of its own beside `ohlcv_daily` because it has another origin and comes at another time: what a provider
    calls the day's bar ranks first, whichever of the two comes first. Who reads the table sees either.
    """
    with database.begin() as connection:
        began = server_time(connection)
    interrupted = untold_since(context.instance)
    since = interrupted or began
    # Each batch is committed by itself and never done again, so a try that is stopped must leave word for the next one.
    _note(context, since)
    made = rollups.roll_up_daily(engine(), run=database.run)
    if made.written or interrupted:
        _tell_of_years(context, database, since)
    _note(context, None)
    return dg.MaterializeResult(metadata={**rollup_metadata(made, "1d"), "rows_outranked": made.outranked})


def untold_since(instance: dg.DagsterInstance) -> datetime | None:
    """Return when the first of the tries began that were stopped since one went through; None where none was."""
    said = newest_observed(instance, daily_rollups.key).get(UNTOLD_SINCE)
    return datetime.fromisoformat(str(said.value)) if said and said.value else None


def _note(context: dg.AssetExecutionContext, since: datetime | None) -> None:
    moment = since.isoformat() if since else None
    context.log_event(dg.AssetObservation(context.asset_key, metadata={UNTOLD_SINCE: moment}))


def _tell_of_years(context: dg.AssetExecutionContext, database: Database, since: datetime) -> None:
    """Have what is computed from the years with days that changed since a moment, and no other, catch up."""
    with database.begin() as connection:
        touched = days_changed_since(connection, since)
        total = {"dagster/row_count": all_rows(connection, "ohlcv_daily")} if touched else {}
    for key in BY_YEAR.keys_of(touched):
        metadata: dict[str, str | int] = {"made_by": "daily_rollups", **total}
        context.log_event(dg.AssetMaterialization("ohlcv_daily", partition=key, metadata=metadata))


def rollup_metadata(made: RollupCounts, timeframe: Timeframe) -> dict[str, int | float]:
    """Return what a run of the rollup job did to the bars of a timeframe, and which hours it left alone.

    Of continuous aggregates only the server knows how many rows it wrote.
    """
    bars = made.bars.get(timeframe)
    rows = {} if bars is None else {f"rows_{name}": count for name, count in vars(bars).items()}
    return {
        "hours_computed": made.hours,
        **rows,
        "hours_whose_minutes_were_dropped": made.skipped_dropped,
        "hours_under_way": made.under_way,
        "hours_without_a_session": made.not_in_calendar,
        "seconds": round(made.seconds, 3),
    }
