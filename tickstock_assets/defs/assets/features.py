"""Measures of each bar, over split-adjusted history."""

import dagster as dg
import pandas as pd

from tickstock_assets.defs.io_managers import WARM_UP_BARS
from tickstock_assets.defs.partitions import DAILY, windows_of
from tickstock_assets.domain.adjustments import to_continuous
from tickstock_assets.domain.features import WARMUP_BARS, compute_features
from tickstock_assets.domain.windows import rows_inside


@dg.asset(
    group_name="features",
    kinds={"postgres"},
    partitions_def=DAILY,
    backfill_policy=dg.BackfillPolicy.single_run(),
    ins={"ohlcv_daily": dg.AssetIn(metadata={WARM_UP_BARS: WARMUP_BARS})},
    code_version="1",
)
def bar_features(context: dg.AssetExecutionContext, ohlcv_daily: pd.DataFrame, splits: pd.DataFrame) -> pd.DataFrame:
    """Spread, true range, ATR(14), volume and spread ratios, log return: of each bar, from it and the bars before it."""
    features = compute_features(to_continuous(ohlcv_daily, splits)).assign(timeframe="1d")
    context.add_output_metadata({"rows_in": len(ohlcv_daily)})
    return rows_inside(features, "timestamp", windows_of(context.partition_keys))
