"""What a server offers beyond plain PostgreSQL, asked once and in one place.

Elsewhere: what is done with it (storage/tiers.py), what a person is told of it (storage/tier_status.py).
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, text

from tickstock_assets.domain.errors import DatabaseError

OLDEST_TIMESCALEDB = (2, 13)
FOREIGN_KEYS_TO_HYPERTABLES = (2, 16)


class Tier(StrEnum):
    """What a server offers beyond plain PostgreSQL."""

    PLAIN = "plain PostgreSQL"
    TIMESCALE_APACHE = "TimescaleDB Apache"
    TIMESCALE_COMMUNITY = "TimescaleDB Community"


@dataclass(frozen=True)
class Capability:
    """The tier of a database; the version of TimescaleDB in it; and the version that could be created in it."""

    tier: Tier
    timescaledb: str | None = None
    available: str | None = None


def capability(connection: Connection) -> Capability:
    """Return what the server offers in this database."""
    installed, available, licence = connection.execute(
        text("""
            SELECT (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'),
                   (SELECT default_version FROM pg_available_extensions WHERE name = 'timescaledb'),
                   current_setting('timescaledb.license', true)
        """)
    ).one()
    if installed is None:
        return Capability(Tier.PLAIN, available=available)
    tier = Tier.TIMESCALE_COMMUNITY if licence == "timescale" else Tier.TIMESCALE_APACHE
    return Capability(tier, installed, available)


def tier(connection: Connection) -> Tier:
    """Return what the server offers in this database."""
    return capability(connection).tier


def release(version: str) -> tuple[int, int]:
    """Return major and minor of a version such as `2.19.3` or `2.13.0-dev`.

    Raises:
        DatabaseError: it starts otherwise.
    """
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is None:
        raise DatabaseError(
            f"TimescaleDB: expected a version such as 2.19.3, found {version!r}; reinstall the extension"
        )
    return int(found[1]), int(found[2])


def require_supported(version: str) -> None:
    """Raise DatabaseError when this version of TimescaleDB is too old for what `sql/tiers/` asks of it."""
    if release(version) < OLDEST_TIMESCALEDB:
        oldest = ".".join(map(str, OLDEST_TIMESCALEDB))
        raise DatabaseError(
            f"TimescaleDB: expected {oldest} or newer, found {version}, which cannot name dimensions as sql/tiers/ does "
            "(by_range, by_hash); install a newer one on the server and run ALTER EXTENSION timescaledb UPDATE"
        )
