"""In the web UI: what two providers disagree on, and which bars another than the first provider served."""

from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from tests.defs.conftest import OpenProject
from tests.defs.simulated import FIRST, Project
from tests.storage import tiers
from tickstock_assets.definitions import defs
from tickstock_assets.defs import resources
from tickstock_assets.defs.partitions import RANGE_END_TAG, RANGE_START_TAG
from tickstock_assets.domain.windows import Window
from tickstock_assets.loading.fetching import land_missing
from tickstock_assets.loading.lineup import Lineup
from tickstock_assets.settings import settings

pytestmark = [
    pytest.mark.tiers(tiers.EMBEDDED),
    # Dagster's own code calls it.
    pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated"),
]

END_OF_2011 = pd.Timestamp("2011-12-31")
BARS = ["date", "open", "high", "low", "close", "volume"]


def write(folder: Path, bars: pd.DataFrame, symbol: str = "S0001") -> None:
    folder.mkdir(exist_ok=True)
    bars[BARS].assign(date=bars["date"].dt.strftime("%Y-%m-%d")).to_csv(folder / f"{symbol}.csv", index=False)


def materialize(project: Project, asset: str) -> tuple[dict[str, Any], dg.AssetCheckEvaluation]:
    """Compute an asset and its checks; return its metadata and its only check."""
    job = defs.resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(asset_selection=[dg.AssetKey(asset)], instance=project.instance)
    assert result.success
    [materialized] = result.asset_materializations_for_node(asset)
    [check] = result.get_asset_check_evaluations()
    return {name: value.value for name, value in materialized.metadata.items()}, check


def land_both(project: Project) -> None:
    """Land the year 2011 of S0001 from each provider of the settings."""
    resources.lineup.cache_clear()
    window = Window("S0001", FIRST, END_OF_2011.date())
    for provider in resources.lineup():
        landing = land_missing(Lineup([provider]), project.engine, settings().landing_path, [window])
        landing.raise_for_failures()


def test_what_two_providers_disagree_on_is_shown_with_causes_and_warned_of_until_it_is_corrected(
    open_project: OpenProject, tmp_path: Path
) -> None:
    folder = tmp_path / "bars"
    project = open_project(2, 100, TICKSTOCK_PROVIDERS="alpha_vantage,csv_folder", TICKSTOCK_CSV_FOLDER=str(folder))
    bars = project.simulator.market.daily("S0001")
    bars = bars[bars["date"] <= END_OF_2011].reset_index(drop=True)
    wrong = bars.copy()
    wrong["volume"] = wrong["volume"] + 0.25  # fractions at one side, whole shares at the other
    wrong.loc[20, "close"] = wrong.loc[20, "low"]
    write(folder, wrong)
    land_both(project)
    n_calls = len(project.simulator.record.calls)

    metadata, check = materialize(project, "provider_reconciliation")
    assert len(project.simulator.record.calls) == n_calls
    # 2011 had 252 sessions.
    assert (metadata["symbols_compared"], metadata["bars_compared"], metadata["bars_unexplained"]) == (1, 252, 1)
    assert metadata["causes"] == {"fractional_volume": 1}
    close, low = bars.loc[20, "close"], bars.loc[20, "low"]
    assert metadata["residual_before"]["close"] == pytest.approx((close - low) / close)
    assert metadata["residual_before"]["volume"] > 0
    assert metadata["residual_after"]["volume"] == 0
    line = metadata["report"].splitlines()[2]
    assert line.startswith("| S0001 | alpha_vantage | csv_folder | 252 | 0 | 0 |")
    assert line.endswith("| fractional volume | 1 |")
    assert (check.passed, check.severity, check.check_name) == (False, dg.AssetCheckSeverity.WARN, "providers_agree")
    assert check.metadata["findings_open"].value == 1

    write(folder, bars)
    land_both(project)
    metadata, check = materialize(project, "provider_reconciliation")
    assert (metadata["bars_unexplained"], metadata["findings_resolved"], metadata["causes"]) == (0, 1, {})
    assert (check.passed, check.metadata["findings_open"].value) == (True, 0)
    assert project.rows("SELECT count(*) FROM audit_trail WHERE event_type = 'quality' AND actor LIKE 'dagster %'") == [
        (2,)
    ]


def test_with_one_provider_there_is_nothing_to_compare_and_nothing_to_warn_of(open_project: OpenProject) -> None:
    project = open_project(1, 100)
    metadata, check = materialize(project, "provider_reconciliation")
    assert (metadata["report"], metadata["symbols_compared"]) == ("Nothing is landed from two providers.", 0)
    assert check.passed
    assert project.simulator.record.calls == []


def test_bars_that_another_than_the_first_provider_served_are_shown_by_source(
    open_project: OpenProject, tmp_path: Path
) -> None:
    folder = tmp_path / "bars"
    project = open_project(1, 100, TICKSTOCK_PROVIDERS="csv_folder,alpha_vantage", TICKSTOCK_CSV_FOLDER=str(folder))
    bars = project.simulator.market.daily("S0001")
    write(folder, bars[bars["date"] > END_OF_2011])
    resources.lineup.cache_clear()

    def sources(year: int) -> dg.AssetCheckEvaluation:
        tags = {RANGE_START_TAG: f"S0001|{year}", RANGE_END_TAG: f"S0001|{year}"}
        result = defs.resolve_job_def("daily_history").execute_in_process(instance=project.instance, tags=tags)
        assert result.success
        return next(check for check in result.get_asset_check_evaluations() if check.check_name == "ohlcv_daily_source")

    first = sources(2012)
    # 2012 had 250 sessions.
    assert (first.passed, first.metadata["rows_by_source"].value) == (True, {"csv_folder": 250})
    fallback = sources(2011)
    assert (fallback.passed, fallback.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert fallback.metadata["rows_by_source"].value == {"alpha_vantage": 252}
    [stretch] = [record.data for record in fallback.metadata["first_windows_of_others"].records]  # type: ignore[union-attr]
    assert stretch == {
        "symbol": "S0001",
        "source": "alpha_vantage",
        "first": "2011-01-03 00:00:00",
        "last": "2011-12-30 00:00:00",
        "bars": "252",
    }
