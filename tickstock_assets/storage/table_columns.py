"""What a table's columns are, read from the catalog: key, types, and which of them a correction refreshes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from sqlalchemy import Connection

from tickstock_assets.domain.errors import ContractError
from tickstock_assets.storage.database import driver

# Refreshed when a row is corrected, if the frame does not bring them. `created_at` is not: it says when a row began.
REFRESHED_ON_CORRECTION = {"recorded_at", "detected_at", "updated_at", "last_updated"}
# Tables of bars whose old values are kept, and the timeframe under which they are.
REVISED: dict[str, str] = {"ohlcv_1min": "1m", "ohlcv_daily": "1d"}
# Where old values are kept.
REVISIONS: dict[str, str] = {
    **dict.fromkeys(REVISED, "bar_revisions"), "splits": "split_revisions", "dividends": "dividend_revisions",
}  # fmt: skip
# What not every source of bars has.
OPTIONAL_OF_BARS = ("quote_volume", "vwap", "trades_count")

NUMERIC_TYPMOD_HEADER = 4


@dataclass(frozen=True)
class Column:
    """One column: `type` is PostgreSQL's name of it (of a domain, what it is made of), `scale` a NUMERIC's decimals."""

    name: str
    type: str
    scale: int | None
    is_key: bool


@dataclass(frozen=True)
class Target:
    """A table to be written, and the columns of it that a frame has."""

    name: str
    key: tuple[Column, ...]
    other: tuple[Column, ...]
    refreshed: tuple[str, ...]
    is_ranked: bool

    @property
    def columns(self) -> tuple[Column, ...]:
        """The frame's columns, those of the key first."""
        return self.key + self.other

    @property
    def names(self) -> list[str]:
        """The names of `columns`."""
        return [column.name for column in self.columns]

    @property
    def has_symbol(self) -> bool:
        """Whether rows belong to a symbol."""
        return "symbol" in self.names

    @property
    def time(self) -> Column | None:
        """The column that places a symbol's rows in time; None where the key has no such, or no symbol."""
        if not self.key or self.key[0].name != "symbol":
            return None
        return next((column for column in self.key if column.type in {"date", "timestamptz"}), None)

    @property
    def between(self) -> tuple[Column, ...]:
        """The columns of the key between the symbol and the time, such as the timeframe."""
        return self.key[1 : self.key.index(self.time)] if self.time in self.key else ()

    @property
    def arrays(self) -> list[str]:
        """The columns that are arrays of texts."""
        return [column.name for column in self.columns if column.type == "_text"]

    @property
    def revisions(self) -> str | None:
        """The table that keeps the old values of this one's rows."""
        return REVISIONS.get(self.name)

    @property
    def timeframe(self) -> str | None:
        """The timeframe of a table of bars that keeps its old values; None for all others."""
        return REVISED.get(self.name)


def target_of(connection: Connection, table: str, frame_columns: Sequence[str]) -> Target:
    """Return what is to be known of a table to write these columns; asked of the catalog once a connection.

    Raises:
        ContractError: a column is not the table's, or one of its primary key is missing.
    """
    known: dict[tuple[str, ...], Target] = connection.info.setdefault(__name__, {})
    wanted = (table, *frame_columns)
    if wanted not in known:
        with driver(connection).cursor() as cursor:
            known[wanted] = _describe(cursor, table, frame_columns)
    return known[wanted]


def _describe(cursor: psycopg.Cursor[Any], table: str, frame_columns: Sequence[str]) -> Target:
    cursor.execute(
        """
        SELECT a.attname, coalesce(base.typname, t.typname),
               CASE WHEN coalesce(base.typname, t.typname) = 'numeric' AND a.atttypmod > 0
                    THEN (a.atttypmod - %s) & 65535 END,
               coalesce(a.attnum = ANY (i.indkey), false)
        FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_type base ON base.oid = t.typbasetype
        LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
        WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
        ORDER BY array_position(i.indkey::int2[], a.attnum), a.attnum
        """,
        [NUMERIC_TYPMOD_HEADER, table],
    )
    rows = cursor.fetchall()
    if not rows:
        raise ContractError(f"{table}: expected a table of the schema, found none; run `tickstock db migrate`")
    known = {row[0]: Column(*row) for row in rows}
    key = [column for column in known.values() if column.is_key]
    if not key:
        raise ContractError(f"{table}: expected a table with a primary key, found none; rows of it are not written")
    missing = [column.name for column in key if column.name not in frame_columns]
    if unexpected := [name for name in frame_columns if name not in known] or missing:
        raise ContractError(
            f"{table}: expected the columns {', '.join(known)}, those of the key among them, "
            f"found a frame at odds: {', '.join(unexpected)}"
        )
    return Target(
        name=table,
        key=tuple(key),
        other=tuple(column for name, column in known.items() if name in frame_columns and not column.is_key),
        refreshed=tuple(sorted(REFRESHED_ON_CORRECTION & known.keys() - set(frame_columns))),
        is_ranked=table.startswith("ohlcv") and "source" in frame_columns,
    )
