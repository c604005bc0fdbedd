"""Moments as vendors tell them; those that no market's day can have are none."""

from typing import Literal

import pandas as pd

# Unix seconds of 1900 and 2200. Beyond, a stamp is a mistake, often one of its unit, and in no zone's calendar.
FIRST_SECOND, AFTER_SECOND = -2_208_988_800, 7_258_118_400
PER_SECOND = {"ms": 1_000, "ns": 1_000_000_000}


def stamps_between(unit: Literal["ms", "ns"]) -> tuple[int, int]:
    """Return the first possible Unix time in a unit, and the first one that is not possible any more."""
    return FIRST_SECOND * PER_SECOND[unit], AFTER_SECOND * PER_SECOND[unit]


def possible(moments: pd.Series) -> pd.Series:
    """Return moments, with or without a zone; impossible ones are missing."""
    zone = moments.dt.tz
    first, after = (pd.Timestamp(second, unit="s", tz=zone) for second in (FIRST_SECOND, AFTER_SECOND))
    return moments.where((moments >= first) & (moments < after))


def of_clock(local: pd.Series, zone: str) -> pd.Series:
    """Return as UTC what the clocks of a zone showed; what they never showed, or showed twice, is missing."""
    moments: pd.Series = possible(local).dt.tz_localize(zone, ambiguous="NaT", nonexistent="NaT").dt.tz_convert("UTC")
    return moments.astype("datetime64[us, UTC]")
