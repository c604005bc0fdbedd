"""Why bars are missing: cases made by hand, and a market made up here, whose holes and halts are known."""

from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickstock_assets.domain.gaps import DayEvidence, MinuteEvidence, calendar_gaps, daily_gaps, minute_gaps
from tickstock_assets.domain.gaps.tape import runs_that_fit, tape
from tickstock_assets.domain.sessions import trading_sessions
from tickstock_assets.domain.windows import Window

FIRST, LAST = date(2023, 1, 3), date(2023, 2, 28)
SESSIONS = trading_sessions("XNYS", FIRST, LAST)
DAY = "2023-02-01"
FAR = date(2030, 1, 1)
NOBODY = pd.DataFrame(columns=["symbol", "date", "volume", "trades_count"]).astype(
    {"symbol": "str", "date": "datetime64[us]", "volume": float, "trades_count": float}
)


def minutes_of(symbol: str, rate: float, seed: int) -> pd.DataFrame:
    """Minutes in which a number of trades of 100 shares came by chance; prices wander."""
    random = np.random.default_rng(seed)
    grid = pd.DatetimeIndex(
        np.concatenate(
            [pd.date_range(row.open, row.close, freq="min", inclusive="left") for row in SESSIONS.itertuples()]
        )
    )
    trades = random.poisson(rate, len(grid))
    close = 50 * np.exp(np.cumsum(random.normal(0, 0.0005, len(grid))))
    bars = pd.DataFrame(
        {"symbol": symbol, "timestamp": grid.tz_localize("UTC") if grid.tz is None else grid, "open": close,
         "close": close, "volume": trades * 100.0, "trades_count": trades.astype(float)}
    )  # fmt: skip
    return bars[trades > 0].astype({"timestamp": "datetime64[us, UTC]"})


@dataclass
class Market:
    """What was traded; what is stored of it is less by the holes."""

    traded: pd.DataFrame
    stored: pd.DataFrame

    @classmethod
    def of(cls, *rates: float, seed: int = 1) -> "Market":
        bars = pd.concat([minutes_of(f"S{n}", rate, seed + n) for n, rate in enumerate(rates)], ignore_index=True)
        return cls(bars, bars)

    def _within(self, symbols: list[str], first: str, n_minutes: int) -> pd.Series:
        begin = pd.Timestamp(f"{DAY} {first}", tz="America/New_York")
        stamps = self.traded["timestamp"]
        span = (stamps >= begin) & (stamps < begin + pd.Timedelta(minutes=n_minutes))
        return span & self.traded["symbol"].isin(symbols)

    def hole(self, first: str, n_minutes: int, *symbols: str) -> "Market":
        gone = self._within(list(symbols), first, n_minutes)
        return Market(self.traded, self.stored.drop(index=gone[gone].index, errors="ignore"))

    def halt(self, first: str, n_minutes: int, *symbols: str) -> "Market":
        gone = self._within(list(symbols), first, n_minutes)
        return Market(self.traded[~gone], self.stored.drop(index=gone[gone].index, errors="ignore"))

    def rush(self, minute: str, symbol: str) -> "Market":
        first = self._within([symbol], minute, 1)
        crowded = self.traded.assign(volume=self.traded["volume"].mask(first, 100_000.0))
        return Market(crowded, crowded.loc[self.stored.index])

    def official(self) -> pd.DataFrame:
        days = self.traded["timestamp"].dt.tz_convert("America/New_York").dt.tz_localize(None).dt.normalize()
        sums = self.traded.groupby(["symbol", days.rename("date")], as_index=False)[["volume", "trades_count"]].sum()
        return sums.astype({"date": "datetime64[us]", "symbol": "str"})

    def gaps(self, official: pd.DataFrame | None = None, settled: date = FAR) -> pd.DataFrame:
        symbols = sorted(self.traded["symbol"].unique())
        return minute_gaps(
            MinuteEvidence(
                symbols, SESSIONS, np.ones((len(symbols), len(SESSIONS)), np.bool_), self.stored,
                self.official() if official is None else official,
                self.stored.groupby("timestamp").size(), settled,
            )
        )  # fmt: skip

    def told(self, *, only: str | None = None, **asked: Any) -> list[tuple[str, str, str, int]]:
        """Symbol, class, first minute in New York and length of what is no mere want of trade."""
        found = self.gaps(**asked)
        found = found[(found["class"] != "no_trade") & (found["symbol"] == (only or found["symbol"]))]
        clocks = found["gap_start"].dt.tz_convert("America/New_York").dt.strftime("%m-%d %H:%M")
        return list(zip(found["symbol"], found["class"], clocks, found["missing_bars"].astype(int), strict=True))


LIQUID = Market.of(30, 30, 30, 30)


def test_a_market_in_which_nothing_is_missing_has_no_gap_but_want_of_trade() -> None:
    assert LIQUID.told() == []
    thin = Market.of(30, 0.3)
    assert thin.told() == []
    of_thin = thin.gaps().query("symbol == 'S1'")
    n_expected = sum((row.close - row.open).total_seconds() / 60 for row in SESSIONS.itertuples())
    assert of_thin["missing_bars"].sum() == n_expected - (thin.stored["symbol"] == "S1").sum()
    lengths = [length for evidence in of_thin["evidence"] for _, length in evidence["runs"]]
    assert sum(lengths) == of_thin["missing_bars"].sum()


@pytest.mark.parametrize("n_minutes", [1, 5, 30, 200])
def test_silence_that_the_tape_has_shares_of_is_a_hole(n_minutes: int) -> None:
    market = LIQUID.hole("10:00", n_minutes, "S1")
    assert market.told() == [("S1", "provider_hole", "02-01 10:00", n_minutes)]
    [evidence] = market.gaps().query("`class` == 'provider_hole'")["evidence"]
    missing = LIQUID.traded.drop(index=market.stored.index)
    assert evidence["missing_shares"] == missing["volume"].sum()
    assert evidence["missing_trades"] == missing["trades_count"].sum()


def test_silence_of_five_minutes_that_the_tape_has_no_shares_of_is_a_halt() -> None:
    assert LIQUID.halt("10:00", 5, "S1").told() == [("S1", "halt", "02-01 10:00", 5)]
    assert LIQUID.halt("10:00", 4, "S1").told() == []
    # In a symbol that is silent for an hour now and then it cannot be told from habit.
    assert Market.of(30, 30, 30, 0.1).halt("10:00", 5, "S3").told() == []


def test_a_hole_and_a_halt_of_one_session_are_told_apart_by_the_shares_and_by_how_trading_resumed() -> None:
    market = LIQUID.hole("10:00", 60, "S1").halt("14:00", 12, "S1").rush("14:12", "S1")
    assert market.told() == [("S1", "provider_hole", "02-01 10:00", 60), ("S1", "halt", "02-01 14:00", 12)]
    market = LIQUID.hole("14:00", 12, "S1").halt("10:00", 60, "S1").rush("11:00", "S1")
    assert market.told() == [("S1", "halt", "02-01 10:00", 60), ("S1", "provider_hole", "02-01 14:00", 12)]


def test_a_silent_market_was_halted_where_the_tape_adds_up_and_is_a_hole_where_not() -> None:
    everybody = ("S0", "S1", "S2", "S3")
    assert LIQUID.halt("09:34", 15, *everybody).told() == [(one, "halt", "02-01 09:34", 15) for one in everybody]
    assert LIQUID.hole("09:34", 15, *everybody).told() == [
        (one, "provider_hole", "02-01 09:34", 15) for one in everybody
    ]
    # Without a tape the quarter of an hour of a circuit breaker speaks for itself.
    assert {kind for _, kind, _, _ in LIQUID.hole("09:34", 15, *everybody).told(official=NOBODY)} == {"halt"}
    assert {kind for _, kind, _, _ in LIQUID.hole("11:00", 40, *everybody).told(official=NOBODY)} == {"provider_hole"}


def test_without_a_tape_surprising_silence_is_a_hole_unless_it_ends_as_a_halt_does() -> None:
    market = LIQUID.hole("10:00", 10, "S1")
    assert market.told(official=NOBODY) == [("S1", "provider_hole", "02-01 10:00", 10)]
    resumed = market.stored.copy()
    first = (resumed["symbol"] == "S1") & (resumed["timestamp"] == pd.Timestamp(f"{DAY} 15:10", tz="UTC"))
    resumed.loc[first, ["open", "close", "volume"]] = [60.0, 60.0, 100_000.0]
    assert Market(market.traded, resumed).told(official=NOBODY) == [("S1", "halt", "02-01 10:00", 10)]


def test_an_official_bar_that_repeats_the_one_before_says_nothing_of_the_tape() -> None:
    market = Market.of(30, 3.0)
    official = market.official().set_index(["symbol", "date"])
    # The day before, the thin symbol traded more; were it believed, its silent minutes would have to hold the rest.
    larger = official.loc[("S1", pd.Timestamp(DAY)), "volume"] + 2_000
    official.loc[("S1", pd.Timestamp("2023-01-31")), "volume"] = larger
    official.loc[("S1", pd.Timestamp(DAY)), "volume"] = larger
    assert [clock[:5] for _, _, clock, _ in market.told(official=official.reset_index())] == ["01-31"]


def test_a_vendor_whose_official_bar_counts_more_than_minutes_is_measured_by_its_own_share() -> None:
    official = LIQUID.official()
    noise = np.random.default_rng(3).normal(1.1, 0.01, len(official))
    assert LIQUID.told(official=official.assign(volume=official["volume"] * noise)) == []
    market = LIQUID.hole("10:00", 120, "S1")
    assert market.told(official=official.assign(volume=official["volume"] * noise)) == [
        ("S1", "provider_hole", "02-01 10:00", 120)
    ]


def test_minutes_outside_of_regular_hours_do_not_stand_in_for_missing_ones() -> None:
    market = LIQUID.hole("10:00", 30, "S1")
    late = LIQUID.traded.assign(timestamp=LIQUID.traded["timestamp"] + pd.Timedelta(hours=6.5))
    late = late[late["timestamp"].dt.tz_convert("America/New_York").dt.hour.between(16, 19)]
    both = Market(market.traded, pd.concat([market.stored, late], ignore_index=True))
    assert both.told() == [("S1", "provider_hole", "02-01 10:00", 30)]


def test_a_session_without_any_minute_is_a_hole_or_not_published_yet() -> None:
    market = LIQUID.hole("09:30", 390, "S1")
    assert market.told() == [("S1", "provider_hole", "02-01 09:30", 390)]
    assert market.told(settled=date(2023, 1, 31)) == [("S1", "not_yet_published", "02-01 09:30", 390)]
    # What comes after it in the session is published, so it is not late.
    assert LIQUID.hole("10:00", 30, "S1").told(settled=date(2023, 1, 31)) == [
        ("S1", "provider_hole", "02-01 10:00", 30)
    ]
    assert LIQUID.hole("15:00", 60, "S1").told(settled=date(2023, 1, 31)) == [
        ("S1", "not_yet_published", "02-01 15:00", 60)
    ]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 330), st.integers(2, 60), st.sampled_from(["S0", "S1", "S2", "S3"]), st.booleans())
def test_any_hole_and_any_halt_of_a_liquid_symbol_is_told_exactly(
    minute: int, length: int, symbol: str, is_hole: bool
) -> None:
    clock = (pd.Timestamp("09:30") + pd.Timedelta(minutes=minute)).strftime("%H:%M")
    if is_hole:
        assert LIQUID.hole(clock, length, symbol).told() == [(symbol, "provider_hole", f"02-01 {clock}", length)]
    else:
        expected = [(symbol, "halt", f"02-01 {clock}", length)] if length >= 5 else []
        assert LIQUID.halt(clock, length, symbol).told() == expected


def test_the_shares_that_are_missing_choose_among_the_silent_runs() -> None:
    shares, bars = np.array([1000.0, 300.0, 50.0]), np.array([50.0, 15.0, 2.0])
    natural = np.log([1e-2, 1e-2, 0.1])
    assert runs_that_fit(1000, shares, bars, natural).tolist() == [True, False, False]
    assert runs_that_fit(300, shares, bars, natural).tolist() == [False, True, False]
    # One trade of fifty shares is what the likely silence may hide.
    assert runs_that_fit(50, shares, bars, natural).tolist() == [False, False, True]


def test_the_tape_allows_what_its_own_noise_is() -> None:
    official = np.full((2, 9), 100.0)
    exact = tape(official, np.array([[100.0] * 8 + [90.0], [90, 91, 89, 90, 91, 89, 90, 90, 60.0]]))
    assert exact.is_short.tolist() == [[False] * 8 + [True], [False] * 8 + [True]]
    assert (exact.missing[0, 8], exact.missing[1, 8]) == (10, pytest.approx(30))
    assert not tape(np.full((1, 1), np.nan), np.ones((1, 1))).is_short.any()


# --- days


def days(*, without: dict[str, list[str]], minutes: dict[str, str] | None = None, settled: date = FAR) -> list[Any]:
    symbols = ["A", "B", "C"]
    stored = pd.DataFrame(
        [(s, day) for s in symbols for day in SESSIONS["session"] if f"{day:%Y-%m-%d}" not in without.get(s, [])],
        columns=["symbol", "date"],
    )
    counts = stored.groupby("date").size()
    of_minutes = pd.DataFrame(
        [(s, pd.Timestamp(day), 390) for s, day in (minutes or {}).items()], columns=["symbol", "date", "n_minutes"]
    )
    everything = np.ones((3, len(SESSIONS)), np.bool_)
    found = daily_gaps(
        DayEvidence(
            symbols, SESSIONS, everything, everything, stored, of_minutes, counts,
            pd.Series(3, pd.Index(SESSIONS["session"])), settled,
        )
    )  # fmt: skip
    return [
        (row.symbol, f"{row.gap_start:%m-%d}", row[5], row.evidence["share_of_others_with_a_bar"])
        for row in found.itertuples()
    ]


def test_a_day_that_only_one_symbol_lacks_is_a_hole_and_so_is_one_that_all_lack() -> None:
    assert days(without={"B": ["2023-02-01"]}) == [("B", "02-01", "provider_hole", 1)]
    assert days(without={symbol: ["2023-02-01"] for symbol in "ABC"}) == [
        (symbol, "02-01", "provider_hole", 0) for symbol in "ABC"
    ]


def test_a_symbol_that_lacks_days_now_and_then_was_not_traded_unless_it_has_minutes_of_them() -> None:
    now_and_then = ["2023-01-10", "2023-01-20", "2023-02-02", "2023-02-14"]
    assert [kind for *_, kind, _ in days(without={"C": now_and_then})] == ["no_trade"] * 4
    kinds = [kind for *_, kind, _ in days(without={"C": now_and_then}, minutes={"C": "2023-01-20"})]
    assert kinds == ["no_trade", "provider_hole", "no_trade", "no_trade"]


def test_two_weeks_without_a_bar_are_no_habit() -> None:
    fortnight = [f"{day:%Y-%m-%d}" for day in pd.bdate_range("2023-02-01", "2023-02-14")]
    assert {kind for *_, kind, _ in days(without={"C": [*fortnight, "2023-01-10"]})} == {"provider_hole"}


def test_the_last_days_may_not_be_published_yet() -> None:
    found = days(without={"B": ["2023-02-27", "2023-02-28"]}, settled=date(2023, 2, 27))
    assert found == [("B", "02-27", "provider_hole", 1), ("B", "02-28", "not_yet_published", 1)]


# --- the calendar


def calendar(start: date, end: date, timeframe: Any = "1m", exchange: str = "XNYS", **closed: str) -> list[Any]:
    sessions = trading_sessions(exchange, start, end).assign(override_reason=None)
    for day, reason in closed.items():
        mine = sessions["session"] == pd.Timestamp(day.strip("_").replace("_", "-"))
        sessions.loc[mine, ["kind", "override_reason"]] = ["closed_by_override", reason]
    found = calendar_gaps(exchange, sessions, [Window("A", start, end)], timeframe)
    return [
        (
            row.gap_start.strftime("%m-%d %H:%M"),
            row.gap_end.strftime("%H:%M"),
            int(row.missing_bars),
            row[5],
            row.evidence.get("override"),
        )
        for row in found.itertuples()
    ]


def test_holidays_and_half_days_of_the_end_of_2012_are_those_of_the_newspapers() -> None:
    assert calendar(date(2012, 10, 27), date(2012, 12, 31)) == [
        # Hurricane Sandy, in summer time; Thanksgiving and the day after; Christmas Eve and Christmas.
        ("10-29 13:30", "19:59", 390, "holiday", None),
        ("10-30 13:30", "19:59", 390, "holiday", None),
        ("11-22 14:30", "20:59", 390, "holiday", None),
        ("11-23 18:00", "20:59", 180, "half_day", None),
        ("12-24 18:00", "20:59", 180, "half_day", None),
        ("12-25 14:30", "20:59", 390, "holiday", None),
    ]


def test_of_daily_bars_a_half_day_lacks_none() -> None:
    assert calendar(date(2012, 12, 20), date(2012, 12, 31), "1d") == [("12-25 14:30", "14:30", 1, "holiday", None)]


def test_a_session_that_a_person_closed_is_a_holiday_with_the_reason() -> None:
    found = calendar(date(2012, 12, 19), date(2012, 12, 20), _2012_12_20="a test")
    assert found == [("12-20 14:30", "20:59", 390, "holiday", "a test")]


def test_what_is_always_open_has_no_holidays() -> None:
    assert calendar(date(2012, 12, 20), date(2012, 12, 31), exchange="24/7") == []
