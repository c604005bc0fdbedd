"""What the buffer of ticks takes, and how soon they are stored, on an embedded server; the rival is a bare COPY.

Each round: COPY of batches of 20,000 into a table like the shipped one, then the same number of ticks through a buffer, from
the first put to the last commit. Then 100,000 ticks a second for ten seconds, the server killed in the middle; and, with the
settings as they come, 1,000 ticks, and how long flushes of 100 take. The flush settings used are printed with each.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
from _synthetic_bars import symbol_names
from sqlalchemy import Engine, text

from tickstock_assets.domain.trades import TICKS
from tickstock_assets.storage import embedded, placement
from tickstock_assets.storage.bulk import merge
from tickstock_assets.storage.copying import copy_in
from tickstock_assets.storage.database import driver, open_database
from tickstock_assets.storage.tick_counts import TickCounts
from tickstock_assets.storage.tick_frames import Tick
from tickstock_assets.storage.tick_store import array_literals
from tickstock_assets.storage.ticks import FlushPolicy, TickBuffer

SYMBOLS, ROUNDS, BATCH = 100, 3, 20_000
TICKS_A_ROUND = 200_000
A_SECOND, SECONDS, BATCHES_A_SECOND = 100_000, 10, 20
RATIO_GOAL, STORED_GOAL_SECONDS, FLUSH_GOAL_MS = 0.9, 1.0, 10.0
BEGIN_US = int(datetime(2024, 1, 3, 14, 30, tzinfo=UTC).timestamp()) * 1_000_000


def ticks(first: int, number: int) -> pa.Table:
    numbers = pd.RangeIndex(first, first + number).to_numpy()
    return pa.table(
        [
            pa.array(symbol_names(SYMBOLS)).take(numbers % SYMBOLS),
            pa.array(BEGIN_US + 10 * numbers, pa.timestamp("us", "UTC")),
            pa.array(["4"] * number),
            pa.array(numbers).cast(pa.string()),
            pa.array(100 + numbers % 1000 / 100),
            pa.array((1 + numbers % 500).astype(float)),
            pa.array([["14", "41"]] * number, pa.list_(pa.string())),
            pa.array(["polygon"] * number),
        ],
        schema=TICKS,
    )


def bare_copy(engine: Engine, batches: list[pa.Table]) -> float:
    place = TICKS.get_field_index("conditions")
    begin = time.perf_counter()
    for batch in batches:
        with engine.begin() as connection, driver(connection).cursor() as cursor:
            copy_in(cursor, "rival", batch.set_column(place, "conditions", array_literals(batch["conditions"])))
    return time.perf_counter() - begin


def through_the_buffer(engine: Engine, folder: Path, batches: list[pa.Table], policy: FlushPolicy) -> float:
    with TickBuffer(engine, folder, policy) as buffer:
        begin = time.perf_counter()
        for batch in batches:
            buffer.put_many(batch)
        assert buffer.flush(600)
        return time.perf_counter() - begin


def ratio_to_copy(engine: Engine, folder: Path, n_rounds: int) -> float:
    ratios = []
    for _ in range(n_rounds):
        empty(engine)
        batches = [ticks(first, BATCH) for first in range(0, TICKS_A_ROUND, BATCH)]
        rival = bare_copy(engine, batches)
        ours = through_the_buffer(engine, folder, batches, FlushPolicy())
        print(f"{TICKS_A_ROUND / rival:,.0f} a second by COPY, {TICKS_A_ROUND / ours:,.0f} through the buffer")
        ratios.append(rival / ours)
    return statistics.median(ratios)


def sustained(engine: Engine, home: Path, policy: FlushPolicy) -> tuple[float, float, TickCounts]:
    """Return ticks a second acknowledged, seconds until all were stored, and the counts; asserts that none is lost."""
    empty(engine)
    size = A_SECOND // BATCHES_A_SECOND
    batches = [ticks(first, size) for first in range(0, A_SECOND * SECONDS, size)]
    with TickBuffer(engine, home / "ticks", policy) as buffer:
        begin = time.perf_counter()
        for number, batch in enumerate(batches):
            # On time, and never ahead of it.
            time.sleep(max(0.0, begin + number / BATCHES_A_SECOND - time.perf_counter()))
            buffer.put_many(batch)
            if number == len(batches) // 2:
                kill_server(home)
        taken = time.perf_counter() - begin
        deepest = buffer.counts().waiting
        assert buffer.flush(1200)
        stored = time.perf_counter() - begin
        counts = buffer.counts()
    with engine.connect() as connection:
        found = connection.execute(text("SELECT count(*), count(DISTINCT trade_id) FROM ticks")).one()
    assert tuple(found) == (A_SECOND * SECONDS,) * 2, found
    print(
        f"{deepest:,} waited when the last was acknowledged; producers were held back {counts.held_back_seconds:.2f} s"
    )
    return A_SECOND * SECONDS / taken, stored, counts


def kill_server(home: Path) -> None:
    cluster = placement.find_cluster(home)
    assert cluster is not None
    pid = cluster.postmaster_pid()
    assert pid
    os.kill(pid, signal.SIGKILL)


def at_default_settings(engine: Engine, folder: Path) -> tuple[float, float, float]:
    """Return seconds until 1,000 ticks are stored, the median flush of 100 in ms, and a put of one in microseconds."""
    empty(engine)
    with TickBuffer(engine, folder) as buffer:
        begin = time.perf_counter()
        for first in range(0, 1_000, 10):
            buffer.put_many(ticks(first, 10))
        assert buffer.flush(60)
        thousand = time.perf_counter() - begin
        flushes = []
        for first in range(1_000, 11_000, 100):
            batch = ticks(first, 100)
            buffer.put_many(batch)
            assert buffer.flush(60)
            flushes.append(buffer.counts().flush_seconds or 0.0)
    moment = datetime(2024, 1, 3, 15, tzinfo=UTC)
    with TickBuffer(engine, folder, FlushPolicy(3600, 1_000_000)) as buffer:
        begin = time.perf_counter()
        for number in range(2_000):
            buffer.put(
                Tick("S0000", moment + timedelta(microseconds=number), 1.0, 1.0, "polygon", trade_id=str(number))
            )
        one = (time.perf_counter() - begin) / 2_000
    print(f"1,000 ticks stored in {thousand:.3f} s; a flush of 100: {statistics.median(flushes) * 1000:.1f} ms median, "
          f"{sorted(flushes)[-2] * 1000:.1f} ms at most but one; one tick acknowledged in {one * 1e6:.0f} us")  # fmt: skip
    return thousand, statistics.median(flushes) * 1000, one * 1e6


def empty(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("TRUNCATE ticks, rival")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("CHECKPOINT")


def report(name: str, rival: str, ratio: float, goal: float, *, at_most: bool = False) -> None:
    met = ratio <= goal if at_most else ratio >= goal
    print(json.dumps({"name": name, "rival": rival, "ratio": round(ratio, 3), "goal": goal, "met": met}))


def main(n_rounds: int) -> None:
    home = Path(tempfile.mkdtemp(prefix="tickstock-bench-"))
    try:
        engine = open_database(home, None)
        with engine.begin() as connection:
            merge(connection, "symbols", pd.DataFrame({"symbol": symbol_names(SYMBOLS)}))
            connection.exec_driver_sql("CREATE TABLE rival (LIKE ticks INCLUDING ALL)")
            connection.exec_driver_sql("ALTER TABLE rival ADD FOREIGN KEY (symbol) REFERENCES symbols")
        policy = FlushPolicy()
        print(policy)
        thousand, flush_ms, _ = at_default_settings(engine, home / "ticks")
        rate, stored, counts = sustained(engine, home, policy)
        print(f"{rate:,.0f} a second acknowledged over {SECONDS} s, all stored after {stored:.1f} s; {counts}")
        ratio = ratio_to_copy(engine, home / "ticks", n_rounds)
        engine.dispose()
    finally:
        embedded.destroy(home)
        shutil.rmtree(home, ignore_errors=True)
    report("ticks: 1,000 at default settings, seconds", "none", thousand, STORED_GOAL_SECONDS, at_most=True)
    report("ticks: a flush of 100, ms", "none", flush_ms, FLUSH_GOAL_MS, at_most=True)
    report("ticks: 100,000 a second for 10 s, server killed", "the clock", rate / A_SECOND, 0.99)
    report("ticks: into the table", "COPY of the same batches", ratio, RATIO_GOAL)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    main(parser.parse_args().rounds)
