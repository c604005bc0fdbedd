"""Writes docs/schema.md and sql/columns.csv from what a live database says of itself.

The first is for people: the entity-relationship diagram and every column. The second is for the web UI, which shows the
columns of each table asset without asking a database (defs/columns.py).

Run `.venv/bin/python docs/build_schema.py` after a new revision: it migrates a new database on a server of its own,
reads the catalog and rewrites both files. A test holds them against the same.
"""

import csv
import io
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from sqlalchemy import Connection, make_url, text

from tickstock_assets.storage import embedded, migrate
from tickstock_assets.storage.database import open_engine

SCHEMA = Path(__file__).parent / "schema.md"
COLUMNS_LISTED = Path(__file__).parents[1] / "sql" / "columns.csv"
HEADING = """# Schema

Made by `docs/build_schema.py` from a newly migrated database; changes belong in `sql/`.
Of the diagram's lines, `||` is a row that must exist and `|o` one that may.
"""
SHORT_TYPES = {"timestamp with time zone": "timestamptz", "character varying": "varchar"}

COLUMNS = """
    SELECT c.relname AS relation, c.relkind = 'v' AS is_view, obj_description(c.oid, 'pg_class') AS said_of_relation,
           a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS required,
           coalesce(a.attnum = ANY (k.conkey), false) AS in_primary_key,
           EXISTS (SELECT FROM pg_constraint f WHERE f.conrelid = c.oid AND f.contype = 'f'
                   AND a.attnum = ANY (f.conkey)) AS in_foreign_key,
           coalesce(col_description(c.oid, a.attnum), '') AS said
    FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype = 'p'
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v') AND c.relname <> 'schema_revision'
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'e')
    ORDER BY is_view, c.relname COLLATE "C", a.attnum
"""
RELATIONS = """
    SELECT f.confrelid::regclass::text AS parent, f.conrelid::regclass::text AS child,
           string_agg(a.attname, ', ' ORDER BY k.place) AS columns, bool_and(a.attnotnull) AS required,
           CASE f.confdeltype WHEN 'c' THEN 'CASCADE' WHEN 'n' THEN 'SET NULL' WHEN 'd' THEN 'SET DEFAULT'
                ELSE 'RESTRICT' END AS on_delete
    FROM pg_constraint f, unnest(f.conkey) WITH ORDINALITY AS k (attnum, place), pg_attribute a
    WHERE f.contype = 'f' AND f.connamespace = 'public'::regnamespace AND a.attrelid = f.conrelid AND a.attnum = k.attnum
    GROUP BY f.oid, f.confrelid, f.conrelid, f.confdeltype ORDER BY 1, 2, 3
"""


@dataclass(frozen=True)
class Column:
    """One column of a table or view; `type` as SQL writes it, with TIMESTAMPTZ and VARCHAR for the long names."""

    relation: str
    is_view: bool
    said_of_relation: str
    name: str
    type: str
    required: bool
    in_primary_key: bool
    in_foreign_key: bool
    said: str

    @property
    def keys(self) -> str:
        """Return PK, FK, both, or nothing, as Mermaid writes it."""
        return ", ".join(
            [*(["PK"] if self.in_primary_key else []), *(["FK"] if self.in_foreign_key else [])],
        )


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key: `columns` of the child, and whether none of them may be NULL."""

    parent: str
    child: str
    columns: str
    required: bool
    on_delete: str


def describe(connection: Connection) -> str:
    """Return the text of docs/schema.md for the schema that a database has."""
    columns = _columns(connection)
    foreign_keys = [ForeignKey(**row) for row in connection.execute(text(RELATIONS)).mappings()]
    return "\n".join([HEADING, *_diagram(columns, foreign_keys), "", *_tables(columns, foreign_keys)])


def list_columns(connection: Connection) -> str:
    """Return the text of sql/columns.csv for that schema: a line a column of each table."""
    written = io.StringIO()
    lines = csv.writer(written, lineterminator="\n")
    lines.writerow(["table", "column", "type", "required", "in_key", "meaning"])
    for table, columns in _columns(connection).items():
        lines.writerows(
            [table, one.name, one.type, one.required, one.in_primary_key, one.said]
            for one in columns
            if not one.is_view
        )
    return written.getvalue()


def build() -> tuple[str, str]:
    """Return both texts for a newly migrated database on an embedded server that ends with the call."""
    with tempfile.TemporaryDirectory(prefix="tickstock-schema-") as folder:
        home = Path(folder)
        server = embedded.acquire(home)
        try:
            embedded.ensure_database(server, "schema")
            engine = open_engine(make_url(server.url("schema")))
            migrate.upgrade(engine)
            with engine.connect() as connection:
                both = describe(connection), list_columns(connection)
            engine.dispose()
            return both
        finally:
            embedded.release(home)
            embedded.destroy(home)


def _columns(connection: Connection) -> dict[str, list[Column]]:
    columns: dict[str, list[Column]] = defaultdict(list)
    for row in connection.execute(text(COLUMNS)).mappings():
        column = Column(**{**row, "type": _short(row["type"])})
        columns[column.relation].append(column)
    return columns


def _short(sql_type: str) -> str:
    for long, short in SHORT_TYPES.items():
        sql_type = sql_type.replace(long, short)
    return sql_type


def _diagram(columns: dict[str, list[Column]], foreign_keys: list[ForeignKey]) -> Iterator[str]:
    yield "```mermaid"
    yield "erDiagram"
    for key in foreign_keys:
        yield f'    {key.parent} {"||" if key.required else "|o"}--o{{ {key.child} : "{key.columns}"'
    for relation, members in columns.items():
        if members[0].is_view:
            continue
        yield f"    {relation} {{"
        for column in members:
            # Mermaid's types have no commas: precision and scale are in the tables below.
            yield f"        {column.type.partition('(')[0]} {column.name} {column.keys}".rstrip()
        yield "    }"
    yield "```"


def _tables(columns: dict[str, list[Column]], foreign_keys: list[ForeignKey]) -> Iterator[str]:
    for is_view, relations in groupby(columns, key=lambda name: columns[name][0].is_view):
        yield "## Views" if is_view else "## Tables"
        for relation in relations:
            yield from ["", f"### {relation}", "", columns[relation][0].said_of_relation, ""]
            yield from ["| column | type | key | meaning and unit |", "|---|---|---|---|"]
            for column in columns[relation]:
                # A view does not know which of its columns can be NULL.
                optional = "" if column.required or is_view else ", NULL"
                meaning = column.said.replace("|", "\\|")
                yield f"| {column.name} | {column.type}{optional} | {column.keys} | {meaning} |"
            keys = [key for key in foreign_keys if key.child == relation]
            if keys:
                yield ""
                yield from (f"- {key.columns} → {key.parent}, on delete {key.on_delete}" for key in keys)
        yield ""


if __name__ == "__main__":
    for file, content in zip((SCHEMA, COLUMNS_LISTED), build(), strict=True):
        file.write_text(content, encoding="utf-8")
