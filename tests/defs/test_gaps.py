"""In the web UI: the calendar that a person has corrected, and what is missing, told anew only where something changed."""

from datetime import date
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import text

from tests.defs.conftest import OpenProject
from tests.defs.simulated import FIRST, LAST, Project
from tests.storage import tiers
from tickstock_assets.definitions import defs
from tickstock_assets.defs import resources
from tickstock_assets.domain.windows import Window
from tickstock_assets.loading.fetching import land_missing
from tickstock_assets.loading.storing import store
from tickstock_assets.settings import settings
from tickstock_assets.storage import sessions

pytestmark = [
    pytest.mark.tiers(tiers.EMBEDDED),
    # Dagster's own code calls it.
    pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated"),
]


def materialize(project: Project, asset: str) -> tuple[dict[str, Any], dg.AssetCheckEvaluation]:
    job = defs.resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(asset_selection=[dg.AssetKey(asset)], instance=project.instance)
    assert result.success
    [materialized] = result.asset_materializations_for_node(asset)
    checks = {check.check_name: check for check in result.get_asset_check_evaluations()}
    check = checks["no_provider_holes" if asset == "data_gaps" else f"{asset}_contract"]
    return {name: value.value for name, value in materialized.metadata.items()}, check


def load(project: Project) -> None:
    windows = [Window(symbol, FIRST, LAST) for symbol in ("S0001", "S0002")]
    land_missing(resources.lineup(), project.engine, settings().landing_path, windows).raise_for_failures()
    store(resources.lineup(), project.engine, settings().landing_path, windows)


def test_missing_days_are_found_warned_of_and_looked_at_again_only_where_something_was_stored(
    open_project: OpenProject,
) -> None:
    project = open_project(2, 100)
    load(project)
    with project.engine.begin() as connection:
        connection.execute(text("DELETE FROM ohlcv_daily WHERE symbol = 'S0002' AND date = '2012-05-15'"))
    metadata, check = materialize(project, "data_gaps")
    # Weekdays without a session: eight in 2011, eleven in 2012 with the storm, of two symbols; and the missing day.
    assert (metadata["gaps_new"], metadata["gaps_healed"]) == (2 * (8 + 11) + 1, 0)
    assert "data:image/png;base64," in metadata["holes"]
    assert not check.passed
    assert check.severity is dg.AssetCheckSeverity.WARN
    assert check.metadata["holes_open"].value == 1
    # Nothing was stored since, so nobody looks; what another run found out meanwhile is scored.
    with project.engine.begin() as connection:
        connection.execute(text("UPDATE stored_windows SET stored_at = stored_at - interval '3 days'"))
        connection.execute(text("UPDATE data_gaps SET class = 'no_trade' WHERE class = 'provider_hole'"))
    metadata, _ = materialize(project, "data_gaps")
    assert (metadata["gaps_new"], metadata["gaps_unchanged"], metadata["scores_changed"]) == (0, 0, 1)
    # A session that is closed is looked at, and is a holiday now.
    with project.engine.begin() as connection:
        sessions.close(connection, "XNYS", date(2012, 5, 15), reason="a test", author="Ada")
    metadata, check = materialize(project, "data_gaps")
    assert check.passed
    assert (metadata["gaps_new"], metadata["gaps_changed"]) == (1, 1)


def test_the_asset_of_sessions_leaves_what_a_person_said(open_project: OpenProject) -> None:
    project = open_project(1, 100)
    with project.engine.begin() as connection:
        sessions.close(connection, "XNYS", date(2012, 5, 15), reason="a test", author="Ada")
        connection.execute(text("UPDATE sessions SET close = close - interval '1 hour' WHERE session = '2012-05-16'"))
    metadata, check = materialize(project, "sessions")
    assert check.passed
    assert metadata["rows_corrected"] == 1
    [override] = metadata["overrides"].records
    assert (override.data["session"][:10], override.data["override_reason"]) == ("2012-05-15", "a test")
