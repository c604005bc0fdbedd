"""What Prometheus reads is what the database says, by SQL of the test's own; and a dead database does no harm."""

import math
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
import pytest
import urllib3
import uvicorn
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from tests.defs.conftest import OpenProject
from tests.defs.simulated import Project
from tests.storage.servers import wait_until
from tests.storage.tcp_server import running_tcp_server
from tickstock_assets.metrics.exporter import Exporter
from tickstock_assets.metrics.server import application
from tickstock_assets.settings import Settings, settings

pytestmark = [
    pytest.mark.tiers("embedded"),
    # Dagster's own code calls it.
    pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated"),
]

type Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(exposition: bytes | str) -> Samples:
    """Return name, labels and value of every sample, by Prometheus' own parser."""
    content = exposition.decode() if isinstance(exposition, bytes) else exposition
    samples: Samples = {}
    for family in text_string_to_metric_families(content):
        assert family.documentation.endswith(".")
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in samples
            samples[key] = sample.value
    return samples


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"tickstock_{name}", frozenset(labels.items())]


@pytest.fixture
def scrape(open_project: OpenProject) -> Iterator[tuple[Project, Callable[[], Samples]]]:
    """The project, and a way to scrape it anew."""
    project = open_project(companies=2, calls_per_day=25)
    with ExitStack() as stack:

        def collect() -> Samples:
            exporter = Exporter(settings(), wait_seconds=120)
            stack.callback(exporter.close)
            return read(exporter.metrics())

        yield project, collect


ROWS = """
    INSERT INTO ohlcv_daily (symbol, date, open, high, low, close, volume, source)
        SELECT 'S0001', day::date, 1, 1, 1, 1, 1, 'alpha_vantage' FROM generate_series('2012-01-01'::date, '2012-03-30', '1 day') day;
    INSERT INTO ohlcv_1min (symbol, timestamp, open, high, low, close, volume, source)
        VALUES ('S0001', '2012-07-03 23:59Z', 1, 1, 1, 1, 1, 'alpha_vantage');
    INSERT INTO data_gaps (id, symbol, timeframe, gap_start, gap_end, missing_bars, class, healed_at, given_up_at, given_up_reason)
        VALUES (gen_random_uuid(), 'S0001', '1d', '2012-02-01', '2012-02-01', 3, 'provider_hole', NULL, NULL, NULL),
               (gen_random_uuid(), 'S0002', '1d', '2012-02-02', '2012-02-02', 4, 'provider_hole', NULL, now(), 'no luck'),
               (gen_random_uuid(), 'S0002', '1m', '2012-02-02', '2012-02-02', 9, 'halt', NULL, NULL, NULL),
               (gen_random_uuid(), 'S0002', '1d', '2012-02-03', '2012-02-03', 5, 'provider_hole', now(), NULL, NULL);
    INSERT INTO backfill_requests (symbols, timeframe, start_date, end_date, status, error)
        SELECT '{S0001}', '1d', '2011-01-03', '2011-02-01', status, 'e' FROM unnest('{failed,failed,requested}'::text[]) status;
    INSERT INTO quarantined_bars (id, symbol, rule, reason, source, dataset, source_version, row, superseded_at)
        SELECT gen_random_uuid(), 'S0001', 'r', 'why', 'sample', 'daily_bars', '1', '{}', gone
        FROM unnest('{NULL,NULL,2024-01-01}'::timestamptz[]) gone;
    INSERT INTO touched_buckets (symbol, timestamp, intraday_at)
        VALUES ('S0001', '2012-07-02 14:00Z', now()), ('S0001', '2012-07-02 15:00Z', NULL),
               -- Of a session that may be under way, and an hour that is.
               ('S0001', date_trunc('hour', now()) - interval '4 hours', now()), ('S0001', date_trunc('hour', now()), NULL);
    INSERT INTO alerts (kind, subject, severity, message, times, first_at, last_at, resolved_at)
        VALUES ('lag', 'a', 'warning', 'm', 4, now(), now(), NULL), ('lag', 'b', 'warning', 'm', 3, now(), now(), now()),
               ('run_failed', 'x', 'error', 'm', 2, now(), now(), NULL);
    INSERT INTO provider_quota (provider, period, period_start, ends_at, used, budget)
        VALUES ('alpha_vantage', 'day', date_trunc('day', now(), 'America/New_York'),
                date_trunc('day', now(), 'America/New_York') + interval '1 day', 7, 25);
"""  # noqa: E501


def test_every_number_is_what_the_database_says(scrape: tuple[Project, Callable[[], Samples]]) -> None:
    project, collect = scrape
    with project.engine.begin() as connection:
        connection.connection.cursor().execute(ROWS)
    with project.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        # What this session has written is counted by the server now and not after the ANALYZE, on top of it.
        connection.execute(text("SELECT pg_stat_force_next_flush()"))
        connection.execute(text("ANALYZE"))
    found = collect()
    assert value(found, "up") == 1
    assert 0 < value(found, "database_latency_seconds") < 10
    assert 0 < value(found, "disk_free_bytes") <= value(found, "disk_total_bytes")
    for table in ("ohlcv_daily", "symbols", "sessions", "data_gaps"):
        ((count, size),) = project.rows(f"SELECT count(*), pg_total_relation_size('{table}') FROM {table}")
        assert (value(found, "table_rows", table=table), value(found, "table_bytes", table=table)) == (count, size)
    assert value(found, "table_rows", table="ohlcv_daily") == 90
    assert value(found, "database_connections_max") == float(str(project.rows("SHOW max_connections")[0][0]))
    assert value(found, "gaps_open", **{"class": "provider_hole", "timeframe": "1d"}) == 2
    assert value(found, "gaps_missing_bars", **{"class": "provider_hole", "timeframe": "1d"}) == 7
    assert value(found, "gaps_given_up", **{"class": "provider_hole", "timeframe": "1d"}) == 1
    assert value(found, "gaps_open", **{"class": "halt", "timeframe": "1m"}) == 1
    requests = {status: value(found, "requests", status=status) for status in ("failed", "requested", "running")}
    assert requests == {"failed": 2, "requested": 1, "running": 0}
    assert value(found, "quarantined_rows", dataset="daily_bars") == 2
    assert value(found, "rollup_stale_hours", rollup="intraday") == 1
    assert value(found, "rollup_stale_hours", rollup="daily") == 2
    assert (value(found, "alerts_open", kind="lag"), value(found, "alerts_total", kind="lag")) == (1, 7)
    assert value(found, "alerts_total", kind="run_failed") == 2
    assert ("tickstock_alerts_open", frozenset({("kind", "run_failed")})) not in found
    route = {"provider": "alpha_vantage", "route": "by_symbol"}
    assert value(found, "provider_calls_left", **route, period="day") == 18
    assert value(found, "provider_calls_allowed", **route, period="day") == 25
    assert value(found, "provider_calls_left", **route, period="minute") == math.inf
    assert value(found, "provider_blocked_seconds", provider="alpha_vantage") == 0
    # The newest day is Friday 30 March 2012, the newest minute 19:59 in New York on 3 July, a half day that closed at 17:00 UTC.
    closes = {"1d": ("daily_bars", "2012-03-30 20:00Z"), "1m": ("minute_bars", "2012-07-03 17:00Z")}
    for timeframe, (dataset, close) in closes.items():
        labels = {"dataset": dataset, "timeframe": timeframe}
        ((newest,),) = project.rows(f"SELECT extract(epoch FROM '{close}'::timestamptz)")
        assert value(found, "newest_session_timestamp_seconds", **labels) == float(str(newest))
        horizon = value(found, "horizon_timestamp_seconds", **labels)
        assert value(found, "lag_seconds", **labels) == horizon - float(str(newest))
        # Some 252 sessions a year.
        years = (horizon - float(str(newest))) / (365.25 * 86_400)
        assert value(found, "lag_sessions", **labels) == pytest.approx(252 * years, rel=0.01)
    failed = {
        labels for (name, labels), number in found.items() if name == "tickstock_collection_errors_total" and number
    }
    assert failed == set()


def test_runs_are_told_by_job_with_outcomes_and_durations(scrape: tuple[Project, Callable[[], Samples]]) -> None:
    project, collect = scrape
    project.run({}, job="database_status")
    project.run({}, job="database_status")
    found = collect()
    records = project.instance.get_run_records()
    took = [float(one.end_time or 0) - float(one.start_time or 0) for one in records]  # newest first
    of_job = {"dagster_job": "database_status"}
    assert value(found, "job_recent_runs", **of_job, status="success") == 2
    assert value(found, "job_last_run_duration_seconds", **of_job) == pytest.approx(took[0])
    assert value(found, "job_longest_recent_run_duration_seconds", **of_job) == pytest.approx(max(took))
    assert value(found, "job_last_run_end_timestamp_seconds", **of_job, status="success") == records[0].end_time
    assert value(found, "runs_under_way", status="queued") == 0
    # No daemon has run here.
    assert value(found, "daemon_heartbeat_timestamp_seconds", daemon="SENSOR") == 0


def test_a_collection_that_takes_long_is_counted_and_says_how_the_database_is(
    open_project: OpenProject,
) -> None:
    open_project(companies=1, calls_per_day=25)
    exporter = Exporter(settings(), keep_seconds=3600, wait_seconds=0.0, health_seconds=60)
    found = read(exporter.metrics())
    assert value(found, "up") == 1
    assert value(found, "collection_errors_total", group="collection") == 1
    assert value(found, "collection_errors_total", group="database") == 0
    wait_until(lambda: b"tickstock_table_rows{" in exporter.metrics())
    exporter.close()


def test_connections_to_other_databases_of_the_server_count(scrape: tuple[Project, Callable[[], Samples]]) -> None:
    project, collect = scrape
    other = project.engine.url.set(drivername="postgresql", database="postgres")
    with psycopg.connect(other.render_as_string(hide_password=False), application_name="another project") as connection:
        connection.commit()
        found = collect()
    assert value(found, "database_connections", application="another project", state="idle") == 1


def nowhere(tmp_path: Path, address: str) -> Settings:
    return Settings(_env_file=None, home=tmp_path, database_url=address)  # type: ignore[call-arg]


@dataclass(frozen=True)
class Endpoints:
    """The real server on loopback."""

    port: int

    def get(self, path: str, method: str = "GET") -> urllib3.BaseHTTPResponse:
        return urllib3.request(method, f"http://127.0.0.1:{self.port}{path}", retries=False, timeout=60)


@contextmanager
def serving(exporter: Exporter) -> Iterator[Endpoints]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(application(exporter), log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield Endpoints(listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join()


def test_a_database_that_is_not_there_is_told_and_counted(tmp_path: Path) -> None:
    with serving(Exporter(nowhere(tmp_path, "postgresql://a:secret-word@127.0.0.1:1/x"), 0.01, 60.0, 60.0)) as there:
        answer, health = there.get("/metrics"), there.get("/health/db")
        assert there.get("/").data.startswith(b"TickStock metrics are at /metrics")
        assert there.get("/else").status == 404
        assert there.get("/metrics", "POST").status == 405
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    found = read(answer.data)
    assert value(found, "up") == 0
    assert value(found, "collection_errors_total", group="database") >= 1
    assert ("tickstock_database_latency_seconds", frozenset()) not in found
    assert health.status == 503
    assert (health.json()["reachable"], health.json()["status"]) == (False, "unreachable")
    assert "127.0.0.1:1: cannot be reached" in health.json()["reason"]
    assert b"secret-word" not in answer.data + health.data


def test_a_database_that_hangs_is_told_in_time(tmp_path: Path) -> None:
    with running_tcp_server() as server:
        postmaster = psutil.Process(int((server.log.parent / "data" / "postmaster.pid").read_text().split()[0]))
        exporter = Exporter(nowhere(tmp_path, server.url()), keep_seconds=0.01, health_seconds=60.0)
        with serving(exporter) as there:
            healthy = there.get("/health/db")
            assert (healthy.status, healthy.json()["reachable"]) == (200, True)
        processes = [postmaster, *postmaster.children(recursive=True)]
        for process in processes:
            process.suspend()
        hurried = Exporter(nowhere(tmp_path, server.url()), 0.01, 0.5, 0.5)
        with serving(hurried) as there:
            stuck = there.get("/health/db")
            found = read(there.get("/metrics").data)
        assert stuck.status == 503
        assert stuck.json()["reason"].startswith("the database: expected an answer within ")
        assert value(found, "up") == 0
        assert value(found, "collection_errors_total", group="database") == 1
        for process in processes:
            process.kill()
        exporter.close()
