"""Telling Dagster of what was loaded outside of its runs, so that the web UI shows those partitions as materialized."""

from collections.abc import Callable, Sequence
from pathlib import Path

import dagster as dg

from tickstock_assets.defs import launching
from tickstock_assets.defs.assets.bars import ohlcv_daily
from tickstock_assets.defs.assets.raw import raw_daily_bars
from tickstock_assets.defs.partitions import SYMBOLS, YEARS, key
from tickstock_assets.domain.windows import Window
from tickstock_assets.providers.base import Dataset

ASSETS = {Dataset.DAILY_BARS: (raw_daily_bars, ohlcv_daily)}


def record_partitions(
    home: Path, dataset: Dataset, windows: Sequence[Window], on_progress: Callable[[int, int], None]
) -> int:
    """Record the partitions that windows touch as materialized; return how many.

    Args:
        home: of the Dagster instance.
        dataset: bars of which kind; minute bars have no partitions yet.
        windows: what was stored.
        on_progress: is told how many of how many are done.
    """
    if dataset not in ASSETS or not windows:
        return 0
    years = {int(year) for year in YEARS.get_partition_keys()}
    touched = sorted(
        {
            key(window.symbol, year)
            for window in windows
            for year in range(window.start.year, window.end.year + 1)
            if year in years
        }
    )
    with launching.open_instance(home) as instance:
        symbols = sorted({window.symbol for window in windows})
        instance.add_dynamic_partitions(str(SYMBOLS.name), symbols)
        for done, partition in enumerate(touched):
            on_progress(done, len(touched))
            for asset in ASSETS[dataset]:
                instance.report_runless_asset_event(
                    dg.AssetMaterialization(asset.key, partition=partition, metadata={"loaded_by": "tickstock load"})
                )
    return len(touched)
