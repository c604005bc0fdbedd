"""What providers sent, landed as Parquet before anything else happens to it."""

from datetime import UTC, datetime

import dagster as dg

from tickstock_assets.defs.assets import reference
from tickstock_assets.defs.landing_metadata import landing_metadata
from tickstock_assets.defs.partitions import DAILY, windows_of
from tickstock_assets.defs.resources import Database, MarketData, engine
from tickstock_assets.loading.fetching import land_missing
from tickstock_assets.providers.base import Dataset
from tickstock_assets.settings import settings
from tickstock_assets.storage import retention


@dg.asset(
    group_name="raw",
    kinds={"parquet"},
    partitions_def=DAILY,
    backfill_policy=dg.BackfillPolicy.single_run(),
    deps=[reference.symbols],
    pool="providers",
    code_version="2",
)
def raw_daily_bars(
    context: dg.AssetExecutionContext, market_data: MarketData, database: Database
) -> dg.MaterializeResult[None]:
    """Daily bars as the providers sent them, unadjusted: one Parquet file and one ledger row a fetched window.

    Only windows that the ledger does not have, or that could still change, are fetched.
    """
    windows = windows_of(context.partition_keys)
    lineup = market_data.lineup
    first = max(min(window.start for window in windows), lineup.span(Dataset.DAILY_BARS)[0])
    too_old = retention.warning("ohlcv_daily", first, settings().lifecycles, datetime.now(UTC))
    if too_old:
        context.log.warning(too_old)
    landing = land_missing(lineup, engine(), market_data.landing_folder, windows, run=database.run)
    metadata = landing_metadata(landing, lineup, market_data.landing_folder)
    context.log.info("Landed %s windows", len(landing.fetched))
    landing.raise_for_failures()
    return dg.MaterializeResult(metadata=metadata | ({"retention_warning": too_old} if too_old else {}))
