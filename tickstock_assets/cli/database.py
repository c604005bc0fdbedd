"""What the verbs need of the database, from the settings."""

from sqlalchemy import Engine

from tickstock_assets.settings import settings
from tickstock_assets.storage.database import open_database


def server_url() -> str | None:
    """Return the address of the server to use, or None for the embedded one."""
    address = settings().database_url
    return address.get_secret_value() if address else None


def engine() -> Engine:
    """Return an engine on the database, its schema up to date."""
    return open_database(settings().home_path, server_url(), "tickstock cli")
