"""When a question about the past has an answer that will never change.

A load stamps its rows with moments between its lock and its commit, and nobody sees them before the commit. While one is
open, moments from its beginning on are not settled: it may still add bars, or corrections, to what was known at them. Each
load shows itself by an advisory lock whose second number is the second it began in (storage/bulk.py).
"""

from datetime import UTC, datetime

from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.storage.arrow import ArrowPool
from tickstock_assets.storage.bulk import OPEN_LOADS

# statement_timestamp() is taken before the locks are looked at, so a load that is not among them stamps later.
# A lock that waits to be granted is among them.
MOMENTS = """
    SELECT statement_timestamp() AS now, to_timestamp(min(objid::bigint)::float8) AS oldest_load
    FROM pg_locks
    WHERE locktype = 'advisory' AND classid = $1::bigint::oid AND objsubid = 2
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def require_settled(pool: ArrowPool, as_of: datetime) -> None:
    """Raise ConfigError unless what was known at a moment is settled."""
    [row] = pool.read(MOMENTS, [OPEN_LOADS]).to_pylist()
    now, oldest_load = _utc(row["now"]), row["oldest_load"] and _utc(row["oldest_load"])
    if as_of >= now:
        raise ConfigError(
            f"as_of: expected a moment before the server's clock, {now:%Y-%m-%d %H:%M:%S.%f} UTC, found {as_of}"
        )
    if oldest_load is not None and as_of >= oldest_load:
        raise ConfigError(
            f"as_of: expected a moment before {oldest_load:%Y-%m-%d %H:%M:%S} UTC, when the oldest load began that is still "
            f"open, found {as_of}; ask again when it has ended, or for an earlier moment"
        )


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)
