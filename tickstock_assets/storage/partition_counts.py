"""How many rows of bars and trades are stored of each of some windows, such as those of partitions."""

from collections.abc import Sequence
from datetime import datetime

import pandas as pd
from sqlalchemy import Connection, text

from tickstock_assets.domain.windows import Window
from tickstock_assets.storage.bars import query
from tickstock_assets.storage.bulk import ROLLED_UP
from tickstock_assets.storage.minutes import WANTED

# From the first moment of each window's first session to the last of its last.
HOURS = f"""
    SELECT w.symbol, w.first_day, min(coalesce(s.extended_open, s.open)) AS begins,
           max(coalesce(s.extended_close, s.close)) AS ends
    FROM ({WANTED}) w JOIN symbols i ON i.symbol = w.symbol
    JOIN sessions s ON s.exchange = i.exchange AND s.session BETWEEN w.first_day AND w.last_day
    WHERE s.kind <> 'closed_by_override'
    GROUP BY w.symbol, w.first_day
"""  # noqa: S608 a constant


def all_rows(connection: Connection, table: str) -> int:
    """Return how many rows a table has; of millions of them that takes a while."""
    return int(connection.execute(text(f'SELECT count(*) FROM "{table}"')).scalar_one())  # noqa: S608 a table of ours


def days_changed_since(connection: Connection, since: datetime, symbols: Sequence[str] | None = None) -> list[Window]:
    """Return, by symbol and year, the days whose bars were made from minutes, or were removed again, since a moment.

    Those that gave way to a provider's bar are left out: who stored that one tells of it.

    Args:
        connection: open.
        since: by the server's clock.
        symbols: only of these; None for all, of which every stored day is read.
    """
    found = connection.execute(
        text("""
            SELECT symbol, min(date) AS start, max(date) AS end FROM (
                SELECT symbol, date FROM ohlcv_daily WHERE recorded_at >= :since AND starts_with(source, :rolled_up)
                UNION ALL SELECT r.symbol, r.session FROM bar_revisions r
                WHERE r.superseded_at >= :since AND r.timeframe = '1d' AND starts_with(r.source, :rolled_up)
                  AND NOT EXISTS (SELECT FROM ohlcv_daily d WHERE d.symbol = r.symbol AND d.date = r.session
                                  AND NOT starts_with(d.source, :rolled_up))) AS changed
            WHERE CAST(:symbols AS text[]) IS NULL OR symbol = ANY (CAST(:symbols AS text[]))
            GROUP BY symbol, extract(year FROM date) ORDER BY symbol, 2
        """),
        {"since": since, "rolled_up": ROLLED_UP, "symbols": None if symbols is None else list(symbols)},
    )
    return [Window(*row) for row in found]


def daily_bars(connection: Connection, windows: Sequence[Window]) -> pd.DataFrame:
    """Return symbol, day (datetime64, the window's first) and rows of stored daily bars, 0 where there are none."""
    statement = f"""
        SELECT w.symbol, w.first_day AS day, count(b.date) AS rows FROM ({WANTED}) w
        LEFT JOIN ohlcv_daily b ON b.symbol = w.symbol AND b.date BETWEEN w.first_day AND w.last_day GROUP BY 1, 2
    """  # noqa: S608 a constant
    return _counted(connection, statement, windows)


def minute_bars(connection: Connection, windows: Sequence[Window]) -> pd.DataFrame:
    """Return the same of minute bars that a provider delivered; those made from trades are not counted."""
    statement = f"""
        WITH hours AS MATERIALIZED ({HOURS})
        SELECT h.symbol, h.first_day AS day, count(b.timestamp) AS rows FROM hours h
        LEFT JOIN ohlcv_1min b ON b.symbol = h.symbol AND b.timestamp >= h.begins AND b.timestamp < h.ends
            AND NOT starts_with(b.source, 'ticks:') GROUP BY 1, 2
    """  # noqa: S608 a constant
    return _counted(connection, statement, windows)


def trades(connection: Connection, windows: Sequence[Window]) -> pd.DataFrame:
    """Return the same of trades."""
    statement = f"""
        WITH hours AS MATERIALIZED ({HOURS})
        SELECT h.symbol, h.first_day AS day, count(t.timestamp) AS rows FROM hours h
        LEFT JOIN ticks t ON t.symbol = h.symbol AND t.timestamp >= h.begins AND t.timestamp < h.ends GROUP BY 1, 2
    """  # noqa: S608 a constant
    return _counted(connection, statement, windows)


def _counted(connection: Connection, statement: str, windows: Sequence[Window]) -> pd.DataFrame:
    columns = {
        "symbols": [window.symbol for window in windows],
        "starts": [window.start for window in windows],
        "ends": [window.end for window in windows],
    }
    return query(connection, statement, columns, {"symbol": "str", "day": "datetime64[us]", "rows": "int64"})
