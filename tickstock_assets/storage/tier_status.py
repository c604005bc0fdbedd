"""What a tier has made of the database, and what it is without: the one answer for `db status` and the Dagster UI."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from tickstock_assets.domain.lifecycle import Lifecycles
from tickstock_assets.storage import continuous_aggregates
from tickstock_assets.storage.capability import (
    FOREIGN_KEYS_TO_HYPERTABLES,
    OLDEST_TIMESCALEDB,
    Capability,
    Tier,
    capability,
    release,
)
from tickstock_assets.storage.retention import SETTINGS

HYPERTABLES = ("ohlcv_1min", "ohlcv_daily", "ticks", "bar_revisions", "bar_features", "patterns", "backtest_equity")
KINDS = {
    "policy_compression": "compression",
    "policy_retention": "retention",
    "policy_refresh_continuous_aggregate": "refresh",
}


@dataclass(frozen=True)
class Hypertable:
    """A hypertable; sizes in bytes. `compression_ratio` is of the chunks that are compressed, None without any."""

    table: str
    chunk_interval: str
    partitions: int | None
    chunks: int
    compressed_chunks: int
    size_bytes: int
    compression_ratio: float | None


@dataclass(frozen=True)
class Policy:
    """A job of the server; `interval` is the age it compresses or drops at, or how far back it refreshes."""

    table: str
    kind: str
    interval: str | None
    every: str
    last_run: datetime | None
    last_status: str | None
    next_run: datetime | None


@dataclass(frozen=True)
class Rollup:
    """A rollup: a table on most tiers, on Community a continuous aggregate whose bars are kept up to `computed_until`."""

    name: str
    continuous: bool
    computed_until: datetime | None = None


@dataclass(frozen=True)
class Warn:
    """A feature that is off, or at odds with the settings, and what turns it on."""

    feature: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.feature}: {self.reason}; {self.remedy}"


@dataclass(frozen=True)
class TierStatus:
    """What the tier has made, and what is off."""

    hypertables: list[Hypertable] = field(default_factory=list)
    policies: list[Policy] = field(default_factory=list)
    rollups: list[Rollup] = field(default_factory=list)
    warnings: list[Warn] = field(default_factory=list)


def tier_status(connection: Connection, chosen: Lifecycles, *, is_embedded: bool) -> TierStatus:
    """Return what the tier has made of this database, and what it is without."""
    found = capability(connection)
    if found.timescaledb is None:
        return TierStatus(rollups=_rollups(connection, found), warnings=_without_timescaledb(found, is_embedded))
    status = TierStatus(_hypertables(connection), _policies(connection, found), _rollups(connection, found))
    status.warnings.extend(_warnings(connection, found, status, chosen))
    return status


def _hypertables(connection: Connection) -> list[Hypertable]:
    rows = connection.execute(
        text("""
            SELECT h.hypertable_name AS table, d.time_interval::text AS chunk_interval, s.num_partitions AS partitions,
                   count(c.chunk_name) AS chunks, count(c.chunk_name) FILTER (WHERE c.is_compressed) AS compressed_chunks,
                   hypertable_size(format('%I.%I', h.hypertable_schema, h.hypertable_name)::regclass) AS size_bytes,
                   (SELECT before_compression_total_bytes::float8 / nullif(after_compression_total_bytes, 0)
                    FROM hypertable_compression_stats(format('%I.%I', h.hypertable_schema, h.hypertable_name)::regclass)
                   ) AS compression_ratio
            FROM timescaledb_information.hypertables h
            JOIN timescaledb_information.dimensions d USING (hypertable_schema, hypertable_name)
            LEFT JOIN timescaledb_information.dimensions s
                   ON s.hypertable_schema = h.hypertable_schema AND s.hypertable_name = h.hypertable_name
                  AND s.dimension_type = 'Space'
            LEFT JOIN timescaledb_information.chunks c
                   ON c.hypertable_schema = h.hypertable_schema AND c.hypertable_name = h.hypertable_name
            WHERE h.hypertable_schema = 'public' AND d.dimension_number = 1
            GROUP BY h.hypertable_schema, h.hypertable_name, d.time_interval, s.num_partitions ORDER BY 1
        """)
    )
    return [Hypertable(**row) for row in rows.mappings()]


def _policies(connection: Connection, found: Capability) -> list[Policy]:
    if found.tier is not Tier.TIMESCALE_COMMUNITY:
        return []
    rows = connection.execute(
        text("""
            SELECT j.hypertable_name AS table, j.proc_name AS kind, j.schedule_interval::text AS every,
                   CASE WHEN isfinite(s.next_start) THEN s.next_start END AS next_run,
                   coalesce(config ->> 'compress_after', config ->> 'drop_after', config ->> 'start_offset') AS interval,
                   CASE WHEN isfinite(s.last_run_started_at) THEN s.last_run_started_at END AS last_run,
                   s.last_run_status AS last_status
            FROM timescaledb_information.jobs j LEFT JOIN timescaledb_information.job_stats s USING (job_id)
            WHERE j.hypertable_schema IN ('public', 'tier') AND j.proc_name = ANY (:kinds) ORDER BY 1, 2
        """),
        {"kinds": list(KINDS)},
    )
    return [Policy(**{**row, "kind": KINDS[row["kind"]]}) for row in rows.mappings()]


def _rollups(connection: Connection, found: Capability) -> list[Rollup]:
    if found.tier is not Tier.TIMESCALE_COMMUNITY or not continuous_aggregates.exist(connection):
        return [Rollup(name, continuous=False) for name in continuous_aggregates.ROLLUPS]
    rows = connection.execute(
        text("""
            SELECT view_name, CASE WHEN watermark > '0001-01-01' THEN watermark END AS computed_until
            FROM (
                SELECT v.view_name,
                       _timescaledb_functions.to_timestamp(_timescaledb_functions.cagg_watermark(h.id)) AS watermark
                FROM timescaledb_information.continuous_aggregates v
                JOIN _timescaledb_catalog.hypertable h ON h.table_name = v.materialization_hypertable_name
                WHERE v.view_schema = 'tier'
            ) AS aggregates
        """)
    )
    until = {row.view_name: row.computed_until for row in rows}
    return [Rollup(name, True, until[name]) for name in continuous_aggregates.ROLLUPS]


def _without_timescaledb(found: Capability, is_embedded: bool) -> list[Warn]:
    if is_embedded:
        remedy = "set TICKSTOCK_DATABASE_URL to a server with TimescaleDB"
        reason = "the embedded server is plain PostgreSQL"
    elif found.available:
        remedy = "run `tickstock db migrate --with-timescaledb`"
        reason = f"TimescaleDB {found.available} is there but not created in this database"
    else:
        remedy = "install and preload TimescaleDB on the server, then run `tickstock db migrate --with-timescaledb`"
        reason = "the server is plain PostgreSQL"
    return [
        Warn("hypertables", f"{reason}, so tables are not cut into chunks", remedy),
        Warn("compression", reason, f"{remedy} (Community edition)"),
        Warn(
            "continuous aggregates",
            f"{reason}, so rollups are tables, which `tickstock rollups run` keeps up",
            f"{remedy} (Community edition)",
        ),
        Warn(
            "retention policies",
            f"{reason}, so the scheduled Dagster job `retention` drops old rows, while the daemon runs",
            f"{remedy} (Community edition)",
        ),
    ]


def _warnings(connection: Connection, found: Capability, status: TierStatus, chosen: Lifecycles) -> list[Warn]:
    assert found.timescaledb is not None  # noqa: S101 the caller's condition
    version = release(found.timescaledb)
    if version < OLDEST_TIMESCALEDB:
        oldest = ".".join(map(str, OLDEST_TIMESCALEDB))
        return [
            Warn("TimescaleDB", f"{found.timescaledb} is older than {oldest}", "run ALTER EXTENSION timescaledb UPDATE")
        ]
    found_warnings = []
    missing = sorted(set(HYPERTABLES) - {table.table for table in status.hypertables})
    if missing:
        found_warnings.append(
            Warn("hypertables", f"{', '.join(missing)} are ordinary tables", "run `tickstock db migrate`")
        )
    if version < FOREIGN_KEYS_TO_HYPERTABLES:
        newer = ".".join(map(str, FOREIGN_KEYS_TO_HYPERTABLES))
        found_warnings.append(
            Warn(
                "foreign key from signals to patterns",
                f"TimescaleDB {found.timescaledb} cannot have one to a hypertable",
                f"update it to {newer} or newer and run `tickstock db migrate`",
            )
        )
    if found.tier is Tier.TIMESCALE_APACHE:
        return found_warnings + _of_apache()
    return found_warnings + _at_odds(connection, status, chosen)


def _of_apache() -> list[Warn]:
    reason = "the server runs the Apache edition (timescaledb.license = apache)"
    remedy = "run a server with the Community edition (timescaledb.license = timescale), then `tickstock db migrate`"
    return [
        Warn("compression", reason, remedy),
        Warn(
            "continuous aggregates", f"{reason}, so rollups are tables, which `tickstock rollups run` keeps up", remedy
        ),
        Warn(
            "retention policies",
            f"{reason}, so the scheduled Dagster job `retention` drops old chunks, while the daemon runs",
            remedy,
        ),
    ]


def _at_odds(connection: Connection, status: TierStatus, chosen: Lifecycles) -> list[Warn]:
    """Return where a Community server is not as the settings say, and which policies failed."""
    if not continuous_aggregates.exist(connection):
        return [Warn("continuous aggregates", "rollups are ordinary tables", "run `tickstock db migrate`")]
    held = {(policy.table, policy.kind): policy.interval for policy in status.policies}
    warned = []
    for table, kind in SETTINGS.items():
        lifecycle = getattr(chosen, kind)
        for policy, wanted in (("compression", lifecycle.compress_after), ("retention", lifecycle.retention)):
            if not _same_interval(connection, held.get((table, policy)), wanted):
                warned.append(
                    Warn(
                        f"{policy} of {table}",
                        f"the settings say {wanted or 'never'}, the server {held.get((table, policy)) or 'never'}",
                        "run `tickstock db migrate`",
                    )
                )
    warned += [
        Warn(f"{policy.kind} policy of {policy.table}", "its last run failed", "see timescaledb_information.job_errors")
        for policy in status.policies
        if policy.last_status == "Failed"
    ]
    return warned


def _same_interval(connection: Connection, one: str | None, other: str | None) -> bool:
    return bool(
        connection.execute(
            text("SELECT CAST(:one AS interval) IS NOT DISTINCT FROM CAST(:other AS interval)"),
            {"one": one, "other": other},
        ).scalar()
    )


def as_dict(status: TierStatus) -> dict[str, Any]:
    """Return it for JSON; each warning also in words."""
    return {
        "hypertables": [vars(one) for one in status.hypertables],
        "policies": [vars(one) for one in status.policies],
        "rollups": [vars(one) for one in status.rollups],
        "warnings": [{**vars(one), "says": str(one)} for one in status.warnings],
    }
