"""What Dagster's record of a run says that the run itself does not."""

from datetime import UTC, datetime

import dagster as dg


def ended_at(instance: dg.DagsterInstance, run: dg.DagsterRun) -> datetime | None:
    """Return when a run has ended (UTC); None of one that has not, or that nobody remembers."""
    record = instance.get_run_record_by_id(run.run_id)
    return datetime.fromtimestamp(record.end_time, UTC) if record and record.end_time else None
