"""Trading sessions of an exchange, from exchange_calendars; whole arrays, no clock."""

import functools
from datetime import UTC, date, datetime

import exchange_calendars
import pandas as pd

from tickstock_assets.domain.errors import ConfigError

DEFAULT_EXCHANGE = "XNYS"
# Vendors correct the bars of the last sessions: late trades, cancellations, busted prints.
SESSIONS_STILL_CORRECTED = 3


def trading_sessions(exchange: str, start: date, end: date) -> pd.DataFrame:
    """Return the sessions of an exchange between two days, both included.

    Args:
        exchange: ISO 10383 code, such as XNYS.
        start: a day in the exchange's own time zone.
        end: likewise.

    Returns:
        exchange, session (datetime64, midnight without a zone), open and close (UTC), kind (regular or half_day),
        oldest first.

    Raises:
        ConfigError: the exchange is unknown or `end` lies before `start`.
    """
    if end < start:
        raise ConfigError(f"Sessions of {exchange}: expected an end on or after {start}, found {end}")
    try:
        # Without `start` a calendar begins 20 years ago; a wider span than asked makes short windows legal.
        calendar = exchange_calendars.get_calendar(
            exchange, start=pd.Timestamp(start) - pd.Timedelta(days=30), end=pd.Timestamp(end) + pd.Timedelta(days=30)
        )
    except exchange_calendars.errors.InvalidCalendarName:
        raise ConfigError(
            f"Exchange {exchange!r}: expected an ISO 10383 code that exchange_calendars knows, such as XNYS"
        ) from None
    schedule = calendar.schedule.loc[pd.Timestamp(start) : pd.Timestamp(end)]
    half_days = schedule.index.isin(calendar.early_closes)
    return pd.DataFrame(
        {
            "exchange": exchange,
            "session": schedule.index.astype("datetime64[us]"),
            "open": schedule["open"].array.astype("datetime64[us, UTC]"),
            "close": schedule["close"].array.astype("datetime64[us, UTC]"),
            "kind": pd.Series(half_days).map({True: "half_day", False: "regular"}).array,
        }
    )


def last_closed_session(exchange: str, now: datetime) -> date:
    """Return the last session that had closed by a moment (with a time zone); at the very close it has."""
    return _last_closed(exchange, now, 1)


def settled_session(exchange: str, at: datetime) -> date:
    """Return the last session whose bars could no longer change at a moment (with a time zone).

    The three sessions that had closed last still can, and so can one that had not closed yet.
    """
    return _last_closed(exchange, at, 1 + SESSIONS_STILL_CORRECTED)


def sessions_up_to(exchange: str, now: datetime, count: int) -> list[date]:
    """Return the last `count` sessions that had opened by a moment (with a time zone), oldest first; at most 200."""
    around = _sessions_around(exchange, now.astimezone(UTC).year)
    n_opened = int(around["open"].searchsorted(pd.Timestamp(now), side="right"))
    return [session.date() for session in around["session"].iloc[max(n_opened - count, 0) : n_opened]]


def _last_closed(exchange: str, moment: datetime, count: int) -> date:
    """Return the `count`th last session that had closed by a moment."""
    around = _sessions_around(exchange, moment.astimezone(UTC).year)
    n_closed = int(around["close"].searchsorted(pd.Timestamp(moment), side="right"))
    session: pd.Timestamp = around["session"].iloc[n_closed - count]
    return session.date()


# Making a calendar takes half a second, and this is asked for every window of a load.
@functools.lru_cache(maxsize=32)
def _sessions_around(exchange: str, year: int) -> pd.DataFrame:
    """Return the sessions of a year and of the one before it, enough to count back from any of its days."""
    return trading_sessions(exchange, date(year - 1, 1, 1), date(year + 1, 1, 2))
