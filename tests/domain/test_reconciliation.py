"""Reconciliation: every difference is planted by hand here, and exactly the planted ones must be found.

What plants them shares nothing with the kernel: plain loops over bars, exact decimals and fractions for rounding.
"""

from datetime import date
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickstock_assets.domain.errors import ConfigError, ContractError
from tickstock_assets.domain.reconciliation import Reconciliation, reconcile
from tickstock_assets.domain.sessions import trading_sessions
from tickstock_assets.providers.sample import VENDORED_FILE, SampleProvider

NO_SPLITS = pd.DataFrame({"symbol": [], "execution_date": [], "split_from": [], "split_to": []})
NO_DIVIDENDS = pd.DataFrame({"symbol": [], "ex_dividend_date": [], "cash_amount": []})
SESSIONS = trading_sessions("XNYS", date(2021, 1, 4), date(2021, 6, 30))
DAYS = [stamp.date() for stamp in SESSIONS["session"]]
PRICES = ["open", "high", "low", "close"]
SPLIT_DAY, REVERSE_DAY = DAYS[40], DAYS[80]


def splits_of(*rows: tuple[date, int, int]) -> pd.DataFrame:
    return pd.DataFrame([("T", *row) for row in rows], columns=list(NO_SPLITS.columns))


def dividends_of(*rows: tuple[date, float]) -> pd.DataFrame:
    return pd.DataFrame([("T", *row) for row in rows], columns=list(NO_DIVIDENDS.columns))


TWO_FOR_ONE = splits_of((SPLIT_DAY, 1, 2))
DIVIDENDS = dividends_of((DAYS[20], 0.37), (DAYS[63], 0.41), (DAYS[100], 0.45))


def traded(seed: int = 1, splits: pd.DataFrame = NO_SPLITS) -> pd.DataFrame:
    """Return daily bars in cents and whole shares; at a split the price falls by its ratio."""
    random = np.random.default_rng(seed)
    close, rows = 90.0, []
    for day in DAYS:
        for split in splits.itertuples():
            if split.execution_date == day:
                close *= split.split_from / split.split_to
        opened = close * (1 + random.normal(0, 0.004))
        close = close * (1 + random.normal(0, 0.012))
        high = max(opened, close) * (1 + abs(random.normal(0, 0.004)))
        low = min(opened, close) * (1 - abs(random.normal(0, 0.004)))
        volume = float(random.integers(1_000, 90_000))
        rows.append(("T", day, *(round(price, 2) for price in (opened, high, low, close)), volume))
    return pd.DataFrame(rows, columns=["symbol", "date", *PRICES, "volume"])


def split_adjusted(bars: pd.DataFrame, splits: pd.DataFrame, as_of: date = DAYS[-1]) -> pd.DataFrame:
    """Divide each price before a split by its ratio, one bar at a time."""
    factors = []
    for day in bars["date"]:
        factor = Fraction(1)
        for split in splits.itertuples():
            if day < split.execution_date <= as_of:
                factor *= Fraction(int(split.split_from), int(split.split_to))
        factors.append(float(factor))
    return bars.assign(**{name: bars[name] * factors for name in PRICES}, volume=bars["volume"] / factors)


def dividend_adjusted(bars: pd.DataFrame, raw: pd.DataFrame, dividends: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Multiply each price before an ex-date by that dividend's step, measured by `raw` closes."""
    closes, factors = dict(zip(raw["date"], raw["close"], strict=True)), []
    for day in bars["date"]:
        factor = 1.0
        for dividend in dividends.itertuples():
            ex_date = dividend.ex_dividend_date
            before = DAYS[DAYS.index(ex_date) - 1]
            if day < ex_date and kind == "crsp":
                factor *= 1 - dividend.cash_amount / closes[before]
            elif day < ex_date:
                factor *= 1 / (1 + dividend.cash_amount / closes[ex_date])
        factors.append(factor)
    return bars.assign(**{name: bars[name] * factors for name in PRICES})


def rounded(bars: pd.DataFrame, decimals: int, rule: str) -> pd.DataFrame:
    # What arithmetic in float64 has left of a tie is a tie: 15 significant digits are what it holds.
    def one(price: float) -> float:
        return float(Decimal(f"{price:.12g}").quantize(Decimal(1).scaleb(-decimals), rounding=rule))

    return bars.assign(**{name: [one(price) for price in bars[name]] for name in PRICES})


def whole_volume(bars: pd.DataFrame, lot: int = 1) -> pd.DataFrame:
    return bars.assign(volume=[float(int(volume) // lot * lot) for volume in bars["volume"]])


def with_fractions(bars: pd.DataFrame, seed: int = 5) -> pd.DataFrame:
    return bars.assign(volume=bars["volume"] + np.random.default_rng(seed).integers(1, 100, len(bars)) / 100)


def noisy(bars: pd.DataFrame, size: float, seed: int = 9, share: float = 1.0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    hit = random.random(len(bars)) < share
    return bars.assign(
        **{name: bars[name] * np.where(hit, 1 + random.normal(0, size, len(bars)), 1) for name in [*PRICES, "volume"]}
    )


def compare(left: pd.DataFrame, right: pd.DataFrame, **given_: object) -> Reconciliation:
    facts = {"splits": NO_SPLITS, "dividends": NO_DIVIDENDS, "sessions": SESSIONS}
    return reconcile(left, right, **{**facts, **given_})  # type: ignore[arg-type]


def causes(report: Reconciliation) -> list[str]:
    return [explanation.cause for explanation in report.explanations]


def evidence_of(report: Reconciliation, cause: str) -> dict:
    (found,) = [explanation for explanation in report.explanations if explanation.cause == cause]
    return dict(found.evidence)


# Nothing to explain


def test_equal_bars_need_no_explanation():
    report = compare(traded(), traded())
    assert (report.matched, report.only_left, report.only_right) == (len(DAYS), 0, 0)
    assert causes(report) == []
    assert report.explained
    assert all(residual.max == 0 for residual in report.before.values())


def test_recorded_splits_and_dividends_are_not_claimed_where_bars_are_equal():
    bars = traded(splits=TWO_FOR_ONE)
    assert causes(compare(bars, bars, splits=TWO_FOR_ONE, dividends=DIVIDENDS)) == []


@pytest.mark.parametrize("size", [1e-5, 1e-4, 1e-3, 1e-2, 0.1])
@pytest.mark.parametrize("seed", range(2))
def test_noise_is_never_explained(size: float, seed: int):
    bars = traded(seed)
    # Unrounded on both sides: noise below half a cent would be hidden by rounding to cents.
    exact = bars.assign(**{name: bars[name] * np.pi for name in PRICES}, volume=bars["volume"] * np.pi)
    report = compare(exact, noisy(exact, size, seed + 50), splits=splits_of((DAYS[60], 10, 11)), dividends=DIVIDENDS)
    assert causes(report) == []
    assert not report.explained
    assert report.unexplained_bars == len(DAYS)


@given(seed=st.integers(0, 10_000), size=st.floats(1e-3, 0.2), share=st.floats(0.05, 1))
@settings(deadline=None, max_examples=20)
def test_noise_in_cents_is_never_explained(seed: int, size: float, share: float):
    bars = traded(seed % 7)
    other = rounded(noisy(bars, size, seed, share), 2, ROUND_HALF_UP)
    other = other.assign(volume=np.rint(other["volume"]))
    assert causes(compare(bars, other, splits=TWO_FOR_ONE, dividends=DIVIDENDS)) == []


def test_a_cent_or_a_share_more_is_not_rounding():
    bars = traded()
    other = bars.assign(close=(bars["close"] + 0.01).round(2), volume=bars["volume"] + 1)
    report = compare(bars, other)
    assert causes(report) == []
    assert report.unexplained_bars == len(DAYS)


# Adjustment basis


@pytest.mark.parametrize("kind", ["wiki", "crsp"])
def test_dividend_adjusted_bars_are_explained_by_the_convention_they_follow(kind: str):
    bars = traded(splits=TWO_FOR_ONE)
    other = dividend_adjusted(split_adjusted(bars, TWO_FOR_ONE), bars, DIVIDENDS, kind)
    report = compare(bars, other, splits=TWO_FOR_ONE, dividends=DIVIDENDS)
    assert causes(report) == ["adjustment_basis"]
    evidence = evidence_of(report, "adjustment_basis")
    assert evidence["left"] == "as traded"
    assert evidence["right"] == f"split- and dividend-adjusted ({kind})"
    assert report.explained


@pytest.mark.parametrize("swapped", [False, True])
def test_split_adjusted_bars_are_explained(swapped: bool):
    bars = traded(splits=TWO_FOR_ONE)
    sides = [bars, split_adjusted(bars, TWO_FOR_ONE)]
    report = compare(*(sides[::-1] if swapped else sides), splits=TWO_FOR_ONE)
    assert causes(report) == ["adjustment_basis"]
    (explanation,) = report.explanations
    names = ("right", "left") if swapped else ("left", "right")
    assert [explanation.evidence[name] for name in names] == ["as traded", "split-adjusted"]
    # The bars before the split and no others, all of their prices and volumes.
    assert explanation.bars == 40
    assert (explanation.first, explanation.last) == (DAYS[0], DAYS[39])
    assert (explanation.evidence["cells_above_without"], explanation.evidence["cells_above_with"]) == (200, 0)
    assert explanation.before["close"].max == pytest.approx(0.5)
    assert explanation.after["close"].max < 1e-12
    assert explanation.evidence["volume_follows_splits"] is True
    assert report.explained


def test_volume_that_is_left_as_traded_is_said():
    bars = traded(splits=TWO_FOR_ONE)
    other = split_adjusted(bars, TWO_FOR_ONE).assign(volume=bars["volume"])
    report = compare(bars, other, splits=TWO_FOR_ONE)
    assert evidence_of(report, "adjustment_basis")["volume_follows_splits"] is False
    assert report.explained


def test_both_sides_adjusted_in_different_conventions_are_explained():
    bars = traded(splits=TWO_FOR_ONE)
    adjusted = split_adjusted(bars, TWO_FOR_ONE)
    left, right = (dividend_adjusted(adjusted, bars, DIVIDENDS, kind) for kind in ("crsp", "wiki"))
    report = compare(left, right, splits=TWO_FOR_ONE, dividends=DIVIDENDS)
    evidence = evidence_of(report, "adjustment_basis")
    assert "crsp" in evidence["left"]
    assert "wiki" in evidence["right"]
    assert causes(report) == ["adjustment_basis"]
    assert report.explained


def test_bars_adjusted_to_a_day_before_the_last_split_are_dated():
    splits = splits_of((SPLIT_DAY, 1, 2), (REVERSE_DAY, 5, 1))
    bars = traded(splits=splits)
    report = compare(bars, split_adjusted(bars, splits, as_of=DAYS[79]), splits=splits)
    evidence = evidence_of(report, "adjustment_basis")
    assert (evidence["right"], evidence["right_as_of"]) == ("split-adjusted", "2021-04-28")
    assert report.explained


def test_a_split_after_the_last_bar_explains_a_constant_ratio():
    splits = splits_of((date(2022, 6, 6), 1, 20))
    bars = traded()
    report = compare(bars, split_adjusted(bars, splits, as_of=date(2023, 1, 1)), splits=splits)
    assert causes(report) == ["adjustment_basis"]
    assert evidence_of(report, "adjustment_basis")["right_as_of"] == "2022-06-06"
    assert report.explained


def test_a_basis_shows_through_noise_but_leaves_it_unexplained():
    bars = traded(splits=TWO_FOR_ONE)
    report = compare(bars, noisy(split_adjusted(bars, TWO_FOR_ONE), 5e-4), splits=TWO_FOR_ONE)
    assert causes(report) == ["adjustment_basis"]
    assert not report.explained
    assert report.unexplained_bars == len(DAYS)


# The Adj Close of the sample is in the share unit of a day years after its last row. FB paid nothing and never split.
@pytest.mark.parametrize("symbol", ["AAPL", "GOOG", "IBM", "MSFT"])
def test_adjusted_closes_of_the_sample_data_are_explained_by_dividends_and_splits(symbol: str):
    sample = SampleProvider()
    frame = pd.read_csv(VENDORED_FILE, parse_dates=["Date"])
    rows = frame[frame["Ticker"] == symbol]
    left = pd.DataFrame({"symbol": symbol, "date": rows["Date"], "close": rows["Close"]})
    facts = {
        "splits": sample.splits(),
        "dividends": sample.dividends(),
        "sessions": trading_sessions("XNYS", date(2000, 1, 1), date(2013, 3, 1)),
    }
    later = rows["Adj Close"].iloc[-1] / rows["Close"].iloc[-1]
    report = reconcile(left, left.assign(close=rows["Adj Close"] / later), **facts)
    # GOOG neither split nor paid in these years.
    assert causes(report) == ([] if symbol == "GOOG" else ["adjustment_basis"])
    assert report.explained
    assert report.after["close"].max < 1e-12

    as_published = reconcile(left, left.assign(close=rows["Adj Close"]), **facts)
    assert causes(as_published) == [*causes(report), "suspected_unrecorded_adjustment"]
    evidence = evidence_of(as_published, "suspected_unrecorded_adjustment")
    assert evidence["date"] is None
    assert evidence["ratio"] == pytest.approx(1 / later, rel=1e-9)
    if symbol != "GOOG":
        found = evidence_of(as_published, "adjustment_basis")
        assert (found["left"], found["right"]) == ("as traded", "split- and dividend-adjusted (wiki)")


# A record that lacks something


def test_a_split_that_is_not_recorded_is_suspected_with_its_ratio_and_date():
    bars = traded(splits=TWO_FOR_ONE)
    report = compare(bars, split_adjusted(bars, TWO_FOR_ONE))
    assert causes(report) == ["suspected_unrecorded_split"]
    evidence = evidence_of(report, "suspected_unrecorded_split")
    assert (evidence["date"], evidence["ratio"]) == (str(SPLIT_DAY), 2.0)
    assert (evidence["shares"], evidence["for_shares"]) == (2, 1)
    # Left's price halves there, right's does not.
    assert evidence["close_before_over_after_left"] == pytest.approx(2, rel=0.1)
    assert evidence["close_before_over_after_right"] == pytest.approx(1, rel=0.1)
    assert report.after["close"].max < 1e-12
    assert report.after["volume"].max < 1e-12
    # A suspicion is no explanation.
    assert not report.explained
    assert report.unexplained == ()


@pytest.mark.parametrize("recorded", [0, 1])
def test_of_two_splits_the_one_that_is_not_recorded_is_suspected(recorded: int):
    splits = splits_of((SPLIT_DAY, 1, 2), (REVERSE_DAY, 5, 1))
    bars = traded(splits=splits)
    report = compare(bars, split_adjusted(bars, splits), splits=splits.iloc[[recorded]])
    assert causes(report) == ["adjustment_basis", "suspected_unrecorded_split"]
    evidence = evidence_of(report, "suspected_unrecorded_split")
    assert evidence["date"] == str((REVERSE_DAY, SPLIT_DAY)[recorded])
    assert evidence["ratio"] == pytest.approx((0.2, 2.0)[recorded])


def test_a_dividend_that_is_not_recorded_is_no_split():
    bars = traded()
    report = compare(bars, dividend_adjusted(bars, bars, DIVIDENDS.iloc[[1]], "crsp"))
    assert causes(report) == ["suspected_unrecorded_adjustment"]
    assert evidence_of(report, "suspected_unrecorded_adjustment")["date"] == str(DAYS[63])
    assert not report.explained


def test_an_unrecorded_split_is_suspected_under_noise_and_rounding():
    bars = traded(splits=TWO_FOR_ONE)
    other = rounded(noisy(split_adjusted(bars, TWO_FOR_ONE), 3e-4), 2, ROUND_HALF_UP)
    report = compare(bars, other)
    assert causes(report) == ["suspected_unrecorded_split"]
    assert evidence_of(report, "suspected_unrecorded_split")["ratio"] == 2.0


# Rounding


@pytest.mark.parametrize(
    ("rule", "name"), [(ROUND_HALF_EVEN, "half-even"), (ROUND_HALF_UP, "half-up"), (ROUND_DOWN, "truncated")]
)
@pytest.mark.parametrize("decimals", [1, 2])
def test_the_rule_of_rounding_is_told(rule: str, name: str, decimals: int):
    bars = traded()
    # Three decimals, so that one in ten is a tie at two.
    exact = bars.assign(**{n: (bars[n] + np.arange(len(bars)) % 10 / 1000).round(3) for n in PRICES})
    report = compare(rounded(exact, decimals, rule), exact)
    assert causes(report) == ["price_rounding"]
    evidence = evidence_of(report, "price_rounding")
    assert (evidence["side"], evidence["rule"], evidence["decimals"]) == ("left", name, decimals)
    assert report.explained


# Volume


def test_whole_shares_are_the_floor_of_fractional_volume():
    bars = traded()
    report = compare(with_fractions(bars), bars)
    assert causes(report) == ["fractional_volume"]
    evidence = evidence_of(report, "fractional_volume")
    assert (evidence["side"], evidence["unit"], evidence["rule"]) == ("right", 1.0, "truncated")
    assert report.explained


def test_lots_of_a_hundred_are_told_from_whole_shares():
    bars = traded()
    report = compare(whole_volume(bars, 100), bars)
    assert causes(report) == ["fractional_volume"]
    assert evidence_of(report, "fractional_volume")["unit"] == 100.0
    assert report.explained


# Session scope and missing minutes


def minutes_of(seed: int = 3, days: int = 40) -> pd.DataFrame:
    """Return ten minutes before, twenty in and ten after each session; all in cents and whole shares."""
    random = np.random.default_rng(seed)
    rows, price = [], 90.0
    for session in SESSIONS.head(days).itertuples():
        before = [session.open - pd.Timedelta(minutes=30 - n) for n in range(10)]
        inside = [session.open + pd.Timedelta(minutes=19 * n) for n in range(20)]
        after = [session.close + pd.Timedelta(minutes=n) for n in range(10)]
        for moment in before + inside + after:
            opened, price = price, price * (1 + random.normal(0, 0.003))
            high, low = max(opened, price) + 0.02, min(opened, price) - 0.02
            volume = float(random.integers(50, 900))
            rows.append((moment, *(round(value, 2) for value in (opened, high, low, price)), volume))
    return pd.DataFrame(rows, columns=["timestamp", *PRICES, "volume"])


def is_regular(moment: pd.Timestamp) -> bool:
    day = moment.tz_convert("America/New_York").tz_localize(None).normalize()
    (session,) = SESSIONS[SESSIONS["session"] == day].itertuples()
    return session.open <= moment < session.close


def regular(minutes: pd.DataFrame) -> pd.DataFrame:
    return minutes[[is_regular(moment) for moment in minutes["timestamp"]]]


def rolled(minutes: pd.DataFrame) -> pd.DataFrame:
    """Return daily bars of minutes, one minute at a time."""
    days: dict[date, list[float]] = {}
    for bar in minutes.itertuples():
        day = bar.timestamp.tz_convert("America/New_York").date()
        if day not in days:
            days[day] = [bar.open, bar.high, bar.low, bar.close, bar.volume]
            continue
        so_far = days[day]
        days[day] = [
            so_far[0],
            max(so_far[1], bar.high),
            min(so_far[2], bar.low),
            bar.close,
            so_far[4] + bar.volume,
        ]
    return pd.DataFrame([("T", day, *bar) for day, bar in days.items()], columns=["symbol", "date", *PRICES, "volume"])


MINUTES = minutes_of()
REGULAR = regular(MINUTES)


@pytest.mark.parametrize("given_by", ["left", "right", "both"])
@pytest.mark.parametrize("wide", ["left", "right"])
def test_bars_that_hold_extended_hours_are_told_by_minute_bars(given_by: str, wide: str):
    sides = (rolled(MINUTES), rolled(REGULAR))
    left, right = sides if wide == "left" else sides[::-1]
    minutes = {side: MINUTES for side in ("left", "right") if given_by in (side, "both")}
    report = compare(left, right, minutes=minutes)
    assert causes(report) == ["session_scope"]
    evidence = evidence_of(report, "session_scope")
    assert evidence["side"] == wide
    assert set(evidence["fields"]) == {*PRICES, "volume"}
    assert evidence["extended_minutes"] == 40 * 20
    assert report.explained


def test_extended_hours_in_the_volume_alone_are_told():
    left = rolled(REGULAR)
    report = compare(left, left.assign(volume=rolled(MINUTES)["volume"]), minutes={"right": MINUTES})
    assert causes(report) == ["session_scope"]
    assert evidence_of(report, "session_scope")["fields"] == ("volume",)
    assert report.explained


def test_extended_hours_in_high_and_low_and_volume_are_told():
    wide = rolled(MINUTES)
    left = rolled(REGULAR).assign(high=wide["high"], low=wide["low"], volume=wide["volume"])
    report = compare(left, rolled(REGULAR), minutes={"left": MINUTES})
    assert causes(report) == ["session_scope"]
    assert evidence_of(report, "session_scope")["fields"] == ("high", "low", "volume")
    assert report.explained


def test_session_scope_is_never_claimed_without_minute_bars():
    report = compare(rolled(MINUTES), rolled(REGULAR))
    assert causes(report) == []
    assert not report.explained


def test_noise_is_no_session_scope():
    left = rolled(REGULAR)
    report = compare(left, noisy(left, 0.003), minutes={"left": MINUTES, "right": MINUTES})
    assert causes(report) == []


def without_some(minutes: pd.DataFrame, on_days: range) -> pd.DataFrame:
    """Drop the first, the last and the highest minute of the session on some days."""
    dropped = []
    for number in on_days:
        day = minutes[[moment.tz_convert("America/New_York").date() == DAYS[number] for moment in minutes["timestamp"]]]
        dropped += [day.index[0], day.index[-1], day["high"].idxmax(), day.index[7]]
    return minutes.drop(index=dropped)


@pytest.mark.parametrize("on_days", [range(3, 4), range(2, 40, 5), range(40)])
def test_minutes_that_one_side_lacks_explain_its_days(on_days: range):
    holed = without_some(REGULAR, on_days)
    report = compare(rolled(REGULAR), rolled(holed), minutes={"left": REGULAR, "right": holed})
    assert causes(report) == ["missing_minutes"]
    evidence = evidence_of(report, "missing_minutes")
    assert evidence["sessions"] == len(on_days)
    assert evidence["minutes_missing_left"] == 0
    assert evidence["minutes_missing_right"] == len(REGULAR) - len(holed)
    assert report.explained


def test_both_sides_may_lack_minutes_of_one_day():
    left, right = without_some(REGULAR, range(5)), REGULAR.drop(index=REGULAR.index[[3, 24, 45]])
    report = compare(rolled(left), rolled(right), minutes={"left": left, "right": right})
    assert causes(report) == ["missing_minutes"]
    assert evidence_of(report, "missing_minutes")["minutes_missing_right"] == 3
    assert report.explained


def test_missing_minutes_that_hold_another_volume_explain_nothing():
    holed = without_some(REGULAR, range(40))
    other = rolled(holed)
    report = compare(
        rolled(REGULAR), other.assign(volume=other["volume"] + 3), minutes={"left": REGULAR, "right": holed}
    )
    assert causes(report) == []
    assert report.unexplained_bars == 40


# Several at once


def test_split_adjusted_and_rounded_and_whole_shares_are_told_apart():
    three_for_one = splits_of((SPLIT_DAY, 1, 3))
    bars = with_fractions(traded(splits=three_for_one))
    other = whole_volume(rounded(split_adjusted(bars, three_for_one), 2, ROUND_HALF_UP))
    report = compare(bars, other, splits=three_for_one, dividends=DIVIDENDS)
    assert causes(report) == ["adjustment_basis", "price_rounding", "fractional_volume"]
    assert report.explained
    assert evidence_of(report, "adjustment_basis")["right"] == "split-adjusted"
    assert [evidence_of(report, cause)["side"] for cause in causes(report)[1:]] == ["right", "right"]
    # Each step takes away what is its own.
    basis, rounding, volume = report.explanations
    assert basis.after["close"].max < 3e-4
    assert basis.after["close"].share_above > 0.2
    assert rounding.after["close"].max < 1e-12
    assert rounding.after["volume"] == basis.after["volume"]
    assert volume.after["volume"].max < 1e-12


PLANTS = ["adjustment_basis", "price_rounding", "fractional_volume"]


def plant(cause: str, bars: pd.DataFrame, raw: pd.DataFrame, splits: pd.DataFrame) -> pd.DataFrame:
    if cause == "adjustment_basis":
        return dividend_adjusted(split_adjusted(bars, splits), raw, DIVIDENDS, "crsp")
    return rounded(bars, 1, ROUND_HALF_EVEN) if cause == "price_rounding" else whole_volume(bars, 100)


@given(
    seed=st.integers(0, 1000),
    planted=st.sets(st.sampled_from(PLANTS)),
    ratio=st.sampled_from([(1, 2), (2, 3), (1, 7), (10, 1)]),
    swapped=st.booleans(),
    spoiled=st.sampled_from([0.0, 0.1, 0.2]),
)
@settings(deadline=None, max_examples=30)
def test_exactly_what_is_planted_is_found(seed, planted, ratio, swapped, spoiled):
    splits = splits_of((SPLIT_DAY, *ratio))
    raw = traded(seed, splits)
    other = raw
    for cause in PLANTS:
        if cause in planted:
            other = plant(cause, other, raw, splits)
    if spoiled:
        # A tenth or a fifth of the bars has errors besides that nothing explains.
        other = noisy(other, 0.02, seed, spoiled)
    sides = (other, raw) if swapped else (raw, other)
    report = compare(*sides, splits=splits, dividends=DIVIDENDS)
    assert set(causes(report)) == planted
    assert report.explained == (not spoiled)
    if spoiled:
        touched = (np.random.default_rng(seed).random(len(raw)) < spoiled).sum()
        assert report.unexplained_bars == touched


def test_extended_hours_missing_minutes_split_and_rounding_together():
    split = splits_of((DAYS[20], 1, 4))
    # As traded: the price falls to a quarter on the day, here by construction of the minutes.
    after = np.array([moment.tz_convert("America/New_York").date() >= DAYS[20] for moment in MINUTES["timestamp"]])
    minutes = MINUTES.assign(**{name: np.where(after, MINUTES[name] / 4, MINUTES[name]) for name in PRICES})
    holed = without_some(regular(minutes), range(0, 40, 4))
    left = rounded(split_adjusted(rolled(minutes), split), 2, ROUND_HALF_UP)
    right = rolled(holed)
    report = compare(left, right, splits=split, minutes={"left": minutes, "right": holed})
    assert causes(report) == ["adjustment_basis", "session_scope", "missing_minutes", "price_rounding"]
    assert evidence_of(report, "missing_minutes")["sessions"] == 10
    assert report.explained


# Minute bars against minute bars


def test_minute_bars_are_matched_by_moment_and_adjusted_by_day():
    split = splits_of((DAYS[20], 1, 2))
    left = MINUTES.assign(symbol="T")
    before = np.array([moment.tz_convert("America/New_York").date() < DAYS[20] for moment in left["timestamp"]])
    right = left.assign(
        **{name: np.where(before, left[name] / 2, left[name]) for name in PRICES},
        volume=np.where(before, left["volume"] * 2, left["volume"]),
    )
    report = compare(left, right.loc[REGULAR.index].iloc[5:], splits=split)
    assert report.timeframe == "1m"
    assert (report.matched, report.only_left, report.only_right) == (795, 805, 0)
    assert report.only_left_outside_sessions == 800
    assert causes(report) == ["adjustment_basis"]
    assert report.explained


# The report and the doors


def test_what_stays_unexplained_is_listed_with_both_values():
    bars = traded()
    other = bars.assign(high=np.where(np.arange(len(bars)) % 4 == 3, bars["high"] * 1.01, bars["high"]))
    report = compare(bars, other)
    assert report.unexplained_bars == len(DAYS) // 4
    assert len(report.unexplained) == 20
    first = report.unexplained[0]
    assert (first.time, first.fields) == (DAYS[3], ("high",))
    assert (first.left["high"], first.right["high"]) == (bars["high"][3], other["high"][3])
    assert first.residual["high"] == pytest.approx(0.01 / 1.01)


def test_the_threshold_decides_what_is_a_difference():
    bars = traded()
    other = bars.assign(close=bars["close"] * (1 + 4e-6), volume=bars["volume"] * (1 + 4e-4))
    assert not compare(bars, other).explained
    assert compare(bars, other, threshold=5e-6, volume_threshold=5e-4).explained


def test_the_residual_is_the_difference_over_the_larger_value():
    bars = traded().head(4).assign(close=100.0)
    report = compare(bars, bars.assign(close=[100.0, 99.0, 98.0, 80.0]))
    close = report.before["close"]
    assert (close.median, close.max, close.share_above) == pytest.approx((0.015, 0.2, 0.75))


def test_bars_of_one_side_only_are_counted():
    bars = traded()
    holiday = bars.tail(1).assign(date=date(2021, 1, 18))
    report = compare(bars.iloc[2:], pd.concat([bars.iloc[:-1], holiday]))
    assert (report.matched, report.only_left, report.only_right) == (len(DAYS) - 3, 1, 3)
    assert (report.only_left_outside_sessions, report.only_right_outside_sessions) == (0, 1)


def test_no_common_bar_is_no_agreement():
    bars = traded()
    report = compare(bars.head(5), bars.tail(5))
    assert report.matched == 0
    assert not report.explained


def test_a_missing_value_is_a_difference():
    bars = traded()
    other = bars.assign(close=bars["close"].where(bars.index != 7))
    report = compare(bars, other)
    assert (report.unexplained_bars, report.unexplained[0].time) == (1, DAYS[7])


def test_a_report_turns_into_plain_values():
    import json

    bars = traded(splits=TWO_FOR_ONE)
    report = compare(bars, noisy(split_adjusted(bars, TWO_FOR_ONE), 0.01, share=0.1), splits=TWO_FOR_ONE)
    plain = json.loads(json.dumps(report.as_dict()))
    assert plain["explained"] is False
    assert plain["explanations"][0]["cause"] == "adjustment_basis"
    assert plain["unexplained"][0]["time"] == report.unexplained[0].time.isoformat()


def test_frames_that_cannot_be_compared_are_refused_in_a_sentence():
    bars = traded()
    for left, right, sentence in (
        (bars, bars.assign(symbol="U"), "expected bars of one symbol, found T, U"),
        (bars, bars.head(0), "right: expected bars of one symbol, found none"),
        (bars, MINUTES.assign(symbol="T"), "found one of each"),
        (pd.concat([bars, bars.head(1)]), bars, "left: expected one bar a time, found two at 2021-01-04"),
        (bars.drop(columns="close"), bars, "left: expected symbol, date or timestamp, close, found no close"),
    ):
        with pytest.raises(ContractError, match=sentence):
            compare(left, right)
    with pytest.raises(ConfigError, match="threshold: expected a relative difference"):
        compare(bars, bars, threshold=-1.0)
    with pytest.raises(ContractError, match="expected a positive cash amount, found -1"):
        compare(bars, bars, dividends=dividends_of((DAYS[3], -1.0)))
