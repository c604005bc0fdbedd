"""What rolling minutes up costs: the shipped rollup of intraday bars against the bare GROUP BY, on an embedded server.

The rival reads the same minutes with one plain statement for each length and writes into tables with the same columns, keys,
checks and indexes. It looks for nothing that is stale, compares with nothing that is stored and marks nothing. Both start with
empty tables and take turns; the ratio is that of their medians. Then nothing is stale, then an hour of each symbol is, and the
check computes a year of one symbol again.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from sqlalchemy import Engine

from tickstock_assets.domain.minute_walk import minute_bars
from tickstock_assets.domain.sessions import trading_sessions
from tickstock_assets.domain.windows import Window
from tickstock_assets.storage import embedded, rollups
from tickstock_assets.storage.bulk import merge
from tickstock_assets.storage.database import open_database

SYMBOLS, YEAR, ROUNDS, GOAL = 20, 2012, 3, 1.2
LENGTHS = {"ohlcv_5min": "5 minutes", "ohlcv_15min": "15 minutes", "ohlcv_1h": "1 hour"}
BARE = """
INSERT INTO bare_{table} (symbol, timestamp, open, high, low, close, volume, quote_volume, vwap, trades_count, exchange, source,
                          recorded_at)
SELECT symbol, date_bin('{length}', timestamp, '2000-01-01 00:00+00'),
       (array_agg(open ORDER BY timestamp))[1], max(high), min(low), (array_agg(close ORDER BY timestamp))[count(*)],
       sum(volume), sum(quote_volume),
       sum(vwap * volume) FILTER (WHERE vwap IS NOT NULL) / nullif(sum(volume) FILTER (WHERE vwap IS NOT NULL), 0),
       sum(trades_count), max(exchange), max(source), max(recorded_at)
FROM ohlcv_1min GROUP BY 1, 2
"""


def load(engine: Engine, symbols: int) -> int:
    """Store a year of generated minutes of so many symbols, and return how many there are."""
    sessions, draw, stored = trading_sessions("XNYS", date(YEAR, 1, 1), date(YEAR, 12, 31)), np.random.default_rng(1), 0
    with engine.begin() as connection:
        merge(connection, "sessions", sessions)
        merge(connection, "symbols", pd.DataFrame({"symbol": [f"S{number:02d}" for number in range(symbols)]}))
    for number in range(symbols):
        opens = (100 * np.exp(np.cumsum(draw.normal(0, 0.01, len(sessions))))).round(2)
        closes = (opens * (1 + draw.normal(0, 0.005, len(sessions)))).round(2)
        daily = pd.DataFrame(
            {
                "date": sessions["session"], "open": opens, "high": (np.maximum(opens, closes) * 1.01).round(2),
                "low": (np.minimum(opens, closes) * 0.99).round(2), "close": closes,
                "volume": draw.integers(1_000_000, 9_000_000, len(sessions)).astype(float),
            }
        )  # fmt: skip
        minutes = minute_bars(f"S{number:02d}", daily, sessions).drop(columns="date")
        with engine.begin() as connection:
            merge(connection, "ohlcv_1min", minutes.assign(symbol=f"S{number:02d}", source="synthetic"))
        stored += len(minutes)
    with engine.begin() as connection:
        for table in LENGTHS:
            connection.exec_driver_sql(f"CREATE TABLE bare_{table} (LIKE {table} INCLUDING ALL)")
            connection.exec_driver_sql(f"ALTER TABLE bare_{table} ADD FOREIGN KEY (symbol) REFERENCES symbols")
    return stored


def tidy(engine: Engine, prefix: str) -> None:
    """Empty the tables, and let the server rest."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"TRUNCATE {', '.join(prefix + table for table in LENGTHS)}")
        connection.exec_driver_sql("UPDATE touched_buckets SET intraday_at = NULL, daily_at = NULL")
        connection.exec_driver_sql("VACUUM ANALYZE")
        connection.exec_driver_sql("CHECKPOINT")


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def bare(engine: Engine) -> None:
    with engine.begin() as connection:
        for table, length in LENGTHS.items():
            connection.exec_driver_sql(BARE.format(table=table, length=length))


def require_equal(engine: Engine) -> None:
    """Raise where the two made different bars."""
    names = "symbol, timestamp, open, high, low, close, volume, quote_volume, vwap, trades_count, exchange, source, recorded_at"
    with engine.connect() as connection:
        for table in LENGTHS:
            query = f"SELECT count(*) FROM (SELECT {names} FROM {table} EXCEPT SELECT {names} FROM bare_{table}) AS d"
            if different := connection.exec_driver_sql(query).scalar_one():
                raise SystemExit(f"{table}: {different} bars are not those of the bare GROUP BY")


def main(symbols: int, rounds: int) -> None:
    home = Path(tempfile.mkdtemp(prefix="tickstock-bench-"))
    try:
        engine = open_database(home, None)
        n_minutes = load(engine, symbols)
        times = []
        for _ in range(rounds):
            tidy(engine, "")
            ours = seconds(lambda: rollups.roll_up_intraday(engine))
            tidy(engine, "bare_")
            times.append((ours, seconds(lambda: bare(engine))))
        require_equal(engine)
        ours, theirs = (statistics.median(column) for column in zip(*times, strict=True))
        print(
            f"{n_minutes:,} minutes: {n_minutes / ours:,.0f} a second, bare {n_minutes / theirs:,.0f}; rounds {times}"
        )
        tidy(engine, "bare_")
        rollups.roll_up_intraday(engine)
        print(f"daily: {n_minutes / seconds(lambda: rollups.roll_up_daily(engine)):,.0f} minutes a second")
        rollups.roll_up_intraday(engine)
        print(f"nothing stale: {seconds(lambda: rollups.roll_up_intraday(engine)) * 1000:.1f} ms")
        with engine.begin() as connection:
            connection.exec_driver_sql(
                f"INSERT INTO touched_buckets (symbol, timestamp) SELECT symbol, '{YEAR}-06-01 15:00Z' FROM symbols"
            )
        print(f"an hour of each symbol: {seconds(lambda: rollups.roll_up_intraday(engine)) * 1000:.1f} ms")
        window = [Window("S00", date(YEAR, 1, 1), date(YEAR, 12, 31))]
        checked = seconds(lambda: rollups.verify(engine, window, only_touched=False))
        print(f"checked: {n_minutes / symbols / checked:,.0f} minutes a second")
        engine.dispose()
    finally:
        embedded.destroy(home)
        shutil.rmtree(home, ignore_errors=True)
    result = {
        "name": f"roll {n_minutes:,} minutes up to bars of 5, 15 and 60", "rival": "bare GROUP BY",
        "ratio": round(ours / theirs, 2), "goal": GOAL, "met": ours / theirs <= GOAL,
    }  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, default=SYMBOLS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    main(given.symbols, given.rounds)
