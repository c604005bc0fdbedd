"""Reference data: the instruments, the calendar, and the corporate actions. Unpartitioned; replaced as a whole."""

from datetime import date

import dagster as dg
import pandas as pd
from pandera.pandas import DataFrameSchema
from sqlalchemy import Connection

from tickstock_assets.defs.partitions import SYMBOLS
from tickstock_assets.defs.resources import Database, MarketData
from tickstock_assets.domain.schemas import DIVIDENDS, SPLITS
from tickstock_assets.domain.sessions import DEFAULT_EXCHANGE, trading_sessions
from tickstock_assets.loading.lineup import source_of
from tickstock_assets.loading.reference import first_to_answer, keep_valid_symbols, with_type
from tickstock_assets.loading.validating import keep_valid
from tickstock_assets.providers.base import Dataset, Provider
from tickstock_assets.storage import bars

GROUP = "reference"


@dg.asset(group_name=GROUP, kinds={"postgres"}, code_version="2")
def symbols(context: dg.AssetExecutionContext, market_data: MarketData, database: Database) -> pd.DataFrame:
    """The instruments, one row each; every valid one becomes a partition.

    A file's are all that it has; a vendor's are those that somebody has asked for by `tickstock load`.
    """
    lineup = market_data.lineup
    known = _known(database)
    wanted = None if lineup.has_whole_list else known
    if wanted == []:
        context.log.warning("No symbols yet: `tickstock load --symbols AAPL,MSFT` adds them")
        return pd.DataFrame(columns=["symbol", "exchange"])

    def keep(connection: Connection, provider: Provider) -> tuple[pd.DataFrame, int]:
        return keep_valid_symbols(connection, provider, wanted)

    _, (valid, n_rejected) = first_to_answer(
        lineup, lambda provider: database.in_transaction(lambda connection: keep(connection, provider))
    )
    context.add_output_metadata({"rows_in": len(valid), "rows_quarantined": n_rejected})
    context.instance.add_dynamic_partitions(str(SYMBOLS.name), valid["symbol"].tolist())
    return valid


@dg.asset(group_name=GROUP, kinds={"postgres"}, code_version="1")
def sessions(market_data: MarketData) -> pd.DataFrame:
    """The trading sessions of the exchange over the providers' history, with open and close in UTC."""
    first, last = market_data.lineup.span(Dataset.DAILY_BARS)
    return trading_sessions(DEFAULT_EXCHANGE, first, date(last.year, 12, 31))


@dg.asset(group_name=GROUP, kinds={"postgres"}, deps=[symbols], code_version="1")
def splits(context: dg.AssetExecutionContext, market_data: MarketData, database: Database) -> pd.DataFrame:
    """Share splits: `split_from` old shares become `split_to` new ones on the execution date."""
    wanted = _known(database)
    provider, listed = first_to_answer(market_data.lineup, lambda one: one.splits(wanted))
    return _valid(context, database, provider, listed, SPLITS)


@dg.asset(group_name=GROUP, kinds={"postgres"}, deps=[symbols], code_version="1")
def dividends(context: dg.AssetExecutionContext, market_data: MarketData, database: Database) -> pd.DataFrame:
    """Cash dividends per share, as shares are counted on the ex-dividend date."""
    wanted = _known(database)
    provider, listed = first_to_answer(market_data.lineup, lambda one: one.dividends(wanted))
    return _valid(context, database, provider, with_type(listed), DIVIDENDS)


def _known(database: Database) -> list[str]:
    with database.begin() as connection:
        return bars.symbols(connection)["symbol"].tolist()


def _valid(
    context: dg.AssetExecutionContext,
    database: Database,
    provider: Provider,
    frame: pd.DataFrame,
    contract: DataFrameSchema,
) -> pd.DataFrame:
    """Return the rows that keep the contract; the others are quarantined and counted in the metadata."""
    source = source_of(provider, Dataset(context.asset_key.path[-1]))
    valid, n_rejected = database.in_transaction(lambda connection: keep_valid(connection, source, frame, contract))
    context.add_output_metadata({"rows_in": len(frame), "rows_quarantined": n_rejected})
    return valid.assign(source=provider.name)
