"""Crashed runs that Dagster meant to do again and did not: it is told of their failure once more.

Dagster does a crashed run again when it reads of the failure, which it does once. Where its database or the code server is
away at that very moment, it leaves the run, or even notes that it is not to be done again.

Elsewhere: how often a run is done again (dagster.yaml), and what else tries again (retries.py).
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster import DagsterEventType
from dagster._core.events import RunFailureReason
from dagster._core.execution.backfill import BULK_ACTION_TERMINAL_STATUSES
from dagster._core.execution.retries import auto_reexecution_should_retry_run
from dagster._core.storage.tags import (
    AUTO_RETRY_RUN_ID_TAG,
    BACKFILL_ID_TAG,
    RUN_FAILURE_REASON_TAG,
    WILL_RETRY_TAG,
)

from tickstock_assets.defs.run_records import newest_first

# Dagster reads every 5 s; one that it could not do again now, it is told of again as long afterwards.
PATIENCE = timedelta(seconds=60)
# What stays broken longer is for a person.
GIVEN_UP_AFTER = timedelta(days=1)
GIVEN_UP_TAG = "tickstock/not_done_again"
RUNS_A_TICK = 1000


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Has crashed runs done again that Dagster missed while its database or code server was away.",
)
def lost_retries(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Tell Dagster of each such failure once more; one that is killed in between tells again, and Dagster makes no run twice."""
    told, given_up = [], []
    for run in list(_failed_and_quiet(context.instance)):
        if is_to_be_done_again(context.instance, run):
            context.instance.report_run_failed(run, "It crashed and was not done again: Dagster is told once more.")
            told.append(run.run_id[:8])
        elif _is_to_be_given_up(context.instance, run):
            # By this it is a failure like others, and as one that has changed it is read again by whoever alerts.
            context.instance.add_run_tags(run.run_id, {WILL_RETRY_TAG: "false", GIVEN_UP_TAG: "true"})
            given_up.append(run.run_id[:8])
    said = [f"Told Dagster once more of {', '.join(told)}"] if told else []
    if given_up:
        said.append(f"Nobody does {', '.join(given_up)} again")
    return dg.SkipReason("; ".join(said) or "No crashed run was missed")


def _failed_and_quiet(instance: dg.DagsterInstance) -> Iterator[dg.DagsterRun]:
    """Yield the runs that have failed lately, newest first, but for those of which something was written this very minute."""
    now = datetime.now(UTC)
    lately = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.FAILURE],
        # Longer than they are waited for, so that each is given up.
        updated_after=now - 2 * GIVEN_UP_AFTER,
        updated_before=now - PATIENCE,
    )
    return newest_first(instance, lately, RUNS_A_TICK)


def is_waited_for(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether a run that has failed was done again by Dagster or will be, as it noted or missed to; for a day at most."""
    if AUTO_RETRY_RUN_ID_TAG in run.tags:
        return True
    if run.status is not dg.DagsterRunStatus.FAILURE or run.remote_job_origin is None:
        return False
    is_noted = (
        run.tags.get(WILL_RETRY_TAG) == "true" and _is_wanted(instance, run) and _has_failed_lately(instance, run)
    )
    return is_noted or is_to_be_done_again(instance, run)


def is_to_be_done_again(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether a run crashed lately, was not done again yet, and can and may be: what Dagster noted of it does not count."""
    return (
        _may_be_done_again(instance, run)
        and not _is_done_again(instance, run)
        and _has_failed_lately(instance, run)
        and _is_wanted(instance, run)
    )


def _is_to_be_given_up(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether a run was meant to be done again and will not be, which nobody has said of it yet."""
    if GIVEN_UP_TAG in run.tags or run.remote_job_origin is None:
        return False
    is_meant = run.tags.get(WILL_RETRY_TAG) == "true" or _may_be_done_again(instance, run)
    return is_meant and not _is_done_again(instance, run) and not is_waited_for(instance, run)


def _may_be_done_again(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether a run crashed and Dagster can do it again; one whose step failed is not done again as a whole."""
    if run.status is not dg.DagsterRunStatus.FAILURE or run.remote_job_origin is None:
        return False
    reason = run.tags.get(RUN_FAILURE_REASON_TAG)
    return bool(auto_reexecution_should_retry_run(instance, run, RunFailureReason(reason) if reason else None))


def _is_done_again(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    group = instance.get_run_group(run.run_id)
    return group is not None and any(other.parent_run_id == run.run_id for other in group[1])


def _has_failed_lately(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether it failed within a day, however long it had waited and worked; when it is told of again does not count."""
    failures = instance.all_logs(run.run_id, of_type=DagsterEventType.RUN_FAILURE)
    return bool(failures) and datetime.now(UTC).timestamp() - failures[0].timestamp <= GIVEN_UP_AFTER.total_seconds()


def _is_wanted(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether the backfill that it is a part of goes on, where it is a part of one."""
    if BACKFILL_ID_TAG not in run.tags:
        return True
    backfill = instance.get_backfill(run.tags[BACKFILL_ID_TAG])
    return backfill is not None and backfill.status not in BULK_ACTION_TERMINAL_STATUSES
