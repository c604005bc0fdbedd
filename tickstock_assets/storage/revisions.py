"""The old values of corrected rows: what makes a read as of a past moment possible."""

from typing import Any

import psycopg
from psycopg import sql

from tickstock_assets.storage.table_columns import Target

BAR_VALUES = (
    "open", "high", "low", "close", "volume", "quote_volume", "vwap", "trades_count", "exchange", "source", "recorded_at",
)  # fmt: skip
SPLIT_VALUES = ("symbol", "execution_date", "source", "split_from", "split_to", "recorded_at")
DIVIDEND_VALUES = (
    "symbol", "ex_dividend_date", "source", "distribution_type", "cash_amount", "currency", "declaration_date",
    "record_date", "pay_date", "frequency", "recorded_at",
)  # fmt: skip


def keep(cursor: psycopg.Cursor[Any], target: Target, superseded_at: sql.Composable, bounds: sql.Composable) -> None:
    """Copy the rows that have the keys of the temporary table `staged_rows`, before they change, to the revisions.

    Args:
        cursor: in the transaction that changes them.
        target: a table that has revisions.
        superseded_at: from when the old values are not the known ones any more; may speak of the old row as `t`.
        bounds: a condition on `t` that all of them fulfil.
    """
    if target.timeframe:
        names, values, calendar = _of_a_bar(target)
    else:
        names = SPLIT_VALUES if target.name == "splits" else DIVIDEND_VALUES
        values, calendar = _qualified(names), sql.SQL("")
    cursor.execute(
        sql.SQL(
            "INSERT INTO {revisions} ({names}, superseded_at) SELECT {values}, {superseded_at} "
            "FROM {table} t JOIN pg_temp.staged_rows i ON {same_key} {calendar} WHERE {bounds}"
        ).format(
            revisions=sql.Identifier(str(target.revisions)),
            names=sql.SQL(", ").join(map(sql.Identifier, names)),
            values=values,
            superseded_at=superseded_at,
            table=sql.Identifier(target.name),
            same_key=sql.SQL(" AND ").join(
                sql.SQL("t.{0} = i.{0}").format(sql.Identifier(column.name)) for column in target.key
            ),
            calendar=calendar,
            bounds=bounds,
        )
    )


def _of_a_bar(target: Target) -> tuple[tuple[str, ...], sql.Composable, sql.SQL]:
    """Return the names and the values of a bar's revision, and what is joined to know a daily bar's start."""
    start, session, calendar = sql.SQL("t.timestamp"), sql.SQL("NULL::date"), sql.SQL("")
    if target.timeframe == "1d":
        start = sql.SQL("coalesce(s.open, t.date::timestamp AT TIME ZONE 'UTC')")
        session = sql.SQL("t.date")
        calendar = sql.SQL("LEFT JOIN sessions s ON s.exchange = t.exchange AND s.session = t.date")
    of_key = [sql.SQL("t.symbol"), sql.Literal(target.timeframe), start, session]
    names = ("symbol", "timeframe", "timestamp", "session", *BAR_VALUES)
    return names, sql.SQL(", ").join([*of_key, _qualified(BAR_VALUES)]), calendar


def _qualified(names: tuple[str, ...]) -> sql.Composed:
    return sql.SQL(", ").join(sql.SQL("t.{}").format(sql.Identifier(name)) for name in names)
