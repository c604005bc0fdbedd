"""Tables as a folder of Parquet files, partitioned as Hive does it: `table=ohlcv_daily/symbol=AAPL/year=2012/part-0.parquet`.

Values are exact: NUMERIC(p, s) becomes decimal128(p, s) without passing through a float, times are in UTC. All tables
are read at one moment. Memory holds a batch of rows, never a table.

Elsewhere: the whole database in a file that can be restored (backup.py).
"""

import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.csv
from psycopg import sql
from sqlalchemy import Engine, text

from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.storage import migrate
from tickstock_assets.storage.database import driver
from tickstock_assets.storage.parquet_folder import Column, PartitionWriter, Table
from tickstock_assets.storage.whole_file import whole_folder

Progress = Callable[[str, int], None]
BLOCK_BYTES = 4_000_000


@dataclass(frozen=True)
class Selection:
    """What of the tables is wanted; None is everything. `start` and `end` are days in UTC, both included.

    Symbols narrow down the tables that have a symbol, days those that have a time in their key.
    """

    symbols: Sequence[str] | None = None
    tables: Sequence[str] | None = None
    start: date | None = None
    end: date | None = None

    def conditions(self, table: Table) -> sql.Composed:
        """Return the WHERE clause for a table."""
        parts: list[sql.Composable] = [sql.SQL("true")]
        if self.symbols is not None and table.has_symbol:
            parts.append(sql.SQL("symbol = ANY ({})").format(sql.Literal(list(self.symbols))))
        if table.time is not None and self.start is not None:
            parts.append(sql.SQL("{} >= {}").format(sql.Identifier(table.time), sql.Literal(str(self.start))))
        if table.time is not None and self.end is not None:
            after = str(self.end + timedelta(days=1))
            parts.append(sql.SQL("{} < {}").format(sql.Identifier(table.time), sql.Literal(after)))
        return sql.SQL(" AND ").join(parts)


@dataclass
class Exported:
    """What was written: rows by table."""

    rows: dict[str, int] = field(default_factory=dict)


def export(engine: Engine, folder: Path, selection: Selection, on_progress: Progress = lambda *_: None) -> Exported:
    """Write tables to a new folder, which is there when all of them are.

    Args:
        engine: of `open_engine`; a role that only reads will do.
        folder: not there yet, or empty.
        selection: which tables, symbols and days.
        on_progress: told a table and how many of its rows are written.

    Raises:
        ConfigError: the folder cannot be made, or a table or symbol is not there.
    """
    exported = Exported()
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        connection.execute(text("SET TRANSACTION READ ONLY"))
        # A table is one statement, however large.
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        below = driver(connection)
        tables = _chosen(_tables(below), selection)
        _require_symbols(below, selection)
        with whole_folder(folder) as part:
            for table in tables:
                exported.rows[table.name] = _write_table(below, table, selection, part, on_progress)
            about = {
                "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
                "revision": migrate.current_revision(connection),
                "rows": exported.rows,
            }
            # Readers of Parquet folders pass over names with an underscore.
            (part / "_export.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return exported


def _tables(connection: psycopg.Connection[Any]) -> list[Table]:
    """Return the tables of the schema; a continuous aggregate, which PostgreSQL calls a view, is one of them."""
    rows = connection.execute(
        """
        SELECT c.relname, a.attname, format_type(coalesce(nullif(t.typbasetype, 0), a.atttypid), NULL),
               CASE WHEN a.atttypid = 'numeric'::regtype AND a.atttypmod > 0 THEN (a.atttypmod - 4) >> 16 & 65535 END,
               CASE WHEN a.atttypid = 'numeric'::regtype AND a.atttypmod > 0 THEN (a.atttypmod - 4) & 65535 END,
               CASE c.relkind WHEN 'v' THEN array_position(ARRAY['symbol', 'timestamp'], a.attname::text)
                              ELSE array_position(i.indkey::int[], a.attnum::int) END
        FROM pg_class c
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        JOIN pg_type t ON t.oid = a.atttypid
        LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relname <> 'schema_revision'
          AND (c.relkind IN ('r', 'p') OR c.relkind = 'v' AND c.relname = ANY (ARRAY['ohlcv_5min', 'ohlcv_15min', 'ohlcv_1h']))
          AND NOT EXISTS (SELECT FROM pg_depend d
                          WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
        ORDER BY c.relname, a.attnum
        """
    ).fetchall()
    names = dict.fromkeys(row[0] for row in rows)
    return [Table(name, [Column(*row[1:]) for row in rows if row[0] == name]) for name in names]


def _chosen(tables: list[Table], selection: Selection) -> list[Table]:
    if selection.tables is None:
        return tables
    known = {table.name: table for table in tables}
    for name in selection.tables:
        if name not in known:
            raise ConfigError(
                f"--tables {name}: expected a table, found none of that name; there are {', '.join(known)}"
            )
    return [known[name] for name in dict.fromkeys(selection.tables)]


def _require_symbols(connection: psycopg.Connection[Any], selection: Selection) -> None:
    known = [row[0] for row in connection.execute("SELECT symbol FROM symbols ORDER BY symbol")]
    for symbol in selection.symbols or ():
        if symbol not in known:
            shown = f"known symbols are {', '.join(known[:20])}" if known else "there is none yet"
            raise ConfigError(f"--symbols {symbol}: expected a known symbol, found none of that name; {shown}")


def _write_table(
    connection: psycopg.Connection[Any], table: Table, selection: Selection, folder: Path, on_progress: Progress
) -> int:
    rows = 0
    with PartitionWriter(folder / f"table={table.name}", table) as writer:
        for batch in _read(connection, table, selection):
            writer.write(pa.Table.from_batches([batch]))
            rows += batch.num_rows
            on_progress(table.name, rows)
    return rows


def _read(connection: psycopg.Connection[Any], table: Table, selection: Selection) -> Iterator[pa.RecordBatch]:
    """Yield the rows in the table's order, a block at a time, as PostgreSQL sends them."""
    names = sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns)
    order = sql.SQL(", ").join(map(sql.Identifier, table.order)) if table.order else sql.SQL("1")
    query = sql.SQL("COPY (SELECT {} FROM {} WHERE {} ORDER BY {}) TO STDOUT (FORMAT csv, HEADER)").format(
        names, sql.Identifier(table.name), selection.conditions(table), order
    )
    with connection.cursor() as cursor, cursor.copy(query) as copy:
        reader = pa.csv.open_csv(
            io.BufferedReader(_CopiedBytes(copy), BLOCK_BYTES),
            read_options=pa.csv.ReadOptions(block_size=BLOCK_BYTES, use_threads=False),
            parse_options=pa.csv.ParseOptions(newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(
                column_types={column.name: column.arrow for column in table.columns},
                # COPY quotes an empty text and leaves out a NULL.
                null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False,
                true_values=["t"], false_values=["f"],
            ),
        )  # fmt: skip
        yield from reader


class _CopiedBytes(io.RawIOBase):
    """What COPY sends, as a file to read from."""

    def __init__(self, copy: psycopg.Copy) -> None:
        self._rows = iter(copy)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while not self._rest:
            row = next(self._rows, None)
            if row is None:
                return 0
            self._rest = memoryview(row)
        taken = min(len(buffer), len(self._rest))
        buffer[:taken] = self._rest[:taken]
        self._rest = self._rest[taken:]
        return taken
