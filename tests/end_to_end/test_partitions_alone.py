"""A partition computed alone, from its own bars and the warm-up before them, says what the whole history says."""

import json
import os
import subprocess
import sys
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from tests.conftest import Demo
from tests.end_to_end import oracle
from tests.end_to_end.test_demo import rows_with_writer
from tickstock_assets.domain import features
from tickstock_assets.domain.adjustments import to_continuous
from tickstock_assets.domain.features import compute_features
from tickstock_assets.domain.patterns import registry
from tickstock_assets.domain.patterns.registry import detect
from tickstock_assets.domain.windows import Window, rows_inside
from tickstock_assets.storage import bars as stored

FIRST_DAY, LAST_DAY = date(2000, 1, 1), date(2013, 12, 31)


@pytest.fixture(scope="module")
def splits(demo_database: Engine) -> pd.DataFrame:
    with demo_database.connect() as connection:
        return stored.splits(connection)


@pytest.fixture(scope="module")
def whole_features(demo_database: Engine, splits: pd.DataFrame) -> pd.DataFrame:
    with demo_database.connect() as connection:
        return compute_features(to_continuous(stored.daily_bars(connection), splits))


@pytest.fixture(scope="module")
def whole_detections(demo_database: Engine, splits: pd.DataFrame) -> pd.DataFrame:
    with demo_database.connect() as connection:
        return detect(to_continuous(stored.daily_bars(connection), splits))


def assert_bitwise_equal(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Hold two frames equal, numbers to the last bit; NaN equals NaN."""
    assert list(found.columns) == list(expected.columns)
    assert len(found) == len(expected)
    for name in expected.columns:
        ours, theirs = found[name].to_numpy(), expected[name].to_numpy()
        if ours.dtype == np.float64:
            ours, theirs = ours.view(np.int64), theirs.view(np.int64)
        assert ours.tolist() == theirs.tolist(), name


class Alone:
    """Computes a window from what the storage reads for it, as the assets do."""

    def __init__(self, engine: Engine, splits: pd.DataFrame) -> None:
        self.engine, self.splits = engine, splits

    def features(self, window: Window) -> pd.DataFrame:
        return rows_inside(compute_features(self._bars(window, features.WARMUP_BARS)), "timestamp", [window])

    def detections(self, window: Window) -> pd.DataFrame:
        return rows_inside(detect(self._bars(window, registry.WARMUP_BARS)), "timestamp", [window])

    def _bars(self, window: Window, warm_up_bars: int) -> pd.DataFrame:
        with self.engine.connect() as connection:
            read = stored.daily_bars(connection, [window], warm_up_bars)
        # No more than was asked for, or the equality would prove nothing.
        assert (read["date"] < pd.Timestamp(window.start)).sum() <= warm_up_bars
        return to_continuous(read, self.splits)


@pytest.fixture(scope="module")
def alone(demo_database: Engine, splits: pd.DataFrame) -> Alone:
    return Alone(demo_database, splits)


def test_every_year_of_every_symbol_alone_equals_those_rows_of_the_whole_history(
    alone: Alone, whole_features: pd.DataFrame, whole_detections: pd.DataFrame
) -> None:
    n_features = n_detections = 0
    for symbol in oracle.SYMBOLS:
        for year in range(FIRST_DAY.year, LAST_DAY.year + 1):
            window = Window(symbol, date(year, 1, 1), date(year, 12, 31))
            measured, found = alone.features(window), alone.detections(window)
            assert_bitwise_equal(measured, rows_inside(whole_features, "timestamp", [window]))
            assert_bitwise_equal(found, rows_inside(whole_detections, "timestamp", [window]))
            n_features, n_detections = n_features + len(measured), n_detections + len(found)
    # Together the 70 are the whole.
    assert (n_features, n_detections) == (len(whole_features), len(whole_detections))
    assert n_features == oracle.N_BARS


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    symbol=st.sampled_from(oracle.SYMBOLS),
    first_day=st.dates(FIRST_DAY, LAST_DAY),
    n_days=st.one_of(st.integers(1, 10), st.integers(1, 900)),
)
def test_a_window_cut_anywhere_equals_those_rows_of_the_whole_history(
    alone: Alone,
    whole_features: pd.DataFrame,
    whole_detections: pd.DataFrame,
    symbol: str,
    first_day: date,
    n_days: int,
) -> None:
    window = Window(symbol, first_day, first_day + timedelta(days=n_days - 1))
    assert_bitwise_equal(alone.features(window), rows_inside(whole_features, "timestamp", [window]))
    assert_bitwise_equal(alone.detections(window), rows_inside(whole_detections, "timestamp", [window]))


def test_without_its_warm_up_a_year_would_come_out_otherwise(
    demo_database: Engine, splits: pd.DataFrame, whole_features: pd.DataFrame, whole_detections: pd.DataFrame
) -> None:
    # So that the equalities above are known to come from the warm-up, and not from measures that need none.
    window = Window("AAPL", date(2005, 1, 1), date(2005, 12, 31))
    with demo_database.connect() as connection:
        year = to_continuous(stored.daily_bars(connection, [window]), splits)
    measured, found = compute_features(year), detect(year)
    expected = rows_inside(whole_features, "timestamp", [window])
    assert measured["atr_14"].isna().sum() == 14
    assert not expected.isna().any(axis=None)
    assert len(found) < len(rows_inside(whole_detections, "timestamp", [window]))


ONE_PARTITION = """
import json, sys
from pathlib import Path
from tickstock_assets.definitions import defs
from tickstock_assets.defs import launching
from tickstock_assets.defs.partitions import PARTITION_TAG
import dagster as dg

with launching.open_instance(Path(sys.argv[1])) as instance:
    report = {}
    for partition in sys.argv[2:]:
        steps = []
        launching.run_job(instance, defs.resolve_job_def("daily_history"), {PARTITION_TAG: partition}, steps.append)
        for name in ("raw_daily_bars", "ohlcv_daily", "bar_features", "patterns"):
            event = instance.get_latest_materialization_event(dg.AssetKey(name))
            assert event.asset_materialization.partition == partition
            metadata = event.asset_materialization.metadata
            report[f"{partition} {name}"] = {
                key: value.value for key, value in metadata.items() if isinstance(value.value, int | str)
            }
    print(json.dumps(report))
"""


def materialize(demo: Demo, *partitions: str) -> dict[str, dict[str, Any]]:
    """Run the real job for single partitions in a process of its own, and return what each asset said."""
    result = subprocess.run(
        [sys.executable, "-c", ONE_PARTITION, str(demo.home), *partitions],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "TICKSTOCK_HOME": str(demo.home)},
    )
    assert result.returncode == 0, result.stderr
    report: dict[str, dict[str, Any]] = json.loads(result.stdout.splitlines()[-1])
    return report


def test_dagster_materializes_single_partitions_to_the_very_rows_that_are_stored(
    demo: Demo, demo_database: Engine
) -> None:
    partitions = {"AAPL|2005": "2005", "MSFT|2003": "2003", "FB|2012": "2012", "FB|2005": "2005"}
    before = rows_with_writer(demo_database)
    report = materialize(demo, *partitions)
    assert rows_with_writer(demo_database) == before
    for partition, year in partitions.items():
        symbol = partition.partition("|")[0]
        n_bars = sum(row["Ticker"] == symbol and row["Date"].startswith(year) for row in oracle.file_rows())
        assert report[f"{partition} raw_daily_bars"]["windows_fetched"] == 0
        for name in ("ohlcv_daily", "bar_features", "patterns"):
            said = report[f"{partition} {name}"]
            # Each row was computed again, and found to be there already.
            assert said["rows_unchanged"] == said["rows_produced"]
            assert said["rows_written"] == said["rows_removed"] == 0
            if name != "patterns":
                assert said["rows_produced"] == n_bars
    assert report["AAPL|2005 patterns"]["rows_produced"] > 100
