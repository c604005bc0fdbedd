"""Dagster's own storage in the `dagster` database beside ours; whoever opens the instance starts the server.

`dagster.yaml` names this class, so `dagster dev`, `tickstock ui` and `tickstock demo` all see the same runs.
"""

from typing import Any, Self

from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage

from tickstock_assets.settings import settings
from tickstock_assets.storage.database import database_url, ensure_server_database, require_two_databases


class TickstockStorage(DagsterPostgresStorage):
    """Dagster's PostgreSQL storage, addressed by the project's settings instead of by its own configuration."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Return that there is nothing to configure."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Self:  # noqa: ARG003
        """Open the storage; the embedded server is started when no server is named."""
        server = settings().database_url
        address = server.get_secret_value() if server else None
        require_two_databases(address, settings().dagster_database)
        url = database_url(settings().home_path, address, settings().dagster_database)
        if server:
            ensure_server_database(url)
        url = url.update_query_dict({"application_name": "dagster"})
        # Dagster speaks psycopg2; a plain `postgresql://` would mean psycopg 3 to SQLAlchemy 2.1.
        address = url.set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)
        return cls(postgres_url=address, inst_data=inst_data)
