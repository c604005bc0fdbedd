"""Which stored rows a merge has to look at: queries, in which the table is called `t`.

A symbol and a stretch of time are looked up one after the other along the primary key: a planner left alone with many
symbols takes the index by time, in which a symbol's rows are far apart, until statistics have caught up with a load.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import starmap

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from psycopg import sql

from tickstock_assets.domain.windows import Window
from tickstock_assets.storage.table_columns import Column, Target

type Stretch = tuple[str, ...]

# Rows are looked for from the first to the last incoming one of a symbol, but not across a hole as long as this.
LONGEST_HOLE = timedelta(days=30)
ONE_DAY = timedelta(days=1)
ARRAY_TYPES = {"varchar": "text"}


@dataclass(frozen=True)
class StoredRows:
    """A query of whole rows; with `stretches`, a FROM item called `w`, it is asked once for each of them."""

    query: sql.Composable
    stretches: sql.Composable | None = None


def of_values(target: Target, values: Mapping[str, Sequence[str]]) -> StoredRows:
    """Return the rows whose columns have one of these values."""
    return StoredRows(sql.SQL("SELECT * FROM {} t WHERE {}").format(sql.Identifier(target.name), _has(values)))


def of_windows(
    target: Target, windows: Sequence[Window], time_column: str, values: Mapping[str, Sequence[str]]
) -> StoredRows:
    """Return the rows in one of the windows, whole days in UTC, that have these values."""
    stretches = [(window.symbol, str(window.start), str(window.end + ONE_DAY)) for window in windows]
    column = next(column for column in target.columns if column.name == time_column)
    return _along_the_key(target, column, (), stretches, _has(values))


def near(target: Target, rows: pa.Table) -> StoredRows:
    """Return the rows that have the keys of these, and few others.

    `rows` are in the order of a key of which the symbol is the first part.
    """
    time = _time(target)
    moments = _moments(rows, time)
    symbols = rows["symbol"].combine_chunks().dictionary_encode()
    codes, names = symbols.indices.to_numpy(), symbols.dictionary.to_pylist()
    others = [rows[column.name].combine_chunks().dictionary_encode() for column in target.between]
    breaks = (np.diff(codes) != 0) | (np.diff(moments) > np.timedelta64(LONGEST_HOLE))
    for other in others:
        breaks |= np.diff(other.indices.to_numpy()) != 0
    first = np.flatnonzero(np.concatenate([[True], breaks]))
    last = np.concatenate([first[1:] - 1, [len(codes) - 1]])
    past = _past(time)
    stretches = [
        (
            str(names[codes[a]]),
            str(moments[a]),
            str(moments[b] + past),
            *(str(other[int(a)].as_py()) for other in others),
        )
        for a, b in zip(first, last, strict=True)
    ]
    return _along_the_key(target, time, target.between, stretches, sql.SQL("true"))


def with_keys(target: Target, rows: pa.Table) -> StoredRows:
    """Return the rows that have the key of one of these."""
    arrays = [
        sql.SQL("{}::{}[]").format(
            sql.Literal(rows[column.name].cast(pa.string()).to_pylist()),
            sql.SQL(ARRAY_TYPES.get(column.type, column.type)),
        )
        for column in target.key
    ]
    return StoredRows(
        sql.SQL("SELECT * FROM {} t WHERE ({}) IN (SELECT * FROM unnest({}))").format(
            sql.Identifier(target.name),
            sql.SQL(", ").join(sql.SQL("t.{}").format(sql.Identifier(column.name)) for column in target.key),
            sql.SQL(", ").join(arrays),
        )
    )


def bounds(target: Target, rows: pa.Table) -> sql.Composable:
    """Return a condition in constants that the rows with these keys fulfil."""
    if target.time is None:
        return sql.SQL("true")
    moments = _moments(rows, target.time)
    return sql.SQL("t.symbol = ANY ({}) AND t.{time} >= {} AND t.{time} < {}").format(
        sql.Literal(_array(sorted(set(rows["symbol"].to_pylist())))),
        sql.Literal(str(moments.min())),
        sql.Literal(str(moments.max() + _past(target.time))),
        time=sql.Identifier(target.time.name),
    )


def _along_the_key(
    target: Target, time: Column, between: Sequence[Column], stretches: Sequence[Stretch], condition: sql.Composable
) -> StoredRows:
    """Return the rows of each stretch: symbol, from, to before, and the values of the columns of the key in between."""
    parts = list(zip(*stretches, strict=True)) if stretches else [() for _ in range(3 + len(between))]
    names = [sql.Identifier(name) for name in ("symbol", "low", "high", *(column.name for column in between))]
    types = ["text", time.type, time.type, *("text" for _ in between)]
    conditions = [sql.SQL("t.{0} = w.{0}").format(name) for name in (names[0], *names[3:])]
    query = sql.SQL(
        "SELECT * FROM {table} t WHERE {same} AND t.{time} >= w.low AND t.{time} < w.high "
        "AND t.{time} >= {lowest} AND t.{time} < {highest} AND {condition} ORDER BY {key}"
    ).format(
        # Constants besides, which tell a planner at once which chunks there are to look into.
        lowest=sql.Literal(min(parts[1], default=None)),
        highest=sql.Literal(max(parts[2], default=None)),
        table=sql.Identifier(target.name),
        same=sql.SQL(" AND ").join(conditions),
        time=sql.Identifier(time.name),
        condition=condition,
        key=sql.SQL(", ").join(sql.SQL("t.{}").format(sql.Identifier(column.name)) for column in target.key),
    )
    arrays = [
        sql.SQL("{}::{}[]").format(sql.Literal(list(part)), sql.SQL(kind))
        for part, kind in zip(parts, types, strict=True)
    ]
    return StoredRows(
        query,
        sql.SQL("unnest({}) AS w ({})").format(sql.SQL(", ").join(arrays), sql.SQL(", ").join(names)),
    )


def _has(values: Mapping[str, Sequence[str]]) -> sql.Composable:
    def one_of(column: str, allowed: Sequence[str]) -> sql.Composed:
        # An untyped literal takes the column's own type, so that its index serves.
        return sql.SQL("t.{} = ANY ({})").format(sql.Identifier(column), sql.Literal(_array(allowed)))

    return sql.SQL(" AND ").join([*starmap(one_of, values.items())]) if values else sql.SQL("true")


def _time(target: Target) -> Column:
    if target.time is None:
        raise ValueError(f"{target.name} has no symbol and time in its key")
    return target.time


def _moments(rows: pa.Table, time: Column) -> npt.NDArray[np.datetime64]:
    moments: npt.NDArray[np.datetime64] = rows[time.name].cast(pa.timestamp("us")).to_numpy()
    return moments


def _past(time: Column) -> np.timedelta64:
    """Return what makes an inclusive end an exclusive one."""
    return np.timedelta64(1, "D") if time.type == "date" else np.timedelta64(1, "us")


def _array(values: Sequence[str]) -> str:
    """Return a PostgreSQL array literal without a type."""
    quoted = (value.replace("\\", "\\\\").replace('"', '\\"') for value in values)
    return "{" + ",".join(f'"{value}"' for value in quoted) + "}"
