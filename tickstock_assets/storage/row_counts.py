"""How many rows a table has of each symbol and period, and how many sessions there were for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

import pandas as pd
from sqlalchemy import Connection

from tickstock_assets.storage.bars import query

Period = Literal["year", "month", "day"]
UTC_DAY = "(b.timestamp AT TIME ZONE 'UTC')::date"


@dataclass(frozen=True)
class Counted:
    """How a table's rows are counted: by what day, within which moments, and which of them."""

    table: str
    day: str
    within: str
    where: str = "true"


DATED = "b.date BETWEEN :first AND :last"
STAMPED = "b.timestamp >= CAST(:first AS date) AND b.timestamp < CAST(:last AS date) + 1"
COUNTED: Mapping[str, Counted] = {
    "ohlcv_daily": Counted("ohlcv_daily", "b.date", DATED),
    "bar_features": Counted("bar_features", UTC_DAY, STAMPED, "b.timeframe = '1d'"),
    "patterns": Counted("patterns", UTC_DAY, STAMPED, "b.timeframe = '1d'"),
    "ohlcv_1min": Counted("ohlcv_1min", UTC_DAY, STAMPED),
    "ticks": Counted("ticks", UTC_DAY, STAMPED),
    "quality_findings": Counted("quality_findings", UTC_DAY, STAMPED, "b.timeframe = '1d' AND b.resolved_at IS NULL"),
}


def rows_by_period(
    connection: Connection, counted: Counted, period: Period, symbols: Sequence[str], days: tuple[date, date]
) -> pd.DataFrame:
    """Return how many rows there are of some symbols.

    Args:
        connection: open.
        counted: of which table.
        period: `day`s are of UTC.
        symbols: of these; those without rows are left out.
        days: the first and the last; rows before and after do not count, and no session is expected after the last, nor
            after a symbol's delisting.

    Returns:
        symbol, day (datetime64, the first of the period), rows, sessions (int64): every period that has a session from the
        symbol's first row on.
    """
    return query(
        connection,
        f"""
        WITH held AS (
            SELECT b.symbol, date_trunc('{period}', {counted.day})::date AS day, count(*) AS rows, min({counted.day}) AS first
            FROM {counted.table} b
            WHERE b.symbol = ANY (CAST(:symbols AS text[])) AND {counted.within} AND {counted.where} GROUP BY 1, 2),
        begun AS (SELECT symbol, min(first) AS first FROM held GROUP BY symbol),
        expected AS (
            SELECT n.symbol, date_trunc('{period}', s.session)::date AS day, count(*) AS sessions FROM begun n
            JOIN symbols i ON i.symbol = n.symbol
            JOIN sessions s ON s.exchange = i.exchange AND s.kind <> 'closed_by_override'
                AND s.session BETWEEN n.first AND least(CAST(:last AS date), (i.delisted_utc AT TIME ZONE 'UTC')::date)
            GROUP BY 1, 2)
        SELECT e.symbol, e.day, coalesce(h.rows, 0) AS rows, e.sessions
        FROM expected e LEFT JOIN held h USING (symbol, day) ORDER BY 1, 2
        """,  # noqa: S608 constants
        {"symbols": list(symbols), "first": days[0], "last": days[1]},
        {"symbol": "str", "day": "datetime64[us]", "rows": "int64", "sessions": "int64"},
    )
