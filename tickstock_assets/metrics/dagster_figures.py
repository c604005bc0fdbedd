"""Metrics of Dagster: its runs, the ticks of sensors and schedules, and whether its daemons are alive.

Of the runs the newest are looked at, a bounded number: what a scrape costs does not grow with their history.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import dagster as dg
from dagster._core.scheduler.instigation import TickStatus
from prometheus_client.core import GaugeMetricFamily, Metric

from tickstock_assets.defs.run_alerts import last_ticks

RUNS_READ = 500
UNDER_WAY = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)


def of_runs(instance: dg.DagsterInstance) -> Iterator[Metric]:
    """Yield outcomes and durations of the newest runs by job, and how many are under way."""
    yield _under_way(instance)
    records = instance.get_run_records(limit=RUNS_READ)  # newest first
    outcomes = Counter((one.dagster_run.job_name, one.dagster_run.status.value.lower()) for one in records)
    recent = GaugeMetricFamily(
        "tickstock_job_recent_runs",
        f"Of the newest {RUNS_READ} runs, by job and status.",
        labels=["dagster_job", "status"],
    )
    for (job, status), number in sorted(outcomes.items()):
        recent.add_metric([job, status], number)
    yield recent
    yield from _durations(records)


def _under_way(instance: dg.DagsterInstance) -> Metric:
    found = GaugeMetricFamily("tickstock_runs_under_way", "Runs that have not ended, by status.", labels=["status"])
    for status in UNDER_WAY:
        found.add_metric([status.value.lower()], instance.get_runs_count(dg.RunsFilter(statuses=[status])))
    return found


def _durations(records: Sequence[dg.RunRecord]) -> Iterator[Metric]:
    last = GaugeMetricFamily(
        "tickstock_job_last_run_duration_seconds", "How long the last run took that has ended.", labels=["dagster_job"]
    )
    longest = GaugeMetricFamily(
        "tickstock_job_longest_recent_run_duration_seconds",
        f"How long the longest took of the newest {RUNS_READ} runs.",
        labels=["dagster_job"],
    )
    ended_at = GaugeMetricFamily(
        "tickstock_job_last_run_end_timestamp_seconds",
        "When the last run ended with a status.",
        labels=["dagster_job", "status"],
    )
    ended = [one for one in records if one.start_time and one.end_time and one.dagster_run.is_finished]
    seconds: dict[str, list[float]] = {}
    ends: dict[tuple[str, str], float] = {}
    for one in sorted(ended, key=lambda one: one.end_time or 0.0):
        start, end, run = one.start_time or 0.0, one.end_time or 0.0, one.dagster_run
        seconds.setdefault(run.job_name, []).append(end - start)
        ends[run.job_name, run.status.value.lower()] = end
    for job, took in sorted(seconds.items()):
        last.add_metric([job], took[-1])
        longest.add_metric([job], max(took))
    for (job, status), end in sorted(ends.items()):
        ended_at.add_metric([job, status], end)
    yield from (last, longest, ended_at)


def of_ticks(instance: dg.DagsterInstance) -> Iterator[Metric]:
    """Yield how the last tick of each sensor and schedule went, and the heartbeats of the daemons."""
    failed = GaugeMetricFamily("tickstock_tick_failed", "Whether the last tick failed: 1 or 0.", labels=["name"])
    at = GaugeMetricFamily("tickstock_tick_timestamp_seconds", "When the last tick was.", labels=["name"])
    for name, tick in sorted(last_ticks(instance).items()):
        failed.add_metric([name], float(tick.status is TickStatus.FAILURE))
        at.add_metric([name], tick.timestamp)
    heartbeat = GaugeMetricFamily(
        "tickstock_daemon_heartbeat_timestamp_seconds",
        "Last sign of life of each of Dagster's daemons; 0 where there was none.",
        labels=["daemon"],
    )
    for daemon, status in sorted(instance.get_daemon_statuses().items()):
        heartbeat.add_metric([daemon], status.last_heartbeat.timestamp if status.last_heartbeat else 0.0)
    yield from (failed, at, heartbeat)
