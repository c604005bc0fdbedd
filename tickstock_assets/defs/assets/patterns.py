"""Detections, each with the moment it became knowable."""

import dagster as dg
import pandas as pd

from tickstock_assets.defs.io_managers import WARM_UP_BARS
from tickstock_assets.defs.partition_metadata import add_partition_metadata
from tickstock_assets.defs.partitions import DAILY, windows_of
from tickstock_assets.defs.plots import price_with_detections
from tickstock_assets.domain.adjustments import to_continuous
from tickstock_assets.domain.patterns.registry import WARMUP_BARS, detect
from tickstock_assets.domain.windows import rows_inside
from tickstock_assets.storage.findings import as_pattern_rows


@dg.asset(
    group_name="patterns",
    kinds={"postgres"},
    partitions_def=DAILY,
    backfill_policy=dg.BackfillPolicy.single_run(),
    ins={"ohlcv_daily": dg.AssetIn(metadata={WARM_UP_BARS: WARMUP_BARS})},
    code_version="1",
)
def patterns(
    context: dg.AssetExecutionContext, ohlcv_daily: pd.DataFrame, bar_features: pd.DataFrame, splits: pd.DataFrame
) -> pd.DataFrame:
    """Candlesticks (TA-Lib's 61) and moving-average crossovers, found on split-adjusted bars."""
    found = detect(to_continuous(ohlcv_daily, splits))
    detections = rows_inside(found, "timestamp", windows_of(context.partition_keys))
    context.add_output_metadata({"rows_in": len(ohlcv_daily)})
    plots = price_with_detections(ohlcv_daily, detections, context.partition_keys)
    add_partition_metadata(context.get_step_execution_context(), context.asset_key, plots)
    return as_pattern_rows(detections, bar_features, timeframe="1d")
