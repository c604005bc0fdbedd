"""Jobs: the three steps in which history is built, each of which can be launched by its name."""

import dagster as dg

REFERENCE = dg.define_asset_job(
    "reference",
    dg.AssetSelection.groups("reference"),
    description="Instruments, calendar and corporate actions.",
)
DAILY_HISTORY = dg.define_asset_job(
    "daily_history",
    dg.AssetSelection.groups("raw", "bars", "features", "patterns"),
    description="Daily bars of a range of symbols and years, from the provider to detections.",
)
BACKTEST = dg.define_asset_job(
    "backtest",
    dg.AssetSelection.groups("backtests"),
    description="What trading on all stored detections would have brought.",
)
JOBS = [REFERENCE, DAILY_HISTORY, BACKTEST]
