"""Reference data: the instruments that a provider has, and their splits and dividends."""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta

import pandas as pd
from sqlalchemy import Connection, Engine, text

from tickstock_assets.domain.errors import NotEntitledError, ProviderError, QuotaExhaustedError, TransientProviderError
from tickstock_assets.domain.quality import violations
from tickstock_assets.domain.schemas import DIVIDENDS, SPLITS, SYMBOLS
from tickstock_assets.domain.sessions import DEFAULT_EXCHANGE, trading_sessions
from tickstock_assets.domain.windows import Window
from tickstock_assets.loading.deliveries import Delivery
from tickstock_assets.loading.lineup import Lineup, source_of
from tickstock_assets.loading.validating import keep_valid, keep_valid_rows
from tickstock_assets.providers.base import Dataset, Provider, Request
from tickstock_assets.storage import ledger
from tickstock_assets.storage.bulk import Scope, merge

# Splits and dividends of a symbol are asked for again after this.
ACTIONS_LAST = timedelta(days=1)


def keep_valid_symbols(
    connection: Connection, provider: Provider, wanted: Sequence[str] | None = None
) -> tuple[pd.DataFrame, int]:
    """Return the instruments that can be stored, and how many rows of others were set aside.

    A symbol that cannot be has no partition through which its bars would come, so they are set aside here, as sent.
    """
    listed = provider.symbols(wanted)
    impossible = violations(listed, SYMBOLS).query("rule == 'invalid_symbol'")
    n_rejected = 0
    for symbol in impossible["symbol"]:
        n_rejected += _set_aside_bars(connection, provider, symbol)
    possible = listed.drop(index=impossible.index).reset_index(drop=True)
    valid, n_symbols = keep_valid(connection, source_of(provider, Dataset.SYMBOLS), possible, SYMBOLS)
    return valid, n_rejected + n_symbols


def _set_aside_bars(connection: Connection, provider: Provider, symbol: str) -> int:
    n_rejected = 0
    for route in provider.routes(Dataset.DAILY_BARS)[:1]:
        window = Window(symbol, route.history_start, provider.horizon())
        payload = provider.fetch(Request(Dataset.DAILY_BARS, window, route.name))
        frame = provider.parse(Dataset.DAILY_BARS, payload).assign(asked_for=symbol)
        sessions = trading_sessions(DEFAULT_EXCHANGE, window.start, window.end)
        delivery = Delivery({}, frame, [payload])
        _, rejected = keep_valid_rows(connection, provider, Dataset.DAILY_BARS, delivery, sessions)
        n_rejected += rejected.total()
    return n_rejected


def first_to_answer[T](lineup: Lineup, ask: Callable[[Provider], T]) -> tuple[Provider, T]:
    """Return the first answer, and who gave it; who does not answer or is not entitled to is left out.

    Raises:
        QuotaExhaustedError: a budget is used up, and nobody else is to be asked or answers.
        TransientProviderError: nobody answers, and one of them may well when asked again.
        ProviderError: nobody answers, or one refuses for good.
    """
    refused: list[ProviderError] = []
    for provider in lineup:
        try:
            return provider, ask(provider)
        except QuotaExhaustedError as error:
            if not lineup.next_on_quota:
                raise
            refused.append(error)
        except (TransientProviderError, NotEntitledError) as error:
            refused.append(error)
    exhausted = [error for error in refused if isinstance(error, QuotaExhaustedError)]
    if exhausted:
        raise min(exhausted, key=lambda error: error.until)
    may_pass = any(isinstance(error, TransientProviderError) for error in refused)
    raise (TransientProviderError if may_pass else ProviderError)("; ".join(str(error) for error in refused))


def store_symbols(connection: Connection, provider: Provider, listed: pd.DataFrame) -> set[str]:
    """Bring instruments into their table, and return which are there; what breaks the contract is set aside."""
    valid, _ = keep_valid(connection, source_of(provider, Dataset.SYMBOLS), listed.reset_index(drop=True), SYMBOLS)
    merge(connection, "symbols", valid)
    return set(valid["symbol"])


def with_type(dividends: pd.DataFrame) -> pd.DataFrame:
    """Return dividends with their distribution_type, `unknown` where the provider does not say."""
    return dividends if "distribution_type" in dividends else dividends.assign(distribution_type="unknown")


def actions_due(engine: Engine, lineup: Lineup, symbols: Sequence[str]) -> list[str]:
    """Return the symbols whose splits and dividends nobody has been asked for within the last day."""
    fresh: set[str] = set()
    with engine.connect() as connection:
        for provider in lineup:
            for window, asked_at in ledger.stored(connection, source_of(provider, Dataset.DIVIDENDS), symbols):
                if datetime.now(UTC) - asked_at < ACTIONS_LAST:
                    fresh.add(window.symbol)
    return [symbol for symbol in symbols if symbol not in fresh]


def count_forgotten(connection: Connection, provider: Provider, table: str, listed: pd.DataFrame) -> int:
    """Return how many symbols have splits, or dividends, of a provider that lists none of them any more."""
    statement = text(
        f"SELECT count(DISTINCT symbol) FROM {table} "  # noqa: S608 a table of ours
        "WHERE source = :source AND symbol <> ALL (CAST(:listed AS text[]))"
    )
    asked = {"source": provider.name, "listed": listed["symbol"].unique().tolist()}
    return int(connection.execute(statement, asked).scalar_one())


def store_actions(
    connection: Connection, provider: Provider, splits: pd.DataFrame, dividends: pd.DataFrame, wanted: Sequence[str]
) -> None:
    """Bring the splits and dividends of some symbols into their tables; those no longer listed go.

    Of a symbol that nothing is listed of any more what is stored stays: that is how a vendor answers who has forgotten it,
    or has a bad day.
    """
    for table, contract, rows in (("splits", SPLITS, splits), ("dividends", DIVIDENDS, with_type(dividends))):
        listed = rows[rows["symbol"].isin(wanted)].reset_index(drop=True)
        source = source_of(provider, Dataset(table))
        valid, _ = keep_valid(connection, source, listed, contract)
        scope = Scope(where={"source": [provider.name], "symbol": sorted(listed["symbol"].unique())})
        merge(connection, table, valid.assign(source=provider.name), scope)
        all_days = [Window(symbol, date.min, provider.horizon()) for symbol in wanted]
        ledger.mark_stored(connection, source, {datetime.now(UTC): all_days})
