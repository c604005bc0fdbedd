"""The database's upkeep in Dagster: the retention job, the asset that describes the server, and what they warn of."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import Engine

from tests.storage import tiers as servers
from tests.storage.test_retention import add_days, audited
from tests.storage.test_tiers import rows
from tickstock_assets.definitions import defs
from tickstock_assets.defs import resources
from tickstock_assets.defs.partitions import PARTITION_TAG, SYMBOLS
from tickstock_assets.settings import settings

# Dagster's own code calls it.
pytestmark = pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated")


@pytest.fixture
def chosen(database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """The database that the settings name, with a retention of two years for daily bars."""
    address = database.url.set(drivername="postgresql").render_as_string(hide_password=False)
    monkeypatch.setenv("TICKSTOCK_DATABASE_URL", address)
    monkeypatch.setenv("TICKSTOCK_HOME", str(tmp_path))
    monkeypatch.setenv("TICKSTOCK_DAILY_RETENTION", "2 years")
    settings.cache_clear()
    resources.engine.cache_clear()
    yield database
    resources.engine().dispose()
    resources.engine.cache_clear()
    settings.cache_clear()


def test_the_retention_job_drops_old_rows_or_leaves_them_to_the_server(chosen: Engine, tier: str) -> None:
    add_days(chosen)
    assert defs.resolve_job_def("retention").execute_in_process().success
    ((oldest, left),) = rows(chosen, "SELECT min(date), count(*) FROM ohlcv_daily")
    if tier == servers.COMMUNITY:
        assert (left, audited(chosen)) == (121, [])
    else:
        assert oldest > datetime.now(UTC).date().replace(day=1, year=datetime.now(UTC).year - 4)
        assert left < 121
        assert audited(chosen)


@pytest.mark.usefixtures("chosen")
def test_the_check_of_the_database_warns_of_what_is_off_and_does_not_fail_the_run(tier: str) -> None:
    result = defs.resolve_job_def("database_status").execute_in_process()
    assert result.success
    (check,) = result.get_asset_check_evaluations()
    # On Community the policy of the retention that the settings name is not there before the next migration.
    n_off = {servers.EMBEDDED: 4, servers.APACHE: 3, servers.COMMUNITY: 1}[tier]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert check.metadata["features_off"].value == n_off
    (materialized,) = result.asset_materializations_for_node("database")
    assert materialized.metadata["tier"].value.startswith(
        {servers.EMBEDDED: "plain", servers.APACHE: "TimescaleDB Apache", servers.COMMUNITY: "TimescaleDB Community"}[
            tier
        ]
    )


@pytest.mark.tiers(servers.EMBEDDED)
def test_a_load_that_retention_would_drop_is_warned_of_before_it_starts(chosen: Engine) -> None:
    instance = dg.DagsterInstance.ephemeral()
    assert defs.resolve_job_def("reference").execute_in_process(instance=instance).success
    assert "AAPL" in instance.get_dynamic_partitions(str(SYMBOLS.name))
    result = defs.resolve_job_def("daily_history").execute_in_process(
        instance=instance, partition_key="AAPL|2000", tags={PARTITION_TAG: "AAPL|2000"}
    )
    (landed,) = result.asset_materializations_for_node("raw_daily_bars")
    assert "found a load from 2000-01-01 on; raise or unset TICKSTOCK_DAILY_RETENTION" in str(
        landed.metadata["retention_warning"].value
    )
    events = [event.message or "" for event in instance.all_logs(result.run_id)] if result.run_id else []
    order = [n for n, said in enumerate(events) if "found a load from 2000-01-01" in said or "Landed AAPL" in said]
    assert "found a load from 2000-01-01" in events[order[0]]
    assert rows(chosen, "SELECT count(*) FROM ohlcv_daily") == [(212,)]
