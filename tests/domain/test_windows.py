"""Windows of history, by hand and at random."""

from datetime import date, timedelta

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from tickstock_assets.domain.windows import Window, merge_neighbours, not_covered, rows_inside


def january(first: int, last: int, symbol: str = "A") -> Window:
    return Window(symbol, date(2024, 1, first), date(2024, 1, last))


def test_windows_that_touch_or_overlap_become_one() -> None:
    assert merge_neighbours([january(5, 9), january(1, 4), january(8, 12), january(14, 15)]) == [
        january(1, 12), january(14, 15),
    ]  # fmt: skip


def test_windows_of_two_symbols_stay_apart() -> None:
    assert merge_neighbours([january(1, 4), january(5, 9, "B")]) == [january(1, 4), january(5, 9, "B")]


def test_what_is_missing_lies_before_between_and_after_what_is_there() -> None:
    assert not_covered([january(1, 20)], [january(4, 6), january(10, 12)]) == [
        january(1, 3), january(7, 9), january(13, 20),
    ]  # fmt: skip


def test_a_window_is_clipped_to_the_horizon_or_vanishes_behind_it() -> None:
    assert january(3, 9).clipped_to(date(2024, 1, 5)) == january(3, 5)
    assert january(3, 9).clipped_to(date(2024, 1, 2)) is None


windows = st.lists(
    st.tuples(st.sampled_from("AB"), st.integers(0, 40), st.integers(0, 10)).map(
        lambda t: Window(t[0], date(2024, 1, 1) + timedelta(t[1]), date(2024, 1, 1) + timedelta(t[1] + t[2]))
    ),
    max_size=8,
)


def days(of: list[Window]) -> set[tuple[str, date]]:
    return {(w.symbol, w.start + timedelta(n)) for w in of for n in range((w.end - w.start).days + 1)}


@given(windows, windows)
def test_covering_is_subtraction_of_sets_of_days(wanted: list[Window], covered: list[Window]) -> None:
    missing = not_covered(wanted, covered)
    assert days(missing) == days(wanted) - days(covered)
    assert merge_neighbours(missing) == missing


@given(windows)
def test_merging_keeps_every_day_once(given_windows: list[Window]) -> None:
    merged = merge_neighbours(given_windows)
    assert days(merged) == days(given_windows)
    assert len(days(merged)) == sum((w.end - w.start).days + 1 for w in merged)


def test_rows_of_the_last_day_are_inside_up_to_midnight() -> None:
    times = pd.to_datetime(["2024-01-04 23:59", "2024-01-05 00:00", "2024-01-06 23:59", "2024-01-07 00:00"], utc=True)
    frame = pd.DataFrame({"symbol": "A", "timestamp": times, "row": range(4)})
    assert rows_inside(frame, "timestamp", [january(5, 6)])["row"].tolist() == [1, 2]
    assert rows_inside(frame, "timestamp", [january(5, 6, "B")]).empty
