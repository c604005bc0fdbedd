"""What reading costs: `MarketReader.bars` against the bare query over one warm ADBC connection, on an embedded server.

The rival selects the same columns as the same types, bound in the same way; of the whole table it does not even ask for an
order, which ours keeps. Both take turns, and the ratio is that of their medians. Then the table grows to ten times its rows
and one year of one symbol is read at random, with the plan that the server makes of it.
"""

import argparse
import json
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pandas as pd
from _synthetic_bars import daily_bars, symbol_names
from adbc_driver_postgresql import dbapi
from sqlalchemy import Engine

from tickstock_assets.storage import embedded
from tickstock_assets.storage.bulk import merge
from tickstock_assets.storage.database import open_database
from tickstock_assets.storage.market_data import MarketReader
from tickstock_assets.storage.readings import reading

SYMBOLS, DAYS, TIMES = 200, 2_500, 10
ROUNDS, WHOLE_ROUNDS, YEARS_READ = 200, 7, 2_000
SYMBOL_GOAL, WHOLE_GOAL, YEAR_GOAL_MS = 1.3, 0.85, 10.0
FIRST_YEAR, YEARS = 2010, 9
SELECT = (
    "SELECT symbol::text, date, open::float8, high::float8, low::float8, close::float8, volume::float8, vwap::float8, source "
    "FROM ohlcv_daily"
)


def load(engine: Engine, symbols: int) -> int:
    frame = daily_bars(symbols, DAYS)
    with engine.begin() as connection:
        merge(connection, "symbols", pd.DataFrame({"symbol": symbol_names(symbols)}))
        merge(connection, "ohlcv_daily", frame)
    tidy(engine)
    return len(frame)


def multiply(engine: Engine, times: int) -> int:
    """Give every symbol so many namesakes with the same bars, and return the rows there are then."""
    columns = "open, high, low, close, volume, vwap, trades_count, source"
    with engine.begin() as connection:
        for number in range(1, times):
            connection.exec_driver_sql(
                f"INSERT INTO symbols (symbol) SELECT symbol || '.{number}' FROM symbols WHERE symbol !~ '[.]'"
            )
            connection.exec_driver_sql(
                f"INSERT INTO ohlcv_daily (symbol, date, {columns}) "
                f"SELECT symbol || '.{number}', date, {columns} FROM ohlcv_daily WHERE symbol !~ '[.]' ORDER BY symbol, date"
            )
        rows = connection.exec_driver_sql("SELECT count(*) FROM ohlcv_daily").scalar_one()
    tidy(engine)
    return int(rows)


def tidy(engine: Engine) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE ohlcv_daily")
        connection.exec_driver_sql("CHECKPOINT")


def milliseconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return (time.perf_counter() - begin) * 1000


def in_turns(ours: Callable[[], object], rival: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Return the median milliseconds of both, after each was called once."""
    ours(), rival()
    times = [(milliseconds(ours), milliseconds(rival)) for _ in range(rounds)]
    return statistics.median(a for a, _ in times), statistics.median(b for _, b in times)


def bare(connection: dbapi.Connection, statement: str, parameters: list[object]) -> int:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return int(cursor.fetch_arrow_table().num_rows)


def read_one_symbol(reader: MarketReader, connection: dbapi.Connection, symbols: int, rounds: int) -> float:
    names = random.Random(1).choices(symbol_names(symbols), k=rounds + 1)
    ours, rival = iter(names), iter(names)
    statement = f"{SELECT} WHERE symbol = $1::text ORDER BY date"
    a, b = in_turns(lambda: reader.bars(next(ours)), lambda: bare(connection, statement, [next(rival)]), rounds)
    print(f"ten years of one symbol: {a:.2f} ms, bare {b:.2f} ms")
    return a / b


def read_everything(reader: MarketReader, connection: dbapi.Connection, rows: int, rounds: int) -> float:
    assert reader.bars(None).num_rows == bare(connection, SELECT, []) == rows
    a, b = in_turns(lambda: reader.bars(None), lambda: bare(connection, SELECT, []), rounds)
    print(f"{rows:,} bars: {rows / a:,.0f} thousand a second, bare {rows / b:,.0f}")
    return b / a


def read_years(reader: MarketReader, symbols: int, times: int, reads: int) -> tuple[float, str]:
    """Return the milliseconds in which 99 of 100 reads of one year of one symbol are done, and the plan of one."""
    draw = random.Random(2)
    suffixes = ["", *(f".{number}" for number in range(1, times))]
    found = []
    for _ in range(reads):
        symbol, year = draw.choice(symbol_names(symbols)) + draw.choice(suffixes), FIRST_YEAR + draw.randrange(1, YEARS)
        start, end = date(year, 1, 1), date(year + 1, 1, 1)
        found.append(milliseconds(lambda symbol=symbol, start=start, end=end: reader.bars(symbol, "1d", start, end)))
    request = reading(symbol, "1d", start=start, end=end).stored
    assert request is not None
    statement, parameters = request.statement()
    plan = reader.pool.read(f"EXPLAIN {statement}", parameters).column(0).to_pylist()
    print("\n".join(plan))
    cuts = statistics.quantiles(found, n=100)
    print(
        f"one year of one symbol, {reads:,} reads: median {cuts[49]:.2f} ms, 99% {cuts[98]:.2f} ms, slowest {max(found):.2f} ms"
    )
    return cuts[98], " ".join(plan)


def main(symbols: int, times: int, rounds: int, reads: int) -> None:
    home = Path(tempfile.mkdtemp(prefix="tickstock-bench-"))
    try:
        engine = open_database(home, None)
        address = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        rows = load(engine, symbols)
        with MarketReader(engine.url) as reader, dbapi.connect(address, autocommit=True) as connection:
            of_symbol = read_one_symbol(reader, connection, symbols, rounds)
            of_whole = read_everything(reader, connection, rows, WHOLE_ROUNDS)
            all_rows = multiply(engine, times)
            slowest_ms, plan = read_years(reader, symbols, times, reads)
        engine.dispose()
    finally:
        embedded.destroy(home)
        shutil.rmtree(home, ignore_errors=True)
    bare_name = "bare ADBC query"
    results = [
        {"name": "read ten years of one symbol", "rival": bare_name, "ratio": round(of_symbol, 2), "goal": SYMBOL_GOAL,
         "met": of_symbol <= SYMBOL_GOAL},
        {"name": f"read {rows:,} bars", "rival": bare_name, "ratio": round(of_whole, 2), "goal": WHOLE_GOAL,
         "met": of_whole >= WHOLE_GOAL},
        {"name": f"read one year of one symbol of {all_rows:,} rows, 99th percentile, by index", "ms": round(slowest_ms, 2),
         "goal": YEAR_GOAL_MS, "met": slowest_ms < YEAR_GOAL_MS and "Index" in plan and "Seq Scan" not in plan},
    ]  # fmt: skip
    for result in results:
        print(json.dumps(result))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, default=SYMBOLS)
    parser.add_argument("--times", type=int, default=TIMES, help="how many times the rows for the last question")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--reads", type=int, default=YEARS_READ)
    given = parser.parse_args()
    main(given.symbols, given.times, given.rounds, given.reads)
