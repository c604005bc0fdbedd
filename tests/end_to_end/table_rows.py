"""What stands in a home's tables, so that two homes can be compared whose rows were written at different moments."""

from collections.abc import Iterable, Mapping, Sequence

import psycopg
from psycopg import sql

ROWS = "SELECT (to_jsonb(t) - %s::text[])::text FROM {} t"


def rows_of(connection: psycopg.Connection, tables: Iterable[str], left_out: Sequence[str]) -> dict[str, list[str]]:
    """Return the rows of the tables in an order of their own, without some columns, which tell when they were written."""
    return {
        table: sorted(row for (row,) in connection.execute(sql.SQL(ROWS).format(sql.Identifier(table)), [left_out]))
        for table in tables
    }


def assert_same_rows(found: Mapping[str, Sequence[str]], expected: Mapping[str, Sequence[str]]) -> None:
    """Compare; a few of the rows that differ say more than all of them, which would take minutes to lay side by side."""
    assert found.keys() == expected.keys()
    for name, rows in expected.items():
        assert len(found[name]) == len(rows), name
        assert [pair for pair in zip(found[name], rows, strict=True) if pair[0] != pair[1]][:3] == [], name
