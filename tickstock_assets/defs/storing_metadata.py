"""Storing what was landed of a run's partitions, and what an asset that does so says of it in the web UI."""

from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from tickstock_assets.defs.batches import Batch, Outcome, Work
from tickstock_assets.defs.partitions import Grid
from tickstock_assets.defs.resources import Database, MarketData, engine
from tickstock_assets.loading.storing import Stored, store
from tickstock_assets.providers.base import Dataset
from tickstock_assets.storage.bulk import MergeCounts

# From the database, of some partitions: metadata by key.
MorePlots = Callable[[Database, Sequence[str]], Mapping[str, Mapping[str, object]]]


def storing(
    market_data: MarketData, database: Database, dataset: Dataset, grid: Grid, more: MorePlots | None = None
) -> Work:
    """Return the work that brings what is landed of a batch's partitions to its table.

    Args:
        market_data: the providers, and where their payloads are.
        database: where to.
        dataset: rows of which kind.
        grid: their partitions.
        more: gives further metadata of partitions, by key, when they are stored.
    """

    def work(batch: Batch) -> Outcome:
        stored = store(
            market_data.lineup, engine(), market_data.landing_folder, batch.windows, dataset, run=database.run
        )
        outcome = stored_outcome(stored, batch.keys, grid)
        return outcome.with_more(more(database, batch.keys)) if more else outcome

    return work


def counts_metadata(counts: MergeCounts) -> dict[str, int]:
    """Return what a merge did."""
    return {
        "rows_written": counts.written,
        "rows_inserted": counts.inserted,
        "rows_corrected": counts.corrected,
        "rows_unchanged": counts.unchanged,
        "rows_outranked": counts.outranked,
        "rows_removed": counts.removed,
    }


def stored_outcome(stored: Stored, partition_keys: Sequence[str], grid: Grid) -> Outcome:
    """Return what a batch brought into its table, also by partition."""
    counts = {
        "rows_in": stored.rows_in,
        "rows_quarantined": stored.rejected,
        "rows_produced": stored.rows_in - stored.rejected,
        **counts_metadata(stored.counts),
    }
    by_partition = partition_metadata(stored, partition_keys, grid)
    days = pd.concat([part[["first", "last"]] for part in stored.partitions]) if stored.partitions else pd.DataFrame()
    if days.empty:
        return Outcome(counts, by_partition)
    span = {"first_session": f"{days['first'].min():%Y-%m-%d}", "last_session": f"{days['last'].max():%Y-%m-%d}"}
    return Outcome(counts, by_partition, span)


def partition_metadata(stored: Stored, partition_keys: Sequence[str], grid: Grid) -> Mapping[str, Mapping[str, object]]:
    """Return rows, first and last session of every partition."""
    counts: dict[str, dict[str, object]] = {str(name): {"dagster/partition_row_count": 0} for name in partition_keys}
    if not stored.partitions:
        return counts
    found = (
        pd.concat(stored.partitions)
        .groupby(["symbol", "period"], as_index=False)
        .agg({"rows": "sum", "first": "min", "last": "max"})
    )
    for row in found.to_dict("records"):
        counts[grid.key(row["symbol"], row["period"])] = {
            "dagster/partition_row_count": int(row["rows"]),
            "partition_first_session": f"{row['first']:%Y-%m-%d}",
            "partition_last_session": f"{row['last']:%Y-%m-%d}",
        }
    return counts
