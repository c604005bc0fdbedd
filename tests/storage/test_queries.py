"""Named queries against sums by hand, and by pandas on the same rows."""

import math
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import Connection, Engine, text

from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.storage.arrow import ArrowPool
from tickstock_assets.storage.bulk import merge
from tickstock_assets.storage.queries import (
    PriceLevel,
    StrategyPerformance,
    latest_bar,
    price_statistics,
    strategy_performance,
    volume_profile,
)
from tickstock_assets.storage.table_sizes import table_sizes
from tickstock_assets.storage.trade_queries import SignalFilter, TickFilter, TradeFilter, signals, ticks, trades

HOSTILE = "x' OR '1'='1'; DROP TABLE signals; --"
OPEN = datetime(2024, 7, 1, 13, 30, tzinfo=UTC)


@pytest.fixture
def connection(database: Engine) -> Iterator[Connection]:
    with database.begin() as opened:
        opened.execute(text("INSERT INTO symbols (symbol) VALUES ('AAPL'), ('MSFT')"))
        yield opened


def random_bars(n: int) -> pd.DataFrame:
    draw = np.random.default_rng(7)
    close = np.round(100 * np.exp(np.cumsum(draw.normal(0, 0.02, n))), 2)
    return pd.DataFrame(
        {
            "symbol": "AAPL", "date": pd.bdate_range("2024-01-01", periods=n).as_unit("us"), "open": close,
            "high": np.round(close * 1.01, 2), "low": np.round(close * 0.99, 2), "close": close,
            "volume": draw.integers(1, 1000, n).astype(float), "source": "sample",
        }
    )  # fmt: skip


# --- bars


def test_the_latest_bar_is_exact_and_at_its_sessions_open(connection: Connection) -> None:
    frame = random_bars(3).assign(close=[1.1, 2.2, 28.08951234], high=100.0, low=1.0, open=2.0)
    merge(connection, "ohlcv_daily", frame)
    day = date(2024, 1, 3)
    connection.execute(
        text("INSERT INTO sessions (exchange, session, open, close) VALUES ('XNYS', :day, :open, :close)"),
        {"day": day, "open": datetime(2024, 1, 3, 14, 30, tzinfo=UTC), "close": datetime(2024, 1, 3, 21, tzinfo=UTC)},
    )
    found = latest_bar(connection, "AAPL", "daily")
    assert found is not None
    assert (found.date, found.timestamp) == (day, datetime(2024, 1, 3, 14, 30, tzinfo=UTC))
    assert (found.close, found.timeframe, found.source) == (Decimal("28.08951234"), "1d", "sample")
    assert latest_bar(connection, "MSFT") is None
    assert latest_bar(connection, HOSTILE[:32]) is None
    assert latest_bar(connection, "AAPL", "1m") is None


def test_statistics_are_those_of_pandas_over_the_days_before_the_data_end(connection: Connection) -> None:
    frame = random_bars(90)
    merge(connection, "ohlcv_daily", frame)
    recent = frame[frame["date"] > frame["date"].max() - pd.Timedelta(days=30)]
    found = price_statistics(connection, "AAPL", 30)
    assert found is not None
    assert (found.count, found.first, found.last) == (
        len(recent), recent["date"].iloc[0].date(), recent["date"].iloc[-1].date(),
    )  # fmt: skip
    close = recent["close"]
    assert (found.min, found.max, found.current) == tuple(
        Decimal(f"{value:.8f}") for value in (close.min(), close.max(), close.iloc[-1])
    )
    assert float(found.mean) == pytest.approx(close.mean(), rel=1e-9)
    assert float(found.std or 0) == pytest.approx(close.std(), rel=1e-7)
    assert found.z_score == pytest.approx((close.iloc[-1] - close.mean()) / close.std(), rel=1e-9)


def test_statistics_of_one_bar_have_no_deviation(connection: Connection) -> None:
    merge(connection, "ohlcv_daily", random_bars(5).assign(high=200.0, low=1.0))
    found = price_statistics(connection, "AAPL", 1)
    assert found is not None
    assert (found.count, found.std, found.z_score) == (1, None, None)
    assert price_statistics(connection, "MSFT") is None


def test_statistics_of_equal_prices_have_no_z_score(connection: Connection) -> None:
    merge(connection, "ohlcv_daily", random_bars(3).assign(open=10.0, high=10.0, low=10.0, close=10.0))
    found = price_statistics(connection, "AAPL", 30)
    assert found is not None
    assert (found.mean, found.std, found.z_score) == (Decimal("10.00000000"), Decimal(0), None)


def test_statistics_of_minutes_count_days_back_from_the_last_one(connection: Connection) -> None:
    minutes = [OPEN, OPEN + timedelta(hours=1), OPEN + timedelta(days=1), OPEN + timedelta(days=1, minutes=1)]
    for number, at in enumerate(minutes):
        connection.execute(
            text("""
                INSERT INTO ohlcv_1min (symbol, timestamp, open, high, low, close, volume, source)
                VALUES ('AAPL', :at, :price, :price, :price, :price, 1, 'sample')
            """),
            {"at": at, "price": 10 + number},
        )
    found = price_statistics(connection, "AAPL", 1, "minute")
    assert found is not None
    # A day before 13:31 is 13:31 of the day before, itself not included.
    assert (found.count, found.first, found.mean) == (3, minutes[1], Decimal("12.00000000"))


def test_volume_by_price_level_by_hand(connection: Connection) -> None:
    rows = [(10.0, 12.0, 11.0, 100.0), (10.0, 20.0, 18.0, 30.0), (19.0, 20.0, 20.0, 5.0)]  # low, high, close, volume
    frame = random_bars(3)
    frame[["low", "high", "close", "volume"]] = rows
    merge(connection, "ohlcv_daily", frame.assign(open=frame["close"]))
    # Typical prices are 11, 16 and 19.67; levels of two from 10 to 20.
    volumes = [100, 0, 0, 30, 5]
    assert volume_profile(connection, "AAPL", levels=5) == [
        PriceLevel(Decimal(10 + 2 * n), Decimal(12 + 2 * n), Decimal(volume), 1 if volume else 0)
        for n, volume in enumerate(volumes)
    ]
    assert sum(level.volume for level in volume_profile(connection, "AAPL", start=date(2024, 1, 2))) == 35
    assert sum(level.volume for level in volume_profile(connection, "AAPL", end=date(2024, 1, 2))) == 100
    assert volume_profile(connection, "MSFT") == []


def test_volume_by_price_level_is_that_of_numpy(connection: Connection) -> None:
    frame = random_bars(200)
    merge(connection, "ohlcv_daily", frame)
    typical = (frame["high"] + frame["low"] + frame["close"]) / 3
    expected, edges = np.histogram(
        typical, bins=24, range=(frame["low"].min(), frame["high"].max()), weights=frame["volume"]
    )
    found = volume_profile(connection, "AAPL")
    assert [float(level.volume) for level in found] == expected.tolist()
    assert [float(level.low) for level in found] == pytest.approx(edges[:-1].tolist(), abs=1e-8)


def test_a_single_price_is_a_single_level(connection: Connection) -> None:
    merge(connection, "ohlcv_daily", random_bars(2).assign(open=7.0, high=7.0, low=7.0, close=7.0, volume=3.0))
    assert volume_profile(connection, "AAPL") == [PriceLevel(Decimal(7), Decimal(7), Decimal(6), 2)]


@pytest.mark.parametrize("value", [0, -1, 100_001, 1.5, True, "30"])
def test_what_cannot_be_a_number_of_days_or_levels_is_refused(value: Any) -> None:
    nowhere: Any = None  # refused before the database is asked
    with pytest.raises(ConfigError, match="days: expected a whole number from 1 to 100,000"):
        price_statistics(nowhere, "AAPL", value)
    with pytest.raises(ConfigError, match="levels: expected a whole number from 1 to 1,000"):
        volume_profile(nowhere, "AAPL", levels=value)


def test_moments_of_daily_profiles_and_naive_ones_are_refused() -> None:
    nowhere: Any = None
    with pytest.raises(ConfigError, match="start: expected a date, as the bars are daily"):
        volume_profile(nowhere, "AAPL", start=OPEN)
    with pytest.raises(ConfigError, match="end: expected a datetime with a time zone"):
        volume_profile(nowhere, "AAPL", "1m", end=datetime(2024, 7, 1))  # noqa: DTZ001 the fault


# --- signals and trades

RUN = uuid4()
SIGNALS = [
    # strategy, symbol, status, executed, pnl
    ("breakout", "AAPL", "CLOSED", True, "120.50"),
    ("breakout", "AAPL", "CLOSED", True, "-20.25"),
    ("breakout", "MSFT", "CLOSED", True, "0"),
    ("breakout", "MSFT", "PENDING", False, None),
    ("reversal", "AAPL", "APPROVED", False, None),
]


@pytest.fixture
def signalled(database: Engine, connection: Connection) -> Engine:
    """Five signals, one an hour, and three trades of a backtest; committed."""
    for number, (strategy, symbol, status, executed, pnl) in enumerate(SIGNALS):
        connection.execute(
            text("""
                INSERT INTO signals (id, symbol, timeframe, signal_type, strategy_name, generated_at, entry_price,
                                     r_multiple, status, executed, execution_price, realized_pnl)
                VALUES (:id, :symbol, '1d', 'LONG', :strategy, :at, 10.5, 2.5, :status, :executed, :price, :pnl)
            """),
            {"id": UUID(int=number), "symbol": symbol, "strategy": strategy, "status": status, "executed": executed,
             "at": OPEN + timedelta(hours=number), "price": 10.5 if executed else None, "pnl": pnl},
        )  # fmt: skip
    connection.execute(
        text("""
            INSERT INTO backtest_runs (id, config, config_hash, code_version, data_as_of, data_hash, data_source,
                                       started_at, finished_at)
            VALUES (:run, '{}', 'x', '1', :at, 'y', 'sample', :at, :at)
        """),
        {"run": RUN, "at": OPEN},
    )
    for number, (pattern, variant, pnl) in enumerate(
        [("sma_cross", "5/20", 30), ("sma_cross", "5/20", -10), ("doji", "", 5)]
    ):
        connection.execute(
            text("""
                INSERT INTO backtest_trades (run, trade_number, symbol, pattern, variant, direction, detected_at, entry_time,
                    entry_price, exit_time, exit_price, quantity, costs, dividends, pnl, exit_reason)
                VALUES (:run, :number, 'AAPL', :pattern, :variant, 'LONG', :at, :at, 10, :exit, 11, 5, 0.5, 0, :pnl, 'time')
            """),
            {"run": RUN, "number": number + 1, "pattern": pattern, "variant": variant, "pnl": pnl,
             "at": OPEN + timedelta(hours=number), "exit": OPEN + timedelta(days=5)},
        )  # fmt: skip
    connection.commit()
    return database


def test_a_strategys_performance_by_hand(signalled: Engine) -> None:
    with signalled.connect() as connection:
        breakout, reversal = strategy_performance(connection)
        # One of three closed ones has a profit; nothing won is not a win. The mean is 100.25 / 3.
        assert breakout == StrategyPerformance(
            "breakout", 4, 3, Decimal("0.333333"), Decimal("33.41666667"), Decimal("100.25"), Decimal("120.5"),
            Decimal("-20.25"),
        )  # fmt: skip
        assert reversal == StrategyPerformance("reversal", 1, 0, None, None, Decimal(0), None, None)
        assert strategy_performance(connection, "reversal") == [reversal]
        assert strategy_performance(connection, HOSTILE) == []
        [of_msft] = strategy_performance(connection, symbol="MSFT")
        assert (of_msft.total_signals, of_msft.closed, of_msft.win_rate) == (2, 1, Decimal(0))
        [late] = strategy_performance(
            connection, "breakout", start=OPEN + timedelta(hours=1), end=OPEN + timedelta(hours=2)
        )
        assert (late.total_signals, late.total_pnl) == (1, Decimal("-20.25"))


def test_the_performance_of_a_backtests_trades(signalled: Engine) -> None:
    with signalled.connect() as connection:
        doji, cross = strategy_performance(connection, run=RUN)
        assert (doji.strategy_name, cross.strategy_name) == ("doji", "sma_cross 5/20")
        assert (cross.total_signals, cross.win_rate, cross.total_pnl) == (2, Decimal("0.5"), Decimal(20))
        assert (cross.best_trade, cross.worst_trade) == (Decimal(30), Decimal(-10))
        assert strategy_performance(connection, run=uuid4()) == []


def test_signals_by_filter_newest_first(signalled: Engine) -> None:
    def numbers(which: SignalFilter | None = None, limit: int | None = None) -> list[int]:
        return [UUID(one).int for one in signals(pool, which, limit=limit)["id"].to_pylist()]

    with ArrowPool(signalled.url) as pool:
        assert numbers() == [4, 3, 2, 1, 0]
        assert numbers(SignalFilter(executed=False)) == [4, 3]
        assert numbers(SignalFilter(executed=False, status="PENDING")) == [3]
        assert numbers(SignalFilter(symbols=["MSFT"], timeframe="daily", signal_type="LONG")) == [3, 2]
        assert numbers(SignalFilter(start=OPEN + timedelta(hours=1), end=OPEN + timedelta(hours=3))) == [2, 1]
        assert numbers(SignalFilter(strategy_name="breakout"), limit=2) == [3, 2]
        assert numbers(SignalFilter(strategy_name=HOSTILE)) == []
        assert numbers(SignalFilter(symbols=["' OR 1=1 --"])) == []
        row = signals(pool, limit=1).to_pylist()[0]
        assert (row["entry_price"], row["realized_pnl"], row["generated_at"]) == (10.5, None, OPEN + timedelta(hours=4))


def test_trades_by_filter_in_their_order(signalled: Engine) -> None:
    def numbers(which: TradeFilter) -> list[int]:
        return list(trades(pool, which)["trade_number"].to_pylist())

    with ArrowPool(signalled.url) as pool:
        assert numbers(TradeFilter()) == [1, 2, 3]
        assert numbers(TradeFilter(run=RUN, profitable=True)) == [1, 3]
        assert numbers(TradeFilter(profitable=False)) == [2]
        assert numbers(TradeFilter(pattern="sma_cross", exit_reason="time", direction="LONG", symbols="AAPL")) == [1, 2]
        assert numbers(TradeFilter(run=uuid4())) == []


def test_ticks_by_filter_in_order_of_time(signalled: Engine) -> None:
    with signalled.begin() as connection:
        for number in range(3):
            connection.execute(
                text("""
                    INSERT INTO ticks (symbol, timestamp, exchange, trade_id, price, quantity, source)
                    VALUES ('AAPL', :at, 'XNAS', :id, 10.5, 2, 'sample')
                """),
                {"at": OPEN - timedelta(seconds=number), "id": str(number)},
            )
    with ArrowPool(signalled.url) as pool:
        recent = TickFilter(symbols="AAPL", start=OPEN - timedelta(seconds=1))
        found = ticks(pool, recent, columns=["quote_quantity", "trade_id"])
        assert found.column_names == ["symbol", "timestamp", "quote_quantity", "trade_id"]
        assert ticks(pool, recent).slice(1).to_pylist() == [
            {
                "symbol": "AAPL", "timestamp": OPEN, "exchange": "XNAS", "trade_id": "0", "price": 10.5, "quantity": 2.0,
                "side": None,
            }
        ]  # fmt: skip
        assert found["trade_id"].to_pylist() == ["1", "0"]
        assert found["quote_quantity"].to_pylist() == [21.0, 21.0]
        assert ticks(pool, TickFilter(exchange="XNYS")).num_rows == 0


@pytest.mark.parametrize(
    ("which", "said"),
    [
        (SignalFilter(status="LOST"), "status: expected one of PENDING, .* found 'LOST'"),  # type: ignore[arg-type]
        (SignalFilter(executed="no"), "executed: expected a true or false"),  # type: ignore[arg-type]
        (SignalFilter(strategy_name="a\0"), "strategy_name: expected a text"),
        (SignalFilter(start=datetime(2024, 1, 1)), "start: expected a datetime with a time zone"),  # noqa: DTZ001
        (SignalFilter(timeframe="2d"), "timeframe: expected one of"),
        (TradeFilter(run="not one"), "run: expected a UUID, found 'not one'"),  # type: ignore[arg-type]
        (TradeFilter(exit_reason="'; --"), "exit_reason: expected one of"),  # type: ignore[arg-type]
    ],
)
def test_what_no_filter_can_mean_is_refused(which: Any, said: str) -> None:
    nowhere: Any = None
    with pytest.raises(ConfigError, match=said):
        (signals if isinstance(which, SignalFilter) else trades)(nowhere, which)


def test_a_column_that_ticks_do_not_have_is_refused() -> None:
    nowhere: Any = None
    with pytest.raises(ConfigError, match=r"columns: expected some of exchange, .* found 'price; --'"):
        ticks(nowhere, columns=["price; --"])


def test_limits_are_bounded() -> None:
    nowhere: Any = None
    for limit in (0, -1, 1_000_001, 1.0, True):
        with pytest.raises(ConfigError, match="limit: expected a whole number from 1 to 1,000,000"):
            signals(nowhere, limit=limit)  # type: ignore[arg-type]


# --- sizes


def test_sizes_name_every_table_and_grow_with_its_rows(connection: Connection, tier: str) -> None:
    before = {size.name: size for size in table_sizes(connection)}
    assert before.keys() >= {"symbols", "ohlcv_daily", "ohlcv_1min", "patterns", "audit_trail"}
    merge(connection, "ohlcv_daily", random_bars(2000))
    after = {size.name: size for size in table_sizes(connection)}
    assert after["ohlcv_daily"].kind == ("table" if tier == "embedded" else "hypertable")
    grown = after["ohlcv_daily"].total_bytes - before["ohlcv_daily"].total_bytes
    # 2,000 rows of some 80 bytes, and their indexes.
    assert 160_000 < grown < 4_000_000
    for size in after.values():
        assert math.isclose(size.table_bytes + size.index_bytes, size.total_bytes, abs_tol=1)
    assert list(after.values()) == sorted(after.values(), key=lambda size: (-size.total_bytes, size.name))
