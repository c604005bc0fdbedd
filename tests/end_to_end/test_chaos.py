"""A backfill in which run, daemon, web server, PostgreSQL and all of it at once are killed, and which ends as if undisturbed.

Each is killed once, and PostgreSQL once so that it does not come back for a minute; with TICKSTOCK_TEST_KILLS=10 each ten times,
which takes about half an hour. Moments and order are drawn anew every time; the seed is printed, and TICKSTOCK_TEST_SEED
repeats a draw.
"""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
from sqlalchemy import make_url, text

from tests.conftest import new_home
from tests.defs.simulated import forget_settings
from tests.end_to_end.commands import free_port, other_holders, start
from tests.end_to_end.table_rows import assert_same_rows, rows_of
from tests.end_to_end.test_load_kill import at
from tests.storage.servers import cluster_of, postmaster_pid
from tickstock_assets.defs import launching
from tickstock_assets.domain.sessions import trading_sessions
from tickstock_assets.project_files import project_file
from tickstock_assets.simulator import Market, Simulator
from tickstock_assets.storage import backfill_requests, embedded, migrate
from tickstock_assets.storage.bulk import merge
from tickstock_assets.storage.database import open_engine

SEED = int(os.environ.get("TICKSTOCK_TEST_SEED") or time.time_ns() % 1_000_000)
N_KILLS = int(os.environ.get("TICKSTOCK_TEST_KILLS") or 1)
VICTIMS = ("run", "daemon", "web server", "PostgreSQL", "everything")
ONCE, AWAY_SECONDS = "PostgreSQL for a minute", 60
N_SYMBOLS = 20 * N_KILLS + 10
FIRST, LAST = date(2022, 1, 3), date(2023, 12, 29)
# The vendor's, of one symbol; and what passes at most between the calls that a kill waits for and the kill.
LATENCY_SECONDS, LONGEST_WAIT_SECONDS = 0.2, 2.0
# What a run may take to start before it is taken for lost.
START_SECONDS = 90
PATIENCE_SECONDS = 600.0 + 60.0 * N_KILLS * len(VICTIMS) + 5 * AWAY_SECONDS

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="finds processes by /proc")
UNDISTURBED = """
import sys
from datetime import date
from pathlib import Path
from tickstock_assets.definitions import defs
from tickstock_assets.defs import launching
from tickstock_assets.defs.partitions import rectangle_tags
with launching.open_instance(Path(sys.argv[1])) as instance:
    known = list(instance.get_dynamic_partitions("symbols"))
    tags = rectangle_tags(known, known, *map(date.fromisoformat, sys.argv[2:]))
    launching.run_job(instance, defs.resolve_job_def("daily_history"), tags, print)
"""
PARTITIONED = ["raw_daily_bars", "ohlcv_daily", "bar_features", "patterns"]
TABLES = ["ohlcv_daily", "bar_features", "patterns", "quarantined_bars"]
MOMENTS_OF_WRITING = ["created_at", "detected_at", "recorded_at", "updated_at"]
# The days of a symbol that were asked for, and when its answer was landed.
LANDED = "SELECT symbol, min(finished_at), count(*) FROM load_ledger WHERE status = 'landed' GROUP BY symbol"
STATS = """query Stats($keys: [AssetKeyInput!]!) { assetNodes(assetKeys: $keys) {
    assetKey { path } partitionStats { numMaterialized numMaterializing numFailed } } }"""


@dataclass
class Project:
    """A home with Dagster's daemon and web server, as somebody has them who keeps them running."""

    home: Path
    simulator: Simulator
    folder: Path
    port: int = field(default_factory=free_port)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    number: int = 0

    def start(self, *names: str) -> None:
        bin_folder = Path(sys.executable).parent
        workspace = ["--workspace", str(project_file("workspace.yaml"))]
        programs = {
            "daemon": ([str(bin_folder / "dagster-daemon")], ["run", *workspace]),
            "web server": ([str(bin_folder / "dagster-webserver")], [*workspace, "--port", str(self.port)]),
        }
        variables = at(self.simulator) | {
            "DAGSTER_HOME": str(self.dagster_home),
            # As `tickstock ui` has them.
            "DAGSTER_EVENT_BATCH_SIZE": "1000",
            "DAGSTER_GRPC_TIMEOUT_SECONDS": "180",
        }
        for name in names:
            self.number += 1
            program, arguments = programs[name]
            log = self.folder / f"{self.number:03} {name}.log"
            self.processes[name] = start(*arguments, home=self.home, log=log, program=program, **variables)

    @cached_property
    def dagster_home(self) -> Path:
        """Dagster's folder, with the project's own `dagster.yaml`, which gives runs less time to start."""
        folder = launching.prepare_dagster_home(self.home)
        file = folder / "dagster.yaml"
        shipped, changed = "start_timeout_seconds: 180", f"start_timeout_seconds: {START_SECONDS}"
        assert shipped in file.read_text()
        file.write_text(file.read_text().replace(shipped, changed))
        return folder

    def kill(self, victim: str) -> None:
        """Kill it, and start anew what nobody else would."""
        if victim == "PostgreSQL":
            os.kill(postmaster_pid(self.home), signal.SIGKILL)
        elif victim == ONCE:
            self.take_postgresql_away()
        elif victim == "run":
            for pid in self.processes_of_runs():
                os.kill(pid, signal.SIGKILL)
        else:
            names = ["daemon", "web server"] if victim == "everything" else [victim]
            if victim == "everything":
                os.kill(postmaster_pid(self.home), signal.SIGKILL)
                for pid in processes_of(self.home):
                    os.kill(pid, signal.SIGKILL)
            for name in names:
                self.processes[name].kill()
                self.processes[name].wait()
            self.start(*names)

    def take_postgresql_away(self) -> None:
        """Kill the server, and let nobody start it for a minute, which fails without this file."""
        control = cluster_of(self.home).data / "global" / "pg_control"
        away = control.with_name("away")
        postmaster = postmaster_pid(self.home)
        control.rename(away)
        try:
            os.kill(postmaster, signal.SIGKILL)
            time.sleep(AWAY_SECONDS)
        finally:
            away.rename(control)

    def wait(self, condition: Callable[[], object]) -> None:
        """Wait, and start anew what gave up because PostgreSQL was away, as an init system would."""
        wait(lambda: self._start_what_ended() or condition(), PATIENCE_SECONDS)

    def _start_what_ended(self) -> None:
        self.start(*[name for name, process in self.processes.items() if process.poll() is not None])

    def processes_of_runs(self) -> set[int]:
        return {pid for pid in processes_of(self.home) if b"spawn_main" in _read(pid, "cmdline")}

    def stop(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGINT)
        for process in self.processes.values():
            process.wait(60)
        # Code servers, which would wait for orders for a while, and what a failed test leaves at work.
        for pid in processes_of(self.home):
            if b"dagster" in _read(pid, "cmdline") or b"spawn_main" in _read(pid, "cmdline"):
                os.kill(pid, signal.SIGKILL)


def wait(condition: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain"
        time.sleep(0.1)


def processes_of(home: Path) -> set[int]:
    """Return every process of ours that works on a home."""
    marker = f"TICKSTOCK_HOME={home}".encode()
    return {pid for pid in _pids() if marker in _read(pid, "environ").split(b"\0")} - {os.getpid()}


def wait_for_calls(project: Project, n_calls: int) -> None:
    project.wait(lambda: len(project.simulator.record.calls) >= n_calls)


def _pids() -> Iterator[int]:
    return (int(path.name) for path in Path("/proc").glob("[0-9]*"))


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # gone
        return b""


@pytest.fixture(scope="module")
def market() -> Market:
    return Market(N_SYMBOLS, FIRST, LAST, sample=False)


@pytest.fixture
def open_home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Path]]:
    """Makes homes that know the symbols, and makes the last one this process's."""
    with ExitStack() as stack:

        def make() -> Path:
            home = stack.enter_context(new_home())
            monkeypatch.setenv("TICKSTOCK_HOME", str(home))
            monkeypatch.setenv("DAGSTER_HOME", str(home))
            forget_settings()
            return home

        yield make
        forget_settings()


@only_linux
def test_a_backfill_in_which_everything_is_killed_ends_as_if_undisturbed(
    open_home: Callable[[], Path], market: Market, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def say(what: str) -> None:
        with capsys.disabled():
            os.write(1, what.encode())

    say(f"\n[seed {SEED}]")
    expected = undisturbed(open_home(), market, tmp_path)
    draw = random.Random(SEED)
    victims = [*VICTIMS * N_KILLS, ONCE]
    draw.shuffle(victims)

    def disturb(project: Project, is_open: Callable[[], bool]) -> None:
        for number, victim in enumerate(victims, 1):
            project.wait(project.processes_of_runs)
            # The last one, when all has come, meets what is made of it.
            n_more = draw.randint(0, N_SYMBOLS // len(victims)) if number < len(victims) else N_SYMBOLS
            wait_for_calls(project, min(len(project.simulator.record.calls) + n_more, N_SYMBOLS))
            time.sleep(draw.uniform(0, LONGEST_WAIT_SECONDS))
            assert is_open(), f"it ended before kill {number}"
            say(f" [{number}: {victim}, after {len(project.simulator.record.calls)} calls]")
            project.kill(victim)

    found, twice = backfill(open_home(), Simulator(market, latency_seconds=LATENCY_SECONDS), tmp_path, disturb)
    assert_same_rows(found, expected)
    assert len(expected["ohlcv_daily"]) == N_SYMBOLS * len(market.daily("S0001"))
    assert twice == []


@only_linux
def test_a_killed_ui_leaves_no_process_behind_and_its_port_free(home: Path, tmp_path: Path) -> None:
    port = free_port()
    process = start("ui", "--port", str(port), home=home, log=tmp_path / "ui.log")
    try:
        wait(lambda: _answers(port), 120)
    finally:
        process.kill()
        process.wait()
    # Those that load our code look after themselves twice a second; Dagster's own give up without a sign of life for 20 s.
    wait(lambda: not processes_of(home), 120)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", port))


def undisturbed(home: Path, market: Market, folder: Path) -> dict[str, list[str]]:
    """Return the rows that the same job leaves in a process of its own, without daemon and without a kill."""
    program = [sys.executable, "-c", UNDISTURBED]
    with Simulator(market) as simulator, launching.open_instance(home) as instance:
        enter(home, instance, market)
        log = folder / "undisturbed.log"
        process = start(str(home), str(FIRST), str(LAST), home=home, log=log, program=program, **at(simulator))
        assert process.wait(PATIENCE_SECONDS) == 0, log.read_text()
    return state_of(home)


def backfill(
    home: Path,
    simulator: Simulator,
    folder: Path,
    disturb: Callable[[Project, Callable[[], bool]], None],
) -> tuple[dict[str, list[str]], list[str]]:
    """Have a request loaded in a home; return the rows it leaves, and the symbols fetched after they were landed."""
    with simulator, launching.open_instance(home) as instance:
        project = Project(home, simulator, folder)
        request = enter(home, instance, simulator.market)
        project.start("daemon", "web server")
        try:
            disturb(project, lambda: status_of(home, request)[0] in {"requested", "running"})
            project.wait(lambda: status_of(home, request)[0] not in {"requested", "running"})
            assert status_of(home, request) == ("succeeded", None)
            # Connections from before a kill are dead.
            with launching.open_instance(home) as afterwards:
                project.wait(lambda: all(run.is_finished for run in afterwards.get_runs()))
                assert_all_materialized(project, afterwards)
        finally:
            project.stop()
        wait(lambda: not other_holders(home), 60)
        return state_of(home), fetched_twice(home, simulator)


def enter(home: Path, instance: dg.DagsterInstance, market: Market) -> str:
    """Enter the instruments, their sessions, and the request to load all of it."""
    server = embedded.acquire(home)
    embedded.ensure_database(server, "tickstock")
    engine = open_engine(make_url(server.url("tickstock")))
    migrate.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(
            # Inactive: the nightly update and what follows from it, whenever it is due, is none of this.
            text(
                "INSERT INTO symbols (symbol, exchange, active) SELECT unnest(CAST(:symbols AS text[])), 'XNYS', false"
            ),
            {"symbols": market.tickers},
        )
        merge(connection, "sessions", trading_sessions("XNYS", date(2021, 1, 1), date(2024, 12, 31)))
        request = backfill_requests.enter(connection, market.tickers, "1d", FIRST, LAST)
    engine.dispose()
    instance.add_dynamic_partitions("symbols", market.tickers)
    return request


def status_of(home: Path, request: str) -> tuple[str, str | None]:
    """Return how a request stands, and why it failed; waits for a server that is being started again."""
    for _ in range(100):
        try:
            with psycopg.connect(embedded.acquire(home).url("tickstock")) as connection:
                row = connection.execute(
                    "SELECT status::text, error FROM backfill_requests WHERE id = %s::uuid", [request]
                ).fetchone()
        except psycopg.OperationalError:
            time.sleep(0.2)
        else:
            assert row is not None
            return row[0], row[1]
    raise AssertionError("the server did not come back")


def assert_all_materialized(project: Project, instance: dg.DagsterInstance) -> None:
    """Look that each partition is materialized, as Dagster has it stored and as its web server shows it."""
    partitions = {f"{symbol}|{year}" for symbol in project.simulator.market.tickers for year in (2022, 2023)}
    for name in PARTITIONED:
        assert set(instance.get_materialized_partitions(dg.AssetKey(name))) == partitions, name
    body = {"query": STATS, "variables": {"keys": [{"path": [name]} for name in PARTITIONED]}}
    request = urllib.request.Request(
        f"http://127.0.0.1:{project.port}/graphql", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )

    def shown() -> dict[str, Any]:
        with urllib.request.urlopen(request, timeout=60) as answer:
            nodes: list[dict[str, Any]] = json.load(answer)["data"]["assetNodes"]
        return {node["assetKey"]["path"][0]: node["partitionStats"] for node in nodes}

    # One that was started again answers before it has our code loaded.
    project.wait(lambda: _answers(project.port) and shown())
    expected = {"numMaterialized": len(partitions), "numMaterializing": 0, "numFailed": 0}
    assert shown() == dict.fromkeys(PARTITIONED, expected)


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/server_info", timeout=5):
            return True
    except OSError:
        return False


def state_of(home: Path) -> dict[str, list[str]]:
    """Return the rows of the tables that a backfill fills."""
    with psycopg.connect(embedded.acquire(home).url("tickstock")) as connection:
        return rows_of(connection, TABLES, MOMENTS_OF_WRITING)


def fetched_twice(home: Path, simulator: Simulator) -> list[str]:
    """Return the symbols that the vendor was asked for after its answer was landed, or that are landed more than once."""
    with psycopg.connect(embedded.acquire(home).url("tickstock")) as connection:
        landed = {row[0]: (row[1].timestamp(), row[2]) for row in connection.execute(LANDED)}
    assert landed.keys() == set(simulator.market.tickers)
    asked = [call for call in simulator.record.calls if call.route == "aggregates_day"]
    late = {call.symbol for call in asked if call.time > landed[call.symbol][0]}
    return sorted(late | {symbol for symbol, (_, n_rows) in landed.items() if n_rows != 1})
