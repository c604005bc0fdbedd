"""Whatever a run was at when a budget ended it, it goes on as a request when the budget lasts again."""

from datetime import date

import pytest
from dagster._core.storage.tags import RUN_KEY_TAG

from tests.defs.conftest import OpenProject
from tests.defs.gap_holes import hours_pass, load, look, punch, tick
from tests.defs.simulated import FIRST, KEY, LAST, Project
from tickstock_assets.defs import resources
from tickstock_assets.defs.gap_sensor import heal_gaps
from tickstock_assets.defs.partitions import BY_DAY, rectangle_tags
from tickstock_assets.defs.sensors import due_requests
from tickstock_assets.domain.errors import TickstockError
from tickstock_assets.simulator import Fault, Faults, Vendor

pytestmark = [
    pytest.mark.tiers("embedded"),
    # Dagster's own code calls it.
    pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated"),
]

REQUESTS = "SELECT kind, timeframe::text, symbols, status, attempts FROM backfill_requests"


def goes_on(project: Project) -> None:
    """Let the sensor start the one run that is due, and do it."""
    (wanted,) = tick(due_requests, project).run_requests or []  # type: ignore[union-attr]
    project.run({**wanted.tags, RUN_KEY_TAG: str(wanted.run_key)}, str(wanted.job_name))
    tick(due_requests, project)


def test_a_run_of_trades_goes_on_as_a_request_of_trades(open_project: OpenProject) -> None:
    project = open_project(
        companies=1, calls_per_day=25, TICKSTOCK_PROVIDERS="polygon", TICKSTOCK_POLYGON_URL="{simulator}",
        TICKSTOCK_POLYGON_API_KEY=KEY, TICKSTOCK_POLYGON_CALLS_PER_MINUTE="0",
    )  # fmt: skip
    # It says for how long nobody need ask, which is longer than anybody waits.
    project.simulator.script(Fault.TOO_MANY_REQUESTS_WITH_TIME, vendor=Vendor.POLYGON, times=100)
    project.simulator._play.faults = Faults(retry_after_seconds=7200)
    day = date(2012, 7, 3)
    with pytest.raises(TickstockError, match="continues at"):
        project.run(rectangle_tags(["S0001"], ["S0001"], day, day, BY_DAY), "tick_history")
    assert project.rows(REQUESTS) == [("trades", "1m", ["S0001"], "requested", 0)]
    assert project.materialized("raw_trades") == set()
    project.simulator._play.scripts.clear()
    project.a_day_passes()
    # Another process, which has not heard the vendor.
    resources.lineup.cache_clear()
    goes_on(project)
    assert project.rows(REQUESTS) == [("trades", "1m", ["S0001"], "succeeded", 1)]
    assert project.materialized("ticks") == {"S0001|2012-07-03"}
    assert project.rows("SELECT count(*) > 0 FROM ticks") == [(True,)]


def test_reference_data_go_on_with_the_symbols_that_are_left(open_project: OpenProject) -> None:
    # The list of symbols is a call; splits and dividends are one each of a symbol, five symbols at a time.
    project = open_project(companies=7, calls_per_day=12)
    with pytest.raises(TickstockError, match="splits and dividends"):
        project.run({}, "reference")
    tickers = project.simulator.market.tickers
    assert project.rows(REQUESTS) == [("reference", "1d", tickers, "requested", 0)]
    n_calls = len(project.simulator.record.calls)
    assert tick(due_requests, project).run_requests == []  # type: ignore[union-attr]
    project.a_day_passes()
    goes_on(project)
    assert project.rows(REQUESTS) == [("reference", "1d", tickers, "succeeded", 1)]
    again = [call.symbol for call in project.simulator.record.calls[n_calls:]]
    assert sorted(filter(None, again)) == ["S0006", "S0006", "S0007", "S0007"]


def test_an_attempt_at_gaps_goes_on_with_the_days_that_were_not_asked_for(open_project: OpenProject) -> None:
    project = open_project(companies=3, calls_per_day=5)
    load(project, project.simulator.market.tickers, FIRST, LAST)
    holes = [(symbol, date(2012, 5, 15)) for symbol in project.simulator.market.tickers]
    punch(project, holes)
    look(project, project.simulator.market.tickers, FIRST, LAST)
    hours_pass(project, 0)
    tick(heal_gaps, project)
    # Two calls are left of the five.
    with pytest.raises(TickstockError, match="continues at"):
        goes_on(project)
    tick(due_requests, project)
    assert project.rows(REQUESTS) == [("gaps", "1d", ["S0001", "S0002", "S0003"], "requested", 1)]
    assert project.rows(
        "SELECT count(*), min(attempts) FROM data_gaps WHERE healed_at IS NULL AND class <> 'holiday'"
    ) == [(1, 1)]
    project.a_day_passes()
    goes_on(project)
    assert project.rows("SELECT count(*) FROM data_gaps WHERE healed_at IS NULL AND class <> 'holiday'") == [(0,)]
    # Three loads, and one call a hole: nothing twice.
    assert sorted(project.asked_for()) == sorted(2 * project.simulator.market.tickers)
    assert project.rows(REQUESTS) == [("gaps", "1d", ["S0001", "S0002", "S0003"], "succeeded", 2)]
