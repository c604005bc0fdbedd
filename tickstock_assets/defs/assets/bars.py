"""Validated bars: what keeps the contract is stored, what breaks it is quarantined."""

import dagster as dg

from tickstock_assets.defs.assets import reference
from tickstock_assets.defs.assets.raw import raw_daily_bars
from tickstock_assets.defs.partition_metadata import add_partition_metadata
from tickstock_assets.defs.partitions import DAILY, windows_of
from tickstock_assets.defs.resources import Database, MarketData, engine
from tickstock_assets.defs.storing_metadata import partition_metadata, run_metadata
from tickstock_assets.loading.storing import store


@dg.asset(
    group_name="bars",
    kinds={"postgres"},
    partitions_def=DAILY,
    backfill_policy=dg.BackfillPolicy.single_run(),
    deps=[raw_daily_bars, reference.sessions],
    code_version="2",
)
def ohlcv_daily(
    context: dg.AssetExecutionContext, market_data: MarketData, database: Database
) -> dg.MaterializeResult[None]:
    """Daily bars of regular trading, unadjusted, stamped by session."""
    windows = windows_of(context.partition_keys)
    stored = store(market_data.lineup, engine(), market_data.landing_folder, windows, run=database.run)
    by_partition = partition_metadata(stored, context.partition_keys)
    add_partition_metadata(context.get_step_execution_context(), context.asset_key, by_partition)
    with database.begin() as connection:
        return dg.MaterializeResult(metadata=run_metadata(connection, "ohlcv_daily", stored, len(by_partition)))
