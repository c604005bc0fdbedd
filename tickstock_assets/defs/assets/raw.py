"""What providers sent, landed as Parquet before anything else happens to it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from time import perf_counter
from typing import Any

import dagster as dg

from tickstock_assets.defs.assets import reference
from tickstock_assets.defs.landing_log import LandingLog
from tickstock_assets.defs.landing_metadata import landing_metadata
from tickstock_assets.defs.partition_log import PartitionLog, Told
from tickstock_assets.defs.partitions import DAILY, MINUTES, TICKS, windows_of
from tickstock_assets.defs.resources import Database, MarketData, engine, lineup
from tickstock_assets.defs.retries import retried
from tickstock_assets.defs.run_cost import add_cost
from tickstock_assets.defs.unfinished import end_of_landing, request_of_what_came, request_to_go_on, wholly_finished
from tickstock_assets.domain.errors import ProviderError, QuotaExhaustedError
from tickstock_assets.domain.timeframes import Timeframe
from tickstock_assets.domain.windows import Window, span_of
from tickstock_assets.loading.backfills import not_stored
from tickstock_assets.loading.fetching import land_missing
from tickstock_assets.loading.storing import TABLES
from tickstock_assets.loading.verifying import not_landed
from tickstock_assets.providers.base import Dataset
from tickstock_assets.settings import settings
from tickstock_assets.storage import retention
from tickstock_assets.storage.backfill_requests import Kind

GROUP = "raw"
# How many runs may fetch at once is a matter of the provider that is asked first; dagster.yaml has the limit.
POOL = f"provider_{lineup().first.name}"
# As what a run that a budget ends is requested, to go on later; trades become minutes.
REQUESTED: Mapping[Dataset, tuple[Timeframe, Kind]] = {
    Dataset.DAILY_BARS: ("1d", "history"),
    Dataset.MINUTE_BARS: ("1m", "history"),
    Dataset.TRADES: ("1m", "trades"),
}


@dg.asset(
    group_name=GROUP,
    kinds={"parquet"},
    partitions_def=DAILY,
    backfill_policy=dg.BackfillPolicy.single_run(),
    deps=[reference.symbols],
    pool=POOL,
    code_version="2",
)
@retried
def raw_daily_bars(context: dg.AssetExecutionContext, market_data: MarketData, database: Database) -> Told:
    """Daily bars as the providers sent them, unadjusted: one Parquet file and one ledger row a fetched window.

    Only windows that the ledger does not have, or that could still change, are fetched.
    """
    yield from _landed(context, market_data, database, Dataset.DAILY_BARS)


@dg.asset(
    group_name=GROUP,
    kinds={"parquet"},
    partitions_def=MINUTES,
    backfill_policy=dg.BackfillPolicy.single_run(),
    deps=[reference.symbols],
    pool=POOL,
    code_version="1",
)
@retried
def raw_minute_bars(context: dg.AssetExecutionContext, market_data: MarketData, database: Database) -> Told:
    """Minute bars as the providers sent them, unadjusted, extended hours included: one Parquet file a month at most.

    The sample provider has none that happened: it invents minutes that add up to its real daily bars.
    """
    yield from _landed(context, market_data, database, Dataset.MINUTE_BARS)


@dg.asset(
    group_name=GROUP,
    kinds={"parquet"},
    partitions_def=TICKS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    deps=[reference.symbols],
    pool=POOL,
    code_version="1",
)
@retried
def raw_trades(context: dg.AssetExecutionContext, market_data: MarketData, database: Database) -> Told:
    """Trades as the providers sent them: one Parquet file a session."""
    yield from _landed(context, market_data, database, Dataset.TRADES)


def _landed(context: dg.AssetExecutionContext, market_data: MarketData, database: Database, dataset: Dataset) -> Told:
    """Fetch what is missing of the run's partitions, and tell of each that came; dg.Failure when something did not."""
    began = perf_counter()
    log, providers, folder = PartitionLog(context), market_data.lineup, market_data.landing_folder
    # The first year of a vendor's history hardly ever begins on its first day.
    windows = providers.within_reach(dataset, windows_of(log.keys))
    warning = _retention_warning(context, dataset, windows)
    listener = LandingLog(log, partial(not_landed, providers, engine(), dataset=dataset))
    landing = land_missing(providers, engine(), folder, windows, dataset, observer=listener, run=database.run)
    yield from listener.events
    cost = {"api_calls": sum(landing.calls.values()), "rows_landed": landing.rows, "bytes_landed": landing.bytes}
    seconds = round(perf_counter() - began, 3)
    add_cost(context, **cost, seconds=seconds)
    metadata = {**landing_metadata(landing, providers, folder), **warning, "seconds": seconds}

    def go_on(error: ProviderError, finished: Sequence[str]) -> Mapping[str, Any]:
        if isinstance(error, QuotaExhaustedError):
            return request_to_go_on(context, database, log.keys, REQUESTED[dataset], error)
        came = not_stored(providers, engine(), dataset, wholly_finished(log.keys, finished))
        return request_of_what_came(context, database, came, REQUESTED[dataset])

    yield from end_of_landing(context, log, landing, metadata, go_on)
    yield log.everything_told()


def _retention_warning(
    context: dg.AssetExecutionContext, dataset: Dataset, windows: Sequence[Window]
) -> dict[str, str]:
    first, _ = span_of(windows)
    too_old = retention.warning(TABLES[dataset], first, settings().lifecycles, datetime.now(UTC))
    if too_old is None:
        return {}
    context.log.warning(too_old)
    return {"retention_warning": too_old}
