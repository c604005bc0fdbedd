"""Numbers that say how the database and what is stored stand, each read in little time however much is stored.

Elsewhere: whether it answers at all (health.py), who asks (metrics/).
"""

from dataclasses import dataclass

from sqlalchemy import Connection, text

from tickstock_assets.storage.capability import Tier, tier

# What the server counts itself, as it goes and when it analyses a table: after a crash the one begins anew, before the first
# ANALYZE the other is unknown. Chunks are tables that inherit.
ROWS = """
    WITH RECURSIVE parts AS (
        SELECT c.relname AS table, c.oid AS part FROM pg_class c
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') AND c.relname <> 'schema_revision'
        UNION ALL
        SELECT parts.table, i.inhrelid FROM parts JOIN pg_inherits i ON i.inhparent = parts.part
    )
    SELECT parts.table, sum(greatest(c.reltuples, pg_stat_get_live_tuples(c.oid), 0))::bigint AS rows
    FROM parts JOIN pg_class c ON c.oid = parts.part GROUP BY 1
"""
# Of a compressed chunk the rows are elsewhere; TimescaleDB knows how many each stands for.
ROWS_OF_HYPERTABLES = """
    SELECT hypertable_name AS table,
           approximate_row_count(format('%I.%I', hypertable_schema, hypertable_name)::regclass)::bigint AS rows
    FROM timescaledb_information.hypertables WHERE hypertable_schema = current_schema()
"""
# Who may not read all statistics is told neither kind nor state of other roles' backends, but their role and database. The
# server's own have no role or no database, but for TimescaleDB's scheduler and for workers at a job or a query while it takes.
# Physical senders of the WAL have no database either, and do not count towards max_connections.
CONNECTIONS = text("""
    SELECT coalesce(nullif(application_name, ''), 'unknown') AS application, coalesce(state, 'unknown') AS state, count(*) AS n
    FROM pg_stat_activity
    WHERE coalesce(backend_type, 'client backend') = 'client backend' AND usesysid IS NOT NULL AND datid IS NOT NULL
      AND pid <> pg_backend_pid() AND application_name IS DISTINCT FROM 'TimescaleDB Background Worker Scheduler'
    GROUP BY 1, 2 ORDER BY 1, 2
""")
OPEN_GAPS = text("""
    SELECT coalesce(class, 'unknown') AS class, timeframe::text AS timeframe, count(*) AS gaps,
           sum(missing_bars)::bigint AS missing_bars, count(*) FILTER (WHERE given_up_at IS NOT NULL) AS given_up
    FROM data_gaps WHERE healed_at IS NULL GROUP BY 1, 2 ORDER BY 1, 2
""")
QUARANTINED = text("""
    SELECT dataset, count(*) AS n FROM quarantined_bars WHERE released_at IS NULL AND superseded_at IS NULL
    GROUP BY 1 ORDER BY 1
""")
# An hour under way is touched again with every minute of it, and a session's are not rolled up before it has closed.
STALE_HOURS = text("""
    SELECT count(*) FILTER (WHERE intraday_at IS NULL AND timestamp < now() - interval '2 hours') AS intraday,
           count(*) FILTER (WHERE daily_at IS NULL AND timestamp < now() - interval '1 day') AS daily
    FROM touched_buckets
""")
ALERTS = text("""
    SELECT kind, sum(times)::bigint AS times, count(*) FILTER (WHERE resolved_at IS NULL) AS unresolved
    FROM alerts GROUP BY 1 ORDER BY 1
""")


@dataclass(frozen=True)
class OpenGaps:
    """Gaps of a class and timeframe that are not filled: how many, how many bars, and how many nobody tries any more."""

    gap_class: str
    timeframe: str
    gaps: int
    missing_bars: int
    given_up: int


@dataclass(frozen=True)
class AlertCount:
    """Alerts of a kind: how often they were seen, ever, and how many are not well again."""

    kind: str
    times: int
    unresolved: int


def table_rows(connection: Connection) -> dict[str, int]:
    """Return about how many rows each table has, by the server's own book-keeping; nothing is counted."""
    rows = {row.table: row.rows for row in connection.execute(text(ROWS))}
    if tier(connection) is not Tier.PLAIN:
        for row in connection.execute(text(ROWS_OF_HYPERTABLES)):
            rows[row.table] = max(rows[row.table], row.rows)
    return dict(sorted(rows.items()))


def connections(connection: Connection) -> list[tuple[str, str, int]]:
    """Return application, state and number of the connections to the server, without the one that asks."""
    return [(row.application, row.state, row.n) for row in connection.execute(CONNECTIONS)]


def most_connections(connection: Connection) -> int:
    """Return how many connections the server allows, of all databases."""
    return int(connection.execute(text("SHOW max_connections")).scalar_one())


def database_bytes(connection: Connection) -> int:
    """Return the size of the database on disk."""
    size: int = connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
    return size


def open_gaps(connection: Connection) -> list[OpenGaps]:
    """Return the gaps that are not filled, by class and timeframe."""
    return [OpenGaps(*row) for row in connection.execute(OPEN_GAPS)]


def requests(connection: Connection) -> dict[str, int]:
    """Return how many backfill requests there are of each status that occurs."""
    rows = connection.execute(text("SELECT status, count(*) AS n FROM backfill_requests GROUP BY 1 ORDER BY 1"))
    return {row.status: row.n for row in rows}


def quarantined(connection: Connection) -> dict[str, int]:
    """Return how many rows are held back, by dataset."""
    return {row.dataset: row.n for row in connection.execute(QUARANTINED)}


def stale_hours(connection: Connection) -> tuple[int, int]:
    """Return of how many hours the intraday and the daily rollups are overdue."""
    row = connection.execute(STALE_HOURS).one()
    return row.intraday, row.daily


def alert_counts(connection: Connection) -> list[AlertCount]:
    """Return how often alerts were seen, by kind."""
    return [AlertCount(*row) for row in connection.execute(ALERTS)]
