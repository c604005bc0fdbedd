"""Validated bars: what keeps the contract is stored, what breaks it is quarantined."""

import dagster as dg

from tickstock_assets.defs.assets import reference
from tickstock_assets.defs.assets.raw import raw_daily_bars, raw_minute_bars
from tickstock_assets.defs.batches import in_batches
from tickstock_assets.defs.minute_plots import plots_of_last_partitions
from tickstock_assets.defs.partition_log import Told
from tickstock_assets.defs.partitions import BY_MONTH, BY_YEAR, DAILY, MINUTES
from tickstock_assets.defs.resources import Database, MarketData
from tickstock_assets.defs.retries import retried
from tickstock_assets.defs.storing_metadata import storing
from tickstock_assets.providers.base import Dataset

GROUP = "bars"
# What is read and merged at a time is bounded further inside (deliveries.py), and a file of the whole market is read once a
# batch: so these are large.
YEARS_A_BATCH = 1000
MONTHS_A_BATCH = 120


@dg.asset(
    group_name=GROUP,
    kinds={"postgres"},
    partitions_def=DAILY,
    backfill_policy=dg.BackfillPolicy.single_run(),
    deps=[raw_daily_bars, reference.sessions],
    code_version="2",
)
@retried
def ohlcv_daily(context: dg.AssetExecutionContext, market_data: MarketData, database: Database) -> Told:
    """Daily bars of regular trading as providers have them, unadjusted, stamped by session.

    The table of this name also has the days that `daily_rollups` makes from minutes, where no provider has one.
    """
    work = storing(market_data, database, Dataset.DAILY_BARS, BY_YEAR)
    yield from in_batches(context, database, work, size=YEARS_A_BATCH, table="ohlcv_daily")


@dg.asset(
    group_name=GROUP,
    kinds={"postgres"},
    partitions_def=MINUTES,
    backfill_policy=dg.BackfillPolicy.single_run(),
    deps=[raw_minute_bars, reference.sessions],
    code_version="1",
)
@retried
def ohlcv_1min(context: dg.AssetExecutionContext, market_data: MarketData, database: Database) -> Told:
    """Minute bars as providers have them, unadjusted, extended hours included, stamped at their start in UTC.

    With them the hours they lie in are noted as touched, so that what is rolled up from them is computed anew.
    """
    work = storing(market_data, database, Dataset.MINUTE_BARS, BY_MONTH, plots_of_last_partitions)
    yield from in_batches(context, database, work, size=MONTHS_A_BATCH)
