"""A writer of ticks killed at random moments, and a database killed under one: nothing that was acknowledged is lost."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, make_url

from tests.storage.servers import PROJECT, postmaster_pid, wait_until
from tests.storage.tick_samples import files, list_symbols, stored_ids, ticks
from tickstock_assets.storage import embedded, migrate
from tickstock_assets.storage.database import open_engine
from tickstock_assets.storage.tick_spill import unflushed
from tickstock_assets.storage.ticks import FlushPolicy, TickBuffer

KILLS = 10
A_MILLION = 1_000_000
# Forks, for each line it reads, a process that writes ticks from that number on until it is killed, and appends to a file
# the number up to which they are acknowledged.
WRITERS = """
import os, sys
from pathlib import Path
from tests.storage.tick_samples import ticks, BEGIN
from tickstock_assets.storage.database import open_engine
from tickstock_assets.storage.tick_frames import Tick
from tickstock_assets.storage.ticks import FlushPolicy, TickBuffer
from sqlalchemy import make_url

url, folder, acknowledged = sys.argv[1:]

def write(number):
    log = os.open(acknowledged, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    with TickBuffer(open_engine(make_url(url)), Path(folder), FlushPolicy(seconds=0.05, count=100)) as buffer:
        while True:
            for size in (1, 7, 60):
                buffer.put_many(ticks(number, size))
                number += size
                os.write(log, f"{number - 1}\\n".encode())
            buffer.put(Tick("AAPL", BEGIN, 1.0, 1.0, "polygon", trade_id=str(number)))
            os.write(log, f"{number}\\n".encode())
            number += 1

for line in sys.stdin:
    writer = os.fork()
    if not writer:
        write(int(line))
    print(writer, flush=True)
    os.waitpid(writer, 0)
    print("dead", flush=True)
"""


@pytest.fixture
def writers(database: Engine, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    list_symbols(database)
    address = database.url.render_as_string(hide_password=False)
    process = subprocess.Popen(
        [sys.executable, "-c", WRITERS, address, str(tmp_path / "ticks"), str(tmp_path / "acknowledged")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )
    yield process
    process.communicate()
    assert process.returncode == 0


def acknowledged_up_to(file: Path) -> dict[int, int]:
    """Return the last number that was acknowledged of each writer's million."""
    numbers = [int(line) for line in file.read_text().splitlines()] if file.exists() else []
    return {number // A_MILLION: number for number in numbers}


@pytest.mark.tiers("embedded", "apache")
def test_of_a_writer_killed_ten_times_no_acknowledged_tick_is_lost_and_none_is_doubled(
    writers: subprocess.Popen[str], database: Engine, tmp_path: Path
) -> None:
    assert writers.stdin
    assert writers.stdout
    draw = random.Random(20240103)
    log = tmp_path / "acknowledged"
    for kill in range(KILLS):
        writers.stdin.write(f"{kill * A_MILLION}\n")
        writers.stdin.flush()
        writer = int(writers.stdout.readline())
        wait_until(lambda kill=kill: kill in acknowledged_up_to(log))  # type: ignore[misc]
        time.sleep(draw.uniform(0, 0.3))
        os.kill(writer, signal.SIGKILL)
        assert writers.stdout.readline() == "dead\n"
    acknowledged = acknowledged_up_to(log)
    assert len(acknowledged) == KILLS
    with TickBuffer(database, tmp_path / "ticks") as buffer:
        assert buffer.flush(120)
    assert files(tmp_path / "ticks") == []
    stored = stored_ids(database)
    assert len(stored) == len(set(stored))
    for kill, last in acknowledged.items():
        of_one = [number for number in stored if number // A_MILLION == kill]
        # Beyond the acknowledged ones there may be those of the call that the kill interrupted.
        assert of_one == list(range(kill * A_MILLION, of_one[-1] + 1))
        assert last <= of_one[-1] <= last + 60


@pytest.fixture
def embedded_database(home: Path) -> Iterator[Engine]:
    server = embedded.acquire(home)
    embedded.ensure_database(server, "tickstock")
    engine = open_engine(make_url(server.url("tickstock")))
    migrate.upgrade(engine)
    list_symbols(engine)
    yield engine
    engine.dispose()


def test_a_database_that_is_killed_in_the_middle_costs_no_tick(embedded_database: Engine, home: Path) -> None:
    kills = 0
    with TickBuffer(embedded_database, home / "ticks", FlushPolicy(seconds=0.02, count=50)) as buffer:
        for number in range(0, 20_000, 40):
            buffer.put_many(ticks(number, 40))
            if number in {4_000, 12_000}:
                assert buffer.counts().stored > 0
                os.kill(postmaster_pid(home), signal.SIGKILL)
                kills += 1
            time.sleep(0.002)
        assert buffer.flush(120)
        assert unflushed(buffer.folder).num_rows == 0
    assert kills == 2
    assert stored_ids(embedded_database) == list(range(20_000))
