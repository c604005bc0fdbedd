"""Whether the process of a run lives: asked of a code server that is gone; one that lives is asked in the chaos test."""

import json
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.launcher.base import WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG

from tests.defs.conftest import OpenProject
from tests.defs.simulated import Project
from tickstock_assets.definitions import defs
from tickstock_assets.defs.run_launcher import WatchedRunLauncher

pytestmark = pytest.mark.tiers("embedded")


def look(project: Project, **grpc: str) -> list[WorkerStatus]:
    """Return what three looks find of a started run, which a server at some address was asked for."""
    tags = {GRPC_INFO_TAG: json.dumps({"host": "localhost", **grpc})} if grpc else {}
    run = project.instance.create_run_for_job(
        job_def=defs.resolve_job_def("daily_history"), tags=tags, status=dg.DagsterRunStatus.STARTED
    )
    launcher = project.instance.run_launcher
    assert isinstance(launcher, WatchedRunLauncher)
    assert launcher.supports_check_run_worker_health
    return [launcher.check_run_worker_health(run).status for _ in range(3)]


def test_a_run_whose_server_is_gone_is_lost_at_the_second_look(open_project: OpenProject, tmp_path: Path) -> None:
    project = open_project(companies=1, calls_per_day=1)
    found = look(project, socket=str(tmp_path / "gone"))
    assert found == [WorkerStatus.RUNNING, WorkerStatus.NOT_FOUND, WorkerStatus.RUNNING]


def test_a_run_in_the_process_of_the_demo_is_not_taken_for_lost(open_project: OpenProject) -> None:
    assert set(look(open_project(companies=1, calls_per_day=1))) == {WorkerStatus.RUNNING}
