"""Metrics of the database and of what is stored in it."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from sqlalchemy import Connection

from tickstock_assets.domain.alerts import Kind
from tickstock_assets.storage import measurements
from tickstock_assets.storage.backfill_requests import STATUSES
from tickstock_assets.storage.health import Disk, Health
from tickstock_assets.storage.table_sizes import table_sizes

MILLISECONDS = 1000


def of_health(found: Health, disk: Disk) -> Iterator[Metric]:
    """Yield whether the database answers, how fast, and the room on the disk, where it is known."""
    yield GaugeMetricFamily("tickstock_up", "Whether the database answers: 1 or 0.", value=float(found.reachable))
    if found.latency_ms is not None:
        yield GaugeMetricFamily(
            "tickstock_database_latency_seconds",
            "Median time of a query that does nothing, there and back.",
            value=found.latency_ms / MILLISECONDS,
        )
    for part, value in (("free", disk.free_bytes), ("total", disk.total_bytes)):
        if value is not None:
            said = "of the disk of the home folder, where the embedded database and the landing files are."
            yield GaugeMetricFamily(f"tickstock_disk_{part}_bytes", f"Bytes {part} {said}", value=value)


def of_connections(connection: Connection) -> Iterator[Metric]:
    """Yield the connections to the server, which has one limit for all its databases."""
    used = GaugeMetricFamily(
        "tickstock_database_connections",
        "Connections to the server by application and state, but the exporter's own.",
        labels=["application", "state"],
    )
    for application, state, number in measurements.connections(connection):
        used.add_metric([application, state], number)
    yield used
    yield GaugeMetricFamily(
        "tickstock_database_connections_max",
        "Connections that the server allows, to all its databases.",
        value=measurements.most_connections(connection),
    )


def of_tables(connection: Connection) -> Iterator[Metric]:
    """Yield rows and bytes of each table."""
    rows = GaugeMetricFamily("tickstock_table_rows", "Rows by table, as the server estimates.", labels=["table"])
    for table, number in measurements.table_rows(connection).items():
        rows.add_metric([table], number)
    yield rows
    size = GaugeMetricFamily("tickstock_table_bytes", "Bytes on disk by table, with its indexes.", labels=["table"])
    for one in table_sizes(connection):
        size.add_metric([one.name], one.total_bytes)
    yield size
    yield GaugeMetricFamily(
        "tickstock_database_bytes",
        "Bytes on disk of the whole database.",
        value=measurements.database_bytes(connection),
    )


def of_quality(connection: Connection) -> Iterator[Metric]:
    """Yield the gaps that are open, and the rows in quarantine."""
    labels = ["class", "timeframe"]
    gaps = GaugeMetricFamily("tickstock_gaps_open", "Gaps that are not filled.", labels=labels)
    bars = GaugeMetricFamily("tickstock_gaps_missing_bars", "Bars missing in gaps that are not filled.", labels=labels)
    given_up = GaugeMetricFamily(
        "tickstock_gaps_given_up", "Gaps that are not filled and that nobody tries to fill any more.", labels=labels
    )
    for one in measurements.open_gaps(connection):
        of_one = [one.gap_class, one.timeframe]
        gaps.add_metric(of_one, one.gaps)
        bars.add_metric(of_one, one.missing_bars)
        given_up.add_metric(of_one, one.given_up)
    yield from (gaps, bars, given_up)
    rows = GaugeMetricFamily(
        "tickstock_quarantined_rows", "Rows that broke a rule and are held back, by dataset.", labels=["dataset"]
    )
    for dataset, number in measurements.quarantined(connection).items():
        rows.add_metric([dataset], number)
    yield rows


def of_work(connection: Connection) -> Iterator[Metric]:
    """Yield what waits to be done: requests and rollups."""
    found = measurements.requests(connection)
    requests = GaugeMetricFamily("tickstock_requests", "Backfill requests by status.", labels=["status"])
    for status in STATUSES:
        requests.add_metric([status], found.get(status, 0))
    yield requests
    intraday, daily = measurements.stale_hours(connection)
    stale = GaugeMetricFamily(
        "tickstock_rollup_stale_hours",
        "Hours of symbols whose minutes were written to and whose rollups are overdue: an hour after theirs, a day for days.",
        labels=["rollup"],
    )
    stale.add_metric(["intraday"], intraday)
    stale.add_metric(["daily"], daily)
    yield stale


def of_alerts(connection: Connection) -> Iterator[Metric]:
    """Yield how many alerts there are and were."""
    seen = CounterMetricFamily("tickstock_alerts", "Times that something was found to be alerted of.", labels=["kind"])
    still = GaugeMetricFamily(
        "tickstock_alerts_open", "Alerts that hold: what is not well again, by kind.", labels=["kind"]
    )
    for one in measurements.alert_counts(connection):
        seen.add_metric([one.kind], one.times)
        if Kind(one.kind).is_state:
            still.add_metric([one.kind], one.unresolved)
    yield from (seen, still)
