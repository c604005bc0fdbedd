"""What `merge` costs: 500,000 daily bars against one plain COPY of the same frame into a table like the shipped one.

The rival has the columns, checks, keys, index, foreign key and durability of `ohlcv_daily`; both turn the same frame into
the same text. Each round loads the rival, then merges into an empty table, merges the same again, and merges it with one
bar in a hundred corrected, all in one run on an embedded server. The ratios are the rival's seconds to ours, medians.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
from _synthetic_bars import daily_bars, symbol_names
from sqlalchemy import Connection, Engine

from tickstock_assets.storage import embedded
from tickstock_assets.storage.bulk import MergeCounts, merge
from tickstock_assets.storage.copying import copy_in
from tickstock_assets.storage.database import driver, open_database

SYMBOLS, DAYS, ROUNDS = 200, 2_500, 5
TO_SQL_ROWS = 50_000
GOALS = {"fresh": 0.9, "unchanged": 2.5, "1% corrected": 2.0}
AIMS_WITHOUT_FOREIGN_KEY = {"fresh": 0.9, "unchanged": 1.2, "1% corrected": 1.0}
TO_SQL_GOAL = 30
MEMORY_GOAL = 3.0


def prepare(engine: Engine) -> None:
    with engine.begin() as connection:
        names = [{"symbol": name} for name in symbol_names(SYMBOLS)]
        merge(connection, "symbols", pd.DataFrame(names))
        connection.exec_driver_sql("CREATE TABLE rival (LIKE ohlcv_daily INCLUDING ALL)")
        connection.exec_driver_sql("ALTER TABLE rival ADD FOREIGN KEY (symbol) REFERENCES symbols")


def plain_copy(connection: Connection, frame: pd.DataFrame) -> None:
    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.set_column(1, "date", table["date"].cast(pa.date32()))
    with driver(connection).cursor() as cursor:
        copy_in(cursor, "rival", table)


def timed(engine: Engine, work: Callable[[Connection], object]) -> tuple[float, object]:
    """Return the seconds of a transaction, its commit included, begun on a server that has nothing else to write."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("CHECKPOINT")
    begin = time.perf_counter()
    with engine.begin() as connection:
        result = work(connection)
    return time.perf_counter() - begin, result


def one_round(engine: Engine, frame: pd.DataFrame, corrected: pd.DataFrame) -> dict[str, float]:
    with engine.begin() as connection:
        connection.exec_driver_sql("TRUNCATE rival, ohlcv_daily, bar_revisions")
    n_rows, n_corrected = len(frame), int((frame["close"] != corrected["close"]).sum())
    rival, _ = timed(engine, lambda connection: plain_copy(connection, frame))
    fresh, counts = timed(engine, lambda connection: merge(connection, "ohlcv_daily", frame))
    assert counts == MergeCounts(inserted=n_rows), counts
    unchanged, counts = timed(engine, lambda connection: merge(connection, "ohlcv_daily", frame))
    assert counts == MergeCounts(unchanged=n_rows), counts
    changed, counts = timed(engine, lambda connection: merge(connection, "ohlcv_daily", corrected))
    assert counts == MergeCounts(corrected=n_corrected, unchanged=n_rows - n_corrected), counts
    with engine.begin() as connection:
        kept = connection.exec_driver_sql("SELECT count(*) FROM bar_revisions").scalar_one()
        assert kept == n_corrected, kept
    return {"COPY": rival, "fresh": fresh, "unchanged": unchanged, "1% corrected": changed}


def to_sql_rate(engine: Engine, frame: pd.DataFrame) -> float:
    """Return the rows a second of pandas' own way."""
    with engine.begin() as connection:
        connection.exec_driver_sql("TRUNCATE rival")
    part = frame.head(TO_SQL_ROWS)
    seconds, _ = timed(
        engine,
        lambda connection: part.to_sql(
            "rival", connection, if_exists="append", index=False, method="multi", chunksize=1000
        ),
    )
    return len(part) / seconds


def peak_memory_ratio(home: Path) -> float:
    """Return the largest memory of a process during a fresh merge, beyond what it had, and the frame, to the frame."""
    command = [sys.executable, __file__, "--peak-memory", str(home)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def measure_peak_memory(home: Path) -> None:
    engine = open_database(home, None)
    with engine.begin() as connection:
        connection.exec_driver_sql("TRUNCATE ohlcv_daily, bar_revisions")
    with engine.begin() as connection:  # what is loaded on first use is no part of it
        merge(connection, "ohlcv_daily", daily_bars(symbols=1, days=10))
    frame = daily_bars(SYMBOLS, DAYS)
    size = int(frame.memory_usage(deep=True).sum())
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins here
    before = _status_kb("VmRSS")
    with engine.begin() as connection:
        merge(connection, "ohlcv_daily", frame)
    print(1 + (_status_kb("VmHWM") - before) * 1024 / size)


def _status_kb(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def report(name: str, rival: str, ratio: float, goal: float, *, at_most: bool = False) -> None:
    met = ratio <= goal if at_most else ratio >= goal
    print(json.dumps({"name": name, "rival": rival, "ratio": round(ratio, 2), "goal": goal, "met": met}))


def rounds(engine: Engine, frame: pd.DataFrame, corrected: pd.DataFrame, n_rounds: int) -> dict[str, float]:
    """Return the median ratio of each kind of load, after printing every round."""
    ratios: dict[str, list[float]] = {name: [] for name in GOALS}
    for _ in range(n_rounds):
        seconds = one_round(engine, frame, corrected)
        print("   ".join(f"{name} {value:5.2f} s" for name, value in seconds.items()))
        for name, values in ratios.items():
            values.append(seconds["COPY"] / seconds[name])
    for name, values in ratios.items():
        print(f"  {name}: {statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})")
    return {name: statistics.median(values) for name, values in ratios.items()}


def main(n_rounds: int) -> None:
    home = Path(tempfile.mkdtemp(prefix="tickstock-bench-"))
    try:
        engine = open_database(home, None)
        prepare(engine)
        frame = daily_bars(SYMBOLS, DAYS)
        corrected = frame.copy()
        every_hundredth = corrected.index[::100]
        corrected.loc[every_hundredth, "close"] = corrected.loc[every_hundredth, "low"]
        corrected.loc[every_hundredth, "volume"] += 1
        with_key = rounds(engine, frame, corrected, n_rounds)
        rate = statistics.median(to_sql_rate(engine, frame) for _ in range(n_rounds))
        merge_seconds = []
        for _ in range(n_rounds):
            with engine.begin() as connection:
                connection.exec_driver_sql("TRUNCATE ohlcv_daily, bar_revisions")
            merge_seconds.append(timed(engine, lambda connection: merge(connection, "ohlcv_daily", frame))[0])
        print(f"to_sql {rate:,.0f} rows a second, merge {len(frame) / statistics.median(merge_seconds):,.0f}")
        times_to_sql = len(frame) / statistics.median(merge_seconds) / rate
        memory = peak_memory_ratio(home) if sys.platform == "linux" else None
        with engine.begin() as connection:
            for table in ("rival", "ohlcv_daily"):
                connection.exec_driver_sql(f"ALTER TABLE {table} DROP CONSTRAINT {table}_symbol_fkey")
        without_key = rounds(engine, frame, corrected, n_rounds)
        engine.dispose()
    finally:
        embedded.destroy(home)
        shutil.rmtree(home, ignore_errors=True)
    for name, ratio in without_key.items():
        report(f"bulk_write {name}, no foreign key", "COPY", ratio, AIMS_WITHOUT_FOREIGN_KEY[name])
    report("bulk_write against to_sql", "DataFrame.to_sql(method='multi')", times_to_sql, TO_SQL_GOAL)
    if memory is not None:
        report("bulk_write peak memory", "the frame", memory, MEMORY_GOAL, at_most=True)
    for name, ratio in with_key.items():
        report(f"bulk_write {name}", "COPY", ratio, GOALS[name])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peak-memory", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    if arguments.peak_memory:
        measure_peak_memory(arguments.peak_memory)
    else:
        main(arguments.rounds)
