"""The one way rows are written: `merge` brings a table's rows to what a frame says, in the caller's transaction.

It reads what is stored, compares on the client and sends only what differs: for an empty window that is one plain COPY,
for an unchanged one nothing at all. Bars that change leave their old values in `bar_revisions`.

Elsewhere: what a table's columns are (table_columns.py), rows in and out (copying.py), which rows differ (comparison.py), which
are read to be compared (stored_rows.py), old values of bars (revisions.py).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import groupby
from typing import Any, LiteralString

import numpy as np
import numpy.typing as npt
import pandas as pd
import psycopg
import pyarrow as pa
from psycopg import sql
from sqlalchemy import Connection

from tickstock_assets.domain.errors import ContractError
from tickstock_assets.domain.windows import Window
from tickstock_assets.storage import audit, revisions, stored_rows
from tickstock_assets.storage.comparison import ABSENT, differing, key_codes, positions
from tickstock_assets.storage.copying import conform, copy_in, read
from tickstock_assets.storage.database import driver
from tickstock_assets.storage.stored_rows import StoredRows
from tickstock_assets.storage.table_columns import Column, Target, target_of

Cursor = psycopg.Cursor[Any]
Order = npt.NDArray[np.intp]

# Rows compared at a time: enough to be fast, few enough that memory stays a fraction of the frame's.
BATCH_ROWS = 100_000
# The lock by which readers see loads under way (see market_data.py): this number and the second it was taken.
OPEN_LOADS = 1_414_747_469


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
        scope: for derived tables, what the frame answers for; every row of the frame is within it.

    Raises:
        ContractError: a key is incomplete or stands twice in the frame, or a value cannot be what its column is.
        psycopg.Error: a value breaks a constraint of the table.
    """
    columns = frame.column_names if isinstance(frame, pa.Table) else list(frame.columns)
    target = target_of(connection, table, columns)
    with driver(connection).cursor() as cursor:
        order = _key_order(target, frame)
        _lock(cursor, target, frame, scope)
        counts = MergeCounts()
        for rows, counterparts in _batches(target, frame, order, scope):
            counts += _merge_batch(cursor, target, rows, counterparts, is_scope=scope is not None)
    if target.timeframe and counts.corrected:
        audit.record(connection, "correction", (table, table), "supersede", {"rows": counts.corrected})
    return counts


def _key_order(target: Target, frame: pd.DataFrame | pa.Table) -> Order | None:
    """Return the order of the rows by key, None where they are in it."""
    if len(frame) == 1 and isinstance(frame, pa.Table) and not any(frame[part.name].null_count for part in target.key):
        return None
    key = [_series(frame, column.name) for column in target.key]
    names = ", ".join(column.name for column in target.key)
    codes = key_codes(key)
    if (codes < 0).any():
        raise ContractError(f"{target.name}: expected the key ({names}) in every row, found a row without")
    if (np.diff(codes) > 0).all():
        return None
    order = np.argsort(codes, kind="stable")
    twice = np.flatnonzero(np.diff(codes[order]) == 0)
    if len(twice):
        found = ", ".join(str(part.iloc[order[twice[0]]]) for part in key)
        raise ContractError(f"{target.name}: expected every key ({names}) once, found {found} twice")
    return order


def _series(frame: pd.DataFrame | pa.Table, name: str) -> "pd.Series[Any]":
    column: pd.Series[Any] = frame[name].to_pandas() if isinstance(frame, pa.Table) else frame[name]
    return column


def _lock(cursor: Cursor, target: Target, frame: pd.DataFrame | pa.Table, scope: Scope | None) -> None:
    """Let one writer at a time have a symbol of a table; always in alphabetical order, so that none waits in a circle.

    Every stamp is taken after this, and before it is, readers can see that a load is under way: what one saw as of a
    moment cannot change by a load that was waiting then.
    """
    symbols = {window.symbol for window in scope.windows or ()} if scope else set()
    if target.has_symbol:
        column = frame["symbol"]
        unique = column.unique().to_pylist() if isinstance(column, pa.ChunkedArray) else column.unique().tolist()
        symbols.update(symbol for symbol in unique if isinstance(symbol, str))
    names = sorted(f"{target.name}|{symbol}" for symbol in symbols or {""})
    cursor.execute(
        sql.SQL(
            "SELECT pg_advisory_xact_lock(hashtextextended(name, 0)) FROM unnest({}::text[]) AS name; "
            "SELECT pg_advisory_xact_lock_shared({}, floor(extract(epoch FROM clock_timestamp()))::integer)"
        ).format(sql.Literal(names), sql.Literal(OPEN_LOADS))
    )


def _batches(
    target: Target, frame: pd.DataFrame | pa.Table, order: Order | None, scope: Scope | None
) -> Iterator[tuple[pa.Table, StoredRows]]:
    """Yield rows in the order of the key, each time with the stored ones to compare them with."""

    def rows(start: int, stop: int) -> pa.Table:
        if order is not None:
            part = frame.take(order[start:stop])
        else:
            part = frame.slice(start, stop - start) if isinstance(frame, pa.Table) else frame.iloc[start:stop]
        table = part if isinstance(part, pa.Table) else pa.Table.from_pandas(part, preserve_index=False)
        return conform(target.name, table, target.columns)

    if scope is None:
        for start in range(0, len(frame), BATCH_ROWS):
            batch = rows(start, min(start + BATCH_ROWS, len(frame)))
            yield batch, (stored_rows.near if target.time else stored_rows.with_keys)(target, batch)
    elif scope.windows is None:
        yield rows(0, len(frame)), stored_rows.of_values(target, scope.where)
    else:
        counts = {str(symbol): int(n) for symbol, n in _series(frame, "symbol").value_counts().items()}
        start = 0
        for windows in _grouped(scope.windows, counts):
            stop = start + sum(counts.pop(symbol, 0) for symbol in {window.symbol for window in windows})
            yield rows(start, stop), stored_rows.of_windows(target, windows, scope.time_column, scope.where)
            start = stop
        if counts:
            raise ContractError(
                f"{target.name}: expected rows of the symbols in scope, found rows of {', '.join(sorted(counts))}"
            )


def _grouped(windows: Sequence[Window], row_counts: Mapping[str, int]) -> Iterator[list[Window]]:
    """Yield the windows in order of symbol, as many symbols at a time as make a batch."""
    group: list[Window] = []
    n_rows = 0
    for symbol, of_symbol in groupby(sorted(windows), lambda window: window.symbol):
        n_rows += row_counts.get(symbol, 0)
        if group and n_rows > BATCH_ROWS:
            yield group
            group, n_rows = [], row_counts.get(symbol, 0)
        group.extend(of_symbol)
    if group:
        yield group


def _merge_batch(
    cursor: Cursor, target: Target, incoming: pa.Table, counterparts: StoredRows, *, is_scope: bool
) -> MergeCounts:
    stored = read(cursor, target.columns, counterparts, incoming.schema)
    place = positions(incoming, stored, target.key)
    matched = np.flatnonzero(place != ABSENT)
    ours, theirs = incoming, stored
    if len(matched) < incoming.num_rows or not _is_every_row(place, stored):
        ours, theirs = incoming.take(matched), stored.take(place[matched])
    changed = differing(ours, theirs, target.other)
    outranked = _outranked(cursor, ours, theirs) if target.is_ranked else np.zeros_like(changed)
    corrected = ours.filter(pa.array(changed & ~outranked))
    removed = stored.take(np.setdiff1d(np.arange(stored.num_rows), place)) if is_scope else stored.slice(0, 0)
    new = incoming if not len(matched) else incoming.take(np.flatnonzero(place == ABSENT))
    if removed.num_rows:
        _remove(cursor, target, removed)
    if corrected.num_rows:
        _correct(cursor, target, corrected)
    if new.num_rows:
        copy_in(cursor, target.name, new)
    return MergeCounts(
        inserted=new.num_rows,
        corrected=corrected.num_rows,
        unchanged=len(matched) - corrected.num_rows - int(outranked.sum()),
        outranked=int(outranked.sum()),
        removed=removed.num_rows,
    )


def _is_every_row(place: npt.NDArray[np.int64], stored: pa.Table) -> bool:
    return len(place) == stored.num_rows and bool((place == np.arange(len(place))).all())


def _outranked(cursor: Cursor, ours: pa.Table, theirs: pa.Table) -> npt.NDArray[np.bool_]:
    """Return which rows come from a source of lower rank than the stored one; the function in SQL is the one order."""
    new, old = ours["source"].combine_chunks(), theirs["source"].combine_chunks()
    if new.equals(old):
        return np.zeros(len(new), np.bool_)
    names = pa.concat_arrays([new, old]).unique().to_pylist()
    cursor.execute("SELECT name, source_rank(name) FROM unnest(%s::text[]) AS name", [names])
    rank = dict(cursor.fetchall())
    ranks = [np.array([rank[name] for name in column.to_pylist()]) for column in (new, old)]
    lower: npt.NDArray[np.bool_] = ranks[0] > ranks[1]
    return lower


def _remove(cursor: Cursor, target: Target, rows: pa.Table) -> None:
    _stage(cursor, target, "removed_rows", rows.select([column.name for column in target.key]))
    cursor.execute(
        _sql(
            "DELETE FROM {table} t USING pg_temp.removed_rows i WHERE {same_key} AND {bounds}",
            target,
            bounds=stored_rows.bounds(target, rows),
        )
    )


def _correct(cursor: Cursor, target: Target, rows: pa.Table) -> None:
    _stage(cursor, target, "corrected_rows", rows)
    bounds = stored_rows.bounds(target, rows)
    # That of now, taken under the locks, and later than that of the old values also where the clock was set back.
    cursor.execute("SELECT clock_timestamp()")
    [now] = cursor.fetchone() or [None]
    stamps = {
        name: sql.SQL("greatest({}, t.{} + interval '1 microsecond')").format(sql.Literal(now), sql.Identifier(name))
        for name in target.refreshed
    }
    if target.timeframe:
        revisions.keep(cursor, target, stamps["recorded_at"], bounds)
    cursor.execute(
        _sql(
            "UPDATE {table} t SET ({values}) = ROW({new_values}) {stamps} FROM pg_temp.corrected_rows i "
            "WHERE {same_key} AND {bounds}",
            target,
            stamps=sql.SQL("").join(
                sql.SQL(", {} = {}").format(sql.Identifier(name), stamp) for name, stamp in stamps.items()
            ),
            bounds=bounds,
        )
    )
    if cursor.rowcount != rows.num_rows:
        raise ContractError(f"{target.name}: expected to correct {rows.num_rows} rows, found {cursor.rowcount}")


def _stage(cursor: Cursor, target: Target, name: str, rows: pa.Table) -> None:
    columns = sql.SQL(", ").join(map(sql.Identifier, rows.column_names))
    cursor.execute(sql.SQL("DROP TABLE IF EXISTS pg_temp.{}").format(sql.Identifier(name)))
    cursor.execute(
        sql.SQL("CREATE TEMP TABLE {} ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA").format(
            sql.Identifier(name), columns, sql.Identifier(target.name)
        )
    )
    copy_in(cursor, name, rows)
    cursor.execute(sql.SQL("ANALYZE pg_temp.{}").format(sql.Identifier(name)))


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
