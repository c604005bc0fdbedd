"""Longer bars of shorter ones, against pandas and DuckDB, which make them in their own ways."""

from datetime import date

import duckdb
import exchange_calendars
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickstock_assets.domain.resampling import next_period_starts, period_starts, resample
from tickstock_assets.domain.timeframes import bar_length

NAN = float("nan")
# Both clock changes of New York in 2024, a half day, and an ordinary session.
DAYS = ["2024-03-08", "2024-03-11", "2024-07-03", "2024-11-01", "2024-11-04", "2024-11-29"]
PRICES = ["open", "high", "low", "close"]


def minutes(opened: str, rows: list[tuple[float, ...]], symbol: str = "AAPL") -> pd.DataFrame:
    """Rows of minute number, open, high, low, close, volume, vwap after a moment."""
    frame = pd.DataFrame(rows, columns=["minute", *PRICES, "volume", "vwap"])
    stamps = pd.Timestamp(opened, tz="UTC") + pd.to_timedelta(frame.pop("minute"), unit="min")
    frame.insert(0, "timestamp", stamps.astype("datetime64[us, UTC]"))
    frame.insert(0, "symbol", symbol)
    return frame


def sessions(first: str = "2024-01-01", last: str = "2024-12-31", exchange: str = "XNYS") -> pd.DataFrame:
    """The calendar's sessions, asked directly."""
    schedule = exchange_calendars.get_calendar(exchange, start=first, end=last).schedule
    return pd.DataFrame(
        {
            "exchange": exchange,
            "session": schedule.index.to_numpy("datetime64[us]"),
            "open": schedule["open"].dt.tz_localize(None).to_numpy("datetime64[us]"),
            "close": schedule["close"].dt.tz_localize(None).to_numpy("datetime64[us]"),
        }
    )


# --- worked sums


def test_a_bar_is_first_highest_lowest_last_and_the_sum() -> None:
    found = resample(
        minutes(
            "2024-07-03 13:30", [(0, 10, 12, 9, 11, 100, 10.5), (4, 11, 11.5, 8, 9, 300, 9.5), (5, 7, 7, 7, 7, 1, 7)]
        ),
        bar_length("5m"),
    )
    assert found["timestamp"].tolist() == [pd.Timestamp("2024-07-03 13:30Z"), pd.Timestamp("2024-07-03 13:35Z")]
    assert found[PRICES].iloc[0].tolist() == [10, 12, 8, 9]
    assert found["volume"].tolist() == [400, 1]
    # 100 shares at 10.5 and 300 at 9.5.
    assert found["vwap"].tolist() == [9.75, 7]
    assert found["bars"].tolist() == [2, 1]


def test_what_is_missing_is_skipped_and_what_is_all_missing_stays_missing() -> None:
    bars = minutes(
        "2024-07-03 13:30",
        [
            (0, NAN, NAN, NAN, NAN, NAN, NAN), (1, 5, 6, 4, 5, 10, NAN), (2, 6, 7, 5, 6, 30, 6.5),
            (3, NAN, NAN, NAN, NAN, 2, NAN), (5, NAN, NAN, NAN, NAN, NAN, NAN),
        ],
    ).assign(trades_count=[NAN, 3, NAN, 4, NAN])  # fmt: skip
    found = resample(bars, bar_length("5m"))
    assert found[[*PRICES, "volume", "trades_count"]].iloc[0].tolist() == [5, 7, 4, 6, 42, 7]
    # The bar without a vwap has no weight in it.
    assert found["vwap"].iloc[0] == 6.5
    assert found[[*PRICES, "volume", "vwap", "trades_count"]].iloc[1].isna().all()


def test_a_vwap_of_bars_without_volume_is_none() -> None:
    found = resample(minutes("2024-07-03 13:30", [(0, 5, 5, 5, 5, 0, 5)]), bar_length("5m"))
    assert found["vwap"].isna().tolist() == [True]


def test_source_is_the_category_that_comes_last_and_recorded_at_the_latest() -> None:
    stamps = [pd.Timestamp("2024-08-02", tz="UTC"), pd.Timestamp("2024-08-01", tz="UTC")]
    ranked = pd.Categorical(["ticks:polygon", "polygon"], categories=["polygon", "ticks:polygon"], ordered=True)
    bars = minutes("2024-07-03 13:30", [(0, 5, 5, 5, 5, 1, 5), (1, 5, 5, 5, 5, 1, 5)])
    found = resample(bars.assign(source=ranked, recorded_at=stamps), bar_length("5m"))
    assert found["source"].tolist() == ["ticks:polygon"]
    assert found["recorded_at"].tolist() == stamps[:1]


def test_symbols_are_kept_apart_also_at_the_same_moment() -> None:
    bars = pd.concat([minutes("2024-07-03 13:30", [(0, 1, 1, 1, 1, 1, 1)], name) for name in ("A", "B")])
    found = resample(bars, bar_length("1h"))
    assert found["symbol"].tolist() == ["A", "B"]
    assert found["timestamp"].tolist() == [pd.Timestamp("2024-07-03 13:00Z")] * 2


def test_no_bars_are_no_bars() -> None:
    nothing = minutes("2024-07-03 13:30", [(0, 1, 1, 1, 1, 1, 1)]).iloc[:0]
    for length, align in (("30m", "utc"), ("4h", "session")):
        found = resample(nothing.assign(exchange=[]), bar_length(length), align=align, sessions=sessions())  # type: ignore[arg-type]
        assert (len(found), "vwap" in found, found["timestamp"].dtype) == (0, True, "datetime64[us, UTC]")


@pytest.mark.parametrize("order", [[1, 0], [0, 0]])
def test_bars_that_are_not_in_order_are_refused(order: list[int]) -> None:
    bars = minutes("2024-07-03 13:30", [(0, 1, 1, 1, 1, 1, 1), (1, 1, 1, 1, 1, 1, 1)]).iloc[order]
    with pytest.raises(ValueError, match="the oldest first"):
        resample(bars, bar_length("5m"))
    scattered = pd.concat([minutes("2024-07-03 13:30", [(0, 1, 1, 1, 1, 1, 1)], name) for name in "ABA"])
    with pytest.raises(ValueError, match="symbol by symbol"):
        resample(scattered, bar_length("5m"))


def test_a_length_that_does_not_divide_a_day_has_no_widths_of_the_clock() -> None:
    with pytest.raises(ValueError, match="divides a day, found 7m"):
        resample(minutes("2024-07-03 13:30", [(0, 1, 1, 1, 1, 1, 1)]), bar_length("7m"))


# --- counted from the open


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        # New York is five hours behind UTC in winter and four in summer.
        ("2024-03-08", ["14:30", "18:30"]),
        ("2024-03-11", ["13:30", "17:30"]),
        ("2024-11-01", ["13:30", "17:30"]),
        ("2024-11-04", ["14:30", "18:30"]),
        ("2024-11-29", ["14:30"]),  # a half day ends after three and a half hours
    ],
)
def test_four_hours_from_the_open_end_with_the_session(day: str, expected: list[str]) -> None:
    whole_day = minutes(f"{day} 08:00", [(n, 1, 1, 1, 1, 1, 1) for n in range(16 * 60)]).assign(exchange="XNYS")
    found = resample(whole_day, bar_length("4h"), align="session", sessions=sessions())
    assert found["timestamp"].dt.strftime("%H:%M").tolist() == expected
    # Regular hours only: 390 minutes, or 210.
    assert found["bars"].tolist() == ([240, 150] if len(expected) == 2 else [210])


def test_each_exchange_has_its_own_open() -> None:
    tokyo = minutes("2024-07-03 00:00", [(0, 1, 1, 1, 1, 1, 1)], "7203").assign(exchange="XTKS")
    new_york = minutes("2024-07-03 13:30", [(n, 2, 2, 2, 2, 1, 2) for n in range(61)]).assign(exchange="XNYS")
    nowhere = minutes("2024-07-03 13:30", [(0, 1, 1, 1, 1, 1, 1)], "XYZ").assign(exchange="none")
    known = pd.concat([sessions(), sessions(exchange="XTKS")])
    found = resample(pd.concat([tokyo, new_york, nowhere]), bar_length("1h"), align="session", sessions=known)
    assert list(zip(found["symbol"], found["timestamp"].dt.strftime("%H:%M"), found["bars"], strict=True)) == [
        ("7203", "00:00", 1), ("AAPL", "13:30", 60), ("AAPL", "14:30", 1),
    ]  # fmt: skip


# --- weeks, months, years


def daily(days: list[str], symbol: str = "AAPL") -> pd.DataFrame:
    closes = np.arange(len(days), dtype=float) + 10
    frame = pd.DataFrame({"symbol": symbol, "date": pd.to_datetime(days).astype("datetime64[us]"), "exchange": "XNYS"})
    return frame.assign(open=closes - 0.5, high=closes + 1, low=closes - 1, close=closes, volume=100.0)


def test_a_week_is_stamped_with_its_first_session_traded_in_or_not() -> None:
    # Monday the first was a holiday, so the week's first session is Tuesday; the bar of it is missing.
    found = resample(daily(["2024-01-03", "2024-01-05", "2024-01-08"]), bar_length("1w"), sessions=sessions())
    assert found["date"].tolist() == [pd.Timestamp("2024-01-02"), pd.Timestamp("2024-01-08")]
    assert found["timestamp"].tolist() == [pd.Timestamp("2024-01-02 14:30Z"), pd.Timestamp("2024-01-08 14:30Z")]
    assert found["session_close"].tolist() == [pd.Timestamp("2024-01-05 21:00Z"), pd.Timestamp("2024-01-12 21:00Z")]
    assert found[[*PRICES, "volume", "bars"]].iloc[0].tolist() == [9.5, 12, 9, 11, 200, 2]


def test_a_week_may_span_two_years_and_a_month_ends_with_its_last_day() -> None:
    bars = daily(["2024-12-30", "2024-12-31", "2025-01-02"])
    assert resample(bars, bar_length("1w"))["bars"].tolist() == [3]
    assert resample(bars, bar_length("1M"))["date"].tolist() == [pd.Timestamp("2024-12-30"), pd.Timestamp("2025-01-02")]
    assert resample(bars, bar_length("1y"))["close"].tolist() == [11, 12]


@pytest.mark.parametrize(
    ("length", "frequency"), [("1w", "W-SUN"), ("1M", "M"), ("3M", "Q"), ("1y", "Y"), ("2M", None), ("5y", None)]
)
@given(days=st.lists(st.dates(date(1960, 1, 1), date(2030, 12, 31)), min_size=1, max_size=30, unique=True))
@settings(max_examples=60, deadline=None)
def test_periods_are_those_of_the_calendar(length: str, frequency: str | None, days: list[date]) -> None:
    moments = np.array(sorted(days), "datetime64[us]")
    starts, after = period_starts(moments, bar_length(length)), next_period_starts(moments, bar_length(length))
    assert ((starts <= moments) & (moments < after)).all()
    assert (period_starts(after - np.timedelta64(1, "D"), bar_length(length)) == starts).all()
    assert (period_starts(after.astype("datetime64[us]"), bar_length(length)) == after).all()
    if frequency is not None:
        expected = pd.DatetimeIndex(moments).to_period(frequency).start_time
        assert pd.DatetimeIndex(starts).equals(expected.as_unit("s"))


# --- independent oracles


@st.composite
def gappy_minutes(draw: st.DrawFn) -> pd.DataFrame:
    """Two symbols' minutes over sessions of both clock changes and half days, with holes, in all and in extended hours."""
    seed = draw(st.integers(0, 2**32 - 1))
    share = draw(st.sampled_from([0.003, 0.1, 0.6, 1.0]))
    some = np.random.default_rng(seed)
    pieces = []
    for symbol in ("AAPL", "MSFT"):
        days = sorted(some.choice(DAYS, size=some.integers(1, 4), replace=False))
        moments = np.concatenate(
            [np.datetime64(day, "us") + np.arange(480, 1440) * np.timedelta64(1, "m") for day in days]
        )
        moments = moments[some.random(len(moments)) < share]
        prices = np.round(100 * np.exp(np.cumsum(some.normal(0, 0.001, (len(moments), 4)), axis=0)), 4)
        frame = pd.DataFrame(
            {"symbol": symbol, "timestamp": pd.DatetimeIndex(moments).tz_localize("UTC").as_unit("us")}
        )
        frame["open"], frame["close"] = prices[:, 0], prices[:, 1]
        frame["high"], frame["low"] = prices.max(axis=1), prices.min(axis=1)
        frame["volume"] = some.integers(0, 5_000, len(moments)).astype(float)
        frame["vwap"] = np.where(some.random(len(moments)) < 0.2, np.nan, prices.mean(axis=1))
        frame["trades_count"] = np.where(some.random(len(moments)) < 0.1, np.nan, some.integers(1, 50, len(moments)))
        pieces.append(frame)
    return pd.concat(pieces, ignore_index=True)


@pytest.mark.parametrize("minutes_long", [1, 2, 5, 15, 30, 45, 60, 240])
@given(bars=gappy_minutes())
@settings(max_examples=12, deadline=None)
def test_bars_by_the_clock_are_those_of_pandas(minutes_long: int, bars: pd.DataFrame) -> None:
    found = resample(bars, bar_length(f"{minutes_long}m"))
    weighted = bars.assign(
        weight=bars["volume"].where(bars["vwap"].notna(), 0.0), worth=(bars["vwap"] * bars["volume"]).fillna(0.0)
    )
    grouped = weighted.groupby(["symbol", pd.Grouper(key="timestamp", freq=f"{minutes_long}min", origin="epoch")])
    expected = grouped.agg(
        open=("open", "first"), high=("high", "max"), low=("low", "min"), close=("close", "last"),
        volume=("volume", "sum"), weight=("weight", "sum"), worth=("worth", "sum"), bars=("open", "size"),
    ).query("bars > 0").reset_index()  # fmt: skip
    expected["vwap"] = expected["worth"] / expected["weight"].where(expected["weight"] > 0)
    expected["trades_count"] = grouped["trades_count"].sum(min_count=1).loc[
        pd.MultiIndex.from_frame(expected[["symbol", "timestamp"]])
    ].to_numpy()  # fmt: skip
    assert found[["symbol", "timestamp"]].astype(str).equals(expected[["symbol", "timestamp"]].astype(str))
    for name in (*PRICES, "volume", "trades_count", "bars"):
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    np.testing.assert_allclose(found["vwap"], expected["vwap"], rtol=1e-12)


@pytest.mark.parametrize("minutes_long", [5, 30, 60])
@given(bars=gappy_minutes())
@settings(max_examples=6, deadline=None)
def test_bars_by_the_clock_are_those_of_duckdb(minutes_long: int, bars: pd.DataFrame) -> None:
    found = resample(bars, bar_length(f"{minutes_long}m"))
    stored = bars.assign(timestamp=bars["timestamp"].dt.tz_localize(None))  # noqa: F841 the query names it
    rows = duckdb.sql(f"""
        SELECT symbol, time_bucket(INTERVAL '{minutes_long} minutes', timestamp, TIMESTAMP '1970-01-01') AS bucket,
               arg_min(open, timestamp), max(high), min(low), arg_max(close, timestamp), sum(volume)
        FROM stored GROUP BY ALL ORDER BY ALL
    """).fetchall()
    naive = found["timestamp"].dt.tz_localize(None).dt.to_pydatetime()
    columns = [found[name].tolist() for name in (*PRICES, "volume")]
    assert list(zip(found["symbol"], naive, *columns, strict=True)) == rows


@pytest.mark.parametrize("hours", [1, 4])
@given(bars=gappy_minutes())
@settings(max_examples=8, deadline=None)
def test_bars_from_the_open_are_those_of_new_yorks_clock(hours: int, bars: pd.DataFrame) -> None:
    found = resample(bars.assign(exchange="XNYS"), bar_length(f"{hours}h"), align="session", sessions=sessions())
    # Half past nine to four, to one on half days, whatever UTC says.
    local = bars["timestamp"].dt.tz_convert("America/New_York")
    since = (local - local.dt.normalize() - pd.Timedelta("9h30min")).dt.total_seconds() / 60
    length = np.where(local.dt.strftime("%m-%d").isin(["07-03", "11-29"]), 210, 390)
    inside = bars.assign(day=local.dt.date, part=since // (60 * hours))[(since >= 0) & (since < length)]
    expected = inside.groupby(["symbol", "day", "part"]).agg(
        open=("open", "first"),
        high=("high", "max"),
        low=("low", "min"),
        close=("close", "last"),
        volume=("volume", "sum"),
    )
    assert found[[*PRICES, "volume"]].to_numpy().tolist() == expected.to_numpy().tolist()


@given(bars=gappy_minutes())
@settings(max_examples=25, deadline=None)
def test_in_steps_or_at_once_is_the_same_and_twice_is_once(bars: pd.DataFrame) -> None:
    at_once = resample(bars, bar_length("15m"))
    five = resample(bars, bar_length("5m")).drop(columns="bars")
    in_steps = resample(five, bar_length("15m"))
    exact = ["symbol", "timestamp", *PRICES, "volume", "trades_count"]
    pd.testing.assert_frame_equal(at_once[exact], in_steps[exact])
    again = resample(at_once.drop(columns="bars"), bar_length("15m"))
    # price x volume / volume may differ in the last binary digit.
    pd.testing.assert_frame_equal(again.drop(columns="bars"), at_once.drop(columns="bars"), rtol=1e-15)
    assert (again["bars"] == 1).all()


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_weeks_are_those_of_pandas(seed: int) -> None:
    some = np.random.default_rng(seed)
    days = pd.bdate_range("2023-12-01", periods=300)[some.random(300) < 0.6]
    bars = daily([str(day) for day in days]).assign(close=some.random(len(days)))
    for length, frequency in (("1w", "W-SUN"), ("1M", "M"), ("3M", "Q")):
        expected = bars.groupby(bars["date"].dt.to_period(frequency)).agg(
            date=("date", "first"), open=("open", "first"), high=("high", "max"), low=("low", "min"),
            close=("close", "last"), volume=("volume", "sum"),
        )  # fmt: skip
        found = resample(bars, bar_length(length))[[*expected.columns]]
        assert found.to_numpy().tolist() == expected.to_numpy().tolist()
