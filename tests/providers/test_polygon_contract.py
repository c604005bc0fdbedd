"""Polygon keeps the contract of providers, on every route of bars, against the simulated vendor over the sample data.

The closes are those of the file that the sample data comes from: AAPL as traded, before and after two for one on 2005-02-28.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime

import pytest

from tests.providers.contract import Case, ProviderContract
from tickstock_assets.domain.windows import WHOLE_MARKET, Window
from tickstock_assets.providers.base import Dataset, Request
from tickstock_assets.providers.flat_files import FlatFiles
from tickstock_assets.providers.polygon import Polygon
from tickstock_assets.simulator import Market, Plan, Simulator, Vendor

KEY = "pk-of-the-contract-4711"
NOW = datetime(2013, 3, 2, 12, tzinfo=UTC)
FEBRUARY = Window("AAPL", date(2005, 2, 1), date(2005, 3, 4))
DAY = Window(WHOLE_MARKET, date(2005, 2, 28), date(2005, 2, 28))


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    plans = {Vendor.POLYGON: Plan(keys=[KEY]), Vendor.FLAT_FILES: Plan(keys=[KEY])}
    with Simulator(Market(), plans, today=NOW.date()) as simulator:
        yield simulator


class TestTheContract(ProviderContract):
    @pytest.fixture
    def case(self, simulator: Simulator) -> Case:
        files = FlatFiles(f"{simulator.url}/flatfiles", KEY, KEY)
        provider = Polygon(KEY, base_url=simulator.url, flat_files=files, clock=lambda: NOW)
        minutes = simulator.market.minutes("AAPL", date(2005, 2, 25), date(2005, 2, 28))
        last_of_day = minutes.groupby("date")["timestamp"].max()
        return Case(
            provider,
            requests=[
                Request(Dataset.DAILY_BARS, FEBRUARY),
                Request(Dataset.DAILY_BARS, DAY, "grouped_daily"),
                Request(Dataset.DAILY_BARS, DAY, "flat_files"),
                Request(Dataset.MINUTE_BARS, Window("AAPL", date(2005, 2, 1), date(2005, 2, 28))),
                Request(Dataset.MINUTE_BARS, DAY, "flat_files"),
            ],
            closes={
                Dataset.DAILY_BARS: {date(2005, 2, 25): 88.99, date(2005, 2, 28): 44.86},
                # A day's minutes end on the day's close.
                Dataset.MINUTE_BARS: {
                    moment.to_pydatetime(): close for moment, close in zip(last_of_day, (88.99, 44.86), strict=True)
                },
            },
            empty=[
                Request(dataset, Window("FB", date(2005, 2, 1), date(2005, 2, 28)))
                for dataset in (Dataset.DAILY_BARS, Dataset.MINUTE_BARS)
            ],
            tells_unknown=False,
            listed=(date(2005, 2, 28), ["AAPL", "GOOG", "IBM", "MSFT"]),
            key=KEY,
            now=NOW,
        )
