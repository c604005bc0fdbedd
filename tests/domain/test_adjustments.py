"""Split factors and the two bases. The oracle multiplies exact fractions, one bar at a time."""

from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickstock_assets.domain.adjustments import split_adjust, split_factors, to_continuous
from tickstock_assets.domain.errors import ContractError

NO_SPLITS = pd.DataFrame({"symbol": [], "execution_date": [], "split_from": [], "split_to": []})


def splits_of(*rows: tuple[str, date, float, float]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(NO_SPLITS.columns))


def bars_of(symbol: str, *closes: tuple[date, float], volume: float = 100.0) -> pd.DataFrame:
    days, prices = zip(*closes, strict=True)
    columns = {name: np.array(prices) for name in ("open", "high", "low", "close")}
    return pd.DataFrame({"symbol": symbol, "date": days, **columns, "volume": volume})


AAPL_SPLIT = splits_of(("AAPL", date(2005, 2, 28), 1, 2))
FRIDAY, MONDAY, TUESDAY = date(2005, 2, 25), date(2005, 2, 28), date(2005, 3, 1)
# Closes as traded around Apple's two-for-one split.
AAPL = bars_of("AAPL", (FRIDAY, 88.99), (MONDAY, 44.86), (TUESDAY, 44.50))


def test_a_split_counts_from_its_execution_date_on():
    assert split_factors(AAPL["symbol"], AAPL["date"], AAPL_SPLIT).tolist() == [1.0, 2.0, 2.0]


def test_splits_multiply_in_any_order_of_bars_and_splits():
    splits = splits_of(("B", date(2020, 3, 1), 2, 3), ("A", date(2021, 1, 1), 10, 1), ("B", date(2020, 2, 1), 1, 4))
    symbols, days = ["B", "A", "B", "C", "B"], [date(2020, 3, 1), date(2022, 1, 1), date(2020, 2, 1)] * 2
    # B: 4 then 4 x 3/2; A: one for ten; C never split.
    assert split_factors(symbols, days[:5], splits).tolist() == [6.0, 0.1, 4.0, 1.0, 6.0]


def test_dates_may_be_python_dates_or_datetime64():
    stamped = pd.Series(pd.to_datetime(AAPL["date"]))
    splits = AAPL_SPLIT.assign(execution_date=pd.to_datetime(AAPL_SPLIT["execution_date"]))
    expected = split_factors(AAPL["symbol"], AAPL["date"], AAPL_SPLIT).tolist()
    assert split_factors(AAPL["symbol"], stamped, splits).tolist() == expected
    assert split_factors(AAPL["symbol"], stamped.to_numpy(), AAPL_SPLIT).tolist() == expected


def test_ratios_may_be_the_decimals_of_the_database():
    splits = splits_of(("AAPL", date(2005, 2, 28), Decimal("2.00000000"), Decimal("3.00000000")))
    assert split_factors(["AAPL"], [TUESDAY], splits).tolist() == [1.5]


def test_without_splits_every_factor_is_one():
    assert split_factors(AAPL["symbol"], AAPL["date"], NO_SPLITS).tolist() == [1.0, 1.0, 1.0]


def test_no_bars_give_no_factors():
    assert split_factors([], [], AAPL_SPLIT).tolist() == []


days = st.dates(date(1999, 1, 1), date(1999, 3, 1))
symbols = st.sampled_from("ABC")
split_keys = st.lists(st.tuples(symbols, days), unique=True, max_size=8)
# Powers of two multiply without rounding in any order, so equality is exact.
ratios = st.sampled_from([(1, 2), (1, 4), (8, 1), (2, 1)])


@given(keys=split_keys, data=st.data(), bars=st.lists(st.tuples(symbols, days), min_size=1, max_size=30))
@settings(deadline=None)
def test_every_factor_is_the_product_over_the_symbols_splits_so_far(keys, data, bars):
    splits = [(symbol, day, *data.draw(ratios)) for symbol, day in keys]
    expected = []
    for symbol, day in bars:
        factor = Fraction(1)
        for split_symbol, executed, shares_from, shares_to in splits:
            if split_symbol == symbol and executed <= day:
                factor *= Fraction(shares_to, shares_from)
        expected.append(float(factor))
    found = split_factors([symbol for symbol, _ in bars], [day for _, day in bars], splits_of(*splits))
    assert found.tolist() == expected


@given(
    executed=st.lists(st.dates(date(2000, 1, 1), date(2010, 1, 1)), unique=True, min_size=1, max_size=6),
    ratio=st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
def test_a_later_split_never_changes_an_earlier_bar(executed, ratio):
    splits = splits_of(*(("A", day, *ratio) for day in executed))
    last = max(executed)
    before = [last - timedelta(days=n) for n in range(1, 4000, 7)]
    known_then = splits[splits["execution_date"] < last]
    found = split_factors(["A"] * len(before), before, splits)
    assert found.tolist() == split_factors(["A"] * len(before), before, known_then).tolist()


def test_continuous_prices_go_on_as_if_no_split_had_happened():
    bars = to_continuous(AAPL.assign(vwap=AAPL["close"]), AAPL_SPLIT)
    assert bars["close"].tolist() == [88.99, 2 * 44.86, 89.00]
    assert bars["vwap"].tolist() == bars["close"].tolist()
    assert bars["volume"].tolist() == [100.0, 50.0, 50.0]
    assert bars["split_factor"].tolist() == [1.0, 2.0, 2.0]
    assert (bars["close"] / bars["split_factor"]).tolist() == AAPL["close"].tolist()


def test_the_bars_given_are_left_as_they_were():
    bars = AAPL.copy()
    to_continuous(bars, AAPL_SPLIT)
    split_adjust(bars, AAPL_SPLIT)
    pd.testing.assert_frame_equal(bars, AAPL)


def test_continuous_bars_are_not_made_continuous_again():
    with pytest.raises(ContractError, match="found a split_factor column"):
        to_continuous(to_continuous(AAPL, AAPL_SPLIT), AAPL_SPLIT)


def test_adjusted_prices_are_in_the_share_unit_of_the_last_bar():
    bars = split_adjust(AAPL, AAPL_SPLIT)
    assert bars["close"].tolist() == [88.99 / 2, 44.86, 44.50]
    assert bars["volume"].tolist() == [200.0, 100.0, 100.0]
    assert "split_factor" not in bars


def test_a_split_after_the_day_asked_for_is_ignored():
    pd.testing.assert_frame_equal(
        split_adjust(AAPL, AAPL_SPLIT, as_of=FRIDAY)[["close", "volume"]], AAPL[["close", "volume"]]
    )


def test_a_split_after_the_last_bar_is_ignored_by_default():
    assert split_adjust(AAPL.iloc[:1], AAPL_SPLIT)["close"].tolist() == [88.99]
    assert split_adjust(AAPL.iloc[:1], AAPL_SPLIT, as_of=MONDAY)["close"].tolist() == [88.99 / 2]


def test_each_symbol_is_adjusted_to_its_own_last_bar():
    msft = bars_of("MSFT", (FRIDAY, 25.0), (date(2005, 3, 4), 25.2))
    splits = pd.concat([AAPL_SPLIT, splits_of(("MSFT", date(2005, 3, 3), 1, 2))])
    bars = split_adjust(pd.concat([msft, AAPL], ignore_index=True), splits)
    assert bars["close"].tolist() == [12.5, 25.2, 88.99 / 2, 44.86, 44.50]


def test_a_reverse_split_raises_old_prices():
    splits = splits_of(("C", date(2011, 5, 9), 10, 1))
    bars = bars_of("C", (date(2011, 5, 6), 4.52), (date(2011, 5, 9), 44.16))
    assert split_adjust(bars, splits)["close"].tolist() == pytest.approx([45.2, 44.16])
    assert to_continuous(bars, splits)["close"].tolist() == pytest.approx([4.52, 4.416])


@pytest.mark.parametrize(
    ("splits", "sentence"),
    [
        (pd.concat([AAPL_SPLIT, AAPL_SPLIT]), "AAPL 2005-02-28: expected one split a day, found two"),
        (splits_of(("AAPL", MONDAY, 0, 2)), "AAPL 2005-02-28: expected a positive split, found 0 to 2"),
        (splits_of(("AAPL", MONDAY, 1, float("nan"))), "expected a positive split, found 1 to nan"),
        (splits_of(("AAPL", pd.NaT, 1, 2)), "expected a date in every row, found 1 without"),
    ],
)
def test_splits_that_cannot_be_true_are_refused(splits, sentence):
    with pytest.raises(ContractError, match=sentence):
        to_continuous(AAPL, splits)


def test_moments_are_not_taken_for_sessions():
    # 2005-02-28 01:00 UTC is still Sunday in New York: which session is meant cannot be told.
    moments = pd.Series(pd.to_datetime(["2005-02-28T01:00Z"]))
    with pytest.raises(ContractError, match=r"bars.date: expected a session's date, found moments in UTC"):
        split_factors(["AAPL"], moments, AAPL_SPLIT)
