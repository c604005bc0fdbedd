"""The connection to PostgreSQL, embedded or a server, and what that server is capable of."""

from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import URL, Connection, Engine, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, OperationalError, ProgrammingError

from tickstock_assets.domain.errors import ConfigError, DatabaseError
from tickstock_assets.storage import embedded, migrate
from tickstock_assets.storage.capability import tier
from tickstock_assets.storage.pool import DRIVER, RECYCLE_SECONDS, BoundedPool, Limits, libpq_arguments, log_pool, place

DATABASE = "tickstock"
OLDEST_SUPPORTED = 15
CONNECT_TIMEOUT_SECONDS = 5
LAST_PORT = 65_535
DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Status:
    """What `tickstock db status` says. `size_bytes` is the whole database's, `rows` is exact."""

    server: str
    version: str
    tier: str
    timescaledb: str | None
    revision: str | None
    latest_revision: str
    size_bytes: int
    rows: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


def database_url(home: Path, server_url: str | None, database: str | None = None) -> URL:
    """Return the address of a database; without a server's, start the embedded one and create the database in it.

    Args:
        home: folder of the embedded server.
        server_url: `postgresql://user:password@host:port/database`, or None for the embedded server.
        database: name instead of the one in `server_url` (embedded: instead of `tickstock`).

    Raises:
        ConfigError: `server_url` is not a PostgreSQL address.
        DatabaseError: the embedded server does not start.
    """
    if server_url is None:
        server = embedded.acquire(home)
        name = database or DATABASE
        embedded.ensure_database(server, name)
        return make_url(server.url(name))
    url = _parsed(server_url)
    return url.set(drivername="postgresql", database=database or url.database or DATABASE)


def require_two_databases(server_url: str | None, dagster_database: str) -> None:
    """Look that Dagster's own database is not the market's.

    Raises:
        ConfigError: it is, or `server_url` is not a PostgreSQL address.
    """
    market = (_parsed(server_url).database if server_url else None) or DATABASE
    if dagster_database == market:
        raise ConfigError(
            f"TICKSTOCK_DAGSTER_DATABASE: expected another database than the market's, found {dagster_database!r} for "
            "both; name another"
        )


def _parsed(server_url: str) -> URL:
    """Return an address that is one; none of it is repeated that may be part of a password."""
    if server_url.count("@") > 1:
        raise ConfigError(
            "TICKSTOCK_DATABASE_URL: expected one @, before the host, found several; "
            "percent-encode it (%40) where it is part of the password or of another name"
        )
    try:
        url = make_url(server_url)
    except (ArgumentError, ValueError):  # the latter for a port that is no number
        url = None
    if url is None or url.get_backend_name() not in {"postgresql", "postgres"} or not (url.host or url.query):
        raise ConfigError(
            "TICKSTOCK_DATABASE_URL: expected postgresql://user:password@host:port/database, "
            "found something else; correct it or unset it to use the embedded server"
        )
    if url.port is not None and not 1 <= url.port <= LAST_PORT:
        raise ConfigError(
            f"TICKSTOCK_DATABASE_URL: expected a port from 1 to {LAST_PORT}, found {url.port}; correct it"
        )
    known = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}
    if unknown := sorted(set(url.query) - known):
        raise ConfigError(
            "TICKSTOCK_DATABASE_URL: expected options of PostgreSQL's own clients after the question mark, such as "
            f"sslmode=require, found {unknown[0]!r}; correct or remove it"
        )
    return url


def open_engine(url: URL, application_name: str = "tickstock", limits: Limits = DEFAULT_LIMITS) -> Engine:
    """Return a pooled engine of psycopg 3, in UTC, after a first connection has proved that the server will do.

    Raises:
        ConfigError: the hosts and ports after the question mark are none.
        DatabaseError: unreachable, access refused, no such database, or older than PostgreSQL 15.
    """
    libpq_arguments(url)  # which refuses hosts that are none
    engine = create_engine(
        url.set(drivername=DRIVER),
        poolclass=BoundedPool,
        pool_size=limits.kept,
        max_overflow=limits.most - limits.kept,
        pool_timeout=limits.wait_seconds,
        pool_pre_ping=True,
        pool_recycle=RECYCLE_SECONDS,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            "application_name": application_name,
            "options": session_options(url, limits),
        },
    )
    try:
        with engine.connect() as connection:
            major = driver(connection).info.server_version // 10_000
    except OperationalError as error:
        raise DatabaseError(_in_one_sentence(url, error)) from None
    if major < OLDEST_SUPPORTED:
        raise DatabaseError(
            f"{place(url)}: expected PostgreSQL {OLDEST_SUPPORTED} or newer, found {major}; upgrade that server "
            "or unset TICKSTOCK_DATABASE_URL to use the embedded one"
        )
    return engine


def session_options(url: URL, limits: Limits) -> str:
    """Return what a session is opened with: the options of its address, and ours, which go before them."""
    ours = f"-c timezone=UTC -c statement_timeout={limits.statement_timeout_seconds}s"
    return " ".join([*url.normalized_query.get("options", ()), ours])


def server_time(connection: Connection) -> datetime:
    """Return what time it is by the server's clock, UTC."""
    now: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return now


def open_database(
    home: Path, server_url: str | None, application_name: str = "tickstock", limits: Limits = DEFAULT_LIMITS
) -> Engine:
    """Return an engine on a database whose schema is up to date, and write its bounds to the log.

    The embedded database is migrated on the way; a server's is its administrator's to migrate.

    Raises:
        DatabaseError: see `open_engine`; or a server's schema is not at the latest revision.
    """
    engine = open_engine(database_url(home, server_url), application_name, limits)
    if server_url is None:
        migrate.upgrade(engine)
    else:
        migrate.require_latest(engine)
    log_pool(engine, application_name)
    return engine


def ensure_server_database(url: URL) -> None:
    """Create the database of an address on its server when it is not there yet.

    Raises:
        DatabaseError: the server is unreachable, or the role may not create databases.
    """
    try:
        open_engine(url).dispose()
    except DatabaseError:
        engine = open_engine(url.set(database="postgres")).execution_options(isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql(f'CREATE DATABASE "{url.database}"')
        except ProgrammingError as error:
            if not isinstance(error.orig, psycopg.errors.DuplicateDatabase):
                raise DatabaseError(
                    f"{place(url)}: expected a database {url.database!r} or the right to create it, found neither; "
                    f"have an administrator run CREATE DATABASE {url.database}"
                ) from None
        finally:
            engine.dispose()


def driver(connection: Connection) -> psycopg.Connection[Any]:
    """Return the psycopg connection below an open SQLAlchemy one, for COPY and composed SQL in its transaction."""
    below = connection.connection.driver_connection
    if not isinstance(below, psycopg.Connection):
        raise TypeError(f"expected an engine of `open_engine`, on psycopg 3, found one on {type(below).__module__}")
    return below


def status(engine: Engine, *, is_embedded: bool) -> Status:
    """Return what the server is and what the database holds."""
    with engine.connect() as connection:
        tables = connection.execute(
            text("SELECT relname FROM pg_stat_user_tables WHERE schemaname = current_schema() ORDER BY relname")
        ).scalars()
        rows = {
            table: connection.execute(text(f'SELECT count(*) FROM "{table}"')).scalar_one()  # noqa: S608 from the catalog
            for table in tables
            if table != "schema_revision"
        }
        return Status(
            server="embedded" if is_embedded else place(engine.url),
            version=connection.execute(text("SHOW server_version")).scalar_one().split()[0],
            tier=tier(connection).value,
            timescaledb=connection.execute(
                text("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'")
            ).scalar(),
            revision=migrate.current_revision(connection),
            latest_revision=migrate.latest_revision(),
            size_bytes=connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one(),
            rows=rows,
        )


def _in_one_sentence(url: URL, error: OperationalError) -> str:
    cause = str(error.orig)
    said = cause.strip().splitlines()[0].strip() if cause.strip() else "no answer"
    if "authentication failed" in cause or "no password supplied" in cause:
        advice = f"the user name or password is not accepted for {url.username or 'the default user'}"
    elif "does not exist" in cause:
        advice = said.rsplit("FATAL:", maxsplit=1)[-1].strip() + "; create it or name another"
    elif "too many clients" in cause:
        advice = "it has no free connection; close some or raise max_connections"
    else:
        advice = f"cannot be reached ({said.rsplit('failed:', maxsplit=1)[-1].strip()}); is it running, and is the address right?"
    return f"{place(url)}: {advice} (TICKSTOCK_DATABASE_URL)"
