"""Telling Dagster of what was loaded outside of its runs, so that the web UI shows those partitions as materialized."""

from collections.abc import Callable, Sequence
from pathlib import Path

import dagster as dg

from tickstock_assets.defs import launching
from tickstock_assets.defs.assets.bars import ohlcv_1min, ohlcv_daily
from tickstock_assets.defs.assets.raw import raw_daily_bars, raw_minute_bars
from tickstock_assets.defs.partitions import BY_MONTH, BY_YEAR, SYMBOLS
from tickstock_assets.domain.windows import Window
from tickstock_assets.providers.base import Dataset

RECORDED = {
    Dataset.DAILY_BARS: (BY_YEAR, (raw_daily_bars, ohlcv_daily)),
    Dataset.MINUTE_BARS: (BY_MONTH, (raw_minute_bars, ohlcv_1min)),
}


def record_partitions(
    home: Path, dataset: Dataset, windows: Sequence[Window], on_progress: Callable[[int, int], None]
) -> int:
    """Record the partitions that windows touch as materialized; return how many.

    Args:
        home: of the Dagster instance.
        dataset: bars of which kind.
        windows: what was stored.
        on_progress: is told how many of how many are done.
    """
    if not windows:
        return 0
    grid, assets = RECORDED[dataset]
    touched = grid.keys_of(windows)
    with launching.open_instance(home) as instance:
        symbols = sorted({window.symbol for window in windows})
        instance.add_dynamic_partitions(str(SYMBOLS.name), symbols)
        for done, partition in enumerate(touched):
            on_progress(done, len(touched))
            for asset in assets:
                instance.report_runless_asset_event(
                    dg.AssetMaterialization(asset.key, partition=partition, metadata={"loaded_by": "tickstock load"})
                )
    return len(touched)
