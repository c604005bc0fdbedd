"""The old values of corrected bars: what makes a read as of a past moment possible."""

from typing import Any

import psycopg
from psycopg import sql

from tickstock_assets.storage.table_columns import Target

KEPT = (
    "open", "high", "low", "close", "volume", "quote_volume", "vwap", "trades_count", "exchange", "source", "recorded_at",
)  # fmt: skip


def keep(cursor: psycopg.Cursor[Any], target: Target, superseded_at: sql.Composable, bounds: sql.Composable) -> None:
    """Copy the bars that the temporary table `corrected_rows` is about to replace to `bar_revisions`.

    Args:
        cursor: in the transaction that replaces them.
        target: `ohlcv_1min` or `ohlcv_daily`.
        superseded_at: from when the new values are known; may speak of the old row as `t`.
        bounds: a condition on `t` that all of them fulfil.
    """
    start, session, calendar = sql.SQL("t.timestamp"), sql.SQL("NULL"), sql.SQL("")
    if target.timeframe == "1d":
        start = sql.SQL("coalesce(s.open, t.date::timestamp AT TIME ZONE 'UTC')")
        session = sql.SQL("t.date")
        calendar = sql.SQL("LEFT JOIN sessions s ON s.exchange = t.exchange AND s.session = t.date")
    cursor.execute(
        sql.SQL(
            "INSERT INTO bar_revisions (symbol, timeframe, timestamp, session, superseded_at, {values}) "
            "SELECT t.symbol, {timeframe}, {start}, {session}, {superseded_at}, {old_values} "
            "FROM {table} t JOIN pg_temp.corrected_rows i ON {same_key} {calendar} WHERE {bounds}"
        ).format(
            values=sql.SQL(", ").join(map(sql.Identifier, KEPT)),
            old_values=sql.SQL(", ").join(sql.SQL("t.{}").format(sql.Identifier(name)) for name in KEPT),
            timeframe=sql.Literal(target.timeframe),
            start=start,
            session=session,
            superseded_at=superseded_at,
            table=sql.Identifier(target.name),
            same_key=sql.SQL(" AND ").join(
                sql.SQL("t.{0} = i.{0}").format(sql.Identifier(column.name)) for column in target.key
            ),
            calendar=calendar,
            bounds=bounds,
        )
    )
