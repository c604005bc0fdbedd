"""Reference data: the instruments, the calendar, and the corporate actions. Unpartitioned; replaced as a whole."""

from datetime import date

import dagster as dg
import pandas as pd
from pandera.pandas import DataFrameSchema

from tickstock_assets.defs.loading import keep_valid, keep_valid_symbols
from tickstock_assets.defs.partitions import SYMBOLS
from tickstock_assets.defs.resources import Database, MarketData, source_of
from tickstock_assets.domain.schemas import DIVIDENDS, SPLITS
from tickstock_assets.domain.sessions import DEFAULT_EXCHANGE, trading_sessions

GROUP = "reference"


@dg.asset(group_name=GROUP, kinds={"postgres"}, code_version="1")
def symbols(context: dg.AssetExecutionContext, market_data: MarketData, database: Database) -> pd.DataFrame:
    """The instruments that the provider has, one row each; every valid one becomes a partition."""
    valid, n_rejected = database.in_transaction(lambda connection: keep_valid_symbols(connection, market_data.provider))
    context.add_output_metadata({"rows_in": len(valid), "rows_quarantined": n_rejected})
    context.instance.add_dynamic_partitions(str(SYMBOLS.name), valid["symbol"].tolist())
    return valid


@dg.asset(group_name=GROUP, kinds={"postgres"}, code_version="1")
def sessions(market_data: MarketData) -> pd.DataFrame:
    """The trading sessions of the exchange over the provider's history, with open and close in UTC."""
    provider = market_data.provider
    return trading_sessions(DEFAULT_EXCHANGE, provider.history_start, date(provider.horizon().year, 12, 31))


@dg.asset(group_name=GROUP, kinds={"postgres"}, deps=[symbols], code_version="1")
def splits(context: dg.AssetExecutionContext, market_data: MarketData, database: Database) -> pd.DataFrame:
    """Share splits: `split_from` old shares become `split_to` new ones on the execution date."""
    valid = _valid(context, database, market_data, market_data.provider.splits(), SPLITS)
    return valid.assign(source=market_data.provider.name)


@dg.asset(group_name=GROUP, kinds={"postgres"}, deps=[symbols], code_version="1")
def dividends(context: dg.AssetExecutionContext, market_data: MarketData, database: Database) -> pd.DataFrame:
    """Cash dividends per share, as shares are counted on the ex-dividend date."""
    valid = _valid(context, database, market_data, market_data.provider.dividends(), DIVIDENDS)
    return valid.assign(source=market_data.provider.name, distribution_type="unknown")


def _valid(
    context: dg.AssetExecutionContext,
    database: Database,
    market_data: MarketData,
    frame: pd.DataFrame,
    contract: DataFrameSchema,
) -> pd.DataFrame:
    """Return the rows that keep the contract; the others are quarantined and counted in the metadata."""
    source = source_of(market_data.provider, context.asset_key.path[-1])
    valid, n_rejected = database.in_transaction(lambda connection: keep_valid(connection, source, frame, contract))
    context.add_output_metadata({"rows_in": len(frame), "rows_quarantined": n_rejected})
    return valid
