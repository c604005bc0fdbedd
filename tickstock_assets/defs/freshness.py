"""How old each asset may be before the web UI calls it stale: as often as its schedule brings it, and some time to work.

A cron deadline cannot know of holidays, on which no session closes and nothing is wrong; so what comes with the sessions may
be as old as the longest stretch without one, which is days, and which session of which symbol is missing is what the check
`ohlcv_daily_complete` and the asset `data_gaps` say. A badge that is wrong ten times a year is looked at by nobody.
"""

import functools
from datetime import UTC, date, datetime, timedelta
from typing import Literal

import dagster as dg

from tickstock_assets.defs.partitions import HAS_ENDED_AFTER
from tickstock_assets.defs.resources import lineup
from tickstock_assets.domain.sessions import DEFAULT_EXCHANGE, trading_sessions

Cadence = Literal["hourly", "session", "weekly", "on demand"]

TIME_TO_WORK = timedelta(hours=6)
# A daemon that slept may come a few hours late.
HOURLY, HOURLY_WARNING = timedelta(hours=6), timedelta(hours=2)
WEEKLY = timedelta(days=8)
# Holidays fall on other days of the week in other years.
YEARS_LOOKED_AT = 10


def freshness_policy(cadence: Cadence) -> dg.FreshnessPolicy | None:
    """Return how old an asset that comes so often may be; None where nothing says when it comes next.

    Of a provider whose file has ended, as the sample data did in 2013, no session comes any more.
    """
    if cadence == "hourly":
        return dg.FreshnessPolicy.time_window(HOURLY, HOURLY_WARNING)
    if cadence == "on demand" or datetime.now(UTC).date() - lineup().horizon() > HAS_ENDED_AFTER:
        return None
    if cadence == "weekly":
        return dg.FreshnessPolicy.time_window(WEEKLY)
    return dg.FreshnessPolicy.time_window(longest_closure(lineup().horizon()) + TIME_TO_WORK)


@functools.cache
def longest_closure(last: date) -> timedelta:
    """Return the longest time between two closes of the exchange in the years before a day: a weekend and holidays."""
    sessions = trading_sessions(DEFAULT_EXCHANGE, date(last.year - YEARS_LOOKED_AT, 1, 1), last)
    longest: timedelta = sessions["close"].diff().max().to_pytimedelta()
    return longest
