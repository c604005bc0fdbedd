"""The days by which a vendor counts calls: from midnight to midnight on its own clock.

Elsewhere: trading days (sessions.py), counting (storage/provider_quota.py).
"""

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo


@dataclass(frozen=True)
class VendorDay:
    """From `start` to before `end`, both UTC: 23, 24 or 25 hours."""

    start: datetime
    end: datetime


def vendor_day(moment: datetime, zone: str) -> VendorDay:
    """Return the day of a vendor's clock that a moment lies in.

    Args:
        moment: with a time zone.
        zone: name of the vendor's, such as America/New_York.

    Raises:
        ValueError: the moment has no time zone.
    """
    if moment.tzinfo is None:
        raise ValueError(f"vendor_day: expected a moment with a time zone, found {moment.isoformat()}")
    clock = ZoneInfo(zone)
    today = moment.astimezone(clock).date()
    midnights = (datetime.combine(day, time(), clock) for day in (today, today + timedelta(days=1)))
    start, end = (midnight.astimezone(UTC) for midnight in midnights)
    return VendorDay(start, end)
