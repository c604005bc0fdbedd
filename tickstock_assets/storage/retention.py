"""Dropping rows by age: what a retention does on servers without policies, and what a person asks for by hand.

On hypertables whole chunks go, elsewhere rows, in slices of a chunk's length, each a transaction with its entry in
`audit_trail`. On Community the server's own policies follow the settings (storage/tiers.py) and nothing is done here.
A retention counts from the clock, as those policies do; a cut-off given by hand as an age counts from the table's newest
row, so that history that ended years ago is not dropped as a whole.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from psycopg.types.json import Jsonb
from sqlalchemy import Connection, Engine, text

from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.domain.lifecycle import Lifecycles, length
from tickstock_assets.storage import continuous_aggregates, minutes_dropped, rollups, tiers
from tickstock_assets.storage.capability import Tier, tier

# Tables whose rows may be dropped by age, with what their age is counted by. Patterns and equity are findings: they
# stay, or go with what refers to them.
TIME_COLUMNS = {
    "ohlcv_1min": "timestamp",
    "ohlcv_daily": "date",
    "ticks": "timestamp",
    "bar_revisions": "superseded_at",
    "bar_features": "timestamp",
}
SETTINGS = {"ohlcv_1min": "minute", "ohlcv_daily": "daily", "ticks": "tick"}
# Of tables that have no chunks; as long as a chunk by default.
SLICES = {
    "ohlcv_1min": timedelta(days=7),
    "ohlcv_daily": timedelta(days=365),
    "ticks": timedelta(days=1),
    "bar_revisions": timedelta(days=90),
    "bar_features": timedelta(days=365),
}


@dataclass(frozen=True)
class Drop:
    """What is, or would be, dropped of a table: `chunks` of a hypertable or else `rows`, all before `before`, UTC.

    `until` is where the dropped part really ends: a chunk that `before` cuts stays.
    """

    table: str
    before: datetime
    until: datetime | None
    chunks: int | None = None
    rows: int | None = None
    size_bytes: int | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to drop."""
        return not self.chunks and not self.rows

    def __str__(self) -> str:
        what = f"{self.rows:,} rows" if self.chunks is None else f"{self.chunks:,} chunks"
        size = "" if self.size_bytes is None else f" ({self.size_bytes / 1e6:,.1f} MB)"
        return f"{self.table}: {what}{size} before {self.before:%Y-%m-%d %H:%M} UTC"


def warning(table: str, first: date, lifecycles: Lifecycles, now: datetime) -> str | None:
    """Return a warning when rows of a load would be dropped as soon as they are stored, or None.

    Args:
        table: the one to load into.
        first: day of the load's first row.
        lifecycles: as the settings have them.
        now: by the clock, as retention counts.
    """
    kind = SETTINGS[table]
    retention = getattr(lifecycles, kind).retention
    if retention is None:
        return None
    cutoff = (now - length(retention)).date()
    if first >= cutoff:
        return None
    return (
        f"{table}: rows before {cutoff} are older than the retention of {retention} and will be dropped soon after they "
        f"are stored, found a load from {first} on; raise or unset TICKSTOCK_{kind.upper()}_RETENTION to keep them"
    )


def cutoff(connection: Connection, table: str, older_than: str) -> datetime | None:
    """Return the moment before which rows are older than `older_than`: a day such as 2024-01-31, or an age.

    None for an age where the table is empty.

    Raises:
        ConfigError: it is neither, or the table's rows have no age.
    """
    column = _time_column(table)
    try:
        return datetime.combine(date.fromisoformat(older_than), datetime.min.time(), UTC)
    except ValueError:
        pass
    try:
        length(older_than)
    except ValueError:
        raise ConfigError(
            f"--older-than: expected an age such as '30 days' or a day such as 2024-01-31, found {older_than!r}"
        ) from None
    newest = connection.execute(
        text(f"SELECT max({column})::timestamp - CAST(:age AS interval) FROM {table}"),  # noqa: S608 from TIME_COLUMNS
        {"age": older_than},
    ).scalar()
    return newest.replace(tzinfo=UTC) if newest else None


def plan(connection: Connection, table: str, before: datetime) -> Drop:
    """Return what `drop` would drop."""
    column = _time_column(table)
    if _is_hypertable(connection, table):
        found = connection.execute(
            text("""
                SELECT count(*) AS chunks, max(range_end) AS until,
                       (SELECT sum(total_bytes) FROM chunks_detailed_size(CAST(CAST(:table AS text) AS regclass)) s
                        WHERE s.chunk_name = ANY (array_agg(c.chunk_name))) AS size_bytes
                FROM timescaledb_information.chunks c
                WHERE hypertable_schema = current_schema() AND hypertable_name = :table AND range_end <= :before
            """),
            {"table": table, "before": before},
        ).one()
        return Drop(table, before, found.until, chunks=found.chunks, size_bytes=int(found.size_bytes or 0))
    # Whole hours, so that no rollup is left with a part of its minutes; days where there are only days.
    before = before.replace(hour=0 if column == "date" else before.hour, minute=0, second=0, microsecond=0)
    rows = connection.execute(
        text(f"SELECT count(*) FROM {table} WHERE {column} < :before"),  # noqa: S608 from TIME_COLUMNS
        {"before": before},
    ).scalar_one()
    return Drop(table, before, before, rows=rows)


def drop(engine: Engine, table: str, before: datetime, lifecycles: Lifecycles) -> Drop:
    """Drop what is older than `before`, write it to the audit trail, and return what went.

    Rollups, also those of the session, are computed from minutes before these go, and outlive them.
    """
    with engine.connect() as connection:
        planned = plan(connection, table, before)
    if planned.is_empty:
        return planned
    if table == "ohlcv_1min":
        _settle_rollups(engine, planned, lifecycles)
    if planned.chunks is None:
        _delete_in_slices(engine, planned)
        return planned
    with engine.begin() as connection:
        connection.execute(
            text("SELECT tier.drop_chunks_before(CAST(:table AS regclass), :before)"),
            {"table": table, "before": before},
        )
        _audit(connection, planned)
    return planned


def keep(engine: Engine, lifecycles: Lifecycles) -> list[Drop] | None:
    """Drop what the settings do not want kept; None where the server's policies do it."""
    with engine.connect() as connection:
        if tier(connection) is Tier.TIMESCALE_COMMUNITY:
            return None
        retentions = {table: getattr(lifecycles, kind).retention for table, kind in SETTINGS.items()}
        cutoffs = {
            table: connection.execute(text("SELECT now() - CAST(:age AS interval)"), {"age": retention}).scalar_one()
            for table, retention in retentions.items()
            if retention is not None
        }
    return [drop(engine, table, before, lifecycles) for table, before in cutoffs.items()]


def _settle_rollups(engine: Engine, planned: Drop, lifecycles: Lifecycles) -> None:
    """Compute the rollups of minutes that are about to go, and let nothing compute them again."""
    rollups.roll_up_intraday(engine)
    rollups.roll_up_daily(engine)
    with engine.connect() as connection:
        is_continuous = continuous_aggregates.exist(connection)
    if is_continuous:
        continuous_aggregates.refresh(engine, until=planned.until)
    with engine.begin() as connection:
        # Before the minutes go, so that nothing refreshes over the hole.
        minutes_dropped.mark_dropped(connection, planned.until or planned.before)
        if is_continuous:
            continuous_aggregates.mark_dropped(connection)
            tiers.set_rollup_policies(connection, lifecycles)


def _delete_in_slices(engine: Engine, planned: Drop) -> None:
    table, column = planned.table, TIME_COLUMNS[planned.table]
    while True:
        with engine.begin() as connection:
            first = connection.execute(
                text(f"SELECT min({column})::timestamp FROM {table} WHERE {column} < :before"),  # noqa: S608
                {"before": planned.before},
            ).scalar()
            if first is None:
                return
            end = min(first.replace(tzinfo=UTC) + SLICES[table], planned.before)
            rows = connection.execute(
                text(f"DELETE FROM {table} WHERE {column} < :end"),  # noqa: S608 from TIME_COLUMNS
                {"end": end},
            ).rowcount
            _audit(connection, Drop(table, end, end, rows=rows))


def _audit(connection: Connection, dropped: Drop) -> None:
    amount = {"rows": dropped.rows} if dropped.chunks is None else {"chunks": dropped.chunks}
    connection.execute(
        text("""
            INSERT INTO audit_trail (event_type, entity_type, entity_id, action, metadata)
            VALUES ('retention', 'table', :table, 'drop', :metadata)
        """),
        {
            "table": dropped.table,
            "metadata": Jsonb({"before": dropped.before.isoformat(), **amount}),
        },
    )


def _is_hypertable(connection: Connection, table: str) -> bool:
    if tier(connection) is Tier.PLAIN:
        return False
    return bool(
        connection.execute(
            text("""
                SELECT EXISTS (SELECT FROM timescaledb_information.hypertables
                               WHERE hypertable_schema = current_schema() AND hypertable_name = :table)
            """),
            {"table": table},
        ).scalar()
    )


def _time_column(table: str) -> str:
    if table not in TIME_COLUMNS:
        raise ConfigError(f"Table: expected one of {', '.join(TIME_COLUMNS)}, found {table!r}")
    return TIME_COLUMNS[table]
