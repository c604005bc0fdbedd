"""Requests become runs when they are due, once, and are closed when their runs have ended."""

from datetime import UTC, date, datetime

import dagster as dg
import pytest
from dagster._core.events import StepMaterializationData
from dagster._core.instance.config import PoolGranularity
from dagster._core.storage.tags import RETRY_NUMBER_TAG, RUN_KEY_TAG, SENSOR_NAME_TAG

from tests.defs.conftest import OpenProject
from tests.defs.crashed_runs import crash
from tests.defs.simulated import FIRST, KEY, LAST, Project
from tickstock_assets.definitions import defs
from tickstock_assets.defs import request_runs, sensors
from tickstock_assets.defs.assets.raw import POOL
from tickstock_assets.defs.partitions import BY_MONTH, RANGE_END_TAG, RANGE_START_TAG, rectangle_tags, side_by_side
from tickstock_assets.defs.pools import HEAVY_WRITES
from tickstock_assets.defs.request_runs import ATTEMPT_TAG, HISTORIES, REQUEST_TAG, TRADES
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
    return {**wanted.tags, RUN_KEY_TAG: str(wanted.run_key), SENSOR_NAME_TAG: "due_requests"}


def make_run(
    project: Project,
    wanted: dg.RunRequest,
    status: dg.DagsterRunStatus = dg.DagsterRunStatus.STARTED,
    parent: dg.DagsterRun | None = None,
    **tags: str,
) -> dg.DagsterRun:
    """Enter a run as the daemon does; nothing is done for it."""
    return project.instance.create_run_for_job(
        job_def=defs.resolve_job_def("daily_history"),
        tags={**tags_of(wanted), **tags},
        status=status,
        parent_run_id=parent and parent.run_id,
        root_run_id=parent and parent.run_id,
    )


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
        project.run(rectangle_tags(tickers, tickers, FIRST, LAST))
    assert len(project.asked_for()) == 25
    ((request,),) = project.rows("SELECT id::text FROM backfill_requests")

    assert tick(project) == []
    assert str(find(project, str(request)).status) == "requested"

    project.a_day_passes()
    (wanted,) = tick(project)
    assert wanted.job_name == "daily_history"
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


def test_a_request_of_minutes_becomes_a_run_of_months_that_loads_and_rolls_them_up(open_project: OpenProject) -> None:
    project = open_project(companies=1, calls_per_day=25)
    with project.engine.begin() as connection:
        request = backfill_requests.enter(connection, ["S0001"], "1m", date(2012, 7, 2), date(2012, 8, 1))
    (wanted,) = tick(project)
    assert wanted.job_name == "minute_history"
    assert wanted.tags == {
        RANGE_START_TAG: "S0001|2012-07",
        RANGE_END_TAG: "S0001|2012-08",
        REQUEST_TAG: request,
        ATTEMPT_TAG: "1",
    }
    project.run(tags_of(wanted), wanted.job_name)
    assert tick(project) == []
    assert find(project, request).status == "succeeded"
    assert project.materialized("ohlcv_1min") == {"S0001|2012-07", "S0001|2012-08"}
    # 21 sessions in July, the third a half day, and 23 in August; nobody's daily bars are loaded.
    assert project.rows("SELECT source, count(*) FROM ohlcv_daily GROUP BY source") == [("rollup:alpha_vantage", 44)]
    assert project.rows("SELECT count(*) FROM touched_buckets WHERE intraday_at IS NULL OR daily_at IS NULL") == [(0,)]


def test_minutes_that_a_day_has_no_calls_for_are_a_request_of_minutes(open_project: OpenProject) -> None:
    project = open_project(companies=1, calls_per_day=1)
    tags = rectangle_tags(["S0001"], ["S0001"], date(2012, 7, 1), date(2012, 8, 1), BY_MONTH)
    with pytest.raises(TickstockError, match="continues at"):
        project.run(tags, "minute_history")
    assert project.rows("SELECT symbols, timeframe::text, start_date, end_date FROM backfill_requests") == [
        (["S0001"], "1m", date(2012, 7, 1), date(2012, 8, 31))
    ]
    assert len(project.materialized("raw_minute_bars")) == 1
    assert project.materialized("ohlcv_1min") == set()


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
    # Two years of two symbols, of four.
    assert find(project, request).progress == 0.5


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
        (["S0001"], "5m", (2011, 2012), "expected timeframe 1d or 1m, found 5m, which is rolled up from minutes"),
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


def test_what_a_person_cancelled_is_not_begun_again_when_a_budget_ended_another_run(
    open_project: OpenProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = open_project(companies=2, calls_per_day=1)
    monkeypatch.setattr(request_runs, "SYMBOLS_A_RUN", 1)
    # Of a day's only call nothing is left.
    project.run(rectangle_tags(["S0001"], project.simulator.market.tickers, FIRST, LAST))
    request = enter(project)
    first, second = tick(project)
    with pytest.raises(TickstockError, match="continues at"):
        project.run(tags_of(second))
    make_run(project, first, dg.DagsterRunStatus.CANCELED)
    assert tick(project) == []
    assert find(project, request).status == "cancelled"


def test_once_a_person_cancels_a_run_none_is_started_behind_it_and_the_request_ends_with_the_others(
    open_project: OpenProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = open_project(companies=4, calls_per_day=25)
    monkeypatch.setattr(request_runs, "SYMBOLS_A_RUN", 1)
    monkeypatch.setattr(sensors, "RUNS_A_TICK", 2)
    request = enter(project)
    first, second = tick(project)
    stopped = make_run(project, first)
    make_run(project, second)
    # Its process takes its time to end.
    project.instance.report_run_canceling(stopped)
    assert tick(project) == []
    project.instance.report_run_canceled(stopped)
    assert tick(project) == []
    assert find(project, request).status == "running"
    make_run(project, second, dg.DagsterRunStatus.SUCCESS)
    assert tick(project) == []
    ended = find(project, request)
    why = f"run {stopped.run_id[:8]} was cancelled; 2 of its 4 runs were not started any more"
    assert (ended.status, ended.error) == ("cancelled", why)


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
    crashed = crash(project, tags=tags_of(wanted))
    assert tick(project) == []
    assert find(project, request).status == "running"
    # Made and not queued: Dagster finds the crashed one by the key, and would take asking for done.
    make_run(project, wanted, dg.DagsterRunStatus.NOT_STARTED, crashed, **{RETRY_NUMBER_TAG: "1"})
    assert tick(project) == []
    make_run(project, wanted, dg.DagsterRunStatus.SUCCESS)
    assert tick(project) == []
    assert find(project, request).status == "succeeded"


def test_a_cancelled_requests_runs_are_stopped_whoever_cancelled_it(open_project: OpenProject) -> None:
    project = open_project(companies=3, calls_per_day=25)
    request = enter(project, "S0001", "S0003")
    first, second = tick(project)
    at_work, not_queued = make_run(project, first), make_run(project, second, dg.DagsterRunStatus.NOT_STARTED)
    # What a person has started again is his own.
    again = make_run(project, first, parent=at_work)
    with project.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE backfill_requests SET status = 'cancelled'")
    assert tick(project) == []
    stand = {run.run_id: run.status for run in project.instance.get_runs()}
    # The process of a run that is at work is told to end; Dagster notes when it has.
    assert stand == {
        at_work.run_id: dg.DagsterRunStatus.CANCELING,
        not_queued.run_id: dg.DagsterRunStatus.CANCELED,
        again.run_id: dg.DagsterRunStatus.STARTED,
    }
    assert find(project, request).status == "cancelled"


def test_a_run_that_was_deleted_is_asked_for_again(open_project: OpenProject) -> None:
    project = open_project(companies=1, calls_per_day=25)
    enter(project)
    (wanted,) = tick(project)
    run = make_run(project, wanted)
    assert tick(project) == []
    project.instance.delete_run(run.run_id)
    (again,) = tick(project)
    assert (again.run_key, again.tags) == (wanted.run_key, wanted.tags)


def test_a_run_whose_process_was_lost_gives_its_request_the_reason(open_project: OpenProject) -> None:
    project = open_project(companies=1, calls_per_day=25)
    request = enter(project)
    (wanted,) = tick(project)
    # Else Dagster would start it again, and it would be waited for.
    run = make_run(project, wanted, **{"dagster/max_retries": "0"})
    project.instance.report_run_failed(run, "The process of this run is lost.")
    assert tick(project) == []
    failed = find(project, request)
    assert (failed.status, failed.error) == ("failed", f"run {run.run_id[:8]}: The process of this run is lost.")


def test_a_request_is_as_far_as_the_partitions_that_its_runs_have_made(open_project: OpenProject) -> None:
    project = open_project(companies=2, calls_per_day=25)
    request = enter(project)
    (wanted,) = tick(project)
    run = make_run(project, wanted)
    for asset, keys in (
        ("raw_daily_bars", ["S0001|2011", "S0001|2012", "S0002|2011"]),
        ("ohlcv_daily", ["S0001|2011"]),
    ):
        for key in [*keys, *keys]:  # one that was made twice is one
            made = dg.AssetMaterialization(asset, partition=key)
            event = dg.DagsterEvent(
                "ASSET_MATERIALIZATION", run.job_name, event_specific_data=StepMaterializationData(made)
            )
            project.instance.report_dagster_event(event, run.run_id)
    assert tick(project) == []
    # Of four assets by four partitions.
    assert find(project, request).progress == 4 / 16


def test_the_assets_that_are_counted_are_those_of_the_jobs_that_have_the_partitions() -> None:
    for history in (*HISTORIES.values(), TRADES):
        job = defs.resolve_job_def(history.job)
        graph = job.asset_layer.asset_graph
        of_grid = {
            key.to_user_string()
            for key in job.asset_layer.executable_asset_keys
            if graph.get(key).partitions_def == history.grid.definition
        }
        assert set(history.assets) == of_grid
        order = [key.to_user_string() for key in graph.toposorted_asset_keys if key.to_user_string() in of_grid]
        assert order[0] == history.assets[0]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("end_date = 'infinity'", "expected a range within 2000 to 2013, found 2011 to 9999"),
        ("start_date = '0044-03-15 BC'", "expected a range within 2000 to 2013"),
        ("symbols = '{\"S0001|2011\"}'", "found 1 that are not: S0001|2011"),
        ("timeframe = '1h'", "expected timeframe 1d or 1m, found 1h"),
    ],
)
@pytest.mark.parametrize("status", ["requested", "running"])
def test_a_row_that_was_edited_to_nonsense_fails_with_a_sentence_and_the_next_goes_on(
    open_project: OpenProject, change: str, complaint: str, status: str
) -> None:
    project = open_project(companies=2, calls_per_day=25)
    request = enter(project, "S0001")
    with project.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE backfill_requests SET {change}, status = '{status}'")
    enter(project, "S0002")
    (wanted,) = tick(project)
    assert wanted.tags[RANGE_START_TAG] == "S0002|2011"
    failed = find(project, request)
    assert failed.status == "failed"
    assert complaint in str(failed.error)


def test_a_tick_with_nothing_to_do_says_what_it_waits_for(open_project: OpenProject) -> None:
    project = open_project(companies=1, calls_per_day=25)
    with project.engine.begin() as connection:
        until = datetime(2199, 1, 1, tzinfo=UTC)
        backfill_requests.enter(connection, ["S0001"], "1d", FIRST, LAST, not_before=until)
    with dg.build_sensor_context(instance=project.instance) as context:
        result = due_requests(context)
    assert isinstance(result, dg.SensorResult)
    said = result.skip_reason
    assert isinstance(said, dg.SkipReason)
    assert said.skip_message == (
        "No request is due: 0 at work, 1 waiting for a budget, the first until 2199-01-01 00:00 UTC"
    )


def test_the_pool_has_its_limit_from_the_first_tick_and_a_persons_limit_stays(open_project: OpenProject) -> None:
    project = open_project(companies=1, calls_per_day=25)
    storage = project.instance.event_log_storage
    assert POOL not in storage.get_concurrency_keys()
    tick(project)
    assert {pool.name: pool.limit for pool in storage.get_pool_limits()} == {POOL: 1, HEAVY_WRITES: 1}
    storage.set_concurrency_slots(POOL, 3)
    tick(project)
    assert {pool.name: pool.limit for pool in storage.get_pool_limits()} == {POOL: 3, HEAVY_WRITES: 1}


def test_a_run_in_this_process_is_not_held_up_by_a_full_pool(open_project: OpenProject) -> None:
    project = open_project(companies=1, calls_per_day=25)
    tick(project)
    # Else the run below would wait for ever.
    granularity = project.instance.get_concurrency_config().pool_config.pool_granularity
    assert granularity is PoolGranularity.RUN
    taken = project.instance.event_log_storage.claim_concurrency_slot(POOL, "another run", "raw_daily_bars")
    assert taken.is_claimed
    project.run(rectangle_tags(["S0001"], ["S0001"], FIRST, LAST))
    assert project.asked_for() == ["S0001"]


def test_symbols_are_grouped_as_they_stand_in_dagsters_list() -> None:
    known = ["B", "A", "D", "C", "F"]
    assert side_by_side(["A", "B", "C", "F", "NONE"], known) == [["B", "A"], ["C", "F"]]
    assert side_by_side([], known) == []
