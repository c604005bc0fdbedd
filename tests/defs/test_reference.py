"""Instruments, splits and dividends in real runs: a fault of the moment is tried again, what a vendor forgets stays."""

from collections import Counter
from dataclasses import replace
from functools import partial

import dagster as dg
import pytest

from tests.defs.conftest import OpenProject
from tests.defs.simulated import KEY, Project
from tickstock_assets.defs import resources, retries
from tickstock_assets.loading.registry import open_lineup
from tickstock_assets.providers.http import Patience
from tickstock_assets.simulator import Fault, Vendor

pytestmark = [
    pytest.mark.tiers("embedded"),
    # Dagster's own code calls it.
    pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated"),
]

# Without a budget by day.
POLYGON = {
    "TICKSTOCK_PROVIDERS": "polygon",
    "TICKSTOCK_POLYGON_URL": "{simulator}",
    "TICKSTOCK_POLYGON_API_KEY": KEY,
    "TICKSTOCK_POLYGON_CALLS_PER_MINUTE": "0",
}


@pytest.fixture
def one_try_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a step meet what otherwise outlasts a minute of tries, and come back at once."""
    monkeypatch.setattr(resources, "open_lineup", partial(open_lineup, patience=Patience(tries=1)))
    monkeypatch.setattr(retries, "FIRST_PAUSE_SECONDS", 0.001)


def restarts(project: Project) -> Counter[str]:
    """Return how often each step of the newest run was tried again."""
    (run,) = project.instance.get_runs(limit=1)
    events = [entry.dagster_event for entry in project.instance.all_logs(run.run_id) if entry.dagster_event]
    return Counter(str(event.step_key) for event in events if event.event_type is dg.DagsterEventType.STEP_RESTARTED)


@pytest.mark.usefixtures("one_try_a_step")
def test_a_fault_of_the_moment_is_tried_again_by_each_step(open_project: OpenProject) -> None:
    project = open_project(companies=5, calls_per_day=25, **POLYGON)
    # The list of instruments comes first.
    project.simulator.script(Fault.SERVER_ERROR, vendor=Vendor.POLYGON, times=2)
    for route in ("splits", "dividends"):
        project.simulator.script(Fault.SERVER_ERROR, vendor=Vendor.POLYGON, route=route)
    project.run({}, "reference")
    assert restarts(project) == {"symbols": 2, "splits": 1, "dividends": 1}
    assert project.rows("SELECT symbol, source FROM splits") == [("S0005", "polygon")]


@pytest.mark.usefixtures("one_try_a_step")
def test_so_it_is_where_a_budget_by_day_is_kept(open_project: OpenProject) -> None:
    project = open_project(companies=5, calls_per_day=25)
    project.simulator.script(Fault.SERVER_ERROR, route="SPLITS")
    project.run({}, "reference")
    assert restarts(project).total() == 1
    assert project.rows("SELECT symbol, source FROM splits") == [("S0005", "alpha_vantage")]


def test_what_a_vendor_forgets_stays_and_what_it_takes_back_goes(open_project: OpenProject) -> None:
    project = open_project(companies=20, calls_per_day=25, **POLYGON)
    companies = project.simulator.market.companies

    def stored() -> tuple[list[object], dict[object, object]]:
        project.run({}, "reference")
        paid = project.rows("SELECT symbol, count(*) FROM dividends GROUP BY symbol")
        return [symbol for (symbol,) in project.rows("SELECT symbol FROM splits ORDER BY 1")], dict(paid)  # type: ignore[arg-type]

    def kept(asset: str) -> object:
        event = project.instance.get_latest_materialization_event(dg.AssetKey(asset))
        assert event
        assert event.asset_materialization
        return event.asset_materialization.metadata["symbols_kept"].value

    n_paid = len(companies["S0010"].dividends)
    assert n_paid > 1
    assert stored() == (["S0005", "S0015"], {"S0010": n_paid, "S0020": n_paid})
    assert (kept("splits"), kept("dividends")) == (0, 0)
    # Two are forgotten, and a dividend of a third is taken back.
    companies["S0015"] = replace(companies["S0015"], splits=())
    companies["S0020"] = replace(companies["S0020"], dividends=())
    companies["S0010"] = replace(companies["S0010"], dividends=companies["S0010"].dividends[1:])
    assert stored() == (["S0005", "S0015"], {"S0010": n_paid - 1, "S0020": n_paid})
    assert (kept("splits"), kept("dividends")) == (1, 1)
    # Nothing that is measured on them need be measured anew.
    assert project.rows("SELECT count(*) FROM split_revisions") == [(0,)]


def test_a_run_says_how_many_calls_it_took(open_project: OpenProject) -> None:
    project = open_project(companies=3, calls_per_day=25)
    project.run({}, "reference")
    (run,) = project.instance.get_runs(limit=1)
    # One for the list of instruments, two for the splits and dividends of each.
    assert run.tags["tickstock/cost_api_calls"] == str(len(project.simulator.record.calls)) == "7"
    assert float(run.tags["tickstock/cost_seconds"]) > 0
