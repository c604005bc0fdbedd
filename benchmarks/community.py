"""What TimescaleDB Community brings: compression of minute bars, and a rollup against the same from raw.

Runs on the server that TICKSTOCK_TEST_TIMESCALEDB_URL names, in a database of its own that is dropped at the end. Prints
a line of JSON a question; without a Community server each says that it was not run, and why.
"""

import contextlib
import json
import os
import statistics
import time
import uuid
from collections.abc import Callable, Iterator

import psycopg
from sqlalchemy import Engine, make_url, text

VARIABLE = "TICKSTOCK_TEST_TIMESCALEDB_URL"
# 500k minute bars: 5 symbols for 70 days of 24 hours, or of a market that never closes.
SYMBOLS = 5
MINUTES = 100_000
ROUNDS = 15
# A random walk in cents, as prices are; volume of a lognormal size, whole or with three decimals, as venues report them.
FILL = """
INSERT INTO ohlcv_1min (symbol, timestamp, open, high, low, close, volume, quote_volume, vwap, trades_count, source)
SELECT symbol, timestamp, open, greatest(open, close) + up, least(open, close) - down, close, volume,
       round(volume * (open + close) / 2, 2), round((open + close) / 2, 4), 1 + floor(volume / 80), 'polygon'
FROM (
    SELECT symbol, timestamp, lag(close, 1, close) OVER w AS open, close, up, down, volume
    FROM (
        SELECT s.symbol, '2024-01-01'::timestamptz + n * interval '1 minute' AS timestamp,
               200 + sum(round(random_normal(0, 0.04)::numeric, 2)) OVER (PARTITION BY s.symbol ORDER BY n) AS close,
               round((random() * 0.05)::numeric, 2) AS up, round((random() * 0.05)::numeric, 2) AS down,
               round(exp(random_normal(7, 1))::numeric, %(decimals)s) AS volume
        FROM unnest(%(symbols)s::text[]) AS s (symbol), generate_series(0, %(minutes)s - 1) AS n
    ) AS walk WINDOW w AS (PARTITION BY symbol ORDER BY timestamp)
) AS bars
"""
RANGE = "symbol = 'S0' AND timestamp >= '2024-02-01' AND timestamp < '2024-03-02'"
ROLLUP = f"SELECT timestamp, open, high, low, close, volume FROM ohlcv_1h WHERE {RANGE} ORDER BY timestamp"
FROM_RAW = f"""
    SELECT time_bucket('1 hour', timestamp), first(open, timestamp), max(high), min(low), last(close, timestamp), sum(volume)
    FROM ohlcv_1min WHERE {RANGE} GROUP BY 1 ORDER BY 1
"""


def tell(name: str, rival: str, ratio: float | None, goal: float, **more: object) -> None:
    met = None if ratio is None else ratio >= goal
    rounded = None if ratio is None else round(ratio, 2)
    print(json.dumps({"name": name, "rival": rival, "ratio": rounded, "goal": goal, "met": met, **more}))


def why_not() -> str | None:
    """Return why this cannot run, or None when it can."""
    address = os.environ.get(VARIABLE)
    if not address:
        return f"{VARIABLE} names no server"
    with psycopg.connect(address) as connection:
        available = connection.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'timescaledb'").fetchone()
    if not available:
        return f"the server that {VARIABLE} names has no TimescaleDB"
    with new_database() as engine, engine.connect() as connection:
        licence = connection.execute(text("SELECT current_setting('timescaledb.license')")).scalar_one()
    return None if licence == "timescale" else f"the server that {VARIABLE} names runs the {licence} edition"


@contextlib.contextmanager
def new_database() -> Iterator[Engine]:
    """A database with the newest schema, in which no policy starts by itself."""
    from tickstock_assets.storage import migrate, tiers
    from tickstock_assets.storage.database import open_engine

    address, name = os.environ[VARIABLE], f"bench_{uuid.uuid4().hex}"
    with psycopg.connect(address, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        engine = open_engine(make_url(address).set(database=name))
        try:
            tiers.create_extension(engine)
            with engine.begin() as connection:
                connection.execute(text("SELECT _timescaledb_functions.stop_background_workers()"))
            migrate.upgrade(engine)
            yield engine
        finally:
            engine.dispose()
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def fill(engine: Engine, decimals: int) -> None:
    symbols = [f"S{n}" for n in range(SYMBOLS)]
    with engine.begin() as connection:
        cursor = connection.connection.cursor()
        cursor.execute("SELECT setseed(0.5)")
        cursor.execute("INSERT INTO symbols (symbol) SELECT unnest(%s::text[])", [symbols])
        cursor.execute(FILL, {"decimals": decimals, "symbols": symbols, "minutes": MINUTES})
        cursor.close()


def compress(decimals: int) -> None:
    from tickstock_assets.storage.compression import compress as compress_chunks

    kind, goal = ("fractional", 5.5) if decimals else ("whole", 6.5)
    with new_database() as engine:
        fill(engine, decimals)
        done = compress_chunks(engine, "ohlcv_1min")
    assert done.after_bytes is not None
    tell(
        f"compression of {SYMBOLS * MINUTES:,} minute bars, all columns, {kind} volume",
        "the same chunks uncompressed, with indexes",
        done.before_bytes / done.after_bytes,
        goal,
        bytes_a_row=round(done.after_bytes / (SYMBOLS * MINUTES), 1),
        bytes_a_row_uncompressed=round(done.before_bytes / (SYMBOLS * MINUTES), 1),
        chunks=done.chunks,
    )


def milliseconds(engine: Engine, query: str) -> float:
    with engine.connect() as connection:

        def once() -> float:
            begin = time.perf_counter()
            connection.execute(text(query)).all()
            return (time.perf_counter() - begin) * 1000

        once()
        return statistics.median(once() for _ in range(ROUNDS))


def roll_up() -> None:
    from tickstock_assets.storage import rollups

    with new_database() as engine:
        fill(engine, 0)
        rollups.refresh(engine)
        with engine.connect() as connection:
            connection.execute(text("ANALYZE"))
            connection.commit()
            same = connection.execute(text(ROLLUP)).all() == connection.execute(text(FROM_RAW)).all()
        assert same, "the rollup and the minutes differ"
        from_rollup, from_raw = milliseconds(engine, ROLLUP), milliseconds(engine, FROM_RAW)
    tell(
        "30 days of hourly bars of one symbol from the rollup",
        "the same from minute bars",
        from_raw / from_rollup,
        1.0,
        milliseconds=round(from_rollup, 2),
        milliseconds_from_raw=round(from_raw, 2),
    )


def main() -> None:
    questions: dict[str, tuple[float, Callable[[], None]]] = {
        "compression of minute bars, whole volume": (6.5, lambda: compress(0)),
        "compression of minute bars, fractional volume": (5.5, lambda: compress(3)),
        "hourly bars from the rollup": (1.0, roll_up),
    }
    reason = why_not()
    for name, (goal, run) in questions.items():
        if reason is None:
            run()
        else:
            tell(name, "none", None, goal, not_run=reason)


if __name__ == "__main__":
    main()
