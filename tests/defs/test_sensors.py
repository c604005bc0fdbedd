"""Requests become runs when they are due, once, and are closed when their runs have ended."""

import dagster as dg
import pytest
from dagster._core.instance.config import PoolGranularity
from dagster._core.storage.tags import RUN_KEY_TAG, WILL_RETRY_TAG

from tests.defs.conftest import OpenProject
from tests.defs.simulated import FIRST, KEY, LAST, Project
from tickstock_assets.definitions import defs
from tickstock_assets.defs import sensors
from tickstock_assets.defs.assets.raw import POOL
from tickstock_assets.defs.partitions import RANGE_END_TAG, RANGE_START_TAG, rectangle_tags, side_by_side
from tickstock_assets.defs.request_runs import ATTEMPT_TAG, REQUEST_TAG
from tickstock_assets.defs.sensors import due_requests
from tickstock_assets.domain.errors import TickstockError
from tickstock_assets.simulator import Vendor
from tickstock_assets.storage import backfill_requests
from tickstock_assets.storage.backfill_requests import BackfillRequest

pytestmark = [
    pytest.mark.tiers("embedded"),
    # Dagster's own code calls it.
    pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated"),
]


def tick(project: Project) -> list[dg.RunRequest]:
    """Return what one tick of the sensor wants to be run."""
    with dg.build_sensor_context(instance=project.instance) as context:
        result = due_requests(context)
    assert isinstance(result, dg.SensorResult)
    return list(result.run_requests or [])


def tags_of(wanted: dg.RunRequest) -> dict[str, str]:
    """Return the tags that Dagster's daemon gives to the run."""
    return {**wanted.tags, RUN_KEY_TAG: str(wanted.run_key)}


def make_run(
    project: Project, wanted: dg.RunRequest, status: dg.DagsterRunStatus = dg.DagsterRunStatus.STARTED, **tags: str
) -> dg.DagsterRun:
    """Enter a run as the daemon does; nothing is done for it."""
    job = defs.resolve_job_def("daily_history")
    return project.instance.create_run_for_job(job_def=job, tags={**tags_of(wanted), **tags}, status=status)


def enter(project: Project, *symbols: str, timeframe: str = "1d") -> str:
    with project.engine.begin() as connection:
        return backfill_requests.enter(connection, symbols or project.simulator.market.tickers, timeframe, FIRST, LAST)


def find(project: Project, request: str) -> BackfillRequest:
    with project.engine.connect() as connection:
        found = backfill_requests.find(connection, request)
    assert found is not None
    return found


def test_what_a_day_had_no_calls_for_is_fetched_the_next_day_and_nothing_twice(open_project: OpenProject) -> None:
    project = open_project(companies=30, calls_per_day=25)
    tickers = project.simulator.market.tickers
    with pytest.raises(TickstockError, match="continues at"):
        project.run(rectangle_tags(tickers, tickers, 2011, 2012))
    assert len(project.asked_for()) == 25
    ((request,),) = project.rows("SELECT id::text FROM backfill_requests")

    assert tick(project) == []
    assert str(find(project, str(request)).status) == "requested"

    project.a_day_passes()
    (wanted,) = tick(project)
    assert wanted.job_name is None  # the sensor's only job
    assert wanted.tags == {
        RANGE_START_TAG: "S0001|2011",
        RANGE_END_TAG: "S0030|2012",
        REQUEST_TAG: request,
        ATTEMPT_TAG: "1",
    }
    project.run(tags_of(wanted))
    assert sorted(project.asked_for()) == tickers
    assert project.simulator.usage(Vendor.ALPHA_VANTAGE, KEY).highest_in_a_day == 25
    assert project.simulator.usage(Vendor.ALPHA_VANTAGE, KEY).refused == 0
    assert len(project.materialized("patterns")) == 60

    assert tick(project) == []
    closed = find(project, str(request))
    assert (closed.status, closed.progress, closed.attempts, closed.error) == ("succeeded", 1.0, 1, None)
    assert tick(project) == []


def test_a_request_waits_for_as_many_days_as_it_takes(open_project: OpenProject) -> None:
    project = open_project(companies=5, calls_per_day=2)
    request = enter(project)
    for attempt, n_landed in ((1, 2), (2, 4)):
        (wanted,) = tick(project)
        with pytest.raises(TickstockError, match="continues at"):
            project.run(tags_of(wanted))
        assert tick(project) == []
        waiting = find(project, request)
        assert (waiting.status, waiting.attempts, waiting.progress) == ("requested", attempt, n_landed / 5)
        assert waiting.not_before is not None
        # It is still the one request.
        assert project.rows("SELECT count(*) FROM backfill_requests") == [(1,)]
        project.a_day_passes()
    (wanted,) = tick(project)
    project.run(tags_of(wanted))
    tick(project)
    assert find(project, request).status == "succeeded"
    assert sorted(project.asked_for()) == project.simulator.market.tickers


def test_a_sensor_killed_between_tick_and_run_asks_for_the_same_run_once_more(open_project: OpenProject) -> None:
    project = open_project(companies=2, calls_per_day=25)
    request = enter(project)
    (wanted,) = tick(project)
    assert find(project, request).status == "running"
    # Nothing came of it; by the equal key Dagster would not make a second run, had there been one.
    (again,) = tick(project)
    assert (again.run_key, again.tags) == (wanted.run_key, wanted.tags)
    # One that was made but never queued is asked for too: by its key Dagster queues that one.
    run = make_run(project, wanted, dg.DagsterRunStatus.NOT_STARTED)
    (again,) = tick(project)
    assert again.run_key == run.tags[RUN_KEY_TAG]
    assert find(project, request).attempts == 1


def test_symbols_that_do_not_stand_side_by_side_are_runs_of_their_own(open_project: OpenProject) -> None:
    project = open_project(companies=6, calls_per_day=25)
    request = enter(project, "S0001", "S0002", "S0004", "S0006")
    wanted = tick(project)
    assert [(one.tags[RANGE_START_TAG], one.tags[RANGE_END_TAG]) for one in wanted] == [
        ("S0001|2011", "S0002|2012"),
        ("S0004|2011", "S0004|2012"),
        ("S0006|2011", "S0006|2012"),
    ]
    make_run(project, wanted[0], dg.DagsterRunStatus.SUCCESS)
    make_run(project, wanted[1])
    assert tick(project) == wanted[2:]
    assert find(project, request).progress == pytest.approx(1 / 3, abs=1e-6)


def test_a_tick_starts_a_bounded_number_of_runs_and_the_next_goes_on(
    open_project: OpenProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = open_project(companies=9, calls_per_day=25)
    monkeypatch.setattr(sensors, "RUNS_A_TICK", 3)
    monkeypatch.setattr(sensors, "REQUESTS_AT_ONCE", 2)
    for symbols in (["S0001", "S0003", "S0005", "S0007"], ["S0002"], ["S0009"]):
        enter(project, *symbols)
    started: list[str] = []
    for _ in range(2):
        wanted = tick(project)
        assert len(wanted) <= 3
        started += [one.tags[RANGE_START_TAG] for one in wanted]
        for one in wanted:
            make_run(project, one)
    # The third request waits until one of the two is closed.
    assert started == [f"S000{n}|2011" for n in (1, 3, 5, 7, 2)]
    assert tick(project) == []


@pytest.mark.parametrize(
    ("symbols", "timeframe", "years", "complaint"),
    [
        (["S0001", "OTHER"], "1d", (2011, 2012), "expected symbols that are partitions, found 1 that are not: OTHER"),
        (["S0001"], "1m", (2011, 2012), "expected timeframe 1d, the only one with partitions, found 1m"),
        (["S0001"], "1d", (1990, 2012), "expected a range within 2000 to 2013, found 1990 to 2012"),
    ],
)
def test_what_cannot_be_loaded_fails_with_a_sentence_and_starts_nothing(
    open_project: OpenProject, symbols: list[str], timeframe: str, years: tuple[int, int], complaint: str
) -> None:
    project = open_project(companies=1, calls_per_day=25)
    with project.engine.begin() as connection:
        days = FIRST.replace(year=years[0]), LAST.replace(year=years[1])
        request = backfill_requests.enter(connection, symbols, timeframe, *days)
    assert tick(project) == []
    failed = find(project, request)
    assert failed.status == "failed"
    assert complaint in str(failed.error)


def test_a_run_that_failed_closes_its_request_with_the_reason(open_project: OpenProject) -> None:
    project = open_project(companies=1, calls_per_day=25)
    project.instance.add_dynamic_partitions("symbols", ["NONE"])
    with project.engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO symbols (symbol, exchange) VALUES ('NONE', 'XNYS')")
    request = enter(project, "NONE")
    (wanted,) = tick(project)
    with pytest.raises(TickstockError):
        project.run(tags_of(wanted))
    assert tick(project) == []
    failed = find(project, request)
    assert failed.status == "failed"
    assert "raw_daily_bars: 1 of 1 windows did not come, first NONE" in str(failed.error)


def test_a_run_that_a_person_cancelled_cancels_its_request(open_project: OpenProject) -> None:
    project = open_project(companies=1, calls_per_day=25)
    request = enter(project)
    (wanted,) = tick(project)
    make_run(project, wanted, dg.DagsterRunStatus.CANCELED)
    assert tick(project) == []
    assert find(project, request).status == "cancelled"


def test_a_run_done_again_after_its_request_was_closed_becomes_a_request_of_its_own(open_project: OpenProject) -> None:
    project = open_project(companies=2, calls_per_day=1)
    request = enter(project)
    (wanted,) = tick(project)
    with project.engine.begin() as connection:
        backfill_requests.cancel(connection, request, "not wanted any more")
    with pytest.raises(TickstockError, match="continues at"):
        project.run(tags_of(wanted))
    ((other,),) = project.rows("SELECT id::text FROM backfill_requests WHERE status = 'requested'")
    assert other != request


def test_a_crashed_run_that_dagster_starts_again_is_waited_for(open_project: OpenProject) -> None:
    project = open_project(companies=1, calls_per_day=25)
    request = enter(project)
    (wanted,) = tick(project)
    make_run(project, wanted, dg.DagsterRunStatus.FAILURE, **{WILL_RETRY_TAG: "true"})
    assert tick(project) == []
    assert find(project, request).status == "running"
    make_run(project, wanted, dg.DagsterRunStatus.SUCCESS)
    assert tick(project) == []
    assert find(project, request).status == "succeeded"


def test_the_pool_has_its_limit_from_the_first_tick_and_a_persons_limit_stays(open_project: OpenProject) -> None:
    project = open_project(companies=1, calls_per_day=25)
    storage = project.instance.event_log_storage
    assert POOL not in storage.get_concurrency_keys()
    tick(project)
    assert {pool.name: pool.limit for pool in storage.get_pool_limits()} == {POOL: 1}
    storage.set_concurrency_slots(POOL, 3)
    tick(project)
    assert {pool.name: pool.limit for pool in storage.get_pool_limits()} == {POOL: 3}


def test_a_run_in_this_process_is_not_held_up_by_a_full_pool(open_project: OpenProject) -> None:
    project = open_project(companies=1, calls_per_day=25)
    tick(project)
    # Else the run below would wait for ever.
    granularity = project.instance.get_concurrency_config().pool_config.pool_granularity
    assert granularity is PoolGranularity.RUN
    taken = project.instance.event_log_storage.claim_concurrency_slot(POOL, "another run", "raw_daily_bars")
    assert taken.is_claimed
    project.run(rectangle_tags(["S0001"], ["S0001"], 2011, 2012))
    assert project.asked_for() == ["S0001"]


def test_symbols_are_grouped_as_they_stand_in_dagsters_list() -> None:
    known = ["B", "A", "D", "C", "F"]
    assert side_by_side(["A", "B", "C", "F", "NONE"], known) == [["B", "A"], ["C", "F"]]
    assert side_by_side([], known) == []
