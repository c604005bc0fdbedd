"""What Dagster's record of a run says that the run itself does not."""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg

RUNS_AT_ONCE = 100


def ended_at(instance: dg.DagsterInstance, run: dg.DagsterRun) -> datetime | None:
    """Return when a run has ended (UTC); None of one that has not, or that nobody remembers."""
    record = instance.get_run_record_by_id(run.run_id)
    return datetime.fromtimestamp(record.end_time, UTC) if record and record.end_time else None


def newest_first(instance: dg.DagsterInstance, wanted: dg.RunsFilter, most: int) -> Iterator[dg.DagsterRun]:
    """Yield runs, the newest first and at most so many; they are read as they are asked for, some at a time."""
    cursor: str | None = None
    for _ in range(0, most, RUNS_AT_ONCE):
        some = instance.get_runs(wanted, cursor=cursor, limit=RUNS_AT_ONCE)
        yield from some
        if len(some) < RUNS_AT_ONCE:
            return
        cursor = some[-1].run_id
