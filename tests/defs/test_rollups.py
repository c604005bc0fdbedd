"""Years of which minutes made or changed days are told to Dagster once, also where the try that made them was stopped."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from tests.defs.conftest import OpenProject
from tests.defs.simulated import Project
from tickstock_assets.definitions import defs
from tickstock_assets.defs import retries
from tickstock_assets.defs.assets.rollups import daily_rollups, untold_since
from tickstock_assets.defs.partitions import Grid
from tickstock_assets.domain.errors import TransientDatabaseError
from tickstock_assets.storage import daily_rollups as statements
from tickstock_assets.storage import rollups
from tickstock_assets.storage.bulk import merge

pytestmark = [
    pytest.mark.tiers("embedded"),
    # Dagster's own code calls it.
    pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated"),
]

OPEN = datetime(2012, 3, 12, 13, 30, tzinfo=UTC)


@pytest.fixture
def project(open_project: OpenProject, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Two symbols with half an hour of minutes each, and no day; a batch is an hour of one of them."""
    monkeypatch.setattr(rollups, "HOURS_TOGETHER", 1)
    project = open_project(companies=2, calls_per_day=0)
    for symbol in ("S0001", "S0002"):
        add_minutes(project, symbol, 10.0)
    return project


def add_minutes(project: Project, symbol: str, price: float) -> None:
    prices = dict.fromkeys(["open", "high", "low", "close"], price)
    minutes = pd.DataFrame({"timestamp": pd.date_range(OPEN, periods=30, freq="min").as_unit("us"), **prices})
    with project.engine.begin() as connection:
        merge(connection, "ohlcv_1min", minutes.assign(symbol=symbol, volume=100.0, source="polygon"))


def roll_up(project: Project) -> bool:
    """Run the asset, and return whether that went well."""
    job = defs.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection={daily_rollups.key}, asset_check_selection=set()
    )
    return job.execute_in_process(instance=project.instance, raise_on_error=False).success


def told(project: Project) -> list[str]:
    """Return the years of daily bars that Dagster was told of, each time."""
    found = project.instance.fetch_materializations(dg.AssetKey("ohlcv_daily"), limit=100)
    return sorted(str(record.partition_key) for record in found.records)


def failing_once(number: int, error: Exception) -> Callable[..., Any]:
    """Return the work of a batch that fails when it is done for the so manieth time, and does not before and after."""
    work, n_calls = statements.recompute, 0

    def recompute(*arguments: Any) -> Any:
        nonlocal n_calls
        n_calls += 1
        if n_calls == number:
            raise error
        return work(*arguments)

    return recompute


def stop(*_: object) -> None:
    raise RuntimeError


@pytest.mark.parametrize("n_stopped", [1, 2])
def test_years_of_batches_before_a_try_was_stopped_are_told_of_by_the_next_one_that_is_not(
    project: Project, monkeypatch: pytest.MonkeyPatch, n_stopped: int
) -> None:
    for number in range(n_stopped):
        # The first try is stopped in its second batch, the next in its first.
        monkeypatch.setattr(statements, "recompute", failing_once(2 - number, RuntimeError()))
        assert not roll_up(project)
    # The first batch is committed, and its hours are done.
    assert project.rows("SELECT symbol::text FROM ohlcv_daily") == [("S0001",)]
    assert told(project) == []
    assert untold_since(project.instance) is not None
    assert roll_up(project)
    assert told(project) == ["S0001|2012", "S0002|2012"]
    assert untold_since(project.instance) is None
    assert roll_up(project)
    assert len(told(project)) == 2


def test_a_try_that_finds_nothing_left_to_do_tells_of_what_the_one_before_it_did(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Grid, "keys_of", stop)
        assert not roll_up(project)
    assert (told(project), len(project.rows("SELECT FROM ohlcv_daily"))) == ([], 2)
    assert roll_up(project)
    assert told(project) == ["S0001|2012", "S0002|2012"]


def test_a_try_that_the_database_broke_is_followed_by_one_that_tells_of_both(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "FIRST_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(statements, "recompute", failing_once(2, TransientDatabaseError("away")))
    assert roll_up(project)
    assert told(project) == ["S0001|2012", "S0002|2012"]


def test_years_that_another_run_made_and_tells_of_itself_are_not_told_of_each_night(project: Project) -> None:
    assert roll_up(project)
    add_minutes(project, "S0001", 11.0)
    # As `tickstock rollups run` and the healing of gaps do.
    assert rollups.roll_up_daily(project.engine).written == 1
    assert roll_up(project)
    add_minutes(project, "S0002", 12.0)
    assert roll_up(project)
    assert told(project) == ["S0001|2012", "S0002|2012", "S0002|2012"]
