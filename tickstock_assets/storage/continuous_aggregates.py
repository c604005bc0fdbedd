"""Rollups of minute bars on TimescaleDB Community: continuous aggregates, refreshed but never from dropped minutes.

Once minutes are dropped, a refresh over their time would remove the rollups made from them. `minutes_dropped` keeps up to
when that may be so, and no refresh of ours starts before it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import psycopg
import tenacity
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from tickstock_assets.storage import minutes_dropped

ROLLUPS = {
    "ohlcv_5min": timedelta(minutes=5),
    "ohlcv_15min": timedelta(minutes=15),
    "ohlcv_1h": timedelta(hours=1),
}

BUSY_SECONDS = 60


@dataclass(frozen=True)
class Refresh:
    """A rollup and the time over which it is, or would be, computed again; the end is not included."""

    rollup: str
    start: datetime
    end: datetime


def exist(connection: Connection) -> bool:
    """Return whether the rollups of this database are continuous aggregates."""
    return connection.execute(text("SELECT to_regclass('tier.ohlcv_1h')")).scalar() is not None


def planned(connection: Connection, until: datetime | None = None) -> list[Refresh]:
    """Return what `refresh` would do: from the first hour whose minutes are all there to `until`, or to the last hour.

    The hour that is not over yet is left to be computed when it is asked for.
    """
    row = connection.execute(
        text("""
            SELECT time_bucket('1 hour', greatest(first, CAST(:kept_from AS timestamptz)) + INTERVAL '1 hour'
                                         - INTERVAL '1 microsecond') AS start,
                   time_bucket('1 hour', least(now(), CAST(:until AS timestamptz))) AS "end"
            FROM (SELECT min(range_start) AS first FROM timescaledb_information.chunks
                  WHERE hypertable_schema = 'public' AND hypertable_name = 'ohlcv_1min'
                    AND range_end > coalesce(CAST(:kept_from AS timestamptz), '-infinity')) AS minutes
            WHERE first IS NOT NULL AND EXISTS (SELECT FROM ohlcv_1min)
        """),
        {"until": until, "kept_from": minutes_dropped.dropped_before(connection)},
    ).one_or_none()
    if row is None or row.start is None or row.start >= row.end:
        return []
    return [Refresh(name, row.start, row.end) for name in ROLLUPS]


def refresh(engine: Engine, until: datetime | None = None) -> list[Refresh]:
    """Compute what changed in the rollups since they were last computed, and return over which time."""
    with engine.connect() as connection:
        todo = planned(connection, until)
    refresh_over(engine, sorted({(one.start, one.end) for one in todo}))
    return todo


def refresh_over(engine: Engine, stretches: Sequence[tuple[datetime, datetime]]) -> None:
    """Compute what changed in the rollups within these stretches of whole hours, each given as from and to before."""
    # A refresh is a transaction of its own, and one of history takes longer than a query may.
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SET statement_timeout = 0"))
        try:
            for start, end in stretches:
                for name in ROLLUPS:
                    _refresh_one(connection, Refresh(name, start, end))
        finally:
            connection.execute(text("RESET statement_timeout"))


def forget_older_bars(cursor: "psycopg.Cursor[Any]", hours: pd.DataFrame) -> None:
    """Remove what was rolled up into these hours before the rollups became continuous aggregates.

    Else a bar whose minutes are all gone would show again, as it was then.

    Args:
        cursor: in a transaction.
        hours: symbol and timestamp (UTC) of hours that have been refreshed.
    """
    for name in ROLLUPS:
        cursor.execute(
            psycopg.sql.SQL(
                "DELETE FROM {} t USING unnest(%s::text[], %s::timestamptz[]) AS h (symbol, timestamp) WHERE t.symbol = "
                "h.symbol AND t.timestamp >= h.timestamp AND t.timestamp < h.timestamp + INTERVAL '1 hour'"
            ).format(psycopg.sql.Identifier("tier", f"{name}_base")),
            [hours["symbol"].tolist(), hours["timestamp"].astype(str).tolist()],
        )


def _is_busy(error: BaseException) -> bool:
    return isinstance(error, DBAPIError) and isinstance(error.orig, psycopg.errors.LockNotAvailable)


@tenacity.retry(
    # A policy may be at the same rollup; it ends by itself.
    retry=tenacity.retry_if_exception(_is_busy),
    stop=tenacity.stop_after_delay(BUSY_SECONDS),
    wait=tenacity.wait_fixed(1),
    reraise=True,
)
def _refresh_one(connection: Connection, one: Refresh) -> None:
    connection.execute(
        text("CALL refresh_continuous_aggregate(CAST(:name AS regclass), :start, :end)"),
        {"name": f"tier.{one.rollup}", "start": one.start, "end": one.end},
    )


def are_minutes_newly_due(connection: Connection, retention: str | None) -> bool:
    """Return whether a new or shorter retention is about to drop minutes."""
    found = connection.execute(
        text("""
            SELECT EXISTS (SELECT FROM timescaledb_information.chunks
                          WHERE hypertable_schema = 'public' AND hypertable_name = 'ohlcv_1min'
                            AND range_start < now() - CAST(:retention AS interval))
              AND NOT EXISTS (SELECT FROM timescaledb_information.jobs
                              WHERE proc_name = 'policy_retention' AND hypertable_schema = 'public'
                                AND hypertable_name = 'ohlcv_1min'
                                AND (config ->> 'drop_after')::interval <= CAST(:retention AS interval))
        """),
        {"retention": retention},
    ).scalar()
    return bool(found)


def mark_dropped(connection: Connection) -> None:
    """Note up to when minutes may be gone: what was noted, what the policy drops, and what is seen to be gone.

    Seen to be gone is what lies before the first minute while there is a rollup of it. What has no rollup needs no care.
    """
    connection.execute(
        text("""
            WITH gone AS (
                SELECT now() - (config ->> 'drop_after')::interval AS until FROM timescaledb_information.jobs
                WHERE proc_name = 'policy_retention' AND hypertable_schema = 'public' AND hypertable_name = 'ohlcv_1min'
                UNION ALL
                SELECT coalesce(min(range_start), now()) FROM timescaledb_information.chunks
                WHERE hypertable_schema = 'public' AND hypertable_name = 'ohlcv_1min'
            )
            INSERT INTO minutes_dropped (dropped_before)
            SELECT max(timestamp) + INTERVAL '1 hour' FROM tier.ohlcv_1h WHERE timestamp < (SELECT max(until) FROM gone)
            HAVING count(*) > 0
            ON CONFLICT (only_row) DO UPDATE
            SET dropped_before = greatest(minutes_dropped.dropped_before, excluded.dropped_before)
        """)
    )
