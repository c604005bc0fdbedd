"""Bars that are not stored as asked: against pandas on the same minutes, as known then, adjusted and filled."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import exchange_calendars
import numpy as np
import pandas as pd
import pytest
from sqlalchemy import Engine, text

from tests.storage import tiers
from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.storage.bulk import merge
from tickstock_assets.storage.market_data import MarketReader

PRICES = ["open", "high", "low", "close"]
# The week of a half day and a holiday, and the one after.
FIRST, LAST = date(2024, 7, 1), date(2024, 7, 12)
FROZEN = datetime(2024, 8, 1, tzinfo=UTC)
ROLLUPS = {"ohlcv_5min": "5min", "ohlcv_15min": "15min", "ohlcv_1h": "1h"}
NAN = float("nan")


def at(text_of_moment: str) -> datetime:
    return datetime.fromisoformat(text_of_moment).replace(tzinfo=UTC)


def calendar() -> pd.DataFrame:
    schedule = exchange_calendars.get_calendar("XNYS", start="2024-06-01", end="2024-08-31").schedule
    return schedule.rename_axis("session").reset_index()[["session", "open", "close"]]


def minutes() -> pd.DataFrame:
    """Two symbols' minutes with holes, extended hours included; prices of four decimals, every tenth without a vwap."""
    some = np.random.default_rng(7)
    pieces = []
    for symbol in ("AAPL", "MSFT"):
        for opened in calendar()["open"]:
            if not FIRST <= opened.date() <= LAST:
                continue
            stamps = pd.date_range(opened - pd.Timedelta("90min"), periods=600, freq="min")[some.random(600) < 0.5]
            prices = np.round(100 + some.normal(0, 1, (len(stamps), 4)), 4)
            frame = pd.DataFrame({"symbol": symbol, "timestamp": stamps.as_unit("us"), "open": prices[:, 0]})
            frame["high"], frame["low"], frame["close"] = prices.max(axis=1), prices.min(axis=1), prices[:, 1]
            frame["volume"] = np.round(some.uniform(0, 1000, len(stamps)), 3)
            frame["vwap"] = np.where(some.random(len(stamps)) < 0.1, np.nan, np.round(prices.mean(axis=1), 6))
            frame["trades_count"] = some.integers(1, 40, len(stamps))
            pieces.append(frame.assign(source="polygon"))
    return pd.concat(pieces, ignore_index=True)


def rolled_up(bars: pd.DataFrame, width: str) -> pd.DataFrame:
    """Bars of a width of the clock, by pandas."""
    weighted = bars.assign(weight=bars["volume"].where(bars["vwap"].notna()), worth=bars["vwap"] * bars["volume"])
    found = weighted.groupby(["symbol", pd.Grouper(key="timestamp", freq=width, origin="epoch")]).agg(
        open=("open", "first"), high=("high", "max"), low=("low", "min"), close=("close", "last"), volume=("volume", "sum"),
        weight=("weight", "sum"), worth=("worth", "sum"), trades_count=("trades_count", "sum"), bars=("open", "size"),
    )  # fmt: skip
    found["vwap"] = (found["worth"] / found["weight"].where(found["weight"] > 0)).round(8)
    found["volume"] = found["volume"].round(8)
    return found[found["bars"] > 0].drop(columns=["weight", "worth"]).reset_index()


@pytest.fixture
def stored() -> pd.DataFrame:
    return minutes()


@pytest.fixture
def market(database: Engine, tier: str, stored: pd.DataFrame) -> Engine:
    with database.begin() as connection:
        connection.execute(text("INSERT INTO symbols (symbol) VALUES ('AAPL'), ('MSFT')"))
        for row in calendar().itertuples():
            connection.execute(
                text("INSERT INTO sessions (exchange, session, open, close) VALUES ('XNYS', :day, :open, :close)"),
                {"day": row.session.date(), "open": row.open, "close": row.close},
            )
        merge(connection, "ohlcv_1min", stored)
    if tier != tiers.COMMUNITY:  # there they are made of the minutes by themselves
        for table, width in ROLLUPS.items():
            insert(database, table, rolled_up(stored, width).drop(columns="bars").assign(source="polygon"))
    return database


@pytest.fixture
def reader(market: Engine) -> Iterator[MarketReader]:
    with MarketReader(market.url) as opened:
        yield opened


def insert(database: Engine, table: str, frame: pd.DataFrame) -> None:
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    names = ", ".join(frame.columns)
    with database.begin() as connection:
        connection.execute(
            text(f"INSERT INTO {table} ({names}) VALUES ({', '.join(f':{n}' for n in frame.columns)})"), rows
        )


def execute(database: Engine, statement: str, **values: object) -> None:
    with database.begin() as connection:
        connection.execute(text(statement), values)


def assert_same(found: pd.DataFrame, expected: pd.DataFrame, columns: list[str]) -> None:
    for name in ["symbol", "timestamp", *columns]:
        np.testing.assert_array_equal(found[name].to_numpy(), expected[name].to_numpy(), err_msg=name)


# --- by the clock


@pytest.mark.parametrize(("timeframe", "width"), [("2m", "2min"), ("30m", "30min"), ("4h", "4h"), ("12h", "12h")])
def test_bars_of_any_length_are_those_of_pandas(
    reader: MarketReader, stored: pd.DataFrame, timeframe: str, width: str
) -> None:
    expected = rolled_up(stored, width)
    columns = [*PRICES, "volume", "trades_count"]
    exact = reader.bars_frame(None, timeframe, columns=[*columns, "vwap", "bars"])
    assert_same(exact, expected, [*columns, "bars"])
    np.testing.assert_allclose(exact["vwap"], expected["vwap"], atol=1.1e-8, rtol=0)
    # Without these columns they are made of rolled-up bars, and the same.
    assert_same(reader.bars_frame(None, timeframe, columns=columns), expected, columns)


@pytest.mark.parametrize(("timeframe", "width"), [("5m", "5min"), ("15m", "15min"), ("1h", "1h")])
def test_stored_bars_made_of_minutes_are_the_stored_ones(
    reader: MarketReader, stored: pd.DataFrame, timeframe: str, width: str
) -> None:
    columns = [*PRICES, "volume", "trades_count"]
    as_stored = reader.bars_frame(None, timeframe, columns=columns)
    assert_same(reader.bars_frame(None, timeframe, columns=[*columns, "bars"]), as_stored, columns)
    assert_same(as_stored, rolled_up(stored, width), columns)


def test_a_bar_at_the_edge_is_whole_or_not_there(reader: MarketReader, stored: pd.DataFrame) -> None:
    start, end = at("2024-07-02T14:10"), at("2024-07-02T16:20")
    expected = rolled_up(stored[stored["symbol"] == "AAPL"], "30min")
    within = expected[(expected["timestamp"] >= start) & (expected["timestamp"] < end)]
    assert within["timestamp"].dt.strftime("%H:%M").tolist() == ["14:30", "15:00", "15:30", "16:00"]
    for columns in ([*PRICES, "volume"], [*PRICES, "volume", "bars"]):
        assert_same(reader.bars_frame("AAPL", "30m", start, end, columns=columns), within, columns)


def test_the_default_columns_and_types_are_those_of_stored_bars(reader: MarketReader) -> None:
    assert reader.bars("AAPL", "30m").schema == reader.bars("AAPL", "15m").schema
    assert reader.bars("AAPL", "1w").schema == reader.bars("AAPL", "1d").schema
    everything = [*PRICES, "volume", "vwap", "quote_volume", "trades_count", "exchange", "source", "recorded_at"]
    for made, as_stored in (("30m", "15m"), ("1w", "1d")):
        found = reader.bars("AAPL", made, columns=everything).schema
        assert found.types == reader.bars("AAPL", as_stored, columns=everything).schema.types


def test_the_source_is_the_one_that_ranks_last(market: Engine, reader: MarketReader) -> None:
    [first] = reader.bars("AAPL", "1m", at("2024-07-02T14:00"), at("2024-07-02T14:30"))["timestamp"].to_pylist()[:1]
    execute(market, "UPDATE ohlcv_1min SET source = 'ticks:polygon' WHERE timestamp = :first", first=first)
    execute(
        market, "UPDATE ohlcv_1min SET source = 'alpha_vantage' WHERE timestamp > :first AND timestamp < :end",
        first=first, end=at("2024-07-02T14:30"),
    )  # fmt: skip
    found = reader.bars("AAPL", "30m", at("2024-07-02T14:00"), at("2024-07-02T15:00"))
    assert found["source"].to_pylist() == ["ticks:polygon", "polygon"]


def test_a_vwap_has_the_weight_of_the_minutes_that_have_one(market: Engine, reader: MarketReader) -> None:
    execute(market, "DELETE FROM ohlcv_1min")
    rows = [("13:30", 10, 100, 10), ("13:31", 20, 900, NAN), ("13:45", 30, 100, 30)]
    bars = pd.DataFrame(
        [
            {"symbol": "AAPL", "timestamp": at(f"2024-07-02T{clock}"), **dict.fromkeys(PRICES, price), "volume": volume,
             "vwap": vwap, "source": "polygon"}
            for clock, price, volume, vwap in rows
        ]
    )  # fmt: skip
    insert(market, "ohlcv_1min", bars)
    # 100 shares at 10 and 100 at 30; by the rolled-up bars it would be 1,000 at 10 and 100 at 30.
    assert reader.bars("AAPL", "30m")["vwap"].to_pylist() == [20.0]


# --- from the open


def test_bars_from_the_open_end_with_the_session(reader: MarketReader, stored: pd.DataFrame) -> None:
    found = reader.bars_frame(
        "AAPL", "4h", date(2024, 7, 2), date(2024, 7, 6), align="session", columns=[*PRICES, "bars"]
    )
    # The third was a half day, the fourth a holiday.
    assert found["timestamp"].dt.strftime("%d %H:%M").tolist() == [
        "02 13:30",
        "02 17:30",
        "03 13:30",
        "05 13:30",
        "05 17:30",
    ]
    opened, closed = at("2024-07-03T13:30"), at("2024-07-03T17:00")
    half_day = stored[(stored["symbol"] == "AAPL") & stored["timestamp"].between(opened, closed, inclusive="left")]
    row = found.iloc[2]
    assert (row["open"], row["high"], row["bars"]) == (half_day["open"].iloc[0], half_day["high"].max(), len(half_day))
    coarse = reader.bars_frame("AAPL", "4h", date(2024, 7, 2), date(2024, 7, 6), align="session", columns=PRICES)
    assert coarse[PRICES].equals(found[PRICES])
    # A start within a bar leaves that bar out.
    later = reader.bars_frame(
        "AAPL", "4h", at("2024-07-02T13:31"), at("2024-07-02T17:31"), align="session", columns=PRICES
    )
    assert later["timestamp"].tolist() == [found["timestamp"].iloc[1]]


def test_any_number_of_minutes_can_be_counted_from_the_open(reader: MarketReader) -> None:
    found = reader.bars_frame("AAPL", "50m", at("2024-07-03T00:00"), at("2024-07-04T00:00"), align="session")
    assert found["timestamp"].dt.strftime("%H:%M").tolist() == ["13:30", "14:20", "15:10", "16:00", "16:50"]


def test_what_is_counted_from_the_open_needs_a_calendar(market: Engine, reader: MarketReader) -> None:
    execute(market, "UPDATE ohlcv_1min SET exchange = 'XLON'")
    with pytest.raises(
        ConfigError, match="XLON: expected the sessions of the time of its bars, as align session needs them"
    ):
        reader.bars("AAPL", "1m", align="session")


# --- weeks and months


@pytest.fixture
def daily(market: Engine) -> Engine:
    """A bar of every session in June to August but the first of July; closes count up from 1."""
    days = [day.date() for day in calendar()["session"] if day.date() != date(2024, 7, 1)]
    bars = pd.DataFrame({"symbol": "AAPL", "date": days, "close": np.arange(len(days)) + 1.0, "volume": 10})
    bars = bars.assign(open=bars["close"], high=bars["close"] + 0.5, low=bars["close"] - 0.5, source="sample")
    insert(market, "ohlcv_daily", bars.assign(vwap=bars["close"], recorded_at=FROZEN))
    return market


@pytest.mark.usefixtures("daily")
def test_weeks_and_months_begin_with_their_first_session_and_are_whole(reader: MarketReader) -> None:
    weeks = reader.bars_frame(
        "AAPL", "1w", date(2024, 6, 26), date(2024, 7, 9), columns=["close", "volume", "bars", "timestamp"]
    )
    # The week before began on the 24th; that of the first has no bar of its first session; four sessions, one missing.
    assert weeks["date"].tolist() == [pd.Timestamp("2024-07-01"), pd.Timestamp("2024-07-08")]
    assert weeks["timestamp"].tolist() == [pd.Timestamp("2024-07-01 13:30Z"), pd.Timestamp("2024-07-08 13:30Z")]
    assert weeks["bars"].tolist() == [3, 5]
    assert weeks["volume"].tolist() == [30, 50]
    daily = reader.bars_frame("AAPL", columns=["close"]).set_index("date")["close"]
    assert weeks["close"].tolist() == [daily["2024-07-05"], daily["2024-07-12"]]
    months = reader.bars_frame("AAPL", "1M", columns=["open", "close", "session_close", "vwap"])
    assert months["date"].tolist() == [
        pd.Timestamp("2024-06-03"),
        pd.Timestamp("2024-07-01"),
        pd.Timestamp("2024-08-01"),
    ]
    assert months["session_close"].tolist()[1] == pd.Timestamp("2024-07-31 20:00Z")
    assert months["vwap"].tolist() == [daily[month].mean() for month in ("2024-06", "2024-07", "2024-08")]
    assert reader.bars("AAPL", "1M", date(2024, 7, 1), date(2024, 8, 1))["date"].to_pylist() == [date(2024, 7, 1)]
    by_moment = reader.bars("AAPL", "1w", at("2024-07-01T13:31"), at("2024-07-08T13:31"))
    assert by_moment["date"].to_pylist() == [date(2024, 7, 8)]
    assert reader.bars("AAPL", "1y")["date"].to_pylist() == [date(2024, 6, 3)]


@pytest.mark.usefixtures("daily")
def test_a_split_within_a_week_is_taken_out_before_the_week_is_made(market: Engine, reader: MarketReader) -> None:
    as_traded = reader.bars_frame("AAPL", "1w", date(2024, 7, 8), date(2024, 7, 15), columns=[*PRICES, "volume"])
    execute(market, "INSERT INTO splits VALUES ('AAPL', '2024-07-10', 'sample', 1, 2, now())")
    [week] = reader.bars("AAPL", "1w", date(2024, 7, 8), date(2024, 7, 15), adjusted="splits").to_pylist()
    daily = reader.bars_frame("AAPL", "1d", date(2024, 7, 8), date(2024, 7, 15), columns=PRICES)
    # Two sessions before it at half the price and twice the shares.
    assert (week["open"], week["close"]) == (daily["open"].iloc[0] / 2, daily["close"].iloc[-1])
    assert week["low"] == daily["low"].iloc[0] / 2
    assert week["volume"] == as_traded["volume"].iloc[0] + 20


def test_the_first_and_the_last_day_there_is_are_no_bound(reader: MarketReader) -> None:
    for timeframe in ("1w", "1y", "1M"):
        assert reader.bars("AAPL", timeframe, date.min, date.max).num_rows == 0
    everything = reader.bars("AAPL", "30m", date.min, date.max, fill="ffill")
    assert everything.num_rows == reader.bars("AAPL", "30m", fill="ffill", now=at("9999-01-01")).num_rows > 0


# --- as of a past moment


def load(database: Engine, bars: pd.DataFrame) -> datetime:
    """Store bars and return a moment after that."""
    with database.begin() as connection:
        merge(connection, "ohlcv_1min", bars)
    with database.connect() as connection:
        moment = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    assert isinstance(moment, datetime)
    return moment


def test_bars_of_minutes_are_made_of_what_was_known(market: Engine, reader: MarketReader, stored: pd.DataFrame) -> None:
    first = load(market, stored)
    corrected = stored.assign(high=stored["high"] + 1.5, volume=stored["volume"] + 1)
    second = load(market, corrected)
    columns = [*PRICES, "volume"]
    for timeframe, width in (("5m", "5min"), ("1h", "1h"), ("30m", "30min"), ("2h", "2h")):
        for moment, known in ((first, stored), (second, corrected)):
            assert_same(
                reader.bars_frame(None, timeframe, as_of=moment, columns=columns), rolled_up(known, width), columns
            )
    assert reader.bars("AAPL", "1h", as_of=FROZEN).num_rows == 0


def drop_minutes(database: Engine, before: datetime) -> None:
    """As retention does it."""
    execute(database, "DELETE FROM ohlcv_1min WHERE timestamp < :before", before=before)
    execute(database, "INSERT INTO minutes_dropped (dropped_before) VALUES (:before)", before=before)


@pytest.mark.tiers(tiers.EMBEDDED, tiers.APACHE)
def test_rolled_up_bars_outlive_their_minutes_but_cannot_tell_everything(
    market: Engine, reader: MarketReader, stored: pd.DataFrame
) -> None:
    moment = load(market, stored)
    drop_minutes(market, at("2024-07-03T00:00"))
    expected = rolled_up(stored, "30min")
    assert_same(reader.bars_frame(None, "30m", columns=[*PRICES, "volume"]), expected, [*PRICES, "volume"])
    with_vwap = reader.bars_frame(None, "30m")
    assert_same(with_vwap, expected, [*PRICES, "volume"])
    # By the weight of all minutes, with a vwap or not.
    np.testing.assert_allclose(with_vwap["vwap"], expected["vwap"], rtol=0.01)
    gone = (
        "expected the minutes that bars of 5m are made of, found those of AAPL at 2024-07-0[12] .* dropped by retention"
    )
    with pytest.raises(ConfigError, match=f"as_of: {gone}"):
        reader.bars("AAPL", "5m", as_of=moment)
    with pytest.raises(ConfigError, match=f"columns bars: {gone}"):
        reader.bars("AAPL", "5m", columns=["bars"])
    after = reader.bars_frame("AAPL", "5m", date(2024, 7, 3), as_of=moment, columns=PRICES)
    known = stored[(stored["symbol"] == "AAPL") & (stored["timestamp"] >= at("2024-07-03T00:00"))]
    assert_same(after, rolled_up(known, "5min"), PRICES)


# --- filled


def one_session(database: Engine, rows: dict[str, Decimal], symbol: str = "AAPL") -> None:
    """Minutes of the second of July only: close by clock."""
    execute(database, "DELETE FROM ohlcv_1min WHERE symbol = :symbol", symbol=symbol)
    bars = [
        {"symbol": symbol, "timestamp": at(f"2024-07-02T{clock}"), "open": close, "high": close + 1, "low": close,
         "close": close, "volume": 5, "vwap": close, "trades_count": 2, "source": "polygon"}
        for clock, close in rows.items()
    ]  # fmt: skip
    insert(database, "ohlcv_1min", pd.DataFrame(bars))


def test_missing_minutes_are_filled_with_the_last_close_of_their_session(market: Engine, reader: MarketReader) -> None:
    one_session(
        market,
        {"13:00": Decimal(9), "13:32": Decimal(10), "13:35": Decimal(11), "19:58": Decimal(12), "21:00": Decimal(8)},
    )
    columns = [*PRICES, "volume", "vwap", "trades_count", "source"]
    found = reader.bars_frame("AAPL", "1m", fill="ffill", columns=columns).set_index("timestamp")
    clock = found.index.strftime("%H:%M")
    # Before the open and after the close there is only what was traded; 13:30 and 13:31 stay missing.
    assert clock.tolist()[:5] == ["13:00", "13:32", "13:33", "13:34", "13:35"]
    assert clock.tolist()[-3:] == ["19:58", "19:59", "21:00"]
    assert len(found) == 1 + (390 - 2) + 1
    filled = found.loc[at("2024-07-02T13:33")]
    assert filled[PRICES].tolist() == [10, 10, 10, 10]
    assert (filled["volume"], filled["trades_count"], filled["source"], filled["filled"]) == (0, 0, "filled", True)
    assert np.isnan(filled["vwap"])
    assert found[~found["filled"]].index.strftime("%H:%M").tolist() == ["13:00", "13:32", "13:35", "19:58", "21:00"]
    assert found.loc[at("2024-07-02T19:59"), "close"] == 12
    with market.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM ohlcv_1min WHERE symbol = 'AAPL'")).scalar_one() == 5


def test_what_is_filled_does_not_depend_on_the_part_that_is_read(reader: MarketReader) -> None:
    for timeframe, align in (("1m", "utc"), ("30m", "utc"), ("2h", "session")):
        whole = reader.bars_frame(None, timeframe, fill="ffill", align=align, columns=["close"])
        start, end = at("2024-07-02T14:07"), at("2024-07-05T18:22")
        part = reader.bars_frame(None, timeframe, start, end, fill="ffill", align=align, columns=["close"])
        expected = whole[(whole["timestamp"] >= start) & (whole["timestamp"] < end)].reset_index(drop=True)
        assert part.equals(expected)
        assert len(part)


def test_bars_that_are_not_over_are_not_filled(market: Engine, reader: MarketReader) -> None:
    one_session(market, {"13:32": Decimal(10)})
    found = reader.bars("AAPL", "1m", fill="ffill", columns=["close"], now=at("2024-07-02T13:35:30"))
    assert [f"{moment:%H:%M}" for moment in found["timestamp"].to_pylist()] == ["13:32", "13:33", "13:34"]


@pytest.mark.usefixtures("daily")
def test_a_missing_session_is_filled_from_the_one_before_and_no_further(market: Engine, reader: MarketReader) -> None:
    execute(market, "DELETE FROM ohlcv_daily WHERE date IN ('2024-07-16', '2024-07-17') OR date > '2024-07-22'")
    columns = ["close", "volume", "timestamp", "session_close"]
    found = reader.bars_frame("AAPL", fill="ffill", columns=columns, start=date(2024, 7, 1)).set_index("date")
    # The first, the sixteenth but not the seventeenth, and one behind the last.
    assert found[found["filled"]].index.strftime("%m-%d").tolist() == ["07-01", "07-16", "07-23"]
    assert found.loc["2024-07-16", "close"] == found.loc["2024-07-15", "close"]
    assert found.loc["2024-07-16", "timestamp"] == pd.Timestamp("2024-07-16 13:30Z")
    assert found.loc["2024-07-16", "session_close"] == pd.Timestamp("2024-07-16 20:00Z")
    assert pd.Timestamp("2024-07-17") not in found.index
    open_still = reader.bars_frame("AAPL", fill="ffill", now=at("2024-07-23T19:00"))
    assert open_still["date"].max() == pd.Timestamp("2024-07-22")


def test_filled_bars_are_adjusted_like_those_they_come_from(market: Engine, reader: MarketReader) -> None:
    one_session(market, {"13:32": Decimal(10)})
    execute(market, "INSERT INTO splits VALUES ('AAPL', '2024-07-05', 'sample', 1, 2, now())")
    insert(
        market, "ohlcv_1min",
        pd.DataFrame([{"symbol": "AAPL", "timestamp": at("2024-07-05T13:30"), **dict.fromkeys(PRICES, 5), "volume": 1,
                       "source": "polygon"}]),
    )  # fmt: skip
    found = reader.bars_frame("AAPL", "1m", fill="ffill", adjusted="splits", columns=["close"])
    assert set(found["close"]) == {5.0}
    assert found["filled"].sum() == len(found) - 2 == 387 + 389


def test_what_cannot_be_filled_is_refused(market: Engine, reader: MarketReader) -> None:
    execute(market, "UPDATE ohlcv_1min SET exchange = 'XLON'")
    with pytest.raises(ConfigError, match="XLON: expected the sessions of the time of its bars, as fill needs them"):
        reader.bars("AAPL", "1m", fill="ffill")
    nothing: Any = reader.bars("AAPL", fill="ffill")
    assert nothing.column_names[-1] == "filled"
    assert nothing.num_rows == 0
