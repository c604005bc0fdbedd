"""The production stack as processes: it comes up, wants a password, shares a backfill, and gets over a killed worker."""

import base64
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import psycopg
import pytest
from sqlalchemy import URL, make_url

from tests.conftest import new_home
from tests.deploy.compose_processes import WAIT_SECONDS, Process, Stack, stack
from tests.end_to_end.commands import environment
from tickstock_assets.domain.sessions import trading_sessions
from tickstock_assets.storage import backfill_requests, embedded
from tickstock_assets.storage.database import open_engine

MISSING = [program for program in ("redis-server", "nginx", "wget", "openssl") if shutil.which(program) is None]
pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"not on this machine: {', '.join(MISSING)}; .ci/run installs them"
)

FIRST, LAST = date(2011, 1, 3), date(2012, 12, 31)
SYMBOLS = [f"S{number:02}" for number in range(1, 7)]
USER, PASSWORD = "anna", "correct horse"
# Not safe in an address, which passwords of the database need not be.
VARIABLES = {
    "POSTGRES_PASSWORD": "p@1:/ '",
    "TICKSTOCK_OWNER_PASSWORD": "o#2?",
    "TICKSTOCK_APP_PASSWORD": "a%3&",
    "TICKSTOCK_READER_PASSWORD": "r 4",
    "REDIS_PASSWORD": "redis5",
    "POSTGRES_MEMORY_MB": "1024",
    "COMPOSE_PROFILES": "celery",
    "WORKERS": "2",
}
# The job that a backfill's runs are of, once more in one process on a server of its own.
ALONE = """
import sys
from datetime import date
from tickstock_assets.definitions import defs
from tickstock_assets.defs import launching
from tickstock_assets.defs.partitions import SYMBOLS, rectangle_tags
from tickstock_assets.settings import settings
first, last = map(date.fromisoformat, sys.argv[1:])
with launching.open_instance(settings().home_path) as instance:
    launching.run_job(instance, defs.resolve_job_def("reference"), {}, lambda _: None)
    known = list(instance.get_dynamic_partitions(str(SYMBOLS.name)))
    tags = rectangle_tags(known, known, first, last)
    launching.run_job(instance, defs.resolve_job_def("daily_history"), tags, lambda _: None)
"""
# The tag by which a run is known to Celery.
TASK = "dagster-celery/task_id"
# What says when and by which run is left out of what is compared.
OF_THE_WRITE = {"recorded_at", "created_at", "updated_at", "computed_at", "detected_at", "run_id"}


@dataclass(frozen=True)
class WebUI:
    """The web UI, through the proxy."""

    address: str

    def get(self, path: str, password: str | None = PASSWORD, body: bytes | None = None) -> bytes:
        return self._answer(urllib.request.Request(self.address + path, body), password)

    def ask(self, query: str, **variables: Any) -> Any:
        """Return what GraphQL answers."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.address}/graphql", body, {"Content-Type": "application/json"})
        answer = json.loads(self._answer(request, PASSWORD))
        assert "errors" not in answer, answer
        return answer["data"]

    def launch(self, job: str) -> None:
        """Have a job run."""
        selector = {
            "repositoryLocationName": "tickstock_assets",
            "repositoryName": "__repository__",
            "jobName": job,
        }
        said = self.ask(
            "mutation($it: ExecutionParams!) { launchRun(executionParams: $it) { __typename } }",
            it={"selector": selector, "mode": "default", "runConfigData": {}},
        )
        assert said["launchRun"]["__typename"] == "LaunchRunSuccess", said

    def stop_sensor(self, name: str) -> None:
        """Have a sensor look no more."""
        selector = {
            "repositoryLocationName": "tickstock_assets",
            "repositoryName": "__repository__",
            "sensorName": name,
        }
        found = self.ask(
            "query($it: SensorSelector!) { sensorOrError(sensorSelector: $it) { ... on Sensor { id } } }", it=selector
        )
        said = self.ask(
            "mutation($it: String!) { stopSensor(id: $it) { __typename } }", it=found["sensorOrError"]["id"]
        )
        assert said["stopSensor"]["__typename"] == "StopSensorMutationResult", said

    def runs(self, job: str) -> list[dict[str, Any]]:
        """Return all runs of a job with their tags, the newest first."""
        found = self.ask(
            "query($job: String!) { runsOrError(filter: {pipelineName: $job}) "
            "{ ... on Runs { results { runId status tags { key value } } } } }",
            job=job,
        )["runsOrError"]["results"]
        return [{**run, "tags": {tag["key"]: tag["value"] for tag in run["tags"]}} for run in found]

    def _answer(self, request: urllib.request.Request, password: str | None) -> bytes:
        if password is not None:
            token = base64.b64encode(f"{USER}:{password}".encode()).decode()
            request.add_header("Authorization", f"Basic {token}")
        with urllib.request.urlopen(request, timeout=60) as answer:
            said: bytes = answer.read()
            return said


def wait_until(condition: Callable[[], object], what: str, running: Stack) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        logs = "\n".join(f"== {log.name}\n{log.read_text()[-1500:]}" for log in sorted(running.folder.glob("*.log")))
        assert time.monotonic() < deadline, f"waited in vain: {what}\n{logs}"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def market_file() -> Iterator[Path]:
    """Daily bars of six invented companies over two years, in the sample's format."""
    random = np.random.default_rng(8)
    days = pd.DatetimeIndex(trading_sessions("XNYS", FIRST, LAST)["session"])
    frames = []
    for symbol in SYMBOLS:
        close = np.round(50 * np.exp(np.cumsum(random.normal(0, 0.02, len(days)))), 2)
        open_ = np.round(close * np.exp(random.normal(0, 0.01, len(days))), 2)
        bars = {
            "Ticker": symbol,
            "Date": days.strftime("%Y-%m-%d"),
            "Open": open_,
            "High": np.round(np.maximum(open_, close) * 1.01, 2),
            "Low": np.round(np.minimum(open_, close) * 0.99, 2),
            "Close": close,
            "Volume": random.integers(100_000, 900_000, len(days)),
            "Adj Close": close,
        }
        frames.append(pd.DataFrame(bars))
    folder = Path(tempfile.mkdtemp(prefix="tickstock-test-"))
    pd.concat(frames).to_csv(folder / "market.csv", index=False)
    yield folder / "market.csv"
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def running(market_file: Path) -> Iterator[Stack]:
    """The whole stack, with two workers, every service healthy by its own check."""
    users = market_file.with_name("ui_users")
    hashed = subprocess.run(["openssl", "passwd", "-6", PASSWORD], capture_output=True, text=True, check=True).stdout
    users.write_text(f"{USER}:{hashed}")
    users.chmod(0o644)
    users.parent.chmod(0o755)
    settings = {"TICKSTOCK_PROVIDERS": "sample", "TICKSTOCK_SAMPLE_FILE": str(market_file)}
    with stack({**VARIABLES, "UI_USERS_FILE": str(users)}, settings) as started:
        started.up(*started.services)
        for name in started.services.keys() - started.completed:
            for process in started.of(name):
                started.wait_until_healthy(name, process.replica)
        yield started


@pytest.fixture(scope="module")
def web_ui(running: Stack) -> WebUI:
    return WebUI(f"http://{running.address('proxy')}")


def database(running: Stack, role: str = "tickstock_app", name: str = "tickstock") -> URL:
    password = VARIABLES["POSTGRES_PASSWORD" if role == "postgres" else f"{role.upper()}_PASSWORD"]
    host, port = running.address("timescaledb").split(":")
    return URL.create("postgresql", role, password, host, int(port), name)


def rows(url: URL, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url.render_as_string(hide_password=False)) as connection:
        return connection.execute(query.encode()).fetchall()


def values(url: URL, table: str) -> list[tuple[Any, ...]]:
    """Return the rows of a table, without what belongs to the write, in order."""
    columns = rows(url, f"SELECT column_name FROM information_schema.columns WHERE table_name = '{table}' ORDER BY 1")
    kept = ", ".join(f'"{column}"' for (column,) in columns if column not in OF_THE_WRITE)
    return rows(url, f"SELECT {kept} FROM {table} ORDER BY {kept}")


def test_nobody_comes_in_without_the_password(web_ui: WebUI) -> None:
    for wrong in (None, "", "wrong horse"):
        for path, body in (("/", None), ("/graphql", b"{}"), ("/server_info", None)):
            with pytest.raises(urllib.error.HTTPError) as refused:
                web_ui.get(path, wrong, body)
            with refused.value as answer:
                assert (answer.code, answer.headers["WWW-Authenticate"]) == (401, 'Basic realm="TickStock Assets"')
    assert json.loads(web_ui.get("/server_info"))["dagster_version"]
    assert web_ui.get("/health", None) == b"ok\n"


def test_what_another_site_has_a_browser_send_is_refused(web_ui: WebUI) -> None:
    token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    asked = "/graphql?query=%7B__typename%7D"

    def answer(path: str, method: str = "GET", **headers: str) -> int:
        request = urllib.request.Request(web_ui.address + path, method=method, headers=headers)
        request.add_header("Authorization", f"Basic {token}")
        try:
            with urllib.request.urlopen(request, timeout=60) as found:
                return int(found.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    for origin in ("http://evil.example", "null", f"{web_ui.address}0"):
        assert answer(asked, "POST", Origin=origin) == 403
        assert answer("/", Origin=origin) == 403
    # By a picture's address, or a form's.
    assert answer(asked, Accept="image/*") == 403
    assert answer(asked, "POST", Origin=web_ui.address) == 200
    # A backfill of many partitions names each of them.
    assert web_ui.ask("{ __typename }", partitions=["S0001|2012"] * 500_000)
    # A link to a page, and what is no browser.
    assert answer("/runs", Accept="text/html") == 200
    assert answer(asked, "POST") == 200


def test_the_server_is_sized_by_the_variable(running: Stack) -> None:
    names = ("shared_buffers", "effective_cache_size", "work_mem", "maintenance_work_mem")
    found = [rows(database(running), f"SHOW {name}")[0][0] for name in names]
    assert found == ["256MB", "768MB", "4MB", "64MB"]


def test_the_stack_may_do_no_more_than_its_role(running: Stack) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        rows(database(running), "DROP TABLE ohlcv_daily")
    [(owner,)] = rows(database(running), "SELECT tableowner FROM pg_tables WHERE tablename = 'ohlcv_daily'")
    assert owner == "tickstock_owner"


def test_two_workers_share_a_backfill_and_it_ends_when_one_is_killed(
    running: Stack, web_ui: WebUI, market_file: Path
) -> None:
    # It would ask for the same, of all of them in one run.
    web_ui.stop_sensor("new_symbols")
    web_ui.launch("reference")
    wait_until(lambda: [run["status"] for run in web_ui.runs("reference")] == ["SUCCESS"], "reference", running)
    # Runs that ask one provider wait for each other, unless one says otherwise.
    subprocess.run(
        [Path(sys.executable).parent / "dagster", "instance", "concurrency", "set", "provider_sample", "2"],
        env=running.environment("code"),
        cwd=running.image,
        check=True,
        capture_output=True,
    )
    engine = open_engine(database(running))
    with engine.begin() as connection:
        for symbol in SYMBOLS:
            backfill_requests.enter(connection, [symbol], "1d", FIRST, LAST)
    engine.dispose()

    survivor, victim = running.of("worker")
    for worker in (survivor, victim):
        wait_until(lambda worker=worker: told(worker, "succeeded") & tasks(web_ui), "a run in each worker", running)
    lost = kill_in_the_middle_of_a_run(running, web_ui, victim)

    wait_until(lambda: statuses(running) == {"succeeded"}, "all requests done", running)
    ended = web_ui.runs("daily_history")
    assert [run["status"] for run in ended if run["runId"] == lost] == ["FAILURE"]
    again = [run["status"] for run in ended if run["tags"].get("dagster/parent_run_id") == lost]
    assert again == ["SUCCESS"]
    the_bars_are_the_files(running, market_file)
    the_rows_are_those_of_one_process(running, market_file)


def tasks(web_ui: WebUI) -> set[str]:
    """Return Celery's ids of the backfill's runs; those of other runs, which sensors start, are none of them."""
    return {str(run["tags"].get(TASK)) for run in web_ui.runs("daily_history")}


def told(worker: Process, what: str) -> set[str]:
    """Return the tasks that a worker says it has `received`, or that `succeeded`."""
    return set(re.findall(rf"Task execute_job\[(\S+)\] {what}", worker.log.read_text()))


def statuses(running: Stack) -> set[str]:
    return {status for (status,) in rows(database(running), "SELECT status FROM backfill_requests")}


def kill_in_the_middle_of_a_run(running: Stack, web_ui: WebUI, victim: Process) -> str:
    """Kill a worker, with all of its processes, while Dagster says that a run it has is at work; return the run's id."""
    at_work: list[str] = []

    def has_a_run() -> bool:
        taken = told(victim, "received")
        at_work[:] = [
            run["runId"]
            for run in web_ui.runs("daily_history")
            if run["status"] == "STARTED" and run["tags"].get(TASK) in taken
        ]
        return bool(at_work)

    wait_until(has_a_run, "a run at work", running)
    victim.kill()
    return at_work[0]


def the_bars_are_the_files(running: Stack, market_file: Path) -> None:
    """Hold the stored bars against the file, read by another program."""
    stored = rows(
        database(running),
        "SELECT symbol, date, open::float8, high::float8, low::float8, close::float8, "
        "volume::float8 FROM ohlcv_daily ORDER BY 1, 2",
    )
    columns = "Ticker, Date, Open, High, Low, Close, CAST(Volume AS DOUBLE)"
    in_the_file = duckdb.sql(f"SELECT {columns} FROM read_csv('{market_file}') ORDER BY 1, 2").fetchall()
    assert len(stored) == 6 * 502  # sessions of 2011 and 2012
    assert stored == in_the_file


def the_rows_are_those_of_one_process(running: Stack, market_file: Path) -> None:
    """Hold bars, features and patterns against those that one process makes of the same file."""
    with new_home() as home:
        settings = {"TICKSTOCK_PROVIDERS": "sample", "TICKSTOCK_SAMPLE_FILE": str(market_file)}
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", ALONE, str(FIRST), str(LAST)],
            env=environment(home, **settings),
            cwd=home,
            check=True,
            capture_output=True,
        )
        alone = make_url(embedded.acquire(home).url("tickstock"))
        for table in ("ohlcv_daily", "bar_features", "patterns"):
            of_one = values(alone, table)
            assert of_one, table
            assert values(database(running), table) == of_one, table
