"""The schema's revisions: which one a database has, and the way up and down. The SQL itself is in `sql/`.

After every upgrade follows what the server's tier allows (storage/tiers.py); before a downgrade it is taken back.
"""

from pathlib import Path

from alembic import command, op
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine

from tickstock_assets.domain.errors import ConfigError, DatabaseError
from tickstock_assets.domain.lifecycle import Lifecycles
from tickstock_assets.project_files import project_file
from tickstock_assets.storage import roles, tiers


def run_sql_beside(revision_file: str, direction: str) -> None:
    """Run the `.up.sql` or `.down.sql` file beside a revision, within Alembic's transaction."""
    _run_sql(Path(revision_file).with_suffix(f".{direction}.sql"))


def run_view(name: str) -> None:
    """Run the definition of a view, `sql/views/<name>.sql`, within Alembic's transaction."""
    _run_sql(project_file("sql") / "views" / f"{name}.sql")


def latest_revision() -> str:
    """Return the newest revision that `sql/` has."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise ConfigError(f"{project_file('sql')}: expected at least one revision, found none; reinstall the package")
    return head


def current_revision(connection: Connection) -> str | None:
    """Return the revision of a database, or None when it has no schema yet."""
    return MigrationContext.configure(connection, opts={"version_table": "schema_revision"}).get_current_revision()


def upgrade(engine: Engine, revision: str = "head", lifecycles: Lifecycles = tiers.DEFAULT) -> None:
    """Bring a database up to a revision and to what its tier allows; nothing happens when it is there already.

    Args:
        engine: of a role that owns the tables.
        revision: the newest unless said otherwise.
        lifecycles: the intervals of chunks and policies on TimescaleDB.
    """
    with engine.begin() as connection:
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")  # a revision may have to rewrite a large table
        _run(command.upgrade, connection, revision)
        tiers.apply(connection, lifecycles)
        roles.refresh_grants(connection)
    tiers.settle(engine, lifecycles)


def downgrade(engine: Engine, revision: str, lifecycles: Lifecycles = tiers.DEFAULT) -> None:
    """Take a database down to a revision; `base` removes the whole schema and every row in it.

    What the tier added is taken back first, and made again of the tables that are left.
    """
    with engine.begin() as connection:
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        tiers.remove(connection)
        _run(command.downgrade, connection, revision)
        if current_revision(connection) is not None:
            tiers.apply(connection, lifecycles)
    tiers.settle(engine, lifecycles)


def require_latest(engine: Engine) -> None:
    """Raise DatabaseError unless the database has the newest revision."""
    with engine.connect() as connection:
        found = current_revision(connection)
    if found != latest_revision():
        raise DatabaseError(
            f"The database is at schema revision {found or 'none'}, expected {latest_revision()}; "
            "run `tickstock db migrate`"
        )


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(project_file("sql") / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _run_sql(script: Path) -> None:
    # The driver's own cursor runs it: SQLAlchemy would read `:name` and `%` in it as parameters.
    cursor = op.get_bind().connection.cursor()
    try:
        cursor.execute(script.read_text(encoding="utf-8"))
    finally:
        cursor.close()


def _run(verb: object, connection: Connection, revision: str) -> None:
    config = _config()
    config.attributes["connection"] = connection
    try:
        verb(config, revision)  # type: ignore[operator]
    except CommandError as error:
        raise DatabaseError(
            f"Schema revision {revision}: {error}; `tickstock db status` shows where it stands"
        ) from None
