"""The engine's bounds, on real connections."""

import contextlib
import logging
import uuid
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Engine, make_url, text
from sqlalchemy.exc import OperationalError

from tickstock_assets.domain.errors import ConfigError, DatabaseError
from tickstock_assets.storage.arrow import ArrowPool, _address
from tickstock_assets.storage.backup import dump
from tickstock_assets.storage.client_programs import connection_arguments
from tickstock_assets.storage.database import open_engine
from tickstock_assets.storage.pool import MAINTENANCE, Limits, PoolUse, libpq_arguments, log_pool, place, pool_use

CONNECTIONS = text("SELECT count(*) FROM pg_stat_activity WHERE application_name = :name")


def test_twenty_connections_are_lent_out_and_the_next_one_is_refused_in_a_sentence(empty_database: Engine) -> None:
    name = f"pool {uuid.uuid4().hex}"
    engine = open_engine(empty_database.url, name, Limits(wait_seconds=0.2))
    with contextlib.ExitStack() as lent, empty_database.connect() as observer:
        sessions = {
            lent.enter_context(engine.connect()).execute(text("SELECT pg_backend_pid()")).scalar_one()
            for _ in range(20)
        }
        assert len(sessions) == 20
        assert observer.execute(CONNECTIONS, {"name": name}).scalar_one() == 20
        assert pool_use(engine) == PoolUse(size=5, in_use=20, max=20)
        with pytest.raises(DatabaseError) as refused:
            engine.connect()
        assert str(refused.value) == (
            "Connections: expected one of this process's 20 to be free within 0.2 s, found all in use; "
            "let some of its work end, or raise TICKSTOCK_POOL_MAX"
        )
    with engine.connect() as connection:  # one that came back
        assert connection.execute(text("SELECT 1")).scalar_one() == 1
        assert pool_use(engine) == PoolUse(size=5, in_use=1, max=20)
        assert connection.execute(CONNECTIONS, {"name": name}).scalar_one() == 5
    engine.dispose()


def test_a_session_is_in_utc_with_a_bound_on_its_statements_and_a_name(empty_database: Engine) -> None:
    engine = open_engine(empty_database.url, "a notebook")
    with engine.connect() as connection:
        said = [
            connection.execute(text(f"SHOW {name}")).scalar_one()
            for name in ("timezone", "statement_timeout", "application_name")
        ]
    engine.dispose()
    assert said == ["UTC", "10min", "a notebook"]


def test_options_of_the_address_are_kept_behind_ours(empty_database: Engine) -> None:
    url = empty_database.url.update_query_dict({"options": "-c work_mem=7MB -c timezone=Asia/Tokyo"})
    engine = open_engine(url)
    with engine.connect() as connection:
        said = [connection.execute(text(f"SHOW {name}")).scalar_one() for name in ("work_mem", "timezone")]
    engine.dispose()
    assert said == ["7MB", "UTC"]


def test_a_statement_that_takes_too_long_is_given_up_by_the_server(empty_database: Engine) -> None:
    engine = open_engine(empty_database.url, limits=Limits(statement_timeout_seconds=1))
    with engine.connect() as connection, pytest.raises(OperationalError, match="statement timeout"):
        connection.execute(text("SELECT pg_sleep(60)"))
    engine.dispose()


def test_maintenance_has_no_bound_on_its_statements(empty_database: Engine) -> None:
    engine = open_engine(empty_database.url, limits=MAINTENANCE)
    with engine.connect() as connection:
        assert connection.execute(text("SHOW statement_timeout")).scalar_one() == "0"
    engine.dispose()


def test_a_connection_that_died_in_the_pool_is_replaced_unseen(empty_database: Engine) -> None:
    engine = open_engine(empty_database.url)
    with engine.connect() as connection:
        dead = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    with empty_database.connect() as other:
        assert other.execute(text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": dead}).scalar_one()
    with engine.connect() as connection:
        assert connection.execute(text("SELECT pg_backend_pid()")).scalar_one() != dead
    engine.dispose()


def test_a_connection_is_given_up_after_an_hour(empty_database: Engine) -> None:
    engine = open_engine(empty_database.url)
    with engine.connect() as connection:
        old = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        record = connection.connection._connection_record  # type: ignore[attr-defined]
    record.starttime -= 3601
    with engine.connect() as connection:
        assert connection.execute(text("SELECT pg_backend_pid()")).scalar_one() != old
    engine.dispose()


def test_the_bounds_are_logged_without_the_password(empty_database: Engine, caplog: pytest.LogCaptureFixture) -> None:
    url = empty_database.url
    if url.password is None:  # the embedded server wants none and takes any
        url = url.set(password="open-sesame")
    engine = open_engine(url, limits=Limits(kept=2, most=3, wait_seconds=4))
    with caplog.at_level(logging.INFO, "tickstock_assets"):
        log_pool(engine, "a notebook")
    # SQLAlchemy's own pool logs below the same name where another test has made it talk.
    [line] = [record.getMessage() for record in caplog.records if record.name == "tickstock_assets.storage.pool"]
    engine.dispose()
    assert line.startswith("Connections to PostgreSQL at ")
    assert line.endswith(" as 'a notebook': 2 kept, 3 at most, 4 s wait for a free one, recycled after 3600 s")
    assert str(url.password) not in line


TWO_HOSTS = "postgresql://me:secret@/market?host=h1:5432&host=h2:5433&sslmode=require"


@pytest.mark.parametrize(
    ("address", "arguments", "name"),
    [
        (TWO_HOSTS, {"host": "h1,h2", "port": "5432,5433", "user": "me", "sslmode": "require"}, "h1:5432, h2:5433"),
        ("postgresql:///market?host=h1,h2&port=5432,5433", {"host": "h1,h2", "port": "5432,5433"}, "h1:5432, h2:5433"),
        ("postgresql:///market?host=h1&host=h2:5433", {"host": "h1,h2", "port": ",5433"}, "h1, h2:5433"),
        ("postgresql:///market?host=h1:5433", {"host": "h1", "port": "5433"}, "h1:5433"),
        ("postgresql://db.example.org:5433/market", {"host": "db.example.org", "port": 5433}, "db.example.org:5433"),
        ("postgresql:///market?host=/run/one&host=/run/two", {"host": "/run/one,/run/two"}, "/run/one, /run/two"),
        ("postgresql:///market?host=/run/one&port=5433", {"host": "/run/one", "port": "5433"}, "/run/one"),
        ("postgresql://me@/market?options=-c a=1&options=-c b=2", {"options": "-c a=1 -c b=2"}, "localhost"),
    ],
)
def test_an_address_is_the_same_for_every_program_that_connects(
    address: str, arguments: dict[str, object], name: str
) -> None:
    url = make_url(address)
    assert libpq_arguments(url).items() >= {"dbname": "market", **arguments}.items()
    assert place(url) == f"PostgreSQL at {name}"
    # Of pg_dump and of the readers of Arrow, read by libpq itself.
    wanted = {key: str(value) for key, value in arguments.items() if key != "options"}
    assert conninfo_to_dict(connection_arguments(url)[-1].removeprefix("--dbname=")).items() >= wanted.items()
    read = conninfo_to_dict(_address(url, "a notebook", Limits()))
    assert read.items() >= wanted.items()
    assert str(arguments.get("options", "")) in str(read["options"])


@pytest.mark.parametrize("hosts", ["host=h1:5432&host=h2:abc", "host=h1&host=h2&port=5432", "host=h1:1:2&host=h2:1:2"])
def test_hosts_and_ports_that_are_none_are_told_in_a_sentence(hosts: str) -> None:
    url = make_url(f"postgresql://me@/market?{hosts}")
    for connect in (open_engine, ArrowPool, connection_arguments):
        with pytest.raises(
            ConfigError, match=r"TICKSTOCK_DATABASE_URL: expected hosts with their ports, found .*; correct"
        ):
            connect(url)  # type: ignore[operator]


@pytest.mark.tiers("embedded")
def test_where_the_first_of_two_hosts_is_away_the_second_serves_every_reader(
    empty_database: Engine, tmp_path: Path
) -> None:
    # Repeated, as SQLAlchemy has it; a folder with a socket is a host too, and nobody listens in the first.
    url = empty_database.url.difference_update_query(["host", "port"])
    url = url.update_query_pairs([("host", str(tmp_path)), ("host", str(empty_database.url.query["host"]))])
    engine = open_engine(url)
    with engine.connect() as connection, ArrowPool(url) as pool:
        name = connection.execute(text("SELECT current_database()")).scalar_one()
        assert pool.read("SELECT current_database()::text AS name")["name"].to_pylist() == [name]
    engine.dispose()
    made = dump(url, tmp_path / "market.dump")
    assert made.database == name
