"""What `tickstock demo` stores, against the vendored file computed a second time (oracle.py) and traded naively."""

import hashlib
import json
import math
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import Engine, create_engine, make_url, text

from tests.conftest import Demo, tickstock
from tests.domain.backtest import naive
from tests.end_to_end import oracle
from tickstock_assets.storage import embedded

TERMS = {"capital": 100_000.0, "holding_bars": 5, "commission_bps": 1.0, "slippage_bps": 2.0}
RISK_FREE_RATE, SESSIONS_A_YEAR = 0.02, 252
UNPARTITIONED = {
    "symbols",
    "sessions",
    "splits",
    "dividends",
    "backtest_metrics",
    "provider_reconciliation",
    "quality_report",
    "data_gaps",
    "database",
    "ohlcv_5min",
    "ohlcv_15min",
    "ohlcv_1h",
    "daily_rollups",
}
PARTITIONED = {"raw_daily_bars", "ohlcv_daily", "bar_features", "patterns", "quality_findings", "quality_scores"}
N_PARTITIONS = 5 * 14
# February and March 2013, of which the file has 19 and 1 sessions, none of them short.
MINUTES = {"raw_minute_bars", "ohlcv_1min"}
N_MONTHS, N_MINUTES = 5 * 2, 5 * 20 * 390


@pytest.fixture(scope="module")
def as_traded() -> pd.DataFrame:
    return oracle.bars()


@pytest.fixture(scope="module")
def expected_features(as_traded: pd.DataFrame) -> pd.DataFrame:
    return oracle.features(as_traded)


@pytest.fixture(scope="module")
def expected_detections(as_traded: pd.DataFrame) -> pd.DataFrame:
    return oracle.detections(as_traded)


@pytest.fixture(scope="module")
def naive_scopes(as_traded: pd.DataFrame, expected_detections: pd.DataFrame) -> dict[Any, Any]:
    """The whole backtest, bar by bar, out of the file alone."""
    bar_columns = ["symbol", "date", "timestamp", "session_close", "open", "high", "low", "close", "split_factor"]
    detection_columns = ["symbol", "timestamp", "pattern", "variant", "direction", "known_at", "stop_loss"]
    bars = oracle.as_plain_rows(oracle.continuous(as_traded), bar_columns)
    dividends = oracle.dividends(as_traded)
    scopes: dict[Any, Any] = {}
    # One strategy at a time, or it would search all detections for those of each.
    for _, of_strategy in expected_detections.groupby(["pattern", "variant"]):
        rows = oracle.as_plain_rows(of_strategy, detection_columns)
        scopes |= naive.backtest(bars, rows, dividends, TERMS)
    return scopes


def query(engine: Engine, statement: str) -> list[dict[str, Any]]:
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(text(statement)).mappings()]


def assert_rounded(stored: Iterable[Decimal | None], expected: Iterable[float], decimals: int) -> None:
    """Hold numbers from the database against float64 ones: rounded to so many decimals, NULL just where NaN."""
    allowed = 0.501 * 10**-decimals
    for row, (found, wanted) in enumerate(zip(stored, expected, strict=True)):
        if found is None or math.isnan(wanted):
            assert found is None, f"row {row}: expected NULL, found {found}"
            assert math.isnan(wanted), f"row {row}: expected {wanted}, found NULL"
        else:
            # Beside the rounding to decimals, float64's own: sums in another order.
            assert abs(float(found) - wanted) <= allowed + 1e-11 * abs(wanted), f"row {row}: {found} for {wanted}"


def column(rows: list[dict[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in rows]


def test_the_demo_says_12154_bars_over_5_symbols_none_quarantined_and_shows_a_backtest(demo: Demo) -> None:
    bars = {row["symbol"]: row for row in demo.summary["bars"]}
    assert sorted(bars) == list(oracle.SYMBOLS)
    assert sum(row["bars"] for row in bars.values()) == oracle.N_BARS
    assert [row["quarantined"] + row["missing"] for row in bars.values()] == [0] * 5
    assert demo.summary["quarantined"] == 0
    # 61 candlesticks of which some never occur, and three crossovers.
    strategies = {row["strategy_name"] for row in demo.summary["backtest"]}
    assert {"ma_crossover 5/20", "ma_crossover 20/50", "ma_crossover 50/200", "CDLENGULFING"} <= strategies
    assert len(strategies) == len(demo.summary["backtest"]) == len(demo.summary["detections"])


def test_every_row_of_the_file_is_stored_to_the_last_decimal_and_nothing_else(demo_database: Engine) -> None:
    stored = query(demo_database, "SELECT symbol, date, open, high, low, close, volume, source FROM ohlcv_daily")
    prices = ("Open", "High", "Low", "Close", "Volume")
    expected = {(row["Ticker"], row["Date"], *(Decimal(row[name]) for name in prices)) for row in oracle.file_rows()}
    found = [
        (row["symbol"], str(row["date"]), *(row[name.lower()] for name in prices)) for row in stored
    ]  # Decimals, as the database holds them
    assert len(found) == len(expected) == oracle.N_BARS
    assert set(found) == expected
    assert set(column(stored, "source")) == {"sample"}
    assert query(demo_database, "SELECT * FROM quarantined_bars") == []


def test_the_three_splits_and_every_dividend_of_the_file_are_stored(
    demo_database: Engine, as_traded: pd.DataFrame
) -> None:
    splits = query(demo_database, "SELECT symbol, execution_date, split_from, split_to FROM splits ORDER BY 1, 2")
    assert [tuple(row.values()) for row in splits] == [(symbol, day, 1, 2) for symbol, day in sorted(oracle.SPLITS)]
    stored = query(demo_database, "SELECT symbol, ex_dividend_date, cash_amount FROM dividends ORDER BY 1, 2")
    expected = oracle.dividends(as_traded)
    assert len(expected) == 92
    assert [(row["symbol"], row["ex_dividend_date"], float(row["cash_amount"])) for row in stored] == [
        tuple(row.values()) for row in expected
    ]


def test_features_are_those_of_pandas_and_ta_lib_row_for_row(
    demo_database: Engine, expected_features: pd.DataFrame
) -> None:
    stored = query(demo_database, "SELECT * FROM bar_features ORDER BY symbol, timestamp")
    assert len(stored) == oracle.N_BARS
    assert column(stored, "symbol") == expected_features["symbol"].tolist()
    assert column(stored, "timestamp") == expected_features["timestamp"].tolist()
    assert set(column(stored, "timeframe")) == {"1d"}
    decimals = {"spread": 8, "true_range": 8, "atr_14": 8, "spread_ratio": 6, "volume_ratio": 6, "log_return": 12}
    for name, places in decimals.items():
        assert_rounded(column(stored, name), expected_features[name], places)
    # Five histories, each with its warm-up: nothing is NULL but what cannot be known.
    assert expected_features[list(decimals)].isna().sum().to_dict() == {
        "spread": 0,
        "true_range": 0,
        "atr_14": 5 * 14,
        "spread_ratio": 5 * 20,
        "volume_ratio": 5 * 20,
        "log_return": 5,
    }


def test_detections_are_those_of_ta_lib_and_pandas_row_for_row(
    demo_database: Engine, expected_detections: pd.DataFrame, expected_features: pd.DataFrame
) -> None:
    stored = query(
        demo_database, 'SELECT * FROM patterns ORDER BY symbol, timestamp, pattern COLLATE "C", variant COLLATE "C"'
    )
    expected = expected_detections.merge(
        expected_features[["symbol", "timestamp", "volume_ratio", "spread_ratio"]], how="left"
    )
    assert len(stored) == len(expected)
    for name in ("symbol", "timestamp", "pattern", "variant", "direction", "known_at"):
        assert column(stored, name) == expected[name].tolist(), name
    for name, places in {"entry_price": 8, "stop_loss": 8, "volume_ratio": 6, "spread_ratio": 6}.items():
        assert_rounded(column(stored, name), expected[name], places)
    candlesticks = [row for row in stored if row["pattern"] != "ma_crossover"]
    scores = expected.loc[expected["pattern"] != "ma_crossover", "score"]
    assert [row["metadata"]["strength"] for row in candlesticks] == scores.tolist()
    assert {row["family"] for row in candlesticks} == {"candlestick"}
    # A detection of the file's last day is known at its close, so nothing is left out at the end either.
    assert max(column(stored, "known_at")) == oracle.bars()["session_close"].max()


def test_trades_are_those_of_a_naive_backtest_row_for_row(demo_database: Engine, naive_scopes: dict[Any, Any]) -> None:
    stored = query(demo_database, "SELECT * FROM backtest_trades ORDER BY trade_number")
    portfolios = {key: scope for key, scope in naive_scopes.items() if key[0] == "portfolio"}
    expected = [trade for key in sorted(portfolios) for trade in portfolios[key]["trades"]]
    assert len(stored) == len(expected)
    assert column(stored, "trade_number") == list(range(1, len(stored) + 1))
    for trade in expected:
        trade["detected_at"] = trade["detection_timestamp"]
    for name in (
        *("symbol", "pattern", "variant", "direction", "detected_at", "entry_time", "exit_time", "exit_reason"),
    ):
        assert column(stored, name) == column(expected, name), name
    for name in ("entry_price", "exit_price", "quantity", "costs", "dividends", "pnl"):
        assert_rounded(column(stored, name), column(expected, name), 8)
    assert_rounded(column(stored, "r_multiple"), column(expected, "r_multiple"), 6)


def test_figures_of_every_strategy_are_those_of_a_naive_backtest(
    demo_database: Engine, naive_scopes: dict[Any, Any]
) -> None:
    stored = {
        (row["scope"], row["strategy_name"]): row for row in query(demo_database, "SELECT * FROM backtest_results")
    }
    expected = {
        (scope, f"{pattern} {variant}".strip()): naive.figures(
            played, TERMS["capital"], RISK_FREE_RATE, SESSIONS_A_YEAR
        )
        for (scope, pattern, variant), played in naive_scopes.items()
    }
    assert stored.keys() == expected.keys()
    for name in ("patterns_detected", "signals", "winning", "losing", "look_ahead_bias_check"):
        assert {key: row[name] for key, row in stored.items()} == {key: row[name] for key, row in expected.items()}
    for name in ("win_rate", "average_r_multiple", "roi", "sharpe", "sortino", "max_drawdown", "profit_factor"):
        assert_rounded((row[name] for row in stored.values()), (expected[key][name] for key in stored), 6)
    assert_rounded((row["expectancy"] for row in stored.values()), (expected[key]["expectancy"] for key in stored), 8)


def test_the_minutes_of_the_last_month_add_up_to_the_days_of_the_file(demo: Demo, demo_database: Engine) -> None:
    assert demo.summary["minutes"] == N_MINUTES
    minutes = query(
        demo_database,
        """SELECT symbol, (timestamp AT TIME ZONE 'America/New_York')::date AS date, timestamp, source,
                  open, high, low, close, volume FROM ohlcv_1min ORDER BY symbol, timestamp""",
    )
    assert set(column(minutes, "source")) == {"synthetic"}
    days: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in minutes:
        days.setdefault((row["symbol"], str(row["date"])), []).append(row)
    found = {
        day: (
            bars[0]["open"], max(column(bars, "high")), min(column(bars, "low")), bars[-1]["close"], sum(column(bars, "volume"))
        )
        for day, bars in days.items()
    }  # fmt: skip
    assert found == {
        (row["Ticker"], row["Date"]): tuple(Decimal(row[name]) for name in ("Open", "High", "Low", "Close", "Volume"))
        for row in oracle.file_rows()
        if row["Date"] >= "2013-02-01"
    }
    for table, n_minutes in {"ohlcv_5min": 5, "ohlcv_15min": 15}.items():
        [count] = query(demo_database, f"SELECT count(*) AS n FROM {table}")
        assert count["n"] == N_MINUTES / n_minutes
    # From half past nine to four o'clock seven hours are touched.
    assert query(demo_database, "SELECT count(*) AS n FROM ohlcv_1h") == [{"n": 5 * 20 * 7}]


# Which hours were rolled up is noted until the next time, for the check in between.
NOTES = "touched_buckets"


def rows_with_writer(engine: Engine) -> dict[str, list[str]]:
    """Return every row of every table as text, with the transaction that wrote it."""
    tables = column(
        query(
            engine,
            f"SELECT relname FROM pg_stat_user_tables WHERE schemaname = 'public' AND relname <> '{NOTES}'",
        ),
        "relname",
    )
    return {
        table: sorted(column(query(engine, f"SELECT t.xmin || ' ' || t::text AS row FROM \"{table}\" t"), "row"))
        for table in tables
    }


def writes(engine: Engine) -> list[dict[str, Any]]:
    return query(
        engine,
        "SELECT relname, n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_user_tables "
        f"WHERE schemaname = 'public' AND relname <> '{NOTES}' ORDER BY relname",
    )


def landed_files(home: Path) -> dict[str, tuple[int, str]]:
    return {
        str(path): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted((home / "landing").rglob("*"))
        if path.is_file()
    }


def materializations(home: Path) -> dict[str, int]:
    """Return how often Dagster has recorded each asset, once a partition where it has any."""
    engine = create_engine(make_url(embedded.acquire(home).url("dagster")).set(drivername="postgresql+psycopg"))
    rows = query(
        engine,
        "SELECT asset_key, count(*) AS n FROM event_logs WHERE dagster_event_type = 'ASSET_MATERIALIZATION' "
        "GROUP BY asset_key",
    )
    engine.dispose()
    return {json.loads(row["asset_key"])[-1]: row["n"] for row in rows}


def test_the_demo_again_runs_every_asset_and_changes_no_row(demo: Demo, demo_database: Engine) -> None:
    rows, written, files, runs = (
        rows_with_writer(demo_database),
        writes(demo_database),
        landed_files(demo.home),
        materializations(demo.home),
    )
    assert len(rows["ohlcv_daily"]) == oracle.N_BARS
    assert len(files) == len(rows["load_ledger"]) == 5 + N_MONTHS
    assert len(rows["ohlcv_1min"]) == N_MINUTES
    again = tickstock("demo", home=demo.home)
    assert again.returncode == 0, again.stderr
    said = " ".join(again.stdout.split())
    assert "12,154 bars stored over 5 symbols, 0 quarantined." in said
    assert "Backtest of" in said
    more = {asset: n - runs[asset] for asset, n in materializations(demo.home).items()}
    assert more == (
        dict.fromkeys(UNPARTITIONED, 1) | dict.fromkeys(PARTITIONED, N_PARTITIONS) | dict.fromkeys(MINUTES, N_MONTHS)
    )
    # The same transactions have written the same rows, the ledger's moments and attempts among them.
    assert rows_with_writer(demo_database) == rows
    # No write was tried and undone either.
    assert writes(demo_database) == written
    assert landed_files(demo.home) == files
