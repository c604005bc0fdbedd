"""Loading all that a provider has, without Dagster, by the same steps that the assets take."""

from pathlib import Path

from sqlalchemy import Connection, Engine

from tickstock_assets.domain.windows import Window
from tickstock_assets.loading.calendar import know_sessions
from tickstock_assets.loading.fetching import land_missing
from tickstock_assets.loading.lineup import Lineup
from tickstock_assets.loading.storing import store
from tickstock_assets.providers.base import Dataset
from tickstock_assets.storage import bars
from tickstock_assets.storage.bulk import MergeCounts, merge
from tickstock_assets.storage.retry import in_transaction


def load_everything(lineup: Lineup, engine: Engine, folder: Path) -> MergeCounts:
    """Load instruments, sessions and every daily bar of the first provider of a lineup."""
    symbols = lineup.first.symbols()
    first, last = lineup.span(Dataset.DAILY_BARS)
    windows = [Window(symbol, first, last) for symbol in symbols["symbol"]]

    def load_reference(connection: Connection) -> None:
        known = bars.symbols(connection)["symbol"]
        merge(connection, "symbols", symbols[~symbols["symbol"].isin(known)])
        know_sessions(connection, first, last)

    in_transaction(engine, load_reference)
    land_missing(lineup, engine, folder, windows).raise_for_failures()
    return store(lineup, engine, folder, windows).counts
