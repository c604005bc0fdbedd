"""The latencies that the project set out with: target, measured, met or not; on an embedded server, medians.

Each question is asked as a user of this package would ask it, over pooled connections that are warm. Bars are daily unless
said; trades are ticks of the market. The rollup is the table of hourly bars.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
from _synthetic_bars import FIRST_DAY, daily_bars, symbol_names
from sqlalchemy import Connection, Engine, text

from tickstock_assets.storage import embedded
from tickstock_assets.storage.bulk import merge
from tickstock_assets.storage.database import open_database
from tickstock_assets.storage.market_data import MarketReader
from tickstock_assets.storage.queries import price_statistics
from tickstock_assets.storage.trade_queries import TickFilter, ticks

DAYS, TICKS, MINUTES = 2_500, 50_000, 50_000
ROUNDS = 100
FIRST_TICK = datetime(2024, 1, 2, tzinfo=UTC)


@dataclass(frozen=True)
class Target:
    """What was promised: at most, or at least, so many of a unit."""

    name: str
    target: float
    unit: str
    measure: Callable[[], float]
    at_least: bool = False


def fill(engine: Engine, symbols: int) -> None:
    names = symbol_names(symbols + 2)
    with engine.begin() as connection:
        merge(connection, "symbols", pd.DataFrame({"symbol": names}))
        merge(connection, "ohlcv_daily", daily_bars(symbols, DAYS))
        generate_ticks_and_minutes(connection, names[0])
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")
        connection.exec_driver_sql("CHECKPOINT")


def generate_ticks_and_minutes(connection: Connection, symbol: str) -> None:
    parameters = {"symbol": symbol, "first": FIRST_TICK, "ticks": TICKS - 1, "minutes": MINUTES - 1}
    connection.execute(
        text("""
            INSERT INTO ticks (symbol, timestamp, exchange, trade_id, price, quantity, side, is_buyer_maker, source)
            SELECT :symbol, :first + n * interval '0.7 seconds', 'XNAS', n::text, 100 + (n % 500) * 0.01, 1 + n % 90, 'buy',
                   false, 'synthetic'
            FROM generate_series(0, :ticks) AS n
        """),
        parameters,
    )
    connection.execute(
        text("""
            INSERT INTO ohlcv_1min (symbol, timestamp, open, high, low, close, volume, source)
            SELECT :symbol, :first + n * interval '1 minute', 100, 101, 99, 100 + (n % 100) * 0.01, 1000 + n % 77, 'synthetic'
            FROM generate_series(0, :minutes) AS n
        """),
        parameters,
    )
    connection.exec_driver_sql("""
        INSERT INTO ohlcv_1h (symbol, timestamp, open, high, low, close, volume, source)
        SELECT symbol, date_trunc('hour', timestamp, 'UTC'), (array_agg(open ORDER BY timestamp))[1], max(high), min(low),
               (array_agg(close ORDER BY timestamp DESC))[1], sum(volume), 'synthetic'
        FROM ohlcv_1min GROUP BY 1, 2
    """)


def median_ms(work: Callable[[], object], rounds: int) -> float:
    """Return the median milliseconds of one call, after three that do not count."""
    times = []
    for number in range(rounds + 3):
        begin = time.perf_counter()
        work()
        if number >= 3:
            times.append((time.perf_counter() - begin) * 1000)
    return statistics.median(times)


def questions(engine: Engine, reader: MarketReader, symbols: int, rounds: int) -> Iterator[Target]:
    symbol, written, loaded = symbol_names(symbols + 2)[0], *symbol_names(symbols + 2)[-2:]
    first = pd.Timestamp(FIRST_DAY)
    thousand = (first.date(), pd.bdate_range(first, periods=1_001)[-1].date())
    assert reader.bars(symbol, "1d", *thousand).num_rows == 1_000
    yield Target(
        "1,000 bars of one symbol", 10, "ms", lambda: median_ms(lambda: reader.bars(symbol, "1d", *thousand), rounds)
    )
    of_symbol = TickFilter(symbols=symbol, start=FIRST_TICK)
    assert ticks(reader.pool, of_symbol, limit=10_000).num_rows == 10_000
    yield Target(
        "10,000 trades", 20, "ms", lambda: median_ms(lambda: ticks(reader.pool, of_symbol, limit=10_000), rounds)
    )

    def statistics_of_30_days() -> None:
        with engine.connect() as connection:
            assert price_statistics(connection, symbol, 30)

    yield Target("30-day statistics", 50, "ms", lambda: median_ms(statistics_of_30_days, rounds))
    year = (date(2012, 1, 1), date(2013, 1, 1))
    yield Target(
        "one year of one symbol", 50, "ms", lambda: median_ms(lambda: reader.bars(symbol, "1d", *year), rounds)
    )
    many_bars = pa.Table.from_pandas(daily_bars(1, rounds + 3).assign(symbol=written), preserve_index=False)
    new_bars = (many_bars.slice(n, 1) for n in range(rounds + 3))

    def write_one() -> None:
        with engine.begin() as connection:
            assert merge(connection, "ohlcv_daily", next(new_bars)).inserted == 1

    yield Target("a single bar written and committed", 5, "ms", lambda: median_ms(write_one, rounds))

    def rows_a_second() -> float:
        frame = pd.concat([daily_bars(1, 20_000).assign(symbol=loaded)])
        begin = time.perf_counter()
        with engine.begin() as connection:
            assert merge(connection, "ohlcv_daily", frame).inserted == len(frame)
        return len(frame) / (time.perf_counter() - begin)

    yield Target("bulk", 10_000, "rows/s", rows_a_second, at_least=True)

    def aggregate() -> None:
        with engine.connect() as connection:
            connection.execute(
                text(
                    "SELECT max(high), min(low), sum(volume) FROM ohlcv_1h WHERE symbol = :symbol AND timestamp >= :start"
                ),
                {"symbol": symbol, "start": FIRST_TICK},
            ).one()

    yield Target("an aggregate from a rollup", 5, "ms", lambda: median_ms(aggregate, rounds))


def main(symbols: int, rounds: int) -> None:
    home = Path(tempfile.mkdtemp(prefix="tickstock-bench-"))
    results = []
    try:
        engine = open_database(home, None)
        fill(engine, symbols)
        with MarketReader(engine.url) as reader:
            for one in questions(engine, reader, symbols, rounds):
                measured = one.measure()
                met = measured >= one.target if one.at_least else measured < one.target
                promise = f"{'at least' if one.at_least else 'below'} {one.target:,g} {one.unit}"
                print(
                    f"{one.name:<36} target {promise:<26} measured {measured:>12,.2f} {one.unit:<7} {'met' if met else 'NOT met'}"
                )
                results.append(
                    {"name": f"seed target: {one.name}", "measured": round(measured, 2), "unit": one.unit,
                     "goal": one.target, "met": met}
                )  # fmt: skip
        engine.dispose()
    finally:
        embedded.destroy(home)
        shutil.rmtree(home, ignore_errors=True)
    for result in results:
        print(json.dumps(result))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    main(given.symbols, given.rounds)
