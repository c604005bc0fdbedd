"""How the database is: reachable, how fast, room on its disk, connections, tier. One result for whoever asks."""

import shutil
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from tickstock_assets.domain.errors import DatabaseError
from tickstock_assets.storage import placement
from tickstock_assets.storage.capability import capability
from tickstock_assets.storage.database import DEFAULT_LIMITS, database_url, open_engine
from tickstock_assets.storage.pool import Limits, PoolUse, place, pool_use

type HealthStatus = Literal["healthy", "warning", "unreachable"]

SLOW_MS = 10.0
ROUND_TRIPS = 5
BYTES_PER_GB = 1_000_000_000
NOT_TOLD = "a server does not tell a client about its disk; ask whoever runs it"


@dataclass(frozen=True)
class Disk:
    """The disk that holds the database, in bytes; `reason` says why it is not known."""

    free_bytes: int | None = None
    total_bytes: int | None = None
    is_low: bool | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Health:
    """What is known of the database's state.

    Attributes:
        reachable: whether it answers.
        status: "warning" when anything stands in `warnings`.
        latency_ms: median time of a query that does nothing, there and back.
        warnings: in sentences: an answer slower than 10 ms, little room on the disk.
        reason: why it is unreachable, in one sentence.
        disk: room for the database.
        pool: connections of this process's engine.
        tier: plain PostgreSQL, TimescaleDB Apache or TimescaleDB Community.
        timescaledb: its version.
    """

    reachable: bool
    status: HealthStatus
    latency_ms: float | None
    warnings: list[str]
    reason: str | None
    disk: Disk
    pool: PoolUse | None
    tier: str | None
    timescaledb: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


def check_health(home: Path, server_url: str | None, low_disk_gb: float, limits: Limits = DEFAULT_LIMITS) -> Health:
    """Return the health of the database that the settings name, over an engine of its own.

    Args:
        home: folder of the embedded server, which is started.
        server_url: a server's address, or None for the embedded one.
        low_disk_gb: free space below which is warned.
        limits: of the engine.

    Raises:
        ConfigError: `server_url` is no address.
    """
    folder = home if server_url is None else None
    try:
        engine = open_engine(database_url(home, server_url), "tickstock health", limits)
    except DatabaseError as error:
        return _unreachable(str(error), disk_of(folder, low_disk_gb), None)
    try:
        return health(engine, folder, low_disk_gb)
    finally:
        engine.dispose()


def health(engine: Engine, home: Path | None, low_disk_gb: float) -> Health:
    """Return the health of the database of an engine.

    Args:
        engine: of `open_engine`; its pool is the one that is told of.
        home: folder of the embedded server, or None where the engine is on another.
        low_disk_gb: free space below which is warned.
    """
    disk, pool = disk_of(home, low_disk_gb), pool_use(engine)
    try:
        with engine.connect() as connection:
            latency_ms = _latency_ms(connection)
            found = capability(connection)
    except DatabaseError as error:
        return _unreachable(str(error), disk, pool)
    except OperationalError as error:
        said = (str(error.orig).strip().splitlines() or ["no answer"])[0]
        return _unreachable(f"{place(engine.url)}: expected an answer, found {said!r}; is it running?", disk, pool)
    warnings = warnings_of(latency_ms, disk, low_disk_gb)
    return Health(
        reachable=True,
        status="warning" if warnings else "healthy",
        latency_ms=round(latency_ms, 3),
        warnings=warnings,
        reason=None,
        disk=disk,
        pool=pool,
        tier=found.tier.value,
        timescaledb=found.timescaledb,
    )


def warnings_of(latency_ms: float, disk: Disk, low_disk_gb: float) -> list[str]:
    """Return what is to be warned of, a sentence each."""
    warnings = []
    if latency_ms > SLOW_MS:
        warnings.append(f"Latency: expected at most {SLOW_MS:g} ms, found {latency_ms:.1f} ms")
    if disk.is_low and disk.free_bytes is not None:
        warnings.append(
            f"Disk: expected at least {low_disk_gb:g} GB free (TICKSTOCK_LOW_DISK_GB), "
            f"found {disk.free_bytes / BYTES_PER_GB:.1f} GB; make room before loads fail"
        )
    return warnings


def disk_of(home: Path | None, low_disk_gb: float) -> Disk:
    """Return the room on the disk that holds the embedded server's data; unknown of any other server's."""
    if home is None:
        return Disk(reason=NOT_TOLD)
    cluster = placement.find_cluster(home)
    # Before its first start it has no folder; then the home is where that will be.
    folder = next(path for path in (cluster.data if cluster else home, *home.absolute().parents) if path.exists())
    usage = shutil.disk_usage(folder)
    return Disk(usage.free, usage.total, usage.free < low_disk_gb * BYTES_PER_GB)


def _latency_ms(connection: Connection) -> float:
    times = []
    for _ in range(ROUND_TRIPS):
        begin = time.perf_counter()
        connection.execute(text("SELECT 1")).scalar_one()
        times.append((time.perf_counter() - begin) * 1000)
    return statistics.median(times)


def _unreachable(reason: str, disk: Disk, pool: PoolUse | None) -> Health:
    return Health(
        reachable=False,
        status="unreachable",
        latency_ms=None,
        warnings=[],
        reason=reason,
        disk=disk,
        pool=pool,
        tier=None,
        timescaledb=None,
    )
