"""Schedules: the database's upkeep, which runs as long as Dagster's daemon does (`tickstock ui` has one)."""

import dagster as dg

from tickstock_assets.defs.jobs import DATABASE, RETENTION

RETENTION_DAILY = dg.ScheduleDefinition(
    name="retention_daily",
    job=RETENTION,
    # After the day's last session in New York and before the first in Tokyo.
    cron_schedule="30 22 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
DATABASE_HOURLY = dg.ScheduleDefinition(
    name="database_hourly",
    job=DATABASE,
    cron_schedule="5 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
SCHEDULES = [RETENTION_DAILY, DATABASE_HOURLY]
