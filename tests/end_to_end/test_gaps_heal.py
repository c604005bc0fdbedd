"""Under Dagster's own daemon holes close by themselves, and what nobody has is given up: nobody starts anything."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import Engine, make_url

from tests.defs.gap_holes import POLYGON, YEAR, let_lack, load, look, punch, stored
from tests.defs.simulated import Project, forget_settings, know, market
from tests.end_to_end.commands import other_holders, start
from tickstock_assets.defs import launching, resources
from tickstock_assets.project_files import project_file
from tickstock_assets.simulator import Simulator
from tickstock_assets.storage import embedded, migrate
from tickstock_assets.storage.database import open_engine

DAEMON = [str(Path(sys.executable).parent / "dagster-daemon")]
ARGUMENTS = ["run", "--workspace", str(project_file("workspace.yaml"))]
SYMBOLS = ["S0001", "S0002", "S0003", "S0004"]
HOLES = [(symbol, date(2012, month, 15)) for symbol, month in zip(SYMBOLS, (2, 3, 5, 6), strict=True)]
LACKING = HOLES[1]
PATIENCE_SECONDS = 240.0


@pytest.fixture
def project(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A home of a test's own with the year loaded, that this process and a daemon share."""
    server = embedded.acquire(home)
    embedded.ensure_database(server, "tickstock")
    made = open_engine(make_url(server.url("tickstock")))
    migrate.upgrade(made)
    made.dispose()
    with Simulator(market(len(SYMBOLS))) as simulator:
        variables = {
            **{name: value.format(simulator=simulator.url) for name, value in POLYGON.items()},
            "TICKSTOCK_HOME": str(home),
            "DAGSTER_HOME": str(home),
            "DAGSTER_EVENT_BATCH_SIZE": "1",
            "TICKSTOCK_GAP_ATTEMPTS": "1",
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        forget_settings()
        engine: Engine = resources.engine()
        with launching.open_instance(home) as instance:
            know(engine, instance, SYMBOLS)
            project = Project(simulator, engine, instance)
            load(project, SYMBOLS, *YEAR)
            yield project
        engine.dispose()
    forget_settings()


def wait_patiently(condition: Callable[[], bool], log: Path) -> None:
    """Wait for what several processes do, on a machine that may be busy besides."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def test_the_daemon_heals_holes_and_gives_up_what_nobody_has(project: Project, home: Path, tmp_path: Path) -> None:
    before = stored(project)
    punch(project, HOLES)
    let_lack(project.simulator.market, [LACKING])
    look(project, SYMBOLS, *YEAR)
    n_calls = len(project.simulator.record.calls)
    variables = {name: value.format(simulator=project.simulator.url) for name, value in POLYGON.items()}
    variables |= {"DAGSTER_HOME": str(launching.prepare_dagster_home(home)), "TICKSTOCK_GAP_ATTEMPTS": "1"}
    log = tmp_path / "daemon.log"
    process = start(*ARGUMENTS, home=home, log=log, program=DAEMON, **variables)
    open_gaps = (
        "SELECT count(*) FROM data_gaps WHERE class = 'provider_hole' AND healed_at IS NULL AND given_up_at IS NULL"
    )
    try:
        # A tick enters the request, a run does it, and the tick after its end gives up.
        wait_patiently(lambda: project.rows(open_gaps) == [(0,)], log)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE_SECONDS)
    [healing] = project.instance.get_runs(dg.RunsFilter(job_name="gap_healing"))
    assert healing.is_success, log.read_text()
    kept = before[[key != (LACKING[0], str(LACKING[1])) for key in zip(before["symbol"], before["date"], strict=True)]]
    assert stored(project).equals(kept.reset_index(drop=True))
    calls = project.simulator.record.calls[n_calls:]
    assert sorted((call.symbol, call.window[:10]) for call in calls) == [(symbol, str(day)) for symbol, day in HOLES]
    [(symbol, reason)] = project.rows("SELECT symbol, given_up_reason FROM data_gaps WHERE given_up_at IS NOT NULL")
    assert symbol == LACKING[0]
    assert str(reason).endswith(f"UTC: polygon answered for {LACKING[1]} without them")
    # Other sensors may have begun something too, such as the look after the load.
    wait_patiently(lambda: not other_holders(home), log)
