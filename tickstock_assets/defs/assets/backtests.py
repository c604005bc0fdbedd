"""What trading on the detections would have brought."""

from datetime import UTC, datetime

import dagster as dg
import pandas as pd

from tickstock_assets.defs.plots import best_by_sharpe, equity_curves
from tickstock_assets.defs.resources import Database, backtest_config
from tickstock_assets.domain.adjustments import to_continuous
from tickstock_assets.domain.backtest.engine import run_backtest
from tickstock_assets.domain.errors import TickstockError
from tickstock_assets.storage.backtests import BacktestInputs, save_backtest


@dg.asset(group_name="backtests", kinds={"postgres"}, code_version="1")
def backtest_metrics(
    ohlcv_daily: pd.DataFrame, patterns: pd.DataFrame, splits: pd.DataFrame, dividends: pd.DataFrame, database: Database
) -> dg.MaterializeResult[None]:
    """Every pattern traded by its direction, for the portfolio and for each symbol: trades, win rate, ROI, Sharpe, drawdown."""
    started_at = datetime.now(UTC)
    inputs = BacktestInputs(
        backtest_config(), ohlcv_daily, {"patterns": patterns, "splits": splits, "dividends": dividends}
    )
    report = run_backtest(to_continuous(ohlcv_daily, splits), patterns, dividends, inputs.config)
    run, counts = database.in_transaction(lambda connection: save_backtest(connection, inputs, report, started_at))
    portfolio = report.results[report.results["scope"] == "portfolio"]
    return dg.MaterializeResult(
        metadata={
            "run": run,
            "rows_in": len(ohlcv_daily),
            "detections": len(patterns),
            "dagster/row_count": len(report.results),
            "trades": len(report.trades),
            "rows_written": counts.written,
            "rows_unchanged": counts.unchanged,
            "best_by_sharpe": best_by_sharpe(portfolio),
            "equity_curves": equity_curves(report.equity, portfolio),
        }
    )


def last_backtest(instance: dg.DagsterInstance) -> str:
    """Return the id of the backtest that was computed last, which may be one that was known before.

    Raises:
        TickstockError: there is none yet.
    """
    event = instance.get_latest_materialization_event(backtest_metrics.key)
    if event is None or event.asset_materialization is None:
        raise TickstockError("backtest_metrics: expected it to be materialized, found no run; materialize it first")
    return str(event.asset_materialization.metadata["run"].value)
