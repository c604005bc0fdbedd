"""What `tickstock load` tells Dagster of: what it stored, and what a load that was stopped did not come to tell."""

from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest

from tests.defs.conftest import OpenProject
from tickstock_assets.defs.recording import record_partitions
from tickstock_assets.domain.windows import Window
from tickstock_assets.providers.base import Dataset
from tickstock_assets.settings import settings

pytestmark = pytest.mark.tiers("embedded")

A, B = Window("A", date(2011, 3, 1), date(2012, 6, 30)), Window("B", date(2012, 1, 1), date(2012, 12, 31))
A_AND_B = {"A|2011", "A|2012", "B|2012"}


def test_what_is_stored_and_not_told_or_newer_than_told_is_recorded(open_project: OpenProject) -> None:
    project = open_project(companies=1, calls_per_day=25)

    def record(windows: list[Window], stored: list[tuple[Window, datetime]]) -> int:
        return record_partitions(settings().home_path, Dataset.DAILY_BARS, windows, stored, lambda *_: None)

    def n_told(asset: str) -> dict[str, int]:
        records = project.instance.fetch_materializations(dg.AssetKey(asset), limit=100).records
        keys = [str(one.partition_key) for one in records]
        return {key: keys.count(key) for key in keys}

    landed = datetime.now(UTC) - timedelta(hours=1)
    assert record([], []) == 0
    # B was stored by a load that was killed before it told of it.
    assert record([A], [(A, landed), (B, landed)]) == 3
    assert project.materialized("raw_daily_bars") == project.materialized("ohlcv_daily") == A_AND_B
    assert project.instance.has_dynamic_partition("symbols", "B")
    assert record([], [(A, landed), (B, landed)]) == 0
    # Bars of A's first year were landed and stored since, and nobody was told.
    corrected = Window("A", date(2011, 5, 4), date(2011, 5, 5))
    assert record([], [(A, landed), (corrected, datetime.now(UTC)), (B, landed)]) == 1
    # Stored again now, from what was landed before.
    assert record([B], [(A, landed), (B, landed)]) == 1
    assert n_told("ohlcv_daily") == n_told("raw_daily_bars") == {"A|2011": 2, "A|2012": 1, "B|2012": 2}


def test_raw_bars_are_told_of_before_what_is_made_of_them_and_again_when_a_person_wiped_it(
    open_project: OpenProject,
) -> None:
    project = open_project(companies=1, calls_per_day=25)
    raw, bars = dg.AssetKey("raw_daily_bars"), dg.AssetKey("ohlcv_daily")

    def newest(asset: dg.AssetKey) -> dict[str, int]:
        records = project.instance.fetch_materializations(asset, limit=100).records
        return {str(one.partition_key): one.storage_id for one in reversed(records)}

    landed = datetime.now(UTC)
    assert record_partitions(settings().home_path, Dataset.DAILY_BARS, [A], [(A, landed)], lambda *_: None) == 2
    told_raw, told_bars = newest(raw), newest(bars)
    assert told_raw.keys() == {"A|2011", "A|2012"}
    assert all(told_raw[key] < told_bars[key] for key in told_raw)
    project.instance.wipe_assets([bars])
    assert project.materialized("ohlcv_daily") == set()
    assert record_partitions(settings().home_path, Dataset.DAILY_BARS, [], [(A, landed)], lambda *_: None) == 2
    assert project.materialized("ohlcv_daily") == {"A|2011", "A|2012"}
    assert newest(raw) == told_raw
