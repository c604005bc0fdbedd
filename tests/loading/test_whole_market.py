"""One answer with every symbol: landed once, used by whoever wants its day later."""

from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from tests.loading.simulated import at, polygon
from tests.storage import tiers
from tickstock_assets.loading.lineup import Lineup
from tickstock_assets.loading.load import Loader, Order
from tickstock_assets.simulator import Market, Simulator

pytestmark = pytest.mark.tiers(tiers.EMBEDDED)

# Tuesday to Tuesday: six sessions around a weekend.
FIRST, LAST = date(2023, 5, 2), date(2023, 5, 9)
SESSIONS = [f"2023-05-0{day}" for day in (2, 3, 4, 5, 8, 9)]
ALL = [f"S{number:04}" for number in range(1, 41)]


@pytest.fixture(scope="module")
def market() -> Market:
    return Market(40, date(2023, 4, 3), date(2023, 6, 30), sample=False)


def closes(engine: Engine) -> dict[tuple[str, str], float]:
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT symbol, date::text, close FROM ohlcv_daily"))
        return {(row.symbol, row.date): float(row.close) for row in rows}


def true_closes(market: Market, symbols: list[str], days: list[str]) -> dict[tuple[str, str], float]:
    return {
        (symbol, str(row.date.date())): row.close
        for symbol in symbols
        for row in market.daily(symbol).itertuples()
        if str(row.date.date()) in days
    }


def asked(simulator: Simulator, route: str) -> list[str]:
    """Return the windows that were asked for on a route, in order."""
    return [call.window for call in simulator.record.calls if call.route == route]


def test_a_day_of_the_whole_market_is_fetched_once_and_serves_the_symbols_of_later_loads(
    database: Engine, tmp_path: Path, simulator: Simulator, market: Market
) -> None:
    loader = Loader(Lineup([polygon(simulator, clock=at("2023-07-01"))]), database, tmp_path)
    first = loader.load(Order(ALL[:30], FIRST, LAST, actions=False))
    assert (first.problems, first.gaps, first.unknown) == ([], {}, {})
    assert sorted(asked(simulator, "grouped_daily")) == [f"{day}..{day}+0" for day in SESSIONS]
    assert asked(simulator, "aggregates_day") == []
    assert closes(database) == true_closes(market, ALL[:30], SESSIONS)

    # Ten more symbols: nobody is asked for their bars.
    second = loader.load(Order(ALL[30:], FIRST, LAST, actions=False))
    assert (second.problems, second.gaps) == ([], {})
    assert len(asked(simulator, "grouped_daily")) == len(SESSIONS)
    assert asked(simulator, "aggregates_day") == []
    assert second.landings[0].fetched == []
    assert closes(database) == true_closes(market, ALL, SESSIONS)
