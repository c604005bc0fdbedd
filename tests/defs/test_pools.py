"""Dagster's own daemon, with the sensor it runs and the pools it keeps: two runs do not ask one provider at once."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import Engine, make_url

from tests.defs.simulated import FIRST, KEY, LAST, environment, forget_settings, know, market
from tests.end_to_end.commands import other_holders, start
from tests.storage.servers import wait_until
from tickstock_assets.defs import launching
from tickstock_assets.defs.request_runs import REQUEST_TAG
from tickstock_assets.project_files import project_file
from tickstock_assets.simulator import Plan, Simulator, Vendor
from tickstock_assets.storage import backfill_requests, embedded, migrate
from tickstock_assets.storage.database import open_engine

DAEMON = [str(Path(sys.executable).parent / "dagster-daemon")]
ARGUMENTS = ["run", "--workspace", str(project_file("workspace.yaml"))]
# A run of one symbol's two years asks once; this long it is at the vendor.
LATENCY_SECONDS = 1.0


@pytest.fixture
def engine(home: Path) -> Iterator[Engine]:
    server = embedded.acquire(home)
    embedded.ensure_database(server, "tickstock")
    engine = open_engine(make_url(server.url("tickstock")))
    migrate.upgrade(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def instance(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """Dagster's instance of the home, whose storage is on the embedded server beside the market's database."""
    for name, value in {
        "TICKSTOCK_HOME": str(home),
        "DAGSTER_HOME": str(home),
        "DAGSTER_EVENT_BATCH_SIZE": "1",
    }.items():
        monkeypatch.setenv(name, value)
    forget_settings()
    with launching.open_instance(home) as instance:
        yield instance
    forget_settings()


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    plan = Plan(keys=frozenset({KEY}), per_day=25)
    with Simulator(market(3), {Vendor.ALPHA_VANTAGE: plan}, latency_seconds=LATENCY_SECONDS) as simulator:
        yield simulator


def test_the_daemon_runs_what_is_due_one_run_after_the_other(
    home: Path, engine: Engine, instance: dg.DagsterInstance, simulator: Simulator, tmp_path: Path
) -> None:
    know(engine, instance, simulator.market.tickers)
    with engine.begin() as connection:
        # Not side by side, so two runs, of which four would be allowed at once.
        request = backfill_requests.enter(connection, ["S0001", "S0003"], "1d", FIRST, LAST)
    variables = environment(simulator, calls_per_day=25) | {"DAGSTER_HOME": str(launching.prepare_dagster_home(home))}
    log = tmp_path / "daemon.log"
    # A schedule's may be due meanwhile.
    of_request = dg.RunsFilter(tags={REQUEST_TAG: request})
    process = start(*ARGUMENTS, home=home, log=log, program=DAEMON, **variables)
    try:
        wait_until(lambda: sum(run.is_finished for run in instance.get_runs(of_request)) == 2)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
    assert {run.status for run in instance.get_runs(of_request)} == {dg.DagsterRunStatus.SUCCESS}, log.read_text()
    first, second = sorted((one.start_time or 0.0, one.end_time or 0.0) for one in instance.get_run_records(of_request))
    assert 0 < first[1] <= second[0]
    assert {pool.name: pool.limit for pool in instance.event_log_storage.get_pool_limits()} == {
        "provider_alpha_vantage": 1,
        "heavy_writes": 1,
    }
    assert sorted(call.symbol for call in simulator.record.calls) == ["S0001", "S0003"]
    with engine.connect() as connection:
        found = backfill_requests.find(connection, request)
        assert found is not None
        assert found.attempts == 1
        assert connection.exec_driver_sql("SELECT count(DISTINCT symbol) FROM ohlcv_daily").scalar_one() == 2
    assert KEY not in log.read_text()
    assert "Warning" not in log.read_text()
    wait_until(lambda: not other_holders(home))
