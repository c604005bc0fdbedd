"""Crossings of moving averages. The oracle takes means of exact fractions, one bar at a time."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickstock_assets.domain.patterns.moving_averages import find_crossovers, warmup_bars

NAN = float("nan")
seeds = st.integers(0, 2**32 - 1)
pairs = st.sampled_from([(1, 2), (2, 3), (2, 5), (3, 8)])


def crossings(*closes: float, fast: int = 1, slow: int = 2) -> list[int]:
    return find_crossovers(np.array(closes, dtype=np.float64), fast, slow).tolist()


def random_closes(seed: int, n_bars: int = 120) -> np.ndarray:
    """Return a walk in steps of a cent or none, so that averages often meet."""
    return 100.0 + np.random.default_rng(seed).integers(-1, 2, n_bars).cumsum() / 100


def test_a_fast_average_that_rises_past_the_slow_one_is_bullish():
    # Bar 2: 8 against (9 + 8) / 2, below. Bar 3: 10 against 9, above. Bar 4: 9 against 9.5, below again.
    assert crossings(10, 9, 8, 10, 9) == [0, 0, 0, 100, -100]


def test_staying_on_one_side_is_no_crossing():
    assert crossings(1, 2, 3, 4, 5, 6) == [0, 0, 0, 0, 0, 0]


def test_a_crossing_by_way_of_equality_is_counted_once_at_the_far_side():
    # Fast against slow: below, equal (7 = mean of 7, 7), above.
    assert crossings(8, 7, 7, 9, 10) == [0, 0, 0, 100, 0]


def test_touching_and_turning_back_is_no_crossing():
    assert crossings(8, 7, 7, 6) == [0, 0, 0, 0]


def test_the_side_is_forgotten_after_slow_bars_of_equality():
    assert crossings(8, 7, 7, 9) == [0, 0, 0, 100]
    assert crossings(8, 7, 7, 7, 9) == [0, 0, 0, 0, 0]


def test_averages_that_differ_by_rounding_are_equal():
    # 0.1 * 3 summed and divided by three is not 0.1 in float64.
    assert crossings(*[0.1] * 30, fast=3, slow=7) == [0] * 30
    assert sum(map(abs, crossings(0.3, *[0.1] * 30, fast=3, slow=7))) == 0


def test_a_bar_without_a_trade_hides_the_averages_it_is_in_and_no_others():
    closes = [10, 9, 8, 10, 9, NAN, 10, 9, 8, 10, 9]
    assert crossings(*closes) == [0, 0, 0, 100, -100, 0, 0, 0, 0, 100, -100]


def test_too_few_bars_give_no_crossing():
    assert crossings() == []
    assert crossings(1.0) == [0]


def test_the_fast_average_must_be_the_shorter():
    with pytest.raises(ValueError, match="expected 1 <= fast < slow, found 20 and 5"):
        crossings(1.0, fast=20, slow=5)


@given(seed=seeds, pair=pairs)
@settings(max_examples=40, deadline=None)
def test_crossings_are_those_of_exact_arithmetic(seed, pair):
    closes, (fast, slow) = random_closes(seed), pair
    exact = [Fraction(round(close * 100)) for close in closes.tolist()]
    expected, side, seen = [], 0, 0
    for bar in range(len(exact)):
        if bar < slow - 1:
            expected.append(0)
            continue
        difference = sum(exact[bar - fast + 1 : bar + 1]) / fast - sum(exact[bar - slow + 1 : bar + 1]) / slow
        now = (difference > 0) - (difference < 0)
        crossed = now * side == -1 and bar - seen <= slow
        expected.append(100 * now if crossed else 0)
        if now:
            side, seen = now, bar
    assert find_crossovers(closes, fast, slow).tolist() == expected


@given(seed=seeds, pair=pairs, begin=st.integers(0, 100))
@settings(deadline=None)
def test_crossings_do_not_depend_on_where_the_bars_begin(seed, pair, begin):
    closes, (fast, slow) = random_closes(seed), pair
    same_from = warmup_bars(slow) if begin else 0
    whole, part = find_crossovers(closes, fast, slow), find_crossovers(closes[begin:], fast, slow)
    assert part[same_from:].tolist() == whole[begin + same_from :].tolist()


@given(seed=seeds, pair=pairs, end=st.integers(0, 120))
@settings(deadline=None)
def test_later_bars_never_change_earlier_crossings(seed, pair, end):
    closes, (fast, slow) = random_closes(seed), pair
    whole, part = find_crossovers(closes, fast, slow), find_crossovers(closes[:end], fast, slow)
    assert part.tolist() == whole[:end].tolist()


@given(seed=seeds, pair=pairs, unit=st.sampled_from([2.0, 0.5, 3.0, 1e-10]))
@settings(deadline=None)
def test_the_share_unit_does_not_matter(seed, pair, unit):
    closes, (fast, slow) = random_closes(seed), pair
    assert find_crossovers(closes * unit, fast, slow).tolist() == find_crossovers(closes, fast, slow).tolist()
