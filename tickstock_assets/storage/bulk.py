"""The one way rows are written: `merge` brings a table's rows to what a frame says, in the caller's transaction.

It reads what is stored, compares on the client and sends only what differs: for an empty window that is one plain COPY,
for an unchanged one nothing at all. Bars that change leave their old values in `bar_revisions`.

Elsewhere: what a table's columns are (table_columns.py), rows in and out (copying.py), which rows differ (comparison.py), which
are read to be compared (stored_rows.py), old values of bars (revisions.py).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql
from sqlalchemy import Connection

from tickstock_assets.domain.errors import ContractError
from tickstock_assets.domain.windows import Window, merge_neighbours
from tickstock_assets.storage import audit, changes, stored_rows, touched_buckets
from tickstock_assets.storage.comparison import ABSENT, differing, positions
from tickstock_assets.storage.copying import copy_in, read
from tickstock_assets.storage.database import driver
from tickstock_assets.storage.incoming import Incoming
from tickstock_assets.storage.stored_rows import StoredRows
from tickstock_assets.storage.table_columns import Target, target_of

Cursor = psycopg.Cursor[Any]

# Rows compared at a time: enough to be fast, few enough that memory stays a fraction of the frame's.
BATCH_ROWS = 100_000
# Of a bar; one vendor has them on some routes and not on others.
NOT_ALWAYS_TOLD = {"quote_volume", "vwap", "trades_count"}
# In the source of a bar that is made of finer ones, before theirs; and all that is before it for a rolled-up daily bar.
MADE_OF, ROLLED_UP = ":", "rollup:"
# The lock by which readers see loads under way (see market_data.py): this number and the second it was taken.
OPEN_LOADS = 1_414_747_469
# The lock of a symbol: this number and one of so many.
SYMBOL_LOCKS = 1_414_747_470
MOST_SYMBOL_LOCKS = 1_024


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
        ContractError: a key is incomplete or stands twice in the frame, or a value cannot be what its column is; a scope or
            a `recorded_at` for bars, whose every state is to be known for ever.
        psycopg.Error: a value breaks a constraint of the table.
    """
    columns = frame.column_names if isinstance(frame, pa.Table) else list(frame.columns)
    target = target_of(connection, table, columns)
    _refuse_what_breaks_promises(connection, target, scope)
    incoming = Incoming(target, frame)
    windows = None if scope is None or scope.windows is None else merge_neighbours(scope.windows)
    with driver(connection).cursor() as cursor:
        lock_symbols(cursor, [table], incoming.symbols() | {window.symbol for window in windows or ()})
        lock_load(cursor)
        counts = MergeCounts()
        for rows, counterparts in _batches(incoming, scope, windows):
            counts += _merge_batch(cursor, target, rows, counterparts, is_scope=scope is not None)
    if target.timeframe and counts.corrected:
        audit.record(connection, "correction", (table, table), "supersede", {"rows": counts.corrected})
    return counts


def _refuse_what_breaks_promises(connection: Connection, target: Target, scope: Scope | None) -> None:
    below = driver(connection)
    if below.autocommit or below.isolation_level not in {None, psycopg.IsolationLevel.READ_COMMITTED}:
        # What another writer committed while we waited for the lock has to be seen.
        raise ContractError(f"{target.name}: expected a transaction of READ COMMITTED, found another; open one")
    if target.timeframe and scope is not None:
        raise ContractError(f"{target.name}: expected no scope, as bars are corrected and never removed, found one")
    if target.revisions and "recorded_at" in target.names:
        raise ContractError(f"{target.name}: expected recorded_at to be left to the server, found it in the frame")


def lock_symbols(cursor: Cursor, tables: Sequence[str], symbols: Collection[str]) -> None:
    """Let one writer at a time have the symbols of these tables; always in one order, so that none waits in a circle.

    Symbols share a bounded number of locks, as the server's memory for them is bounded.
    """
    cursor.execute(
        sql.SQL(
            "SELECT pg_advisory_xact_lock({symbols}, number) FROM (SELECT DISTINCT hashtext(name) & {most} AS number "
            "FROM unnest({names}::text[]) AS name ORDER BY number) AS numbers"
        ).format(
            symbols=sql.Literal(SYMBOL_LOCKS),
            most=sql.Literal(MOST_SYMBOL_LOCKS - 1),
            names=sql.Literal([f"{table}|{symbol}" for table in tables for symbol in sorted(symbols)]),
        )
    )


def lock_load(cursor: Cursor) -> None:
    """Let readers see that a load is under way, after its symbols are locked and before it takes a stamp.

    What one saw as of a moment cannot change by a load that was waiting then.
    """
    cursor.execute(
        sql.SQL(
            "SELECT pg_advisory_xact_lock_shared({}, floor(extract(epoch FROM clock_timestamp()))::integer)"
        ).format(sql.Literal(OPEN_LOADS))
    )


def _batches(
    incoming: Incoming, scope: Scope | None, windows: Sequence[Window] | None
) -> Iterator[tuple[pa.Table, StoredRows]]:
    """Yield rows, each time with the stored ones to compare them with, until the frame and the scope are exhausted."""
    target = incoming.target
    if scope is None:
        for rows in incoming.batches(BATCH_ROWS):
            yield rows, (stored_rows.near if target.time else stored_rows.with_keys)(target, rows)
    elif windows is None:
        everything = np.arange(len(incoming))
        yield incoming.rows(everything), stored_rows.of_values(target, scope.where)
    else:
        places = incoming.by_symbol()
        if strangers := sorted(incoming.symbols() - {window.symbol for window in windows}):
            raise ContractError(
                f"{target.name}: expected rows of the symbols in scope, found rows of {', '.join(strangers)}"
            )
        for group in _grouped(windows, {symbol: len(found) for symbol, found in places.items()}):
            found = [places[symbol] for symbol in sorted({window.symbol for window in group} & places.keys())]
            rows = incoming.rows(np.concatenate([np.empty(0, np.intp), *found]))
            yield rows, stored_rows.of_windows(target, group, scope.time_column, scope.where)


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
    changed = _says_otherwise(ours, theirs, target)
    outranked = _outranked(cursor, ours, theirs) if target.is_ranked else np.zeros_like(changed)
    corrected = ours.filter(pa.array(changed & ~outranked))
    removed = stored.take(np.setdiff1d(np.arange(stored.num_rows), place)) if is_scope else stored.slice(0, 0)
    new = incoming if not len(matched) else incoming.take(np.flatnonzero(place == ABSENT))
    if removed.num_rows:
        changes.remove(cursor, target, removed)
    if corrected.num_rows:
        changes.correct(cursor, target, corrected)
    if new.num_rows:
        copy_in(cursor, target.name, new, target.arrays)
    if target.name == touched_buckets.TABLE and corrected.num_rows + new.num_rows:
        touched_buckets.touch(cursor, pa.concat_tables([corrected, new]))
    return MergeCounts(
        inserted=new.num_rows,
        corrected=corrected.num_rows,
        unchanged=len(matched) - corrected.num_rows - int(outranked.sum()),
        outranked=int(outranked.sum()),
        removed=removed.num_rows,
    )


def _says_otherwise(ours: pa.Table, theirs: pa.Table, target: Target) -> npt.NDArray[np.bool_]:
    """Return which rows change what is stored; a vendor's bar that only tells less of itself does not.

    Some routes of a vendor leave out what others have: the same bar by file has no volume-weighted price. A bar that is made
    of finer ones tells all there is.
    """
    if not target.timeframe:
        return differing(ours, theirs, target.other)
    changed = differing(ours, theirs, [column for column in target.other if column.name not in NOT_ALWAYS_TOLD])
    is_made = pc.match_substring(ours["source"], MADE_OF) if target.is_ranked else pa.scalar(value=False)
    for column in target.other:
        if column.name in NOT_ALWAYS_TOLD:
            changed |= differing(ours, theirs, [column]) & pc.or_(ours[column.name].is_valid(), is_made).to_numpy()
    return changed


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
    # A day rolled up anew takes the place of what it was, whatever its minutes are now of.
    both_rolled_up = [pc.starts_with(column, ROLLED_UP).to_numpy(zero_copy_only=False) for column in (new, old)]
    lower: npt.NDArray[np.bool_] = (ranks[0] > ranks[1]) & ~(both_rolled_up[0] & both_rolled_up[1])
    return lower
