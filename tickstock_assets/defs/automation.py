"""What is computed from bars catches up by itself when bars of its partitions have changed, whoever changed them.

A backfill in the web UI, `tickstock load`, a run that ended half-way, a day that minutes made anew: each tells Dagster of the
partitions it has touched, and what depends on them, by the mappings of partitions, is requested once they are at rest. A
job that computes it itself leaves nothing to request.
"""

import dagster as dg

from tickstock_assets.defs.partitions import DAILY
from tickstock_assets.defs.resources import engine
from tickstock_assets.storage import backfill_requests

# Without partitions are the calendar, the splits and what is rolled up: each of their many runs would touch every partition.
WITH_PARTITIONS = dg.AssetSelection.assets("ohlcv_daily", "ohlcv_1min", "bar_features", "quality_findings")
DAILY_BARS, MINUTE_BARS = dg.AssetKey("ohlcv_daily"), dg.AssetKey("ohlcv_1min")
OF_A_MONTH = len("-01")


class BarsOfItsOwn(dg.AutomationCondition[dg.AssetKey]):
    """Years that have bars: one that others only warm up has nothing to be computed of."""

    @property
    def name(self) -> str:
        """As it stands in the web UI."""
        return "has bars of its own"

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        """Return those of the candidates."""
        view, candidates = context.asset_graph_view, context.candidate_subset
        if candidates.is_empty:
            return dg.AutomationResult(context, candidates)
        years = view.instance.get_materialized_partitions(DAILY_BARS)
        months = view.instance.get_materialized_partitions(MINUTE_BARS)
        with_bars = years | {month[:-OF_A_MONTH] for month in months}
        found = candidates.expensively_compute_partition_keys() & with_bars
        return dg.AutomationResult(context, view.get_subset_from_partition_keys(context.key, DAILY, found))


class NothingIsLoaded(dg.AutomationCondition[dg.AssetKey]):
    """No request is at work: each of its many runs would be caught up with by several others, and all of them at once by few."""

    @property
    def name(self) -> str:
        """As it stands in the web UI."""
        return "no request is at work"

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        """Return all candidates, or none."""
        if context.candidate_subset.is_empty:
            return dg.AutomationResult(context, context.candidate_subset)
        with engine().connect() as connection:
            is_loading = bool(backfill_requests.running(connection))
        return dg.AutomationResult(context, context.get_empty_subset() if is_loading else context.candidate_subset)


# Of any year and not only of the latest, as Dagster's own `eager` is. Years that were never made are not made for being
# missing; what a hard rule holds back would be asked for again and again.
CATCH_UP = (
    dg.AutomationCondition.any_deps_match(
        dg.AutomationCondition.newly_updated() | dg.AutomationCondition.will_be_requested()
    )
    .allow(WITH_PARTITIONS)
    .with_label("bars or what is made of them have changed")
    .since_last_handled()
    & NothingIsLoaded()
    & ~dg.AutomationCondition.any_deps_in_progress().allow(WITH_PARTITIONS)
    & ~dg.AutomationCondition.in_progress()
    & BarsOfItsOwn()
).with_label("catch_up")

catch_up = dg.AutomationConditionSensorDefinition(
    name="catch_up",
    target=dg.AssetSelection.assets("bar_features", "patterns", "quality_findings", "quality_scores"),
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
    # Conditions of our own are beyond the daemon, which does not have our code.
    use_user_code_server=True,
    description="Requests features, patterns, findings and scores of partitions whose bars have changed since.",
)
