"""Short reads for the rules that hold one table against another: keys and closes of bars, keys of what hangs on them.

Only the calendar is joined here, over keys. Rows of two tables are joined by who asks: a server that has not yet counted a
table that was just loaded takes it for empty, and joins each row with each.
"""

from collections.abc import Mapping, Sequence
from datetime import date

import pandas as pd
from sqlalchemy import Connection, text

from tickstock_assets.domain.windows import Window
from tickstock_assets.storage.bars import UTC, query
from tickstock_assets.storage.minutes import WANTED


def closes_of_bars(connection: Connection, windows: Sequence[Window]) -> pd.DataFrame:
    """Return symbol, timestamp and session_close (UTC) of daily bars.

    Where the calendar has no such session the timestamp is midnight, and the close NaT.
    """
    return query(
        connection,
        f"""
        SELECT b.symbol, coalesce(s.open, b.date::timestamp AT TIME ZONE 'UTC') AS timestamp, s.close AS session_close
        FROM ({WANTED}) w
        JOIN ohlcv_daily b ON b.symbol = w.symbol AND b.date BETWEEN w.first_day AND w.last_day
        LEFT JOIN sessions s ON s.exchange = b.exchange AND s.session = b.date
        """,  # noqa: S608 a constant
        _columns(windows),
        {"symbol": "str", "timestamp": UTC, "session_close": UTC},
    )


def keys_of_features(connection: Connection, windows: Sequence[Window]) -> pd.DataFrame:
    """Return symbol and timestamp (UTC) of the features of daily bars."""
    return query(
        connection,
        f"""
        SELECT t.symbol, t.timestamp FROM ({WANTED}) w JOIN bar_features t
            ON t.symbol = w.symbol AND t.timestamp >= w.first_day AND t.timestamp < w.last_day + 1 AND t.timeframe = '1d'
        """,  # noqa: S608 a constant
        _columns(windows),
        {"symbol": "str", "timestamp": UTC},
    )


def sessions_without_a_bar(
    connection: Connection, windows: Sequence[Window], horizons: Mapping[str, date]
) -> tuple[pd.DataFrame, int]:
    """Return symbol and session (datetime64) of the sessions in windows that have no daily bar, and of how many.

    Sessions are expected from the symbol's first stored bar to the horizon of the source that its last bar is from (to that
    bar, where the source has none), and to its delisting.
    """
    expected = f"""
        SELECT w.symbol, s.session, b.date FROM ({WANTED}) w JOIN symbols i ON i.symbol = w.symbol
        CROSS JOIN LATERAL (SELECT date FROM ohlcv_daily WHERE symbol = w.symbol ORDER BY date LIMIT 1) AS first
        CROSS JOIN LATERAL (SELECT date, source FROM ohlcv_daily WHERE symbol = w.symbol ORDER BY date DESC LIMIT 1) AS last
        LEFT JOIN unnest(CAST(:sources AS text[]), CAST(:horizons AS date[])) AS h (source, horizon)
            ON h.source = last.source
        JOIN sessions s ON s.exchange = i.exchange AND s.kind <> 'closed_by_override'
            AND s.session BETWEEN greatest(w.first_day, first.date)
                AND least(w.last_day, greatest(last.date, h.horizon), (i.delisted_utc AT TIME ZONE 'UTC')::date)
        LEFT JOIN ohlcv_daily b ON b.symbol = w.symbol AND b.date = s.session
    """  # noqa: S608 a constant
    more = {"sources": list(horizons), "horizons": list(horizons.values())}
    missing = query(
        connection,
        f"SELECT symbol, session FROM ({expected}) e WHERE date IS NULL ORDER BY 1, 2",  # noqa: S608 constants
        {**_columns(windows), **more},
        {"symbol": "str", "session": "datetime64[us]"},
    )
    return missing, _number(connection, f"SELECT count(*) FROM ({expected}) e", windows, **more)  # noqa: S608 constants


def sources_of_days(connection: Connection, windows: Sequence[Window]) -> pd.DataFrame:
    """Return symbol, date (datetime64) and source of the daily bars in windows, by symbol and date."""
    return query(
        connection,
        f"""
        SELECT b.symbol, b.date, b.source FROM ({WANTED}) w
        JOIN ohlcv_daily b ON b.symbol = w.symbol AND b.date BETWEEN w.first_day AND w.last_day ORDER BY 1, 2
        """,  # noqa: S608 a constant
        _columns(windows),
        {"symbol": "str", "date": "datetime64[us]", "source": "str"},
    )


def _number(connection: Connection, statement: str, windows: Sequence[Window], **more: object) -> int:
    return int(connection.execute(text(statement), {**_columns(windows), **more}).scalar_one())


def _columns(windows: Sequence[Window]) -> dict[str, object]:
    return {
        "symbols": [window.symbol for window in windows],
        "starts": [window.start for window in windows],
        "ends": [window.end for window in windows],
    }
