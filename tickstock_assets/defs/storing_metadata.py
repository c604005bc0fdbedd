"""What an asset that stores landed bars says of it in the web UI."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from sqlalchemy import Connection, text

from tickstock_assets.defs.partitions import key
from tickstock_assets.loading.storing import Stored
from tickstock_assets.storage.bulk import MergeCounts


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


def run_metadata(connection: Connection, table: str, stored: Stored, n_partitions: int) -> dict[str, Any]:
    """Return what a run brought into a table, and how many rows that has now."""
    total = connection.execute(text(f'SELECT count(*) FROM "{table}"')).scalar_one()  # noqa: S608 a table of ours
    days = pd.concat([part[["first", "last"]] for part in stored.partitions]) if stored.partitions else pd.DataFrame()
    span = {}
    if not days.empty:
        span = {"first_session": f"{days['first'].min():%Y-%m-%d}", "last_session": f"{days['last'].max():%Y-%m-%d}"}
    return {
        "dagster/row_count": total,
        "rows_in": stored.rows_in,
        "rows_quarantined": stored.rejected,
        "rows_produced": stored.rows_in - stored.rejected,
        **counts_metadata(stored.counts),
        **span,
        "counts_are_of": f"this run, {n_partitions} partitions",
    }


def partition_metadata(stored: Stored, partition_keys: Sequence[str]) -> Mapping[str, Mapping[str, object]]:
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
        counts[key(row["symbol"], row["period"].year)] = {
            "dagster/partition_row_count": int(row["rows"]),
            "partition_first_session": f"{row['first']:%Y-%m-%d}",
            "partition_last_session": f"{row['last']:%Y-%m-%d}",
        }
    return counts
