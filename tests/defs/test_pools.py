"""Dagster's own daemon, with the sensor it runs and the pools it keeps: two runs do not ask one provider at once."""

import signal
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import Engine, make_url

from tests.defs.simulated import FIRST, KEY, LAST, environment, forget_settings, know, market
from tests.end_to_end.commands import other_holders, start
from tests.storage.servers import wait_until
from tickstock_assets.defs import launching
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
def instance(home: Path, monkeypatch: pytest.MonkeyPatch, engine: Engine) -> Iterator[dg.DagsterInstance]:
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
    with Simulator(market(5), {Vendor.ALPHA_VANTAGE: plan}, latency_seconds=LATENCY_SECONDS) as simulator:
        yield simulator


def test_the_daemon_runs_what_is_due_one_run_after_the_other(
    home: Path, engine: Engine, instance: dg.DagsterInstance, simulator: Simulator, tmp_path: Path
) -> None:
    know(engine, instance, simulator.market.tickers)
    with engine.begin() as connection:
        # Not side by side, so three runs, of which four would be allowed at once.
        request = backfill_requests.enter(connection, ["S0001", "S0003", "S0005"], "1d", FIRST, LAST)
    variables = environment(simulator, calls_per_day=25) | {"DAGSTER_HOME": str(launching.prepare_dagster_home(home))}
    log = tmp_path / "daemon.log"
    process = start(*ARGUMENTS, home=home, log=log, program=DAEMON, **variables)
    try:
        wait_until(lambda: len(instance.get_runs()) == 3 and all(run.is_finished for run in instance.get_runs()))
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
    assert {run.status for run in instance.get_runs()} == {dg.DagsterRunStatus.SUCCESS}, log.read_text()
    records = instance.get_run_records()
    times = sorted((record.start_time or 0.0, record.end_time or 0.0) for record in records)
    for (_, ended), (began, _) in pairwise(times):
        assert 0 < ended <= began
    assert {pool.name: pool.limit for pool in instance.event_log_storage.get_pool_limits()} == {
        "provider_alpha_vantage": 1
    }
    assert sorted(call.symbol for call in simulator.record.calls) == ["S0001", "S0003", "S0005"]
    with engine.connect() as connection:
        found = backfill_requests.find(connection, request)
        assert found is not None
        assert found.attempts == 1
        assert connection.exec_driver_sql("SELECT count(DISTINCT symbol) FROM ohlcv_daily").scalar_one() == 3
    assert KEY not in log.read_text()
    wait_until(lambda: not other_holders(home) - {process.pid})
