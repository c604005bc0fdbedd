"""The market behind the simulated vendors: real bars as they are in the file, invented ones that stay the same."""

import csv
import gzip
from datetime import date
from pathlib import Path

import pandas as pd
import pytest

import tickstock_assets
from tests.simulator.client import END, START, small_market
from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.simulator import Market

FILE = Path(tickstock_assets.__file__).parent / "sample_data" / "stocks.csv.gz"
PRICES = ["open", "high", "low", "close"]


@pytest.fixture(scope="module")
def sample() -> Market:
    return Market()


def test_the_daily_bars_are_those_of_the_file(sample: Market) -> None:
    with gzip.open(FILE, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sample.tickers == ["AAPL", "FB", "GOOG", "IBM", "MSFT"]
    for ticker in sample.tickers:
        bars = sample.daily(ticker)
        expected = [
            (row["Date"], *(float(row[name.title()]) for name in [*PRICES, "volume"]))
            for row in rows
            if row["Ticker"] == ticker
        ]
        found = list(zip(bars["date"].astype(str), *(bars[name] for name in [*PRICES, "volume"]), strict=True))
        assert found == expected


def test_splits_and_dividends_of_the_sample_are_those_that_happened(sample: Market) -> None:
    splits = [(row.symbol, str(row.execution_date.date()), row.split_to) for row in sample.splits().itertuples()]
    assert splits == [("AAPL", "2000-06-21", 2), ("AAPL", "2005-02-28", 2), ("MSFT", "2003-02-18", 2)]
    paid = {(row.symbol, str(row.ex_dividend_date.date())): row.cash_amount for row in sample.dividends().itertuples()}
    assert len(paid) == 92
    # From the companies' own announcements.
    assert (paid["MSFT", "2004-11-15"], paid["AAPL", "2012-08-09"], paid["IBM", "2010-05-06"]) == (3.08, 2.65, 0.65)


def test_minutes_of_a_real_month_add_up_to_its_real_days(sample: Market) -> None:
    minutes = sample.minutes("AAPL", date(2012, 11, 1), date(2012, 11, 30))
    days = sample.daily("AAPL").set_index("date").loc["2012-11-01":"2012-11-30"]
    grouped = minutes.groupby("date")
    assert grouped["open"].first().tolist() == days["open"].tolist()
    assert grouped["high"].max().tolist() == days["high"].tolist()
    assert grouped["low"].min().tolist() == days["low"].tolist()
    assert grouped["close"].last().tolist() == days["close"].tolist()
    assert grouped["volume"].sum().tolist() == days["volume"].tolist()
    # The Friday after Thanksgiving ends at 13:00.
    assert grouped.size().loc[pd.Timestamp("2012-11-23")] == 210
    assert grouped.size().loc[pd.Timestamp("2012-11-26")] == 390


def test_invented_companies_trade_on_every_session_and_are_the_same_again() -> None:
    bars = small_market().daily("S0003")
    # November 2022 has 21 sessions, December 21, January 2023 20.
    assert len(bars) == 62
    assert not {pd.Timestamp("2022-11-24"), pd.Timestamp("2022-12-26"), pd.Timestamp("2023-01-02")} & set(bars["date"])
    assert (bars["low"] <= bars[["open", "close"]].min(axis=1)).all()
    assert (bars["high"] >= bars[["open", "close"]].max(axis=1)).all()
    assert (bars["low"] > 0).all()
    pd.testing.assert_frame_equal(bars, small_market(generated=900).daily("S0003"))
    assert small_market().daily("S0004")["close"].tolist() != bars["close"].tolist()


def test_every_tenth_company_splits_and_every_tenth_pays_a_dividend() -> None:
    market = small_market(generated=20)
    assert market.splits()["symbol"].tolist() == ["S0005", "S0015"]
    assert market.dividends()["symbol"].tolist() == ["S0010", "S0020"]
    bars = market.daily("S0005").set_index("date")["close"]
    split = market.splits()["execution_date"].iloc[0]
    ratio = bars.loc[split] / bars.loc[: split - pd.Timedelta(days=1)].iloc[-1]
    assert 0.45 < ratio < 0.55


def test_extended_hours_trade_outside_of_the_sessions_and_leave_the_days_alone() -> None:
    market = small_market(extended_hours=True)
    plain = small_market().minutes("S0001", START, END)
    minutes = market.minutes("S0001", START, END)
    local = minutes["timestamp"].dt.tz_convert("America/New_York").dt.strftime("%H:%M")
    half_days = minutes["date"] == pd.Timestamp("2022-11-25")
    outside = (local < "09:30") | (local >= "16:00") | (half_days & (local >= "13:00"))
    assert outside.sum() > 62 * 10
    pd.testing.assert_frame_equal(minutes[~outside].reset_index(drop=True), plain)


def test_fractions_of_shares_are_on_a_share_of_days_and_in_their_minutes() -> None:
    market = small_market(fractional_volume=0.5)
    bars = market.daily("S0001").set_index("date")["volume"]
    fractional = bars[bars % 1 != 0]
    assert 15 < len(fractional) < 47
    minutes = market.minutes("S0001", START, END).groupby("date")["volume"].sum()
    assert minutes.tolist() == bars.tolist()


def test_a_reused_tickers_own_bars_begin_with_its_change() -> None:
    market = small_market(reused=["S0002"])
    own = market.daily("S0002")
    whole = small_market().daily("S0002")
    assert own["date"].iloc[0] == whole["date"].iloc[31]
    assert own["close"].tolist() == whole["close"].tolist()[31:]
    [(served, first, after)] = market.window("S0002", "1d", START, END)
    assert after - first == 62
    assert served.columns["close"][:31].tolist() != whole["close"].tolist()[:31]


def test_a_delisted_company_keeps_its_bars_until_then() -> None:
    market = small_market(delisted={"S0001": date(2022, 12, 15)})
    assert str(market.daily("S0001")["date"].iloc[-1].date()) == "2022-12-15"
    assert "S0001" in market.tickers


def test_an_unknown_ticker_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match="NONE: expected a ticker of the simulated market"):
        small_market(reused=["NONE"])
