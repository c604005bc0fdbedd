"""The one I/O manager: frames out to tables through `merge`, tables in as frames with the warm-up bars before them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import dagster as dg
import pandas as pd
from sqlalchemy import Connection, text

from tickstock_assets.defs.partition_metadata import add_partition_metadata
from tickstock_assets.defs.partitions import key, windows_of
from tickstock_assets.defs.resources import Database
from tickstock_assets.defs.storing_metadata import counts_metadata
from tickstock_assets.domain.windows import Window
from tickstock_assets.storage import audit, bars
from tickstock_assets.storage.bulk import MergeCounts, Scope, merge

WARM_UP_BARS = "warm_up_bars"

Reader = Callable[[Connection, Sequence[Window] | None, int], pd.DataFrame]


@dataclass(frozen=True)
class Table:
    """How an asset's table is read and written.

    Attributes:
        read: gives the frame of some windows, None for everything, and of so many bars before each.
        time_column: what places a row in time; None for a table without.
        derived: its frame answers for the whole window: rows no longer produced are removed.
        where: of what a derived frame answers for, the values of further columns.
        event_type: what a change of it is called in the audit trail.
    """

    read: Reader
    time_column: str | None = None
    derived: bool = False
    where: Mapping[str, Sequence[str]] = field(default_factory=dict)
    event_type: str = "reference"


TABLES: Mapping[str, Table] = {
    "symbols": Table(lambda connection, *_: bars.symbols(connection)),
    "splits": Table(lambda connection, *_: bars.splits(connection), "execution_date", derived=True),
    "dividends": Table(lambda connection, *_: bars.dividends(connection), "ex_dividend_date", derived=True),
    "sessions": Table(lambda *_: pd.DataFrame(), "session"),
    "ohlcv_daily": Table(bars.daily_bars, "date", event_type="load"),
    "bar_features": Table(
        lambda connection, windows, _: bars.bar_features(connection, "1d", windows),
        "timestamp",
        derived=True,
        where={"timeframe": ["1d"]},
        event_type="features",
    ),
    "patterns": Table(
        lambda connection, windows, _: bars.patterns(connection, "1d", windows),
        "timestamp",
        derived=True,
        where={"timeframe": ["1d"], "family": ["candlestick", "chart"]},
        event_type="detection",
    ),
}


class TableIOManager(dg.ConfigurableIOManager):
    """Reads and writes the table that has the asset's name."""

    database: dg.ResourceDependency[Database]

    def handle_output(self, context: dg.OutputContext, obj: pd.DataFrame) -> None:
        """Merge a frame into its table in one transaction, and say what that did."""
        name = context.asset_key.path[-1]
        table = TABLES[name]
        partition_keys = [str(k) for k in context.asset_partition_keys] if context.has_asset_partitions else []
        windows = windows_of(partition_keys) if context.has_asset_partitions else None

        def write(connection: Connection) -> tuple[MergeCounts, int]:
            counts = merge(connection, name, obj, _scope(table, obj, windows))
            if counts.written or counts.removed:
                particulars = {**asdict(counts), "symbols": sorted({window.symbol for window in windows or ()})}
                audit.record(connection, table.event_type, (name, name), "merge", particulars)
            total = connection.execute(text(f'SELECT count(*) FROM "{name}"')).scalar_one()  # noqa: S608 a key of TABLES
            return counts, total

        counts, total = self.database.in_transaction(write)
        context.add_output_metadata(
            {
                "dagster/row_count": total,
                "rows_produced": len(obj),
                **counts_metadata(counts),
                **_span(table, obj),
            }
        )
        if partition_keys and table.time_column:
            context.add_output_metadata({"counts_are_of": f"this run, {len(partition_keys)} partitions"})
            by_partition = _partition_counts(obj, table.time_column, partition_keys)
            add_partition_metadata(context.step_context, context.asset_key, by_partition)

    def load_input(self, context: dg.InputContext) -> pd.DataFrame:
        """Return the rows of the partitions asked for, and before each window the bars that its input asks for."""
        windows = windows_of(context.asset_partition_keys) if context.has_asset_partitions else None
        warm_up_bars = int((context.definition_metadata or {}).get(WARM_UP_BARS, 0))
        table = TABLES[context.asset_key.path[-1]]
        return self.database.in_transaction(lambda connection: table.read(connection, windows, warm_up_bars))


def _scope(table: Table, frame: pd.DataFrame, windows: Sequence[Window] | None) -> Scope | None:
    if not table.derived or table.time_column is None:
        return None
    if windows is not None:
        return Scope(windows, table.time_column, table.where)
    # A table without partitions comes whole from its provider, and nothing at all is no answer.
    return None if frame.empty else Scope(where={"source": frame["source"].unique().tolist()})


def _span(table: Table, frame: pd.DataFrame) -> dict[str, str]:
    if table.time_column is None or frame.empty:
        return {}
    times = frame[table.time_column]
    return {"first_session": f"{times.min():%Y-%m-%d}", "last_session": f"{times.max():%Y-%m-%d}"}


def _partition_counts(
    frame: pd.DataFrame, time_column: str, partition_keys: Sequence[str]
) -> dict[str, dict[str, object]]:
    """Return rows, first and last session of every partition."""
    times = frame[time_column]
    partition = [key(symbol, year) for symbol, year in zip(frame["symbol"], times.dt.year, strict=True)]
    found = times.groupby(partition).agg(["size", "min", "max"]).to_dict("index")
    counts: dict[str, dict[str, object]] = {name: {"dagster/partition_row_count": 0} for name in partition_keys}
    for name, row in found.items():
        counts[str(name)] = {
            "dagster/partition_row_count": int(row["size"]),
            "partition_first_session": f"{row['min']:%Y-%m-%d}",
            "partition_last_session": f"{row['max']:%Y-%m-%d}",
        }
    return counts
