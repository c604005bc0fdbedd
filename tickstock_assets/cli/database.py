"""What the verbs need of the database, from the settings."""

from typing import TYPE_CHECKING

from sqlalchemy import Engine

from tickstock_assets.settings import settings
from tickstock_assets.storage.database import open_database
from tickstock_assets.storage.pool import Limits

if TYPE_CHECKING:
    from tickstock_assets.storage.market_data import MarketReader


APPLICATION = "tickstock cli"


def server_url() -> str | None:
    """Return the address of the server to use, or None for the embedded one."""
    address = settings().database_url
    return address.get_secret_value() if address else None


def engine() -> Engine:
    """Return an engine on the database, its schema up to date."""
    return open_database(settings().home_path, server_url(), APPLICATION, limits())


def limits() -> Limits:
    """Return the bounds that the settings set to connections."""
    chosen = settings()
    return Limits(chosen.pool_size, chosen.pool_max, statement_timeout_seconds=chosen.statement_timeout_seconds)


def reader() -> "MarketReader":
    """Return a reader of bars of the database, its schema up to date; to be closed."""
    from tickstock_assets.storage.market_data import MarketReader

    opened = engine()
    opened.dispose()  # it has shown that all is well; the reader has connections of its own
    return MarketReader(opened.url, APPLICATION, limits(), spill=settings().tick_spill_path)
