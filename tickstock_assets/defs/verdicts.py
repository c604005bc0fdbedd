"""What a check has found, added up part by part: how many rows, of which partitions, and the first of them as a table."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import pandas as pd

from tickstock_assets.defs.partitions import Grid
from tickstock_assets.defs.plots import rows_as_table
from tickstock_assets.loading.stored_rules import Judged

ROWS_SHOWN = 20
PARTITIONS_NAMED = 200
# By the first of these that a row has it is placed in time.
TIME_COLUMNS = ("date", "session", "timestamp")


@dataclass
class Verdict:
    """Rows that break a rule; all are counted and the first are kept.

    Attributes:
        grid: the asset's partitions; None for an asset without.
        checked: how many rows were looked at.
        offending: how many of them break the rule.
        first: the first of those.
        by_partition: how many of those each partition has.
    """

    grid: Grid | None = None
    checked: int = 0
    offending: int = 0
    first: pd.DataFrame = field(default_factory=pd.DataFrame)
    by_partition: Counter[str] = field(default_factory=Counter)

    def add(self, judged: Judged) -> None:
        """Add what a rule says of a part."""
        self.checked += judged.checked
        if judged.offending.empty:
            return
        self.offending += len(judged.offending)
        if len(self.first) < ROWS_SHOWN:
            self.first = pd.concat([self.first, judged.offending.head(ROWS_SHOWN - len(self.first))])
        if self.grid:
            self.by_partition.update(_partitions(judged.offending, self.grid))

    def result(
        self, severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR, description: str | None = None, **more: Any
    ) -> dg.AssetCheckResult:
        """Return a pass when nothing offends, else a failure with the first rows and the partitions they are in."""
        metadata: dict[str, Any] = {"rows_checked": self.checked, "rows_offending": self.offending, **more}
        if self.offending:
            metadata["first_offending_rows"] = rows_as_table(self.first, ROWS_SHOWN)
        return dg.AssetCheckResult(
            passed=not self.offending,
            severity=severity,
            description=description,
            metadata=metadata | failed_partitions(self.by_partition),
        )


def failed_partitions(rows_offending: Counter[str]) -> dict[str, Any]:
    """Return how many partitions failed, and the first of them by name with their number of rows; nothing for none."""
    if not rows_offending:
        return {}
    named = dict(sorted(rows_offending.items())[:PARTITIONS_NAMED])
    return {"partitions_failed": len(rows_offending), "failed_partitions": dg.MetadataValue.json(named)}


def _partitions(rows: pd.DataFrame, grid: Grid) -> Counter[str]:
    column = next(name for name in TIME_COLUMNS if name in rows)
    placed = rows.dropna(subset=["symbol", column])
    keys = placed["symbol"] + "|" + placed[column].dt.strftime(grid.periods.fmt)
    return Counter({str(key): int(count) for key, count in keys.value_counts().items()})
