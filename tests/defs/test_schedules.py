"""What a tick of the schedules that follow the sessions starts, and when: around the Fourth of July 2012 in New York."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, MAX_RETRIES_TAG
from sqlalchemy import text

from tests.defs.conftest import OpenProject
from tests.defs.simulated import Project
from tests.loading.simulated import alpha_vantage
from tests.loading.simulated import at as clock_at
from tickstock_assets.definitions import defs
from tickstock_assets.defs import session_schedules
from tickstock_assets.defs.partitions import RANGE_END_TAG, RANGE_START_TAG, known_symbols
from tickstock_assets.defs.request_runs import ATTEMPT_TAG
from tickstock_assets.defs.session_schedules import CLOSE_TAG, DAILY, MINUTES, SESSION_TAG, UPDATE_TAG, Update, runs_due
from tickstock_assets.loading.lineup import Lineup
from tickstock_assets.providers.sample import SampleProvider
from tickstock_assets.storage import sessions

pytestmark = [
    pytest.mark.tiers("embedded"),
    # Dagster's own code calls it.
    pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated"),
]

# The third is a half day: it closes at 13:00 in New York, and what trades after it ends at 17:00. Vendors publish the day
# half an hour later.
HALF_DAY_IS_THERE = "2012-07-03 21:30"
CLOSED_AT = "2012-07-03 17:00 UTC"
# Runs that are wanted, or why there are none.
type Tick = Callable[..., Any]


@pytest.fixture
def project(open_project: OpenProject) -> Project:
    return open_project(companies=3, calls_per_day=1000)


@pytest.fixture
def tick(project: Project, monkeypatch: pytest.MonkeyPatch) -> Tick:
    """A tick at a moment, UTC, at which the vendor's clock stands too."""

    def at(moment: str, update: Update = DAILY) -> list[dg.RunRequest] | str:
        lineup = Lineup([alpha_vantage(project.simulator, clock=clock_at(moment))])
        monkeypatch.setattr(session_schedules, "lineup", lambda: lineup)
        found = list(runs_due(project.instance, update, clock_at(moment)()))
        if isinstance(found[0], dg.SkipReason):
            assert len(found) == 1
            return str(found[0].skip_message)
        return [one for one in found if isinstance(one, dg.RunRequest)]

    return at


def make_run(
    project: Project, wanted: dg.RunRequest, status: dg.DagsterRunStatus, job: str = "nightly_update", **tags: str
) -> dg.DagsterRun:
    """Enter a run as the daemon does; nothing is done for it."""
    return project.instance.create_run_for_job(
        job_def=defs.resolve_job_def(job),
        tags={**wanted.tags, **tags},
        status=status,
        asset_selection=frozenset(wanted.asset_selection) if wanted.asset_selection else None,
    )


def end(project: Project, run: dg.DagsterRun, moment: datetime) -> None:
    """Let a run have failed at a moment."""
    project.instance.report_run_failed(run)
    storage = project.instance.event_log_storage
    with storage.index_connection() as connection:  # type: ignore[attr-defined]
        connection.execute(
            text("UPDATE runs SET end_time = :at WHERE run_id = :id"), {"at": moment.timestamp(), "id": run.run_id}
        )


def store_until(project: Project, dataset: str, **last_days: str) -> None:
    """Note of symbols that bars are stored up to a day, as a load does."""
    with project.engine.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO stored_windows
                    (provider, dataset, symbol, window_start, window_end, source_version, stored_at)
                VALUES ('polygon', :dataset, :symbol, '1998-01-01', CAST(:last AS date), '1', now())
            """),
            [{"dataset": dataset, "symbol": symbol, "last": last} for symbol, last in last_days.items()],
        )


def range_of(wanted: dg.RunRequest) -> tuple[str, str]:
    return wanted.tags[RANGE_START_TAG], wanted.tags[RANGE_END_TAG]


def test_a_half_day_is_loaded_once_it_can_be_had_and_only_once(project: Project, tick: Tick) -> None:
    (before,) = tick("2012-07-03 21:15")
    assert before.tags[SESSION_TAG] == "XNYS 2012-07-02"
    (wanted,) = tick(HALF_DAY_IS_THERE)
    assert wanted.tags == {
        RANGE_START_TAG: "S0001|2012",
        RANGE_END_TAG: "S0003|2012",
        CLOSE_TAG: CLOSED_AT,
        SESSION_TAG: "XNYS 2012-07-03",
        UPDATE_TAG: "1d",
        ATTEMPT_TAG: "1",
    }
    assert wanted.asset_selection is None
    # Killed between tick and run, it asks for the same.
    assert [(again.run_key, again.tags) for again in tick("2012-07-03 21:45")] == [(wanted.run_key, wanted.tags)]
    make_run(project, wanted, dg.DagsterRunStatus.STARTED)
    said = tick("2012-07-03 22:00")
    assert said == (
        "XNYS 2012-07-03, close at 2012-07-03 17:00 UTC (13:00 in America/New_York): started; "
        "next XNYS 2012-07-05, close at 2012-07-05 20:00 UTC (16:00 in America/New_York), loaded 30 minutes later at the earliest"
    )
    assert tick("2012-07-04 23:00") == said


def test_a_run_of_a_session_brings_its_bars_and_what_follows(project: Project, tick: Tick) -> None:
    (wanted,) = tick(HALF_DAY_IS_THERE)
    project.run(wanted.tags, wanted.job_name or "nightly_update")
    assert project.rows("SELECT max(date), count(DISTINCT symbol) FROM ohlcv_daily") == [(date(2012, 12, 31), 3)]
    assert project.materialized("patterns") == {f"S000{number}|2012" for number in (1, 2, 3)}
    assert project.instance.get_latest_materialization_event(dg.AssetKey("data_gaps")) is not None
    assert isinstance(tick("2012-07-03 22:00"), str)


def test_after_a_week_in_which_nothing_ran_the_newest_session_is_loaded(project: Project, tick: Tick) -> None:
    (wanted,) = tick(HALF_DAY_IS_THERE)
    make_run(project, wanted, dg.DagsterRunStatus.SUCCESS)
    (later,) = tick("2012-07-16 12:00")
    assert later.tags[SESSION_TAG] == "XNYS 2012-07-13"


def test_a_session_after_new_year_covers_what_vendors_still_correct_in_the_old_one(tick: Tick) -> None:
    (wanted,) = tick("2012-01-05 12:00")
    assert (wanted.tags[SESSION_TAG], wanted.tags[RANGE_START_TAG]) == ("XNYS 2012-01-04", "S0001|2011")


def test_a_session_that_a_person_closed_is_not_waited_for(project: Project, tick: Tick) -> None:
    with project.engine.begin() as connection:
        sessions.close(connection, "XNYS", date(2012, 7, 3), "a storm", "somebody")
    (wanted,) = tick(HALF_DAY_IS_THERE)
    assert wanted.tags[SESSION_TAG] == "XNYS 2012-07-02"


def test_a_session_that_a_person_shortened_is_loaded_earlier(
    project: Project, tick: Tick, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The delay is longer than what the vendor needs, so that the close decides.
    monkeypatch.setenv("TICKSTOCK_UPDATE_DELAY_MINUTES", "600")
    session_schedules.settings.cache_clear()
    (wanted,) = tick("2012-07-07 04:00")
    assert wanted.tags[SESSION_TAG] == "XNYS 2012-07-05"
    with project.engine.begin() as connection:
        closed = datetime(2012, 7, 6, 17, tzinfo=UTC)
        sessions.shorten(connection, "XNYS", date(2012, 7, 6), (None, closed), reason="a storm", author="somebody")
    (wanted,) = tick("2012-07-07 04:00")
    assert (wanted.tags[SESSION_TAG], wanted.tags[CLOSE_TAG]) == ("XNYS 2012-07-06", "2012-07-06 17:00 UTC")


def test_symbols_that_are_not_active_are_left_out_and_what_is_for_all_is_made_once(
    project: Project, tick: Tick
) -> None:
    with project.engine.begin() as connection:
        connection.execute(text("UPDATE symbols SET active = false WHERE symbol = 'S0002'"))
    first, last = tick(HALF_DAY_IS_THERE)
    assert [one.tags[RANGE_START_TAG] for one in (first, last)] == ["S0001|2012", "S0003|2012"]
    history = {"raw_daily_bars", "ohlcv_daily", "bar_features", "patterns"}
    chosen = [{key.to_user_string() for key in one.asset_selection or ()} for one in (first, last)]
    assert chosen == [history | {"symbols", "sessions", "splits", "dividends"}, history | {"data_gaps"}]
    # Killed after the first of the two was made, it asks for the other.
    make_run(project, first, dg.DagsterRunStatus.STARTED)
    (other,) = tick("2012-07-03 21:45")
    assert (other.run_key, other.tags, other.asset_selection) == (last.run_key, last.tags, last.asset_selection)


def test_who_is_delisted_or_comes_back_after_a_session_was_begun_starts_nothing_twice(
    project: Project, tick: Tick
) -> None:
    def trades(symbol: str, *, active: bool) -> None:
        with project.engine.begin() as connection:
            values = {"active": active, "symbol": symbol}
            connection.execute(text("UPDATE symbols SET active = :active WHERE symbol = :symbol"), values)

    trades("S0003", active=False)
    (wanted,) = tick(HALF_DAY_IS_THERE)
    make_run(project, wanted, dg.DagsterRunStatus.STARTED)
    # Of the two that the run has, the first is gone and the last remains.
    trades("S0001", active=False)
    assert isinstance(tick("2012-07-03 22:00"), str)
    # One that it has not comes back: its bars, but nothing for all once more.
    trades("S0003", active=True)
    (added,) = tick("2012-07-03 22:15")
    assert (added.tags[RANGE_START_TAG], added.tags[RANGE_END_TAG]) == ("S0003|2012", "S0003|2012")
    assert {key.to_user_string() for key in added.asset_selection or ()} == {
        "raw_daily_bars", "ohlcv_daily", "bar_features", "patterns"
    }  # fmt: skip
    make_run(project, added, dg.DagsterRunStatus.SUCCESS)
    assert isinstance(tick("2012-07-03 22:30"), str)


def test_exchanges_that_close_together_are_one_run(project: Project, tick: Tick) -> None:
    with project.engine.begin() as connection:
        connection.execute(text("UPDATE symbols SET exchange = 'XNAS' WHERE symbol = 'S0002'"))
    (wanted,) = tick(HALF_DAY_IS_THERE)
    assert wanted.tags[SESSION_TAG] == "XNAS XNYS 2012-07-03"
    assert (wanted.tags[RANGE_START_TAG], wanted.tags[RANGE_END_TAG]) == ("S0001|2012", "S0003|2012")


def test_a_failed_run_is_done_again_after_an_hour_twice(project: Project, tick: Tick) -> None:
    moment = clock_at(HALF_DAY_IS_THERE)()
    for attempt in ("1", "2", "3"):
        (wanted,) = tick(f"{moment:%Y-%m-%d %H:%M}")
        assert wanted.tags[ATTEMPT_TAG] == attempt
        # Else the daemon would do such a run again.
        run = make_run(project, wanted, dg.DagsterRunStatus.STARTED, **{MAX_RETRIES_TAG: "0"})
        end(project, run, moment)
        assert isinstance(tick(f"{moment + timedelta(minutes=45):%Y-%m-%d %H:%M}"), str)
        moment += timedelta(hours=1)
    assert isinstance(tick(f"{moment:%Y-%m-%d %H:%M}"), str)


def test_a_crashed_run_that_dagster_does_again_is_left_to_it(project: Project, tick: Tick) -> None:
    (wanted,) = tick(HALF_DAY_IS_THERE)
    crashed = make_run(project, wanted, dg.DagsterRunStatus.FAILURE)
    again = make_run(project, wanted, dg.DagsterRunStatus.STARTED)
    project.instance.add_run_tags(crashed.run_id, {AUTO_RETRY_RUN_ID_TAG: again.run_id})
    assert isinstance(tick("2012-07-04 12:00"), str)


def test_minutes_are_updated_of_symbols_that_have_some(project: Project, tick: Tick) -> None:
    assert tick(HALF_DAY_IS_THERE, MINUTES) == "No symbol is watched for bars of 1m; `tickstock load` adds some."
    store_until(project, "minute_bars", S0002="2012-07-02")
    (wanted,) = tick(HALF_DAY_IS_THERE, MINUTES)
    assert range_of(wanted) == ("S0002|2012-06", "S0002|2012-07")


@pytest.mark.parametrize(
    ("update", "dataset", "loaded_until", "corners"),
    [
        # Days within ten of the last one may still be corrected: from 2 January on, and from 30 December 2011 on.
        (MINUTES, "minute_bars", "2012-01-12", ("S0002|2012-01", "S0002|2012-03")),
        (DAILY, "daily_bars", "2012-01-09", ("S0002|2011", "S0002|2012")),
    ],
)
def test_what_was_missed_between_a_load_and_the_first_update_is_loaded(
    project: Project, tick: Tick, update: Update, dataset: str, loaded_until: str, corners: tuple[str, str]
) -> None:
    store_until(project, dataset, S0002=loaded_until)
    wanted = {one.tags[RANGE_START_TAG].partition("|")[0]: one for one in tick("2012-03-05 12:00", update)}
    assert wanted["S0002"].tags[SESSION_TAG] == "XNYS 2012-03-02"
    assert range_of(wanted["S0002"]) == corners


def test_what_was_updated_is_believed_no_further_than_it_is_stored(project: Project, tick: Tick) -> None:
    # A database that was restored from an older backup, beside a record of runs that was not.
    store_until(project, "minute_bars", S0002="2012-07-02")
    (wanted,) = tick(HALF_DAY_IS_THERE, MINUTES)
    make_run(project, wanted, dg.DagsterRunStatus.SUCCESS, "minute_history")
    with project.engine.begin() as connection:
        connection.execute(text("UPDATE stored_windows SET window_end = '2012-04-30'"))
    (wanted,) = tick("2012-07-16 12:00", MINUTES)
    assert range_of(wanted) == ("S0002|2012-04", "S0002|2012-07")


def test_who_has_missed_more_than_its_neighbours_does_not_drag_them_back(
    project: Project, tick: Tick, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_until(project, "minute_bars", S0001="2012-07-02", S0002="2012-03-30", S0003="2012-06-29")
    assert [range_of(one) for one in tick(HALF_DAY_IS_THERE, MINUTES)] == [
        ("S0001|2012-06", "S0001|2012-07"),
        ("S0002|2012-03", "S0002|2012-07"),
        ("S0003|2012-06", "S0003|2012-07"),
    ]
    # Where it would take too many runs they go back together.
    monkeypatch.setattr(session_schedules, "RUNS_MORE", 1)
    (wanted,) = tick(HALF_DAY_IS_THERE, MINUTES)
    assert range_of(wanted) == ("S0001|2012-03", "S0003|2012-07")


@pytest.mark.parametrize(
    ("update", "dataset", "loaded_until", "first"),
    [
        (MINUTES, "minute_bars", "2010-03-01", "S0001|2011-07"),
        (DAILY, "daily_bars", "2004-03-01", "S0001|2004"),
        (DAILY, "daily_bars", "1998-03-02", "S0001|2000"),
    ],
)
def test_of_minutes_a_year_is_caught_up_with_and_of_days_all_that_are_partitions(
    project: Project, tick: Tick, update: Update, dataset: str, loaded_until: str, first: str
) -> None:
    store_until(project, dataset, S0001=loaded_until)
    assert tick(HALF_DAY_IS_THERE, update)[0].tags[RANGE_START_TAG] == first


def test_what_was_missed_is_remembered_by_symbol_whatever_was_loaded_besides(project: Project, tick: Tick) -> None:
    # Of the third nothing came since the first session of the year; and somebody has loaded something by hand.
    (early,) = tick("2012-01-04 12:00")
    make_run(project, early, dg.DagsterRunStatus.SUCCESS)
    (wanted,) = tick(HALF_DAY_IS_THERE)
    make_run(project, wanted, dg.DagsterRunStatus.SUCCESS, **{RANGE_END_TAG: "S0002|2012"})
    project.instance.create_run_for_job(
        job_def=defs.resolve_job_def("nightly_update"), status=dg.DagsterRunStatus.SUCCESS
    )
    known = known_symbols(project.instance)
    updated = session_schedules._updated_before(project.instance, DAILY, known, set(known))
    assert updated == {"S0001": date(2012, 7, 3), "S0002": date(2012, 7, 3), "S0003": date(2012, 1, 3)}


def test_a_file_that_has_ended_has_no_session_to_wait_for(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_schedules, "lineup", lambda: Lineup([SampleProvider()]))
    (said,) = runs_due(project.instance, DAILY, datetime.now(UTC))
    assert isinstance(said, dg.SkipReason)
    assert said.skip_message == "The data of sample ends on 2013-03-01: there is no session to wait for."


def test_every_schedule_counts_in_utc_and_runs_by_itself() -> None:
    for schedule in defs.schedules or ():
        assert isinstance(schedule, dg.ScheduleDefinition)
        assert schedule.execution_timezone == "UTC", schedule.name
        assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING, schedule.name


def test_what_dagster_evaluates_is_what_is_tested_above(project: Project, tick: Tick) -> None:
    (wanted,) = tick(HALF_DAY_IS_THERE)
    with dg.build_schedule_context(project.instance, scheduled_execution_time=clock_at(HALF_DAY_IS_THERE)()) as context:
        (found,) = session_schedules.UPDATE_AFTER_SESSIONS.evaluate_tick(context).run_requests or ()
    assert found.run_key == wanted.run_key
    assert found.tags.items() >= wanted.tags.items()
