"""What longer bars cost: the kernel against pandas' `groupby().resample()` of the same frame, and the read around it.

The rival gets open, high, low, close and volume of the same bars; a volume-weighted price, which ours makes too, is left to
ours alone. Both take turns, and the ratio is that of their medians. Then 30-minute bars of a year of a symbol's minutes are
read from an embedded server, where it would be 15-minute bars without a vwap, and are made of minutes with it.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from tickstock_assets.domain.resampling import resample
from tickstock_assets.domain.timeframes import bar_length
from tickstock_assets.storage import embedded
from tickstock_assets.storage.bulk import merge
from tickstock_assets.storage.database import open_database
from tickstock_assets.storage.market_data import MarketReader

SYMBOLS, SESSIONS, MINUTES, ROUNDS = 20, 250, 390, 7
GOAL = 0.5
HOW = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}


def minutes(symbols: int) -> pd.DataFrame:
    """A year of sessions, nine minutes of ten."""
    some = np.random.default_rng(1)
    days = pd.bdate_range("2023-01-02", periods=SESSIONS).to_numpy("datetime64[us]")
    grid = (days[:, None] + (np.arange(MINUTES) + 870) * np.timedelta64(60_000_000, "us")).ravel()
    pieces = []
    for number in range(symbols):
        stamps = grid[some.random(len(grid)) < 0.9]
        prices = np.round(100 + some.normal(0, 1, (len(stamps), 4)), 4)
        frame = pd.DataFrame({"symbol": f"S{number:03}", "timestamp": pd.DatetimeIndex(stamps).tz_localize("UTC")})
        frame["open"], frame["close"] = prices[:, 0], prices[:, 1]
        frame["high"], frame["low"] = prices.max(axis=1), prices.min(axis=1)
        frame["volume"], frame["vwap"] = some.integers(1, 10_000, len(stamps)).astype(float), prices[:, 0]
        pieces.append(frame)
    return pd.concat(pieces, ignore_index=True).astype({"symbol": "category"})


def milliseconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return (time.perf_counter() - begin) * 1000


def against_pandas(bars: pd.DataFrame, rounds: int) -> float:
    def rival() -> pd.DataFrame:
        grouped = bars.groupby(["symbol", pd.Grouper(key="timestamp", freq="30min", origin="epoch")], observed=True)
        return grouped.agg(HOW).reset_index()

    def ours() -> pd.DataFrame:
        return resample(bars, bar_length("30m"))

    assert np.array_equal(ours()[list(HOW)].to_numpy(), rival()[list(HOW)].to_numpy())
    times = [(milliseconds(ours), milliseconds(rival)) for _ in range(rounds)]
    a, b = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"{len(bars):,} minutes to 30-minute bars: {a:.0f} ms with vwap, pandas {b:.0f} ms without")
    return a / b


def reads(bars: pd.DataFrame, rounds: int) -> dict[str, float]:
    home = Path(tempfile.mkdtemp(prefix="tickstock-bench-"))
    one = bars[bars["symbol"] == "S000"].astype({"symbol": str})
    fifteen = resample(one, bar_length("15m")).drop(columns="bars")
    try:
        engine = open_database(home, None)
        with engine.begin() as connection:
            merge(connection, "symbols", pd.DataFrame({"symbol": ["S000"]}))
            merge(connection, "ohlcv_1min", one.assign(source="synthetic"))
            merge(connection, "ohlcv_15min", fifteen.round({"volume": 8, "vwap": 8}).assign(source="synthetic"))
        asked = {"a year of 30m from 15m": list(HOW), "a year of 30m with vwap from 1m": [*HOW, "vwap"]}
        with MarketReader(engine.url) as reader:
            found = {
                name: statistics.median(
                    milliseconds(lambda columns=columns: reader.bars("S000", "30m", columns=columns))
                    for _ in range(rounds)
                )
                for name, columns in asked.items()
            }
        engine.dispose()
    finally:
        embedded.destroy(home)
        shutil.rmtree(home, ignore_errors=True)
    for name, ms in found.items():
        print(f"{name}: {ms:.1f} ms")
    return {name: round(ms, 1) for name, ms in found.items()}


def main(symbols: int, rounds: int) -> None:
    bars = minutes(symbols)
    ratio = against_pandas(bars, rounds)
    result = {
        "name": f"resample {len(bars):,} minutes to 30m", "rival": "pandas groupby with Grouper, no vwap",
        "ratio": round(ratio, 2), "goal": GOAL, "met": ratio <= GOAL, "reads_ms": reads(bars, rounds),
    }  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, default=SYMBOLS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    main(given.symbols, given.rounds)
