"""The job that loads trades: to ticks, to minutes made from them, to what is rolled up from those."""

from datetime import date

import dagster as dg
import pytest

from tests.defs.conftest import OpenProject
from tests.defs.simulated import KEY
from tickstock_assets.definitions import defs
from tickstock_assets.defs.partitions import BY_DAY, rectangle_tags

pytestmark = [
    pytest.mark.tiers("embedded"),
    # Dagster's own code calls it.
    pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated"),
]

POLYGON = {
    "TICKSTOCK_PROVIDERS": "polygon",
    "TICKSTOCK_POLYGON_URL": "{simulator}",
    "TICKSTOCK_POLYGON_API_KEY": KEY,
    "TICKSTOCK_POLYGON_CALLS_PER_MINUTE": "0",
}


def test_trades_of_a_session_become_ticks_minutes_and_a_day_that_say_what_they_were_made_of(
    open_project: OpenProject,
) -> None:
    project = open_project(companies=1, calls_per_day=25, **POLYGON)
    # The third is a half day, the fourth a holiday.
    tags = rectangle_tags(["S0001"], ["S0001"], date(2012, 7, 3), date(2012, 7, 4), BY_DAY)
    result = defs.resolve_job_def("tick_history").execute_in_process(instance=project.instance, tags=tags)
    assert result.success
    assert all(check.passed for check in result.get_asset_check_evaluations())
    assert project.rows("SELECT count(*), min(source) FROM ticks") == [(4 * 210, "polygon")]
    assert project.rows("SELECT count(*), min(source), max(source) FROM ohlcv_1min") == [
        (210, "ticks:polygon", "ticks:polygon")
    ]
    [(day, source, volume)] = project.rows("SELECT date, source, volume FROM ohlcv_daily")
    assert (day, source) == (date(2012, 7, 3), "rollup:ticks:polygon")
    assert [(volume,)] == project.rows("SELECT sum(quantity) FROM ticks")
    assert project.materialized("tick_minute_bars") == {"S0001|2012-07-03", "S0001|2012-07-04"}
    # The day is in the table of daily bars, so its year there counts as changed, and what is computed from it catches up.
    assert project.materialized("ohlcv_daily") == {"S0001|2012"}
    [made] = [
        one for one in result.asset_materializations_for_node("tick_minute_bars") if one.partition == "S0001|2012-07-03"
    ]
    assert made.metadata["dagster/partition_row_count"].value == 210
    assert made.metadata["rows_in"].value == 4 * 210


def test_a_provider_without_trades_is_named(open_project: OpenProject) -> None:
    project = open_project(companies=1, calls_per_day=25)
    tags = rectangle_tags(["S0001"], ["S0001"], date(2012, 7, 3), date(2012, 7, 3), BY_DAY)
    job = defs.resolve_job_def("tick_history")
    result = job.execute_in_process(instance=project.instance, tags=tags, raise_on_error=False)
    [failure] = [event for event in result.all_events if event.is_step_failure]
    assert "trades: expected a provider that has them, found alpha_vantage" in str(failure.step_failure_data.error)
    assert project.materialized("raw_trades") == set[str]() == set(project.asked_for())
    assert dg.AssetKey("ticks") not in {event.asset_key for event in result.get_asset_materialization_events()}
