"""The one I/O manager: frames out to tables through `merge`, tables in as frames with the warm-up bars before them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import dagster as dg
import pandas as pd
from sqlalchemy import Connection

from tickstock_assets.defs.batches import Batch, Outcome
from tickstock_assets.defs.partitions import BY_YEAR
from tickstock_assets.defs.resources import Database
from tickstock_assets.defs.storing_metadata import counts_metadata
from tickstock_assets.domain.windows import Window
from tickstock_assets.storage import audit, bars
from tickstock_assets.storage.bulk import MergeCounts, Scope, merge
from tickstock_assets.storage.partition_counts import all_rows

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


class Rows:
    """An input that is read a batch at a time: the rows of its windows, and before each the bars that it asks for."""

    def __init__(self, database: Database, table: Table, warm_up_bars: int) -> None:
        self._database = database
        self._table = table
        self._warm_up_bars = warm_up_bars

    def of(self, batch: Batch) -> pd.DataFrame:
        """Return the rows of a batch's windows."""
        return self._database.in_transaction(
            lambda connection: self._table.read(connection, batch.windows, self._warm_up_bars)
        )


class TableIOManager(dg.ConfigurableIOManager):
    """Reads and writes the table that has the asset's name; what has partitions is written by `store` and read as `Rows`."""

    database: dg.ResourceDependency[Database]

    def handle_output(self, context: dg.OutputContext, obj: pd.DataFrame) -> None:
        """Merge the frame of an asset without partitions into its table in one transaction, and say what that did."""
        name = context.asset_key.path[-1]
        counts = _merged(self.database, name, obj, None)
        with self.database.begin() as connection:
            total = all_rows(connection, name)
        metadata = {"dagster/row_count": total, "rows_produced": len(obj), **counts_metadata(counts)}
        context.add_output_metadata({**metadata, **_span(TABLES[name], obj)})

    def load_input(self, context: dg.InputContext) -> pd.DataFrame | Rows:
        """Return all rows of a table, or for an input of type `Rows` what reads them by batches."""
        table = TABLES[context.asset_key.path[-1]]
        if context.dagster_type.typing_type is Rows:
            return Rows(self.database, table, int((context.definition_metadata or {}).get(WARM_UP_BARS, 0)))
        return self.database.in_transaction(lambda connection: table.read(connection, None, 0))


def store(
    database: Database,
    name: str,
    frame: pd.DataFrame,
    batch: Batch,
    *,
    rows_in: int,
) -> Outcome:
    """Merge a batch's rows into the table of an asset's name in one transaction, and return what that did.

    Args:
        database: where to.
        name: of the asset and its table.
        frame: the rows; they answer for the batch's windows.
        batch: its partitions.
        rows_in: how many rows they were computed from.
    """
    counts = _merged(database, name, frame, batch.windows)
    return Outcome(
        {"rows_in": rows_in, "rows_produced": len(frame), **counts_metadata(counts)},
        _partition_counts(frame, str(TABLES[name].time_column), batch.keys),
        _span(TABLES[name], frame),
    )


def _merged(database: Database, name: str, frame: pd.DataFrame, windows: Sequence[Window] | None) -> MergeCounts:
    table = TABLES[name]

    def write(connection: Connection) -> MergeCounts:
        counts = merge(connection, name, frame, _scope(table, frame, windows))
        if counts.written or counts.removed:
            particulars = {**asdict(counts), "symbols": sorted({window.symbol for window in windows or ()})}
            audit.record(connection, table.event_type, (name, name), "merge", particulars)
        return counts

    return database.in_transaction(write)


def _scope(table: Table, frame: pd.DataFrame, windows: Sequence[Window] | None) -> Scope | None:
    if not table.derived or table.time_column is None:
        return None
    if windows is not None:
        return Scope(windows, table.time_column, table.where)
    # A provider that lists nothing of a symbol any more has forgotten it, or has a bad day: what is stored of it stays.
    return None if frame.empty else Scope(where={name: sorted(frame[name].unique()) for name in ("source", "symbol")})


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
    partition = frame["symbol"] + "|" + times.dt.strftime(BY_YEAR.periods.fmt)
    found = times.groupby(partition).agg(["size", "min", "max"]).to_dict("index")
    counts: dict[str, dict[str, object]] = {name: {"dagster/partition_row_count": 0} for name in partition_keys}
    for name, row in found.items():
        counts[str(name)] = {
            "dagster/partition_row_count": int(row["size"]),
            "partition_first_session": f"{row['min']:%Y-%m-%d}",
            "partition_last_session": f"{row['max']:%Y-%m-%d}",
        }
    return counts
