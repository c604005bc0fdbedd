"""Bars as the rules of quality read them: with the session each belongs to, and enough before and after the days asked for.

Elsewhere: the rules (domain/anomalies).
"""

from collections.abc import Sequence
from datetime import date, timedelta

import pandas as pd
from sqlalchemy import Connection, text

from tickstock_assets.storage import bars
from tickstock_assets.storage.bars import UTC

PRICES = ", ".join(f"b.{name}::float8" for name in ("open", "high", "low", "close", "volume"))
DAYS = f"""
    SELECT b.symbol, s.session, s.open AS session_open, s.open AS timestamp, {PRICES}, b.source,
           s.kind = 'half_day' AS is_half_day, false AS is_extended
    FROM ohlcv_daily b JOIN sessions s ON s.exchange = b.exchange AND s.session = b.date
    WHERE b.symbol = ANY (CAST(:symbols AS text[])) AND b.date BETWEEN :first AND :last ORDER BY b.symbol, b.date
"""  # noqa: S608 names from the list above
MINUTES = f"""
    SELECT b.symbol, b.exchange, b.timestamp, {PRICES}, b.source FROM ohlcv_1min b
    WHERE b.symbol = ANY (CAST(:symbols AS text[])) AND b.timestamp >= CAST(:first AS date)
      AND b.timestamp < CAST(:last AS date) + 2 ORDER BY b.timestamp
"""  # noqa: S608 names from the list above
SESSIONS = """
    SELECT exchange, session, open AS session_open, close AS session_close, coalesce(extended_open, open) AS first_moment,
           coalesce(extended_close, close) AS last_moment, kind = 'half_day' AS is_half_day FROM sessions
    WHERE session BETWEEN :first AND :last AND kind <> 'closed_by_override' ORDER BY first_moment
"""
TYPES: bars.Dtypes = {
    **dict.fromkeys(["symbol", "source", "exchange"], "str"),
    **dict.fromkeys(["open", "high", "low", "close", "volume"], "float64"),
    **dict.fromkeys(["is_half_day", "is_extended"], "bool"),
    **dict.fromkeys(["timestamp", "session_open", "session_close", "first_moment", "last_moment"], UTC),
    "session": "datetime64[us]",
}


def days(connection: Connection, symbols: Sequence[str], first: date, last: date) -> pd.DataFrame:
    """Return daily bars of sessions, unadjusted, as `domain.anomalies` describes bars, with source besides."""
    names = ("symbol", "session", "session_open", "timestamp", "open", "high", "low", "close", "volume", "source",
             "is_half_day", "is_extended")  # fmt: skip
    asked = {"symbols": list(symbols), "first": first, "last": last}
    return bars.query(connection, DAYS, asked, {name: TYPES[name] for name in names})


def minutes(connection: Connection, symbols: Sequence[str], first: date, last: date) -> pd.DataFrame:
    """Return minute bars of sessions, extended hours included, unadjusted; as `days`."""
    names = ("symbol", "exchange", "timestamp", "open", "high", "low", "close", "volume", "source")
    asked = {"symbols": list(symbols), "first": first, "last": last}
    found = bars.query(connection, MINUTES, asked, {name: TYPES[name] for name in names})
    of_sessions = ("exchange", "session", "session_open", "session_close", "first_moment", "last_moment", "is_half_day")
    sessions = bars.query(
        connection, SESSIONS, {"first": first, "last": last}, {name: TYPES[name] for name in of_sessions}
    )
    # The session that began last; whatever is after its end, or before the first one, belongs to none.
    joined = pd.merge_asof(found, sessions, left_on="timestamp", right_on="first_moment", by="exchange")
    within = joined[joined["timestamp"] < joined["last_moment"]]
    regular = (within["timestamp"] >= within["session_open"]) & (within["timestamp"] < within["session_close"])
    kept = within.assign(is_extended=~regular, is_half_day=within["is_half_day"].astype(bool))
    dropped = ["exchange", "session_close", "first_moment", "last_moment"]
    return kept.drop(columns=dropped).sort_values(["symbol", "timestamp"], ignore_index=True)


def most_traded(connection: Connection, first: date, last: date, count: int) -> list[str]:
    """Return the symbols with the most money traded in a span of days, by their daily bars."""
    rows = connection.execute(
        text("""
            SELECT symbol FROM ohlcv_daily WHERE date BETWEEN :first AND :last
            GROUP BY symbol ORDER BY sum(close * volume) DESC, symbol LIMIT :count
        """),
        {"first": first, "last": last, "count": count},
    )
    return list(rows.scalars())


def has_bars(connection: Connection, timeframe: str, symbols: Sequence[str], first: date, last: date) -> bool:
    """Return whether one of some symbols has a bar in a span of days."""
    table, column = {"1d": ("ohlcv_daily", "date"), "1m": ("ohlcv_1min", "timestamp")}[timeframe]
    found = connection.execute(
        text(
            f"SELECT EXISTS (SELECT FROM unnest(CAST(:symbols AS text[])) AS u (symbol) CROSS JOIN LATERAL "  # noqa: S608
            f"(SELECT FROM {table} b WHERE b.symbol = u.symbol AND b.{column} >= :first AND b.{column} < :after LIMIT 1) x)"
        ),
        {"symbols": list(symbols), "first": first, "after": last + timedelta(days=1)},
    )
    return bool(found.scalar_one())
