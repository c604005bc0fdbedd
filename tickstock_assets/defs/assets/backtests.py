"""What trading on the detections would have brought."""

from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg
import pandas as pd

from tickstock_assets.defs.materializations import newest_metadata
from tickstock_assets.defs.partitions import BY_YEAR
from tickstock_assets.defs.plots import best_by_sharpe, equity_curves
from tickstock_assets.defs.resources import Database, backtest_config
from tickstock_assets.defs.retries import retried
from tickstock_assets.domain.adjustments import to_continuous
from tickstock_assets.domain.backtest.engine import run_backtest
from tickstock_assets.domain.backtest.inputs import has_own_bar
from tickstock_assets.domain.errors import TickstockError
from tickstock_assets.storage.backtests import BacktestInputs, save_backtest

NAMED = 3


@dg.asset(group_name="backtests", kinds={"postgres"}, code_version="1")
@retried
def backtest_metrics(
    context: dg.AssetExecutionContext,
    ohlcv_daily: pd.DataFrame,
    patterns: pd.DataFrame,
    splits: pd.DataFrame,
    dividends: pd.DataFrame,
    *,
    database: Database,
) -> dg.MaterializeResult[None]:
    """Every pattern traded by its direction, for the portfolio and for each symbol: trades, win rate, ROI, Sharpe, drawdown."""
    started_at = datetime.now(UTC)
    tradable = has_own_bar(patterns, ohlcv_daily)
    detections, left_out = patterns[tradable], patterns[~tradable]
    inputs = BacktestInputs(
        backtest_config(), ohlcv_daily, {"patterns": detections, "splits": splits, "dividends": dividends}
    )
    report = run_backtest(to_continuous(ohlcv_daily, splits), detections, dividends, inputs.config)
    run, counts = database.in_transaction(lambda connection: save_backtest(connection, inputs, report, started_at))
    portfolio = report.results[report.results["scope"] == "portfolio"]
    return dg.MaterializeResult(
        metadata={
            "run": run,
            "rows_in": len(ohlcv_daily),
            "detections": len(detections),
            **_left_out(context, left_out),
            "dagster/row_count": len(report.results),
            "trades": len(report.trades),
            "rows_written": counts.written,
            "rows_unchanged": counts.unchanged,
            "best_by_sharpe": best_by_sharpe(portfolio),
            "equity_curves": equity_curves(report.equity, portfolio),
        }
    )


def _left_out(context: dg.AssetExecutionContext, without_bar: pd.DataFrame) -> dict[str, int | str]:
    """Say which detections stand on no bar, and what finds them anew."""
    if without_bar.empty:
        return {"detections_left_out": 0}
    named = without_bar["symbol"] + without_bar["timestamp"].dt.strftime(" %Y-%m-%d %H:%M ") + without_bar["pattern"]
    partitions = {BY_YEAR.key(*key) for key in zip(without_bar["symbol"], without_bar["timestamp"], strict=True)}
    said = (
        f"expected a bar of its symbol and timestamp (UTC) for each detection, found {len(without_bar)} without, which are "
        f"left out: {_first_of(named.tolist())}; materialize bar_features and patterns of {_first_of(sorted(partitions))}"
    )
    context.log.warning(said)
    return {"detections_left_out": len(without_bar), "left_out_warning": said}


def _first_of(names: Sequence[str]) -> str:
    left = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {left} more" if left > 0 else "")


def latest_backtest(instance: dg.DagsterInstance) -> str | None:
    """Return the id of the backtest that was computed last, which may be one that was known before; None for none."""
    said = newest_metadata(instance, backtest_metrics.key).get("run")
    return str(said.value) if said else None


def last_backtest(instance: dg.DagsterInstance) -> str:
    """Return the id of the backtest that was computed last.

    Raises:
        TickstockError: there is none yet.
    """
    run = latest_backtest(instance)
    if run is None:
        raise TickstockError("backtest_metrics: expected it to be materialized, found no run; materialize it first")
    return run
