"""Whose history was asked for, so that it is asked for once: rows are only ever added, and reach further back.

And what was known of the instrument then: one that moved to another exchange or trades again lacks sessions.

Elsewhere: the requests that load it (backfill_requests.py), who asks (defs/symbol_sensor.py, defs/watch_lists.py).
"""

from collections.abc import Sequence
from datetime import date

from sqlalchemy import Connection, text

from tickstock_assets.domain.timeframes import Timeframe


def note(connection: Connection, symbols: Sequence[str], timeframe: Timeframe, start: date | None) -> None:
    """Say that history of symbols, which are in the database, is asked for from a day on; None for as far as there is."""
    connection.execute(
        text("""
            INSERT INTO requested_history AS h (symbol, timeframe, start_date)
            SELECT symbol, CAST(:timeframe AS timeframe), :start FROM unnest(CAST(:symbols AS text[])) AS symbol
            ON CONFLICT (symbol, timeframe) DO UPDATE SET start_date = excluded.start_date
            WHERE h.start_date IS NOT NULL AND (excluded.start_date IS NULL OR excluded.start_date < h.start_date)
        """),
        {"symbols": sorted(set(symbols)), "timeframe": timeframe, "start": start},
    )


def not_asked_for(
    connection: Connection, symbols: Sequence[str], timeframe: Timeframe, start: date | None
) -> list[str]:
    """Return the symbols whose history nobody has asked for from so early a day on, in order."""
    return list(
        connection.execute(
            text("""
                SELECT DISTINCT w.symbol FROM unnest(CAST(:symbols AS text[])) AS w (symbol)
                WHERE NOT EXISTS (SELECT FROM requested_history h
                    WHERE h.symbol = w.symbol AND h.timeframe = CAST(:timeframe AS timeframe)
                      AND (h.start_date IS NULL OR h.start_date <= CAST(:start AS date)))
                ORDER BY 1
            """),
            {"symbols": list(symbols), "timeframe": timeframe, "start": start},
        ).scalars()
    )


def new_symbols(connection: Connection, most: int) -> list[str]:
    """Return symbols, at most so many, that trade as far as is known, of which nothing is stored or was asked for."""
    return list(
        connection.execute(
            text("""
                SELECT i.symbol FROM symbols i
                WHERE i.active IS DISTINCT FROM false
                  AND NOT EXISTS (SELECT FROM requested_history h WHERE h.symbol = i.symbol)
                  AND NOT EXISTS (SELECT FROM backfill_requests r WHERE i.symbol = ANY (r.symbols))
                  AND NOT EXISTS (SELECT FROM stored_windows w WHERE w.symbol = i.symbol
                                  AND w.dataset IN ('daily_bars', 'minute_bars'))
                ORDER BY i.symbol LIMIT :most
            """),
            {"most": most},
        ).scalars()
    )


def changed_symbols(connection: Connection, most: int) -> list[tuple[str, Timeframe, date | None]]:
    """Return symbol, timeframe and first day of history, at most so many, of which the symbol changed since it was looked at.

    It is on another exchange, or trades again.
    """
    rows = connection.execute(
        text("""
            SELECT h.symbol, h.timeframe::text, h.start_date FROM requested_history h JOIN symbols i USING (symbol)
            WHERE i.active IS DISTINCT FROM false AND (h.seen_exchange <> i.exchange OR NOT h.seen_trading)
            ORDER BY 1, 2 LIMIT :most
        """),
        {"most": most},
    )
    return [tuple(row) for row in rows]


def see(connection: Connection, dealt_with: Sequence[tuple[str, Timeframe]]) -> None:
    """Note what is known of the symbols now: of those dealt with, of those never looked at, and of those that do not trade."""
    connection.execute(
        text("""
            UPDATE requested_history h SET seen_exchange = i.exchange, seen_trading = i.active IS DISTINCT FROM false
            FROM symbols i
            WHERE i.symbol = h.symbol
              AND (h.seen_exchange, h.seen_trading) IS DISTINCT FROM (i.exchange, i.active IS DISTINCT FROM false)
              AND (h.seen_exchange IS NULL OR i.active IS NOT DISTINCT FROM false
                   OR EXISTS (SELECT FROM unnest(CAST(:symbols AS text[]), CAST(:timeframes AS text[])) AS d (symbol, timeframe)
                              WHERE d.symbol = h.symbol AND d.timeframe = h.timeframe::text))
        """),
        {
            "symbols": [symbol for symbol, _ in dealt_with],
            "timeframes": [timeframe for _, timeframe in dealt_with],
        },
    )
