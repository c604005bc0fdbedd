"""What the first provider does not deliver the next one does, and it is said whose bars they are."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from tests.loading.simulated import FOR_EVER, alpha_vantage, polygon
from tests.storage import tiers
from tickstock_assets.domain.windows import Window
from tickstock_assets.loading.fetching import land_missing
from tickstock_assets.loading.lineup import Lineup
from tickstock_assets.loading.load import Loader, Order
from tickstock_assets.loading.storing import store
from tickstock_assets.providers.base import Dataset
from tickstock_assets.providers.quota import Budget, Counted, Uncounted
from tickstock_assets.simulator import Fault, Market, Plan, Simulator, Vendor

pytestmark = pytest.mark.tiers(tiers.EMBEDDED)

FIRST, LAST = date(2023, 5, 1), date(2023, 5, 31)
N_SESSIONS = 22


@pytest.fixture(scope="module")
def market() -> Market:
    return Market(3, date(2020, 1, 2), date(2023, 6, 30), sample=False)


def both(simulator: Simulator) -> Lineup:
    counted = Counted(Uncounted())
    return Lineup([polygon(simulator, quota=counted), alpha_vantage(simulator)], {"polygon": counted})


def by_source(engine: Engine, table: str = "ohlcv_daily") -> dict[tuple[str, str], int]:
    with engine.connect() as connection:
        rows = connection.execute(text(f"SELECT symbol, source, count(*) AS bars FROM {table} GROUP BY symbol, source"))
        return {(row.symbol, row.source): row.bars for row in rows}


def fail_for_good(simulator: Simulator, symbol: str) -> None:
    """Let every route of Polygon that can answer for a symbol alone or for the market fail."""
    simulator.script(Fault.SERVER_ERROR, vendor=Vendor.POLYGON, route="aggregates_day", symbol=symbol, times=FOR_EVER)
    simulator.script(Fault.SERVER_ERROR, vendor=Vendor.POLYGON, route="grouped_daily", times=FOR_EVER)


def test_a_window_that_fails_after_all_tries_comes_from_the_next_provider_and_says_so(
    simulator: Simulator, database: Engine, tmp_path: Path
) -> None:
    fail_for_good(simulator, "S0002")
    order = Order(["S0001", "S0002"], FIRST, LAST, actions=False)
    outcome = Loader(both(simulator), database, tmp_path).load(order)
    assert (outcome.problems, outcome.gaps) == ([], {})
    assert outcome.landings[0].fallbacks == {Window("S0002", FIRST, LAST): "alpha_vantage"}
    assert by_source(database) == {("S0001", "polygon"): N_SESSIONS, ("S0002", "alpha_vantage"): N_SESSIONS}
    with database.connect() as connection:
        failed = connection.execute(
            text("SELECT provider, route, calls FROM load_ledger WHERE status = 'failed' AND symbol = 'S0002'")
        ).all()
    assert [tuple(row) for row in failed] == [("polygon", "by_symbol", 6)]

    # Served is served: the next load asks nobody.
    n_calls = len(simulator.record.calls)
    assert Loader(both(simulator), database, tmp_path).load(order).landings[0].fetched == []
    assert len(simulator.record.calls) == n_calls


def test_when_nobody_delivers_a_window_each_reason_is_told_and_the_others_come(
    simulator: Simulator, database: Engine, tmp_path: Path
) -> None:
    fail_for_good(simulator, "S0002")
    simulator.script(Fault.SERVER_ERROR, vendor=Vendor.ALPHA_VANTAGE, symbol="S0002", times=FOR_EVER)
    outcome = Loader(both(simulator), database, tmp_path).load(Order(["S0001", "S0002"], FIRST, LAST, actions=False))
    assert by_source(database) == {("S0001", "polygon"): N_SESSIONS}
    assert len(outcome.gaps["S0002"]) == N_SESSIONS
    told = " ".join(outcome.problems)
    assert "S0002" in told
    assert "polygon: " in told
    assert "alpha_vantage: " in told
    assert "S0001" not in told


def test_years_that_the_plan_refuses_come_from_the_next_provider_and_the_newer_ones_from_the_first(
    market: Market, database: Engine, tmp_path: Path
) -> None:
    with Simulator(market, {Vendor.POLYGON: Plan(history_start=date(2022, 1, 1))}) as simulator:
        outcome = Loader(both(simulator), database, tmp_path).load(
            Order(["S0001", "S0002"], date(2021, 1, 4), date(2022, 12, 30), actions=False)
        )
        assert (outcome.problems, outcome.gaps) == ([], {})
        assert by_source(database) == {
            (symbol, source): bars
            for symbol in ("S0001", "S0002")
            for source, bars in (("polygon", 251), ("alpha_vantage", 252))
        }
        served = {window.symbol: (window.start, window.end) for window in outcome.landings[0].fallbacks}
        assert served == dict.fromkeys(("S0001", "S0002"), (date(2021, 1, 4), date(2021, 12, 31)))
        # What the plan refused once is not asked for symbol by symbol.
        refused = [call for call in simulator.record.calls if call.status == 403]
        assert {call.symbol for call in refused} == {"S0001"}


def test_years_that_the_plan_refuses_are_named_where_nobody_else_has_them(
    market: Market, database: Engine, tmp_path: Path
) -> None:
    with Simulator(market, {Vendor.POLYGON: Plan(history_start=date(2022, 1, 1))}) as simulator:
        outcome = Loader(Lineup([polygon(simulator)]), database, tmp_path).load(
            Order(["S0001"], date(2021, 1, 4), date(2022, 12, 30), actions=False)
        )
    (problem,) = outcome.problems
    assert problem.startswith("S0001 2021-01-04..2021-12-31: ")
    assert "the plan does not include this" in problem
    assert by_source(database) == {("S0001", "polygon"): 251}
    assert len(outcome.gaps["S0001"]) == 252


def test_a_bar_of_the_first_provider_replaces_that_of_the_next_and_not_the_other_way_round(
    simulator: Simulator, database: Engine, tmp_path: Path
) -> None:
    order = Order(["S0001"], FIRST, LAST, actions=False)
    Loader(Lineup([alpha_vantage(simulator)]), database, tmp_path).load(order)
    assert by_source(database) == {("S0001", "alpha_vantage"): N_SESSIONS}
    again = Order(["S0001"], FIRST, LAST, recheck=True, actions=False)
    Loader(both(simulator), database, tmp_path).load(again)
    assert by_source(database) == {("S0001", "polygon"): N_SESSIONS}
    store(Lineup([alpha_vantage(simulator)]), database, tmp_path, order.windows())
    assert by_source(database) == {("S0001", "polygon"): N_SESSIONS}


def test_minutes_that_fail_by_symbol_come_by_file(simulator: Simulator, database: Engine, tmp_path: Path) -> None:
    simulator.script(Fault.SERVER_ERROR, vendor=Vendor.POLYGON, route="aggregates_minute", times=FOR_EVER)
    lineup = Lineup([polygon(simulator, with_files=True)])
    order = Order(["S0001"], date(2023, 5, 1), date(2023, 5, 3), Dataset.MINUTE_BARS, actions=False)
    outcome = Loader(lineup, database, tmp_path).load(order)
    assert (outcome.problems, outcome.gaps) == ([], {})
    assert [window.symbol for window in outcome.landings[0].fetched] == ["*"] * 3
    assert by_source(database, "ohlcv_1min") == {("S0001", "polygon"): 3 * 390}


def test_minutes_that_the_plan_has_by_file_only_come_by_file(market: Market, database: Engine, tmp_path: Path) -> None:
    with Simulator(market, {Vendor.POLYGON: Plan(minutes=False)}) as simulator:
        lineup = Lineup([polygon(simulator, with_files=True)])
        order = Order(["S0001", "S0002"], date(2023, 5, 1), date(2023, 5, 3), Dataset.MINUTE_BARS, actions=False)
        outcome = Loader(lineup, database, tmp_path).load(order)
        by_symbol = [(call.symbol, call.status) for call in simulator.record.calls if call.route == "aggregates_minute"]
    assert (outcome.problems, outcome.gaps) == ([], {})
    assert by_source(database, "ohlcv_1min") == {(symbol, "polygon"): 3 * 390 for symbol in order.symbols}
    # A route that is not in the plan is not tried symbol by symbol.
    assert by_symbol == [("S0001", 403)]


def test_days_that_the_last_route_has_not_in_its_plan_are_refused_together_and_the_newer_ones_come(
    market: Market, database: Engine, tmp_path: Path
) -> None:
    plans = {Vendor.POLYGON: Plan(minutes=False), Vendor.FLAT_FILES: Plan(history_start=date(2023, 5, 4))}
    with Simulator(market, plans) as simulator:
        lineup = Lineup([polygon(simulator, with_files=True)])
        order = Order(["S0001"], date(2023, 5, 1), date(2023, 5, 5), Dataset.MINUTE_BARS, actions=False)
        outcome = Loader(lineup, database, tmp_path).load(order)
        files = [call.status for call in simulator.record.calls if call.vendor is Vendor.FLAT_FILES]
    assert by_source(database, "ohlcv_1min") == {("S0001", "polygon"): 2 * 390}
    assert [problem.split(": ")[0] for problem in outcome.problems] == [
        f"S0001 2023-05-0{day}..2023-05-0{day}" for day in (1, 2, 3)
    ]
    assert all("expected a plan that includes this file" in problem for problem in outcome.problems)
    assert outcome.gaps == {"S0001": [date(2023, 5, day) for day in (1, 2, 3)]}
    # The newest were asked for first, so one refusal tells of all older days.
    assert files.count(403) == 1


def test_a_refused_key_of_flat_files_leaves_the_days_to_the_rest_of_the_provider(
    market: Market, database: Engine, tmp_path: Path
) -> None:
    with Simulator(market, {Vendor.FLAT_FILES: Plan(keys=frozenset({"another-key"}))}) as simulator:
        # With so few calls a minute the plan is to fetch the file of each day.
        lineup = Lineup([polygon(simulator, with_files=True, budget=Budget(per_minute=2))])
        order = Order(["S0001"], date(2023, 5, 1), date(2023, 5, 3), Dataset.MINUTE_BARS, actions=False)
        outcome = Loader(lineup, database, tmp_path).load(order)
        files = [call.status for call in simulator.record.calls if call.vendor is Vendor.FLAT_FILES]
    assert [problem.split(":")[0] for problem in outcome.problems] == [
        "polygon is asked on other routes than flat_files"
    ]
    assert outcome.gaps == {}
    assert by_source(database, "ohlcv_1min") == {("S0001", "polygon"): 3 * 390}
    assert files == [403]
    with database.connect() as connection:
        (told,) = connection.execute(text("SELECT error FROM load_ledger WHERE status = 'failed'")).scalars()
    assert "expected a valid access key and secret" in told


def test_two_loads_at_once_of_the_same_windows_end_as_one(
    simulator: Simulator, database: Engine, tmp_path: Path
) -> None:
    order = Order(["S0001", "S0002", "S0003"], FIRST, LAST)
    with ThreadPoolExecutor(2) as pool:
        loads = [pool.submit(Loader(both(simulator), database, tmp_path).load, order) for _ in range(2)]
    assert [(load.result().problems, load.result().gaps) for load in loads] == [([], {})] * 2
    assert by_source(database) == {(symbol, "polygon"): N_SESSIONS for symbol in order.symbols}
    with database.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM bar_revisions")).scalar() == 0
        landed = connection.execute(
            text("SELECT symbol FROM load_ledger WHERE dataset = 'daily_bars' ORDER BY 1")
        ).scalars()
        assert list(landed) == order.symbols


def test_what_was_landed_by_a_load_that_was_stopped_before_it_stored_is_stored_by_the_next(
    simulator: Simulator, database: Engine, tmp_path: Path
) -> None:
    order = Order(["S0001"], FIRST, LAST, actions=False)
    with database.begin() as connection:
        connection.execute(text("INSERT INTO symbols (symbol) VALUES ('S0001')"))
    land_missing(both(simulator), database, tmp_path, order.windows())
    assert by_source(database) == {}
    outcome = Loader(both(simulator), database, tmp_path).load(order)
    assert outcome.landings[0].fetched == []
    assert by_source(database) == {("S0001", "polygon"): N_SESSIONS}
