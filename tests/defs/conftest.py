"""The project with simulated vendors, for tests of what its runs do."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tests.defs.simulated import KEY, Project, environment, forget_settings, know, market
from tickstock_assets.defs import launching, resources
from tickstock_assets.simulator import Plan, Simulator, Vendor

OpenProject = Callable[..., Project]


@pytest.fixture
def open_project(database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenProject]:
    """Opens the project for some companies and calls a day, which the vendor enforces too; further settings by name."""
    with ExitStack() as stack:

        def open_it(companies: int, calls_per_day: int, **more: str) -> Project:
            plan = Plan(keys=frozenset({KEY}), per_day=calls_per_day)
            simulator = stack.enter_context(Simulator(market(companies), {Vendor.ALPHA_VANTAGE: plan}))
            server = database.url.set(drivername="postgresql")
            variables = {
                **environment(simulator, calls_per_day),
                "TICKSTOCK_HOME": str(tmp_path),
                "TICKSTOCK_DATABASE_URL": server.render_as_string(hide_password=False),
                "TICKSTOCK_DAGSTER_DATABASE": f"dagster_{server.database}",
                # Dagster's are set by `open_instance`, and so are put back afterwards.
                "DAGSTER_HOME": str(tmp_path),
                "DAGSTER_EVENT_BATCH_SIZE": "1000",
                **{name: value.format(simulator=simulator.url) for name, value in more.items()},
            }
            for name, value in variables.items():
                monkeypatch.setenv(name, value)
            forget_settings()
            stack.callback(forget_settings)
            stack.callback(lambda: resources.engine().dispose())
            instance = stack.enter_context(launching.open_instance(tmp_path))
            know(resources.engine(), instance, simulator.market.tickers)
            return Project(simulator, resources.engine(), instance)

        yield open_it
