"""What providers sent, landed as Parquet before anything else happens to it."""

from datetime import UTC, datetime

import dagster as dg

from tickstock_assets.defs.assets import reference
from tickstock_assets.defs.loading import land_missing
from tickstock_assets.defs.partitions import DAILY, windows_of
from tickstock_assets.defs.resources import Database, MarketData, engine
from tickstock_assets.settings import settings
from tickstock_assets.storage import retention


@dg.asset(
    group_name="raw",
    kinds={"parquet"},
    partitions_def=DAILY,
    backfill_policy=dg.BackfillPolicy.single_run(),
    deps=[reference.symbols],
    code_version="1",
)
def raw_daily_bars(
    context: dg.AssetExecutionContext, market_data: MarketData, database: Database
) -> dg.MaterializeResult[None]:
    """Daily bars as the provider sent them, unadjusted: one Parquet file and one ledger row a fetched window.

    Only windows that the ledger does not have are fetched, so running it again fetches nothing.
    """
    windows = windows_of(context.partition_keys)
    first = max(min(window.start for window in windows), market_data.provider.history_start)
    too_old = retention.warning("ohlcv_daily", first, settings().lifecycles, datetime.now(UTC))
    if too_old:
        context.log.warning(too_old)
    summary = land_missing(
        market_data.provider,
        engine(),
        market_data.landing_folder,
        windows,
        on_landed=lambda window: context.log.info("Landed %s", window),
        run=database.run,
    )
    summary.raise_for_failures()
    return dg.MaterializeResult(
        metadata={
            "windows_fetched": len(summary.fetched),
            "windows_already_landed": summary.already_landed,
            "rows_in": summary.rows,
            "provider": market_data.provider.name,
            "horizon": market_data.provider.horizon().isoformat(),
            "landing_folder": dg.MetadataValue.path(str(market_data.landing_folder)),
            **({"retention_warning": too_old} if too_old else {}),
        }
    )
