"""Rows corrected and removed, their old values kept first where the table has revisions."""

from collections.abc import Sequence
from typing import Any, LiteralString

import psycopg
import pyarrow as pa
from psycopg import sql

from tickstock_assets.domain.errors import ContractError
from tickstock_assets.storage import revisions, stored_rows
from tickstock_assets.storage.copying import copy_in
from tickstock_assets.storage.table_columns import OPTIONAL_OF_BARS, Column, Target

Cursor = psycopg.Cursor[Any]


def remove(cursor: Cursor, target: Target, rows: pa.Table) -> None:
    """Delete the stored rows that have the keys of these."""
    _stage(cursor, target, rows.select([column.name for column in target.key]))
    bounds = _bounds(cursor, target, rows)
    if target.revisions:
        revisions.keep(cursor, target, _stamp(_now(cursor), "recorded_at"), bounds)
    cursor.execute(
        _sql("DELETE FROM {table} t USING pg_temp.staged_rows i WHERE {same_key} AND {bounds}", target, bounds=bounds)
    )
    _expect(cursor, target, rows)


def correct(cursor: Cursor, target: Target, rows: pa.Table) -> None:
    """Give the stored rows with the keys of these their values, and their moments that of now."""
    _stage(cursor, target, rows)
    bounds = _bounds(cursor, target, rows)
    now = _now(cursor)
    stamps = {name: _stamp(now, name) for name in target.refreshed}
    if target.revisions:
        revisions.keep(cursor, target, stamps["recorded_at"], bounds)
    assignments = {**stamps, **_not_of_the_new_source(target)}
    cursor.execute(
        _sql(
            "UPDATE {table} t SET ({values}) = ROW({new_values}) {assignments} FROM pg_temp.staged_rows i "
            "WHERE {same_key} AND {bounds}",
            target,
            assignments=sql.SQL("").join(
                sql.SQL(", {} = {}").format(sql.Identifier(name), value) for name, value in assignments.items()
            ),
            bounds=bounds,
        )
    )
    _expect(cursor, target, rows)


def _expect(cursor: Cursor, target: Target, rows: pa.Table) -> None:
    if cursor.rowcount != rows.num_rows:
        raise ContractError(f"{target.name}: expected to change {rows.num_rows} rows, found {cursor.rowcount}")


def _not_of_the_new_source(target: Target) -> dict[str, sql.Composable]:
    """Return what empties the columns that the frame does not have, in bars that another source takes over.

    Else a bar would be part of one source's and part of another's, as nobody sent it.
    """
    if target.timeframe is None or "source" not in target.names:
        return {}
    kept = sql.SQL("CASE WHEN t.source = i.source THEN t.{} END")
    return {name: kept.format(sql.Identifier(name)) for name in OPTIONAL_OF_BARS if name not in target.names}


def _now(cursor: Cursor) -> sql.Literal:
    cursor.execute("SELECT clock_timestamp()")
    [now] = cursor.fetchone() or [None]
    return sql.Literal(now)


def _stamp(now: sql.Literal, column: str) -> sql.Composed:
    """Return the moment of now, taken under the locks; later than that of the old row also where the clock was set back."""
    return sql.SQL("greatest({}, t.{} + interval '1 microsecond')").format(now, sql.Identifier(column))


def _stage(cursor: Cursor, target: Target, rows: pa.Table) -> None:
    cursor.execute("DROP TABLE IF EXISTS pg_temp.staged_rows")
    cursor.execute(
        sql.SQL("CREATE TEMP TABLE staged_rows ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA").format(
            sql.SQL(", ").join(map(sql.Identifier, rows.column_names)), sql.Identifier(target.name)
        )
    )
    copy_in(cursor, "staged_rows", rows, target.arrays)
    cursor.execute("ANALYZE pg_temp.staged_rows")


def _bounds(cursor: Cursor, target: Target, rows: pa.Table) -> sql.Composable:
    """Return a condition in constants on the rows to be changed, which tells TimescaleDB what to look into.

    A table without chunks does without: the planner would be led away from the primary key.
    """
    cursor.execute(
        # The limit is for changes that hit whole chunks by mistake; these are of known rows. Only Community has it.
        "SELECT relhassubclass, (SELECT set_config(name, '0', true) FROM pg_settings "
        "WHERE name = 'timescaledb.max_tuples_decompressed_per_dml_transaction') "
        "FROM pg_class WHERE oid = to_regclass(%s)",
        [target.name],
    )
    [has_chunks, _] = cursor.fetchone() or [False, None]
    return stored_rows.bounds(target, rows) if has_chunks else sql.SQL("true")


def _sql(template: LiteralString, target: Target, **parts: sql.Composable) -> sql.Composed:
    def listed(columns: Sequence[Column], prefix: LiteralString = "") -> sql.Composed:
        return sql.SQL(", ").join(sql.SQL(prefix + "{}").format(sql.Identifier(column.name)) for column in columns)

    same = (sql.SQL("t.{0} = i.{0}").format(sql.Identifier(column.name)) for column in target.key)
    return sql.SQL(template).format(
        table=sql.Identifier(target.name),
        values=listed(target.other),
        new_values=listed(target.other, "i."),
        same_key=sql.SQL(" AND ").join(same),
        **parts,
    )
