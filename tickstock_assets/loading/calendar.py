"""The sessions that a load works with: those of the table, and for days that it does not have those of the calendar."""

import logging
from collections.abc import Iterable
from datetime import date

import pandas as pd
from sqlalchemy import Connection

from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.domain.sessions import DEFAULT_EXCHANGE, known_years, trading_sessions
from tickstock_assets.storage import bars
from tickstock_assets.storage import sessions as stored
from tickstock_assets.storage.bulk import MergeCounts

log = logging.getLogger(__name__)


def know_sessions(connection: Connection, first: date, last: date) -> MergeCounts:
    """Enter the sessions of a span of days, from the first to the last whole year that is not in the table yet.

    They are those of every exchange that a symbol has, and of XNYS; of each, as far as its holidays are known. One whose
    calendar cannot be had is told in the log, and holds up no other.
    """
    counts = MergeCounts()
    for exchange in exchanges(connection):
        missing = _years(exchange, first, last, tell=True) - bars.years_of_sessions(connection, exchange)
        if missing:
            found = trading_sessions(exchange, date(min(missing), 1, 1), date(max(missing), 12, 31))
            counts += stored.enter(connection, found)
    return counts


def renew_sessions(connection: Connection, first: date, last: date) -> MergeCounts:
    """Make the table what the calendars say now, of every exchange that a symbol has and of XNYS; overrides stay."""
    found = [_sessions(exchange, first, last, tell=True) for exchange in exchanges(connection)]
    return stored.enter(connection, pd.concat(found))


def session_days(connection: Connection, first: date, last: date, symbols: Iterable[str]) -> list[date]:
    """Return the days of a span on which an exchange of some symbols has a session, oldest first.

    A symbol that is not known yet counts as one of XNYS.
    """
    days = set[date]()
    for exchange in exchanges(connection, symbols):
        if _years(exchange, first, last) <= bars.years_of_sessions(connection, exchange):
            found = bars.sessions(connection, exchange, first, last)
        else:
            found = _sessions(exchange, first, last)
        days |= set(found["session"].dt.date)
    return sorted(days)


def _sessions(exchange: str, first: date, last: date, *, tell: bool = False) -> pd.DataFrame:
    """Return the sessions of a span of days, as far as they are known."""
    years = _years(exchange, first, last, tell=tell)
    if not years:
        return trading_sessions(DEFAULT_EXCHANGE, first, last).iloc[:0]
    return trading_sessions(exchange, max(first, date(min(years), 1, 1)), min(last, date(max(years), 12, 31)))


def _years(exchange: str, first: date, last: date, *, tell: bool = False) -> set[int]:
    """Return the years of a span of days for which the holidays of an exchange are known; tell the log of the others."""
    wanted = set(range(first.year, last.year + 1))
    try:
        known = wanted & set(known_years(exchange))
    except ConfigError as error:
        if tell:
            log.warning("the symbols of %s have no sessions: %s", exchange, error)
        return set()
    if tell and wanted - known:
        log.warning("%s has no sessions in %s: its holidays are not known", exchange, sorted(wanted - known))
    return known


def exchanges(connection: Connection, symbols: Iterable[str] | None = None) -> list[str]:
    """Return the exchanges of some symbols, with XNYS for those that are not known; of all symbols, and XNYS, for None."""
    wanted = None if symbols is None else set(symbols)
    known = bars.exchanges(connection, wanted)
    found = set(known.values())
    return sorted(found if wanted is not None and wanted <= known.keys() else found | {DEFAULT_EXCHANGE})
