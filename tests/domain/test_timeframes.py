"""What people type for a timeframe."""

import pytest

from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.domain.timeframes import LENGTHS, TIMEFRAMES, timeframe

TYPED = {
    "1m": ["1m", "minute", "1min", "1 minute", "Minute", "m", "m1", "1-min", "1_minute"],
    "5m": ["5m", "5min", "5 minutes", "M5"],
    "15m": ["15m", "15MIN", "15 minute", "m15"],
    "1h": ["1h", "1H", "hour", "hourly", "60min", "60 minutes", "h1", "1 hour"],
    "1d": ["1d", "1D", "day", "daily", "Daily", "1day", "1 day", "d", "eod"],
}


@pytest.mark.parametrize(("text", "expected"), [(text, name) for name, texts in TYPED.items() for text in texts])
def test_what_people_type_is_understood(text: str, expected: str) -> None:
    assert timeframe(text) == expected


@pytest.mark.parametrize("text", ["", "1M", "M", "month", "2m", "1w", "15", "1d; DROP TABLE symbols", "'1d'", "1dd"])
def test_what_is_no_timeframe_of_ours_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="timeframe: expected one of 1m, 5m, 15m, 1h, 1d or an alias"):
        timeframe(text)


def test_the_lengths_are_in_the_order_of_the_names() -> None:
    assert [LENGTHS[name].total_seconds() / 60 for name in TIMEFRAMES] == [1, 5, 15, 60, 1440]
