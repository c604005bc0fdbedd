"""How much room each table takes, chunks of hypertables and materialized rollups included."""

from dataclasses import dataclass

from sqlalchemy import Connection, text

from tickstock_assets.storage.capability import Tier, tier

TABLES = """
    SELECT c.oid, c.relname AS name FROM pg_class c
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
"""
PLAIN = f"""
    SELECT name, 'table' AS kind, pg_table_size(oid) AS table_bytes, pg_indexes_size(oid) AS index_bytes,
           pg_total_relation_size(oid) AS total_bytes
    FROM ({TABLES}) AS tables
"""  # noqa: S608 ours
# A hypertable's own relation is empty; its rows are in its chunks. The detailed size has the TOAST apart.
WITH_HYPERTABLES = f"""
    SELECT t.name, 'table' AS kind, pg_table_size(oid) AS table_bytes, pg_indexes_size(oid) AS index_bytes,
           pg_total_relation_size(oid) AS total_bytes
    FROM ({TABLES}) AS t
    WHERE NOT EXISTS (SELECT FROM timescaledb_information.hypertables h
                      WHERE h.hypertable_schema = current_schema() AND h.hypertable_name = t.name)
    UNION ALL
    SELECT h.hypertable_name, 'hypertable', s.table_bytes + s.toast_bytes, s.index_bytes, s.total_bytes
    FROM timescaledb_information.hypertables h,
         hypertable_detailed_size(format('%I.%I', h.hypertable_schema, h.hypertable_name)::regclass) s
    WHERE h.hypertable_schema = current_schema()
"""  # noqa: S608 ours
CONTINUOUS_AGGREGATES = """
    UNION ALL
    SELECT a.view_name, 'continuous aggregate', s.table_bytes + s.toast_bytes, s.index_bytes, s.total_bytes
    FROM timescaledb_information.continuous_aggregates a,
         hypertable_detailed_size(
             format('%I.%I', a.materialization_hypertable_schema, a.materialization_hypertable_name)::regclass) s
"""


@dataclass(frozen=True)
class TableSize:
    """Bytes on disk; `kind` is table, hypertable or continuous aggregate."""

    name: str
    kind: str
    table_bytes: int
    index_bytes: int
    total_bytes: int


def table_sizes(connection: Connection) -> list[TableSize]:
    """Return the size of every table of ours, the largest first."""
    found = tier(connection)
    query = PLAIN if found is Tier.PLAIN else WITH_HYPERTABLES
    if found is Tier.TIMESCALE_COMMUNITY:
        query += CONTINUOUS_AGGREGATES
    rows = connection.execute(text(f"SELECT * FROM ({query}) AS sizes ORDER BY total_bytes DESC, name"))  # noqa: S608 ours
    return [TableSize(**row._asdict()) for row in rows]
