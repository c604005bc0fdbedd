"""A run over no partitions is a mistake and fails, whoever launched it: Dagster itself would do nothing and succeed."""

from collections.abc import Mapping

import dagster as dg
import pytest
from dagster import DagsterInvalidInvocationError

from tests.defs.conftest import OpenProject
from tickstock_assets.definitions import defs
from tickstock_assets.defs.launching import reason_of
from tickstock_assets.defs.partitions import PARTITION_TAG, RANGE_END_TAG, RANGE_START_TAG

pytestmark = [
    pytest.mark.tiers("embedded"),
    # Dagster's own code calls it.
    pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated"),
]

SWAPPED = (
    "Partitions: expected a range that goes up, by Dagster's list of symbols and by time, found {} to {}; swap its ends"
)


def between(first: str, last: str) -> dict[str, str]:
    return {RANGE_START_TAG: first, RANGE_END_TAG: last}


@pytest.mark.parametrize(
    ("tags", "complaint"),
    [
        (between("S0001|2012", "S0002|2011"), SWAPPED.format("S0001|2012", "S0002|2011")),
        (between("S0002|2011", "S0001|2012"), SWAPPED.format("S0002|2011", "S0001|2012")),
        (between("S0001|2011", "S0001|1950"), "1950"),
        ({PARTITION_TAG: "NONE|2011"}, "NONE|2011"),
        ({}, "raw_daily_bars: expected partitions, found a run without; choose some"),
    ],
)
def test_a_run_without_a_partition_fails_with_a_sentence(
    open_project: OpenProject, tags: Mapping[str, str], complaint: str
) -> None:
    project = open_project(companies=2, calls_per_day=25)
    result = defs.resolve_job_def("daily_history").execute_in_process(
        instance=project.instance,
        tags=dict(tags),
        asset_selection=[dg.AssetKey("raw_daily_bars")],
        raise_on_error=False,
    )
    assert not result.success
    assert complaint in reason_of(result.all_events)
    assert project.asked_for() == []


@pytest.mark.parametrize("asset", ["ohlcv_daily", "bar_features", "patterns"])
def test_so_does_one_of_an_asset_further_down(open_project: OpenProject, asset: str) -> None:
    project = open_project(companies=1, calls_per_day=25)
    result = defs.resolve_job_def("daily_history").execute_in_process(
        instance=project.instance,
        tags=between("S0001|2012", "S0001|2011"),
        asset_selection=[dg.AssetKey(asset)],
        raise_on_error=False,
    )
    assert not result.success
    assert SWAPPED.format("S0001|2012", "S0001|2011") in reason_of(result.all_events)


def test_dagster_makes_no_run_of_a_range_whose_end_is_not_there(open_project: OpenProject) -> None:
    project = open_project(companies=1, calls_per_day=25)
    with pytest.raises(DagsterInvalidInvocationError, match="NONE"):
        project.run(between("S0001|2011", "NONE|2012"))
