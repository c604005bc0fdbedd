"""Jobs: the steps in which history is built, each of which can be launched by its name, and the database's upkeep."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from tickstock_assets.defs.dagster_cleanup import forget_old_runs
from tickstock_assets.defs.pools import HEAVY_WRITES
from tickstock_assets.defs.resources import engine
from tickstock_assets.defs.retries import retried
from tickstock_assets.settings import settings
from tickstock_assets.storage import retention

REFERENCE = dg.define_asset_job(
    "reference",
    dg.AssetSelection.groups("reference", "operations"),
    description="Instruments, calendar and corporate actions; and what server they are on.",
)
DAILY_HISTORY = dg.define_asset_job(
    "daily_history",
    dg.AssetSelection.assets("raw_daily_bars", "ohlcv_daily") | dg.AssetSelection.groups("features", "patterns"),
    description="Daily bars of a range of symbols and years, from the provider to detections.",
)
NIGHTLY_UPDATE = dg.define_asset_job(
    "nightly_update",
    dg.AssetSelection.groups("reference", "features", "patterns")
    | dg.AssetSelection.assets("raw_daily_bars", "ohlcv_daily", "data_gaps"),
    description="All that a session changes: instruments, calendar, corporate actions, daily bars, features, patterns, gaps.",
)
ROLLED_UP = dg.AssetSelection.assets("ohlcv_5min", "ohlcv_15min", "ohlcv_1h", "daily_rollups")
MINUTE_HISTORY = dg.define_asset_job(
    "minute_history",
    dg.AssetSelection.assets("raw_minute_bars", "ohlcv_1min") | ROLLED_UP,
    description="Minute bars of a range of symbols and months, from the provider to what is rolled up from them.",
)
TICK_HISTORY = dg.define_asset_job(
    "tick_history",
    dg.AssetSelection.assets("raw_trades", "ticks", "tick_minute_bars") | ROLLED_UP,
    description="Trades of a range of symbols and days, from the provider to minute bars and what is rolled up from them.",
)
ROLLUPS = dg.define_asset_job(
    "rollups",
    ROLLED_UP,
    description="Whatever minutes have changed since, rolled up anew: what was streamed, corrected or removed.",
)
BACKTEST = dg.define_asset_job(
    "backtest",
    dg.AssetSelection.groups("backtests"),
    description="What trading on all stored detections would have brought.",
)
RECONCILIATION = dg.define_asset_job(
    "reconciliation",
    dg.AssetSelection.assets("provider_reconciliation"),
    description="The bars of two providers held against each other, where both have landed the same days.",
)
WEEKLY_REPORT = dg.define_asset_job(
    "weekly_report",
    dg.AssetSelection.assets("provider_reconciliation", "quality_report"),
    description="The bars of two providers held against each other, and a report on the week's quality for people.",
)
QUALITY = dg.define_asset_job(
    "quality",
    dg.AssetSelection.assets("quality_findings", "quality_scores"),
    description="What looks odd in the stored bars of a range of symbols and years, and how good each session is.",
)
GAPS = dg.define_asset_job(
    "gaps",
    dg.AssetSelection.assets("data_gaps"),
    description="Bars that were expected and are not there, and why, of what was stored since the run before.",
)
DATABASE = dg.define_asset_job(
    "database_status",
    dg.AssetSelection.groups("operations"),
    description="What the server is, what its tier has made of it, and what is off.",
)
CHECKS_ONLY = dg.define_asset_job(
    "checks",
    dg.AssetSelection.all_asset_checks(),
    description="Every check, on what is stored; nothing is computed. `tickstock check` is this with an exit code.",
)


@dg.op(pool=HEAVY_WRITES)
@retried
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


@dg.op(pool=HEAVY_WRITES)
@retried
def forget_runs(context: dg.OpExecutionContext) -> None:
    """Drop what Dagster keeps of runs that ended longer ago than the setting says, and say how much that was."""
    before = datetime.now(UTC) - timedelta(days=settings().runs_kept_days)
    gone = forget_old_runs(context.instance, before)
    context.log.info(
        "Dropped %d events, %d results of checks and %d runs of before %s; the last results stay.",
        gone.events, gone.checks, gone.runs, f"{before:%Y-%m-%d}",
    )  # fmt: skip


@dg.job(executor_def=dg.in_process_executor, name="dagster_cleanup")
def DAGSTER_CLEANUP() -> None:  # noqa: N802 a constant like the jobs above
    """Drop Dagster's own record of old runs, all but what still says how things are."""
    forget_runs()


JOBS = [
    REFERENCE,
    DAILY_HISTORY,
    NIGHTLY_UPDATE,
    MINUTE_HISTORY,
    TICK_HISTORY,
    ROLLUPS,
    BACKTEST,
    RECONCILIATION,
    WEEKLY_REPORT,
    QUALITY,
    GAPS,
    DATABASE,
    CHECKS_ONLY,
]
