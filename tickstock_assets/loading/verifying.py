"""Holding the ledger against the landing folder."""

from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import Connection, Engine

from tickstock_assets.domain.errors import LandingError
from tickstock_assets.domain.windows import Window, not_covered
from tickstock_assets.loading.calendar import session_days
from tickstock_assets.loading.coverage import up_to
from tickstock_assets.loading.deliveries import served
from tickstock_assets.loading.lineup import Lineup, source_of
from tickstock_assets.providers.base import Dataset
from tickstock_assets.storage import bars, landing, ledger
from tickstock_assets.storage.ledger import Entry


def verify_landed(
    lineup: Lineup,
    engine: Engine,
    folder: Path,
    windows: Sequence[Window] | None,
    dataset: Dataset = Dataset.DAILY_BARS,
) -> tuple[list[str], int]:
    """Return what is wrong with what is landed, and how many files were read.

    Wrong are windows with sessions that are missing, as far as anyone's history reaches, and files that are not what was written.
    """
    with engine.begin() as connection:
        symbols = bars.symbols(connection)["symbol"].tolist() if windows is None else [w.symbol for w in windows]
        entries = _landed(connection, lineup, dataset, symbols)
        wanted = lineup.within_reach(dataset, windows) if windows else []
        problems = [f"{one}: not landed" for one in _missing(connection, entries, up_to(wanted, lineup.horizon()))]
    for entry in entries:
        try:
            payload = landing.read(folder, entry.file.path, entry.file.sha256)
        except LandingError as error:
            problems.append(str(error))
            continue
        if payload.num_rows != entry.file.rows:
            problems.append(f"{entry.window}: expected {entry.file.rows} rows, found {payload.num_rows}")
    return problems, len(entries)


def not_landed(lineup: Lineup, engine: Engine, windows: Sequence[Window], dataset: Dataset) -> list[Window]:
    """Return the parts of windows, as far as anyone's history reaches, with sessions that the ledger does not have."""
    wanted = up_to(lineup.within_reach(dataset, windows), lineup.horizon())
    with engine.begin() as connection:
        entries = _landed(connection, lineup, dataset, [window.symbol for window in windows])
        return _missing(connection, entries, wanted)


def _landed(connection: Connection, lineup: Lineup, dataset: Dataset, symbols: Sequence[str]) -> list[Entry]:
    return [entry for provider in lineup for entry in ledger.landed(connection, source_of(provider, dataset), symbols)]


def _missing(connection: Connection, entries: Sequence[Entry], wanted: Sequence[Window]) -> list[Window]:
    have = [window for _, of_entry in served(entries, wanted) for window in of_entry]
    # Days without a session are asked for with others or not at all.
    return [one for one in not_covered(wanted, have) if session_days(connection, one.start, one.end, [one.symbol])]
