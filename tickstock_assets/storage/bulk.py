"""The one way rows are written: `merge` brings a table's rows to what a frame says, in the caller's transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, LiteralString

import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.csv
from psycopg import sql
from sqlalchemy import Connection

from tickstock_assets.domain.windows import Window
from tickstock_assets.storage.database import driver

Cursor = psycopg.Cursor[Any]

# Refreshed when a row is corrected, if the frame does not bring them. `created_at` is not: it says when a row began.
REFRESHED_ON_CORRECTION = {"recorded_at", "detected_at", "updated_at", "last_updated"}


@dataclass(frozen=True)
class MergeCounts:
    """What a merge did, in rows."""

    inserted: int = 0
    corrected: int = 0
    unchanged: int = 0
    outranked: int = 0
    removed: int = 0

    def __add__(self, other: "MergeCounts") -> "MergeCounts":
        return MergeCounts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def written(self) -> int:
        """Rows inserted or corrected."""
        return self.inserted + self.corrected


@dataclass(frozen=True)
class Scope:
    """What a derived table's frame answers for: rows in here that the frame does not have are removed.

    `where` lists the values of columns; `windows`, if given, bound the symbol and the table's `time_column` besides.
    """

    windows: Sequence[Window] | None = None
    time_column: str = "timestamp"
    where: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Table:
    name: str
    key: list[str]
    other: list[str]
    refreshed: list[str]
    ranked: bool

    @property
    def columns(self) -> list[str]:
        return self.key + self.other


def merge(
    connection: Connection, table: str, frame: pd.DataFrame | pa.Table, scope: Scope | None = None
) -> MergeCounts:
    """Make the rows of `table` say what `frame` says, and return what that took.

    Rows whose values are equal are not rewritten. Where the table has a `source`, a row of a lower rank does not
    replace one of a higher. Without a scope nothing is ever removed, so an empty frame changes nothing.

    Args:
        connection: open; the caller's transaction makes the change visible at once or not at all.
        table: its name in the schema.
        frame: its columns are columns of the table, the primary key among them; NaN and None become NULL.
        scope: for derived tables, what the frame answers for.

    Raises:
        psycopg.Error: a value breaks a constraint of the table, or a key stands twice in the frame.
    """
    incoming = frame if isinstance(frame, pa.Table) else pa.Table.from_pandas(frame, preserve_index=False)
    with driver(connection).cursor() as cursor:
        target = _describe(cursor, table, incoming.column_names)
        _lock_symbols(cursor, target, incoming, scope)
        _copy_incoming(cursor, target, incoming)
        removed = _remove_absent(cursor, target, scope) if scope else 0
        outranked = _drop_outranked(cursor, target) if target.ranked else 0
        corrected = _correct(cursor, target) if target.other else 0
        inserted = _insert(cursor, target)
        cursor.execute("DROP TABLE incoming")
    unchanged = incoming.num_rows - outranked - corrected - inserted
    return MergeCounts(inserted, corrected, unchanged, outranked, removed)


def _describe(cursor: Cursor, table: str, columns: list[str]) -> _Table:
    cursor.execute(
        """
        SELECT a.attname, coalesce(a.attnum = ANY (i.indkey), false)
        FROM pg_attribute a LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
        WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped
        ORDER BY a.attnum
        """,
        [table],
    )
    known = dict(cursor.fetchall())
    key = [name for name, is_key in known.items() if is_key]
    if unexpected := [name for name in columns if name not in known] or [name for name in key if name not in columns]:
        raise ValueError(
            f"{table}: expected the columns {', '.join(known)} with the key, found a frame at odds: {unexpected}"
        )
    return _Table(
        name=table,
        key=key,
        other=[name for name in columns if name not in key],
        refreshed=sorted(REFRESHED_ON_CORRECTION & known.keys() - set(columns)),
        ranked="source" in columns and "source" not in key and table.startswith("ohlcv"),
    )


def _lock_symbols(cursor: Cursor, target: _Table, incoming: pa.Table, scope: Scope | None) -> None:
    """Let one writer at a time have a symbol of a table; always in alphabetical order, so that none waits in a circle."""
    symbols = set(incoming["symbol"].unique().to_pylist()) if "symbol" in incoming.column_names else {""}
    symbols |= {window.symbol for window in scope.windows or ()} if scope else set()
    for symbol in sorted(str(symbol) for symbol in symbols):
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"{target.name}|{symbol}"])


def _copy_incoming(cursor: Cursor, target: _Table, incoming: pa.Table) -> None:
    cursor.execute(
        _sql("CREATE TEMP TABLE incoming ON COMMIT DROP AS SELECT {columns} FROM {table} WITH NO DATA", target)
    )
    buffer = pa.BufferOutputStream()
    # Arrow quotes every text and no missing value, which is just how COPY tells an empty text from NULL.
    pa.csv.write_csv(incoming.select(target.columns), buffer, pa.csv.WriteOptions(include_header=False))
    with cursor.copy(_sql("COPY incoming ({columns}) FROM STDIN (FORMAT csv)", target)) as copy:
        copy.write(buffer.getvalue().to_pybytes())
    cursor.execute(_sql("CREATE UNIQUE INDEX ON incoming ({key})", target))
    cursor.execute("ANALYZE incoming")


def _remove_absent(cursor: Cursor, target: _Table, scope: Scope) -> int:
    # An untyped literal takes the column's own type, so that its index serves.
    conditions = [
        sql.SQL("t.{} = ANY ({})").format(sql.Identifier(column), sql.Literal("{" + ",".join(values) + "}"))
        for column, values in scope.where.items()
    ]
    if scope.windows is not None:
        conditions.append(_in_windows(cursor, scope.windows, scope.time_column))
    cursor.execute(
        _sql(
            "DELETE FROM {table} t WHERE {in_scope} AND NOT EXISTS (SELECT FROM incoming i WHERE {same_key})",
            target,
            in_scope=sql.SQL(" AND ").join(conditions),
        )
    )
    return cursor.rowcount


def _in_windows(cursor: Cursor, windows: Sequence[Window], time_column: str) -> sql.Composed:
    cursor.execute("DROP TABLE IF EXISTS pg_temp.scope")
    cursor.execute("CREATE TEMP TABLE scope (symbol text, first_day date, last_day date) ON COMMIT DROP")
    with cursor.copy("COPY scope FROM STDIN") as copy:
        for window in windows:
            copy.write_row((window.symbol, window.start, window.end))
    return sql.SQL(
        "EXISTS (SELECT FROM scope s WHERE t.symbol = s.symbol AND t.{0} >= s.first_day AND t.{0} < s.last_day + 1)"
    ).format(sql.Identifier(time_column))


def _drop_outranked(cursor: Cursor, target: _Table) -> int:
    cursor.execute(
        _sql(
            "DELETE FROM incoming i USING {table} t WHERE {same_key} AND source_rank(i.source) > source_rank(t.source)",
            target,
        )
    )
    return cursor.rowcount


def _correct(cursor: Cursor, target: _Table) -> int:
    refreshed = [sql.SQL(", {} = DEFAULT").format(sql.Identifier(name)) for name in target.refreshed]
    cursor.execute(
        _sql(
            """
            UPDATE {table} t SET ({values}) = ROW({new_values}) {refreshed} FROM incoming i
            WHERE {same_key} AND ROW({old_values}) IS DISTINCT FROM ROW({new_values})
            """,
            target,
            refreshed=sql.SQL("").join(refreshed),
        )
    )
    return cursor.rowcount


def _insert(cursor: Cursor, target: _Table) -> int:
    cursor.execute(
        _sql(
            """
            INSERT INTO {table} ({columns}) SELECT {columns} FROM incoming i
            WHERE NOT EXISTS (SELECT FROM {table} t WHERE {same_key}) ORDER BY {key}
            """,
            target,
        )
    )
    return cursor.rowcount


def _sql(template: LiteralString, target: _Table, **parts: sql.Composable) -> sql.Composed:
    def listed(names: list[str], prefix: LiteralString = "") -> sql.Composed:
        return sql.SQL(", ").join(sql.SQL(prefix + "{}").format(sql.Identifier(name)) for name in names)

    same = (sql.SQL("t.{0} = i.{0}").format(sql.Identifier(name)) for name in target.key)
    return sql.SQL(template).format(
        table=sql.Identifier(target.name),
        columns=listed(target.columns),
        key=listed(target.key),
        values=listed(target.other),
        new_values=listed(target.other, "i."),
        old_values=listed(target.other, "t."),
        same_key=sql.SQL(" AND ").join(same),
        **parts,
    )
