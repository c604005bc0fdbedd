"""A folder of Parquet files for one table, laid out as Hive does it, by symbol and year.

Elsewhere: which rows go there (export.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

ROW_GROUP_ROWS = 128_000
# How PostgreSQL calls a type, and what it is in Arrow; the rest, such as UUID and JSONB, is text.
ARROW_TYPES = {
    "boolean": pa.bool_(),
    "smallint": pa.int16(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "real": pa.float32(),
    "double precision": pa.float64(),
    "date": pa.date32(),
    "timestamp with time zone": pa.timestamp("us", "UTC"),
}
TIMES = ("date", "timestamp with time zone")


@dataclass(frozen=True)
class Column:
    """A column: its name, PostgreSQL's name of its type, and its place in the primary key, if it is in it."""

    name: str
    type_name: str
    precision: int | None
    scale: int | None
    key_place: int | None

    @property
    def arrow(self) -> pa.DataType:
        """Its type in the file. NUMERIC without a bound has no counterpart in Arrow and stays text, which is exact."""
        if self.type_name == "numeric" and self.precision is not None:
            return pa.decimal128(self.precision, self.scale or 0)
        return ARROW_TYPES.get(self.type_name, pa.string())


@dataclass(frozen=True)
class Table:
    """A table and how it is laid out: by symbol and year where both a symbol and a time are in its key."""

    name: str
    columns: Sequence[Column]

    @property
    def has_symbol(self) -> bool:
        """Whether its rows are about symbols."""
        return any(column.name == "symbol" for column in self.columns)

    @property
    def time(self) -> str | None:
        """The first column of its key that is a date or a time."""
        keys = [column for column in self.columns if column.key_place is not None and column.type_name in TIMES]
        return min(keys, key=lambda column: column.key_place or 0).name if keys else None

    @property
    def is_partitioned(self) -> bool:
        """Whether it is laid out by symbol and year."""
        return self.time is not None and any(c.name == "symbol" and c.key_place is not None for c in self.columns)

    @property
    def order(self) -> list[str]:
        """Its key, but with symbol and time before the rest, so that each file is written in one go."""
        first = ["symbol", str(self.time)] if self.is_partitioned else []
        keys = sorted((c for c in self.columns if c.key_place is not None), key=lambda c: c.key_place or 0)
        return [*first, *(column.name for column in keys if column.name not in first)]


class PartitionWriter:
    """Writes rows that come ordered by symbol and time to a file for each symbol and year, one open at a time."""

    def __init__(self, folder: Path, table: Table) -> None:
        self.folder = folder
        self.table = table
        # What the names of the folders say is not said again in the files.
        kept = [c for c in table.columns if not (table.is_partitioned and c.name == "symbol")]
        self.schema = pa.schema([pa.field(column.name, column.arrow) for column in kept])
        self._open_for: tuple[str, int] | None = None
        self._file: pq.ParquetWriter | None = None
        self._waiting: list[pa.Table] = []

    def __enter__(self) -> Self:
        if not self.table.is_partitioned:
            self._start(self.folder)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._finish()
        elif self._file is not None:
            self._file.close()

    def write(self, rows: pa.Table) -> None:
        """Write the next rows."""
        if not self.table.is_partitioned:
            self._add(rows)
            return
        symbols = rows["symbol"].combine_chunks()
        years = pc.year(rows[str(self.table.time)]).combine_chunks()
        starts = _run_starts(symbols, years)
        for first, after in zip(starts, [*starts[1:], rows.num_rows], strict=True):
            partition = (symbols[first].as_py(), years[first].as_py())
            if partition != self._open_for:
                self._finish()
                self._start(self.folder / f"symbol={quote(partition[0], safe='')}" / f"year={partition[1]}")
                self._open_for = partition
            self._add(rows.slice(first, after - first).drop_columns("symbol"))

    def _start(self, folder: Path) -> None:
        folder.mkdir(parents=True)  # never there: a partition that comes twice would overwrite itself
        self._file = pq.ParquetWriter(folder / "part-0.parquet", self.schema, compression="zstd")

    def _add(self, rows: pa.Table) -> None:
        self._waiting.append(rows)
        if sum(part.num_rows for part in self._waiting) >= ROW_GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._file is not None and self._waiting:
            self._file.write_table(pa.concat_tables(self._waiting).select(self.schema.names), ROW_GROUP_ROWS)
        self._waiting = []

    def _finish(self) -> None:
        self._flush()
        if self._file is not None:
            self._file.close()
        self._file = None


def _run_starts(symbols: pa.Array, years: pa.Array) -> list[int]:
    """Return the rows at which symbol or year differ from the row before, and row 0."""
    if len(symbols) == 0:
        return []
    changed = pc.or_(
        pc.not_equal(symbols[1:], symbols[:-1]),
        pc.not_equal(years[1:], years[:-1]),
    )
    return [0, *(place + 1 for place in pc.indices_nonzero(changed).to_pylist())]
