"""What is missing as rectangles: all of it is in them, and in few of them nothing besides."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.domain.windows import Window
from tickstock_assets.loading.backfills import MOST_REQUESTS, Rectangle, rectangles, within
from tickstock_assets.loading.lineup import Lineup
from tickstock_assets.providers.base import Dataset
from tickstock_assets.providers.sample import SampleProvider

FIRST = date(2010, 1, 1)
YEARS = st.tuples(st.sampled_from("ABCDE"), st.integers(0, 9), st.integers(0, 9)).map(
    lambda drawn: Window(drawn[0], date(2010 + min(drawn[1:]), 1, 1), date(2010 + max(drawn[1:]), 12, 31))
)


@given(st.lists(YEARS, min_size=1, max_size=20))
def test_rectangles_hold_what_is_missing_and_few_hold_nothing_besides(windows: list[Window]) -> None:
    found = rectangles(windows)
    held = {Window(symbol, one.start, one.end) for one in found for symbol in one.symbols}
    assert len(found) <= MOST_REQUESTS
    for window in windows:
        assert any(one.symbol == window.symbol and one.start <= window.start and window.end <= one.end for one in held)
    if len({(window.start, window.end) for window in windows}) <= MOST_REQUESTS:
        assert held == set(windows)
    else:
        assert len(found) == 1


def test_symbols_that_lack_the_same_days_share_a_request() -> None:
    year, later = (FIRST, date(2010, 12, 31)), (date(2012, 1, 1), date(2012, 12, 31))
    assert rectangles([Window("B", *year), Window("A", *year), Window("A", *later)]) == [
        Rectangle(["A", "B"], *year),
        Rectangle(["A"], *later),
    ]


def test_a_span_is_cut_to_what_can_be_had_and_refused_where_nothing_can() -> None:
    sample = Lineup([SampleProvider(None)])
    first, last = sample.span(Dataset.DAILY_BARS)
    assert within(sample, Dataset.DAILY_BARS, first, (first, last)) == (first, last)
    beyond = (first - timedelta(days=9), last + timedelta(days=9))
    assert within(sample, Dataset.DAILY_BARS, date(2005, 1, 1), beyond) == (date(2005, 1, 1), last)
    for start, end in ((last, first), (last + timedelta(days=1), beyond[1]), (beyond[0], first - timedelta(days=1))):
        with pytest.raises(ConfigError, match="expected"):
            within(sample, Dataset.DAILY_BARS, first, (start, end))
