"""Arrow tables to and from a table, in the types of its columns.

A number is rounded to its column's decimals before it is written or compared, so that both see the same value. A float
stays a float: a NUMERIC of up to 15 digits and its float64 are told apart by nothing. A Decimal is compared as one.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from psycopg import sql

from tickstock_assets.domain.errors import ContractError
from tickstock_assets.storage.stored_rows import StoredRows
from tickstock_assets.storage.table_columns import Column

Cursor = psycopg.Cursor[Any]

ARROW_TYPES: dict[str, pa.DataType] = {
    "date": pa.date32(),
    "timestamptz": pa.timestamp("us", "UTC"),
    "int2": pa.int64(),
    "int4": pa.int64(),
    "int8": pa.int64(),
    "bool": pa.bool_(),
    "numeric": pa.float64(),
    # An array of texts is handled as a JSON document.
    **dict.fromkeys(["text", "varchar", "uuid", "jsonb", "_text"], pa.string()),
}
DECIMAL_DIGITS = 38
ROWS_TOGETHER = 5_000


def conform(table: str, rows: pa.Table, columns: Sequence[Column]) -> pa.Table:
    """Return the rows in the order and the types of the columns.

    Raises:
        ContractError: a value cannot be what its column is, such as a moment without a time zone.
    """
    arrays = []
    for column in columns:
        values = rows[column.name]
        try:
            arrays.append(_conformed(values, column))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, KeyError) as error:
            raise ContractError(
                f"{table}.{column.name}: expected values for {column.type}, found {values.type} ({error})"
            ) from None
    return pa.table(arrays, names=[column.name for column in columns])


def _conformed(values: pa.ChunkedArray, column: Column) -> pa.ChunkedArray:
    wanted = ARROW_TYPES[column.type]
    if pa.types.is_decimal(values.type) and column.type == "numeric" and column.scale is not None:
        # PostgreSQL rounds halves away from zero.
        rounded = pc.round(values, ndigits=column.scale, round_mode="half_towards_infinity")
        return rounded.cast(pa.decimal128(DECIMAL_DIGITS, column.scale))
    if column.type == "timestamptz" and pa.types.is_timestamp(values.type) and values.type.tz is None:
        raise pa.ArrowInvalid("a moment without a time zone")
    if column.type == "date" and pa.types.is_timestamp(values.type):
        return _as_days(values)
    if column.type == "_text" and pa.types.is_list(values.type):
        texts = [None if texts is None else json.dumps(texts) for texts in values.to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.string())])
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_floating(values.type) and not pa.types.is_floating(wanted):
        values = pc.if_else(pc.is_nan(values), None, values)
    values = values.cast(wanted)
    if pa.types.is_floating(wanted) and column.scale is not None:
        return _rounded(values, column.scale)
    return values


def _rounded(values: pa.ChunkedArray, decimals: int) -> pa.ChunkedArray:
    numbers = values.to_numpy()
    # Where a float has no more decimals than these, rounding could only change it.
    is_exact = np.abs(numbers) * 10.0**decimals >= 2**53
    return pa.chunked_array(
        [pa.array(np.where(is_exact, numbers, np.round(numbers, decimals)), mask=np.isnan(numbers))]
    )


def _as_days(moments: pa.ChunkedArray) -> pa.ChunkedArray:
    if moments.type.tz is not None:
        raise pa.ArrowInvalid("a moment where a day is meant")
    days = moments.cast(pa.date32())
    if not days.cast(moments.type).equals(moments):
        raise pa.ArrowInvalid("a day with a time of day")
    return days


def copy_in(cursor: Cursor, table: str, rows: pa.Table, arrays: Sequence[str] = ()) -> None:
    """Append rows to a table, or to a temporary one of that name; columns named in `arrays` are JSON arrays of texts."""
    for name in arrays:
        if name in rows.column_names:
            rows = rows.set_column(rows.column_names.index(name), name, _as_array_literals(rows[name]))
    buffer = pa.BufferOutputStream()
    # Arrow quotes every text and no missing value, which is just how COPY tells an empty text from NULL.
    pyarrow.csv.write_csv(rows, buffer, pyarrow.csv.WriteOptions(include_header=False))
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, rows.column_names))
    )
    with cursor.copy(statement) as copy:
        copy.write(memoryview(buffer.getvalue()))


def _as_array_literals(documents: pa.ChunkedArray) -> pa.ChunkedArray:
    def literal(document: str | None) -> str | None:
        if document is None:
            return None
        texts = (str(text).replace("\\", "\\\\").replace('"', '\\"') for text in json.loads(document))
        return "{" + ",".join(f'"{text}"' for text in texts) + "}"

    return pa.chunked_array([pa.array([literal(document) for document in documents.to_pylist()], pa.string())])


def read(cursor: Cursor, columns: Sequence[Column], stored: StoredRows, schema: pa.Schema) -> pa.Table:
    """Return these columns of stored rows in these types, seeing what this transaction has written.

    The server joins the rows of a stretch into one text: sending and taking them one by one costs more than all the
    rest, also with COPY.
    """
    line = sql.SQL("concat({})").format(sql.SQL(", ',', ").join(map(_as_csv, columns)))
    if stored.stretches is not None:
        statement = sql.SQL(
            "SELECT convert_to((SELECT string_agg({line}, E'\n') FROM ({query}) AS t), 'UTF8') FROM {stretches}"
        ).format(line=line, query=stored.query, stretches=stored.stretches)
    else:
        statement = sql.SQL(
            "SELECT convert_to(string_agg(line, E'\n'), 'UTF8') "
            "FROM (SELECT {line} AS line, row_number() OVER () / {rows_together} AS part FROM ({query}) AS t) AS lines "
            "GROUP BY part"
        ).format(line=line, rows_together=sql.Literal(ROWS_TOGETHER), query=stored.query)
    parts = [part for (part,) in cursor.execute(statement, binary=True) if part is not None]
    if not parts:
        return schema.empty_table()
    return pyarrow.csv.read_csv(
        # Without a last line end, Arrow does not take a missing last value for one.
        pa.BufferReader(b"\n".join([*parts, b""])),
        pyarrow.csv.ReadOptions(column_names=schema.names),
        pyarrow.csv.ParseOptions(newlines_in_values=True),
        pyarrow.csv.ConvertOptions(
            column_types=schema,
            # A missing value is nothing, an empty text is in quotes.
            null_values=[""],
            true_values=["t"],
            false_values=["f"],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )


def _as_csv(column: Column) -> sql.Composed:
    if ARROW_TYPES[column.type] != pa.string():
        return sql.SQL("t.{}").format(sql.Identifier(column.name))
    text = sql.SQL("to_json(t.{})::text" if column.type == "_text" else "t.{}::text").format(
        sql.Identifier(column.name)
    )
    return sql.SQL("""'"' || replace({}, '"', '""') || '"'""").format(text)
