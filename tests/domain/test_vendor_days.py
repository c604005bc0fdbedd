"""A vendor's day, worked by hand around both changes of the clock."""

from datetime import UTC, datetime

import pytest

from tickstock_assets.domain.vendor_days import VendorDay, vendor_day


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("moment", "zone", "start", "end", "hours"),
    [
        # Midnight in New York is 05:00 UTC in winter and 04:00 UTC in summer; clocks went on 2024-03-10 and 2024-11-03.
        ("2024-01-15 12:00", "America/New_York", "2024-01-15 05:00", "2024-01-16 05:00", 24),
        ("2024-03-10 12:00", "America/New_York", "2024-03-10 05:00", "2024-03-11 04:00", 23),
        ("2024-07-01 12:00", "America/New_York", "2024-07-01 04:00", "2024-07-02 04:00", 24),
        ("2024-11-03 12:00", "America/New_York", "2024-11-03 04:00", "2024-11-04 05:00", 25),
        # The first moment of a day is in it, the last microsecond before it in the day before.
        ("2024-11-04 05:00", "America/New_York", "2024-11-04 05:00", "2024-11-05 05:00", 24),
        ("2024-11-04 04:59:59.999999", "America/New_York", "2024-11-03 04:00", "2024-11-04 05:00", 25),
        # In UTC it is already the next day, in New York it is not.
        ("2024-01-16 03:00", "America/New_York", "2024-01-15 05:00", "2024-01-16 05:00", 24),
        ("2024-01-16 03:00", "UTC", "2024-01-16 00:00", "2024-01-17 00:00", 24),
        # Sao Paulo had no midnight on 2018-11-04: its clock went from 23:59:59 (-03:00) to 01:00 (-02:00).
        ("2018-11-04 12:00", "America/Sao_Paulo", "2018-11-04 03:00", "2018-11-05 02:00", 23),
    ],
)
def test_a_day_lasts_from_midnight_to_midnight_on_the_vendors_clock(
    moment: str, zone: str, start: str, end: str, hours: int
) -> None:
    day = vendor_day(utc(moment), zone)
    assert day == VendorDay(utc(start), utc(end))
    assert (day.end - day.start).total_seconds() == hours * 3600


def test_a_moment_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a moment with a time zone, found 2024-01-15T12:00:00"):
        vendor_day(datetime(2024, 1, 15, 12), "UTC")  # noqa: DTZ001 that is the mistake
