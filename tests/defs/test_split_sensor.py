"""Splits recorded after the bars of their years: what was computed without them is asked for again, and nothing else is."""

from decimal import Decimal

import dagster as dg
import pytest
from sqlalchemy import text

from tests.defs.conftest import OpenProject
from tests.defs.simulated import FIRST, LAST, Project
from tickstock_assets.defs.partitions import rectangle_tags
from tickstock_assets.defs.split_sensor import late_splits
from tickstock_assets.storage import local_splits

pytestmark = [
    pytest.mark.tiers("embedded"),
    # Dagster's own code calls it.
    pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated"),
]


def tick(project: Project, cursor: str | None) -> tuple[set[str], str | None]:
    """Evaluate the sensor, do with its result what the daemon does, and return the partitions told and the new cursor."""
    with dg.build_sensor_context(project.instance, cursor=cursor) as context:
        result = late_splits(context)
    assert isinstance(result, dg.SensorResult)
    told = [event for event in result.asset_events if isinstance(event, dg.AssetMaterialization)]
    for event in told:
        project.instance.report_runless_asset_event(event)
    assert {event.asset_key.to_user_string() for event in told} <= {"ohlcv_daily"}
    assert bool(told) == (result.skip_reason is None)
    return {str(event.partition) for event in told}, result.cursor


def test_the_years_from_a_late_split_on_are_told_once(open_project: OpenProject) -> None:
    project = open_project(companies=2, calls_per_day=25)
    tickers = project.simulator.market.tickers
    one, other = tickers[:2]
    # The nightly update's own splits come before the bars.
    project.run(rectangle_tags(tickers, tickers, FIRST, LAST))
    told, cursor = tick(project, None)
    assert (told, cursor is not None) == (set(), True)

    def execute(statement: str, **values: object) -> None:
        with project.engine.begin() as connection:
            connection.execute(text(statement), values)

    execute("INSERT INTO splits VALUES (:symbol, '2012-06-01', 'polygon', 1, 2)", symbol=one)
    execute("INSERT INTO splits VALUES (:symbol, '2011-06-01', 'polygon', 1, 2)", symbol=other)
    told, cursor = tick(project, cursor)
    assert told == {f"{one}|2012", f"{other}|2011", f"{other}|2012"}
    assert tick(project, cursor)[0] == set()
    # Killed before the cursor was kept, or switched off for months: what was told is not told again.
    assert tick(project, None)[0] == set()

    execute("UPDATE splits SET split_to = 3, recorded_at = clock_timestamp() WHERE symbol = :symbol", symbol=one)
    assert tick(project, cursor)[0] == {f"{one}|2012"}
    with project.engine.begin() as connection:
        assert local_splits.add(
            connection, one, FIRST, Decimal(1), Decimal(2), author="a trader", reason="the press release"
        )
    assert tick(project, cursor)[0] == {f"{one}|2011", f"{one}|2012"}
    with project.engine.begin() as connection:
        local_splits.remove(connection, one, FIRST, author="a trader", reason="it was none")
    assert tick(project, cursor)[0] == {f"{one}|2011", f"{one}|2012"}
    assert tick(project, cursor)[0] == set()
