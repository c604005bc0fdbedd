"""`kill -9` of the demo at any moment, then the demo again: the same final state as if nothing had happened.

The demo is of the first two years of the sample: the same steps in a fraction of the time. The moments are drawn anew every
time; the seed is printed, and TICKSTOCK_TEST_SEED repeats a draw.
"""

import csv
import gzip
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from tests.conftest import tickstock
from tests.end_to_end.commands import SLOW_DISK, start
from tests.end_to_end.table_rows import assert_same_rows, rows_of
from tests.storage.servers import postmaster_pid, wait_until
from tickstock_assets.providers.sample import VENDORED_FILE
from tickstock_assets.storage import embedded

SEED = int(os.environ.get("TICKSTOCK_TEST_SEED") or time.time_ns() % 1_000_000)
N_MOMENTS = 10
# Of AAPL, IBM and MSFT; the others came later.
LAST_DAY = "2001-12-31"
N_WINDOWS = 3
# When a row was written says nothing about what it says.
MOMENTS_OF_WRITING = [
    "created_at", "detected_at", "finished_at", "last_updated", "quarantined_at", "recorded_at", "scored_at", "started_at",
    "stored_at", "updated_at",
]  # fmt: skip
UNFINISHED = "SELECT count(*) FROM runs WHERE status NOT IN ('SUCCESS', 'FAILURE', 'CANCELED')"
COPIES = "SELECT count(*) FROM pg_stat_progress_copy WHERE command = 'COPY FROM'"


@dataclass(frozen=True)
class Undisturbed:
    """What a demo with these settings takes when nothing disturbs it, and leaves."""

    settings: dict[str, str]
    seconds: float
    state: dict[str, list[str]]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The setting that names a file with the first two years of the sample."""
    file = tmp_path_factory.mktemp("sample") / "bars.csv"
    with gzip.open(VENDORED_FILE, "rt", newline="") as whole, file.open("w", newline="") as part:
        rows = csv.reader(whole)
        csv.writer(part).writerows([next(rows), *(row for row in rows if row[1] <= LAST_DAY)])
    return {"TICKSTOCK_SAMPLE_FILE": str(file)}


@pytest.fixture(scope="module")
def undisturbed(sample: dict[str, str], module_home: Path) -> Undisturbed:
    began = time.monotonic()
    result = tickstock("demo", "--json", home=module_home, **sample)
    seconds = time.monotonic() - began
    assert result.returncode == 0, result.stderr
    return Undisturbed(sample, seconds, state_of(module_home))


@pytest.fixture
def running(home: Path, tmp_path: Path, sample: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A demo that has just been started in a new home."""
    process = start("demo", home=home, log=tmp_path / "demo.log", **sample)
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def running_on_a_slow_disk(home: Path, tmp_path: Path, sample: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Likewise, where each file takes 0.3 s until it is on disk for good."""
    process = start("demo", home=home, log=tmp_path / "demo.log", program=[sys.executable, "-c", SLOW_DISK], **sample)
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("number", range(1, N_MOMENTS + 1))
def test_a_demo_killed_at_a_random_moment_and_run_again_ends_as_if_undisturbed(
    number: int,
    undisturbed: Undisturbed,
    running: subprocess.Popen[bytes],
    home: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    moment = random.Random(f"{SEED} {number}").uniform(0, undisturbed.seconds)
    with capsys.disabled():
        os.write(1, f"\n[seed {SEED}: killed {moment:.2f} s into {undisturbed.seconds:.2f} s] ".encode())
    time.sleep(moment)
    kill(running)
    assert_run_again_ends_as(undisturbed, home)


def test_a_demo_killed_during_a_copy_and_run_again_ends_as_if_undisturbed(
    running: subprocess.Popen[bytes], home: Path, undisturbed: Undisturbed
) -> None:
    with psycopg.connect(embedded.acquire(home).url("postgres"), autocommit=True) as watch:
        kill_while(lambda: watch.execute(COPIES).fetchone() != (0,), running)
    embedded.release(home)
    assert_run_again_ends_as(undisturbed, home)


def test_a_demo_killed_while_it_lands_and_run_again_ends_as_if_undisturbed(
    running_on_a_slow_disk: subprocess.Popen[bytes], home: Path, undisturbed: Undisturbed
) -> None:
    kill_while(lambda: 0 < len(landed(home)) < N_WINDOWS, running_on_a_slow_disk)
    assert_run_again_ends_as(undisturbed, home)


def test_a_demo_killed_before_a_payload_was_renamed_leaves_nothing_behind_when_run_again(
    running_on_a_slow_disk: subprocess.Popen[bytes], home: Path, undisturbed: Undisturbed
) -> None:
    kill_while(lambda: any(is_temporary(name) for name in landed(home)), running_on_a_slow_disk)
    assert any(is_temporary(name) for name in landed(home))
    assert_run_again_ends_as(undisturbed, home)


def test_a_demo_whose_server_is_killed_says_so_or_recovers_and_run_again_ends_as_if_undisturbed(
    running: subprocess.Popen[bytes], home: Path, tmp_path: Path, undisturbed: Undisturbed
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


def assert_run_again_ends_as(undisturbed: Undisturbed, home: Path) -> None:
    result = tickstock("demo", "--json", home=home, **undisturbed.settings)
    assert (result.returncode, result.stderr) == (0, "")
    assert_same_rows(state_of(home), undisturbed.state)


def state_of(home: Path) -> dict[str, list[str]]:
    """Return every table's rows, the landed files and how often each window was fetched, in an order of their own."""
    server = embedded.acquire(home)
    with psycopg.connect(server.url("tickstock")) as connection:
        # The audit trail says what each run did, and the touched hours which of them the last one has done; there were two.
        tables = connection.execute(
            "SELECT relname FROM pg_stat_user_tables "
            "WHERE schemaname = 'public' AND relname NOT IN ('audit_trail', 'touched_buckets')"
        ).fetchall()
        state = rows_of(connection, [table for (table,) in tables], MOMENTS_OF_WRITING)
        # The ledger counts tries: a window that was landed is not fetched again.
        assert connection.execute("SELECT array_agg(DISTINCT attempts) FROM load_ledger").fetchone() == ([1],)
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
