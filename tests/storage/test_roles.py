"""The three roles over the network with their passwords: what each must be able to do, and what none may."""

import contextlib
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date

import pandas as pd
import psycopg
import pytest
from psycopg import sql
from sqlalchemy import URL, make_url, text

from tests.storage.servers import wait_until
from tests.storage.tcp_server import TcpServer, running_tcp_server
from tickstock_assets.domain.errors import DatabaseError
from tickstock_assets.domain.windows import Window
from tickstock_assets.storage import bars, measurements, migrate, roles
from tickstock_assets.storage.bulk import Scope, merge
from tickstock_assets.storage.database import open_engine
from tickstock_assets.storage.pool import libpq_arguments
from tickstock_assets.storage.roles import APP, OWNER, READER

PASSWORDS = {OWNER: "owner-Gr8!'word", APP: "app-wörd \\x", READER: "reader-word"}
EVERYBODY = [OWNER, APP, READER]
ENTRY = (
    "INSERT INTO audit_trail (event_type, entity_type, entity_id, action) VALUES ('load', 'symbols', 'IBM', 'merge')"
)


@pytest.fixture(scope="module")
def tcp_server() -> Iterator[TcpServer]:
    with running_tcp_server() as running:
        yield running


@pytest.fixture(scope="module")
def administrator(server: URL, tcp_server: TcpServer) -> URL:
    """An administrator's address of each server; instead of the embedded one, which knows no password, of another."""
    return server if server.host else make_url(tcp_server.url("postgres"))


def connect(url: URL) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(**libpq_arguments(url), autocommit=True)


@dataclass(frozen=True)
class Market:
    """A database for the roles, and Dagster's."""

    url: URL
    dagster: str

    def of(self, role: str) -> URL:
        return self.url.set(username=role, password=PASSWORDS[role])

    def run(self, role: str, statement: str) -> list[tuple[object, ...]]:
        """Run a statement as a role, in a session of its own, and return its rows."""
        with connect(self.of(role)) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def set_up(self) -> None:
        roles.set_up(self.url, self.dagster, PASSWORDS)


@contextlib.contextmanager
def new_market(administrator: URL) -> Iterator[Market]:
    """Without a schema, and without the roles' rights."""
    name = f"roles_{uuid.uuid4().hex}"
    market = Market(administrator.set(database=name), f"{name}_dagster")
    with connect(administrator) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    with connect(market.url) as connection:
        if connection.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'timescaledb'").fetchone():
            connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
    yield market
    with connect(administrator) as connection:
        for database in (name, market.dagster):
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))


def fill_and_set_up(market: Market) -> None:
    """Give it the newest schema, a symbol, a session and an entry, and the roles their rights."""
    engine = open_engine(market.url)
    migrate.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO symbols (symbol) VALUES ('AAPL')"))
        connection.exec_driver_sql(
            "INSERT INTO sessions VALUES ('XNYS', '2024-01-02', '2024-01-02 14:30Z', '2024-01-02 21:00Z')"
        )
        connection.exec_driver_sql(ENTRY.replace("IBM", "AAPL"))
    engine.dispose()
    market.set_up()


@pytest.fixture
def bare(administrator: URL) -> Iterator[Market]:
    with new_market(administrator) as market:
        yield market


@pytest.fixture
def fresh(bare: Market) -> Market:
    """For a test that leaves something behind."""
    fill_and_set_up(bare)
    return bare


@pytest.fixture(scope="module")
def market(administrator: URL) -> Iterator[Market]:
    """For all tests that leave nothing behind."""
    with new_market(administrator) as shared:
        fill_and_set_up(shared)
        yield shared


def refused(action: Callable[[], object]) -> str:
    with pytest.raises(psycopg.errors.InsufficientPrivilege) as error:
        action()
    return str(error.value)


def daily_bar(close: float) -> pd.DataFrame:
    values = {"open": 10.0, "high": 12.0, "low": 9.0, "close": close, "volume": 1_000.0, "source": "sample"}
    return pd.DataFrame([{"symbol": "AAPL", "date": date(2024, 1, 2), **values}])


@pytest.mark.parametrize("role", EVERYBODY)
def test_a_role_is_let_in_with_its_own_password_only(market: Market, role: str) -> None:
    assert market.run(role, "SELECT current_user") == [(role,)]
    for wrong in ("", "guess", PASSWORDS[OWNER if role != OWNER else APP]):
        with pytest.raises(psycopg.OperationalError):
            connect(market.of(role).set(password=wrong))


@pytest.mark.parametrize("role", EVERYBODY)
def test_no_role_is_more_than_it_needs_to_be(market: Market, role: str) -> None:
    with connect(market.url) as connection:
        rights = connection.execute(
            "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls, "
            "pg_has_role(oid, 'pg_read_all_stats', 'member') FROM pg_roles WHERE rolname = %s", [role],
        ).fetchone()  # fmt: skip
        # What others are doing stays theirs.
        assert market.run(role, "SELECT DISTINCT query FROM pg_stat_activity WHERE usename <> current_user") == [
            ("<insufficient privilege>",)
        ]
    assert rights == (False,) * 6


@pytest.mark.parametrize("role", EVERYBODY)
def test_every_role_reads_every_table_and_view(market: Market, role: str) -> None:
    relations = market.run(
        role, "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v')"
    )
    names = {str(name) for (name,) in relations}
    assert {
        "symbols",
        "ohlcv_daily",
        "bar_revisions",
        "ohlcv_bars",
        "events",
        "audit_trail",
        "schema_revision",
    } <= names
    for name in names:
        market.run(role, f'SELECT * FROM "{name}" LIMIT 1')
    assert market.run(role, "SELECT symbol, source_rank('polygon') FROM symbols") == [("AAPL", 10)]


def test_the_reader_has_what_the_commands_read(market: Market) -> None:
    engine = open_engine(market.of(READER))
    migrate.require_latest(engine)
    with engine.connect() as connection:
        assert bars.symbols(connection)["symbol"].tolist() == ["AAPL"]
        window = Window("AAPL", date(2024, 1, 1), date(2024, 12, 31))
        assert bars.daily_bars(connection, [window]).empty
        assert bars.coverage(connection, {"sample": date(2024, 1, 2)}, None).empty
    engine.dispose()


WRITES = {
    "insert": "INSERT INTO symbols (symbol) VALUES ('IBM')",
    "update": "UPDATE symbols SET name = 'x'",
    "delete": "DELETE FROM symbols",
}
CHANGES_OF_TABLES = {
    "truncate": "TRUNCATE symbols CASCADE",
    "create a table": "CREATE TABLE mine (x int)",
    "create a schema": "CREATE SCHEMA mine",
    "create a function": "CREATE FUNCTION mine() RETURNS int LANGUAGE sql RETURN 1",
    "alter": "ALTER TABLE symbols ADD COLUMN mine int",
    "drop": "DROP TABLE dividends",
    "index": "CREATE INDEX ON symbols (name)",
    "trigger": "CREATE TRIGGER t BEFORE INSERT ON symbols FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "disable triggers": "ALTER TABLE audit_trail DISABLE TRIGGER ALL",
    "grant": "GRANT ALL ON symbols TO PUBLIC; SELECT 1 / (CASE WHEN has_table_privilege('tickstock_reader', 'symbols', 'insert') "
    "THEN 1 ELSE 0 END)",
    "become another": "SET ROLE tickstock_owner",
    "write the revision": "UPDATE schema_revision SET version_num = 'x'",
    "read a file": "COPY symbols FROM '/etc/hostname'",
    "run a program": "COPY symbols FROM PROGRAM 'true'",
}  # fmt: skip
MERELY_WARNED_OF = {"grant"}  # PostgreSQL grants nothing, with a warning


@pytest.mark.parametrize("statement", [*WRITES.values(), "CREATE TEMP TABLE mine (x int)"], ids=[*WRITES, "temporary"])
def test_the_reader_writes_nothing(market: Market, statement: str) -> None:
    assert "permission denied" in refused(lambda: market.run(READER, statement))


@pytest.mark.parametrize("role", [APP, READER])
@pytest.mark.parametrize("name", CHANGES_OF_TABLES)
def test_neither_app_nor_reader_changes_a_table(market: Market, role: str, name: str) -> None:
    if name in MERELY_WARNED_OF:
        with pytest.raises(psycopg.errors.DivisionByZero):
            market.run(role, CHANGES_OF_TABLES[name])
    else:
        said = refused(lambda: market.run(role, CHANGES_OF_TABLES[name]))
        assert "permission denied" in said or "must be owner" in said


@pytest.mark.parametrize("role", EVERYBODY)
@pytest.mark.parametrize(
    "statement", ["UPDATE audit_trail SET actor = 'nobody'", "DELETE FROM audit_trail", "TRUNCATE audit_trail"]
)
def test_no_role_changes_what_the_audit_trail_says(market: Market, role: str, statement: str) -> None:
    assert "permission denied for table audit_trail" in refused(lambda: market.run(role, statement))
    assert market.run(role, "SELECT count(*) FROM audit_trail WHERE entity_id = 'AAPL'") == [(1,)]


def test_an_administrator_who_has_every_right_is_stopped_by_the_trigger(market: Market) -> None:
    for statement in ("UPDATE audit_trail SET actor = 'nobody'", "DELETE FROM audit_trail", "TRUNCATE audit_trail"):
        with connect(market.url) as connection, pytest.raises(psycopg.Error, match="audit_trail is append-only"):
            connection.execute(statement.encode())


def test_the_app_adds_to_the_audit_trail_and_the_reader_does_not(market: Market) -> None:
    market.run(APP, ENTRY)
    assert market.run(APP, "SELECT actor FROM audit_trail WHERE entity_id = 'IBM'") == [(APP,)]
    assert "permission denied" in refused(lambda: market.run(READER, ENTRY))


def test_the_app_merges_corrects_and_removes(fresh: Market) -> None:
    engine = open_engine(fresh.of(APP))
    with engine.begin() as connection:
        assert merge(connection, "ohlcv_daily", daily_bar(11.0)).inserted == 1
    with engine.begin() as connection:
        assert merge(connection, "ohlcv_daily", daily_bar(11.5)).corrected == 1
    with engine.begin() as connection:
        assert merge(connection, "ohlcv_daily", daily_bar(11.5)).unchanged == 1
    split = pd.DataFrame(
        [{"symbol": "AAPL", "execution_date": date(2024, 1, 2), "source": "sample", "split_from": 1.0, "split_to": 2.0}]
    )
    with engine.begin() as connection:
        assert merge(connection, "splits", split).inserted == 1
    with engine.begin() as connection:
        assert merge(connection, "splits", split.iloc[:0], Scope(where={"source": ["sample"]})).removed == 1
    engine.dispose()
    assert fresh.run(READER, "SELECT close::text FROM ohlcv_daily") == [("11.50000000",)]


def test_the_app_counts_the_connections_of_every_role_and_no_worker_of_the_server(market: Market) -> None:
    engine = open_engine(market.of(APP))
    with connect(market.of(READER)) as other, connect(market.url) as administrators, engine.connect() as connection:
        for one, name in ((other, "a_notebook"), (administrators, "an_administrator")):
            one.execute(sql.SQL("SET application_name = {}").format(name))
        found = measurements.connections(connection)
        # What another role is doing stays its own.
        assert ("a_notebook", "unknown", 1) in found
        assert ("an_administrator", "unknown", 1) in found

        def is_every_client_counted() -> bool:
            connection.rollback()  # within a transaction the server tells the same each time
            in_all = administrators.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
            )
            # Without the one that asks.
            return in_all.fetchall() == [(sum(number for *_, number in measurements.connections(connection)) + 1,)]

        wait_until(is_every_client_counted)  # those of earlier tests may be about to end
    engine.dispose()


def test_an_insert_into_events_names_the_table_to_use_instead(market: Market) -> None:
    with pytest.raises(psycopg.Error) as error:
        market.run(APP, "INSERT INTO events (symbol) VALUES ('AAPL')")
    assert not isinstance(error.value, psycopg.errors.InsufficientPrivilege)


def test_the_owner_migrates_down_and_up_and_the_rights_are_there_again(bare: Market) -> None:
    bare.set_up()  # before there is any table
    engine = open_engine(bare.of(OWNER))
    for _ in range(2):
        migrate.upgrade(engine)
        owners = "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        assert bare.run(OWNER, owners) == [(OWNER,)]
        bare.run(APP, "INSERT INTO symbols (symbol) VALUES ('AAPL')")
        bare.run(APP, ENTRY)
        assert bare.run(READER, "SELECT symbol FROM symbols") == [("AAPL",)]
        assert "permission denied" in refused(lambda: bare.run(APP, "DELETE FROM audit_trail"))
        assert "permission denied" in refused(lambda: bare.run(APP, "DELETE FROM schema_revision"))
        migrate.downgrade(engine, "base")
    engine.dispose()


def test_tables_of_later_migrations_are_covered_whoever_runs_them(fresh: Market) -> None:
    fresh.run(OWNER, "CREATE TABLE later (x int GENERATED ALWAYS AS IDENTITY, y int)")
    fresh.run(APP, "INSERT INTO later (y) VALUES (1)")
    assert fresh.run(READER, "SELECT x, y FROM later") == [(1, 1)]
    assert "permission denied" in refused(lambda: fresh.run(READER, "DELETE FROM later"))
    with connect(fresh.url) as connection:
        connection.execute("CREATE TABLE an_administrators (x int)")
    engine = open_engine(fresh.url)
    migrate.upgrade(engine)  # nothing to migrate, and yet
    engine.dispose()
    fresh.run(APP, "INSERT INTO an_administrators VALUES (1)")
    assert fresh.run(OWNER, "DROP TABLE an_administrators") == []


def test_who_is_none_of_the_roles_is_shut_out(market: Market, administrator: URL) -> None:
    stranger = f"stranger_{uuid.uuid4().hex}"
    with connect(administrator) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'x'").format(sql.Identifier(stranger)))
        try:
            for database in (str(market.url.database), market.dagster):
                with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
                    connect(market.url.set(username=stranger, password="x", database=database))
        finally:
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(stranger)))


def test_dagsters_own_database_is_the_apps_to_make_tables_in_and_nobody_elses(fresh: Market) -> None:
    with connect(fresh.of(APP).set(database=fresh.dagster)) as connection:
        connection.execute("CREATE TABLE runs (id int)")
        connection.execute("ALTER TABLE runs ADD COLUMN status text")
    for role in (OWNER, READER):
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            connect(fresh.of(role).set(database=fresh.dagster))


def test_a_dagster_database_that_is_there_already_is_handed_over_with_its_tables(fresh: Market) -> None:
    with connect(fresh.url.set(database=fresh.dagster)) as connection:
        connection.execute("CREATE TABLE made_before (id serial)")
    fresh.set_up()
    with connect(fresh.of(APP).set(database=fresh.dagster)) as connection:
        connection.execute("INSERT INTO made_before DEFAULT VALUES")
        connection.execute("ALTER TABLE made_before ADD COLUMN status text")


def test_setting_up_twice_changes_nothing(market: Market) -> None:
    rights = """
        SELECT relname, pg_get_userbyid(relowner), relacl::text FROM pg_class WHERE relnamespace = 'public'::regnamespace
        UNION ALL SELECT proname, pg_get_userbyid(proowner), proacl::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace
        UNION ALL SELECT datname, pg_get_userbyid(datdba), datacl::text FROM pg_database
                  WHERE datname LIKE current_database() || '%'
        UNION ALL SELECT defaclobjtype::text, pg_get_userbyid(defaclrole), defaclacl::text FROM pg_default_acl
        UNION ALL SELECT nspname, pg_get_userbyid(nspowner), nspacl::text FROM pg_namespace
        ORDER BY 1, 2, 3
    """
    with connect(market.url) as connection:
        before = connection.execute(rights).fetchall()
        market.set_up()
        assert connection.execute(rights).fetchall() == before


def test_a_role_keeps_its_password_when_none_is_given(market: Market) -> None:
    roles.set_up(market.url, market.dagster, {})
    assert market.run(READER, "SELECT 1") == [(1,)]


def test_a_password_is_stored_as_a_verifier(market: Market) -> None:
    with connect(market.url) as connection:
        [(stored,)] = connection.execute("SELECT rolpassword FROM pg_authid WHERE rolname = %s", [APP]).fetchall()
    assert str(stored).startswith("SCRAM-SHA-256$")


def test_a_database_that_was_not_set_up_is_left_alone_by_migrations(bare: Market) -> None:
    engine = open_engine(bare.url)
    migrate.upgrade(engine)
    assert not roles.is_set_up(engine)
    with engine.connect() as connection:
        owners = connection.execute(
            text("SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relnamespace = 'public'::regnamespace")
        ).scalars()
        assert OWNER not in set(owners)
    engine.dispose()


@pytest.fixture
def landlord(tcp_server: TcpServer) -> Iterator[Callable[[str], Market]]:
    """Makes a database whose owner is no superuser, with these attributes."""
    made: list[str] = []

    def make(attributes: str) -> Market:
        name = f"landlord_{uuid.uuid4().hex}"
        made.append(name)
        tcp_server.execute(sql.SQL(f"CREATE ROLE {name} LOGIN PASSWORD 'x' {attributes}"))  # type: ignore[arg-type]
        tcp_server.execute(sql.SQL(f"CREATE DATABASE {name} OWNER {name}"))  # type: ignore[arg-type]
        return Market(make_url(tcp_server.url(name, name, "x")), f"{name}_dagster")

    yield make
    for name in made:
        for database in (name, f"{name}_dagster"):
            tcp_server.execute(sql.SQL(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)"))  # type: ignore[arg-type]


def test_it_takes_a_landlord_who_may_create_roles_and_databases(
    landlord: Callable[[str], Market], tcp_server: TcpServer
) -> None:
    # Roles of the whole server that another made are not the landlord's to hand on.
    for role in EVERYBODY:
        tcp_server.execute(sql.SQL(f"DROP ROLE IF EXISTS {role}"))  # type: ignore[arg-type]
    own = landlord("CREATEROLE CREATEDB")
    engine = open_engine(own.url)
    migrate.upgrade(engine)
    own.set_up()
    own.set_up()
    migrate.upgrade(engine)
    engine.dispose()
    own.run(APP, "INSERT INTO symbols (symbol) VALUES ('AAPL')")
    assert own.run(READER, "SELECT symbol FROM symbols") == [("AAPL",)]
    assert own.run(OWNER, "ALTER TABLE symbols ADD COLUMN mine int") == []


def test_anyone_else_is_told_who_can(landlord: Callable[[str], Market]) -> None:
    with pytest.raises(DatabaseError, match="expected an administrator's role, found landlord_") as error:
        landlord("").set_up()
    assert "permission denied" in str(error.value)


def test_no_password_reaches_the_servers_log(tcp_server: TcpServer) -> None:
    tcp_server.execute(sql.SQL("ALTER SYSTEM SET log_statement = 'all'"))
    tcp_server.execute(sql.SQL("SELECT pg_reload_conf()"))
    with new_market(make_url(tcp_server.url("postgres"))) as own:
        own.set_up()
    log = tcp_server.log.read_text()
    tcp_server.execute(sql.SQL("ALTER SYSTEM RESET log_statement"))
    tcp_server.execute(sql.SQL("SELECT pg_reload_conf()"))
    assert 'ALTER ROLE "tickstock_app" PASSWORD ' in log
    assert not any(password in log for password in ("Gr8!", "app-w", "reader-word"))


@pytest.mark.tiers("community")
def test_policies_are_the_owners_whoever_made_them(market: Market) -> None:
    owners = "SELECT DISTINCT owner::text FROM timescaledb_information.jobs WHERE job_id >= 1000"
    assert market.run(OWNER, owners) == [(OWNER,)]
    [(job,)] = market.run(OWNER, "SELECT min(job_id) FROM timescaledb_information.jobs WHERE job_id >= 1000")
    assert market.run(OWNER, f"SELECT (alter_job({job}, scheduled => true)).job_id") == [(job,)]
    for role in (APP, READER):
        assert "insufficient permissions" in refused(
            lambda role=role: market.run(role, f"SELECT alter_job({job}, scheduled => false)")
        )
