"""Jobs: the three steps in which history is built, each of which can be launched by its name, and the database's upkeep."""

import dagster as dg

from tickstock_assets.defs.resources import engine
from tickstock_assets.settings import settings
from tickstock_assets.storage import retention

REFERENCE = dg.define_asset_job(
    "reference",
    dg.AssetSelection.groups("reference", "operations"),
    description="Instruments, calendar and corporate actions; and what server they are on.",
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
RECONCILIATION = dg.define_asset_job(
    "reconciliation",
    dg.AssetSelection.groups("quality"),
    description="The bars of two providers held against each other, where both have landed the same days.",
)
DATABASE = dg.define_asset_job(
    "database_status",
    dg.AssetSelection.groups("operations"),
    description="What the server is, what its tier has made of it, and what is off.",
)


@dg.op
def drop_old_rows(context: dg.OpExecutionContext) -> None:
    """Drop what is older than the retention settings allow, and write it to the audit trail."""
    dropped = retention.keep(engine(), settings().lifecycles)
    if dropped is None:
        context.log.info("TimescaleDB Community drops old chunks by its own policies; nothing is done here.")
        return
    for one in dropped:
        context.log.info("Dropped %s", one)
    if not dropped:
        context.log.info("No table has a retention; everything is kept.")


@dg.job(executor_def=dg.in_process_executor, name="retention")
def RETENTION() -> None:  # noqa: N802 a constant like the jobs above
    """Apply the retention settings where the server has no policies that do."""
    drop_old_rows()


JOBS = [REFERENCE, DAILY_HISTORY, BACKTEST, RECONCILIATION, DATABASE]
