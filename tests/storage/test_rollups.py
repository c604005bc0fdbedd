"""Rollups are what their minutes say, on every tier: after late, corrected and removed minutes, and after retention."""

import itertools
import threading
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from tests.storage import tiers as servers
from tests.storage.rollup_oracles import ROLLUPS, as_bars, by_duckdb, by_pandas, by_session, by_the_clock, stored
from tests.storage.servers import wait_until
from tests.storage.test_tiers import change, rows
from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.domain.minute_walk import minute_bars
from tickstock_assets.domain.sessions import trading_sessions
from tickstock_assets.domain.windows import Window
from tickstock_assets.storage import minutes_dropped, removal, retention, rollups, tiers, touched_buckets
from tickstock_assets.storage import sessions as stored_sessions
from tickstock_assets.storage.audit import Run
from tickstock_assets.storage.bulk import merge
from tickstock_assets.storage.database import driver, server_time
from tickstock_assets.storage.partition_counts import days_changed_since

# Around both clock changes of 2012, and its three half days.
WEEKS = (("2012-03-08", "2012-03-13"), ("2012-07-03", "2012-07-05"), ("2012-11-01", "2012-11-06"),
         ("2012-11-21", "2012-11-26"), ("2012-12-24", "2012-12-26"))  # fmt: skip
OPEN = datetime(2012, 3, 12, 13, 30, tzinfo=UTC)
SESSION = date(2012, 3, 12)
ONE_MINUTE = timedelta(minutes=1)


def write(engine: Engine, table: str, frame: pd.DataFrame) -> Any:
    with engine.begin() as connection:
        return merge(connection, table, frame)


def roll_up(engine: Engine, **options: Any) -> tuple[rollups.RollupCounts, rollups.RollupCounts]:
    return rollups.roll_up_intraday(engine, **options), rollups.roll_up_daily(engine, **options)


def remove(engine: Engine, symbol: str, start: datetime, end: datetime, reason: str = "a test print") -> int:
    with engine.begin() as connection:
        return removal.remove_minutes(connection, symbol, start, end, reason)


def sessions_of_weeks() -> pd.DataFrame:
    parts = [trading_sessions("XNYS", date.fromisoformat(a), date.fromisoformat(b)) for a, b in WEEKS]
    return pd.concat(parts, ignore_index=True)


def daily_bars(sessions: pd.DataFrame, seed: int) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    opens = 100 + draw.integers(-500, 500, len(sessions)) / 100
    closes = opens + draw.integers(-90, 90, len(sessions)) / 100
    return pd.DataFrame(
        {
            "date": sessions["session"], "open": opens.round(2), "high": (np.maximum(opens, closes) + 0.31).round(2),
            "low": (np.minimum(opens, closes) - 0.27).round(2), "close": closes.round(2),
            "volume": draw.integers(200_000, 900_000, len(sessions)).astype(float),
        }
    )  # fmt: skip


def calendar(engine: Engine, *symbols: str, exchange: str = "XNYS") -> None:
    """Symbols, and the sessions of 2012 and a little before and after."""
    sessions = trading_sessions("XNYS", date(2011, 12, 1), date(2013, 1, 31))
    if not rows(engine, "SELECT FROM sessions LIMIT 1"):
        write(engine, "sessions", sessions)
    write(engine, "symbols", pd.DataFrame({"symbol": list(symbols), "exchange": exchange}))


def minutes_at(symbol: str, start: datetime, count: int = 1, **values: Any) -> pd.DataFrame:
    """Minutes of a price that differs from minute to minute."""
    price = [100 + (start.minute + n) / 100 for n in range(count)]
    bars = {"open": price, "high": [p + 1 for p in price], "low": [p - 1 for p in price], "close": price}
    return pd.DataFrame(
        {
            "symbol": symbol, "timestamp": pd.date_range(start, periods=count, freq="min").as_unit("us"), **bars,
            "volume": 100.0, "quote_volume": 10.0, "vwap": price, "trades_count": 3, "source": "polygon", **values,
        }
    )  # fmt: skip


def an_uneven_market(engine: Engine) -> pd.DataFrame:
    """Generated minutes of two symbols, then: holes, extended hours, no vwap here, fractions there, several sources."""
    calendar(engine, "AAPL", "THIN")
    sessions, draw = sessions_of_weeks(), np.random.default_rng(7)
    parts = []
    for seed, symbol in enumerate(("AAPL", "THIN")):
        bars = minute_bars(symbol, daily_bars(sessions, seed), sessions).drop(columns="date")
        early = bars.groupby(bars["timestamp"].dt.date).head(40)
        after = bars.groupby(bars["timestamp"].dt.date).tail(25)
        bars = pd.concat(
            [
                early.assign(timestamp=early["timestamp"] - pd.Timedelta("55min"), high=early["high"] + 7),
                bars,
                after.assign(timestamp=after["timestamp"] + pd.Timedelta("61min"), low=after["low"] - 7),
            ]
        ).drop_duplicates("timestamp")
        parts.append(bars.assign(symbol=symbol))
    frame = pd.concat(parts, ignore_index=True)
    frame = frame[draw.random(len(frame)) > np.where(frame["symbol"] == "THIN", 0.8, 0.02)].reset_index(drop=True)
    frame["vwap"] = frame["vwap"].where(draw.random(len(frame)) > 0.2)
    frame["quote_volume"] = np.where(draw.random(len(frame)) > 0.5, (frame["volume"] * frame["close"]).round(4), np.nan)
    frame["volume"] = np.where(draw.random(len(frame)) > 0.5, frame["volume"], (frame["volume"] * 0.37).round(5))
    frame["source"] = draw.choice(
        ["polygon", "sample", "synthetic", "ticks:polygon"], len(frame), p=[0.94, 0.02, 0.02, 0.02]
    )
    write(engine, "ohlcv_1min", frame)
    return stored(engine, "ohlcv_1min")


# --- the oracles


def test_rollups_are_what_pandas_and_duckdb_make_of_the_minutes_across_clock_changes_and_half_days(
    database: Engine,
) -> None:
    minutes = an_uneven_market(database)
    roll_up(database)
    for table, length in ROLLUPS.items():
        found = as_bars(stored(database, table))
        assert len(found) > 200
        assert found == by_pandas(minutes, by_the_clock(length))
        assert found == by_duckdb(minutes, length)
    assert rollups.verify(database, only_touched=False).empty


def test_daily_rollups_are_what_pandas_makes_of_the_regular_hours_of_each_session(database: Engine) -> None:
    minutes = an_uneven_market(database)
    roll_up(database)
    expected = by_pandas(minutes, by_session("XNYS", "2012-03-01", "2012-12-31"))
    # 2 symbols, 4 + 2 + 4 + 3 + 2 sessions.
    assert len(expected) == 30
    found = as_bars(stored(database, "ohlcv_daily"))
    assert found == {key: (*values[:-1], f"rollup:{values[-1]}") for key, values in expected.items()}


def test_a_day_rolled_up_from_generated_minutes_is_the_daily_bar_they_were_made_for(database: Engine) -> None:
    calendar(database, "AAPL")
    sessions = trading_sessions("XNYS", date(2012, 6, 25), date(2012, 7, 6))
    daily = daily_bars(sessions, 3)
    minutes = minute_bars("AAPL", daily, sessions).drop(columns="date").assign(symbol="AAPL", source="synthetic")
    write(database, "ohlcv_1min", minutes)
    _, counts = roll_up(database)
    assert counts.bars["1d"].written == len(daily) == 9
    found = rows(
        database,
        "SELECT date, open::float8, high::float8, low::float8, close::float8, volume::float8 FROM ohlcv_daily ORDER BY date",
    )
    assert found == [(row.date.date(), *row[2:]) for row in daily.itertuples()]
    assert rows(database, "SELECT DISTINCT source FROM ohlcv_daily") == [("rollup:synthetic",)]


# --- what is touched


def touched(engine: Engine) -> list[tuple[Any, ...]]:
    return rows(
        engine,
        "SELECT symbol, to_char(timestamp, 'MM-DD HH24:MI'), intraday_at IS NOT NULL, daily_at IS NOT NULL "
        "FROM touched_buckets ORDER BY symbol, timestamp",
    )


def test_a_write_touches_the_hours_of_what_it_changed_and_one_that_is_undone_touches_none(database: Engine) -> None:
    calendar(database, "AAPL", "MSFT")
    both = pd.concat([minutes_at("MSFT", OPEN, 40), minutes_at("AAPL", OPEN, 5)])
    write(database, "ohlcv_1min", both)
    fresh = [
        (*hour, False, False) for hour in (("AAPL", "03-12 13:00"), ("MSFT", "03-12 13:00"), ("MSFT", "03-12 14:00"))
    ]
    assert touched(database) == fresh
    change(database, "DELETE FROM touched_buckets")
    assert write(database, "ohlcv_1min", both).unchanged == 45
    assert touched(database) == []
    late = minutes_at("MSFT", OPEN + timedelta(minutes=35), 3, close=99.5)
    assert write(database, "ohlcv_1min", late).corrected == 3
    assert touched(database) == [("MSFT", "03-12 14:00", False, False)]
    change(database, "DELETE FROM touched_buckets")
    with database.connect() as connection:
        merge(connection, "ohlcv_1min", minutes_at("AAPL", OPEN - timedelta(hours=3)))
        connection.rollback()
    assert touched(database) == []
    remove(database, "AAPL", OPEN, OPEN + timedelta(minutes=2))
    assert touched(database) == [("AAPL", "03-12 13:00", False, False)]


def test_where_nothing_is_stale_nothing_is_done_and_what_was_checked_is_forgotten(database: Engine) -> None:
    calendar(database, "AAPL")
    write(database, "ohlcv_1min", minutes_at("AAPL", OPEN, 90))
    steps: list[tuple[int, int]] = []
    intraday, daily = roll_up(database, on_progress=lambda done, total: steps.append((done, total)))
    assert (intraday.hours, daily.hours) == (2, 2)
    assert steps[-1] == (2, 2)
    assert touched(database) == [("AAPL", "03-12 13:00", True, True), ("AAPL", "03-12 14:00", True, True)]
    again = roll_up(database)
    assert [(counts.hours, counts.written) for counts in again] == [(0, 0), (0, 0)]
    assert touched(database) == []


@pytest.mark.tiers(servers.EMBEDDED, servers.APACHE)
def test_only_bars_whose_values_differ_are_written(database: Engine) -> None:
    calendar(database, "AAPL")
    write(database, "ohlcv_1min", minutes_at("AAPL", OPEN, 60))
    first, _ = roll_up(database)
    # From 13:30 to 14:29: 12 bars of 5 minutes, 4 of 15, 2 of the hour.
    assert {name: bars.written for name, bars in first.bars.items()} == {"5m": 12, "15m": 4, "1h": 2}
    write(database, "ohlcv_1min", minutes_at("AAPL", OPEN + timedelta(minutes=1), 1, volume=150.0))
    second, daily = roll_up(database)
    assert second.hours == 1
    # The hour of 13:00 has 6, 2 and 1 of them, of which one each changes.
    assert {name: (bars.written, bars.unchanged) for name, bars in second.bars.items()} == {
        "5m": (1, 5), "15m": (1, 1), "1h": (1, 0),
    }  # fmt: skip
    assert daily.bars["1d"].written == 1
    assert rows(database, "SELECT volume FROM ohlcv_daily") == [(Decimal(6050),)]


def test_windows_leave_everything_else_stale(database: Engine) -> None:
    calendar(database, "AAPL", "MSFT")
    for symbol, start in (("AAPL", OPEN), ("MSFT", OPEN), ("AAPL", OPEN + timedelta(days=7))):
        write(database, "ohlcv_1min", minutes_at(symbol, start, 5))
    intraday, daily = roll_up(database, windows=[Window("AAPL", SESSION, SESSION)])
    assert (intraday.hours, daily.hours) == (1, 1)
    assert touched(database) == [
        ("AAPL", "03-12 13:00", True, True), ("AAPL", "03-19 13:00", False, False), ("MSFT", "03-12 13:00", False, False),
    ]  # fmt: skip


# --- at random


class Market:
    """Minutes of one symbol that change at random, and what their rollups should be."""

    def __init__(self, engine: Engine, symbol: str) -> None:
        self.engine, self.symbol = engine, symbol

    def load(self, start: int, count: int, price: int, how: tuple[bool, bool, str]) -> None:
        has_vwap, has_quotes, source = how
        frame = minutes_at(self.symbol, OPEN - timedelta(minutes=60) + start * ONE_MINUTE, count, source=source)
        frame = frame.assign(close=100 + price / 10_000, volume=100 + price / 3)
        frame["vwap"] = 99.5 + price / 7 if has_vwap else None
        frame["quote_volume"] = 5.0 + price if has_quotes else None
        write(self.engine, "ohlcv_1min", frame.assign(high=200.0, low=50.0))

    def remove(self, start: int, count: int) -> None:
        begin = OPEN - timedelta(minutes=60) + start * ONE_MINUTE
        remove(self.engine, self.symbol, begin, begin + count * ONE_MINUTE)

    def check(self) -> None:
        window = [Window(self.symbol, SESSION, SESSION)]
        roll_up(self.engine, windows=window)
        minutes = stored(self.engine, "ohlcv_1min", self.symbol)
        for table, length in ROLLUPS.items():
            assert as_bars(stored(self.engine, table, self.symbol)) == by_pandas(minutes, by_the_clock(length))
        days = by_pandas(minutes, by_session("XNYS", "2012-03-01", "2012-03-31"))
        expected = {key: (*values[:-1], f"rollup:{values[-1]}") for key, values in days.items()}
        assert as_bars(stored(self.engine, "ohlcv_daily", self.symbol)) == expected
        assert rollups.verify(self.engine, window).empty
        assert rollups.verify(self.engine, window, only_touched=False).empty


# The hour before the open, the session of 390 minutes, and an hour after it.
STARTS = st.integers(0, 500)
SOURCES = st.sampled_from(["polygon", "sample", "synthetic", "ticks:polygon"])
LOADS = st.tuples(
    st.just("load"), STARTS, st.integers(1, 80), st.integers(0, 9_999), st.tuples(st.booleans(), st.booleans(), SOURCES)
)
REMOVALS = st.tuples(st.just("remove"), STARTS, st.integers(1, 300))
STEPS = st.lists(LOADS | LOADS | REMOVALS | st.tuples(st.just("check")), min_size=2, max_size=6)
NUMBERS = itertools.count()


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_whatever_is_inserted_late_corrected_and_removed_rollups_are_what_the_minutes_say(
    database: Engine, steps: list[tuple[Any, ...]]
) -> None:
    symbol = f"S{next(NUMBERS)}"
    calendar(database, symbol)
    market = Market(database, symbol)
    for verb, *arguments in [*steps, ("check",)]:
        getattr(market, verb)(*arguments)


# --- the check


def rollup_table(engine: Engine, table: str) -> str:
    """Return the table in which the bars of a rollup lie; a continuous aggregate's is a hypertable of the extension."""
    if not rows(engine, "SELECT to_regclass('tier.ohlcv_1h') IS NOT NULL AS there")[0][0]:
        return table
    ((schema, name),) = rows(
        engine,
        "SELECT materialization_hypertable_schema, materialization_hypertable_name "
        "FROM timescaledb_information.continuous_aggregates WHERE view_schema = 'tier' AND view_name = :name",
        name=table,
    )
    return f"{schema}.{name}"


CORRUPTIONS = {
    "open": "open + 0.00000001", "high": "high + 0.01", "low": "low - 0.01", "close": "close - 0.00000001",
    "volume": "volume + 0.00000001", "quote_volume": "NULL", "vwap": "vwap + 0.00000001", "trades_count": "trades_count + 1",
    "exchange": "'XLON'", "source": "'sample'",
}  # fmt: skip


@pytest.mark.parametrize("timeframe", ["5m", "15m", "1h", "1d"])
def test_the_check_finds_a_rollup_that_is_corrupted_on_purpose_in_whichever_column(
    database: Engine, timeframe: str
) -> None:
    calendar(database, "AAPL")
    write(database, "ohlcv_1min", minutes_at("AAPL", OPEN, 120))
    roll_up(database)
    tables = {"5m": "ohlcv_5min", "15m": "ohlcv_15min", "1h": "ohlcv_1h"}
    is_daily = timeframe == "1d"
    table = "ohlcv_daily" if is_daily else rollup_table(database, tables[timeframe])
    start = OPEN if is_daily else OPEN.replace(hour=14, minute=0)
    place = "date = '2012-03-12'" if is_daily else f"timestamp = '{start}'"
    (held,) = rows(database, f"SELECT {', '.join(CORRUPTIONS)} FROM {table} WHERE {place}")
    corruptions = CORRUPTIONS | ({"source": "'rollup:sample'"} if is_daily else {"recorded_at": "recorded_at + '1 s'"})
    for column, corrupted in corruptions.items():
        ((before,),) = rows(database, f"SELECT {column} FROM {table} WHERE {place}")
        change(database, f"UPDATE {table} SET {column} = {corrupted} WHERE {place}")
        for only_touched in (True, False):
            found = rollups.verify(database, only_touched=only_touched)
            assert found[["symbol", "timeframe", "timestamp", "column"]].to_numpy().tolist() == [
                ["AAPL", timeframe, pd.Timestamp(start), column]
            ]
        change(database, f"UPDATE {table} SET {column} = :before WHERE {place}", before=before)
    assert rows(database, f"SELECT {', '.join(CORRUPTIONS)} FROM {table} WHERE {place}") == [held]
    assert rollups.verify(database).empty


def test_the_check_finds_bars_that_are_missing_or_should_not_be(database: Engine) -> None:
    calendar(database, "AAPL")
    write(database, "ohlcv_1min", minutes_at("AAPL", OPEN, 30))
    roll_up(database)
    five = rollup_table(database, "ohlcv_5min")
    change(database, f"UPDATE {five} SET timestamp = '2012-03-12 12:15' WHERE timestamp = '2012-03-12 13:30'")
    change(database, "DELETE FROM ohlcv_daily")
    found = rollups.verify(database, only_touched=False)
    # The bar of 12:15 stands in an hour without minutes, which nobody touched.
    assert found.drop(columns="symbol").astype(str).to_numpy().tolist() == [
        ["1d", "2012-03-12 13:30:00+00:00", "bar", "present", "absent"],
        ["5m", "2012-03-12 12:15:00+00:00", "bar", "absent", "present"],
        ["5m", "2012-03-12 13:30:00+00:00", "bar", "present", "absent"],
    ]
    assert len(rollups.verify(database)) == 2


def test_what_is_stale_is_not_called_wrong(database: Engine) -> None:
    calendar(database, "AAPL")
    write(database, "ohlcv_1min", minutes_at("AAPL", OPEN, 30))
    assert rollups.verify(database, only_touched=False).empty
    roll_up(database)
    write(database, "ohlcv_1min", minutes_at("AAPL", OPEN, 30, volume=7.0))
    assert rollups.verify(database).empty
    assert rollups.verify(database, only_touched=False).empty


def test_a_day_is_not_called_wrong_for_an_hour_of_it_that_is_stale(database: Engine) -> None:
    calendar(database, "AAPL")
    write(database, "ohlcv_1min", minutes_at("AAPL", OPEN, 200))
    roll_up(database)
    assert remove(database, "AAPL", OPEN + timedelta(hours=2), OPEN + timedelta(hours=2, minutes=5)) == 5
    assert rollups.verify(database, only_touched=False).empty
    assert rollups.verify(database).empty
    roll_up(database)
    assert rollups.verify(database, only_touched=False).empty


# --- writers at the same time


def waits_for_a_lock(engine: Engine) -> bool:
    query = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return bool(rows(engine, query))


def test_a_write_that_overlaps_a_rollup_is_not_lost(database: Engine) -> None:
    calendar(database, "AAPL")
    write(database, "ohlcv_1min", minutes_at("AAPL", OPEN, 30))
    outcomes: list[Any] = []

    def run() -> None:
        outcomes.append(roll_up(database))

    with database.connect() as connection:
        # The writer has written, but not committed, when the rollup starts.
        merge(connection, "ohlcv_1min", minutes_at("AAPL", OPEN, 30, volume=7.0))
        thread = threading.Thread(target=run)
        thread.start()
        wait_until(lambda: waits_for_a_lock(database))
        connection.commit()
    thread.join()
    assert len(outcomes) == 1
    # Whatever is marked as made anew is made of what the writer wrote.
    assert rollups.verify(database).empty
    roll_up(database)
    assert rows(database, "SELECT sum(volume) FROM ohlcv_1h") == [(Decimal(210),)]
    assert rows(database, "SELECT volume FROM ohlcv_daily") == [(Decimal(210),)]
    assert rollups.verify(database, only_touched=False).empty


def test_an_hour_that_is_touched_again_while_it_is_computed_stays_stale(database: Engine) -> None:
    calendar(database, "AAPL")
    write(database, "ohlcv_1min", minutes_at("AAPL", OPEN, 90))
    with database.begin() as connection:
        hours = touched_buckets.stale_hours(driver(connection).cursor(), "intraday_at", ["AAPL"], None, most=10)
    write(database, "ohlcv_1min", minutes_at("AAPL", OPEN, 1, volume=7.0))
    with database.begin() as connection:
        touched_buckets.mark(driver(connection).cursor(), "intraday_at", hours)
    assert touched(database) == [("AAPL", "03-12 13:00", False, False), ("AAPL", "03-12 14:00", True, False)]


# --- providers, removals, calendars


def test_a_providers_daily_bar_outranks_one_made_of_minutes(database: Engine) -> None:
    calendar(database, "AAPL")
    official = pd.DataFrame(
        {"symbol": ["AAPL"], "date": [pd.Timestamp(SESSION)], "open": [99.0], "high": [120.0], "low": [98.0],
         "close": [101.0], "volume": [1e6], "source": ["sample"]}
    )  # fmt: skip
    write(database, "ohlcv_1min", minutes_at("AAPL", OPEN, 30))
    assert roll_up(database)[1].outranked == 0
    assert write(database, "ohlcv_daily", official).corrected == 1
    write(database, "ohlcv_1min", minutes_at("AAPL", OPEN, 30, volume=7.0))
    _, counts = roll_up(database)
    assert counts.outranked == 1
    assert rows(database, "SELECT close, source FROM ohlcv_daily") == [(Decimal(101), "sample")]
    assert rollups.verify(database).empty
    # Nor is it taken away with the minutes.
    remove(database, "AAPL", OPEN, OPEN + timedelta(hours=2))
    assert roll_up(database)[1].bars["1d"].removed == 0
    assert rows(database, "SELECT close, source FROM ohlcv_daily") == [(Decimal(101), "sample")]


def test_days_changed_are_those_that_minutes_made_or_took_away_and_not_those_that_a_provider_replaced(
    database: Engine,
) -> None:
    calendar(database, "AAPL", "MSFT", "THIN")
    for symbol in ("AAPL", "MSFT", "THIN"):
        write(database, "ohlcv_1min", minutes_at(symbol, OPEN, 30))
    roll_up(database)
    with database.connect() as connection:
        since = server_time(connection)
    official = dict.fromkeys(["open", "high", "low", "close"], 99.0)
    bar = pd.DataFrame(
        {"symbol": ["AAPL"], "date": [pd.Timestamp(SESSION)], **official, "volume": 1e6, "source": "sample"}
    )
    assert write(database, "ohlcv_daily", bar).corrected == 1
    write(database, "ohlcv_1min", minutes_at("MSFT", OPEN, 30, volume=7.0))
    remove(database, "THIN", OPEN, OPEN + timedelta(hours=1))
    assert roll_up(database)[1].written == 2
    with database.connect() as connection:
        assert days_changed_since(connection, since) == [
            Window(symbol, SESSION, SESSION) for symbol in ("MSFT", "THIN")
        ]
        assert days_changed_since(connection, since, ["THIN", "AAPL"]) == [Window("THIN", SESSION, SESSION)]
        assert days_changed_since(connection, server_time(connection)) == []


def test_a_day_rolled_up_anew_replaces_what_it_was_also_from_minutes_of_a_lower_rank(database: Engine) -> None:
    calendar(database, "AAPL")
    write(database, "ohlcv_1min", minutes_at("AAPL", OPEN, 30))
    roll_up(database)
    write(database, "ohlcv_1min", minutes_at("AAPL", OPEN + timedelta(minutes=40), 5, source="synthetic"))
    assert roll_up(database)[1].bars["1d"].written == 1
    assert rows(database, "SELECT volume, source FROM ohlcv_daily") == [(Decimal(3500), "rollup:synthetic")]


def test_removed_minutes_stay_known_as_of_before_and_take_the_bars_made_of_them_along(database: Engine) -> None:
    calendar(database, "AAPL")
    write(database, "ohlcv_1min", minutes_at("AAPL", OPEN, 30))
    roll_up(database)
    before = {table: as_bars(stored(database, table)) for table in ("ohlcv_1min", "ohlcv_daily")}
    with database.begin() as connection:
        assert removal.planned(connection, "AAPL", OPEN, OPEN + timedelta(hours=1)) == removal.Minutes(
            30, OPEN, OPEN + timedelta(minutes=29)
        )
        with pytest.raises(
            ConfigError, match="AAPL: expected a reason why its minutes are removed, found none; say it"
        ):
            removal.remove_minutes(connection, "AAPL", OPEN, OPEN + timedelta(hours=1), " ")
        with pytest.raises(ConfigError, match="expected an end after the start, both with a time zone"):
            removal.remove_minutes(connection, "AAPL", OPEN, OPEN, "none")
    assert remove(database, "AAPL", OPEN, OPEN + timedelta(hours=1), "prints of another symbol") == 30
    assert remove(database, "AAPL", OPEN, OPEN + timedelta(hours=1)) == 0
    intraday, daily = roll_up(database, run=Run("tester", "11111111-1111-1111-1111-111111111111"))
    assert daily.bars["1d"].removed == 1
    assert intraday.hours == 1
    for table in ("ohlcv_1min", *ROLLUPS, "ohlcv_daily"):
        assert stored(database, table).empty
    # One revision a bar, with its values.
    found = rows(database, "SELECT timeframe, count(*), sum(volume) FROM bar_revisions GROUP BY 1 ORDER BY 1")
    assert found == [("1d", 1, Decimal(3000)), ("1m", 30, Decimal(3000))]
    said = rows(
        database,
        "SELECT entity_type, entity_id, actor, metadata ->> 'rows', metadata ->> 'reason' FROM audit_trail "
        "WHERE event_type = 'removal' ORDER BY timestamp",
    )
    assert [(row[0], row[1], row[3], row[4]) for row in said] == [
        ("ohlcv_1min", "AAPL", "30", "prints of another symbol"),
        ("ohlcv_daily", "ohlcv_daily", "1", "no minute of the session is left"),
    ]
    assert said[1][2] == "tester"
    # They may come back, and then are there again.
    write(database, "ohlcv_1min", minutes_at("AAPL", OPEN, 30))
    roll_up(database)
    assert {table: as_bars(stored(database, table)) for table in before} == before


def test_a_session_closed_by_override_makes_no_bar_and_loses_the_one_it_made(database: Engine) -> None:
    calendar(database, "AAPL")
    write(database, "ohlcv_1min", minutes_at("AAPL", OPEN, 30))
    roll_up(database)
    for kind, expected in (("closed_by_override", 0), ("regular", 1)):
        change(
            database,
            "UPDATE sessions SET kind = :kind, override_reason = 'fire', override_author = 'me' WHERE session = '2012-03-12'",
            kind=kind,
        )
        with database.begin() as connection:
            stored_sessions.touch(connection, "XNYS", [SESSION])
        roll_up(database)
        assert rows(database, "SELECT count(*) FROM ohlcv_daily") == [(expected,)]
        assert rollups.verify(database).empty


def test_a_session_that_its_calendar_no_longer_has_loses_the_bar_it_made(database: Engine) -> None:
    calendar(database, "AAPL")
    write(database, "ohlcv_1min", minutes_at("AAPL", OPEN, 30))
    write(database, "ohlcv_1min", minutes_at("AAPL", OPEN + timedelta(days=1), 30))
    roll_up(database)
    week = trading_sessions("XNYS", SESSION - timedelta(days=3), SESSION + timedelta(days=3))
    with database.begin() as connection:
        stored_sessions.enter(connection, week[week["session"] != pd.Timestamp(SESSION)])
    assert roll_up(database)[1].bars["1d"].removed == 1
    assert rows(database, "SELECT date FROM ohlcv_daily") == [(SESSION + timedelta(days=1),)]


def test_a_session_makes_its_bar_once_it_has_closed_and_its_calendar_is_known(database: Engine) -> None:
    calendar(database, "COIN", "LATE", exchange="24/7")
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    yesterday = today - timedelta(days=1)
    days = [yesterday, today]
    write(
        database,
        "sessions",
        pd.DataFrame(
            {"exchange": "24/7", "session": [pd.Timestamp(day.date()) for day in days], "open": days,
             "close": [day + timedelta(days=1) for day in days], "kind": "regular"}
        ),
    )  # fmt: skip
    write(database, "ohlcv_1min", minutes_at("COIN", today - timedelta(minutes=5), 10))
    write(database, "ohlcv_1min", minutes_at("LATE", today - timedelta(days=9), 10))
    _, counts = roll_up(database)
    assert (counts.hours, counts.under_way, counts.not_in_calendar) == (1, 1, 1)
    assert rows(database, "SELECT symbol, date, volume FROM ohlcv_daily") == [("COIN", yesterday.date(), Decimal(500))]
    stale = rows(database, "SELECT symbol FROM touched_buckets WHERE daily_at IS NULL ORDER BY symbol")
    assert stale == [("COIN",), ("LATE",)]
    assert rollups.verify(database, only_touched=False).empty


def test_extended_hours_reach_the_rollups_by_the_clock_but_not_the_day(database: Engine) -> None:
    calendar(database, "AAPL")
    write(database, "ohlcv_1min", minutes_at("AAPL", OPEN - timedelta(hours=3), 30))
    intraday, daily = roll_up(database)
    assert (intraday.hours, daily.hours) == (1, 1)
    assert rows(database, "SELECT count(*) FROM ohlcv_5min") == [(6,)]
    assert rows(database, "SELECT count(*) FROM ohlcv_daily") == [(0,)]


# --- retention


def test_rollups_stay_as_they_are_once_their_minutes_are_dropped(database: Engine) -> None:
    calendar(database, "AAPL")
    sessions = trading_sessions("XNYS", date(2012, 1, 3), date(2012, 2, 29))
    minutes = minute_bars("AAPL", daily_bars(sessions, 5), sessions).drop(columns="date")
    write(database, "ohlcv_1min", minutes.assign(symbol="AAPL", source="synthetic"))
    cutoff = datetime(2012, 2, 6, 15, tzinfo=UTC)
    # What was not rolled up yet is, before its minutes go.
    dropped = retention.drop(database, "ohlcv_1min", cutoff, tiers.DEFAULT)
    until = dropped.until
    assert until is not None
    every = ("ohlcv_5min", "ohlcv_15min", "ohlcv_1h", "ohlcv_daily")
    before = {table: as_bars(stored(database, table)) for table in every}
    assert len(before["ohlcv_daily"]) == len(sessions)
    assert min(moment for _, moment in before["ohlcv_5min"]) == pd.Timestamp("2012-01-03 14:30", tz="UTC")
    # A late minute of a dropped hour, and one of a session that was dropped in part, reach nothing any more.
    late = [minutes_at("AAPL", datetime(2012, 1, 5, 16, tzinfo=UTC)), minutes_at("AAPL", until - timedelta(hours=3), 2)]
    write(database, "ohlcv_1min", pd.concat(late))
    intraday, daily = roll_up(database)
    assert (intraday.skipped_dropped, daily.skipped_dropped) == (2, 2)
    assert {table: as_bars(stored(database, table)) for table in every} == before
    # Later ones are made anew as ever.
    write(database, "ohlcv_1min", minutes_at("AAPL", datetime(2012, 2, 28, 15, tzinfo=UTC), source="polygon"))
    intraday, daily = roll_up(database)
    assert (intraday.hours, daily.hours, daily.bars["1d"].written) == (1, 1, 1)
    assert rollups.verify(database).empty
    assert rollups.verify(database, only_touched=False).empty


def test_minutes_are_dropped_after_the_rollups_under_way_and_those_that_follow_know_of_it(database: Engine) -> None:
    with database.connect() as at_work, database.connect() as dropping:
        assert minutes_dropped.kept_from(at_work) is None
        dropping.execute(text("SET LOCAL lock_timeout = '50ms'"))
        with pytest.raises(OperationalError, match="lock timeout"):
            minutes_dropped.mark_dropped(dropping, OPEN)
        dropping.rollback()
        at_work.commit()
        minutes_dropped.mark_dropped(dropping, OPEN)
        dropping.commit()
        assert minutes_dropped.kept_from(at_work) == datetime(2012, 3, 12, 14, tzinfo=UTC)


@pytest.mark.tiers(servers.COMMUNITY)
def test_a_bar_from_before_the_aggregates_does_not_come_back_when_its_minutes_are_removed(database: Engine) -> None:
    calendar(database, "AAPL")
    change(
        database,
        "INSERT INTO tier.ohlcv_5min_base (symbol, timestamp, open, high, low, close, volume, source) "
        "VALUES ('AAPL', '2012-03-12 13:30', 1, 2, 1, 2, 7, 'sample')",
    )
    write(database, "ohlcv_1min", minutes_at("AAPL", OPEN, 5))
    remove(database, "AAPL", OPEN, OPEN + timedelta(minutes=5))
    roll_up(database)
    assert rows(database, "SELECT count(*) FROM ohlcv_5min") == [(0,)]
