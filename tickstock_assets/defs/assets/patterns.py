"""Detections, each with the moment it became knowable."""

import dagster as dg
import pandas as pd

from tickstock_assets.defs.assets.rollups import daily_rollups
from tickstock_assets.defs.automation import CATCH_UP
from tickstock_assets.defs.batches import Batch, Outcome, in_batches
from tickstock_assets.defs.io_managers import WARM_UP_BARS, Rows, store
from tickstock_assets.defs.partition_log import Told
from tickstock_assets.defs.partitions import DAILY, WITH_WARM_UP
from tickstock_assets.defs.plots import price_with_detections
from tickstock_assets.defs.resources import Database
from tickstock_assets.defs.retries import retried
from tickstock_assets.domain.adjustments import to_continuous
from tickstock_assets.domain.patterns.registry import WARMUP_BARS, detect
from tickstock_assets.domain.windows import rows_inside
from tickstock_assets.storage.findings import as_pattern_rows


@dg.asset(
    group_name="patterns",
    kinds={"postgres"},
    partitions_def=DAILY,
    backfill_policy=dg.BackfillPolicy.single_run(),
    # What it reads as `ohlcv_daily` is the table, in which the days made from minutes are too.
    deps=[daily_rollups],
    ins={"ohlcv_daily": dg.AssetIn(metadata={WARM_UP_BARS: WARMUP_BARS}, partition_mapping=WITH_WARM_UP)},
    automation_condition=CATCH_UP,
    code_version="1",
)
@retried
def patterns(
    context: dg.AssetExecutionContext, ohlcv_daily: Rows, bar_features: Rows, splits: pd.DataFrame, database: Database
) -> Told:
    """Candlesticks (TA-Lib's 61) and moving-average crossovers, found on split-adjusted bars."""

    def detected(batch: Batch) -> Outcome:
        bars = ohlcv_daily.of(batch)
        detections = rows_inside(detect(to_continuous(bars, splits)), "timestamp", batch.windows)
        rows = as_pattern_rows(detections, bar_features.of(batch), timeframe="1d")
        plots = price_with_detections(bars, detections, batch.keys)
        return store(database, "patterns", rows, batch, rows_in=len(bars)).with_more(plots)

    yield from in_batches(context, database, detected, computed_from=["ohlcv_daily", "bar_features"], table="patterns")
