"""`kill -9` of the demo at any moment, then the demo again: the same final state as if nothing had happened.

The moments are drawn anew every time; the seed is printed, and TICKSTOCK_TEST_SEED repeats a draw.
"""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url, text

from tests.conftest import Demo, tickstock
from tests.end_to_end.commands import SLOW_DISK, start
from tests.storage.servers import postmaster_pid, wait_until
from tickstock_assets.storage import embedded
from tickstock_assets.storage.database import open_engine

SEED = int(os.environ.get("TICKSTOCK_TEST_SEED") or time.time_ns() % 1_000_000)
N_MOMENTS = 10
N_WINDOWS = 5
# When a row was written says nothing about what it says.
MOMENTS_OF_WRITING = [
    "created_at", "detected_at", "finished_at", "last_updated", "quarantined_at", "recorded_at", "started_at", "stored_at",
    "updated_at",
]  # fmt: skip
UNFINISHED = "SELECT count(*) FROM runs WHERE status NOT IN ('SUCCESS', 'FAILURE', 'CANCELED')"
COPIES = "SELECT count(*) FROM pg_stat_progress_copy WHERE command = 'COPY FROM'"


@pytest.fixture(scope="module")
def moments() -> list[float]:
    """Seconds after its start at which to kill a demo, drawn uniformly over the time that an undisturbed one takes."""
    folder = Path(tempfile.mkdtemp(prefix="tickstock-test-"))
    began = time.monotonic()
    result = tickstock("demo", "--json", home=folder)
    duration = time.monotonic() - began
    embedded.destroy(folder)
    shutil.rmtree(folder)
    assert result.returncode == 0, result.stderr
    draw = random.Random(SEED)
    return [duration, *(draw.uniform(0, duration) for _ in range(N_MOMENTS))]


@pytest.fixture(scope="module")
def undisturbed(demo: Demo) -> dict[str, list[str]]:
    return state_of(demo.home)


@pytest.fixture
def running(home: Path, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A demo that has just been started in a new home."""
    process = start("demo", home=home, log=tmp_path / "demo.log")
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def running_on_a_slow_disk(home: Path, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Likewise, where each file takes 0.3 s until it is on disk for good."""
    process = start("demo", home=home, log=tmp_path / "demo.log", program=[sys.executable, "-c", SLOW_DISK])
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("number", range(1, N_MOMENTS + 1))
def test_a_demo_killed_at_a_random_moment_and_run_again_ends_as_if_undisturbed(
    number: int,
    moments: list[float],
    running: subprocess.Popen[bytes],
    home: Path,
    undisturbed: dict[str, list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with capsys.disabled():
        os.write(1, f"\n[seed {SEED}: killed {moments[number]:.2f} s into {moments[0]:.2f} s] ".encode())
    time.sleep(moments[number])
    kill(running)
    assert_run_again_ends_as(undisturbed, home)


def test_a_demo_killed_during_a_copy_and_run_again_ends_as_if_undisturbed(
    running: subprocess.Popen[bytes], home: Path, undisturbed: dict[str, list[str]]
) -> None:
    with psycopg.connect(embedded.acquire(home).url("postgres"), autocommit=True) as watch:
        kill_while(lambda: watch.execute(COPIES).fetchone() != (0,), running)
    embedded.release(home)
    assert_run_again_ends_as(undisturbed, home)


def test_a_demo_killed_while_it_lands_and_run_again_ends_as_if_undisturbed(
    running_on_a_slow_disk: subprocess.Popen[bytes], home: Path, undisturbed: dict[str, list[str]]
) -> None:
    kill_while(lambda: 0 < len(landed(home)) < N_WINDOWS, running_on_a_slow_disk)
    assert_run_again_ends_as(undisturbed, home)


def test_a_demo_killed_before_a_payload_was_renamed_leaves_nothing_behind_when_run_again(
    running_on_a_slow_disk: subprocess.Popen[bytes], home: Path, undisturbed: dict[str, list[str]]
) -> None:
    kill_while(lambda: any(is_temporary(name) for name in landed(home)), running_on_a_slow_disk)
    assert any(is_temporary(name) for name in landed(home))
    assert_run_again_ends_as(undisturbed, home)


def test_a_demo_whose_server_is_killed_says_so_or_recovers_and_run_again_ends_as_if_undisturbed(
    running: subprocess.Popen[bytes], home: Path, tmp_path: Path, undisturbed: dict[str, list[str]]
) -> None:
    wait_until(lambda: len(landed(home)) == N_WINDOWS)
    os.kill(postmaster_pid(home), signal.SIGKILL)
    status = running.wait()
    said = (tmp_path / "demo.log").read_text()
    assert "Traceback" not in said
    assert status == 0 or (status == 2 and said.splitlines()[-1].startswith("tickstock: ")), said
    assert_run_again_ends_as(undisturbed, home)


def kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def kill_while(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Kill the process at a moment at which the condition holds for certain: it is halted, and looked at again."""
    while True:
        while not condition():
            assert process.poll() is None, "it ended before the moment came"
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(0.05)  # what the server has received it may still finish
        if condition():
            break
        os.kill(process.pid, signal.SIGCONT)
    kill(process)


def assert_run_again_ends_as(undisturbed: dict[str, list[str]], home: Path) -> None:
    result = tickstock("demo", "--json", home=home)
    assert (result.returncode, result.stderr) == (0, "")
    state = state_of(home)
    assert state.keys() == undisturbed.keys()
    for name, content in undisturbed.items():
        # A few of the rows that differ say more than all of them, which would take minutes to lay side by side.
        assert len(state[name]) == len(content), name
        assert [pair for pair in zip(state[name], content, strict=True) if pair[0] != pair[1]][:3] == [], name


def state_of(home: Path) -> dict[str, list[str]]:
    """Return every table's rows, the landed files and how often each window was fetched, in an order of their own."""
    server = embedded.acquire(home)
    engine = open_engine(make_url(server.url("tickstock")))
    with engine.connect() as connection:
        # The audit trail says what each run did, and there were two.
        tables = connection.execute(
            text("SELECT relname FROM pg_stat_user_tables WHERE schemaname = 'public' AND relname <> 'audit_trail'")
        )
        state = {
            table: sorted(
                connection.execute(
                    text(f"SELECT (to_jsonb(t) - CAST(:unsaid AS text[]))::text FROM {table} t"),
                    {"unsaid": MOMENTS_OF_WRITING},
                ).scalars()
            )
            for table in tables.scalars()
        }
        # The ledger counts tries: a window that was landed is not fetched again.
        assert connection.execute(text("SELECT array_agg(DISTINCT attempts) FROM load_ledger")).scalar() == [1]
    engine.dispose()
    with psycopg.connect(server.url("dagster")) as dagster:
        assert dagster.execute(UNFINISHED).fetchone() == (0,)
    state["landed files"] = [
        f"{name} {hashlib.sha256((home / 'landing' / name).read_bytes()).hexdigest()}" for name in landed(home)
    ]
    return state


def landed(home: Path) -> list[str]:
    """Return the files of the landing folder, temporary ones included."""
    folder = home / "landing"
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def is_temporary(name: str) -> bool:
    return not name.endswith(".parquet")
