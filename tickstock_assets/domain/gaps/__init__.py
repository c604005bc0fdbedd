"""Bars that were expected and are not there, and why: pure; arrays and frames in, rows of gaps out.

A class is one of holiday, half_day, halt, no_trade, provider_hole, not_yet_published and removed, and each row has the
numbers it rests on. What decides, in this order:

1. The calendar: weekdays without a session, the hours after an early close (calendar_gaps.py).
2. Time: sessions that the provider may still be about to publish.
3. The tape: the official daily bar says how many shares were traded. Where the minutes add up to it nothing is missing,
   and silence is a halt or nobody's wish to trade; where they do not, the shares that are missing were traded in the
   silent stretches that they fit best (tape.py).
4. The symbol's own habits: how likely it is that it was silent for so long at that time of day (silence.py).
5. The others: whether the rest of the market traded.

Elsewhere: reading and storing (loading/gap_finding.py, storage/data_gaps.py).
"""

from tickstock_assets.domain.gaps.calendar_gaps import calendar_gaps
from tickstock_assets.domain.gaps.days import DayEvidence, daily_gaps
from tickstock_assets.domain.gaps.minutes import MinuteEvidence, minute_gaps
from tickstock_assets.domain.gaps.rows import BY_CALENDAR, CLASSES, COLUMNS, GapClass

__all__ = [
    "BY_CALENDAR", "CLASSES", "COLUMNS", "DayEvidence", "GapClass", "MinuteEvidence", "calendar_gaps", "daily_gaps",
    "minute_gaps",
]  # fmt: skip
