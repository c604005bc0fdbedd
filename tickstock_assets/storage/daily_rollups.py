"""Daily bars made of the minutes of a session, from its open to before its close; the session comes from the calendar.

They are stored as `rollup:` and the source of their minutes, which ranks behind what any provider sent for the day.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pandas as pd
import psycopg
import pyarrow as pa
from psycopg import sql
from sqlalchemy import Connection

from tickstock_assets.domain.sessions import CLOSED_BY_OVERRIDE
from tickstock_assets.storage import removal
from tickstock_assets.storage.bulk import ROLLED_UP, MergeCounts, lock_load, merge
from tickstock_assets.storage.copying import ARROW_TYPES, read
from tickstock_assets.storage.database import driver
from tickstock_assets.storage.rollup_sql import MINUTES, SOURCE, SUMS, VALUES, VWAP
from tickstock_assets.storage.stored_rows import StoredRows
from tickstock_assets.storage.table_columns import target_of

type Cursor = psycopg.Cursor[Any]

_SESSIONS = sql.SQL("""
    SELECT h.*, s.session, s.open, s.close, s.kind, s.close > now() AS is_under_way,
           EXISTS (SELECT FROM sessions k WHERE k.exchange = y.exchange AND k.session >= h.day - 1
                   AND coalesce(k.extended_close, k.close) > h.timestamp)
           AND EXISTS (SELECT FROM sessions k WHERE k.exchange = y.exchange AND k.session <= h.day + 1
                       AND coalesce(k.extended_open, k.open) < h.timestamp + INTERVAL '1 hour') AS is_in_calendar
    FROM (SELECT symbol, timestamp, (timestamp AT TIME ZONE 'UTC')::date AS day
          FROM unnest(%s::text[], %s::timestamptz[]) AS given (symbol, timestamp)) AS h
    JOIN symbols y USING (symbol)
    LEFT JOIN sessions s ON s.exchange = y.exchange AND s.session BETWEEN h.day - 1 AND h.day + 1
                        AND s.open < h.timestamp + INTERVAL '1 hour' AND s.close > h.timestamp
    ORDER BY h.symbol, h.timestamp""")
_DAY = sql.SQL("""
    SELECT w.symbol, w.session AS date, open, high, low, close, volume, quote_volume, {vwap} AS vwap,
           trades_count::BIGINT AS trades_count, exchange, {rolled_up} || {source} AS source
    FROM (SELECT {sums} FROM ({minutes}) AS minutes HAVING count(*) > 0) AS day""")


@dataclass(frozen=True)
class DailyOutcome:
    """What became of the daily bars of some stale hours, and which of the hours are done with.

    `under_way`, `not_in_calendar` and `dropped` count hours: of a session that has not closed yet, of a time for which the
    calendar says nothing, of a session some of whose minutes may have been dropped. The first two stay stale.
    """

    counts: MergeCounts
    done: pd.DataFrame = field(repr=False)
    under_way: int = 0
    not_in_calendar: int = 0
    dropped: int = 0


def recompute(connection: Connection, hours: pd.DataFrame, kept_from: datetime | None) -> DailyOutcome:
    """Make the daily bars of the sessions that these hours overlap what their minutes say.

    Args:
        connection: open, in a transaction that holds the locks of the symbols' minutes and days.
        hours: symbol, timestamp (UTC) and whatever is to be known of them after.
        kept_from: before which minutes may have been dropped, or None.
    """
    with driver(connection).cursor() as cursor:
        found = sessions_of(cursor, hours)
        lock_load(cursor)
    has_dropped = _before(found["open"], kept_from)
    is_dropped = has_dropped | (found["session"].isna() & _before(found["timestamp"], kept_from))
    is_under_way = found["is_under_way"].eq(other=True) & ~is_dropped
    is_unknown = ~found["is_in_calendar"].astype(bool) & ~is_dropped
    due = found[found["session"].notna() & ~is_dropped & ~is_under_way & ~is_unknown]
    due = due.drop_duplicates(["symbol", "session"])
    bars = _bars(connection, due[due["kind"] != CLOSED_BY_OVERRIDE])
    counts = merge(connection, "ohlcv_daily", bars) if bars.num_rows else MergeCounts()
    removed = removal.remove_days(
        connection, _without_minutes(connection, due, bars), "no minute of the session is left"
    )
    closed = found[found["session"].isna() & ~is_dropped & ~is_unknown]
    removed += removal.remove_days(
        connection, _without_session(connection, closed), "the calendar has no such session any more"
    )
    stays = found.loc[is_under_way | is_unknown, ["symbol", "timestamp"]].drop_duplicates()
    left = hours.merge(stays, on=["symbol", "timestamp"], how="left", indicator=True)["_merge"].eq("left_only")
    return DailyOutcome(
        counts=counts + MergeCounts(removed=removed),
        done=hours[left.to_numpy()],
        under_way=int(is_under_way.sum()),
        not_in_calendar=int(is_unknown.sum()),
        dropped=int(is_dropped.sum()),
    )


def sessions_of(cursor: Cursor, hours: pd.DataFrame) -> pd.DataFrame:
    """Return the sessions that hours overlap, by the calendar of the symbol's exchange.

    Args:
        cursor: in a transaction.
        hours: symbol and timestamp (UTC).

    Returns:
        symbol, timestamp, day, session (dates; None where the hour overlaps none), open, close (UTC), kind, is_under_way,
        is_in_calendar (whether sessions are known before and after the hour), in the order of symbol and time.
    """
    cursor.execute(_SESSIONS, [hours["symbol"].tolist(), hours["timestamp"].astype(str).tolist()])
    names = [column.name for column in cursor.description or ()]
    moments = dict.fromkeys(["timestamp", "open", "close"], "datetime64[us, UTC]")
    return pd.DataFrame(cursor.fetchall(), columns=names).astype(moments)


def _bars(connection: Connection, sessions: pd.DataFrame) -> pa.Table:
    """Return the daily bars of sessions, as columns of `ohlcv_daily`; none for a session without a minute."""
    target = target_of(connection, "ohlcv_daily", ["symbol", "date", *VALUES])
    schema = pa.schema(
        [
            (column.name, pa.decimal128(38, column.scale) if column.scale else ARROW_TYPES[column.type])
            for column in target.columns
        ]
    )
    if sessions.empty:
        return schema.empty_table()
    lowest, highest = sessions["open"].min(), sessions["close"].max()
    query = _DAY.format(
        vwap=VWAP,
        rolled_up=sql.Literal(ROLLED_UP),
        source=SOURCE.format(start=sql.SQL("w.low"), end=sql.SQL("w.high")),
        sums=SUMS,
        minutes=MINUTES.format(lowest=sql.Literal(str(lowest)), highest=sql.Literal(str(highest))),
    )
    stretches = sql.SQL(
        "unnest({}::text[], {}::date[], {}::timestamptz[], {}::timestamptz[]) AS w (symbol, session, low, high)"
    ).format(*(sql.Literal(sessions[name].astype(str).tolist()) for name in ("symbol", "session", "open", "close")))
    with driver(connection).cursor() as cursor:
        return read(cursor, target.columns, StoredRows(query, stretches), schema)


def _without_minutes(connection: Connection, sessions: pd.DataFrame, bars: pa.Table) -> pa.Table:
    """Return symbol and date of the stored rolled-up bars of these sessions that `bars` does not have any more."""
    with driver(connection).cursor() as cursor:
        cursor.execute(
            "SELECT d.symbol, d.date FROM ohlcv_daily d "
            "JOIN unnest(%s::text[], %s::date[]) AS s (symbol, date) ON s.symbol = d.symbol AND s.date = d.date "
            "LEFT JOIN unnest(%s::text[], %s::date[]) AS b (symbol, date) ON b.symbol = d.symbol AND b.date = d.date "
            "WHERE starts_with(d.source, %s) AND b.symbol IS NULL ORDER BY 1, 2",
            [
                sessions["symbol"].tolist(), sessions["session"].tolist(),
                bars["symbol"].to_pylist(), bars["date"].to_pylist(), ROLLED_UP,
            ],
        )  # fmt: skip
        return _days(cursor)


def _without_session(connection: Connection, hours: pd.DataFrame) -> pa.Table:
    """Return symbol and date of the stored rolled-up bars around hours without a session whose day is none."""
    days = hours[["symbol", "day"]].drop_duplicates()
    with driver(connection).cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT d.symbol, d.date FROM unnest(%s::text[], %s::date[]) AS h (symbol, day) "
            "JOIN symbols y ON y.symbol = h.symbol "
            "JOIN ohlcv_daily d ON d.symbol = h.symbol AND d.date BETWEEN h.day - 1 AND h.day + 1 "
            "WHERE starts_with(d.source, %s) "
            "AND NOT EXISTS (SELECT FROM sessions s WHERE s.exchange = y.exchange AND s.session = d.date) ORDER BY 1, 2",
            [days["symbol"].tolist(), days["day"].tolist(), ROLLED_UP],
        )
        return _days(cursor)


def _days(cursor: Cursor) -> pa.Table:
    """Return the rows of a query of symbol and date."""
    rows = cursor.fetchall()
    schema = pa.schema([("symbol", pa.string()), ("date", pa.date32())])
    return pa.table([[symbol for symbol, _ in rows], [day for _, day in rows]], schema=schema)


def _before(moments: "pd.Series[Any]", kept_from: datetime | None) -> "pd.Series[bool]":
    is_before: pd.Series[bool] = moments < (pd.Timestamp.min.tz_localize("UTC") if kept_from is None else kept_from)
    return is_before
