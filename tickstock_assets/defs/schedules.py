"""Schedules: what is done at set times, as long as Dagster's daemon runs (`tickstock ui` has one); all in UTC.

Elsewhere: what follows the sessions of exchanges (session_schedules.py).
"""

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from tickstock_assets.defs.jobs import DAGSTER_CLEANUP, DATABASE, RETENTION, ROLLUPS, WEEKLY_REPORT
from tickstock_assets.defs.session_schedules import SESSION_SCHEDULES


def _at(
    cron: str, name: str, job: dg.JobDefinition | UnresolvedAssetJobDefinition, description: str | None = None
) -> dg.ScheduleDefinition:
    return dg.ScheduleDefinition(
        name=name,
        job=job,
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=description,
    )


# After the day's last session in New York and before the first in Tokyo.
RETENTION_DAILY = _at("30 22 * * *", "retention_daily", RETENTION)
DAGSTER_CLEANUP_DAILY = _at(
    "45 22 * * *",
    "dagster_cleanup_daily",
    DAGSTER_CLEANUP,
    "Dagster's own record of runs older than TICKSTOCK_RUNS_KEPT_DAYS, every day at 22:45 UTC.",
)
DATABASE_HOURLY = _at("5 * * * *", "database_hourly", DATABASE)
# Loads roll up what they bring; this is for what is written otherwise, such as the live feed's minutes.
ROLLUPS_HOURLY = _at("2 * * * *", "rollups_hourly", ROLLUPS)
# Friday's bars of the last market are there, and those of the next week are two days away.
REPORT_WEEKLY = _at(
    "0 8 * * 6",
    "report_weekly",
    WEEKLY_REPORT,
    "Saturdays at 08:00 UTC (03:00 in New York, 04:00 in summer): providers held against each other, and the report.",
)
SCHEDULES = [*SESSION_SCHEDULES, REPORT_WEEKLY, RETENTION_DAILY, DAGSTER_CLEANUP_DAILY, DATABASE_HOURLY, ROLLUPS_HOURLY]
