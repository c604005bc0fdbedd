"""Trades, and the minute bars that are made from them where no provider has one."""

import dagster as dg

from tickstock_assets.defs.assets import reference
from tickstock_assets.defs.assets.bars import GROUP
from tickstock_assets.defs.assets.raw import raw_trades
from tickstock_assets.defs.batches import Batch, Outcome, in_batches
from tickstock_assets.defs.partition_log import Told
from tickstock_assets.defs.partitions import BY_DAY, TICKS
from tickstock_assets.defs.resources import Database, MarketData, engine
from tickstock_assets.defs.retries import retried
from tickstock_assets.defs.storing_metadata import stored_outcome, storing
from tickstock_assets.loading.trade_bars import store_trade_bars
from tickstock_assets.providers.base import Dataset

# A day of a liquid symbol is a million trades; what is held at a time is bounded further inside.
DAYS_A_BATCH = 25


@dg.asset(
    group_name=GROUP,
    kinds={"postgres"},
    partitions_def=TICKS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    deps=[raw_trades, reference.sessions],
    code_version="1",
)
@retried
def ticks(context: dg.AssetExecutionContext, market_data: MarketData, database: Database) -> Told:
    """Single trades with their conditions, those that were taken back later among them and marked so."""
    yield from in_batches(context, database, storing(market_data, database, Dataset.TRADES, BY_DAY), size=DAYS_A_BATCH)


# No asset waits for the other of the two that write `ohlcv_1min`: which of two
# bars of a minute counts is decided by the ranks of their sources, in whatever order they come.
@dg.asset(
    group_name=GROUP,
    kinds={"postgres"},
    partitions_def=TICKS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    deps=[ticks],
    code_version="1",
)
@retried
def tick_minute_bars(context: dg.AssetExecutionContext, database: Database) -> Told:
    """Minute bars made from trades, in the table `ohlcv_1min`: where a provider has a bar of a minute, its own stays."""

    def made(batch: Batch) -> Outcome:
        return stored_outcome(store_trade_bars(engine(), batch.windows, run=database.run), batch.keys, BY_DAY)

    yield from in_batches(context, database, made, computed_from=["ticks"], size=DAYS_A_BATCH)
