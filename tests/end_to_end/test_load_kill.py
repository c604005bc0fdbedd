"""Ten `kill -9` in one `tickstock load`: nothing that was landed is fetched again, nothing is missing.

The moments are drawn anew every time; the seed is printed, and TICKSTOCK_TEST_SEED repeats a draw.
"""

import json
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import tickstock
from tests.end_to_end.commands import start
from tests.end_to_end.table_rows import assert_same_rows, rows_of
from tests.end_to_end.test_kill import landed
from tickstock_assets.simulator import Market, Simulator
from tickstock_assets.storage import embedded

SEED = int(os.environ.get("TICKSTOCK_TEST_SEED") or time.time_ns() % 1_000_000)
N_SYMBOLS, N_BARS = 80, 1_258
SYMBOLS = [f"S{number:04}" for number in range(1, N_SYMBOLS + 1)]
LOAD = ("load", "--symbols", ",".join(SYMBOLS), "--start", "2019-01-02", "--end", "2023-12-29", "--json")
# Kills while symbols are looked up, while bars come, and once all of them are landed and go on to their table.
N_LOOKING_UP, N_FETCHING, N_STORING = 2, 6, 2
TABLES = ["symbols", "sessions", "splits", "dividends", "ohlcv_daily", "quarantined_bars", "stored_windows"]
MOMENTS_OF_WRITING = ["created_at", "last_updated", "recorded_at", "stored_at", "updated_at"]


@pytest.fixture(scope="module")
def market() -> Market:
    return Market(N_SYMBOLS, sample=False)


@pytest.fixture
def simulator(market: Market) -> Iterator[Simulator]:
    # Slow enough for a moment between two calls to be met.
    with Simulator(market, latency_seconds=0.01) as running:
        yield running


@pytest.fixture(scope="module")
def undisturbed(market: Market) -> Iterator[dict[str, Any]]:
    """What a load that nothing disturbs leaves."""
    folder = Path(tempfile.mkdtemp(prefix="tickstock-test-"))
    with Simulator(market) as simulator:
        result = tickstock(*LOAD, home=folder, **at(simulator))
    assert (result.returncode, result.stderr) == (0, "")
    yield state_of(folder)
    embedded.release(folder)
    embedded.destroy(folder)
    shutil.rmtree(folder, ignore_errors=True)


def at(simulator: Simulator) -> dict[str, str]:
    """Return the settings of somebody without limits at the simulator."""
    return {
        "TICKSTOCK_POLYGON_API_KEY": "any-key",
        "TICKSTOCK_POLYGON_URL": simulator.url,
        "TICKSTOCK_POLYGON_CALLS_PER_MINUTE": "0",
    }


def test_a_load_killed_ten_times_fetches_nothing_twice_and_ends_as_if_undisturbed(
    home: Path,
    simulator: Simulator,
    undisturbed: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    draw = random.Random(SEED)
    with capsys.disabled():
        os.write(1, f"\n[seed {SEED}] ".encode())
    for number, phase in enumerate(["up"] * N_LOOKING_UP + ["fetch"] * N_FETCHING + ["store"] * N_STORING, start=1):
        before = landed_windows(home) if number > 1 else set()
        n_calls = len(simulator.record.calls)
        process = start(*LOAD, home=home, log=tmp_path / "load.log", **at(simulator))
        try:
            kill_when(moment(phase, draw, simulator, home, n_calls), process)
        finally:
            process.kill()
            process.wait()
        assert asked_for_bars(simulator, n_calls) & before == set(), f"kill {number}"
        assert before <= landed_windows(home), f"kill {number}"
        with capsys.disabled():
            os.write(1, f"[{number}: {len(landed_windows(home))} landed] ".encode())
    before, n_calls = landed_windows(home), len(simulator.record.calls)
    result = tickstock(*LOAD, home=home, **at(simulator))
    assert (result.returncode, result.stderr) == (0, "")
    assert asked_for_bars(simulator, n_calls) & before == set()
    assert json.loads(result.stdout)["gaps"] == {}
    state = state_of(home)
    assert_same_rows(state, undisturbed)
    assert len(state["ohlcv_daily"]) == N_SYMBOLS * N_BARS
    assert materialized(home) == {f"{symbol}|{year}" for symbol in SYMBOLS for year in range(2019, 2024)}


def moment(phase: str, draw: random.Random, simulator: Simulator, home: Path, n_calls: int) -> Callable[[], bool]:
    """Return what tells that a moment, drawn within a phase of the load, has come."""
    if phase == "up":
        n_more = draw.randint(1, 80)
        return lambda: len(simulator.record.calls) >= n_calls + n_more
    if phase == "fetch":
        n_more = draw.randint(1, 12)
        return lambda: len(asked_for_bars(simulator, n_calls)) >= n_more
    # From the last answer on, within the second or more that storing takes.
    delay = draw.uniform(0, 1.5)
    seen: list[float] = []

    def has_come() -> bool:
        if not seen and len(asked_for_bars(simulator, 0)) >= N_SYMBOLS and len(landed(home)) >= N_SYMBOLS:
            seen.append(time.monotonic())
        return bool(seen) and time.monotonic() - seen[0] >= delay

    return has_come


def kill_when(has_come: Callable[[], bool], process: "subprocess.Popen[bytes]") -> None:
    while not has_come():
        assert process.poll() is None, "it ended before the moment came"
        time.sleep(0.001)
    process.kill()
    process.wait()


def asked_for_bars(simulator: Simulator, after: int) -> set[tuple[str, str]]:
    """Return symbol and window of the calls for bars, after so many calls of all kinds."""
    calls = simulator.record.calls[after:]
    return {(call.symbol, call.window) for call in calls if call.route == "aggregates_day"}


def landed_windows(home: Path) -> set[tuple[str, str]]:
    """Return the windows of the ledger as the simulator names them, each of which was landed once."""
    with psycopg.connect(embedded.acquire(home).url("tickstock")) as connection:
        there = connection.execute("SELECT to_regclass('load_ledger')").fetchone()
        rows = connection.execute(
            "SELECT symbol, window_start, window_end, status, attempts FROM load_ledger"
        ).fetchall() if there and there[0] else []  # fmt: skip
    embedded.release(home)
    assert {row[3:] for row in rows} <= {("landed", 1)}
    return {(symbol, f"{start}..{end}+0") for symbol, start, end, *_ in rows}


def state_of(home: Path) -> dict[str, list[str]]:
    """Return the rows of the tables and the landed files, in an order of their own; when they were written is left out."""
    with psycopg.connect(embedded.acquire(home).url("tickstock")) as connection:
        state = rows_of(connection, TABLES, MOMENTS_OF_WRITING)
    state["landed files"] = landed(home)
    embedded.release(home)
    state["windows"] = sorted(map(str, landed_windows(home)))
    return state


def materialized(home: Path) -> set[str]:
    """Return the partitions of `ohlcv_daily` that Dagster was told of."""
    with psycopg.connect(embedded.acquire(home).url("dagster")) as connection:
        rows = connection.execute("""
            SELECT DISTINCT partition FROM event_logs
            WHERE asset_key = '["ohlcv_daily"]' AND dagster_event_type = 'ASSET_MATERIALIZATION'
        """).fetchall()
    embedded.release(home)
    return {partition for (partition,) in rows}


def test_the_market_is_of_the_size_that_is_expected(market: Market) -> None:
    assert len(market.daily("S0001")) == N_BARS
    assert market.daily("S0001")["date"].iloc[0].date() == date(2019, 1, 2)
