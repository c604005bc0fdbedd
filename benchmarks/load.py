"""What a load costs: 100 symbols by five years of daily bars from a simulated vendor, against the bare calls.

The rival makes the same calls without the framework: the vendor client's `list_aggs`, an Arrow table, a Parquet file with
fsync, the contract, and COPY into a table like the shipped one. Ours besides plans, keeps the ledger and the audit trail,
heeds budgets and retries, and merges. Both talk to one simulator in a process of its own, whose time both have in theirs.
Then the peak of memory of a load of 100 and of 1,000 windows, each in a process of its own.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Engine

SYMBOLS, ROUNDS, GOAL = 100, 2, 1.3
START, END = date(2019, 1, 2), date(2023, 12, 29)
NEW_YORK = "America/New_York"


@contextmanager
def simulator(symbols: int, *options: str) -> Iterator[str]:
    """Run a simulated vendor in a process of its own; yield its address."""
    command = [str(Path(sys.executable).parent / "tickstock"), "simulate", "--port", "0", "--symbols", str(symbols)]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.startswith("TICKSTOCK_POLYGON_URL="):
                    yield line.split("=", 1)[1].strip()
                    return
        finally:
            process.terminate()


def prepare(engine: Engine, symbols: list[str]) -> None:
    from tickstock_assets.domain.sessions import trading_sessions
    from tickstock_assets.storage.bulk import merge

    with engine.begin() as connection:
        merge(connection, "symbols", pd.DataFrame({"symbol": symbols}))
        merge(connection, "sessions", trading_sessions("XNYS", date(2000, 1, 1), date(2026, 12, 31)))
        connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS rival (LIKE ohlcv_daily INCLUDING ALL)")
        connection.exec_driver_sql("ALTER TABLE rival ADD FOREIGN KEY (symbol) REFERENCES symbols")


def rival(url: str, engine: Engine, folder: Path, symbols: list[str]) -> int:
    """Make the calls that there is no way around, and none besides."""
    from polygon import RESTClient

    from tickstock_assets.domain.schemas import daily_bars
    from tickstock_assets.domain.sessions import trading_sessions
    from tickstock_assets.storage.copying import copy_in
    from tickstock_assets.storage.database import driver

    client = RESTClient("simulated", base=url)
    sessions = trading_sessions("XNYS", START, END)["session"]
    frames = []
    for symbol in symbols:
        bars = client.list_aggs(symbol, 1, "day", START.isoformat(), END.isoformat(), adjusted=False, limit=50_000)
        table = pa.Table.from_pylist([vars(bar) for bar in bars])
        with (folder / f"{symbol}.parquet").open("wb") as file:
            pq.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        frame = table.to_pandas()
        day = pd.to_datetime(frame["timestamp"], unit="ms", utc=True).dt.tz_convert(NEW_YORK).dt.tz_localize(None)
        frame = frame.assign(symbol=symbol, date=day.dt.normalize().astype("datetime64[us]"), source="polygon")
        frame["volume"] = frame["volume"].astype(float)
        frames.append(frame)
    frame = pd.concat(frames, ignore_index=True)
    daily_bars(sessions).validate(frame, lazy=True)
    rows = pa.table(
        {
            "symbol": pa.array(frame["symbol"]),
            "date": pa.array(frame["date"]).cast(pa.date32()),
            **{name: pa.array(frame[name]) for name in ("open", "high", "low", "close", "volume", "vwap")},
            "trades_count": pa.array(frame["transactions"]),
            "source": pa.array(frame["source"]),
        }
    )
    with engine.begin() as connection, driver(connection).cursor() as cursor:
        copy_in(cursor, "rival", rows)
    return rows.num_rows


def ours(
    url: str, engine: Engine, folder: Path, symbols: list[str], start: date = START, *, minutes: bool = False
) -> int:
    from tickstock_assets.loading.lineup import Lineup
    from tickstock_assets.loading.load import Loader, Order
    from tickstock_assets.providers.base import Dataset
    from tickstock_assets.providers.polygon import Polygon
    from tickstock_assets.providers.quota import Counted
    from tickstock_assets.storage.provider_quota import StoredQuota

    quota = Counted(StoredQuota(engine, "polygon", None, None))
    provider = Polygon("simulated", base_url=url, quota=quota)
    dataset = Dataset.MINUTE_BARS if minutes else Dataset.DAILY_BARS
    order = Order(symbols, start, END, dataset, actions=False)
    outcome = Loader(Lineup([provider], {"polygon": quota}), engine, folder).load(order)
    assert not outcome.problems, outcome.problems[:3]
    return sum(landing.rows for landing in outcome.landings)


@contextmanager
def home() -> Iterator[tuple[Path, Engine]]:
    from tickstock_assets.storage import embedded
    from tickstock_assets.storage.database import open_database

    folder = Path(tempfile.mkdtemp(prefix="tickstock-bench-"))
    engine = open_database(folder, None)
    try:
        yield folder, engine
    finally:
        engine.dispose()
        embedded.destroy(folder)
        shutil.rmtree(folder, ignore_errors=True)


def one_round(url: str, symbols: list[str], *, first_ours: bool) -> tuple[float, float]:
    """Return the seconds of the rival and of ours, each on a new database and folder."""
    seconds = {}
    for who in ("ours", "rival") if first_ours else ("rival", "ours"):
        with home() as (folder, engine):
            prepare(engine, symbols)
            (folder / "rival").mkdir()
            begin = time.perf_counter()
            n_rows = (
                ours(url, engine, folder / "landing", symbols)
                if who == "ours"
                else rival(url, engine, folder / "rival", symbols)
            )
            seconds[who] = time.perf_counter() - begin
            assert n_rows == SYMBOLS * 1258, n_rows
    return seconds["rival"], seconds["ours"]


def peak_mb(url: str, n_windows: int) -> float:
    """Return the peak of memory of a load of so many monthly windows of minutes, in MB."""
    command = [sys.executable, __file__, "--peak", str(n_windows), "--url", url]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def load_windows(url: str, n_windows: int) -> float:
    symbols = [f"S{number:04d}" for number in range(1, n_windows // 10 + 1)]
    with home() as (folder, engine):
        prepare(engine, symbols)
        ours(url, engine, folder / "landing", symbols, date(2023, 3, 1), minutes=True)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.peak:
        print(load_windows(chosen.url, chosen.peak))
        return
    symbols = [f"S{number:04d}" for number in range(1, SYMBOLS + 1)]
    with simulator(SYMBOLS) as url:
        rounds = [one_round(url, symbols, first_ours=bool(number % 2)) for number in range(ROUNDS + 1)][1:]
        for bare, own in rounds:
            print(f"bare calls {bare:6.2f} s   load {own:6.2f} s   ratio {own / bare:5.2f}")
        peaks = {n_windows: peak_mb(url, n_windows) for n_windows in (100, 1_000)}
    ratio = statistics.median(own / bare for bare, own in rounds)
    for n_windows, peak in peaks.items():
        print(f"{n_windows:5,} windows of minutes: peak {peak:,.0f} MB")
    result = {
        "name": "load",
        "rival": "the same calls of the vendor's client, Parquet, fsync, contract and COPY",
        "rows": SYMBOLS * 1258,
        "ratio": round(ratio, 2),
        "goal": GOAL,
        "met": ratio <= GOAL,
        "peak_mb": {str(n_windows): round(peak) for n_windows, peak in peaks.items()},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
