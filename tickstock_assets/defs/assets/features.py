"""Measures of each bar, over split-adjusted history."""

import dagster as dg
import pandas as pd

from tickstock_assets.defs.assets.rollups import daily_rollups
from tickstock_assets.defs.automation import CATCH_UP
from tickstock_assets.defs.batches import Batch, Outcome, in_batches
from tickstock_assets.defs.io_managers import WARM_UP_BARS, Rows, store
from tickstock_assets.defs.partition_log import Told
from tickstock_assets.defs.partitions import DAILY, WITH_WARM_UP
from tickstock_assets.defs.resources import Database
from tickstock_assets.defs.retries import retried
from tickstock_assets.domain.adjustments import to_continuous
from tickstock_assets.domain.features import WARMUP_BARS, compute_features
from tickstock_assets.domain.windows import rows_inside


@dg.asset(
    group_name="features",
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
def bar_features(
    context: dg.AssetExecutionContext, ohlcv_daily: Rows, splits: pd.DataFrame, database: Database
) -> Told:
    """Spread, true range, ATR(14), volume and spread ratios, log return: of each bar, from it and the bars before it."""

    def measured(batch: Batch) -> Outcome:
        bars = ohlcv_daily.of(batch)
        features = compute_features(to_continuous(bars, splits)).assign(timeframe="1d")
        return store(
            database, "bar_features", rows_inside(features, "timestamp", batch.windows), batch, rows_in=len(bars)
        )

    yield from in_batches(context, database, measured, computed_from=["ohlcv_daily"], table="bar_features")
