"""Windows with a moment: what is older, by hand and against looking at each one."""

from datetime import UTC, date, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tickstock_assets.domain.marked_windows import MarkedWindows
from tickstock_assets.domain.windows import ONE_DAY, Window, not_covered

FIRST = date(2024, 1, 1)


def at(hour: int) -> datetime:
    return datetime(2024, 6, 1, hour, tzinfo=UTC)


def january(first: int, last: int, symbol: str = "A") -> Window:
    return Window(symbol, date(2024, 1, first), date(2024, 1, last))


def test_the_newest_mark_of_a_day_counts_and_no_mark_is_the_oldest() -> None:
    marked = MarkedWindows([(january(1, 20), at(3)), (january(5, 9), at(7)), (january(8, 12), at(5))])
    assert marked.older([january(1, 31)], at(4)) == [january(1, 4), january(13, 31)]
    assert marked.older([january(1, 31)], at(6)) == [january(1, 4), january(10, 31)]
    assert marked.older([january(2, 6)], at(3)) == []
    assert marked.older([january(2, 3, "B")], at(3)) == [january(2, 3, "B")]


def test_only_windows_that_share_a_day_are_looked_at() -> None:
    nights = [FIRST + n * ONE_DAY for n in range(400)]
    marked = MarkedWindows((Window("A", night, night), at(3)) for night in nights)
    looked_at = 0

    class Counted(datetime):
        def __le__(self, other: datetime) -> bool:
            nonlocal looked_at
            looked_at += 1
            return super().__le__(other)

    moment = Counted(2024, 6, 1, 3, tzinfo=UTC)
    assert [marked.older([Window("A", night, night)], moment) for night in nights] == [[]] * len(nights)
    assert looked_at == len(nights)


windows = st.builds(
    lambda symbol, first, days: Window(symbol, FIRST + timedelta(first), FIRST + timedelta(first + days)),
    st.sampled_from("AB"),
    st.integers(0, 40),
    st.integers(0, 12),
)
moments = st.integers(0, 5).map(at)


@given(st.lists(windows, max_size=6), st.lists(st.tuples(windows, moments), max_size=12), moments)
def test_what_is_older_is_what_looking_at_every_window_finds(
    wanted: list[Window], marked: list[tuple[Window, datetime]], moment: datetime
) -> None:
    every = [window for window, marked_at in marked if marked_at >= moment]
    assert MarkedWindows(marked).older(wanted, moment) == not_covered(wanted, every)
