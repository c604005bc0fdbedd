"""The assembly: what is in it, and that it loads with nothing around it."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from tickstock_assets.definitions import defs
from tickstock_assets.defs.partitions import DAILY, rectangle_tags, windows_of
from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.domain.windows import Window

GROUPS = {
    "symbols": "reference",
    "sessions": "reference",
    "splits": "reference",
    "dividends": "reference",
    "raw_daily_bars": "raw",
    "ohlcv_daily": "bars",
    "bar_features": "features",
    "patterns": "patterns",
    "backtest_metrics": "backtests",
    "database": "operations",
    "provider_reconciliation": "quality",
}
ARROWS = {
    ("symbols", "splits"), ("symbols", "dividends"), ("symbols", "raw_daily_bars"), ("sessions", "ohlcv_daily"),
    ("raw_daily_bars", "ohlcv_daily"), ("ohlcv_daily", "bar_features"), ("splits", "bar_features"),
    ("ohlcv_daily", "patterns"), ("bar_features", "patterns"), ("splits", "patterns"),
    ("ohlcv_daily", "backtest_metrics"), ("patterns", "backtest_metrics"), ("splits", "backtest_metrics"),
    ("dividends", "backtest_metrics"), ("raw_daily_bars", "provider_reconciliation"),
    ("sessions", "provider_reconciliation"), ("splits", "provider_reconciliation"),
    ("dividends", "provider_reconciliation"),
}  # fmt: skip


def test_the_graph_has_these_assets_in_these_groups_and_arrows() -> None:
    graph = defs.resolve_asset_graph()
    nodes = {key.to_user_string(): graph.get(key) for key in graph.get_all_asset_keys()}
    assert {name: node.group_name for name, node in nodes.items()} == GROUPS
    assert {(parent.to_user_string(), name) for name, node in nodes.items() for parent in node.parent_keys} == ARROWS


def test_from_raw_bars_to_patterns_everything_is_partitioned_by_symbol_and_year() -> None:
    graph = defs.resolve_asset_graph()
    partitioned = {key.to_user_string() for key in graph.get_all_asset_keys() if graph.get(key).partitions_def == DAILY}
    assert partitioned == {"raw_daily_bars", "ohlcv_daily", "bar_features", "patterns"}


def test_every_asset_has_a_blocking_check() -> None:
    graph = defs.resolve_asset_graph()
    blocking = {key.asset_key.to_user_string() for key in graph.asset_check_keys if graph.get(key).blocking}
    # What the server lacks, and what providers disagree on, is worth a warning and blocks nothing.
    assert blocking == set(GROUPS) - {"database", "provider_reconciliation"}


def test_the_jobs_are_these() -> None:
    assert {job.name for job in defs.resolve_all_job_defs()} == {
        "__ASSET_JOB",
        "reference",
        "daily_history",
        "backtest",
        "database_status",
        "reconciliation",
        "retention",
    }


def test_the_schedules_run_the_databases_upkeep_from_the_start() -> None:
    schedules = {schedule.name: schedule for schedule in defs.get_repository_def().schedule_defs}
    assert {name: schedule.job_name for name, schedule in schedules.items()} == {
        "retention_daily": "retention",
        "database_hourly": "database_status",
    }
    assert {schedule.default_status for schedule in schedules.values()} == {dg.DefaultScheduleStatus.RUNNING}


def test_the_sensors_start_what_was_asked_for_from_the_start() -> None:
    sensors = {sensor.name: sensor for sensor in defs.get_repository_def().sensor_defs}
    assert {name: sensor.job_name for name, sensor in sensors.items()} == {"due_requests": "daily_history"}
    assert {sensor.default_status for sensor in sensors.values()} == {dg.DefaultSensorStatus.RUNNING}
    assert {sensor.minimum_interval_seconds for sensor in sensors.values()} == {30}


def test_what_asks_a_provider_stands_in_its_pool() -> None:
    pools = {node.name: node.pool for node in defs.resolve_job_def("daily_history").graph.node_defs if node.pools}
    assert pools == {"raw_daily_bars": "provider_sample"}


def test_definitions_load_without_secrets_network_or_database(tmp_path: Path) -> None:
    script = """
import socket
def forbidden(*args, **kwargs): raise AssertionError(f"opened {args}")
socket.socket.connect = forbidden
socket.create_connection = forbidden
import tickstock_assets.storage.embedded as embedded
embedded.acquire = forbidden
import tickstock_assets.definitions
"""
    environment = {"PATH": os.environ["PATH"], "TICKSTOCK_DATABASE_URL": "postgresql://nobody@192.0.2.1:1/none"}
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path, env=environment)
    assert list(tmp_path.iterdir()) == []


def test_partition_keys_become_the_fewest_windows() -> None:
    from datetime import date

    keys = ["AAPL|2001", "AAPL|2000", "MSFT|2003", "AAPL|2003"]
    assert windows_of(keys) == [
        Window("AAPL", date(2000, 1, 1), date(2001, 12, 31)),
        Window("AAPL", date(2003, 1, 1), date(2003, 12, 31)),
        Window("MSFT", date(2003, 1, 1), date(2003, 12, 31)),
    ]


KNOWN = ["AAPL", "FB", "GOOG"]


def test_a_rectangle_is_named_by_its_corners_in_dagsters_order() -> None:
    assert list(rectangle_tags(["FB", "AAPL"], KNOWN, 2001, 2003).values()) == ["AAPL|2001", "FB|2003"]


@pytest.mark.parametrize(
    ("symbols", "first", "last", "complaint"),
    [
        (["AAPL"], 2003, 2001, "expected a range within 2000 to 2013, found 2003 to 2001"),
        (["AAPL"], 1999, 2001, "found 1999 to 2001"),
        (["AAPL"], 2001, 2014, "found 2001 to 2014"),
        (["TSLA"], 2001, 2002, "found TSLA"),
        ([], 2001, 2002, "found none"),
        (["AAPL", "GOOG"], 2001, 2002, "expected neighbours"),
    ],
)
def test_a_reversed_empty_or_unknown_range_is_an_error(
    symbols: list[str], first: int, last: int, complaint: str
) -> None:
    # Dagster itself would run nothing, or the symbols between as well, and report success.
    with pytest.raises(ConfigError, match=complaint):
        rectangle_tags(symbols, KNOWN, first, last)


def test_the_repository_can_be_loaded_by_dagsters_own_validation() -> None:
    dg.Definitions.validate_loadable(defs)
