"""The sessions that a load works with: those of the table, and for days that it does not have those of the calendar."""

from datetime import date

import pandas as pd
from sqlalchemy import Connection

from tickstock_assets.domain.sessions import DEFAULT_EXCHANGE, trading_sessions
from tickstock_assets.storage import bars
from tickstock_assets.storage.bulk import merge


def know_sessions(connection: Connection, first: date, last: date) -> None:
    """Enter the sessions of a span of days that are not in the table yet, in whole years; what is there stays as it is."""
    known = bars.years_of_sessions(connection, DEFAULT_EXCHANGE)
    for year in sorted(set(range(first.year, last.year + 1)) - known):
        merge(connection, "sessions", trading_sessions(DEFAULT_EXCHANGE, date(year, 1, 1), date(year, 12, 31)))


def session_days(connection: Connection, first: date, last: date) -> list[date]:
    """Return the sessions of a span of days, oldest first."""
    known = bars.years_of_sessions(connection, DEFAULT_EXCHANGE)
    if not set(range(first.year, last.year + 1)) <= known:
        return list(trading_sessions(DEFAULT_EXCHANGE, first, last)["session"].dt.date)
    days: pd.Series = bars.sessions(connection, DEFAULT_EXCHANGE, first, last)["session"]
    return list(days.dt.date)
