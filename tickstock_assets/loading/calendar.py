"""The sessions that a load works with: those of the table, and for days that it does not have those of the calendar."""

from collections.abc import Iterable
from datetime import date

import pandas as pd
from sqlalchemy import Connection

from tickstock_assets.domain.sessions import DEFAULT_EXCHANGE, trading_sessions
from tickstock_assets.storage import bars
from tickstock_assets.storage import sessions as stored
from tickstock_assets.storage.bulk import MergeCounts


def know_sessions(connection: Connection, first: date, last: date) -> MergeCounts:
    """Enter the sessions of a span of days, from the first to the last whole year that is not in the table yet.

    They are those of every exchange that a symbol has, and of XNYS.
    """
    counts = MergeCounts()
    for exchange in exchanges(connection):
        missing = set(range(first.year, last.year + 1)) - bars.years_of_sessions(connection, exchange)
        if missing:
            found = trading_sessions(exchange, date(min(missing), 1, 1), date(max(missing), 12, 31))
            counts += stored.enter(connection, found)
    return counts


def renew_sessions(connection: Connection, first: date, last: date) -> MergeCounts:
    """Make the table what the calendars say now, of every exchange that a symbol has and of XNYS; overrides stay."""
    found = [trading_sessions(exchange, first, last) for exchange in exchanges(connection)]
    return stored.enter(connection, pd.concat(found))


def session_days(connection: Connection, first: date, last: date, symbols: Iterable[str]) -> list[date]:
    """Return the days of a span on which an exchange of some symbols has a session, oldest first.

    A symbol that is not known yet counts as one of XNYS.
    """
    years, days = set(range(first.year, last.year + 1)), set[date]()
    for exchange in exchanges(connection, symbols):
        if years <= bars.years_of_sessions(connection, exchange):
            found = bars.sessions(connection, exchange, first, last)
        else:
            found = trading_sessions(exchange, first, last)
        days |= set(found["session"].dt.date)
    return sorted(days)


def exchanges(connection: Connection, symbols: Iterable[str] | None = None) -> list[str]:
    """Return the exchanges of some symbols, with XNYS for those that are not known; of all symbols, and XNYS, for None."""
    wanted = None if symbols is None else set(symbols)
    known = bars.exchanges(connection, wanted)
    found = set(known.values())
    return sorted(found if wanted is not None and wanted <= known.keys() else found | {DEFAULT_EXCHANGE})
