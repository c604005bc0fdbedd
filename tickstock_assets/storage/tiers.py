"""What a database's tier adds to the schema, applied after every migration and taken back before a downgrade.

The SQL is in `sql/tiers/`, each file idempotent; settings reach it as session settings. Plain PostgreSQL needs one
query to find that there is nothing to do, so this may run at every start.

Elsewhere: what was made and what is off (storage/tier_status.py), dropping old rows (storage/retention.py).
"""

import psycopg
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from tickstock_assets.domain.errors import DatabaseError
from tickstock_assets.domain.lifecycle import Lifecycles
from tickstock_assets.project_files import project_file
from tickstock_assets.storage import continuous_aggregates
from tickstock_assets.storage.capability import Tier, capability, require_supported

DEFAULT = Lifecycles()


def apply(connection: Connection, chosen: Lifecycles = DEFAULT) -> None:
    """Bring the database to what its tier allows and the settings say; whatever is so already is left alone.

    Rows are kept. What has to be committed before it can be used is for `settle` afterwards.

    Raises:
        DatabaseError: TimescaleDB is too old, or the role may not do it.
    """
    found = capability(connection)
    if found.timescaledb is None:
        if not _has_foreign_key(connection):
            _run(connection, "tiers/foreign_keys")
        return
    require_supported(found.timescaledb)
    _hand_over(connection, chosen)
    # Rows are moved into chunks, which may take longer than a query may.
    connection.execute(text("SET LOCAL statement_timeout = 0"))
    try:
        _run(connection, "tiers/hypertables")
        _run(connection, "tiers/foreign_keys")
        if found.tier is Tier.TIMESCALE_COMMUNITY:
            _run(connection, "tiers/compression")
            _make_rollups(connection)
    except (DBAPIError, psycopg.Error) as error:
        raise DatabaseError(f"sql/tiers/: {_first_line(error)}; migrate as a role that owns the tables") from error


def settle(engine: Engine, chosen: Lifecycles = DEFAULT) -> None:
    """Give rollups and minutes their policies, on Community; to be called once `apply` is committed.

    Minutes that a new or shorter retention is about to drop are rolled up before the policy is made.
    """
    with engine.connect() as connection:
        if capability(connection).tier is not Tier.TIMESCALE_COMMUNITY or not continuous_aggregates.exist(connection):
            return
        if connection.execute(text("SELECT to_regclass('minutes_dropped')")).scalar() is None:
            return  # a revision before 0005, on the way up or down
        are_due = continuous_aggregates.are_minutes_newly_due(connection, chosen.minute.retention)
    if are_due:
        continuous_aggregates.refresh(engine)
    with engine.begin() as connection:
        continuous_aggregates.mark_dropped(connection)
        set_rollup_policies(connection, chosen)


def set_rollup_policies(connection: Connection, chosen: Lifecycles) -> None:
    """Bring the refresh policies of rollups and the retention policy of minutes to what settings and history say."""
    _hand_over(connection, chosen)
    _run(connection, "tiers/minute_retention")


def remove(connection: Connection) -> None:
    """Make rollups ordinary tables again, with all their bars, and drop what a tier added; before a downgrade."""
    if connection.execute(text("SELECT to_regnamespace('tier')")).scalar() is None:
        return
    if continuous_aggregates.exist(connection):
        _run(connection, "tiers/rollups_to_tables")
        _run(connection, "views/ohlcv_bars")
    _run(connection, "tiers/removed")


def create_extension(engine: Engine) -> None:
    """Create the extension in the database.

    Raises:
        DatabaseError: the server does not have it, or the role may not create it.
    """
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("CREATE EXTENSION IF NOT EXISTS timescaledb"))
    except DBAPIError as error:
        raise DatabaseError(
            f"CREATE EXTENSION timescaledb: {_first_line(error)}; have a superuser of a server that has and preloads "
            "TimescaleDB run it in this database, then run `tickstock db migrate`"
        ) from None
    # Connections that were open before do not have the extension loaded.
    engine.dispose()


def _make_rollups(connection: Connection) -> None:
    if (
        continuous_aggregates.exist(connection)
        or not connection.execute(text("SELECT to_regclass('public.ohlcv_bars')")).scalar()
    ):
        return
    _run(connection, "tiers/rollups")
    _run(connection, "views/ohlcv_bars")


def _has_foreign_key(connection: Connection) -> bool:
    return bool(
        connection.execute(
            text("SELECT EXISTS (SELECT FROM pg_constraint WHERE conname = 'fk_signals_patterns')")
        ).scalar()
    )


def _hand_over(connection: Connection, chosen: Lifecycles) -> None:
    values: dict[str, str | int | None] = {"tick_partitions": chosen.tick_partitions}
    for name in ("minute", "daily", "tick"):
        lifecycle = getattr(chosen, name)
        values[f"{name}_chunk"] = lifecycle.chunk
        values[f"{name}_compress_after"] = lifecycle.compress_after
        values[f"{name}_retention"] = lifecycle.retention
    for name, value in values.items():
        connection.execute(
            text("SELECT set_config(:name, :value, true)"),
            {"name": f"tickstock.{name}", "value": "" if value is None else str(value)},
        )


def _run(connection: Connection, script: str) -> None:
    # The driver's own cursor runs it: SQLAlchemy would read `:name` and `%` in it as parameters.
    cursor = connection.connection.cursor()
    try:
        cursor.execute((project_file("sql") / f"{script}.sql").read_text(encoding="utf-8"))
    finally:
        cursor.close()


def _first_line(error: Exception) -> str:
    return str(getattr(error, "orig", error)).strip().splitlines()[0]
