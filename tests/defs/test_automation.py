"""What is computed from bars catches up after them: asked of Dagster's own evaluator, with the project's own conditions."""

from collections.abc import Sequence
from datetime import date

import dagster as dg
import pytest

from tests.defs.conftest import OpenProject
from tests.defs.simulated import Project
from tickstock_assets.definitions import defs
from tickstock_assets.defs.partitions import SYMBOLS
from tickstock_assets.storage import backfill_requests

pytestmark = pytest.mark.tiers("embedded")

AFTER_BARS = ["bar_features", "patterns", "quality_findings", "quality_scores"]


class Evaluations:
    """Ticks of the sensor, one after another."""

    def __init__(self, project: Project) -> None:
        self.project, self.instance = project, project.instance
        self._last: dg.EvaluateAutomationConditionsResult | None = None

    def tick(self) -> dict[str, set[str]]:
        """Return which partitions of which assets a tick requests."""
        chosen = dg.AssetSelection.assets(*AFTER_BARS)
        cursor = self._last.cursor if self._last else None
        self._last = dg.evaluate_automation_conditions(defs, self.instance, chosen, cursor=cursor)
        found = {name: self._last.get_requested_partitions(dg.AssetKey(name)) for name in AFTER_BARS}
        return {name: {str(key) for key in keys} for name, keys in found.items() if keys}

    def materialized(self, asset: str, *keys: str) -> None:
        """Let partitions of an asset be told of, as a run or `tickstock load` does."""
        for key in keys:
            self.instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=key))


@pytest.fixture
def evaluations(open_project: OpenProject) -> Evaluations:
    project = open_project(companies=1, calls_per_day=1)
    project.instance.add_dynamic_partitions(str(SYMBOLS.name), ["AAA", "BBB"])
    return Evaluations(project)


def years(symbol: str, *wanted: int) -> set[str]:
    return {f"{symbol}|{year}" for year in wanted}


def requested(keys: set[str], assets: Sequence[str] = AFTER_BARS) -> dict[str, set[str]]:
    return dict.fromkeys(assets, keys)


def test_the_first_tick_requests_nothing_whatever_is_there_already(evaluations: Evaluations) -> None:
    evaluations.materialized("ohlcv_daily", "AAA|2005", "AAA|2006")
    assert evaluations.tick() == {}
    assert evaluations.tick() == {}


def test_bars_of_a_year_let_that_year_and_those_it_warms_up_catch_up_once(evaluations: Evaluations) -> None:
    # Those that others warm up and that have no bars, 2008 on, have nothing to compute.
    evaluations.materialized("ohlcv_daily", *years("AAA", 2006, 2007))
    evaluations.tick()
    evaluations.materialized("ohlcv_daily", "AAA|2005")
    # 400 sessions reach into the two years before, so 2005 is read by 2006 and 2007.
    assert evaluations.tick() == requested(years("AAA", 2005, 2006, 2007))
    assert evaluations.tick() == {}


def test_a_year_without_bars_is_not_requested_for_those_before_it_and_is_once_it_has_some(
    evaluations: Evaluations,
) -> None:
    evaluations.tick()
    evaluations.materialized("ohlcv_daily", "AAA|2005")
    assert evaluations.tick() == requested(years("AAA", 2005))
    evaluations.materialized("ohlcv_daily", "AAA|2006")
    assert evaluations.tick() == requested(years("AAA", 2006))


def test_while_a_request_is_at_work_nothing_is_requested_and_afterwards_all_of_it(evaluations: Evaluations) -> None:
    evaluations.tick()
    with evaluations.project.engine.begin() as connection:
        request = backfill_requests.enter(connection, ["S0001"], "1d", date(2012, 1, 3), date(2012, 3, 30))
        backfill_requests.begin(connection, request)
    for year in (2005, 2006):
        evaluations.materialized("ohlcv_daily", f"AAA|{year}", f"BBB|{year}")
        assert evaluations.tick() == {}
    with evaluations.project.engine.begin() as connection:
        backfill_requests.succeed(connection, request)
    assert evaluations.tick() == requested(years("AAA", 2005, 2006) | years("BBB", 2005, 2006))
    assert evaluations.tick() == {}


def test_a_year_that_nothing_has_touched_is_left_alone_and_so_is_another_symbol(evaluations: Evaluations) -> None:
    evaluations.materialized("ohlcv_daily", "AAA|2005", "BBB|2005")
    evaluations.tick()
    evaluations.materialized("ohlcv_daily", "BBB|2012", "BBB|2013")
    assert evaluations.tick() == requested(years("BBB", 2012, 2013))


def test_what_a_run_has_computed_itself_after_its_bars_is_not_requested_again(evaluations: Evaluations) -> None:
    evaluations.tick()
    evaluations.materialized("ohlcv_daily", *years("AAA", 2011, 2012, 2013))
    for name in ("bar_features", "patterns"):
        evaluations.materialized(name, *years("AAA", 2011, 2012, 2013))
    assert evaluations.tick() == requested(years("AAA", 2011, 2012, 2013), ["quality_findings", "quality_scores"])


def test_runs_over_the_unpartitioned_calendar_splits_and_rollups_request_nothing(evaluations: Evaluations) -> None:
    evaluations.materialized("ohlcv_daily", "AAA|2005")
    evaluations.tick()
    for name in ("symbols", "sessions", "splits", "daily_rollups", "data_gaps"):
        evaluations.instance.report_runless_asset_event(dg.AssetMaterialization(name))
    assert evaluations.tick() == {}


def test_a_month_of_minutes_lets_the_findings_of_its_year_catch_up_and_no_features(evaluations: Evaluations) -> None:
    evaluations.tick()
    evaluations.materialized("ohlcv_1min", "AAA|2012-03")
    assert evaluations.tick() == requested({"AAA|2012"}, ["quality_findings", "quality_scores"])
