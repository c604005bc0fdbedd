"""Exchanges: the calendar of each, and when trading goes on outside of its regular hours.

Elsewhere: what a calendar's days are as rows (sessions.py).
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import exchange_calendars
import pandas as pd
from exchange_calendars.errors import InvalidCalendarName

from tickstock_assets.domain.errors import ConfigError

# Where a symbol's own exchange is not known.
DEFAULT_EXCHANGE = "XNYS"
# Trades at all hours of all days, as crypto-currencies do; its sessions are the days of UTC.
ALWAYS_OPEN = "24/7"
# A calendar takes half a second to make, whatever its span, so each is made once and over all that can be asked for.
FIRST_DAY, LAST_DAY = pd.Timestamp("1960-01-01"), pd.Timestamp("2049-12-31")


@dataclass(frozen=True)
class ExtendedHours:
    """When trading begins before the open and ends after the close.

    Attributes:
        begins: after midnight in the exchange's own time zone.
        ends: after midnight likewise; of a day that closes at its usual hour.
        after_half_day: from an early close to the end.
    """

    begins: pd.Timedelta
    ends: pd.Timedelta
    after_half_day: pd.Timedelta


_UNITED_STATES = ExtendedHours(pd.Timedelta(hours=4), pd.Timedelta(hours=20), pd.Timedelta(hours=4))
# An exchange that is not here has none.
EXTENDED_HOURS: Mapping[str, ExtendedHours] = {"XNYS": _UNITED_STATES, "XNAS": _UNITED_STATES}


def has_calendar(exchange: str) -> bool:
    """Whether there is a calendar of an exchange of this code."""
    return exchange in exchange_calendars.get_calendar_names(include_aliases=True)


@functools.cache
def calendar_of(exchange: str) -> exchange_calendars.ExchangeCalendar:
    """Return the calendar of an exchange, from 1960 to 2049 as far as its holidays are known.

    Raises:
        ConfigError: the exchange is unknown.
    """
    try:
        return exchange_calendars.get_calendar(exchange, start=FIRST_DAY, end=LAST_DAY)
    except InvalidCalendarName:
        raise ConfigError(
            f"Exchange {exchange!r}: expected an ISO 10383 code that exchange_calendars knows, such as XNYS, or "
            f"{ALWAYS_OPEN}"
        ) from None
    except ValueError:
        return _as_far_as_known(exchange)


def _as_far_as_known(exchange: str) -> exchange_calendars.ExchangeCalendar:
    """Return the calendar of an exchange whose holidays are written down for some years only."""
    try:
        last_twenty_years = exchange_calendars.get_calendar(exchange)
    except ValueError as error:
        raise ConfigError(
            f"Exchange {exchange!r}: expected a calendar that exchange_calendars can make, found {str(error)[:80]!r}...; "
            "take that of an exchange with the same sessions"
        ) from None
    first, last = last_twenty_years.bound_min() or FIRST_DAY, last_twenty_years.bound_max() or LAST_DAY
    try:
        return exchange_calendars.get_calendar(exchange, start=max(first, FIRST_DAY), end=min(last, LAST_DAY))
    except ValueError:
        # Tel Aviv's contradicts itself over a longer span.
        return last_twenty_years
