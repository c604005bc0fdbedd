"""What orchestration costs: many symbols by ten years from raw to patterns, through the real daemon, as requests become runs.

Three measurements on one machine, at two sizes to show that they grow with the partitions and no faster:

- ours: a backfill request, Dagster's daemon with the project's dagster.yaml and database, a simulated vendor;
- direct: the same fetching, storing, rules and kernels called in one process without Dagster;
- idle: assets that do nothing and record as many materializations and checks, in a daemon with Dagster's own storage
  (_idle_assets.py).

What is ours beyond direct is orchestration; the goal is at most 1.3 times idle. Then how long the web server takes for what
an asset's page asks of all those partitions. `--nightly` instead measures the update of all symbols after a session, and
`--pages` the page alone, of partitions that are recorded without any work.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
from load import simulator

GOAL, PAGE_ASSET = 1.3, "ohlcv_daily"
NIGHTLY_GOAL_SECONDS = 180.0
YESTERDAY = datetime.now(UTC).date() - timedelta(days=1)
PATIENCE_SECONDS = 3600.0
BIN = Path(sys.executable).parent
# What the page of an asset asks of its partitions.
PAGE = """query ($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
    partitionKeysByDimension { name partitionKeys type }
    assetPartitionStatuses { ... on MultiPartitionStatuses { primaryDimensionName ranges { primaryDimStartKey
        primaryDimEndKey secondaryDim { ... on TimePartitionStatuses { ranges { startKey endKey status } }
        ... on DefaultPartitionStatuses { materializedPartitions failedPartitions materializingPartitions } } } } } } } }"""
SENSORS = """query ($selector: RepositorySelector!) { sensorsOrError(repositorySelector: $selector) {
    ... on Sensors { results { id name } } } }"""
LAUNCH = "mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) { __typename } }"
STOP = "mutation ($id: String!) { stopSensor(id: $id) { __typename } }"
REPOSITORY = {"repositoryName": "__repository__", "repositoryLocationName": "tickstock_assets"}
WORKSPACE = """load_from:
  - python_module: {{module_name: tickstock_assets.definitions, location_name: tickstock_assets}}
  - python_file: {{relative_path: {idle}, location_name: idle}}
"""
# On a machine that has other work to do code is loaded slowly, which is not what is measured.
HASTY = "start_timeout_seconds: 180"
OUR_STORAGE = """  custom:
    module: tickstock_assets.defs.dagster_storage
    class: TickstockStorage
    config: {}
"""
DAGSTERS_STORAGE = """  postgres:
    postgres_url: "{url}"
"""
PATIENT = """
code_servers:
  local_startup_timeout: 600
"""


def wait_for[T](ask: Callable[[], T | None], what: str) -> T:
    """Return the first answer that is not None."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        if (answer := ask()) is not None:
            return answer
        time.sleep(0.25)
    raise TimeoutError(f"{what}: expected it within {PATIENCE_SECONDS:.0f} s")


def between(start: date, end: date) -> list[str]:
    """Return the options of a vendor whose history lies between two days."""
    return ["--start", start.isoformat(), "--end", end.isoformat()]


class Project:
    """A home of its own, which knows the symbols, with web server and daemon where they are started."""

    def __init__(self, url: str, symbols: Sequence[str], stack: ExitStack) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="tickstock-bench-"))
        self.symbols = symbols
        self.go = self.home / "idle.json"
        self.port = _free_port()
        os.environ |= {
            "TICKSTOCK_HOME": str(self.home),
            "TICKSTOCK_PROVIDERS": "polygon",
            "TICKSTOCK_POLYGON_URL": url,
            "TICKSTOCK_POLYGON_API_KEY": "simulated",
            "TICKSTOCK_POLYGON_CALLS_PER_MINUTE": "0",
            "IDLE_START": str(self.go),
        }
        from tickstock_assets.defs import launching, resources
        from tickstock_assets.defs.partitions import SYMBOLS
        from tickstock_assets.domain.sessions import trading_sessions
        from tickstock_assets.settings import settings
        from tickstock_assets.storage import embedded
        from tickstock_assets.storage.bulk import merge

        for cached in (resources.lineup, resources.engine, settings):
            cached.cache_clear()
        stack.callback(shutil.rmtree, self.home, ignore_errors=True)
        stack.callback(embedded.destroy, self.home)
        self.engine = resources.engine()
        stack.callback(self.engine.dispose)
        self.instance = stack.enter_context(launching.open_instance(self.home))
        self.dagster_url = embedded.acquire(self.home).url("dagster").replace("postgresql:", "postgresql+psycopg2:")
        with self.engine.begin() as connection:
            # Inactive, or the schedules would update them when a session is over meanwhile.
            merge(connection, "symbols", pd.DataFrame({"symbol": list(symbols), "active": False}))
            merge(connection, "sessions", trading_sessions("XNYS", date(2000, 1, 1), date(2026, 12, 31)))
        self.instance.add_dynamic_partitions(str(SYMBOLS.name), list(symbols))

    @contextmanager
    def daemon(self, *, unchanged_dagster: bool = False) -> Iterator[None]:
        """Run Dagster's daemon and web server, of the project's sensors only the one that starts what is requested.

        Args:
            unchanged_dagster: with the storage that comes with Dagster instead of ours.
        """
        workspace = self.home / "workspace.yaml"
        workspace.write_text(WORKSPACE.format(idle=Path(__file__).parent / "_idle_assets.py"))
        settings = self.home / "dagster" / "dagster.yaml"
        shipped = settings.read_text()
        assert HASTY in shipped
        assert OUR_STORAGE in shipped
        if unchanged_dagster:
            shipped = shipped.replace(OUR_STORAGE, DAGSTERS_STORAGE.format(url=self.dagster_url))
        settings.write_text(shipped.replace(HASTY, "start_timeout_seconds: 600") + PATIENT)
        log = (self.home / "dagster.log").open("w")
        programs: list[list[str | Path]] = [
            [BIN / "dagster-webserver", "-p", str(self.port)],
            [BIN / "dagster-daemon", "run"],
        ]
        started: list[subprocess.Popen[bytes]] = []
        try:
            started.append(subprocess.Popen([*programs[0], "-w", workspace], stdout=log, stderr=log))
            for sensor in wait_for(self._sensors, "the web server"):
                if sensor["name"] != "due_requests":
                    self.ask(STOP, id=sensor["id"])
            started.append(subprocess.Popen([*programs[1], "-w", workspace], stdout=log, stderr=log))
            yield
        finally:
            for process in reversed(started):
                process.terminate()
                process.wait(60)
            log.close()

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """Ask the web server."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=600) as answer:
            found: dict[str, Any] = json.load(answer)
        assert "errors" not in found, found["errors"]
        answered: dict[str, Any] = found["data"]
        return answered

    def _sensors(self) -> list[dict[str, str]] | None:
        try:
            found: list[dict[str, str]] | None = self.ask(SENSORS, selector=REPOSITORY)["sensorsOrError"].get("results")
        except OSError:
            return None  # not yet up
        return found

    def load(self, first: date, last: date) -> float:
        """Enter a request and return the seconds until it has succeeded."""
        from tickstock_assets.storage import backfill_requests

        began = time.perf_counter()
        with self.engine.begin() as connection:
            entered = backfill_requests.enter(connection, self.symbols, "1d", first, last, reason="benchmark")

        def ended() -> str | None:
            with self.engine.connect() as connection:
                found = backfill_requests.find(connection, entered)
            assert found is not None
            assert found.error is None, found.error
            return None if found.is_open else found.status

        assert wait_for(ended, "the request") == "succeeded"
        return time.perf_counter() - began

    def launch(self, job: str, tags: Mapping[str, str]) -> float:
        """Launch a job by GraphQL and return the seconds until it has succeeded."""
        from dagster import RunsFilter

        metadata = {"tags": [{"key": key, "value": value} for key, value in tags.items()]}
        began = time.perf_counter()
        asked = {
            "selector": REPOSITORY | {"jobName": job},
            "mode": "default",
            "runConfigData": {},
            "executionMetadata": metadata,
        }
        said = self.ask(LAUNCH, params=asked)["launchRun"]
        assert said["__typename"] == "LaunchRunSuccess", said

        def ended() -> bool | None:
            runs = self.instance.get_runs(RunsFilter(job_name=job))
            assert not any(run.is_failure_or_canceled for run in runs)
            return True if runs and all(run.is_success for run in runs) else None

        wait_for(ended, job)
        return time.perf_counter() - began

    def idle(self, first: date, last: date) -> float:
        """Let the idle assets record the same partitions, and return the seconds that takes."""
        from dagster import RunsFilter

        from tickstock_assets.defs.request_runs import SYMBOLS_A_RUN

        n_runs = -(-len(self.symbols) // SYMBOLS_A_RUN)
        began = time.perf_counter()
        partial_file = self.go.with_suffix(".new")
        partial_file.write_text(json.dumps([first.year, last.year]))
        partial_file.replace(self.go)

        def ended() -> bool | None:
            runs = self.instance.get_runs(RunsFilter(job_name="idle_history"))
            return True if len(runs) == n_runs and all(run.is_success for run in runs) else None

        wait_for(ended, "the idle runs")
        return time.perf_counter() - began

    def steps(self, job: str) -> tuple[int, Counter[str]]:
        """Return how many runs a job had, and the seconds of their steps, of assets and of checks."""
        from dagster import RunsFilter

        runs = self.instance.get_runs(RunsFilter(job_name=job))
        seconds: Counter[str] = Counter()
        for run in runs:
            for step in self.instance.get_run_step_stats(run.run_id):
                is_asset = step.step_key in {"raw_daily_bars", "ohlcv_daily", "bar_features", "patterns"}
                if step.start_time and step.end_time:
                    seconds[step.step_key if is_asset else "checks"] += step.end_time - step.start_time  # type: ignore[assignment]
        return len(runs), seconds

    def page(self) -> tuple[float, float]:
        """Return the seconds that an asset's page takes, the first time and then."""
        seconds = []
        for _ in range(2):
            began = time.perf_counter()
            self.ask(PAGE, key={"path": [PAGE_ASSET]})
            seconds.append(time.perf_counter() - began)
        return seconds[0], seconds[1]


def direct(project: Project, first: date, last: date) -> float:
    """Fetch, store, judge, compute and store what the assets do, in this process; return the seconds."""
    from itertools import batched

    from tickstock_assets.defs.batches import PARTITIONS_A_BATCH, batches
    from tickstock_assets.defs.blocked import blocked
    from tickstock_assets.defs.io_managers import TABLES, store
    from tickstock_assets.defs.partitions import BY_YEAR
    from tickstock_assets.defs.request_runs import SYMBOLS_A_RUN
    from tickstock_assets.defs.resources import Database, lineup
    from tickstock_assets.domain import features
    from tickstock_assets.domain.adjustments import to_continuous
    from tickstock_assets.domain.patterns import registry
    from tickstock_assets.domain.windows import Window, rows_inside
    from tickstock_assets.loading.fetching import land_missing
    from tickstock_assets.loading.storing import store as store_landed
    from tickstock_assets.storage import bars
    from tickstock_assets.storage.findings import as_pattern_rows

    database, folder = Database(), project.home / "landing"
    began = time.perf_counter()
    with project.engine.connect() as connection:
        splits = bars.splits(connection)
    for symbols in batched(project.symbols, SYMBOLS_A_RUN):
        windows = [Window(symbol, first, last) for symbol in symbols]
        land_missing(lineup(), project.engine, folder, windows)
        store_landed(lineup(), project.engine, folder, windows)
        for batch in batches(BY_YEAR.keys_of(windows), PARTITIONS_A_BATCH):
            with project.engine.connect() as connection:
                assert not blocked(connection, ["ohlcv_daily"], batch.windows)
                read = TABLES["ohlcv_daily"].read(connection, batch.windows, features.WARMUP_BARS)
            measured = features.compute_features(to_continuous(read, splits)).assign(timeframe="1d")
            store(database, "bar_features", rows_inside(measured, "timestamp", batch.windows), batch, rows_in=len(read))
            with project.engine.connect() as connection:
                assert not blocked(connection, ["ohlcv_daily", "bar_features"], batch.windows)
                read = TABLES["ohlcv_daily"].read(connection, batch.windows, registry.WARMUP_BARS)
                of_bars = TABLES["bar_features"].read(connection, batch.windows, 0)
            found = rows_inside(registry.detect(to_continuous(read, splits)), "timestamp", batch.windows)
            rows = as_pattern_rows(found, of_bars, timeframe="1d")
            store(database, "patterns", rows, batch, rows_in=len(read))
    return time.perf_counter() - began


def orchestration(n_symbols: int, years: int) -> dict[str, Any]:
    """Return the seconds of all three, and of the page."""
    first, last = date(2024 - years, 1, 1), date(2023, 12, 31)
    symbols = [f"S{number:04}" for number in range(1, n_symbols + 1)]
    with simulator(n_symbols, *between(first, last)) as url:
        with ExitStack() as stack:
            seconds_direct = direct(Project(url, symbols, stack), first, last)
        with ExitStack() as stack:
            project = Project(url, symbols, stack)
            with project.daemon():
                seconds = project.load(first, last)
                n_runs, steps = project.steps("daily_history")
                cold, warm = project.page()
            n_told = len(project.instance.get_materialized_partitions(_key("patterns")))
        with ExitStack() as stack:
            project = Project(url, symbols, stack)
            with project.daemon(unchanged_dagster=True):
                seconds_idle = project.idle(first, last)
    assert n_told == n_symbols * years, n_told
    return {
        "partitions": n_symbols * years,
        "runs": n_runs,
        "seconds": round(seconds, 1),
        "direct": round(seconds_direct, 1),
        "idle": round(seconds_idle, 1),
        "orchestration": round(seconds - seconds_direct, 1),
        "ratio": round((seconds - seconds_direct) / seconds_idle, 2),
        "share": round(1 - seconds_direct / seconds, 3),
        "steps": {name: round(took, 1) for name, took in steps.items()},
        "page_cold": round(cold, 2),
        "page_warm": round(warm, 2),
    }


def nightly(n_symbols: int) -> dict[str, float]:
    """Return the seconds of the update after a session, as the schedule starts it, when all before it are loaded.

    The vendor's history has two years more, so that the warm-up is there.
    """
    from tickstock_assets.domain.sessions import trading_sessions

    newest_days = trading_sessions("XNYS", YESTERDAY - timedelta(days=14), YESTERDAY)["session"].dt.date
    before, newest = newest_days.iloc[-2], newest_days.iloc[-1]
    first = date(newest.year - 2, 1, 1)
    symbols = [f"S{number:04}" for number in range(1, n_symbols + 1)]
    with simulator(n_symbols, *between(first, newest)) as url, ExitStack() as stack:
        project = Project(url, symbols, stack)
        # Its years are those of the vendor that the project has named.
        from tickstock_assets.defs.partitions import BY_YEAR, rectangle_tags

        seconds_direct = direct(project, first, before)
        tags = rectangle_tags(symbols, symbols, newest, newest, BY_YEAR)
        with project.daemon():
            seconds = project.launch("nightly_update", tags)
            _, steps = project.steps("nightly_update")
        with project.engine.connect() as connection:
            stored = connection.exec_driver_sql("SELECT count(*) FROM ohlcv_daily WHERE date = %s", (newest,)).scalar()
    assert stored == n_symbols, stored
    return {"seconds": round(seconds, 1), "loaded_before": round(seconds_direct, 1)} | {
        name: round(took, 1) for name, took in steps.items()
    }


def page_of(n_symbols: int, years: int) -> dict[str, float]:
    """Return the seconds that an asset's page takes, of partitions that were recorded in the years before 2024."""
    from dagster import AssetMaterialization

    symbols = [f"S{number:05}" for number in range(1, n_symbols + 1)]
    with ExitStack() as stack:
        # Nobody is asked for bars.
        project = Project("http://127.0.0.1:9", symbols, stack)
        for symbol in symbols:
            for year in range(2024 - years, 2024):
                made = AssetMaterialization(_key(PAGE_ASSET), partition=f"{symbol}|{year}")
                project.instance.report_runless_asset_event(made)
        with project.daemon():
            cold, warm = project.page()
    return {"partitions": n_symbols * years, "page_cold": round(cold, 2), "page_warm": round(warm, 2)}


def _key(name: str) -> Any:
    from dagster import AssetKey

    return AssetKey(name)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    """Measure, and print a line for each question."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, default=1000)
    parser.add_argument("--years", type=int, default=10)
    parser.add_argument("--nightly", action="store_true", help="only the update after a session")
    parser.add_argument("--pages", action="store_true", help="only an asset's page, of 10,000 and 50,000 partitions")
    options = parser.parse_args()
    if options.pages:
        for n_symbols in (1_000, 5_000):
            print(json.dumps({"name": "the page of an asset", **page_of(n_symbols, 10)}), flush=True)
        return
    if options.nightly:
        took = nightly(options.symbols)
        print(json.dumps({"name": f"nightly update of {options.symbols:,} symbols", **took,
                          "goal": NIGHTLY_GOAL_SECONDS, "met": took["seconds"] <= NIGHTLY_GOAL_SECONDS}))  # fmt: skip
        return
    # A quarter first, so that what grows faster than the partitions shows.
    small = orchestration(max(options.symbols // 4, 1), options.years)
    print(json.dumps({"name": "orchestration, a quarter", **small}))
    large = orchestration(options.symbols, options.years)
    growth = (large["orchestration"] / small["orchestration"]) / (large["partitions"] / small["partitions"])
    print(json.dumps({"name": "orchestration: our daemon runs beyond the bare work", "rival": "idle assets", **large,
                      "goal": GOAL, "met": large["ratio"] <= GOAL}))  # fmt: skip
    print(json.dumps({"name": "orchestration grows with the partitions", "rival": "a quarter of them",
                      "ratio": round(growth, 2), "goal": 1.25, "met": growth <= 1.25}))  # fmt: skip


if __name__ == "__main__":
    main()
