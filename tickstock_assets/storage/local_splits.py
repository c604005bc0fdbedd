"""Splits that a person entered, as source `local`: they count where no provider has one of that day."""

from datetime import date
from decimal import Decimal

import pandas as pd
import pyarrow as pa
from sqlalchemy import Connection, text

from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.domain.sessions import trading_sessions
from tickstock_assets.storage import audit, changes
from tickstock_assets.storage.bulk import lock_load, lock_symbols, merge
from tickstock_assets.storage.database import driver
from tickstock_assets.storage.table_columns import target_of

SOURCE = "local"
# Wider than any split there has been, and what NUMERIC(18,8) holds to the last digit.
FEWEST, MOST = Decimal("0.0001"), Decimal(1_000_000)


def add(
    connection: Connection, symbol: str, day: date, split_from: Decimal, split_to: Decimal, *, author: str, reason: str
) -> bool:
    """Record a split of `split_from` old shares into `split_to` new ones; return whether that changed anything.

    Raises:
        ConfigError: the symbol is not known, the day no session of its exchange, the numbers are not a split, or a provider has
            recorded one of that day.
    """
    shares = (split_from, split_to)
    if split_from == split_to or not all(FEWEST <= number <= MOST for number in shares):
        raise ConfigError(
            f"{symbol} {day}: expected two different numbers of shares from {FEWEST:f} to {MOST:f}, such as 1 2 for two new "
            f"shares for an old one, found {split_from} {split_to}; correct them"
        )
    _require_session(connection, symbol, day)
    asked = {"symbol": symbol, "day": day, "source": SOURCE}
    recorded = connection.execute(
        text("SELECT source FROM splits WHERE symbol = :symbol AND execution_date = :day AND source <> :source"), asked
    ).scalar()
    if recorded:
        raise ConfigError(
            f"{symbol} {day}: expected no split that a provider has recorded, found one from {recorded}, which would count "
            "before yours; have the provider correct it"
        )
    row = {"symbol": symbol, "execution_date": pd.Timestamp(day).as_unit("us"), "source": SOURCE}
    counts = merge(
        connection, "splits", pd.DataFrame([{**row, "split_from": float(split_from), "split_to": float(split_to)}])
    )
    if counts.written:
        details = {
            "execution_date": day,
            "split_from": split_from,
            "split_to": split_to,
            "author": author,
            "reason": reason,
        }
        audit.record(connection, "reference", ("splits", symbol), "add", details)
    return bool(counts.written)


def remove(connection: Connection, symbol: str, day: date, *, author: str, reason: str) -> None:
    """Take away a split that a person entered; reads as of a moment when it stood still count it.

    Raises:
        ConfigError: nobody has entered one of that day.
    """
    key = {"symbol": symbol, "execution_date": day, "source": SOURCE}
    target = target_of(connection, "splits", list(key))
    entered = text("SELECT 1 FROM splits WHERE (symbol, execution_date, source) = (:symbol, :execution_date, :source)")
    with driver(connection).cursor() as cursor:
        lock_symbols(cursor, [target.name], [symbol])
        lock_load(cursor)
        is_there = connection.execute(entered, key).scalar() is not None
        if is_there:
            changes.remove(cursor, target, pa.table({name: [value] for name, value in key.items()}))
    if not is_there:
        raise ConfigError(
            f"{symbol} {day}: expected a split that somebody has entered here, found none; providers' own are theirs to correct"
        )
    details = {"execution_date": day, "author": author, "reason": reason}
    audit.record(connection, "reference", ("splits", symbol), "remove", details)


def _require_session(connection: Connection, symbol: str, day: date) -> None:
    """Refuse an unknown symbol, and a day on which it cannot begin to trade in new shares."""
    exchange = connection.execute(
        text("SELECT exchange FROM symbols WHERE symbol = :symbol"), {"symbol": symbol}
    ).scalar()
    if exchange is None:
        raise ConfigError(
            f"{symbol}: expected a known symbol, found none of that name; `tickstock coverage` lists them"
        )
    if trading_sessions(exchange, day, day).empty:
        raise ConfigError(
            f"{symbol} {day}: expected a session of {exchange}, the first in new shares, found none on this {day:%A}; "
            "name the next one"
        )
