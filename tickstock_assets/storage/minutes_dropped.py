"""Up to when minutes may have been dropped: rollups of older ones are kept as they are, and never computed again.

Who rolls up asks for the mark with a lock, and who sets it waits for whoever did: else minutes could go between his look at
the mark and his look at them, and their rollups be taken away.

On TimescaleDB Community the server's own policy drops minutes, so that what it has dropped by now counts besides the mark.
"""

from datetime import datetime

from sqlalchemy import Connection, text

from tickstock_assets.storage.capability import Tier, tier


def dropped_before(connection: Connection) -> datetime | None:
    """Return the moment, UTC, before which minutes may be missing although their rollups are kept; None for nowhere."""
    if tier(connection) is not Tier.TIMESCALE_COMMUNITY:
        found = connection.execute(text("SELECT dropped_before FROM minutes_dropped")).scalar()
    else:
        found = connection.execute(
            text("""
                SELECT greatest((SELECT dropped_before FROM minutes_dropped), (
                    -- What the policy drops are whole chunks; the one that its cut-off lies in is still there.
                    SELECT coalesce((SELECT min(range_start) FROM timescaledb_information.chunks
                                     WHERE hypertable_schema = 'public' AND hypertable_name = 'ohlcv_1min'
                                       AND range_end > cutoff), cutoff)
                    FROM (SELECT now() - (config ->> 'drop_after')::interval AS cutoff
                          FROM timescaledb_information.jobs
                          WHERE proc_name = 'policy_retention' AND hypertable_schema = 'public'
                            AND hypertable_name = 'ohlcv_1min') AS policy
                ))
            """)
        ).scalar_one()
    moment: datetime | None = found
    return moment


def kept_from(connection: Connection) -> datetime | None:
    """Return the same, and let nobody set the mark before the end of the transaction, which writes rollups."""
    connection.execute(text("LOCK TABLE minutes_dropped IN ROW SHARE MODE"))
    return dropped_before(connection)


def mark_dropped(connection: Connection, before: datetime) -> None:
    """Note that minutes before a moment, UTC, are about to be dropped; to be committed before they are.

    Waits for the transactions that are rolling up minutes.
    """
    connection.execute(text("LOCK TABLE minutes_dropped IN EXCLUSIVE MODE"))
    connection.execute(
        text(
            "INSERT INTO minutes_dropped (dropped_before) VALUES (date_trunc('hour', CAST(:before AS timestamptz) "
            "+ INTERVAL '1 hour' - INTERVAL '1 microsecond', 'UTC')) ON CONFLICT (only_row) DO UPDATE "
            "SET dropped_before = greatest(minutes_dropped.dropped_before, excluded.dropped_before)"
        ),
        {"before": before},
    )
