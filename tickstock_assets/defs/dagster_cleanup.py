"""Dagster's own record of runs, which it never drops by itself: old ones go, all but what still says how things are.

Of a run that ended long ago its log goes, with its files. What stays is the newest materialization of each partition and the
newest result of each check, without which the web UI would show them as missing; and a run as long as one of these is its.

Elsewhere: market data that is dropped for its age (storage/retention.py), ticks of schedules and sensors (dagster.yaml).
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

import dagster as dg
from dagster._core.storage.event_log import SqlEventLogStorage
from sqlalchemy import text

# In one go, so that a first clean-up of years does not hold the database up; the rest goes the next day.
EVENTS_AT_ONCE = 200_000
RUNS_AT_ONCE = 2_000

# Dagster keeps both times, of which runs that were never started have only the second.
ENDED = """
    SELECT run_id FROM runs WHERE status IN ('SUCCESS', 'FAILURE', 'CANCELED')
      AND coalesce(to_timestamp(end_time), update_timestamp AT TIME ZONE 'UTC') < :before
"""
# The newest are found once and not for each row again: a materialization stays for ever, and every night looks at it.
DROP_EVENTS = text(f"""
    WITH ended AS ({ENDED}), newest AS MATERIALIZED (
        SELECT max(id) AS id FROM event_logs
        WHERE dagster_event_type = 'ASSET_MATERIALIZATION' GROUP BY asset_key, partition
    ), gone AS (
        SELECT e.id FROM event_logs e JOIN ended USING (run_id) LEFT JOIN newest n ON n.id = e.id
        WHERE n.id IS NULL ORDER BY e.id LIMIT :most
    ), dropped AS (
        DELETE FROM event_logs e USING gone WHERE e.id = gone.id RETURNING e.id, e.run_id
    ), tags AS (
        DELETE FROM asset_event_tags t USING dropped WHERE t.event_id = dropped.id
    )
    SELECT run_id, count(*) AS n_events FROM dropped GROUP BY run_id
""")  # noqa: S608 a constant
DROP_CHECKS = text(f"""
    WITH newest AS MATERIALIZED (
        SELECT max(id) AS id FROM asset_check_executions GROUP BY asset_key, check_name, partition)
    DELETE FROM asset_check_executions c USING ({ENDED}) AS ended
    WHERE c.run_id = ended.run_id AND NOT EXISTS (SELECT FROM newest n WHERE n.id = c.id)
""")  # noqa: S608
DROP_RUNS = text(f"""
    DELETE FROM runs r USING (
        SELECT run_id FROM ({ENDED}) AS ended
        WHERE NOT EXISTS (SELECT FROM event_logs e WHERE e.run_id = ended.run_id)
          AND NOT EXISTS (SELECT FROM asset_check_executions c WHERE c.run_id = ended.run_id)
        LIMIT :most) AS empty
    WHERE r.run_id = empty.run_id
""")  # noqa: S608


@dataclass(frozen=True)
class Forgotten:
    """What a clean-up dropped: events of runs, results of checks, and runs of which nothing was left."""

    events: int
    checks: int
    runs: int


def forget_old_runs(instance: dg.DagsterInstance, before: datetime) -> Forgotten:
    """Drop what Dagster keeps of runs that ended before a moment (with a time zone), up to a bound; the last results stay.

    Done twice, or begun anew after a kill, it does no more than once.
    """
    values = {"before": before.astimezone(UTC)}
    storage = cast(SqlEventLogStorage, instance.event_log_storage)
    # The files of a run go while its events are not gone for good: after a kill they name it once more.
    with storage.index_transaction() as connection:
        events = connection.execute(DROP_EVENTS, {**values, "most": EVENTS_AT_ONCE}).all()
        for row in events:
            instance.compute_log_manager.delete_logs(prefix=[row.run_id])
    with storage.index_connection() as connection:
        n_checks = connection.execute(DROP_CHECKS, values).rowcount
        n_runs = connection.execute(DROP_RUNS, {**values, "most": RUNS_AT_ONCE}).rowcount
    return Forgotten(sum(row.n_events for row in events), n_checks, n_runs)
