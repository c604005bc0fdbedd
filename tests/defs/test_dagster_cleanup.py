"""Dagster's record of old runs goes; what the web UI shows of how things are stays."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from sqlalchemy import text

from tests.defs.conftest import OpenProject
from tests.defs.simulated import FIRST, LAST, Project
from tickstock_assets.definitions import defs
from tickstock_assets.defs.dagster_cleanup import Forgotten, forget_old_runs
from tickstock_assets.defs.partitions import rectangle_tags

pytestmark = [
    pytest.mark.tiers("embedded"),
    # Dagster's own code calls it.
    pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated"),
]

ASSETS = ["raw_daily_bars", "ohlcv_daily", "bar_features", "patterns"]


def months_pass(project: Project, months: int) -> None:
    """Let all runs have ended so long ago."""
    with project.instance.event_log_storage.index_connection() as connection:  # type: ignore[attr-defined]
        connection.execute(text("UPDATE runs SET end_time = end_time - :age"), {"age": months * 30 * 86_400})


def count(project: Project, query: str) -> int:
    with project.instance.event_log_storage.index_connection() as connection:  # type: ignore[attr-defined]
        return int(connection.execute(text(query)).scalar_one())


def forget(project: Project) -> Forgotten:
    return forget_old_runs(project.instance, datetime.now(UTC) - timedelta(days=90))


def results_of_checks(project: Project) -> dict[str, bool]:
    keys = list(defs.resolve_asset_graph().asset_check_keys)
    found = project.instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    return {key.to_user_string(): record.status.value == "SUCCEEDED" for key, record in found.items()}


def test_of_two_old_runs_the_first_goes_and_of_the_second_its_results_stay(open_project: OpenProject) -> None:
    project = open_project(companies=2, calls_per_day=25)
    tickers = project.simulator.market.tickers
    for _ in range(2):
        project.run(rectangle_tags(tickers, tickers, FIRST, LAST))
    first, second = (run.run_id for run in reversed(project.instance.get_runs()))
    materialized = {name: project.materialized(name) for name in ASSETS}
    checks = results_of_checks(project)
    assert all(len(partitions) == 4 for partitions in materialized.values())
    assert checks

    assert forget(project) == Forgotten(0, 0, 0)
    months_pass(project, 4)
    gone = forget(project)
    assert (gone.runs, gone.checks) == (1, len(checks))
    assert [run.run_id for run in project.instance.get_runs()] == [second]
    assert count(project, f"SELECT count(*) FROM event_logs WHERE run_id = '{first}'") == 0
    # One event a partition and asset is left, with its tags.
    kept = f"SELECT count(*) FROM event_logs WHERE run_id = '{second}'"
    assert count(project, kept) == 16
    assert (
        count(
            project,
            "SELECT count(*) FROM asset_event_tags t WHERE NOT EXISTS (SELECT FROM event_logs WHERE id = t.event_id)",
        )
        == 0
    )

    assert {name: project.materialized(name) for name in ASSETS} == materialized
    assert results_of_checks(project) == checks
    assert forget(project) == Forgotten(0, 0, 0)


def test_a_run_that_is_not_over_keeps_everything_however_old(open_project: OpenProject) -> None:
    project = open_project(companies=1, calls_per_day=25)
    run = project.instance.create_run_for_job(
        job_def=defs.resolve_job_def("daily_history"), status=dg.DagsterRunStatus.STARTED
    )
    project.instance.report_engine_event("still at it", run)
    months_pass(project, 40)
    assert forget(project) == Forgotten(0, 0, 0)


def test_one_that_is_killed_before_the_files_are_gone_takes_them_the_next_time(
    open_project: OpenProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = open_project(companies=1, calls_per_day=25)
    result = defs.resolve_job_def("dagster_cleanup").execute_in_process(instance=project.instance)
    months_pass(project, 4)
    logs, deleted = project.instance.compute_log_manager, []

    def delete(prefix: list[str]) -> None:
        deleted.extend(prefix)
        if len(deleted) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(logs, "delete_logs", delete)
    with pytest.raises(KeyboardInterrupt):
        forget(project)
    assert forget(project).runs == 1
    assert deleted == [result.run_id] * 2


def test_a_run_that_made_nothing_goes_with_its_files(open_project: OpenProject) -> None:
    project = open_project(companies=1, calls_per_day=25)
    result = defs.resolve_job_def("dagster_cleanup").execute_in_process(instance=project.instance)
    assert result.success
    logs = project.instance.compute_log_manager
    with logs.open_log_stream(
        [result.run_id, "compute_logs", "a_step"], dg._core.storage.compute_log_manager.ComputeIOType.STDOUT
    ) as stream:  # type: ignore[attr-defined]
        assert stream
        stream.write("said")
    months_pass(project, 4)
    assert forget(project).runs == 1
    assert project.instance.get_runs() == []
