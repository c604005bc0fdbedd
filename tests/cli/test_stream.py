"""`tickstock stream` as people type it, against the simulated live feed."""

import json
import signal
import subprocess
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from tests.conftest import tickstock
from tests.end_to_end.commands import environment
from tests.simulator.client import KEY, small_market
from tests.storage.servers import wait_until
from tickstock_assets.simulator import Pace, Plan, Simulator, Vendor
from tickstock_assets.storage import embedded
from tickstock_assets.storage.database import open_database
from tickstock_assets.storage.tick_spill import Spill, unflushed

DAY = date(2022, 11, 25)


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    plan = {Vendor.POLYGON: Plan(keys=frozenset({KEY}))}
    with Simulator(small_market(), plan, pace=Pace(DAY, speed=600)) as running:
        yield running


@pytest.fixture
def listed_home(module_home: Path) -> Path:
    """A home whose database knows two symbols and has no ticks."""
    engine = open_database(module_home, None)
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE ticks, ohlcv_1min"))
        connection.execute(text("INSERT INTO symbols (symbol) VALUES ('S0001'), ('S0002') ON CONFLICT DO NOTHING"))
    engine.dispose()
    return module_home


def variables(simulator: Simulator, key: str = KEY) -> dict[str, str]:
    return {"TICKSTOCK_POLYGON_STREAM_URL": simulator.stream_url, "TICKSTOCK_POLYGON_API_KEY": key}


def begun(home: Path, simulator: Simulator, **more: str) -> subprocess.Popen[str]:
    """Start the command; return when ticks have come."""
    from tests.end_to_end.commands import TICKSTOCK

    process = subprocess.Popen(
        [TICKSTOCK, "stream", "--symbols", "S0001,S0002", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(home, **variables(simulator), **more),
    )
    wait_until(lambda: simulator.live.sent > 20 or process.poll() is not None)
    return process


def ticks_stored(home: Path) -> int:
    with psycopg.connect(embedded.acquire(home).url("tickstock")) as connection:
        row = connection.execute("SELECT count(*) FROM ticks").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_it_and_it_ends_well(listed_home: Path, simulator: Simulator, ending: signal.Signals) -> None:
    # With these settings nothing would be stored by itself.
    process = begun(listed_home, simulator, TICKSTOCK_TICK_FLUSH_SECONDS="3600", TICKSTOCK_TICK_FLUSH_COUNT="1000000")
    wait_until(lambda: unflushed(listed_home / "ticks").num_rows > 10)
    process.send_signal(ending)
    output, complaint = process.communicate(timeout=60)
    assert (process.returncode, complaint) == (0, "")
    counts = json.loads(output)
    assert counts["ticks"]["stored"] == counts["ticks"]["acknowledged"] == ticks_stored(listed_home) > 10
    assert counts["ticks"]["waiting"] == 0
    assert unflushed(listed_home / "ticks").num_rows == 0


def test_it_ends_by_itself_and_says_what_it_did(listed_home: Path, simulator: Simulator) -> None:
    done = tickstock(
        "stream", "--symbols", "S0001", "--channel", "trades", "--for", "2", home=listed_home, **variables(simulator)
    )
    assert (done.returncode, done.stderr) == (0, "")
    stored = ticks_stored(listed_home)
    assert f"{stored:,} ticks stored, 0 there already, 0 in quarantine, 0 waiting; 0 minute bars" in done.stdout


def test_a_killed_one_leaves_what_the_next_one_stores(listed_home: Path, simulator: Simulator) -> None:
    process = begun(listed_home, simulator, TICKSTOCK_TICK_FLUSH_SECONDS="3600", TICKSTOCK_TICK_FLUSH_COUNT="1000000")
    wait_until(lambda: unflushed(listed_home / "ticks").num_rows > 10)
    process.kill()
    process.communicate()
    left = unflushed(listed_home / "ticks").num_rows
    assert ticks_stored(listed_home) == 0
    done = tickstock("stream", "--symbols", "S0001", "--for", "1", "--json", home=listed_home, **variables(simulator))
    counts = json.loads(done.stdout)["ticks"]
    assert counts["replayed"] == left > 10
    assert counts["stored"] == left + counts["acknowledged"] == ticks_stored(listed_home)


@pytest.mark.parametrize(
    ("symbols", "key", "sentence"),
    [
        (
            "S0001",
            "wrong",
            "polygon: expected a key that its live feed takes, found it refused (authentication failed); set",
        ),
        ("S0001", "", "TICKSTOCK_POLYGON_API_KEY: expected a key for the live feed, found it unset; set it"),
        ("S0001,NOPE", KEY, "NOPE: expected a symbol that is listed, found none of that name; `tickstock load"),
        ("S0001,a b", KEY, "--symbols S0001,a b: expected a symbol such as AAPL or BRK.B, found 'a b'; correct it"),
    ],
)
def test_a_mistake_is_one_sentence(
    listed_home: Path, simulator: Simulator, symbols: str, key: str, sentence: str
) -> None:
    done = tickstock("stream", "--symbols", symbols, "--for", "5", home=listed_home, **variables(simulator, key))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"tickstock: {sentence}")
    assert len(done.stderr.splitlines()) == 1
    assert "wrong" not in done.stderr


def test_a_second_one_is_told_so(listed_home: Path, simulator: Simulator) -> None:
    spill = Spill(listed_home / "ticks")
    done = tickstock("stream", "--symbols", "S0001", home=listed_home, **variables(simulator))
    spill.close()
    assert done.returncode == 2
    assert "expected to be the only one who writes ticks there" in done.stderr
    assert len(done.stderr.splitlines()) == 1
