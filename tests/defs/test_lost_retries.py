"""Crashed runs that Dagster missed are told of once more, and no others."""

from datetime import UTC, datetime, timedelta, tzinfo

import dagster as dg
import pytest
from dagster._core.events import RunFailureReason
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, WILL_RETRY_TAG
from sqlalchemy import text

from tests.defs.conftest import OpenProject
from tests.defs.crashed_runs import crash
from tests.defs.simulated import Project
from tickstock_assets.defs import lost_retries as module
from tickstock_assets.defs import run_records
from tickstock_assets.defs.lost_retries import is_to_be_done_again, is_waited_for, lost_retries
from tickstock_assets.defs.request_standing import ending_of

pytestmark = pytest.mark.tiers("embedded")


def tick(project: Project) -> str:
    with dg.build_sensor_context(instance=project.instance) as context:
        said = lost_retries(context)
    assert isinstance(said, dg.SkipReason)
    return str(said.skip_message)


def a_day_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(hours=25)

    monkeypatch.setattr(module, "datetime", Tomorrow)


def times_told(project: Project, run: dg.DagsterRun) -> int:
    return len(project.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE))


def test_a_crash_that_dagster_missed_is_told_once_more_and_again_only_after_a_while(open_project: OpenProject) -> None:
    project = open_project(companies=1, calls_per_day=1)
    # As Dagster notes it when its code server does not answer.
    run = crash(project, noted="false")
    assert tick(project) == f"Told Dagster once more of {run.run_id[:8]}"
    assert times_told(project, run) == 2
    again = project.instance.get_run_by_id(run.run_id)
    assert again is not None
    assert again.tags[WILL_RETRY_TAG] == "true"
    assert tick(project) == "No crashed run was missed"


def test_a_crash_is_found_behind_many_others(open_project: OpenProject, monkeypatch: pytest.MonkeyPatch) -> None:
    project = open_project(companies=1, calls_per_day=1)
    monkeypatch.setattr(run_records, "RUNS_AT_ONCE", 2)
    missed = crash(project, noted="false")
    for _ in range(4):
        crash(project, RunFailureReason.STEP_FAILURE)
    assert tick(project) == f"Told Dagster once more of {missed.run_id[:8]}"


def test_nothing_else_is_told_again(open_project: OpenProject) -> None:
    project = open_project(companies=1, calls_per_day=1)
    just_now = crash(project, ago=timedelta(seconds=5))
    step_failed = crash(project, RunFailureReason.STEP_FAILURE)
    of_the_demo = crash(project, origin=None)
    done_again = crash(project)
    child = crash(project, RunFailureReason.STEP_FAILURE, parent=done_again)
    assert tick(project) == "No crashed run was missed"
    assert {times_told(project, run) for run in (just_now, step_failed, of_the_demo, done_again, child)} == {1}


def test_one_that_has_crashed_too_often_is_left_alone(open_project: OpenProject) -> None:
    project = open_project(companies=1, calls_per_day=1)
    run = crash(project)
    for _ in range(project.instance.run_retries_max_retries):
        assert is_to_be_done_again(project.instance, run)
        run = crash(project, parent=run)
    assert not is_to_be_done_again(project.instance, run)
    assert tick(project) == "No crashed run was missed"


def test_one_that_had_waited_and_worked_for_long_is_done_again_like_others(open_project: OpenProject) -> None:
    project = open_project(companies=1, calls_per_day=1)
    run = crash(project, noted="false")
    with project.instance.run_storage.connect() as connection:  # type: ignore[attr-defined]
        connection.execute(text("UPDATE runs SET create_timestamp = create_timestamp - interval '3 days'"))
    assert is_waited_for(project.instance, run)
    assert tick(project) == f"Told Dagster once more of {run.run_id[:8]}"


@pytest.mark.parametrize("noted", ["true", "false"])
def test_what_was_not_done_again_for_a_day_is_a_failure_like_others(
    open_project: OpenProject, monkeypatch: pytest.MonkeyPatch, noted: str
) -> None:
    project = open_project(companies=1, calls_per_day=1)
    run, step_failed = crash(project, noted=noted), crash(project, RunFailureReason.STEP_FAILURE, noted="false")
    assert ending_of(project.instance, run) is None
    a_day_passes(monkeypatch)
    assert not is_to_be_done_again(project.instance, run)
    assert tick(project) == f"Nobody does {run.run_id[:8]} again"
    given_up = project.instance.get_run_record_by_id(run.run_id)
    assert given_up is not None
    assert given_up.dagster_run.tags[WILL_RETRY_TAG] == "false"
    # Who reads what has changed, finds it once more, and now as one that has ended.
    assert datetime.now(UTC) - given_up.update_timestamp.replace(tzinfo=UTC) < timedelta(minutes=1)
    assert ending_of(project.instance, given_up.dagster_run) is not None
    assert tick(project) == "No crashed run was missed"
    assert {times_told(project, one) for one in (run, step_failed)} == {1}


def test_one_that_was_done_again_is_nobody_s_failure_however_old(
    open_project: OpenProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = open_project(companies=1, calls_per_day=1)
    run = crash(project)
    child = crash(project, RunFailureReason.STEP_FAILURE, parent=run, noted="false")
    # As Dagster does.
    project.instance.add_run_tags(run.run_id, {AUTO_RETRY_RUN_ID_TAG: child.run_id})
    a_day_passes(monkeypatch)
    assert tick(project) == "No crashed run was missed"
    done_again = project.instance.get_run_by_id(run.run_id)
    assert done_again is not None
    assert ending_of(project.instance, done_again) is None
