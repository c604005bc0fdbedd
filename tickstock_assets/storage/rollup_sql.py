"""How bars are made of finer ones, in SQL: the same sums whatever the length, in the order of time, and exact.

A bar opens with the first of the finer ones and closes with the last; what only some of them tell, such as trades, is summed
over those that do. The volume-weighted price is of those that have one, rounded to the column's 8 decimals. Sums of sums are
the same as sums of all, as NUMERIC loses nothing; so an hour may be made of its quarters.

Elsewhere: the same for TimescaleDB Community (sql/tiers/rollups.sql), and once more to check it (rollup_verification.py).
"""

from datetime import timedelta

from psycopg import sql

# Timeframe and length of the rollups by the clock, the shortest first, by table.
TIMEFRAMES = {"ohlcv_5min": "5m", "ohlcv_15min": "15m", "ohlcv_1h": "1h"}
LENGTHS = {
    "ohlcv_5min": timedelta(minutes=5),
    "ohlcv_15min": timedelta(minutes=15),
    "ohlcv_1h": timedelta(hours=1),
}
VALUES = ("open", "high", "low", "close", "volume", "quote_volume", "vwap", "trades_count", "exchange", "source")

# The minutes of a stretch `w` of a symbol, with the columns that `SUMS` takes; two constants tell a planner which chunks.
MINUTES = sql.SQL("""
    SELECT t.symbol, t.timestamp, open, high, low, close, volume, quote_volume, trades_count, exchange, recorded_at,
           vwap * volume AS weighted, CASE WHEN vwap IS NOT NULL THEN volume END AS weight,
           source AS lowest_source, source AS highest_source
    FROM ohlcv_1min t
    WHERE t.symbol = w.symbol AND t.timestamp >= w.low AND t.timestamp < w.high
      AND t.timestamp >= {lowest} AND t.timestamp < {highest}
    ORDER BY t.symbol, t.timestamp""")
SUMS = sql.SQL("""
    (array_agg(open ORDER BY timestamp))[1] AS open, max(high) AS high, min(low) AS low,
    (array_agg(close ORDER BY timestamp))[count(*)] AS close,
    sum(volume) AS volume, sum(quote_volume) AS quote_volume, sum(trades_count) AS trades_count,
    max(exchange) AS exchange, max(recorded_at) AS recorded_at, sum(weighted) AS weighted, sum(weight) AS weight,
    min(lowest_source) AS lowest_source, max(highest_source) AS highest_source""")
VWAP = sql.SQL("(weighted / nullif(weight, 0))::NUMERIC(18, 8)")
# The one that ranks last, of two that rank the same the later in the alphabet. Looked for only where there are several.
SOURCE = sql.SQL("""
    CASE WHEN lowest_source = highest_source THEN highest_source ELSE (
        SELECT t.source FROM ohlcv_1min t WHERE t.symbol = w.symbol AND t.timestamp >= {start} AND t.timestamp < {end}
        ORDER BY source_rank(t.source) DESC, t.source DESC LIMIT 1) END""")


def bucket(length: timedelta) -> sql.Composed:
    """Return the start of the bar of this length that a `timestamp` lies in."""
    return sql.SQL("date_bin({}, timestamp, '2000-01-01 00:00+00')").format(sql.Literal(length))
