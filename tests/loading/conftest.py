"""The simulator of the module's own `market`."""

from collections.abc import Iterator

import pytest

from tickstock_assets.simulator import Market, Simulator


@pytest.fixture
def simulator(market: Market) -> Iterator[Simulator]:
    with Simulator(market) as running:
        yield running
