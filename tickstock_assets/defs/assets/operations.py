"""The database itself as an asset: what server it is, what its tier has made of it, and what is off."""

from collections.abc import Sequence

import dagster as dg
import pandas as pd

from tickstock_assets.defs.plots import rows_as_table
from tickstock_assets.defs.resources import engine
from tickstock_assets.defs.retries import retried
from tickstock_assets.settings import settings
from tickstock_assets.storage.database import status
from tickstock_assets.storage.health import health
from tickstock_assets.storage.tier_status import Hypertable, Policy, TierStatus, tier_status

GROUP = "operations"


def tier_of_database() -> TierStatus:
    """Return what the tier has made of the database that the settings name, and what is off."""
    with engine().connect() as connection:
        return tier_status(connection, settings().lifecycles, is_embedded=settings().database_url is None)


@dg.asset(group_name=GROUP, kinds={"postgres"}, code_version="1")
@retried
def database() -> dg.MaterializeResult[None]:
    """The PostgreSQL server that everything is stored on: version, tier, hypertables and policies. Nothing is written."""
    found = status(engine(), is_embedded=settings().database_url is None)
    made = tier_of_database()
    home = settings().home_path if settings().database_url is None else None
    state = health(engine(), home, settings().low_disk_gb)
    return dg.MaterializeResult(
        metadata={
            "health": "; ".join([state.status, *state.warnings]),
            "latency_ms": state.latency_ms,
            "server": found.server,
            "postgresql": found.version,
            "tier": found.tier,
            "timescaledb": found.timescaledb or "none",
            "schema_revision": found.revision or "none",
            "size_mb": round(found.size_bytes / 1e6, 1),
            "hypertables": _table(made.hypertables),
            "policies": _table(made.policies),
        }
    )


def _table(rows: Sequence[Hypertable | Policy]) -> dg.TableMetadataValue | dg.TextMetadataValue:
    return rows_as_table(pd.DataFrame([vars(row) for row in rows])) if rows else dg.MetadataValue.text("none")
