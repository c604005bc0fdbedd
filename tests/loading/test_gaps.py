"""Gaps from the stored bars to the table: found, classed, entered once, healed, and never taken for what they are not."""

from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import Connection, Engine, text

from tickstock_assets.domain.windows import Window
from tickstock_assets.loading.calendar import know_sessions
from tickstock_assets.loading.gap_finding import Reach, find_gaps, windows_to_look_at
from tickstock_assets.loading.gaps import missing_sessions
from tickstock_assets.providers.base import Dataset
from tickstock_assets.storage import data_gaps, sessions
from tickstock_assets.storage.bulk import merge
from tickstock_assets.storage.removal import remove_minutes

pytestmark = pytest.mark.tiers("embedded")

FIRST, LAST = date(2012, 6, 18), date(2012, 7, 13)
REACH = Reach(horizon=LAST, settled=LAST)
# 4 July was a holiday and 3 July a half day.
SESSIONS = [day for day in pd.bdate_range(FIRST, LAST) if day != pd.Timestamp("2012-07-04")]
SYMBOLS = ["AAA", "BBB", "CCC", "DDD", "EEE"]
HOLE = pd.date_range("2012-07-10 15:00", periods=20, freq="min", tz="UTC")


def minutes_of(day: pd.Timestamp) -> pd.DatetimeIndex:
    closes = "13:00" if day == pd.Timestamp("2012-07-03") else "16:00"
    span = pd.date_range(f"{day:%Y-%m-%d} 09:30", f"{day:%Y-%m-%d} {closes}", freq="min", tz="America/New_York")
    return span[:-1].tz_convert("UTC")


def full_market() -> pd.DataFrame:
    """Every minute of every session and symbol, of 100 shares; some more at each open, so that no day is like another."""
    stamps = pd.DatetimeIndex(np.concatenate([minutes_of(day).to_numpy() for day in SESSIONS]), tz="UTC")
    one = pd.DataFrame({"timestamp": stamps.astype("datetime64[us, UTC]")})
    volume = np.full(len(stamps), 100.0)
    volume[stamps.searchsorted([minutes_of(day)[0] for day in SESSIONS])] += np.arange(len(SESSIONS))
    prices = dict.fromkeys(["open", "high", "low", "close"], 10.0)
    return pd.concat(
        [
            one.assign(symbol=symbol, volume=volume, trades_count=2.0, source="csv_folder", **prices)
            for symbol in SYMBOLS
        ],
        ignore_index=True,
    )


def daily_of(minutes: pd.DataFrame) -> pd.DataFrame:
    days = minutes["timestamp"].dt.tz_convert("America/New_York").dt.tz_localize(None).dt.normalize()
    sums = minutes.groupby(["symbol", days.rename("date")], as_index=False)[["volume", "trades_count"]].sum()
    return sums.assign(source="csv_folder", **dict.fromkeys(["open", "high", "low", "close"], 10.0))


@pytest.fixture
def market(database: Engine) -> Engine:
    """Five symbols over four weeks; BBB lacks 20 minutes of 10 July, and nothing else is missing."""
    with database.begin() as connection:
        merge(connection, "symbols", pd.DataFrame({"symbol": SYMBOLS, "exchange": "XNYS"}))
        know_sessions(connection, FIRST, LAST)
        minutes = full_market()
        merge(connection, "ohlcv_daily", daily_of(minutes))
        merge(connection, "ohlcv_1min", minutes[~((minutes["symbol"] == "BBB") & minutes["timestamp"].isin(HOLE))])
    return database


def look(engine: Engine, timeframe: Any = "1m", reach: Reach = REACH) -> data_gaps.GapCounts:
    return find_gaps(engine, [Window(symbol, FIRST, LAST) for symbol in SYMBOLS], timeframe, reach)


def found(engine: Engine, *classes: str, only_open: bool = True) -> list[tuple[str, str, str, int]]:
    with engine.connect() as connection:
        rows = data_gaps.gaps(connection, classes=classes or None, only_open=only_open)
    return [
        (row.symbol, row.timeframe, f"{row.gap_start:%m-%d %H:%M}", int(row.missing_bars))
        for row in rows.sort_values(["symbol", "gap_start"]).itertuples()
    ]


def fill_the_hole(connection: Connection) -> None:
    merge(
        connection,
        "ohlcv_1min",
        pd.DataFrame({"timestamp": HOLE.astype("datetime64[us, UTC]")}).assign(
            symbol="BBB", volume=100.0, source="csv_folder", **dict.fromkeys(["open", "high", "low", "close"], 10.0)
        ),
    )


def test_a_hole_in_the_minutes_is_entered_with_the_shares_that_the_official_bar_has_more(market: Engine) -> None:
    look(market)
    assert found(market, "provider_hole", "halt", "no_trade") == [("BBB", "1m", "07-10 15:00", 20)]
    with market.connect() as connection:
        evidence = connection.execute(text("SELECT evidence FROM data_gaps WHERE class = 'provider_hole'")).scalar_one()
    # 20 minutes of 100 shares and 2 trades each.
    assert (evidence["session"], evidence["missing_shares"], evidence["missing_trades"]) == ("2012-07-10", 2000, 40)
    assert (evidence["expected_shares"], evidence["others_trading"]) == (pytest.approx(2000, rel=0.01), 1)


def test_holidays_and_half_days_are_told_apart_of_every_symbol(market: Engine) -> None:
    look(market)
    assert found(market, "holiday") == [(symbol, "1m", "07-04 13:30", 390) for symbol in SYMBOLS]
    # From 13:00 to 16:00 in New York, which was four hours behind UTC.
    assert found(market, "half_day") == [(symbol, "1m", "07-03 17:00", 180) for symbol in SYMBOLS]
    look(market, "1d")
    assert ("AAA", "1d", "07-04 13:30", 1) in found(market, "holiday")


def test_looking_again_changes_nothing_and_a_filled_hole_is_healed_and_kept(market: Engine) -> None:
    first = look(market)
    assert (first.inserted, first.changed, first.healed) == (11, 0, 0)
    again = look(market)
    assert (again.inserted, again.changed, again.unchanged, again.healed) == (0, 0, 11, 0)
    with market.begin() as connection:
        fill_the_hole(connection)
    assert look(market).healed == 1
    assert found(market, "provider_hole") == []
    assert found(market, "provider_hole", only_open=False) == [("BBB", "1m", "07-10 15:00", 20)]


def test_a_hole_that_comes_back_is_open_again_under_its_id(market: Engine) -> None:
    look(market)
    with market.begin() as connection:
        fill_the_hole(connection)
    look(market)
    with market.begin() as connection:
        connection.execute(
            text("DELETE FROM ohlcv_1min WHERE symbol = 'BBB' AND timestamp = ANY (:hole)"), {"hole": HOLE.to_list()}
        )
    assert look(market).changed == 1
    assert found(market, "provider_hole") == [("BBB", "1m", "07-10 15:00", 20)]


def test_minutes_that_nobody_traded_are_no_hole(market: Engine) -> None:
    with market.begin() as connection:
        connection.execute(
            text("UPDATE ohlcv_daily SET volume = volume - 2000 WHERE symbol = 'BBB' AND date = '2012-07-10'")
        )
    look(market)
    assert found(market, "provider_hole") == []
    assert found(market, "halt") == [("BBB", "1m", "07-10 15:00", 20)]


def test_what_looks_like_a_halt_is_a_hole_where_trades_of_it_are_stored(market: Engine) -> None:
    with market.begin() as connection:
        connection.execute(
            text("UPDATE ohlcv_daily SET volume = volume - 2000 WHERE symbol = 'BBB' AND date = '2012-07-10'")
        )
        connection.execute(
            text(
                "INSERT INTO ticks (symbol, timestamp, price, quantity, source) "
                "VALUES ('BBB', '2012-07-10 15:19:59.9Z', 10, 5, 'polygon')"
            )
        )
    look(market)
    assert found(market, "halt") == []
    assert found(market, "provider_hole") == [("BBB", "1m", "07-10 15:00", 20)]


def test_a_rolled_up_daily_bar_is_no_witness_of_what_its_minutes_lack(market: Engine) -> None:
    with market.begin() as connection:
        connection.execute(
            text(
                "UPDATE ohlcv_daily SET source = 'rollup:csv_folder', volume = volume - 2000 "
                "WHERE symbol = 'BBB' AND date = '2012-07-10'"
            )
        )
    look(market)
    assert found(market, "provider_hole") == [("BBB", "1m", "07-10 15:00", 20)]


def test_a_session_without_any_minute_is_not_published_yet_while_it_is_not_settled(market: Engine) -> None:
    with market.begin() as connection:
        connection.execute(text("DELETE FROM ohlcv_1min WHERE symbol = 'AAA' AND timestamp >= '2012-07-13'"))
    look(market, reach=Reach(horizon=LAST, settled=date(2012, 7, 10)))
    assert found(market, "not_yet_published") == [("AAA", "1m", "07-13 13:30", 390)]
    with market.connect() as connection:
        assert Window("AAA", LAST, LAST) in windows_to_look_at(
            connection, "1m", pd.Timestamp.now("UTC").to_pydatetime()
        )
    look(market)
    assert ("AAA", "1m", "07-13 13:30", 390) in found(market, "provider_hole")


def test_nothing_is_expected_before_the_first_bar_after_the_horizon_or_of_a_session_closed_by_a_person(
    market: Engine,
) -> None:
    with market.begin() as connection:
        connection.execute(text("DELETE FROM ohlcv_1min WHERE symbol = 'CCC' AND timestamp < '2012-06-25'"))
        connection.execute(text("DELETE FROM ohlcv_1min WHERE symbol = 'DDD' AND timestamp >= '2012-07-12'"))
        connection.execute(text("DELETE FROM ohlcv_1min WHERE symbol = 'EEE' AND timestamp::date = '2012-07-05'"))
        sessions.close(connection, "XNYS", date(2012, 7, 5), reason="a test", author="Ada")
    look(market, reach=Reach(horizon=date(2012, 7, 11), settled=date(2012, 7, 11)))
    assert found(market, "provider_hole") == [("BBB", "1m", "07-10 15:00", 20)]
    assert ("EEE", "1m", "07-05 13:30", 390) in found(market, "holiday")


def test_a_missing_day_is_a_hole_with_what_the_others_and_the_minutes_have(market: Engine) -> None:
    with market.begin() as connection:
        connection.execute(
            text("DELETE FROM ohlcv_daily WHERE symbol = 'AAA' AND date IN ('2012-07-02', '2012-07-03')")
        )
    look(market, "1d")
    assert found(market, "provider_hole") == [("AAA", "1d", "07-02 13:30", 1), ("AAA", "1d", "07-03 13:30", 1)]
    with market.connect() as connection:
        [half_day] = connection.execute(
            text("SELECT evidence FROM data_gaps WHERE class = 'provider_hole' AND gap_start >= '2012-07-03'")
        ).scalars()
    assert half_day == {
        "session": "2012-07-03", "minute_bars_stored": 210, "share_of_days_missing_around": 0, "other_symbols": 4,
        "share_of_others_with_a_bar": 1,
    }  # fmt: skip


def test_days_without_a_bar_are_missing_though_there_are_bars_of_days_that_a_person_closed(market: Engine) -> None:
    # A bar on a closed session once made up, in number, for the one that is missing.
    with market.begin() as connection:
        connection.execute(text("DELETE FROM ohlcv_daily WHERE symbol = 'AAA' AND date = '2012-07-10'"))
        sessions.close(connection, "XNYS", date(2012, 7, 5), reason="a test", author="Ada")
    windows = [Window(symbol, FIRST, LAST) for symbol in SYMBOLS]
    assert missing_sessions(market, Dataset.DAILY_BARS, windows, LAST) == {"AAA": [date(2012, 7, 10)]}
    assert missing_sessions(market, Dataset.MINUTE_BARS, windows, LAST) == {"BBB": [date(2012, 7, 10)]}


def test_what_was_stored_or_overridden_since_is_looked_at_again(market: Engine) -> None:
    now = pd.Timestamp.now("UTC").to_pydatetime()
    with market.begin() as connection:
        connection.execute(text("DELETE FROM touched_buckets"))
        assert windows_to_look_at(connection, "1d", now) == []
        connection.execute(
            text(
                "INSERT INTO stored_windows (provider, dataset, symbol, window_start, window_end, source_version, stored_at) "
                "VALUES ('csv_folder', 'daily_bars', 'AAA', :first, :last, '1', now())"
            ),
            {"first": FIRST, "last": LAST},
        )
        sessions.close(connection, "XNYS", date(2012, 7, 5), reason="a test", author="Ada")
        looked_at = windows_to_look_at(connection, "1d", now)
    assert looked_at == [
        Window("AAA", FIRST, LAST),
        *(Window(symbol, date(2012, 7, 5), date(2012, 7, 5)) for symbol in SYMBOLS[1:]),
    ]


def test_what_was_removed_since_is_looked_at_though_its_hours_were_rolled_up_and_forgotten(market: Engine) -> None:
    with market.begin() as connection:
        now = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        remove_minutes(connection, "CCC", HOLE[0].to_pydatetime(), HOLE[-1].to_pydatetime(), "a test")
        connection.execute(text("DELETE FROM touched_buckets"))
        assert windows_to_look_at(connection, "1m", now) == [Window("CCC", date(2012, 7, 10), date(2012, 7, 10))]
        assert windows_to_look_at(connection, "1d", now) == []
