"""In the web UI: what looks odd in the stored bars, how good each session is, and what becomes of both when it is mended."""

from typing import Any

import dagster as dg
import pandas as pd
import pytest
from sqlalchemy import text

from tests.defs.conftest import OpenProject
from tests.defs.simulated import Project
from tests.storage import tiers
from tickstock_assets.definitions import defs
from tickstock_assets.defs.partitions import RANGE_END_TAG, RANGE_START_TAG
from tickstock_assets.storage.bulk import merge

pytestmark = [
    pytest.mark.tiers(tiers.EMBEDDED),
    # Dagster's own code calls it.
    pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated"),
]

PRICES = ["open", "high", "low", "close"]
# Of few symbols no number of findings is out of the ordinary.
ROWS_AS_USUAL = {"quality_findings_row_count": True}


def store(project: Project, companies: list[str]) -> pd.DataFrame:
    """Store the simulator's daily bars of 2011 and 2012, S0001 with a spike on 2012-03-15 and a 2:1 split on 2012-08-01."""
    bars = pd.concat(
        [project.simulator.market.daily(name).assign(symbol=name) for name in companies], ignore_index=True
    )
    bars = bars[["symbol", "date", *PRICES, "volume"]].assign(source="sample")
    first = bars["symbol"] == "S0001"
    spike = first & (bars["date"] == "2012-03-15")
    bars.loc[spike, ["high", "close"]] = bars.loc[spike, "close"].iloc[0] * 2
    new_shares = first & (bars["date"] >= "2012-08-01")
    bars.loc[new_shares, PRICES] /= 2
    bars.loc[new_shares, "volume"] *= 2
    with project.engine.begin() as connection:
        merge(connection, "ohlcv_daily", bars)
    return bars


def run(project: Project, first: str, last: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, bool]]:
    """Run the job over a range of partitions; return the metadata of both assets and which checks passed."""
    tags = {RANGE_START_TAG: first, RANGE_END_TAG: last}
    result = defs.resolve_job_def("quality").execute_in_process(instance=project.instance, tags=tags)
    assert result.success
    metadata = [
        {name: value.value for name, value in result.asset_materializations_for_node(asset)[-1].metadata.items()}
        for asset in ("quality_findings", "quality_scores")
    ]
    checks = {check.check_name: check for check in result.get_asset_check_evaluations()}
    assert {check.severity for check in checks.values()} == {dg.AssetCheckSeverity.WARN}
    return metadata[0], metadata[1], {name: check.passed for name, check in checks.items()}


def test_a_spike_and_an_unrecorded_split_are_found_scored_and_resolved_once_they_are_mended(
    open_project: OpenProject,
) -> None:
    project = open_project(3, 100)
    bars = store(project, ["S0001", "S0002", "S0003"])
    found, scored, passed = run(project, "S0001|2011", "S0003|2012")
    rows = project.rows(
        "SELECT symbol, (timestamp AT TIME ZONE 'UTC')::date::text, rule FROM quality_findings WHERE resolved_at IS NULL "
        "AND severity <> 'info' ORDER BY timestamp"
    )
    assert rows == [("S0001", "2012-03-15", "price_spike"), ("S0001", "2012-08-01", "unrecorded_split")]
    assert found["findings_open"] >= 2
    assert passed == {**ROWS_AS_USUAL, "bars_look_right": False, "sessions_score_well": False}
    # 2011 has 252 sessions, 2012 has 250; nothing is missing.
    assert scored["sessions_scored"] == 3 * 502
    assert scored["heat_map_1d"].startswith("![scores of 1d bars](data:image/png;base64,")
    score = "SELECT score::float8, components ->> 'errors' FROM quality_scores WHERE symbol = 'S0001' AND session = '2012-03-15'"
    assert project.rows(score) == [(50.0, "1")]

    again, scored_again, _ = run(project, "S0001|2012", "S0001|2012")
    assert (again["findings_new"], again["findings_resolved"], scored_again["scores_changed"]) == (0, 0, 0)

    right = bars[(bars["symbol"] == "S0001") & (bars["date"] == "2012-03-15")].copy()
    right[["high", "close"]] = right["open"].iloc[0]
    right["low"] = right[["low", "open"]].min(axis=1)
    with project.engine.begin() as connection:
        merge(connection, "ohlcv_daily", right)
        connection.execute(
            text("INSERT INTO splits (symbol, execution_date, source, split_from, split_to) "
                 "VALUES ('S0001', '2012-08-01', 'local', 1, 2)")
        )  # fmt: skip
    mended, scored_mended, passed = run(project, "S0001|2012", "S0001|2012")
    assert mended["findings_resolved"] == 2
    assert scored_mended["scores_changed"] == 2
    assert passed == {**ROWS_AS_USUAL, "bars_look_right": True, "sessions_score_well": True}
    # The old score stays as history.
    assert project.rows(score + " ORDER BY scored_at") == [(50.0, "1"), (100.0, "0")]
