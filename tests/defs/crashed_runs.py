"""Runs whose process was lost, as Dagster has them in its storage."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.events import JobFailureData, RunFailureReason
from dagster._core.remote_origin import InProcessCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.storage.tags import PARENT_RUN_ID_TAG, RETRY_NUMBER_TAG, ROOT_RUN_ID_TAG, WILL_RETRY_TAG
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from sqlalchemy import text

from tests.defs.simulated import Project
from tickstock_assets.definitions import defs

LOCATION = InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name="tickstock_assets.definitions"))
ORIGIN = RemoteJobOrigin(RemoteRepositoryOrigin(LOCATION, "__repository__"), "daily_history")


def crash(
    project: Project,
    reason: RunFailureReason | None = RunFailureReason.START_TIMEOUT,
    *,
    ago: timedelta = timedelta(minutes=2),
    origin: RemoteJobOrigin | None = ORIGIN,
    parent: dg.DagsterRun | None = None,
    noted: str = "true",
    tags: Mapping[str, str] | None = None,
) -> dg.DagsterRun:
    """Enter a run of the daemon's that has failed, some time ago, of which Dagster has noted whether it does it again."""
    job = defs.resolve_job_def("daily_history")
    root = parent and (parent.root_run_id or parent.run_id)
    again = {PARENT_RUN_ID_TAG: parent.run_id, ROOT_RUN_ID_TAG: str(root), RETRY_NUMBER_TAG: "1"} if parent else {}
    run = project.instance.create_run_for_job(
        job_def=job,
        status=dg.DagsterRunStatus.STARTED,
        remote_job_origin=origin,
        job_code_origin=None,
        parent_run_id=parent and parent.run_id,
        root_run_id=root,
        tags={**again, **(tags or {})},
    )
    project.instance.report_run_failed(run, job_failure_data=JobFailureData(error=None, failure_reason=reason))
    project.instance.add_run_tags(run.run_id, {WILL_RETRY_TAG: noted})
    with project.instance.run_storage.connect() as connection:  # type: ignore[attr-defined]
        connection.execute(
            text("UPDATE runs SET update_timestamp = :moment WHERE run_id = :run"),
            {"moment": (datetime.now(UTC) - ago).replace(tzinfo=None), "run": run.run_id},
        )
    crashed = project.instance.get_run_by_id(run.run_id)
    assert crashed is not None
    return crashed
