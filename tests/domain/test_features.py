"""Features of bars. The oracles are TA-Lib, pandas and worked sums."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st

from tickstock_assets.domain.errors import ContractError
from tickstock_assets.domain.features import (
    WARMUP_BARS,
    compute_features,
    log_return,
    trailing_mean,
    trailing_ratio,
    true_range,
    wilder_atr,
)

NAN = float("nan")
CURRENCY = ["spread", "true_range", "atr_14"]
UNIT_FREE = ["spread_ratio", "volume_ratio", "log_return"]


def arrays(*values: list[float]) -> list[np.ndarray]:
    return [np.array(column, dtype=np.float64) for column in values]


def random_bars(seed: int, n_bars: int, symbol: str = "AAPL", missing: float = 0.0) -> pd.DataFrame:
    """Return a random walk in cents; a part of its bars has no trade."""
    rng = np.random.default_rng(seed)
    close = 100.0 + rng.integers(-50, 51, n_bars).cumsum() / 100 + 0.01 * n_bars
    opened = close + rng.integers(-60, 61, n_bars) / 100
    columns = {
        "high": np.maximum(opened, close) + rng.integers(0, 40, n_bars) / 100,
        "low": np.minimum(opened, close) - rng.integers(0, 40, n_bars) / 100,
        "close": close,
        "volume": rng.integers(0, 10**9, n_bars).astype(float),
    }
    bars = pd.DataFrame({"symbol": symbol, "timestamp": pd.date_range("2000-01-03", periods=n_bars, tz="UTC")})
    bars = bars.assign(**columns, split_factor=1.0)
    bars.loc[rng.random(n_bars) < missing, list(columns)] = NAN
    return bars


# --- true range, returns, ratios


def test_a_gap_up_is_measured_from_the_prior_close():
    # Bar 1 spans 12..15 after a close of 10: the gap, 15 - 10, beats the span, 3.
    high, low, close = arrays([11, 15], [9, 12], [10, 14])
    assert true_range(high, low, close).tolist() == [2.0, 5.0]


def test_a_gap_down_is_measured_to_the_low():
    high, low, close = arrays([11, 8], [9, 7], [10, 7.5])
    assert true_range(high, low, close).tolist() == [2.0, 3.0]


def test_a_bar_without_a_trade_hides_its_own_range_and_the_next():
    high, low, close = arrays([11, NAN, 12, 13], [9, NAN, 10, 11], [10, NAN, 11, 12])
    np.testing.assert_array_equal(true_range(high, low, close), [2.0, NAN, NAN, 2.0])


def test_arrays_of_different_length_are_refused():
    high, low, close = arrays([11, 12], [9, 10], [10])
    with pytest.raises(ValueError, match=r"found high \(2,\), low \(2,\), close \(1,\)"):
        true_range(high, low, close)


def test_no_bars_give_no_values():
    (empty,) = arrays([])
    for values in (true_range(empty, empty, empty), wilder_atr(empty), trailing_ratio(empty), log_return(empty)):
        assert values.tolist() == []


def test_a_log_return_needs_two_positive_closes():
    (close,) = arrays([1.0, np.e, NAN, 2.0, 0.0, 3.0, 3.0])
    np.testing.assert_array_equal(log_return(close), [NAN, 1.0, NAN, NAN, NAN, NAN, 0.0])


def test_a_ratio_leaves_its_own_bar_out_of_the_mean():
    (volume,) = arrays([2, 4, 30, 17])
    # 30 / mean(2, 4); 17 / mean(4, 30)
    np.testing.assert_array_equal(trailing_ratio(volume, window=2), [NAN, NAN, 10.0, 1.0])


def test_a_ratio_to_nothing_is_unknown_and_nothing_to_something_is_zero():
    (volume,) = arrays([0, 0, 5, 5, 0])
    np.testing.assert_array_equal(trailing_ratio(volume, window=2), [NAN, NAN, NAN, 2.0, 0.0])


def test_a_bar_without_a_trade_hides_the_ratios_that_average_over_it_and_no_others():
    volume = np.ones(60)
    volume[30] = NAN
    assert np.flatnonzero(np.isnan(trailing_ratio(volume))).tolist() == [*range(20), *range(30, 51)]


@given(seed=st.integers(0, 2**32 - 1), window=st.integers(1, 30))
@settings(deadline=None)
def test_means_and_ratios_are_those_of_pandas(seed, window):
    volume = np.random.default_rng(seed).integers(1, 10**9, 80).astype(float)
    rolling = pd.Series(volume).rolling(window).mean()
    np.testing.assert_allclose(trailing_mean(volume, window), rolling, rtol=1e-12)
    np.testing.assert_allclose(trailing_ratio(volume, window), volume / rolling.shift(), rtol=1e-12)


# --- average true range


def test_atr_is_seeded_with_the_mean_and_then_smoothed():
    (ranges,) = arrays([99, 1, 3, 5, 7])
    # Bar 0 is left out: (1 + 3) / 2 = 2, (2 + 5) / 2 = 3.5, (3.5 + 7) / 2 = 5.25
    np.testing.assert_array_equal(wilder_atr(ranges, period=2), [NAN, NAN, 2.0, 3.5, 5.25])


def test_atr_forgets_what_is_older_than_its_memory():
    (ranges,) = arrays([99, 1, 3, 5, 7, 9])
    # Bar 4 remembers 3, 5, 7: (3 + 5) / 2 = 4, (4 + 7) / 2 = 5.5. Bar 5 remembers 5, 7, 9: 6, 7.5.
    np.testing.assert_array_equal(wilder_atr(ranges, period=2, memory=3), [NAN, NAN, 2.0, 3.5, 5.5, 7.5])


def test_atr_skips_a_bar_without_a_trade_as_if_it_were_not_there():
    (ranges,) = arrays([99, 1, NAN, 3, 5, NAN, 7])
    np.testing.assert_array_equal(wilder_atr(ranges, period=2), [NAN, NAN, NAN, 2.0, 3.5, NAN, 5.25])


def test_atr_is_unknown_while_the_memory_holds_too_few_ranges():
    (ranges,) = arrays([99, 1, 3, NAN, NAN, 5, 7])
    # Bar 5 remembers NaN, NaN, 5.
    np.testing.assert_array_equal(wilder_atr(ranges, period=2, memory=3), [NAN, NAN, 2.0, NAN, NAN, NAN, 6.0])


@given(seed=st.integers(0, 2**32 - 1), missing=st.integers(1, 50))
@settings(max_examples=20, deadline=None)
def test_atr_has_the_same_bits_after_missing_bars_as_without_them(seed, missing):
    ranges = np.random.default_rng(seed).random(300)
    later = np.concatenate([np.full(missing, NAN), ranges])
    np.testing.assert_array_equal(wilder_atr(later)[missing + 1 :], wilder_atr(np.concatenate([[NAN], ranges]))[2:])


def test_a_memory_shorter_than_the_period_is_refused():
    with pytest.raises(ValueError, match="found period 14, memory 13"):
        wilder_atr(np.ones(20), memory=13)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_atr_is_that_of_talib(seed):
    bars = random_bars(seed, 900)
    high, low, close = (bars[name].to_numpy() for name in ("high", "low", "close"))
    found, expected = wilder_atr(true_range(high, low, close)), talib.ATR(high, low, close, 14)
    # TA-Lib's compiler fuses some operations, so the last bit or two differ even where the recursion is the same.
    np.testing.assert_allclose(found[: WARMUP_BARS + 1], expected[: WARMUP_BARS + 1], rtol=1e-14)
    # After that the seed differs, by at most a few times its weight of 4e-13.
    np.testing.assert_allclose(found, expected, rtol=5e-12)


def test_the_weight_of_a_forgotten_seed_is_below_what_is_stored():
    # A crash of 1,000 in the first bars is still in TA-Lib's average of bar 401, by less than 1e-8.
    ranges = np.concatenate([np.full(15, 1000.0), np.ones(500)])
    plain = 1000.0
    for value in ranges[15:402]:
        plain = (plain * 13 + value) / 14
    assert abs(wilder_atr(ranges)[401] - plain) < 1e-8


# --- frames


def test_a_frame_gives_one_row_per_bar_with_its_index():
    bars = pd.concat([random_bars(1, 30, "A"), random_bars(2, 40, "B")]).set_axis(range(100, 170))
    features = compute_features(bars)
    pd.testing.assert_frame_equal(features[["symbol", "timestamp"]], bars[["symbol", "timestamp"]])
    assert list(features) == [
        *("symbol", "timestamp", "spread", "spread_ratio", "volume_ratio", "true_range", "atr_14", "log_return")
    ]
    assert features["spread"].tolist() == (bars["high"] - bars["low"]).tolist()


def test_a_symbol_is_untouched_by_its_neighbours():
    first, second = random_bars(1, 500, "A"), random_bars(2, 450, "B")
    together = compute_features(pd.concat([first, second], ignore_index=True))
    alone = compute_features(second)
    pd.testing.assert_frame_equal(together.iloc[500:].reset_index(drop=True), alone, check_exact=True)


def test_an_empty_frame_gives_an_empty_frame():
    assert compute_features(random_bars(1, 5).iloc[:0]).empty


def test_bars_out_of_order_are_refused():
    bars = random_bars(1, 3)
    with pytest.raises(ContractError, match=r"AAPL 2000-01-03 00:00:00\+00:00: expected a bar after the one before"):
        compute_features(bars.iloc[[1, 0, 2]])
    with pytest.raises(ContractError, match="out of order"):
        compute_features(bars.iloc[[0, 0]])
    with pytest.raises(ContractError, match="expected 2 symbols one after another, found 3 changes"):
        compute_features(pd.concat([bars.iloc[:1], random_bars(1, 3, "B"), bars.iloc[1:]]))


def test_timestamps_may_be_of_any_resolution():
    moment = datetime(2013, 3, 1, 14, 30, tzinfo=UTC)
    bars = random_bars(1, 2).assign(timestamp=[moment, moment.replace(microsecond=1)])
    assert len(compute_features(bars)) == 2


part_missing = st.sampled_from([0.0, 0.0, 0.01, 0.3])


@given(seed=st.integers(0, 2**32 - 1), begin=st.integers(0, 600), missing=part_missing)
@settings(max_examples=40, deadline=None)
def test_a_window_with_its_warm_up_gives_the_bits_of_the_whole_history(seed, begin, missing):
    bars = random_bars(seed, 1100, missing=missing)
    whole, part = compute_features(bars), compute_features(bars.iloc[begin:])
    same_from = begin + WARMUP_BARS if begin else 0
    pd.testing.assert_frame_equal(part.loc[same_from:], whole.loc[same_from:], check_exact=True)


@given(seed=st.integers(0, 2**32 - 1), end=st.integers(1, 700), missing=part_missing)
@settings(max_examples=25, deadline=None)
def test_later_bars_never_change_earlier_features(seed, end, missing):
    bars = random_bars(seed, 700, missing=missing)
    pd.testing.assert_frame_equal(
        compute_features(bars.iloc[:end]), compute_features(bars).iloc[:end], check_exact=True
    )


@given(seed=st.integers(0, 2**32 - 1), split_at=st.integers(1, 499))
@settings(max_examples=25, deadline=None)
def test_a_two_for_one_split_changes_nothing_but_the_share_unit(seed, split_at):
    never_split = random_bars(seed, 500)
    after = np.arange(500) >= split_at
    # The continuous basis of the split series is the series that never split; only the bar's own unit differs.
    split = never_split.assign(split_factor=np.where(after, 2.0, 1.0))
    expected, found = compute_features(never_split), compute_features(split)
    pd.testing.assert_frame_equal(found[UNIT_FREE], expected[UNIT_FREE], check_exact=True)
    in_own_unit = expected[CURRENCY].div(np.where(after, 2.0, 1.0), axis=0)
    pd.testing.assert_frame_equal(found[CURRENCY], in_own_unit, check_exact=True)


@given(seed=st.integers(0, 2**32 - 1), hole=st.integers(0, 899))
@settings(max_examples=25, deadline=None)
def test_one_bar_without_a_trade_is_felt_for_twenty_bars_and_no_more(seed, hole):
    bars = random_bars(seed, 900)
    bars.loc[hole, ["high", "low", "close", "volume"]] = NAN
    known = compute_features(bars)[[*CURRENCY, *UNIT_FREE]].notna().all(axis=1)
    # A hole in the seed's bars delays the first average by the ranges it costs, its own and the next bar's.
    assert known.iloc[max(hole + 21, 23) :].all()


def test_a_ratio_too_large_for_its_column_stops_at_the_largest_that_fits() -> None:
    # Twenty bars of spread 1 and volume 1, then one of spread 5e9 and volume 1e15: NUMERIC(12,6) ends before 1e6.
    n_bars = 21
    high = np.append(np.full(n_bars - 1, 2.0), 5e9 + 1)
    bars = pd.DataFrame(
        {
            "symbol": "A",
            "timestamp": pd.date_range("2024-01-01", periods=n_bars, tz="UTC"),
            "high": high,
            "low": 1.0,
            "close": 1.5,
            "volume": np.append(np.full(n_bars - 1, 1.0), 1e15),
            "split_factor": 1.0,
        }
    )
    last = compute_features(bars).iloc[-1]
    assert (last["spread_ratio"], last["volume_ratio"]) == (999_999.999999, 999_999.999999)
