"""Trading sessions of an exchange, from exchange_calendars; whole arrays, no clock."""

from datetime import date

import exchange_calendars
import pandas as pd

from tickstock_assets.domain.errors import ConfigError

DEFAULT_EXCHANGE = "XNYS"


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
