"""Telling Dagster of what was loaded outside of its runs, so that the web UI shows those partitions as materialized."""

from collections.abc import Callable, Sequence
from datetime import datetime
from operator import itemgetter
from pathlib import Path

import dagster as dg

from tickstock_assets.defs import launching
from tickstock_assets.defs.assets.bars import ohlcv_1min, ohlcv_daily
from tickstock_assets.defs.assets.raw import raw_daily_bars, raw_minute_bars
from tickstock_assets.defs.materializations import told_at
from tickstock_assets.defs.partitions import BY_MONTH, BY_YEAR, SYMBOLS
from tickstock_assets.domain.windows import Window
from tickstock_assets.providers.base import Dataset

RECORDED = {
    Dataset.DAILY_BARS: (BY_YEAR, (raw_daily_bars, ohlcv_daily)),
    Dataset.MINUTE_BARS: (BY_MONTH, (raw_minute_bars, ohlcv_1min)),
}


def record_partitions(
    home: Path,
    dataset: Dataset,
    windows: Sequence[Window],
    stored: Sequence[tuple[Window, datetime]],
    on_progress: Callable[[int, int], None],
) -> int:
    """Record the partitions that windows touch as materialized; return how many.

    A load that was stopped has stored what it did not come to record. Of what is stored, those partitions are recorded
    too that Dagster does not have, or has from before their bars were landed.

    Args:
        home: of the Dagster instance.
        dataset: bars of which kind.
        windows: what was stored now.
        stored: what is stored, and when the newest of it was landed (UTC).
        on_progress: is told how many of how many are done.
    """
    grid, assets = RECORDED[dataset]
    touched = set(grid.keys_of(windows))
    landed_at: dict[str, datetime] = {}
    for (_, moment), keys in zip(stored, grid.keys_of_each(window for window, _ in stored), strict=True):
        landed_at |= {key: max(moment, landed_at.get(key, moment)) for key in keys}
    if not touched and not landed_at:
        return 0
    with launching.open_instance(home) as instance:
        due: list[tuple[str, dg.AssetKey]] = []
        for asset in assets:
            told = told_at(instance, asset.key)
            untold = {key for key, moment in landed_at.items() if key not in told or told[key] < moment}
            due += [(key, asset.key) for key in touched | untold]
        instance.add_dynamic_partitions(str(SYMBOLS.name), sorted({key.partition("|")[0] for key, _ in due}))
        # Raw before what is made of it, which would be stale otherwise.
        for done, (key, asset_key) in enumerate(sorted(due, key=itemgetter(0))):
            on_progress(done, len(due))
            instance.report_runless_asset_event(
                dg.AssetMaterialization(asset_key, partition=key, metadata={"loaded_by": "tickstock load"})
            )
    return len({key for key, _ in due})


def record_days(home: Path, windows: Sequence[Window], by: str) -> int:
    """Record the years of daily bars that windows touch as materialized, by a command; return how many."""
    keys = BY_YEAR.keys_of(windows)
    if keys:
        with launching.open_instance(home) as instance:
            for key in keys:
                instance.report_runless_asset_event(
                    dg.AssetMaterialization(ohlcv_daily.key, partition=key, metadata={"made_by": by})
                )
    return len(keys)
