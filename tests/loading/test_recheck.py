"""Which landed days are asked for again: those that could still change, and files that were replaced."""

from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from tests.loading.simulated import at, polygon
from tests.storage import tiers
from tickstock_assets.domain.windows import Window
from tickstock_assets.loading.lineup import Lineup
from tickstock_assets.loading.load import Loader, Order
from tickstock_assets.providers.base import Dataset
from tickstock_assets.providers.quota import Budget
from tickstock_assets.simulator import Fault, Market, Simulator, Vendor

pytestmark = pytest.mark.tiers(tiers.EMBEDDED)

# The evening of Friday, 2023-06-30; the three sessions before it end are Wednesday to Friday.
NOW, LAST_DAY = "2023-07-01T02:00", date(2023, 6, 30)
MONTH = (date(2023, 6, 1), LAST_DAY)
SYMBOL = "S0001"


@pytest.fixture(scope="module")
def market() -> Market:
    return Market(3, date(2023, 5, 1), LAST_DAY, sample=False)


def age(engine: Engine, moment: str) -> None:
    """Let everything have been landed at a moment, UTC."""
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE load_ledger SET finished_at = CAST(:moment AS timestamptz)"), {"moment": moment}
        )
        connection.execute(
            text("UPDATE stored_windows SET stored_at = CAST(:moment AS timestamptz)"), {"moment": moment}
        )


def loader(simulator: Simulator, engine: Engine, folder: Path) -> Loader:
    return Loader(Lineup([polygon(simulator, clock=at(NOW))]), engine, folder)


def close_on(engine: Engine, day: str) -> float | None:
    with engine.connect() as connection:
        found = connection.execute(text("SELECT close FROM ohlcv_daily WHERE date = :day"), {"day": day}).scalar()
    return None if found is None else float(found)


def true_close(market: Market, day: str) -> float:
    bars = market.daily(SYMBOL).set_index("date")
    return float(bars.loc[day, "close"])


def test_what_was_landed_within_the_hour_is_not_asked_for_again(
    simulator: Simulator, database: Engine, tmp_path: Path
) -> None:
    order = Order([SYMBOL], *MONTH, actions=False)
    loader(simulator, database, tmp_path).load(order)
    n_calls = len(simulator.record.calls)
    assert loader(simulator, database, tmp_path).load(order).landings[0].fetched == []
    assert len(simulator.record.calls) == n_calls


def test_after_an_hour_the_last_three_sessions_are_asked_for_again_and_a_correction_is_stored(
    simulator: Simulator, database: Engine, tmp_path: Path, market: Market
) -> None:
    order = Order([SYMBOL], *MONTH, actions=False)
    simulator.script(Fault.LATE_CORRECTION, symbol=SYMBOL, route="aggregates_day")
    loader(simulator, database, tmp_path).load(order)
    (wrong,) = simulator.record.wrong_rows
    age(database, "2023-07-01 02:00Z")
    outcome = loader(simulator, database, tmp_path).load(order)
    assert outcome.landings[0].fetched == [Window(SYMBOL, date(2023, 6, 28), LAST_DAY)]

    # All of it, by a person who asks for that.
    outcome = loader(simulator, database, tmp_path).load(Order([SYMBOL], *MONTH, recheck=True, actions=False))
    assert outcome.landings[0].fetched == [Window(SYMBOL, *MONTH)]
    stored = {day: close_on(database, day) for day in market.daily(SYMBOL)["date"].astype(str) if day >= "2023-06"}
    assert stored == {day: true_close(market, day) for day in stored}
    with database.connect() as connection:
        # What it replaced can still be read as of then.
        replaced = connection.execute(text("SELECT close, volume FROM bar_revisions")).one()
    assert wrong.sent is not None
    assert (float(replaced.close), float(replaced.volume)) == (wrong.sent["close"], wrong.sent["volume"])


@pytest.mark.parametrize(
    ("landed_at", "again_from"),
    [
        # At the close of Friday, three sessions had closed that can change; a second before it, Friday had not yet.
        ("2023-06-30 20:00:00Z", date(2023, 6, 28)),
        ("2023-06-30 19:59:59Z", date(2023, 6, 27)),
        # From the close of Thursday, July 6, on, nothing of June can change: three sessions have closed since.
        ("2023-07-06 20:00:00Z", None),
        ("2023-07-06 19:59:59Z", LAST_DAY),
    ],
)
def test_which_sessions_are_settled_is_counted_from_when_they_were_landed(
    landed_at: str, again_from: date | None, simulator: Simulator, database: Engine, tmp_path: Path
) -> None:
    order = Order([SYMBOL], *MONTH, actions=False)
    loader(simulator, database, tmp_path).load(order)
    age(database, landed_at)
    fetched = loader(simulator, database, tmp_path).load(order).landings[0].fetched
    assert fetched == ([] if again_from is None else [Window(SYMBOL, again_from, LAST_DAY)])


def test_a_replaced_file_is_fetched_again_and_the_others_are_not(
    simulator: Simulator, database: Engine, tmp_path: Path, market: Market
) -> None:
    # A plan on which a call costs twelve seconds: files are cheaper.
    provider = polygon(simulator, clock=at(NOW), with_files=True, budget=Budget(per_minute=5))
    by_file = Loader(Lineup([provider]), database, tmp_path)
    order = Order(["S0001", "S0002", "S0003"], date(2023, 6, 5), date(2023, 6, 9), Dataset.DAILY_BARS, actions=False)
    simulator.script(Fault.REPLACED_FILE, vendor=Vendor.FLAT_FILES, route="day_aggs_v1", skip=2)
    by_file.load(order)
    (wrong,) = simulator.record.wrong_rows
    outcome = by_file.load(order)
    assert [str(window.start) for window in outcome.landings[0].fetched] == [wrong.window[:10]]
    with database.connect() as connection:
        stored = connection.execute(text("SELECT symbol, date::text, close FROM ohlcv_daily ORDER BY 1, 2")).all()
    true = [
        (symbol, str(row.date.date()), row.close)
        for symbol in order.symbols
        for row in market.daily(symbol).itertuples()
        if date(2023, 6, 5) <= row.date.date() <= date(2023, 6, 9)
    ]
    assert [(symbol, day, float(close)) for symbol, day, close in stored] == true
    n_files = len([call for call in simulator.record.calls if call.route == "day_aggs_v1"])
    by_file.load(order)
    assert len([call for call in simulator.record.calls if call.route == "day_aggs_v1"]) == n_files == 6


def test_a_load_goes_on_where_it_cannot_be_told_whether_files_were_replaced(
    simulator: Simulator, database: Engine, tmp_path: Path
) -> None:
    provider = polygon(simulator, clock=at(NOW), with_files=True, budget=Budget(per_minute=5))
    by_file = Loader(Lineup([provider]), database, tmp_path)
    order = Order(["S0001", "S0002", "S0003"], date(2023, 6, 5), date(2023, 6, 9), actions=False)
    assert not by_file.load(order).problems
    simulator.script(Fault.EXPIRED_KEY, vendor=Vendor.FLAT_FILES, times=100)
    outcome = by_file.load(order)
    assert outcome.landings[0].fetched == []
    (problem,) = outcome.problems
    assert problem.startswith("whether polygon has replaced files is not known: ")


def test_an_empty_answer_erases_nothing_and_is_not_asked_for_again(
    simulator: Simulator, database: Engine, tmp_path: Path
) -> None:
    # Before the market begins nothing traded.
    order = Order([SYMBOL], date(2023, 4, 3), date(2023, 4, 28), actions=False)
    outcome = loader(simulator, database, tmp_path).load(order)
    assert (outcome.problems, outcome.landings[0].rows) == ([], 0)
    assert len(outcome.gaps[SYMBOL]) == 19  # sessions of April 2023, less Good Friday
    n_calls = len(simulator.record.calls)
    assert loader(simulator, database, tmp_path).load(order).landings[0].fetched == []
    assert len(simulator.record.calls) == n_calls


def test_a_file_without_volume_weighted_prices_does_not_erase_those_that_are_stored(
    simulator: Simulator, database: Engine, tmp_path: Path
) -> None:
    order = Order(["S0001", "S0002"], date(2023, 6, 5), date(2023, 6, 9), actions=False)
    loader(simulator, database, tmp_path).load(order)
    by_file = polygon(simulator, clock=at(NOW), with_files=True, budget=Budget(per_minute=5))
    again = Order(order.symbols, order.start, order.end, recheck=True, actions=False)
    outcome = Loader(Lineup([by_file]), database, tmp_path).load(again)
    assert [window.symbol for window in outcome.landings[0].fetched] == ["*"] * 5
    with database.connect() as connection:
        assert connection.execute(text("SELECT count(vwap) FROM ohlcv_daily")).scalar() == 10
        assert connection.execute(text("SELECT count(*) FROM bar_revisions")).scalar() == 0
