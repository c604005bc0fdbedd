"""What people type for a timeframe."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.domain.timeframes import LENGTHS, TIMEFRAMES, BarLength, bar_length, timeframe

TYPED = {
    "1m": ["1m", "minute", "1min", "1 minute", "Minute", "m", "m1", "M1", "1-min", "1_minute"],
    "5m": ["5m", "5min", "5 minutes", "M5"],
    "15m": ["15m", "15MIN", "15 minute", "m15"],
    "1h": ["1h", "1H", "hour", "hourly", "60min", "60 minutes", "h1", "1 hour", "60m", "1hr"],
    "1d": ["1d", "1D", "day", "daily", "Daily", "1day", "1 day", "d", "eod", "24h", "D1"],
}
TYPED_FOR_A_READ = {
    "2m": ["2m", "2min", "2 minutes"],
    "30m": ["30m", "30min", "M30", "30 MIN"],
    "90m": ["90m"],
    "4h": ["4h", "4 hours", "240m", "H4"],
    "1w": ["1w", "weekly", "week", "1 week", "W1", "W"],
    "2w": ["2w", "2 weeks"],
    "1M": ["1M", "M", "month", "monthly", "1mo", "1 Month", "1MON"],
    "3M": ["3M", "quarter", "3 months", "quarterly", "1q"],
    "1y": ["1y", "year", "yearly", "12M", "12 months", "annual"],
    "5y": ["5y"],
}


@pytest.mark.parametrize(("text", "expected"), [(text, name) for name, texts in TYPED.items() for text in texts])
def test_what_people_type_is_understood(text: str, expected: str) -> None:
    assert timeframe(text) == expected
    assert (str(bar_length(text)), bar_length(text).stored) == (expected, expected)


@pytest.mark.parametrize(
    ("text", "expected"), [(text, name) for name, texts in TYPED_FOR_A_READ.items() for text in texts]
)
def test_what_people_type_for_bars_that_are_not_stored_is_understood_too(text: str, expected: str) -> None:
    assert (str(bar_length(text)), bar_length(text).stored) == (expected, None)


@pytest.mark.parametrize(
    "text", ["", "1M", "M", "5M", "month", "2m", "1w", "15", "1d; DROP TABLE symbols", "'1d'", "1dd", "0m", "-"]
)
def test_what_is_no_timeframe_of_ours_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="timeframe: expected one of 1m, 5m, 15m, 1h, 1d or an alias"):
        timeframe(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        *[
            (text, "expected a number and a unit such as 1m")
            for text in ("", "15", "1dd", "0m", "-5m", " -1 d", "1.5h", "\uff12m", "999999m")
        ],
        ("25h", "expected less than a day in minutes or hours, found '25h'"),
        ("99999m", "expected less than a day in minutes or hours"),
        ("101y", "expected at most 1200 weeks or months, found '101y'"),
        ("9999w", "expected at most 1200 weeks or months"),
        ("2d", "expected one day, found '2d'; ask for 1d or 1w"),
        ("15M", "found '15M'; M is a month and m a minute"),
        ("18M", "expected 1, 2, 3, 4, 6 or 12 months, or whole years"),
    ],
)
def test_what_no_bar_is_long_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        bar_length(text)


def test_case_decides_only_between_a_minute_and_a_month() -> None:
    assert bar_length("1m") == BarLength(1, "minute")
    assert bar_length("1M") == BarLength(1, "month")
    assert bar_length("3MIN") == bar_length("3min") == BarLength(3, "minute")


@given(st.integers(1, 1439).map(lambda n: f"{n}m") | st.sampled_from(["1d", "1w", "7w", "1M", "6M", "1y", "2y"]))
def test_the_name_of_a_length_means_that_length(text: str) -> None:
    length = bar_length(text)
    assert bar_length(str(length)) == length


def test_the_lengths_are_in_the_order_of_the_names() -> None:
    assert [LENGTHS[name].total_seconds() / 60 for name in TIMEFRAMES] == [1, 5, 15, 60, 1440]
