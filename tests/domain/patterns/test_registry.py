"""The detectors together: what a finding says, and that it says the same whatever window it was found in."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st

from tickstock_assets.domain.errors import ContractError
from tickstock_assets.domain.features import WARMUP_BARS as FEATURE_WARMUP_BARS
from tickstock_assets.domain.patterns.registry import DETECTORS, WARMUP_BARS, Detector, detect

PRICES = ["open", "high", "low", "close"]
BY_NAME = {detector.name: detector for detector in DETECTORS}
seeds = st.integers(0, 2**32 - 1)


def framed(prices: np.ndarray, symbol: str = "AAPL") -> pd.DataFrame:
    """Return daily bars of prices in shape (4, n_bars)."""
    opens = pd.date_range("2000-01-03 14:30", periods=prices.shape[1], tz="UTC")
    bars = pd.DataFrame({"symbol": symbol, "timestamp": opens, "session_close": opens + pd.Timedelta(hours=6.5)})
    return bars.assign(**dict(zip(PRICES, prices, strict=True)), volume=1e6, split_factor=1.0)


def random_bars(seed: int, n_bars: int, symbol: str = "AAPL", missing: float = 0.0) -> pd.DataFrame:
    """Return a random walk in cents; a part of its bars has no trade."""
    rng = np.random.default_rng(seed)
    close = 20_000 + rng.integers(-9, 10, n_bars).cumsum()
    opened = close + rng.integers(-9, 10, n_bars)
    high, low = np.maximum(opened, close), np.minimum(opened, close)
    cents = np.stack([opened, high + rng.integers(0, 9, n_bars), low - rng.integers(0, 9, n_bars), close])
    prices = cents / 100
    prices[:, rng.random(n_bars) < missing] = np.nan
    return framed(prices, symbol)


def always(name: str, score: int, span_bars: int) -> Detector:
    """Return a detector that fires on every bar from its span on."""

    def find(candles):
        return np.where(np.arange(len(candles.close)) >= span_bars - 1, score, 0).astype(np.int32)

    return Detector(name, "chart", "", warmup_bars=span_bars - 1, span_bars=span_bars, find=find)


def keys(found: pd.DataFrame) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(found[["pattern", "variant"]])


def assert_same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(found.reset_index(drop=True), expected.reset_index(drop=True), check_exact=True)


# --- the registry


def test_there_is_one_detector_per_key():
    keys = [(detector.name, detector.variant) for detector in DETECTORS]
    assert len(set(keys)) == len(keys) == 61 + 3


def test_the_detectors_are_talibs_candlesticks_and_three_crossovers():
    candlesticks = [detector.name for detector in DETECTORS if detector.family == "candlestick"]
    assert candlesticks == talib.get_function_groups()["Pattern Recognition"]
    charts = [(detector.name, detector.variant) for detector in DETECTORS if detector.family == "chart"]
    assert charts == [("ma_crossover", variant) for variant in ("5/20", "20/50", "50/200")]


def test_the_bars_read_for_features_suffice_for_patterns():
    assert WARMUP_BARS <= FEATURE_WARMUP_BARS


# --- what a finding says


def test_an_engulfing_candle_is_found_with_its_prices():
    prices = np.array([[11.0, 10.8, 9.5], [11.2, 11.0, 11.5], [10.5, 9.8, 9.6], [10.7, 10.0, 11.3]])
    # Bar 2 opens below bar 1's close and closes above its open.
    (finding,) = detect(framed(prices), [BY_NAME["CDLENGULFING"]]).to_dict("records")
    assert finding == {
        "symbol": "AAPL",
        "timestamp": pd.Timestamp("2000-01-05 14:30", tz="UTC"),
        "pattern": "CDLENGULFING",
        "variant": "",
        "family": "candlestick",
        "direction": "bullish",
        "known_at": pd.Timestamp("2000-01-05 21:00", tz="UTC"),
        "entry_price": 11.3,
        "stop_loss": 9.6,
        "metadata": {"strength": 100},
    }


def test_a_crossover_is_found_with_its_variant():
    closes = np.concatenate([np.linspace(120, 100, 30), [140.0]])
    bars = framed(np.stack([closes, closes + 1, closes - 1, closes]))
    (finding,) = detect(bars, DETECTORS[-3:]).to_dict("records")
    assert (finding["pattern"], finding["variant"], finding["family"]) == ("ma_crossover", "5/20", "chart")
    assert (finding["direction"], finding["entry_price"], finding["metadata"]) == ("bullish", 140.0, {})
    # The lowest low of the two bars it lies between.
    assert finding["stop_loss"] == 99.0


def test_a_bar_with_any_price_missing_has_no_close_to_average():
    closes = np.concatenate([np.linspace(120, 100, 30), [140.0]])
    bars = framed(np.stack([closes, closes + 1, closes - 1, closes]))
    bars.loc[30, "low"] = np.nan
    assert detect(bars, DETECTORS[-3:]).empty


def test_the_stop_lies_beyond_all_bars_spanned_and_no_others():
    prices = np.array([[10.0] * 4, [19.0, 15.0, 16.0, 14.0], [1.0, 6.0, 5.0, 7.0], [10.0] * 4])
    up, down = always("up", 100, span_bars=3), always("down", -100, span_bars=2)
    found = detect(framed(prices), [up, down])
    assert found.loc[found["pattern"] == "up", "stop_loss"].tolist() == [1.0, 5.0]
    assert found.loc[found["pattern"] == "down", "stop_loss"].tolist() == [19.0, 16.0, 16.0]


@pytest.mark.parametrize(("wait", "stop"), [(1, 2.0), (2, 2.0), (3, 2.0)])
def test_a_confirmation_spans_the_pattern_it_confirms(wait, stop):
    # The pattern's three bars end at bar 5; its lowest low is in bar 3. Bar 2, lower still, is before it.
    low = np.array([9.0, 9, 1, 2, 5, 5, 6, 6, 6, 6])
    scores = np.zeros(10, dtype=np.int32)
    scores[[5, 5 + wait]] = [100, 200]
    confirmed = replace(always("hikkake", 100, 3), find=lambda _: scores, confirmation_bars=3)
    found = detect(framed(np.stack([low + 1, low + 2, low, low + 1])), [confirmed])
    assert found["stop_loss"].tolist() == [2.0, stop]


def test_a_doji_says_that_its_direction_is_none():
    found = detect(random_bars(1, 500))
    neutral = found["metadata"].map(lambda details: details.get("neutral", False))
    assert set(found.loc[neutral, "pattern"]) >= {"CDLDOJI", "CDLSPINNINGTOP", "CDLHIGHWAVE"}
    assert not neutral[found["pattern"].isin({"CDLENGULFING", "CDLHAMMER", "ma_crossover"})].any()


def test_stops_lie_on_the_far_side_of_the_entry():
    found = detect(pd.concat([random_bars(1, 900, "A"), random_bars(2, 900, "B")], ignore_index=True))
    bullish = found["direction"] == "bullish"
    assert set(found["direction"]) == {"bullish", "bearish"}
    assert (found.loc[bullish, "stop_loss"] <= found.loc[bullish, "entry_price"]).all()
    assert (found.loc[~bullish, "stop_loss"] >= found.loc[~bullish, "entry_price"]).all()


def test_findings_come_by_symbol_and_time_and_each_key_once():
    found = detect(pd.concat([random_bars(1, 300, "A"), random_bars(2, 300, "B")], ignore_index=True))
    assert_same(found, found.sort_values(["symbol", "timestamp"], kind="stable"))
    assert not found.duplicated(["symbol", "timestamp", "pattern", "variant"]).any()


def test_nothing_found_is_an_empty_frame_of_the_same_types():
    some = detect(random_bars(1, 300))
    for none in (detect(random_bars(1, 3)), detect(random_bars(1, 3).iloc[:0]), detect(random_bars(1, 3), [])):
        assert none.empty
        assert none.dtypes.to_dict() == some.dtypes.to_dict()


def test_bars_out_of_order_are_refused():
    with pytest.raises(ContractError, match="expected a bar after the one before"):
        detect(random_bars(1, 9).iloc[::-1])


# --- the same whatever the window


part_missing = st.sampled_from([0.0, 0.0, 0.005, 0.1])


@given(seed=seeds, begin=st.integers(0, 300), missing=part_missing)
@settings(max_examples=25, deadline=None)
def test_a_window_with_its_warm_up_gives_the_findings_of_the_whole_history(seed, begin, missing):
    bars = random_bars(seed, 800, missing=missing)
    same_from = bars["timestamp"].iloc[begin + WARMUP_BARS if begin else 0]
    whole, part = detect(bars), detect(bars.iloc[begin:])
    assert_same(part[part["timestamp"] >= same_from], whole[whole["timestamp"] >= same_from])


@given(seed=seeds, begin=st.integers(1, 100))
@settings(max_examples=15, deadline=None)
def test_each_detector_needs_no_more_warm_up_than_it_states(seed, begin):
    bars = random_bars(seed, 600)
    warmup_bars = pd.Series({(detector.name, detector.variant): detector.warmup_bars for detector in DETECTORS})
    whole, part = (
        found[found["timestamp"] >= bars["timestamp"].iloc[begin + warmup_bars[keys(found)]].to_numpy()]
        for found in (detect(bars), detect(bars.iloc[begin:]))
    )
    assert_same(part, whole)


@pytest.mark.parametrize("name", ["CDLHIKKAKE", "CDLHIKKAKEMOD"])
def test_the_warm_up_of_a_confirmation_reaches_back_to_its_pattern(name):
    bars, detector = random_bars(8, 40_000), BY_NAME[name]
    whole = detect(bars, [detector])
    confirmed = whole[whole["metadata"].map(lambda details: abs(details["strength"]) == 200)]
    assert len(confirmed) > 0
    for number, finding in confirmed.head(40).iterrows():
        bar = bars.index[bars["timestamp"] == finding["timestamp"]][0]
        part = detect(bars.iloc[bar - detector.warmup_bars : bar + 1], [detector])
        assert_same(part.iloc[-1:], whole.loc[[number]])


@given(seed=seeds, end=st.integers(1, 600), missing=part_missing)
@settings(max_examples=25, deadline=None)
def test_later_bars_never_change_earlier_findings(seed, end, missing):
    bars = random_bars(seed, 600, missing=missing)
    whole = detect(bars)
    assert_same(detect(bars.iloc[:end]), whole[whole["known_at"] <= bars["session_close"].iloc[end - 1]])


@given(seed=seeds, split_at=st.integers(1, 599))
@settings(max_examples=25, deadline=None)
def test_a_two_for_one_split_changes_nothing_but_the_share_unit(seed, split_at):
    never_split = random_bars(seed, 600)
    executed = never_split["timestamp"].iloc[split_at]
    split = never_split.assign(split_factor=np.where(never_split["timestamp"] >= executed, 2.0, 1.0))
    expected = detect(never_split)
    own_unit = np.where(expected["timestamp"] >= executed, 2.0, 1.0)
    in_own_unit = {name: expected[name] / own_unit for name in ("entry_price", "stop_loss")}
    assert_same(detect(split), expected.assign(**in_own_unit))


def test_one_bar_without_a_trade_does_not_silence_the_bars_after_it():
    bars = random_bars(5, 900)
    holed = bars.copy()
    holed.loc[300, PRICES] = np.nan
    after = bars["timestamp"].iloc[300 + WARMUP_BARS + 1]
    whole, found = detect(bars), detect(holed)
    assert len(found[found["timestamp"] >= after]) > 100
    assert_same(found[found["timestamp"] >= after], whole[whole["timestamp"] >= after])
