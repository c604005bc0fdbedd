"""What is an unusual number of rows: worked by hand, and what must hold for any counts."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickstock_assets.domain.row_counts import unusual_counts


def counts(rows: list[int], sessions: list[int] | None = None, symbol: str = "AAA") -> pd.DataFrame:
    """Return a period a year from 2001 on, all of them to be judged."""
    return pd.DataFrame(
        {
            "symbol": symbol,
            "day": pd.to_datetime([f"{2001 + number}-01-01" for number in range(len(rows))]).astype("datetime64[us]"),
            "rows": rows,
            "sessions": sessions or [250] * len(rows),
            "is_judged": True,
        }
    )


def years(found: pd.DataFrame) -> list[int]:
    return found["day"].dt.year.tolist()


def test_a_year_with_a_tenth_fewer_rows_than_its_neighbours_is_unusual_and_one_with_less_than_that_is_not() -> None:
    found, judged = unusual_counts(counts([250, 250, 224, 226, 250, 250, 250]))
    assert (years(found), judged) == ([2003], 7)
    # A tenth less than 250 is 225; as far up in proportion is 250 / 0.9.
    assert found[["usual", "lowest", "highest"]].to_numpy().tolist() == [[250.0, 225.0, 277.8]]


def test_a_year_with_twice_the_rows_is_unusual_too() -> None:
    assert years(unusual_counts(counts([250, 250, 250, 250, 500, 250]))[0]) == [2005]


def test_a_year_that_began_late_is_measured_by_its_sessions() -> None:
    found, _ = unusual_counts(counts([50, 250, 250, 250, 250, 125], [50, 250, 250, 250, 250, 250]))
    assert years(found) == [2006]


def test_what_varies_by_itself_is_given_its_own_width() -> None:
    # Logarithms of the rates around their median of 100: the others' deviations from it have a median of ln(1.25) = 0.223,
    # so that up to exp(5 * 1.4826 * 0.223) = 5.2 times as much is usual.
    varying = [80, 125, 100, 80, 125, 100, 80, 125]
    assert years(unusual_counts(counts([*varying, 400]))[0]) == []
    assert years(unusual_counts(counts([*varying, 700]))[0]) == [2009]


def test_few_random_rows_vary_more_than_many() -> None:
    # Of 4 expected at random, 9 is no news; of 400, 900 is.
    few, many = counts([4, 4, 4, 4, 4, 9]), counts([400, 400, 400, 400, 400, 900])
    assert years(unusual_counts(few, is_random=True)[0]) == []
    assert years(unusual_counts(many, is_random=True)[0]) == [2006]
    assert years(unusual_counts(few)[0]) == [2006]


def test_no_rows_at_all_are_unusual_and_do_not_make_none_the_usual() -> None:
    assert years(unusual_counts(counts([250, 250, 250, 250, 0, 0, 0, 0, 250]))[0]) == [2005, 2006, 2007, 2008]


def test_with_fewer_than_four_others_nothing_is_judged() -> None:
    assert unusual_counts(counts([250, 250, 250, 1]))[1] == 0
    found, judged = unusual_counts(counts([250, 250, 250, 250, 1]))
    assert (years(found), judged) == ([2005], 5)


def test_a_symbol_is_compared_with_itself_only() -> None:
    both = pd.concat([counts([250] * 6), counts([10] * 6, symbol="BBB")], ignore_index=True)
    assert unusual_counts(both)[0].empty


def test_history_is_compared_with_and_not_judged() -> None:
    some = counts([250, 250, 100, 250, 250, 100]).assign(is_judged=[False] * 5 + [True])
    found, judged = unusual_counts(some)
    assert (years(found), judged) == ([2006], 1)


def test_no_counts_give_none() -> None:
    found, judged = unusual_counts(counts([]).astype({"rows": "int64", "sessions": "int64", "is_judged": "bool"}))
    assert (len(found), judged) == (0, 0)


@settings(deadline=None)
@given(st.lists(st.integers(1, 10_000), min_size=5, max_size=30))
def test_neither_order_nor_another_symbol_matters(rows: list[int]) -> None:
    plain = counts(rows)
    expected = set(years(unusual_counts(plain)[0]))
    shuffled = plain.sample(frac=1, random_state=np.random.RandomState(7))
    assert set(years(unusual_counts(shuffled)[0])) == expected
    both = unusual_counts(pd.concat([counts([1, 5, 1000, 3, 9, 70], symbol="BBB"), plain], ignore_index=True))[0]
    assert set(years(both[both["symbol"] == "AAA"])) == expected


@pytest.mark.parametrize("is_random", [False, True])
def test_the_same_every_year_is_never_unusual(is_random: bool) -> None:
    assert unusual_counts(counts([7] * 12), is_random=is_random)[0].empty
