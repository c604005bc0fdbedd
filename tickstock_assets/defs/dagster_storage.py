"""Dagster's own storage in the `dagster` database beside ours; whoever opens the instance starts the server.

`dagster.yaml` names this class, so `dagster dev`, `tickstock ui` and `tickstock demo` all see the same runs. A server that is
away for a minute or two is waited for.
"""

from collections.abc import Sequence
from typing import Any, Self

import dagster as dg
import psycopg2  # type: ignore[import-untyped]
import tenacity
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_START_TAG, MULTIDIMENSIONAL_PARTITION_PREFIX
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage, PostgresEventLogStorage, PostgresRunStorage
from sqlalchemy import Dialect, Engine, event

from tickstock_assets.defs.parent_watch import end_with_parent
from tickstock_assets.settings import settings
from tickstock_assets.storage.database import database_url, ensure_server_database, require_two_databases
from tickstock_assets.storage.retry import is_refused_for_now

# Dagster itself asks six times for a connection, over 12 s in all; each of them waits this long, two minutes together.
CONNECT_PATIENCE_SECONDS = 20.0


class RunStorage(PostgresRunStorage):
    """Dagster's storage of runs, in which a run over a range is over all of it.

    A backfill that is launched from a job's page gives each of its runs the range, and besides, as tags of their dimensions,
    the symbol and period that the whole backfill begins with (dagster-io/dagster issue 28861). Dagster reads these first: the
    run would make that one partition only, and the backfill would call all of them succeeded.
    """

    def add_run(self, dagster_run: dg.DagsterRun) -> dg.DagsterRun:
        """Store a new run; one over a range without the tags of a single partition."""
        tags = dagster_run.tags
        if ASSET_PARTITION_RANGE_START_TAG in tags:
            kept = {name: tags[name] for name in tags if not name.startswith(MULTIDIMENSIONAL_PARTITION_PREFIX)}
            dagster_run = dagster_run.with_tags(kept)
        return super().add_run(dagster_run)


class EventLogStorage(PostgresEventLogStorage):
    """Dagster's storage of events, in which what a run intends to make is written at once.

    Dagster writes that as an event for each partition, in two transactions each, before the run is queued: for 50 symbols by
    ten years nine seconds, and a minute while other runs are at work.
    """

    def store_event_batch(self, events: Sequence[dg.EventLogEntry]) -> None:
        """Store events; of those that say what is intended, only the last one of an asset is noted with the asset."""
        intended = [one for one in events if one.get_dagster_event().is_asset_materialization_planned]
        others = [one for one in events if not one.get_dagster_event().is_asset_materialization_planned]
        if others:
            super().store_event_batch(others)
        if not intended:
            return
        insert = self.prepare_insert_event_batch(intended).returning(SqlEventLogStorageTable.c.id)
        with self._connect() as connection:
            ids = connection.execute(insert).scalars().all()
        last = {one.get_dagster_event().asset_key: (one, id_) for one, id_ in zip(intended, ids, strict=True)}
        with self.index_transaction() as connection:
            for one, id_ in last.values():
                self._store_asset_event(connection, one, id_)


class TickstockStorage(DagsterPostgresStorage):
    """Dagster's PostgreSQL storage, addressed by the project's settings instead of by its own configuration."""

    def __init__(self, postgres_url: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(postgres_url, inst_data=inst_data)
        # Its tables are made by now.
        self._run_storage = RunStorage(postgres_url, should_autocreate_tables=False)
        self._event_log_storage = EventLogStorage(postgres_url, should_autocreate_tables=False)

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Return that there is nothing to configure."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Self:  # noqa: ARG003
        """Open the storage; the embedded server is started when no server is named."""
        # Every process of Dagster's comes by here before it does anything.
        end_with_parent()
        server = settings().database_url
        address = server.get_secret_value() if server else None
        require_two_databases(address, settings().dagster_database)
        url = database_url(settings().home_path, address, settings().dagster_database)
        if server:
            ensure_server_database(url)
        # Dagster's columns have no time zone and mean UTC; a server may be set to another.
        options = " ".join([*url.normalized_query.get("options", ()), "-c timezone=UTC"])
        url = url.update_query_dict({"application_name": "dagster", "options": options})
        # Dagster speaks psycopg2; a plain `postgresql://` would mean psycopg 3 to SQLAlchemy 2.1.
        address = url.set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)
        return cls(postgres_url=address, inst_data=inst_data)


# Dagster makes its engines itself, and makes them anew; no other part of a process speaks psycopg2.
@event.listens_for(Engine, "do_connect")
def _wait_for_server(dialect: Dialect, _record: object, arguments: Any, keywords: Any) -> Any:
    """Return a connection for Dagster, after a server that is away has come back; leave other drivers alone."""
    if dialect.driver != "psycopg2":
        return None
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_is_away),
        stop=tenacity.stop_after_delay(CONNECT_PATIENCE_SECONDS),
        wait=tenacity.wait_exponential(0.05, 2.0) + tenacity.wait_random(0, 0.25),
        reraise=True,
    )
    return retrying(dialect.connect, *arguments, **keywords)


def _is_away(error: BaseException) -> bool:
    return isinstance(error, psycopg2.OperationalError) and is_refused_for_now(str(error))
