"""Invented minutes of the sample data, rolled up: every day equals the real one, in every field, half days included.

Nobody's daily bars are loaded here, so that what stands in `ohlcv_daily` was made from minutes.
"""

import csv
import gzip
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import Engine, text

from tickstock_assets.definitions import defs
from tickstock_assets.defs import resources
from tickstock_assets.defs.minute_checks import rollups_equal_their_minutes
from tickstock_assets.defs.partitions import BY_MONTH, SYMBOLS, rectangle_tags
from tickstock_assets.loading.lineup import Lineup
from tickstock_assets.loading.load import Loader, Order
from tickstock_assets.providers.base import Dataset
from tickstock_assets.providers.sample import VENDORED_FILE, SampleProvider
from tickstock_assets.settings import settings
from tickstock_assets.storage import rollups

pytestmark = [
    # Dagster's own code calls it.
    pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated")
]

type Day = tuple[Decimal, ...]

FIELDS = ("Open", "High", "Low", "Close", "Volume")
FB_LISTED, LAST = date(2012, 5, 18), date(2013, 3, 1)


def days_of_the_file(symbol: str) -> dict[str, Day]:
    """Return open, high, low, close and volume by day, out of the file's text."""
    with gzip.open(VENDORED_FILE, "rt", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["Ticker"] == symbol]
    return {row["Date"]: tuple(Decimal(row[name]) for name in FIELDS) for row in rows}


def rolled_up(engine: Engine, symbol: str) -> dict[str, Day]:
    query = """SELECT date::text, open, high, low, close, volume FROM ohlcv_daily
               WHERE symbol = :symbol AND source = 'rollup:synthetic'"""
    with engine.connect() as connection:
        return {row[0]: tuple(row[1:]) for row in connection.execute(text(query), {"symbol": symbol})}


def scalar(engine: Engine, query: str) -> object:
    with engine.connect() as connection:
        return connection.execute(text(query)).scalar_one()


@pytest.fixture
def project(database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """The database that the settings name, and the sample provider."""
    address = database.url.set(drivername="postgresql").render_as_string(hide_password=False)
    monkeypatch.setenv("TICKSTOCK_DATABASE_URL", address)
    monkeypatch.setenv("TICKSTOCK_HOME", str(tmp_path))
    for cached in (settings, resources.engine, resources.lineup):
        cached.cache_clear()
    yield database
    resources.engine().dispose()
    for cached in (settings, resources.engine, resources.lineup):
        cached.cache_clear()


@pytest.fixture
def instance(project: Engine) -> Iterator[dg.DagsterInstance]:
    """An instance that knows the symbols and the calendar."""
    assert str(resources.engine().url.database) == project.url.database
    with dg.DagsterInstance.ephemeral() as instance:
        assert defs.resolve_job_def("reference").execute_in_process(instance=instance).success
        yield instance


def minutes_of_fb(instance: dg.DagsterInstance, first: date) -> dg.ExecuteInProcessResult:
    known = list(instance.get_dynamic_partitions(str(SYMBOLS.name)))
    tags = rectangle_tags(["FB"], known, first, LAST, BY_MONTH)
    return defs.resolve_job_def("minute_history").execute_in_process(instance=instance, tags=tags, raise_on_error=False)


def test_the_assets_make_days_that_equal_the_real_ones(project: Engine, instance: dg.DagsterInstance) -> None:
    result = minutes_of_fb(instance, FB_LISTED)
    assert result.success
    checks = {(check.asset_key.path[-1], check.check_name): check for check in result.get_asset_check_evaluations()}
    assert all(check.passed for check in checks.values())
    assert {asset for asset, name in checks if name == "rollups_equal_their_minutes"} == {
        "ohlcv_5min", "ohlcv_15min", "ohlcv_1h", "daily_rollups",
    }  # fmt: skip

    expected = days_of_the_file("FB")
    assert len(expected) == 196
    # These end at one o'clock: the days before Independence Day and Christmas, and after Thanksgiving.
    assert {"2012-07-03", "2012-11-23", "2012-12-24"} <= expected.keys()
    assert rolled_up(project, "FB") == expected
    assert scalar(project, "SELECT count(*) FROM ohlcv_1min WHERE source <> 'synthetic'") == 0
    assert scalar(project, "SELECT count(*) FROM ohlcv_1min") == 193 * 390 + 3 * 210

    months = {f"FB|2012-{month:02}" for month in range(5, 13)} | {f"FB|2013-{month:02}" for month in range(1, 4)}
    for asset in ("raw_minute_bars", "ohlcv_1min"):
        assert set(instance.get_materialized_partitions(dg.AssetKey(asset))) == months
    of_july = instance.fetch_materializations(
        dg.AssetRecordsFilter(dg.AssetKey("ohlcv_1min"), asset_partitions=["FB|2012-07"]), limit=1
    )
    materialization = of_july.records[0].asset_materialization
    assert materialization
    # 20 days and the half day before Independence Day.
    assert materialization.metadata["dagster/partition_row_count"].value == 20 * 390 + 210


def test_the_minutes_again_change_nothing(project: Engine, instance: dg.DagsterInstance) -> None:
    assert minutes_of_fb(instance, date(2013, 2, 1)).success
    before = scalar(project, "SELECT string_agg(t::text, ';' ORDER BY t::text) FROM ohlcv_daily t")
    again = minutes_of_fb(instance, date(2013, 2, 1))
    assert again.success
    [stored] = [one for one in again.asset_materializations_for_node("ohlcv_1min") if "rows_unchanged" in one.metadata][
        :1
    ]
    assert (stored.metadata["rows_unchanged"].value, stored.metadata["rows_written"].value) == (20 * 390, 0)
    [days] = again.asset_materializations_for_node("daily_rollups")
    assert days.metadata["hours_computed"].value == 0
    assert scalar(project, "SELECT string_agg(t::text, ';' ORDER BY t::text) FROM ohlcv_daily t") == before


@pytest.mark.tiers("embedded")
def test_a_rollup_that_was_corrupted_fails_its_check_and_shows_the_value(
    project: Engine, instance: dg.DagsterInstance
) -> None:
    assert minutes_of_fb(instance, date(2013, 3, 1)).success
    with project.begin() as connection:
        connection.execute(text("UPDATE ohlcv_15min SET high = high + 0.01 WHERE timestamp = '2013-03-01 15:15Z'"))
        connection.execute(text("UPDATE ohlcv_daily SET volume = volume - 1"))
    job = defs.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection=set(), asset_check_selection=set(rollups_equal_their_minutes.check_keys)
    )
    result = job.execute_in_process(instance=instance, raise_on_error=False)
    checks = {check.asset_key.path[-1]: check for check in result.get_asset_check_evaluations()}
    assert {name for name, check in checks.items() if not check.passed} == {"ohlcv_15min", "daily_rollups"}
    assert all(check.severity is dg.AssetCheckSeverity.ERROR and check.blocking for check in checks.values())
    [wrong] = checks["ohlcv_15min"].metadata["first_differences"].records  # type: ignore[union-attr]
    assert (wrong.data["symbol"], wrong.data["column"]) == ("FB", "high")
    assert Decimal(str(wrong.data["found"])) - Decimal(str(wrong.data["expected"])) == Decimal("0.01")


@pytest.mark.tiers("embedded")
def test_a_minute_that_does_not_fit_its_day_fails_the_check_of_invented_minutes(
    project: Engine, instance: dg.DagsterInstance
) -> None:
    known = list(instance.get_dynamic_partitions(str(SYMBOLS.name)))
    daily = rectangle_tags(["FB"], known, date(2013, 1, 1), LAST)
    assert defs.resolve_job_def("daily_history").execute_in_process(instance=instance, tags=daily).success
    assert minutes_of_fb(instance, LAST).success
    # The provider's days stay where they are.
    assert rolled_up(project, "FB") == {}
    with project.begin() as connection:
        connection.execute(text("UPDATE ohlcv_daily SET close = close + 0.01 WHERE date = '2013-03-01'"))
    result = minutes_of_fb(instance, LAST)
    assert not result.success
    [failed] = [check for check in result.get_asset_check_evaluations() if not check.passed]
    assert (failed.check_name, failed.metadata["rows_offending"].value) == ("ohlcv_1min_adds_up", 1)
    # What is downstream has not run.
    assert result.asset_materializations_for_node("daily_rollups") == []


@pytest.mark.tiers("embedded")
def test_a_load_of_eight_years_of_minutes_makes_days_that_equal_the_real_ones(database: Engine, tmp_path: Path) -> None:
    order = Order(["GOOG"], date(2004, 8, 1), LAST, Dataset.MINUTE_BARS, actions=False)
    outcome = Loader(Lineup([SampleProvider()]), database, tmp_path).load(order)
    assert outcome.problems == []
    made = rollups.roll_up_daily(database)
    expected = days_of_the_file("GOOG")
    assert len(expected) == 2_148
    assert made.bars["1d"].written == len(expected)
    assert rolled_up(database, "GOOG") == expected
