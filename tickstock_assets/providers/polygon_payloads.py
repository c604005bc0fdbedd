"""Polygon's answers as Arrow tables, ready to be landed: the vendor's values under the names of its documentation.

Elsewhere: asking (`polygon.py`), reading a landed table (`polygon_parsing.py`). What cannot be typed is kept as text.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

Rows = Sequence[Mapping[str, Any]]

# Bars come under single letters; these are the names that the vendor's client and its flat files give them.
BAR_NAMES = {
    "T": "ticker",
    "o": "open",
    "h": "high",
    "l": "low",
    "c": "close",
    "v": "volume",
    "vw": "vwap",
    "t": "timestamp",
    "n": "transactions",
}
NO_BARS = pa.schema(
    [
        ("ticker", pa.string()),
        *((name, pa.float64()) for name in ("open", "high", "low", "close", "volume", "vwap")),
        ("timestamp", pa.int64()),
        ("transactions", pa.int64()),
    ]
)
NO_TRADES = pa.schema(
    [
        ("ticker", pa.string()),
        ("sip_timestamp", pa.int64()),
        ("price", pa.float64()),
        ("size", pa.float64()),
        ("id", pa.string()),
        ("exchange", pa.int64()),
        ("conditions", pa.list_(pa.int64())),
        ("sequence_number", pa.int64()),
    ]
)


def bars_table(rows: Rows, ticker: str | None = None) -> pa.Table:
    """Return bars as a table.

    Args:
        rows: `results` of an aggregates answer; any key may be missing, any value of any type.
        ticker: whose bars they are; None where each row names its own (the whole market of a day).
    """
    columns = {BAR_NAMES.get(key, key): column for key, column in _columns(rows, set(BAR_NAMES.values())).items()}
    return _table(rows, columns, ticker, NO_BARS)


def trades_table(rows: Rows, ticker: str) -> pa.Table:
    """Return the trades of one ticker (`results` of a trades answer) as a table."""
    return _table(rows, _columns(rows, {"ticker"}), ticker, NO_TRADES)


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Return pages as one table; a column whose type differs between them becomes JSON text."""
    tables = [table for table in tables if table.num_rows] or tables[:1]
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        kinds: dict[str, set[pa.DataType]] = {}
        for field in (field for table in tables for field in table.schema):
            kinds.setdefault(field.name, set()).add(field.type)
        mixed = {name for name, types in kinds.items() if len(types - {pa.null()}) > 1}
        return pa.concat_tables([_with_text(table, mixed) for table in tables], promote_options="permissive")


def _table(rows: Rows, columns: dict[str, pa.Array], ticker: str | None, empty: pa.Schema) -> pa.Table:
    if not rows:
        return empty.empty_table()
    if ticker is not None:
        columns["ticker"] = pa.repeat(ticker, len(rows))
    # Also where no row names one: without it neither the kind of payload nor the number of its rows would be known.
    columns.setdefault("ticker", pa.nulls(len(rows), pa.string()))
    names = [*(name for name in empty.names if name in columns), *sorted(columns.keys() - set(empty.names))]
    return pa.table({name: columns[name] for name in names})


def _columns(rows: Rows, taken: set[str]) -> dict[str, pa.Array]:
    """Return each key's values, but for unknown keys that bear a name in `taken`."""
    if not rows:
        return {}
    try:
        # Types and converts fifty thousand rows at once, many times faster than column by column.
        struct = pa.array(rows)
        columns = dict(zip(struct.type.names, struct.flatten(), strict=True))
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        keys = sorted({key for row in rows for key in row})
        columns = {key: _column([row.get(key) for row in rows]) for key in keys}
    return {
        key: column if _is_plain(column.type) else _as_text(column.to_pylist())
        for key, column in columns.items()
        if key not in taken
    }


def _column(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return _as_text(values)


def _is_plain(kind: pa.DataType) -> bool:
    """Whether a type is a scalar or a list of scalars; objects within rows cannot all be landed as they are."""
    return not pa.types.is_nested(kind) or (pa.types.is_list(kind) and not pa.types.is_nested(kind.value_type))


def _as_text(values: Sequence[Any]) -> pa.Array:
    return pa.array([None if value is None else json.dumps(value) for value in values], pa.string())


def _with_text(table: pa.Table, names: set[str]) -> pa.Table:
    for position, field in enumerate(table.schema):
        if field.name in names and not pa.types.is_string(field.type):
            table = table.set_column(position, field.name, _as_text(table[field.name].to_pylist()))
    return table
