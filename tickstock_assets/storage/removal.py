"""Bars that turned out to be wrong, taken away; what they were stays known in `bar_revisions`.

A load never removes a bar: that a vendor does not send it any more is no proof that it was wrong. So a person does, with a
reason; or the rollup job, of a day of which no minute is left; or who makes minutes from trades, of one whose trades were
all taken back since. What a person removed stays away: no load stores a bar of it again before a person has all of it
fetched once more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
from psycopg import sql
from sqlalchemy import Connection, text

from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.domain.windows import Window
from tickstock_assets.storage import audit, bulk, changes, stored_rows, touched_buckets
from tickstock_assets.storage.copying import ARROW_TYPES, read
from tickstock_assets.storage.database import driver
from tickstock_assets.storage.table_columns import target_of


@dataclass(frozen=True)
class Minutes:
    """How many minute bars, the first and the last of them (UTC); None where there are none."""

    bars: int
    first: datetime | None
    last: datetime | None


@dataclass(frozen=True)
class Removed:
    """A stretch of a symbol's minutes that a person removed: from a moment to before another (UTC), and why."""

    symbol: str
    start: datetime
    end: datetime
    reason: str


def planned(connection: Connection, symbol: str, start: datetime, end: datetime) -> Minutes:
    """Return what `remove_minutes` would remove.

    Raises:
        ConfigError: see `remove_minutes`.
    """
    _require_stretch(symbol, start, end)
    found = connection.execute(
        text(
            "SELECT count(*), min(timestamp), max(timestamp) FROM ohlcv_1min "
            "WHERE symbol = :symbol AND timestamp >= :start AND timestamp < :end"
        ),
        {"symbol": symbol, "start": start, "end": end},
    ).one()
    return Minutes(*found)


def remove_minutes(connection: Connection, symbol: str, start: datetime, end: datetime, reason: str) -> int:
    """Remove the minute bars of a symbol from a moment to before another, and return how many there were.

    Their values go to `bar_revisions`, so that a read as of an earlier moment still finds them; their hours are touched, so
    that the rollups made of them are made anew; and the audit trail says why.

    Args:
        connection: open; the caller's transaction makes the change visible at once or not at all.
        symbol: of which.
        start: with a time zone.
        end: likewise, the first moment that is not meant any more.
        reason: why they are wrong, for those who will ask.

    Raises:
        ConfigError: the stretch is none, or there is no reason.
    """
    _require_stretch(symbol, start, end)
    if not reason.strip():
        raise ConfigError(f"{symbol}: expected a reason why its minutes are removed, found none; say it")
    details = {"start": start.isoformat(), "end": end.isoformat(), "reason": reason}
    n_rows = _remove(connection, symbol, sql.SQL("true"), details)
    if n_rows:
        _keep_away(connection, symbol, start, end, reason)
    return n_rows


def remove_untraded(
    connection: Connection, symbol: str, hours: tuple[datetime, datetime], *, source: str, traded: Sequence[datetime]
) -> int:
    """Remove the minute bars of a source, which are made from trades, of minutes without one; return how many there were.

    What they were is kept as `remove_minutes` keeps it. Nothing is kept away: a trade may come again.

    Args:
        connection: open; the caller's transaction makes the change visible at once or not at all.
        symbol: of which.
        hours: from when on all trades are stored, to before when, with a time zone.
        source: of the bars.
        traded: the minutes that have a bar (UTC).
    """
    condition = sql.SQL("source = {} AND timestamp <> ALL ({}::timestamptz[])").format(
        sql.Literal(source), sql.Literal(list(traded))
    )
    start, end = (moment.isoformat() for moment in hours)
    details = {"start": start, "end": end, "reason": "every trade of the minute was taken back"}
    return _remove(connection, symbol, condition, details)


def _remove(connection: Connection, symbol: str, condition: sql.Composable, details: Mapping[str, str]) -> int:
    """Remove the minute bars from `start` to before `end` of the details that meet a condition."""
    target = target_of(connection, touched_buckets.TABLE, ["symbol", "timestamp"])
    with driver(connection).cursor() as cursor:
        bulk.lock_symbols(cursor, [target.name], [symbol])
        bulk.lock_load(cursor)
        query = sql.SQL(
            "SELECT symbol, timestamp FROM ohlcv_1min WHERE symbol = {} AND timestamp >= {} AND timestamp < {} AND {}"
        ).format(sql.Literal(symbol), sql.Literal(details["start"]), sql.Literal(details["end"]), condition)
        schema = pa.schema([(column.name, ARROW_TYPES[column.type]) for column in target.columns])
        rows = read(cursor, target.columns, stored_rows.StoredRows(query), schema)
        if not rows.num_rows:
            return 0
        changes.remove(cursor, target, rows)
        touched_buckets.touch(cursor, rows)
    audit.record(connection, "removal", (target.name, symbol), "remove", {"rows": rows.num_rows, **details})
    return len(rows)


def remove_days(connection: Connection, days: pa.Table, reason: str) -> int:
    """Remove these rolled-up daily bars, which no minutes make any more, and return how many they were.

    Args:
        connection: open, in a transaction that holds the locks of the symbols.
        days: symbol and date (date32) of stored bars, each once.
        reason: why, for the audit trail.
    """
    if not days.num_rows:
        return 0
    target = target_of(connection, "ohlcv_daily", ["symbol", "date"])
    with driver(connection).cursor() as cursor:
        changes.remove(cursor, target, days)
    details = {"rows": days.num_rows, "reason": reason}
    audit.record(connection, "removal", (target.name, target.name), "remove", details)
    return len(days)


def kept_away(connection: Connection, symbols: Sequence[str]) -> list[Removed]:
    """Return the stretches that a person removed of some symbols, in the order of symbol and time."""
    rows = connection.execute(
        text("""
            SELECT symbol, removed_from AS start, removed_to AS "end", reason FROM removed_minutes
            WHERE symbol = ANY (CAST(:symbols AS text[])) ORDER BY 1, 2, 3
        """),
        {"symbols": list(symbols)},
    )
    return [Removed(**row) for row in rows.mappings()]


def allow_again(connection: Connection, windows: Sequence[Window]) -> int:
    """Let minutes of some days be stored again that a person removed; return how many stretches that were.

    Days are those of UTC, and a stretch that only begins or ends in them is allowed as a whole.
    """
    n_stretches: int = connection.execute(
        text("""
            DELETE FROM removed_minutes r
            USING unnest(CAST(:symbols AS text[]), CAST(:starts AS date[]), CAST(:ends AS date[])) AS w (symbol, first, last)
            WHERE r.symbol = w.symbol AND r.removed_from < (w.last + 1)::timestamp AT TIME ZONE 'UTC'
              AND r.removed_to > w.first::timestamp AT TIME ZONE 'UTC'
        """),
        {
            "symbols": [window.symbol for window in windows],
            "starts": [window.start for window in windows],
            "ends": [window.end for window in windows],
        },
    ).rowcount
    return n_stretches


def _keep_away(connection: Connection, symbol: str, start: datetime, end: datetime, reason: str) -> None:
    connection.execute(
        text("""
            INSERT INTO removed_minutes (symbol, removed_from, removed_to, reason) VALUES (:symbol, :start, :end, :reason)
            ON CONFLICT (symbol, removed_from, removed_to) DO UPDATE SET reason = excluded.reason
        """),
        {"symbol": symbol, "start": start, "end": end, "reason": reason},
    )


def _require_stretch(symbol: str, start: datetime, end: datetime) -> None:
    if start.utcoffset() is None or end.utcoffset() is None or end <= start:
        raise ConfigError(f"{symbol}: expected an end after the start, both with a time zone, found {start} to {end}")
