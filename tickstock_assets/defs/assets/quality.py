"""What looks odd in the stored bars, and how good each session's are."""

from collections.abc import Sequence
from typing import Any

import dagster as dg
import pandas as pd

from tickstock_assets.defs.assets import bars, gaps, reference, rollups
from tickstock_assets.defs.automation import CATCH_UP
from tickstock_assets.defs.batches import Batch, Outcome, in_batches
from tickstock_assets.defs.partition_log import Told
from tickstock_assets.defs.partitions import DAILY, WITH_WARM_UP
from tickstock_assets.defs.plots import rows_as_table
from tickstock_assets.defs.quality_plots import score_heat_map
from tickstock_assets.defs.resources import Database, MarketData, engine
from tickstock_assets.defs.retries import retried
from tickstock_assets.domain.anomalies import RULES
from tickstock_assets.domain.windows import Window, rows_inside, span_of
from tickstock_assets.loading.quality_findings import examine
from tickstock_assets.loading.quality_scores import score
from tickstock_assets.storage import quality_findings as stored_findings
from tickstock_assets.storage import quality_scores as stored_scores
from tickstock_assets.storage.quality_findings import FindingCounts

GROUP = "quality"
# A symbol is held against those that are examined with it: the more at once, the fewer others have to be read besides.
YEARS_A_BATCH = 1000
HIGHEST_SCORE = 100.0
# A year of a symbol's days depends on the twelve months of its minutes.
OF_ITS_MONTHS = dg.MultiPartitionMapping(
    {
        "symbol": dg.DimensionPartitionMapping("symbol", dg.IdentityPartitionMapping()),
        "trading_month": dg.DimensionPartitionMapping("year", dg.TimeWindowPartitionMapping()),
    }
)
MINUTES_OF_YEAR = dg.AssetDep(bars.ohlcv_1min, partition_mapping=OF_ITS_MONTHS)


# By symbol and year, so that a run costs what it examines, however much has been examined before.
@dg.asset(
    name="quality_findings",
    group_name=GROUP,
    kinds={"postgres"},
    partitions_def=DAILY,
    backfill_policy=dg.BackfillPolicy.single_run(),
    deps=[
        dg.AssetDep(bars.ohlcv_daily, partition_mapping=WITH_WARM_UP),
        rollups.daily_rollups,
        MINUTES_OF_YEAR,
        reference.sessions,
        reference.splits,
    ],
    automation_condition=CATCH_UP,
    code_version="1",
)
@retried
def findings(context: dg.AssetExecutionContext, database: Database) -> Told:
    """Spikes, stale runs, odd volumes and splits nobody recorded, in daily and minute bars; see docs/quality.md.

    One that no longer holds is resolved, and stays.
    """

    def examined(batch: Batch) -> Outcome:
        counts = examine(engine(), batch.windows, database.run)
        return findings_outcome(counts, open_findings(database, batch.windows), batch)

    yield from in_batches(context, database, examined, size=YEARS_A_BATCH)


@dg.asset(
    name="quality_scores",
    group_name=GROUP,
    kinds={"postgres"},
    partitions_def=DAILY,
    backfill_policy=dg.BackfillPolicy.single_run(),
    deps=[findings, gaps.data_gaps],
    automation_condition=CATCH_UP,
    code_version="1",
)
@retried
def scores(context: dg.AssetExecutionContext, market_data: MarketData, database: Database) -> Told:
    """A score from 0 to 100 for each symbol and session, of daily and of minute bars; the old ones stay as its history."""

    def scored(batch: Batch) -> Outcome:
        n_changed = database.in_transaction(lambda connection: score(connection, market_data.lineup, batch.windows))
        found = newest_scores(database, batch.windows)
        counts = {"scores_changed": n_changed, "sessions_scored": len(found)}
        # A picture is stored with each partition that it stands at.
        return Outcome(counts, {batch.keys[-1]: scores_metadata(found)})

    yield from in_batches(context, database, scored)


def open_findings(database: Database, windows: Sequence[Window] | None) -> pd.DataFrame:
    """Return the findings of these rules that still hold, of some windows, the worst severity first."""
    with database.begin() as connection:
        found = stored_findings.stored(connection, rules=RULES, only_open=True, **_span(windows))
    inside = found if windows is None else rows_inside(found, "timestamp", windows)
    by_severity = inside["severity"].map({"error": 0, "warning": 1, "info": 2})
    return inside.iloc[by_severity.argsort(kind="stable")].reset_index(drop=True)


def newest_scores(database: Database, windows: Sequence[Window] | None) -> pd.DataFrame:
    """Return the newest score of each session of some windows."""
    with database.begin() as connection:
        found = stored_scores.newest(connection, **_span(windows))
    return found if windows is None else rows_inside(found, "session", windows)


def findings_outcome(counts: FindingCounts, found: pd.DataFrame, batch: Batch) -> Outcome:
    """Return how many findings there are; by rule and severity, and the first of them, at a batch's last partition."""
    by_rule = (found["rule"] + " (" + found["severity"] + ")").value_counts().sort_index()
    numbers = {
        "findings_new": counts.inserted,
        "findings_changed": counts.changed,
        "findings_unchanged": counts.unchanged,
        "findings_resolved": counts.resolved,
        "findings_open": len(found),
    }
    metadata = {
        "by_rule": dg.MetadataValue.json({str(rule): int(count) for rule, count in by_rule.items()}),
        "first_findings": rows_as_table(found[["symbol", "timeframe", "timestamp", "reason"]]),
    }
    return Outcome(numbers, {batch.keys[-1]: metadata})


def scores_metadata(found: pd.DataFrame) -> dict[str, Any]:
    """Return mean score and heat map, symbols by months, of each timeframe; and the lowest of those below 100."""
    metadata: dict[str, Any] = {}
    for timeframe, of_timeframe in found.groupby("timeframe"):
        metadata[f"mean_score_{timeframe}"] = float(of_timeframe["score"].mean())
        metadata[f"heat_map_{timeframe}"] = score_heat_map(of_timeframe, str(timeframe))
    lowest = found[found["score"] < HIGHEST_SCORE].sort_values(["score", "symbol", "session"])
    listed = lowest.assign(session=lowest["session"].dt.date)[["symbol", "timeframe", "session", "score"]]
    metadata["lowest_scores"] = rows_as_table(listed)
    return metadata


def _span(windows: Sequence[Window] | None) -> dict[str, Any]:
    if windows is None:
        return {}
    first, last = span_of(windows)
    return {"symbols": sorted({window.symbol for window in windows}), "first": first, "last": last}
