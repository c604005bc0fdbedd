"""Invented minutes: they add up to the day exactly, are possible bars, and depend on symbol and day only."""

from datetime import date
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickstock_assets.domain.errors import ContractError
from tickstock_assets.domain.minute_walk import COLUMNS, minute_bars
from tickstock_assets.domain.sessions import trading_sessions

PRICES = ["open", "high", "low", "close"]


def sessions_of(*hours: tuple[str, str, str]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "session": pd.to_datetime([day for day, _, _ in hours]),
            "open": pd.to_datetime([f"{day} {open_}" for day, open_, _ in hours], utc=True),
            "close": pd.to_datetime([f"{day} {close}" for day, _, close in hours], utc=True),
        }
    )


WEEK = sessions_of(
    ("2024-07-01", "13:30", "20:00"), ("2024-07-02", "13:30", "20:00"), ("2024-07-03", "13:30", "17:00")
)  # fmt: skip


def one_day(day: str = "2024-07-01", **bar: float) -> pd.DataFrame:
    whole = {"open": 10.0, "high": 10.5, "low": 9.5, "close": 10.2, "volume": 1_000_000.0} | bar
    return pd.DataFrame({"date": [pd.Timestamp(day)], **{name: [value] for name, value in whole.items()}})


def assert_adds_up(minutes: pd.DataFrame, day: dict[str, float]) -> None:
    """Compare without any tolerance, in plain Python."""
    rows = minutes.to_dict("records")
    assert rows[0]["open"] == day["open"]
    assert rows[-1]["close"] == day["close"]
    assert max(row["high"] for row in rows) == day["high"]
    assert min(row["low"] for row in rows) == day["low"]
    for order in (rows, rows[::-1]):
        total = 0.0
        for row in order:
            total += row["volume"]
        assert total == day["volume"]


def assert_possible(minutes: pd.DataFrame) -> None:
    for row in minutes.to_dict("records"):
        assert 0 < row["low"] <= min(row["open"], row["close"])
        assert max(row["open"], row["close"]) <= row["high"]
        assert row["low"] <= row["vwap"] <= row["high"]
        assert row["volume"] > 0
        assert 1 <= row["trades_count"] <= max(row["volume"], 1)


@st.composite
def possible_days(draw: st.DrawFn) -> dict[str, float]:
    if draw(st.booleans()):
        decimals = draw(st.integers(2, 4))
        ticks = sorted(draw(st.lists(st.integers(1, 10**7), min_size=4, max_size=4)))
        low, one, other, high = (tick / 10**decimals for tick in ticks)
    else:
        price = st.floats(1e-4, 1e6, allow_nan=False)
        low, one, other, high = sorted(draw(st.lists(price, min_size=4, max_size=4)))
    open_, close = (one, other) if draw(st.booleans()) else (other, one)
    whole = st.integers(1, 10**11).map(float)
    few = st.integers(1, 2000).map(float)
    fractional = st.floats(0.001, 1e9, allow_nan=False)
    return {"open": open_, "high": high, "low": low, "close": close, "volume": draw(st.one_of(whole, few, fractional))}


@settings(max_examples=150, deadline=None)
@given(day=possible_days(), symbol=st.text(min_size=1, max_size=8), half_day=st.booleans())
def test_minutes_of_any_possible_day_add_up_to_it_exactly(day: dict[str, float], symbol: str, half_day: bool) -> None:
    date_ = "2024-07-03" if half_day else "2024-07-01"
    minutes = minute_bars(symbol, one_day(date_, **day), WEEK)
    assert tuple(minutes.columns) == COLUMNS
    assert_adds_up(minutes, day)
    assert_possible(minutes)
    assert 1 <= len(minutes) <= (210 if half_day else 390)
    assert all(earlier < later for earlier, later in pairwise(minutes["timestamp"]))
    assert (minutes["timestamp"] >= pd.Timestamp(f"{date_} 13:30", tz="UTC")).all()
    assert (minutes["timestamp"] < pd.Timestamp(f"{date_} {'17:00' if half_day else '20:00'}", tz="UTC")).all()


def test_a_busy_day_trades_in_every_minute_on_the_cent_grid_in_whole_shares() -> None:
    minutes = minute_bars("AAPL", one_day(), WEEK)
    assert (
        minutes["timestamp"].tolist() == pd.date_range("2024-07-01 13:30", periods=390, freq="min", tz="UTC").tolist()
    )
    for name in PRICES:
        assert [float(f"{price:.2f}") for price in minutes[name]] == minutes[name].tolist()
    assert all(volume.is_integer() for volume in minutes["volume"])
    # A walk, and not one bar that has it all.
    assert minutes["close"].nunique() > 50
    assert minutes["volume"].max() < 20_000


def test_a_half_day_has_its_210_minutes() -> None:
    assert len(minute_bars("AAPL", one_day("2024-07-03"), WEEK)) == 210


def test_prices_finer_than_a_cent_are_met_on_a_finer_grid() -> None:
    minutes = minute_bars("AAPL", one_day(open=10.00125, low=9.4999, close=10.2), WEEK)
    assert [float(f"{price:.5f}") for price in minutes["close"]] == minutes["close"].tolist()
    assert_adds_up(minutes, {"open": 10.00125, "high": 10.5, "low": 9.4999, "close": 10.2, "volume": 1_000_000.0})


@pytest.mark.parametrize(("volume", "bars"), [(1.0, 1), (7.0, 1), (8.0, 2), (40.0, 10), (0.5, 1), (1559.0, 389)])
def test_a_thin_day_has_fewer_bars_and_none_without_volume(volume: float, bars: int) -> None:
    minutes = minute_bars("AAPL", one_day(volume=volume), WEEK)
    assert len(minutes) == bars
    assert (minutes["volume"] > 0).all()
    assert minutes["volume"].sum() == volume


def test_a_day_without_volume_keeps_its_prices_in_one_bar() -> None:
    [bar] = minute_bars("AAPL", one_day(volume=0.0), WEEK).to_dict("records")
    assert [bar[name] for name in [*PRICES, "volume", "trades_count"]] == [10.0, 10.5, 9.5, 10.2, 0, 0]


def test_a_fraction_of_a_share_is_in_the_first_bar_only() -> None:
    volume = minute_bars("AAPL", one_day(volume=1_000_000.3), WEEK)["volume"]
    assert [value.is_integer() for value in volume] == [False] + [True] * 389


def test_a_day_is_the_same_alone_and_among_others() -> None:
    days = pd.concat([one_day(day, open=10 + number / 4) for number, day in enumerate(WEEK["session"].astype(str))])
    together = minute_bars("AAPL", days, WEEK)
    for day in days["date"]:
        alone = minute_bars("AAPL", days[days["date"] == day], WEEK)
        pd.testing.assert_frame_equal(together[together["date"] == day].reset_index(drop=True), alone)
    pd.testing.assert_frame_equal(minute_bars("AAPL", days[::-1], WEEK), together)


def test_symbols_and_days_walk_differently() -> None:
    walks = [
        minute_bars(symbol, one_day(day), WEEK)["close"].tolist()
        for symbol, day in (("AAPL", "2024-07-01"), ("AAPL", "2024-07-02"), ("MSFT", "2024-07-01"))
    ]
    assert walks[0] != walks[1] != walks[2] != walks[0]


def test_the_walk_never_changes() -> None:
    # Stored minutes of an invented market would otherwise be corrected by a new release or another machine.
    minutes = minute_bars("AAPL", one_day(), WEEK)
    found = [tuple(minutes.loc[row, [*PRICES, "volume"]]) for row in (0, 1, 200, 389)]
    assert found == [
        (10.0, 10.02, 9.99, 9.99, 7274.0),
        (9.99, 10.09, 9.98, 10.08, 9172.0),
        (10.24, 10.24, 10.19, 10.21, 1286.0),
        (10.23, 10.23, 10.18, 10.2, 634.0),
    ]


def test_no_days_give_no_minutes() -> None:
    nothing = minute_bars("AAPL", one_day()[:0], WEEK)
    assert nothing.empty
    assert tuple(nothing.columns) == COLUMNS
    assert str(nothing["timestamp"].dtype) == "datetime64[us, UTC]"


@pytest.mark.parametrize(
    ("days", "complaint"),
    [
        (one_day("2024-07-04"), "AAPL 2024-07-04: expected a session to make minutes for, found none in the calendar"),
        (pd.concat([one_day(), one_day()]), "AAPL 2024-07-01: expected one bar a day, found two"),
        (one_day(high=10.1), "AAPL 2024-07-01: expected 0 < low <= open, close <= high .*found open 10, high 10.1"),
        (one_day(low=0.0), "low 0"),
        (one_day(volume=-1.0), "volume -1"),
        (one_day(volume=float("nan")), "volume nan"),
        (one_day(volume=1e13), "a volume from 0 to 5e.12, found .*volume 1e.13"),
    ],
)
def test_a_day_that_cannot_be_is_one_sentence(days: pd.DataFrame, complaint: str) -> None:
    with pytest.raises(ContractError, match=complaint):
        minute_bars("AAPL", days, WEEK)


def test_a_year_of_new_yorks_sessions_opens_at_half_past_nine_there() -> None:
    sessions = trading_sessions("XNYS", date(2012, 1, 1), date(2012, 12, 31))
    days = pd.concat([one_day(day) for day in sessions["session"].astype(str)])
    minutes = minute_bars("AAPL", days, sessions)
    local = minutes["timestamp"].dt.tz_convert("America/New_York")
    assert (local.dt.date == minutes["date"].dt.date).all()
    assert {str(moment.time()) for moment in local.groupby(minutes["date"]).min()} == {"09:30:00"}
    # 247 whole days and 3 half days.
    assert len(minutes) == 247 * 390 + 3 * 210
    totals = minutes.groupby("date")["volume"].sum()
    assert np.array_equal(totals.to_numpy(), np.full(250, 1_000_000.0))
