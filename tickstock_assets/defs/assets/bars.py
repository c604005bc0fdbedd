"""Validated bars: what keeps the contract is stored, what breaks it is quarantined."""

import dagster as dg
import pandas as pd

from tickstock_assets.defs.assets import reference
from tickstock_assets.defs.assets.raw import raw_daily_bars
from tickstock_assets.defs.loading import read_landed, validate
from tickstock_assets.defs.partitions import DAILY, windows_of
from tickstock_assets.defs.resources import Database, MarketData, engine


@dg.asset(
    group_name="bars",
    kinds={"postgres"},
    partitions_def=DAILY,
    backfill_policy=dg.BackfillPolicy.single_run(),
    deps=[raw_daily_bars, reference.sessions],
    code_version="1",
)
def ohlcv_daily(context: dg.AssetExecutionContext, market_data: MarketData, database: Database) -> pd.DataFrame:
    """Daily bars of regular trading, unadjusted, stamped by session."""
    provider = market_data.provider
    payloads = read_landed(provider, engine(), market_data.landing_folder, windows_of(context.partition_keys))
    valid, n_rejected = validate(provider, engine(), payloads, database.run)
    context.add_output_metadata({"rows_in": len(payloads.frame), "rows_quarantined": n_rejected})
    return valid
