"""Reading minute bars and trades over the caller's connection, a bounded stretch at a time.

Elsewhere: daily bars (bars.py), reads for those who compute with bars (market_data.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, text

from tickstock_assets.domain.windows import Window
from tickstock_assets.storage.bars import UTC, query

WANTED = """
    SELECT * FROM unnest(CAST(:symbols AS text[]), CAST(:starts AS date[]), CAST(:ends AS date[]))
        AS w (symbol, first_day, last_day)
"""
# From the first moment of a window's first session to the last of its last, in one stretch of the key.
HOURS = f"""
    SELECT w.symbol, min(coalesce(s.extended_open, s.open)) AS begins, max(coalesce(s.extended_close, s.close)) AS ends
    FROM ({WANTED}) w JOIN symbols i ON i.symbol = w.symbol
    JOIN sessions s ON s.exchange = i.exchange AND s.session BETWEEN w.first_day AND w.last_day
    WHERE s.kind <> 'closed_by_override'
    GROUP BY w.symbol, w.first_day, w.last_day
"""  # noqa: S608 a constant
NUMBERS = ("open", "high", "low", "close", "volume", "vwap", "trades_count")


def minute_bars(connection: Connection, windows: Sequence[Window]) -> pd.DataFrame:
    """Return stored minute bars of the sessions in windows, unadjusted, extended hours included.

    Returns:
        symbol, timestamp (UTC), open, high, low, close, volume, vwap, trades_count (float64), source; by symbol and time.
    """
    selected = ", ".join(f"b.{name}::float8" for name in NUMBERS)
    return query(
        connection,
        f"""
        WITH hours AS MATERIALIZED ({HOURS})
        SELECT b.symbol, b.timestamp, {selected}, b.source FROM hours h
        JOIN ohlcv_1min b ON b.symbol = h.symbol AND b.timestamp >= h.begins AND b.timestamp < h.ends
        ORDER BY b.symbol, b.timestamp
        """,  # noqa: S608 constants
        _columns(windows),
        {"timestamp": UTC, **dict.fromkeys(NUMBERS, "float64"), "symbol": "str", "source": "str"},
    )


def sources_of_minutes(connection: Connection, windows: Sequence[Window] | None) -> pd.DataFrame:
    """Return symbol, source, bars, first and last (UTC) of stored minute bars, in windows or of all of them."""
    within = (
        ""
        if windows is None
        else "JOIN hours h ON b.symbol = h.symbol AND b.timestamp >= h.begins AND b.timestamp < h.ends"
    )
    return query(
        connection,
        f"""
        WITH hours AS MATERIALIZED ({HOURS})
        SELECT b.symbol, b.source, count(*) AS bars, min(b.timestamp) AS first, max(b.timestamp) AS last
        FROM ohlcv_1min b {within} GROUP BY b.symbol, b.source ORDER BY b.symbol, b.source
        """,  # noqa: S608 constants
        _columns(windows or ()),
        {"symbol": "str", "source": "str", "bars": "int64", "first": UTC, "last": UTC},
    )


def days_at_odds(connection: Connection, windows: Sequence[Window], source: str) -> tuple[pd.DataFrame, int]:
    """Return the days whose minutes do not add up to the stored daily bar, and of how many days there are both.

    A day's minutes are those of regular hours, all of the source; a daily bar that was made from minutes is no measure.

    Returns:
        symbol, session (datetime64), and open, high, low, close, volume of the minutes and, as daily_open and so on, of the
        daily bar.
    """
    names = ("open", "high", "low", "close", "volume")
    found = query(
        connection,
        f"""
        SELECT w.symbol, s.session, {", ".join(f"made.{name}::float8, d.{name}::float8 AS daily_{name}" for name in names)},
               ({", ".join(f"made.{name}" for name in names)}) = ({", ".join(f"d.{name}" for name in names)}) AS is_equal
        FROM ({WANTED}) w JOIN symbols i ON i.symbol = w.symbol
        JOIN sessions s ON s.exchange = i.exchange AND s.session BETWEEN w.first_day AND w.last_day
        JOIN ohlcv_daily d ON d.symbol = w.symbol AND d.date = s.session AND source_rank(d.source) < 100
        CROSS JOIN LATERAL (
            SELECT (array_agg(b.open ORDER BY b.timestamp))[1] AS open, max(b.high) AS high, min(b.low) AS low,
                   (array_agg(b.close ORDER BY b.timestamp DESC))[1] AS close, sum(b.volume) AS volume
            FROM ohlcv_1min b WHERE b.symbol = w.symbol AND b.timestamp >= s.open AND b.timestamp < s.close
            HAVING count(*) > 0 AND bool_and(b.source = :source)
        ) AS made
        WHERE s.kind <> 'closed_by_override' ORDER BY w.symbol, s.session
        """,  # noqa: S608 constants
        {**_columns(windows), "source": source},
        {"symbol": "str", "session": "datetime64[us]", "is_equal": "bool",
         **dict.fromkeys([*names, *(f"daily_{name}" for name in names)], "float64")},
    )  # fmt: skip
    return found[~found["is_equal"]].drop(columns="is_equal"), len(found)


@dataclass(frozen=True)
class TradedSession:
    """A session of a symbol that has trades: its hours in UTC, the extended ones from `begins` to before `ends`."""

    symbol: str
    exchange: str
    session: date
    open: datetime
    close: datetime
    begins: datetime
    ends: datetime


def traded_sessions(connection: Connection, windows: Sequence[Window]) -> list[TradedSession]:
    """Return the sessions in windows of which there are trades, by symbol and day."""
    rows = connection.execute(
        text(f"""
            SELECT w.symbol::text, i.exchange, s.session, s.open, s.close,
                   coalesce(s.extended_open, s.open) AS begins, coalesce(s.extended_close, s.close) AS ends
            FROM ({WANTED}) w JOIN symbols i ON i.symbol = w.symbol
            JOIN sessions s ON s.exchange = i.exchange AND s.session BETWEEN w.first_day AND w.last_day
            WHERE s.kind <> 'closed_by_override' AND EXISTS (
                SELECT FROM ticks t WHERE t.symbol = w.symbol
                  AND t.timestamp >= coalesce(s.extended_open, s.open) AND t.timestamp < coalesce(s.extended_close, s.close))
            ORDER BY w.symbol, s.session
        """),  # noqa: S608 a constant
        _columns(windows),
    )
    return [TradedSession(**row) for row in rows.mappings()]


def count_trades(connection: Connection, windows: Sequence[Window] | None) -> int:
    """Return how many trades are stored of the sessions in windows, or of all."""
    within = (
        ""
        if windows is None
        else "JOIN hours h ON t.symbol = h.symbol AND t.timestamp >= h.begins AND t.timestamp < h.ends"
    )
    statement = f"WITH hours AS MATERIALIZED ({HOURS}) SELECT count(*) FROM ticks t {within}"  # noqa: S608 constants
    return int(connection.execute(text(statement), _columns(windows or ())).scalar_one())


def trades(connection: Connection, session: TradedSession) -> pd.DataFrame:
    """Return the trades of a symbol's session, extended hours included, of minutes that have been over for a minute.

    Those of a later one may still be on their way, and a part of a minute is not its bar.

    Returns:
        symbol, timestamp (UTC), price, quantity (float64), conditions (list of text, None where there are none), source,
        in_regular_hours; in the order of the tape: by moment, within one by id, which a venue counts up.
    """
    found = query(
        connection,
        """
        SELECT symbol, timestamp, price::float8, quantity::float8, array_to_string(conditions, ',') AS conditions, source
        FROM ticks WHERE symbol = :symbol AND timestamp >= :begins AND timestamp < :ends
          AND timestamp < (SELECT date_trunc('minute', clock_timestamp() - INTERVAL '1 minute'))
        ORDER BY timestamp, length(trade_id), trade_id, exchange
        """,
        {"symbol": session.symbol, "begins": session.begins, "ends": session.ends},
        {"timestamp": UTC, "price": "float64", "quantity": "float64", **dict.fromkeys(["symbol", "conditions", "source"], "str")},
    )  # fmt: skip
    lists = pc.split_pattern(pa.array(found["conditions"], pa.string()), ",")
    moments = found["timestamp"]
    return found.assign(
        conditions=pd.Series(lists.to_pylist(), found.index, dtype=object),
        in_regular_hours=(moments >= pd.Timestamp(session.open)) & (moments < pd.Timestamp(session.close)),
    )


def _columns(windows: Sequence[Window]) -> dict[str, object]:
    return {
        "symbols": [window.symbol for window in windows],
        "starts": [window.start for window in windows],
        "ends": [window.end for window in windows],
    }
