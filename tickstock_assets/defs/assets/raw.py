"""What providers sent, landed as Parquet before anything else happens to it."""

from datetime import UTC, datetime

import dagster as dg

from tickstock_assets.defs.assets import reference
from tickstock_assets.defs.landing_metadata import landing_metadata
from tickstock_assets.defs.partitions import DAILY, windows_of
from tickstock_assets.defs.resources import Database, MarketData, engine, lineup
from tickstock_assets.defs.unfinished import require_all_landed
from tickstock_assets.loading.fetching import land_missing
from tickstock_assets.providers.base import Dataset
from tickstock_assets.settings import settings
from tickstock_assets.storage import retention

# How many runs may fetch at once is a matter of the provider that is asked first; dagster.yaml has the limit.
POOL = f"provider_{lineup().first.name}"


@dg.asset(
    group_name="raw",
    kinds={"parquet"},
    partitions_def=DAILY,
    backfill_policy=dg.BackfillPolicy.single_run(),
    deps=[reference.symbols],
    pool=POOL,
    code_version="2",
)
def raw_daily_bars(
    context: dg.AssetExecutionContext, market_data: MarketData, database: Database
) -> dg.MaterializeResult[None]:
    """Daily bars as the providers sent them, unadjusted: one Parquet file and one ledger row a fetched window.

    Only windows that the ledger does not have, or that could still change, are fetched.
    """
    windows = windows_of(context.partition_keys)
    providers = market_data.lineup
    first = max(min(window.start for window in windows), providers.span(Dataset.DAILY_BARS)[0])
    too_old = retention.warning("ohlcv_daily", first, settings().lifecycles, datetime.now(UTC))
    if too_old:
        context.log.warning(too_old)
    landing = land_missing(providers, engine(), market_data.landing_folder, windows, run=database.run)
    metadata = landing_metadata(landing, providers, market_data.landing_folder)
    context.log.info("Landed %s windows", len(landing.fetched))
    require_all_landed(context, landing, metadata, database)
    return dg.MaterializeResult(metadata=metadata | ({"retention_warning": too_old} if too_old else {}))
