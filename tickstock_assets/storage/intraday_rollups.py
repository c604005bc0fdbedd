"""Bars of 5 and 15 minutes and of the hour, where they are ordinary tables: one statement makes those of a batch of hours."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import psycopg
from psycopg import sql

from tickstock_assets.storage.rollup_sql import LENGTHS, MINUTES, SOURCE, SUMS, VALUES, VWAP, bucket
from tickstock_assets.storage.touched_buckets import Stretch

type Cursor = psycopg.Cursor[Any]


@dataclass(frozen=True)
class BarCounts:
    """What became of rolled-up bars: inserted or corrected, left as they were, or removed as their minutes are gone."""

    written: int = 0
    unchanged: int = 0
    removed: int = 0

    def __add__(self, other: "BarCounts") -> "BarCounts":
        return BarCounts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


_STATEMENT = sql.SQL("""
    WITH computed AS MATERIALIZED (
        SELECT bars.* FROM {stretches}, LATERAL ({levels}) AS bars),
    {changes}
    SELECT {counts}
""")
_LEVELS = sql.SQL("WITH minutes AS ({minutes}) {of_levels} {all_levels}")
_LEVEL = sql.SQL(", {name} AS MATERIALIZED (SELECT symbol, {bucket} AS timestamp, {sums} FROM {finer} GROUP BY 1, 2)")
_OUT_OF_LEVEL = sql.SQL("""
    SELECT {name} AS rollup, symbol, timestamp, open, high, low, close, volume, quote_volume, {vwap} AS vwap,
           trades_count::BIGINT AS trades_count, exchange, {source} AS source, recorded_at
    FROM {level}""")
# Nobody else writes these rows while the symbols are locked, so that a row stays where it was found.
_CHANGES = sql.SQL("""
    {held} AS MATERIALIZED (
        SELECT bars.* FROM {stretches}, LATERAL (
            SELECT t.ctid AS place, t.* FROM {table} t
            WHERE t.symbol = w.symbol AND t.timestamp >= w.low AND t.timestamp < w.high ORDER BY t.symbol, t.timestamp
        ) AS bars),
    {written} AS (
        INSERT INTO {table} ({names})
        SELECT {c_names} FROM computed c LEFT JOIN {held} h ON h.symbol = c.symbol AND h.timestamp = c.timestamp
        WHERE c.rollup = {name} AND (h.symbol IS NULL OR ({c_values}) IS DISTINCT FROM ({h_values}))
        ON CONFLICT (symbol, timestamp) DO UPDATE SET ({values}) = ({new_values})
        RETURNING 1),
    {removed} AS (
        DELETE FROM {table} WHERE ctid = ANY (ARRAY(
            SELECT place FROM {held} h WHERE NOT EXISTS (
                SELECT FROM computed c WHERE c.rollup = {name} AND c.symbol = h.symbol AND c.timestamp = h.timestamp)))
        RETURNING 1)""")
_COUNTS = sql.SQL("""
    (SELECT count(*) FROM computed WHERE rollup = {name}), (SELECT count(*) FROM {written}), (SELECT count(*) FROM {removed})""")


def recompute(cursor: Cursor, stretches: Sequence[Stretch]) -> dict[str, BarCounts]:
    """Make the rollups of these stretches what their minutes say, and return what that took, by table.

    Only values that differ are written; bars whose minutes are all gone are removed.

    Args:
        cursor: in a transaction that holds the locks of the symbols.
        stretches: of whole hours.
    """
    cursor.execute(_statement(stretches))
    found = iter(cursor.fetchone() or ())
    counts = {}
    for table in LENGTHS:
        computed, written, removed = next(found), next(found), next(found)
        counts[table] = BarCounts(written, computed - written, removed)
    return counts


def unnested(stretches: Sequence[Stretch]) -> sql.Composed:
    """Return stretches as an item of FROM called `w`: symbol, low, high."""
    return sql.SQL("unnest({}::text[], {}::timestamptz[], {}::timestamptz[]) AS w (symbol, low, high)").format(
        *(sql.Literal(list(part)) for part in zip(*stretches, strict=True))
    )


def minutes_of(stretches: Sequence[Stretch]) -> sql.Composed:
    """Return the query of the minutes in one of these stretches, `w`."""
    return MINUTES.format(
        lowest=sql.Literal(min(low for _, low, _ in stretches)),
        highest=sql.Literal(max(high for *_, high in stretches)),
    )


def _statement(stretches: Sequence[Stretch]) -> sql.Composed:
    return _STATEMENT.format(
        stretches=unnested(stretches),
        levels=_levels(stretches),
        changes=sql.SQL(", ").join(_changes(table, stretches) for table in LENGTHS),
        counts=sql.SQL(", ").join(_COUNTS.format(**_names_of(table)) for table in LENGTHS),
    )


def _levels(stretches: Sequence[Stretch]) -> sql.Composed:
    """Return the bars of all lengths in the stretch `w`, each length made of the one before."""
    finer = [sql.Identifier("minutes"), *map(_level, LENGTHS)]
    levels = [
        _LEVEL.format(name=_level(table), bucket=bucket(length), sums=SUMS, finer=finer[place])
        for place, (table, length) in enumerate(LENGTHS.items())
    ]
    every = [
        _OUT_OF_LEVEL.format(
            name=sql.Literal(table),
            level=_level(table),
            vwap=VWAP,
            source=SOURCE.format(
                start=sql.SQL("{}.timestamp").format(_level(table)),
                end=sql.SQL("{}.timestamp + {}").format(_level(table), sql.Literal(length)),
            ),
        )
        for table, length in LENGTHS.items()
    ]
    return _LEVELS.format(
        minutes=minutes_of(stretches),
        of_levels=sql.SQL("").join(levels),
        all_levels=sql.SQL(" UNION ALL ").join(every),
    )


def _changes(table: str, stretches: Sequence[Stretch]) -> sql.Composed:
    def listed(names: Sequence[str], prefix: str = "") -> sql.Composed:
        return sql.SQL(", ").join(sql.Identifier(*filter(None, [prefix, name])) for name in names)

    values = (*VALUES, "recorded_at")
    names = ("symbol", "timestamp", *values)
    return _CHANGES.format(
        table=sql.Identifier(table),
        stretches=unnested(stretches),
        names=listed(names),
        c_names=listed(names, "c"),
        c_values=listed(values, "c"),
        h_values=listed(values, "h"),
        values=listed(values),
        new_values=listed(values, "excluded"),
        **_names_of(table),
    )


def _level(table: str) -> sql.Identifier:
    return sql.Identifier(f"level_{table}")


def _names_of(table: str) -> dict[str, sql.Composable]:
    parts = {part: sql.Identifier(f"{part}_{table}") for part in ("held", "written", "removed")}
    return {"name": sql.Literal(table), **parts}
