"""The assembly: what is in it, and that it loads with nothing around it."""

import os
import subprocess
import sys
from datetime import date
from itertools import product
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from tickstock_assets.definitions import defs
from tickstock_assets.defs.partitions import (
    BY_DAY,
    BY_MONTH,
    BY_YEAR,
    DAILY,
    MINUTES,
    PARTITION_TAG,
    RANGE_END_TAG,
    RANGE_START_TAG,
    SYMBOLS,
    TICKS,
    Grid,
    rectangle_tags,
    window_of,
    windows_of,
    windows_of_run,
)
from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.domain.windows import Window

GROUPS = {
    "symbols": "reference",
    "sessions": "reference",
    "splits": "reference",
    "dividends": "reference",
    "raw_daily_bars": "raw",
    "raw_minute_bars": "raw",
    "raw_trades": "raw",
    "ohlcv_daily": "bars",
    "ohlcv_1min": "bars",
    "ticks": "bars",
    "tick_minute_bars": "bars",
    "ohlcv_5min": "bars",
    "ohlcv_15min": "bars",
    "ohlcv_1h": "bars",
    "daily_rollups": "bars",
    "bar_features": "features",
    "patterns": "patterns",
    "backtest_metrics": "backtests",
    "database": "operations",
    "provider_reconciliation": "quality",
    "quality_findings": "quality",
    "quality_scores": "quality",
    "data_gaps": "quality",
    "quality_report": "quality",
}
ARROWS = {
    ("symbols", "splits"), ("symbols", "dividends"), ("symbols", "raw_daily_bars"), ("sessions", "ohlcv_daily"),
    ("raw_daily_bars", "ohlcv_daily"), ("ohlcv_daily", "bar_features"), ("splits", "bar_features"),
    ("ohlcv_daily", "patterns"), ("bar_features", "patterns"), ("splits", "patterns"),
    ("ohlcv_daily", "backtest_metrics"), ("patterns", "backtest_metrics"), ("splits", "backtest_metrics"),
    ("dividends", "backtest_metrics"), ("raw_daily_bars", "provider_reconciliation"),
    ("sessions", "provider_reconciliation"), ("splits", "provider_reconciliation"),
    ("dividends", "provider_reconciliation"), ("symbols", "sessions"),
    ("symbols", "raw_minute_bars"), ("raw_minute_bars", "ohlcv_1min"), ("sessions", "ohlcv_1min"),
    ("symbols", "raw_trades"), ("raw_trades", "ticks"), ("sessions", "ticks"), ("ticks", "tick_minute_bars"),
    *product(["ohlcv_1min", "tick_minute_bars"], ["ohlcv_5min", "ohlcv_15min", "ohlcv_1h", "daily_rollups"]),
    *product(["sessions", "ohlcv_1min", "ohlcv_daily", "daily_rollups", "splits"], ["quality_findings"]),
    ("quality_findings", "quality_scores"),
    ("data_gaps", "quality_scores"),
    ("sessions", "daily_rollups"), ("daily_rollups", "bar_features"), ("daily_rollups", "patterns"),
    *product(["sessions", "ohlcv_1min", "ohlcv_daily", "daily_rollups"], ["data_gaps"]),
    *product(["provider_reconciliation", "data_gaps", "quality_findings", "quality_scores"], ["quality_report"]),
}  # fmt: skip


def test_the_graph_has_these_assets_in_these_groups_and_arrows() -> None:
    graph = defs.resolve_asset_graph()
    nodes = {key.to_user_string(): graph.get(key) for key in graph.get_all_asset_keys()}
    assert {name: node.group_name for name, node in nodes.items()} == GROUPS
    assert {(parent.to_user_string(), name) for name, node in nodes.items() for parent in node.parent_keys} == ARROWS


def test_daily_history_is_partitioned_by_year_minutes_by_month_trades_by_day_and_rollups_not_at_all() -> None:
    graph = defs.resolve_asset_graph()
    nodes = {key.to_user_string(): graph.get(key).partitions_def for key in graph.get_all_asset_keys()}
    partitioned = {name: definition for name, definition in nodes.items() if definition is not None}
    assert partitioned == {
        **dict.fromkeys(["raw_daily_bars", "ohlcv_daily", "bar_features", "patterns"], DAILY),
        **dict.fromkeys(["quality_findings", "quality_scores"], DAILY),
        **dict.fromkeys(["raw_minute_bars", "ohlcv_1min"], MINUTES),
        **dict.fromkeys(["raw_trades", "ticks", "tick_minute_bars"], TICKS),
    }


def test_a_check_blocks_where_what_is_downstream_has_no_partitions_and_nowhere_else() -> None:
    graph = defs.resolve_asset_graph()
    blocking = {key.asset_key.to_user_string() for key in graph.asset_check_keys if graph.get(key).blocking}
    # With partitions the rules themselves keep the bad ones back, so that the other symbols and periods go on; but what is
    # made of minutes has none. What only looks odd, or what the server lacks, is worth a warning and blocks nothing.
    assert blocking == {
        "symbols", "sessions", "splits", "dividends", "ohlcv_1min", "tick_minute_bars", "ohlcv_5min", "ohlcv_15min",
        "ohlcv_1h", "daily_rollups", "backtest_metrics",
    }  # fmt: skip


def test_every_asset_has_a_check_but_the_report_of_what_they_found() -> None:
    graph = defs.resolve_asset_graph()
    checked = {key.asset_key for key in graph.asset_check_keys}
    assert graph.get_all_asset_keys() - checked == {dg.AssetKey("quality_report")}


def test_schedules_run_from_the_start() -> None:
    schedules = defs.get_repository_def().schedule_defs
    assert {schedule.default_status for schedule in schedules} == {dg.DefaultScheduleStatus.RUNNING}


def test_the_sensors_start_what_was_asked_for_from_the_start() -> None:
    sensors = {sensor.name: sensor for sensor in defs.get_repository_def().sensor_defs}
    jobs = {name: [target.job_name for target in sensor.targets] for name, sensor in sensors.items()}
    assert {name: jobs[name] for name in ("due_requests", "look_for_gaps", "watch_lists")} == {
        "due_requests": ["daily_history", "minute_history", "tick_history", "reference", "gap_healing"],
        "look_for_gaps": ["gaps"],
        "watch_lists": ["watch_list"],
    }
    assert {sensor.default_status for sensor in sensors.values()} == {dg.DefaultSensorStatus.RUNNING}


def test_what_asks_a_provider_stands_in_its_pool_and_what_writes_much_in_one_of_its_own() -> None:
    jobs = [defs.resolve_job_def(name) for name in ("daily_history", "minute_history", "tick_history")]
    pools = {node.name: node.pool for job in jobs for node in job.graph.node_defs if node.pools}
    assert pools == {
        **dict.fromkeys(["raw_daily_bars", "raw_minute_bars", "raw_trades"], "provider_sample"),
        **dict.fromkeys(["daily_rollups", "intraday_rollups"], "heavy_writes"),
    }


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
    keys = ["AAPL|2001", "AAPL|2000", "MSFT|2003", "AAPL|2003"]
    assert windows_of(keys) == [
        Window("AAPL", date(2000, 1, 1), date(2001, 12, 31)),
        Window("AAPL", date(2003, 1, 1), date(2003, 12, 31)),
        Window("MSFT", date(2003, 1, 1), date(2003, 12, 31)),
    ]


def test_a_key_stands_for_a_year_a_month_or_a_day() -> None:
    assert window_of("AAPL|2012") == Window("AAPL", date(2012, 1, 1), date(2012, 12, 31))
    assert window_of("BINANCE:BTCUSDT|2012-02") == Window("BINANCE:BTCUSDT", date(2012, 2, 1), date(2012, 2, 29))
    assert window_of("AAPL|2012-01-03") == Window("AAPL", date(2012, 1, 3), date(2012, 1, 3))
    # Months run up to the end of the horizon's, and neighbours join.
    assert windows_of(["A|2012-12", "A|2013-01", "A|2013-03"]) == [
        Window("A", date(2012, 12, 1), date(2013, 1, 31)),
        Window("A", date(2013, 3, 1), date(2013, 3, 31)),
    ]


def test_partitions_end_with_the_period_of_the_providers_horizon() -> None:
    # The sample data ends on 2013-03-01.
    last = {grid.name: grid.periods.get_partition_keys()[-1] for grid in (BY_YEAR, BY_MONTH, BY_DAY)}
    assert last == {"Years": "2013", "Months": "2013-03", "Days": "2013-03-01"}
    first = {grid.name: grid.periods.get_partition_keys()[0] for grid in (BY_YEAR, BY_MONTH, BY_DAY)}
    assert first == {"Years": "2000", "Months": "2000-01", "Days": "2012-01-01"}


@pytest.mark.parametrize(
    ("grid", "keys"),
    [
        (BY_YEAR, ["A|2012", "A|2013", "B|2013"]),
        (BY_MONTH, ["A|2012-12", "A|2013-01", "A|2013-02", "A|2013-03", "B|2013-02"]),
        (BY_DAY, [*(f"A|{day:%Y-%m-%d}" for day in pd.date_range("2012-12-30", "2013-03-01")), "B|2013-02-05"]),
    ],
)
def test_what_was_stored_touches_these_partitions(grid: Grid, keys: list[str]) -> None:
    # Days after the last partition are of none.
    stored = [
        Window("A", date(2012, 12, 30), date(2013, 12, 31)),
        Window("A", date(2013, 1, 2), date(2013, 1, 3)),
        Window("B", date(2013, 2, 5), date(2013, 2, 5)),
    ]
    assert grid.keys_of(stored) == keys


KNOWN = ["AAPL", "FB", "GOOG"]


@pytest.mark.parametrize(
    ("grid", "corners"),
    [
        (BY_YEAR, ["AAPL|2012", "FB|2013"]),
        (BY_MONTH, ["AAPL|2012-02", "FB|2013-01"]),
        (BY_DAY, ["AAPL|2012-02-03", "FB|2013-01-04"]),
    ],
)
def test_a_rectangle_is_named_by_its_corners_in_dagsters_order(grid: Grid, corners: list[str]) -> None:
    tags = rectangle_tags(["FB", "AAPL"], KNOWN, date(2012, 2, 3), date(2013, 1, 4), grid)
    assert list(tags.values()) == corners


@pytest.mark.parametrize(
    ("symbols", "first", "last", "complaint"),
    [
        (["AAPL"], date(2003, 1, 1), date(2001, 1, 1), "expected a range within 2000 to 2013, found 2003 to 2001"),
        (["AAPL"], date(1999, 12, 31), date(2001, 1, 1), "found 1999 to 2001"),
        (["AAPL"], date(2001, 1, 1), date(2014, 1, 1), "found 2001 to 2014"),
        (["TSLA"], date(2001, 1, 1), date(2002, 1, 1), "found TSLA"),
        ([], date(2001, 1, 1), date(2002, 1, 1), "found none"),
        (["AAPL", "GOOG"], date(2001, 1, 1), date(2002, 1, 1), "expected neighbours"),
    ],
)
def test_a_reversed_empty_or_unknown_range_is_an_error(
    symbols: list[str], first: date, last: date, complaint: str
) -> None:
    # Dagster itself would run nothing, or the symbols between as well, and report success.
    with pytest.raises(ConfigError, match=complaint):
        rectangle_tags(symbols, KNOWN, first, last)


def test_where_files_may_have_been_added_the_error_says_to_reload() -> None:
    # The sample's bars have ended, so no year begins by itself.
    with pytest.raises(ConfigError, match="found 2001 to 2014; where files were added, reload the code location"):
        rectangle_tags(["AAPL"], KNOWN, date(2001, 1, 1), date(2014, 1, 1))
    with pytest.raises(ConfigError, match=r"found 1999 to 2001$"):
        rectangle_tags(["AAPL"], KNOWN, date(1999, 1, 1), date(2001, 1, 1))


def test_months_and_days_out_of_range_are_named_as_such() -> None:
    with pytest.raises(
        ConfigError, match="Months: expected a range within 2000-01 to 2013-03, found 2013-03 to 2013-04"
    ):
        rectangle_tags(["AAPL"], KNOWN, date(2013, 3, 1), date(2013, 4, 1), BY_MONTH)
    with pytest.raises(ConfigError, match="Days: expected a range within 2012-01-01 to 2013-03-01, found 2011-12-30"):
        rectangle_tags(["AAPL"], KNOWN, date(2011, 12, 30), date(2012, 1, 3), BY_DAY)


@pytest.mark.parametrize("grid", [BY_YEAR, BY_MONTH, BY_DAY])
def test_what_a_run_works_on_is_what_dagster_gives_it(grid: Grid) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        # In the order in which they were added, which is not that of the alphabet.
        instance.add_dynamic_partitions(str(SYMBOLS.name), ["B", "C", "A", "D"])
        known = list(instance.get_dynamic_partitions(str(SYMBOLS.name)))
        tags = rectangle_tags(["A", "C"], known, date(2012, 11, 5), date(2013, 1, 4), grid)
        keys = grid.definition.get_partition_keys_in_range(
            dg.PartitionKeyRange(tags[RANGE_START_TAG], tags[RANGE_END_TAG]), dynamic_partitions_store=instance
        )
        assert windows_of_run(instance, tags) == windows_of(keys)
        assert windows_of_run(instance, {PARTITION_TAG: "A|2012-12"}) == windows_of(["A|2012-12"])
        assert windows_of_run(instance, {}) is None


def test_the_repository_can_be_loaded_by_dagsters_own_validation() -> None:
    dg.Definitions.validate_loadable(defs)
