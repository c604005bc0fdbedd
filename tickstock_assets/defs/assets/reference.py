"""Reference data: the instruments, the calendar, and the corporate actions. Unpartitioned; replaced as a whole."""

from datetime import date

import dagster as dg
import pandas as pd
from pandera.pandas import DataFrameSchema
from sqlalchemy import Connection

from tickstock_assets.defs.partitions import SYMBOLS
from tickstock_assets.defs.plots import rows_as_table
from tickstock_assets.defs.resources import Database, MarketData, engine
from tickstock_assets.defs.retries import retried
from tickstock_assets.defs.run_cost import counted
from tickstock_assets.defs.storing_metadata import counts_metadata
from tickstock_assets.defs.unfinished import reference_held_up
from tickstock_assets.domain.errors import ProviderError, QuotaExhaustedError, TransientProviderError
from tickstock_assets.domain.schemas import DIVIDENDS, SPLITS
from tickstock_assets.loading.calendar import renew_sessions
from tickstock_assets.loading.lineup import source_of
from tickstock_assets.loading.load import Loader, Outcome
from tickstock_assets.loading.reference import count_forgotten, first_to_answer, keep_valid_symbols, with_type
from tickstock_assets.loading.validating import keep_valid
from tickstock_assets.providers.base import Dataset, Provider
from tickstock_assets.storage import audit, bars
from tickstock_assets.storage import sessions as stored_sessions
from tickstock_assets.storage.bulk import MergeCounts

GROUP = "reference"


@dg.asset(group_name=GROUP, kinds={"postgres"}, code_version="2")
@retried
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

    try:
        with counted(context, lineup):
            _, (valid, n_rejected) = first_to_answer(
                lineup, lambda provider: database.in_transaction(lambda connection: keep(connection, provider))
            )
    except QuotaExhaustedError as error:
        raise reference_held_up(context, database, known, lineup.horizon(), error) from None
    context.add_output_metadata({"rows_in": len(valid), "rows_quarantined": n_rejected})
    context.instance.add_dynamic_partitions(str(SYMBOLS.name), valid["symbol"].tolist())
    return valid


# It writes its table itself: a frame handed on would overwrite what a person said of a session.
@dg.asset(group_name=GROUP, kinds={"postgres"}, deps=[symbols], code_version="2")
@retried
def sessions(market_data: MarketData, database: Database) -> dg.MaterializeResult[None]:
    """The trading sessions of every exchange that a symbol has, over the providers' history, in UTC.

    What `tickstock sessions` has closed or shortened stays so.
    """
    first, last = market_data.lineup.span(Dataset.DAILY_BARS)

    def renew(connection: Connection) -> tuple[MergeCounts, dict[str, int], pd.DataFrame]:
        counts = renew_sessions(connection, first, date(last.year, 12, 31))
        if counts.written or counts.removed:
            audit.record(connection, "reference", ("sessions", "sessions"), "merge", vars(counts))
        return counts, stored_sessions.counted(connection), stored_sessions.overridden(connection)

    counts, by_exchange, overrides = database.in_transaction(renew)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": sum(by_exchange.values()),
            "sessions_by_exchange": dg.MetadataValue.json(by_exchange),
            "overrides": rows_as_table(overrides),
            **counts_metadata(counts),
        }
    )


@dg.asset(group_name=GROUP, kinds={"postgres"}, deps=[symbols], code_version="1")
@retried
def splits(context: dg.AssetExecutionContext, market_data: MarketData, database: Database) -> pd.DataFrame:
    """Share splits: `split_from` old shares become `split_to` new ones on the execution date."""
    wanted = _known(database)
    if market_data.lineup.has_day_budget:
        _renew_as_budgets_allow(context, market_data, database, wanted)
        return pd.DataFrame(columns=["symbol", "execution_date", "source"])
    with counted(context, market_data.lineup):
        provider, listed = first_to_answer(market_data.lineup, lambda one: one.splits(wanted))
    return _valid(context, database, provider, listed, SPLITS)


@dg.asset(group_name=GROUP, kinds={"postgres"}, deps=[symbols], code_version="1")
@retried
def dividends(context: dg.AssetExecutionContext, market_data: MarketData, database: Database) -> pd.DataFrame:
    """Cash dividends per share, as shares are counted on the ex-dividend date."""
    wanted = _known(database)
    if market_data.lineup.has_day_budget:
        _renew_as_budgets_allow(context, market_data, database, wanted)
        return pd.DataFrame(columns=["symbol", "ex_dividend_date", "distribution_type", "source"])
    with counted(context, market_data.lineup):
        provider, listed = first_to_answer(market_data.lineup, lambda one: one.dividends(wanted))
    return _valid(context, database, provider, with_type(listed), DIVIDENDS)


def _renew_as_budgets_allow(
    context: dg.AssetExecutionContext, market_data: MarketData, database: Database, wanted: list[str]
) -> None:
    """Bring splits and dividends of a few symbols at a time, each asked for once a day: a budget that ends leaves what came.

    There is nothing more to be stored then, and an empty frame changes nothing.
    """
    outcome = Outcome()
    loader = Loader(market_data.lineup, engine(), market_data.landing_folder, run=database.run)
    with counted(context, market_data.lineup):
        loader.load_actions(wanted, outcome)
    if outcome.continues_at is not None:
        error = QuotaExhaustedError("; ".join(outcome.problems), outcome.continues_at)
        raise reference_held_up(context, database, wanted, market_data.lineup.horizon(), error)
    if outcome.problems:
        raise (TransientProviderError if outcome.may_pass else ProviderError)("; ".join(outcome.problems))


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
    """Return the rows that keep the contract; the others are quarantined.

    The metadata count those, and the symbols of which nothing is listed any more: theirs stay (io_managers.py).
    """
    table = context.asset_key.path[-1]

    def keep(connection: Connection) -> tuple[pd.DataFrame, int, int]:
        valid, n_rejected = keep_valid(connection, source_of(provider, Dataset(table)), frame, contract)
        return valid, n_rejected, count_forgotten(connection, provider, table, valid)

    valid, n_rejected, n_kept = database.in_transaction(keep)
    context.add_output_metadata({"rows_in": len(frame), "rows_quarantined": n_rejected, "symbols_kept": n_kept})
    return valid.assign(source=provider.name)
