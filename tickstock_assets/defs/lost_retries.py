"""Crashed runs that Dagster meant to do again and did not: it is told of their failure once more.

Dagster does a crashed run again when it reads of the failure, which it does once. Where its database or the code server is
away at that very moment, it leaves the run, or even notes that it is not to be done again.

Elsewhere: how often a run is done again (dagster.yaml), and what else tries again (retries.py).
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.events import RunFailureReason
from dagster._core.execution.backfill import BULK_ACTION_TERMINAL_STATUSES
from dagster._core.execution.retries import auto_reexecution_should_retry_run
from dagster._core.storage.tags import BACKFILL_ID_TAG, RUN_FAILURE_REASON_TAG, WILL_RETRY_TAG

# Dagster reads every 5 s; one that it could not do again now, it is told of again as long afterwards.
PATIENCE = timedelta(seconds=60)
# What stays broken longer is for a person.
GIVEN_UP_AFTER = timedelta(days=1)
RUNS_AT_ONCE, RUNS_A_TICK = 100, 1000


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Has crashed runs done again that Dagster missed while its database or code server was away.",
)
def lost_retries(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Tell Dagster of each such failure once more; one that is killed in between tells again, and Dagster makes no run twice."""
    lost = [run for run in _failed_lately(context.instance) if is_to_be_done_again(context.instance, run)]
    for run in lost:
        context.instance.report_run_failed(run, "It crashed and was not done again: Dagster is told once more.")
    named = ", ".join(run.run_id[:8] for run in lost)
    return dg.SkipReason(f"Told Dagster once more of {named}" if lost else "No crashed run was missed")


def _failed_lately(instance: dg.DagsterInstance) -> Iterator[dg.DagsterRun]:
    """Yield the runs that failed within the last day, newest first, but for the very last minute."""
    now = datetime.now(UTC)
    # Of those before it none is to be done again.
    lately = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.FAILURE], created_after=now - GIVEN_UP_AFTER, updated_before=now - PATIENCE
    )
    cursor: str | None = None
    for _ in range(0, RUNS_A_TICK, RUNS_AT_ONCE):
        some = instance.get_runs(lately, cursor=cursor, limit=RUNS_AT_ONCE)
        yield from some
        if len(some) < RUNS_AT_ONCE:
            return
        cursor = some[-1].run_id


def is_waited_for(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether a run that has ended will be done again by Dagster, as it noted or missed to; for a day at most."""
    is_noted = run.tags.get(WILL_RETRY_TAG) == "true" and _is_lately_made(instance, run)
    return is_noted or is_to_be_done_again(instance, run)


def is_to_be_done_again(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether a run crashed lately, was not done again yet, and can and may be: what Dagster noted of it does not count."""
    if run.status is not dg.DagsterRunStatus.FAILURE or run.remote_job_origin is None:
        return False
    reason = run.tags.get(RUN_FAILURE_REASON_TAG)
    # First what needs no query for most runs: one whose step failed is not done again as a whole.
    if not auto_reexecution_should_retry_run(instance, run, RunFailureReason(reason) if reason else None):
        return False
    if not _is_lately_made(instance, run):
        return False
    group = instance.get_run_group(run.run_id)
    is_done_again = group is not None and any(other.parent_run_id == run.run_id for other in group[1])
    return not is_done_again and _is_wanted(instance, run)


def _is_lately_made(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    record = instance.get_run_record_by_id(run.run_id)
    return record is not None and datetime.now(UTC) - record.create_timestamp <= GIVEN_UP_AFTER


def _is_wanted(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether the backfill that it is a part of goes on, where it is a part of one."""
    if BACKFILL_ID_TAG not in run.tags:
        return True
    backfill = instance.get_backfill(run.tags[BACKFILL_ID_TAG])
    return backfill is not None and backfill.status not in BULK_ACTION_TERMINAL_STATUSES
