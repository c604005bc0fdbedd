"""Transactions that a real server breaks: done again where that helps, and only there."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
import sqlalchemy.exc
from sqlalchemy import Connection, Engine, make_url, text

from tests.storage.servers import postmaster_pid
from tickstock_assets.domain.errors import DatabaseError
from tickstock_assets.storage import embedded, retry
from tickstock_assets.storage.database import driver, open_engine
from tickstock_assets.storage.pool import Limits
from tickstock_assets.storage.retry import in_transaction, is_transient


@pytest.fixture
def accounts(empty_database: Engine) -> Engine:
    """Two accounts, `a` and `b`, of 0 each."""
    with empty_database.begin() as connection:
        connection.execute(text("CREATE TABLE accounts (name text PRIMARY KEY, amount integer NOT NULL)"))
        connection.execute(text("INSERT INTO accounts VALUES ('a', 0), ('b', 0)"))
    return empty_database


def amounts(engine: Engine) -> dict[str, int]:
    with engine.connect() as connection:
        return {row.name: row.amount for row in connection.execute(text("SELECT name, amount FROM accounts"))}


def add_one(connection: Connection, name: str) -> None:
    connection.execute(text("UPDATE accounts SET amount = amount + 1 WHERE name = :name"), {"name": name})


def test_work_is_committed_and_its_result_returned(accounts: Engine) -> None:

    def work(connection: Connection) -> str:
        add_one(connection, "a")
        return "done"

    assert in_transaction(accounts, work) == "done"
    assert amounts(accounts) == {"a": 1, "b": 0}


def test_of_two_in_a_deadlock_both_come_through_and_each_counts_once(accounts: Engine) -> None:
    both_hold_one = threading.Barrier(2)
    attempts: list[str] = []

    def transfer(first: str, second: str) -> None:
        def work(connection: Connection) -> None:
            is_first_time = first not in attempts
            attempts.append(first)
            add_one(connection, first)
            if is_first_time:
                both_hold_one.wait(30)
            add_one(connection, second)

        in_transaction(accounts, work)

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(transfer, "a", "b"), pool.submit(transfer, "b", "a")]:
            future.result(60)
    assert len(attempts) == 3  # one of the two was the server's victim
    assert amounts(accounts) == {"a": 2, "b": 2}


def test_what_cannot_be_serialized_is_done_again_on_what_the_other_left(accounts: Engine) -> None:
    seen: list[int] = []
    serializable = accounts.execution_options(isolation_level="SERIALIZABLE")

    def work(connection: Connection) -> None:
        seen.append(connection.execute(text("SELECT amount FROM accounts WHERE name = 'a'")).scalar_one())
        if len(seen) == 1:  # another one changes it meanwhile
            with accounts.begin() as other:
                add_one(other, "a")
        connection.execute(text("UPDATE accounts SET amount = :new WHERE name = 'a'"), {"new": seen[-1] + 10})

    in_transaction(serializable, work)
    assert seen == [0, 1]
    assert amounts(accounts) == {"a": 11, "b": 0}


@pytest.mark.parametrize("below", [False, True], ids=["through SQLAlchemy", "through the driver"])
def test_a_connection_that_is_terminated_in_the_middle_is_replaced_and_the_whole_done_again(
    accounts: Engine, *, below: bool
) -> None:
    sessions: list[int] = []

    def work(connection: Connection) -> None:
        add_one(connection, "a")
        sessions.append(driver(connection).info.backend_pid)
        if len(sessions) == 1:
            with accounts.connect() as other:
                assert other.execute(text("SELECT pg_terminate_backend(:p, 10000)"), {"p": sessions[0]}).scalar_one()
        if below:
            driver(connection).execute("UPDATE accounts SET amount = amount + 1 WHERE name = 'b'")
        else:
            add_one(connection, "b")

    in_transaction(accounts, work)
    assert len(set(sessions)) == 2
    assert amounts(accounts) == {"a": 1, "b": 1}


@pytest.fixture
def embedded_accounts(home: Path) -> Iterator[Engine]:
    server = embedded.acquire(home)
    engine = open_engine(make_url(server.url("postgres")))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE accounts (name text PRIMARY KEY, amount integer NOT NULL)"))
        connection.execute(text("INSERT INTO accounts VALUES ('a', 0), ('b', 0)"))
    yield engine
    engine.dispose()


def test_an_embedded_server_that_is_killed_in_the_middle_is_waited_for(embedded_accounts: Engine, home: Path) -> None:
    attempts: list[bool] = []

    def work(connection: Connection) -> None:
        add_one(connection, "a")
        attempts.append(True)
        if len(attempts) == 1:
            os.kill(postmaster_pid(home), signal.SIGKILL)
            # The session outlives its postmaster for a moment; a server that is gone has none.
            driver(connection).close()
        add_one(connection, "b")

    in_transaction(embedded_accounts, work)
    assert len(attempts) == 2
    assert amounts(embedded_accounts) == {"a": 1, "b": 1}


WRONG = {
    "a unique violation": "INSERT INTO accounts VALUES ('a', 1)",
    "a missing value": "INSERT INTO accounts VALUES ('c', NULL)",
    "a syntax error": "SELEKT 1",
    "a division by zero": "SELECT 1 / 0",
    "a statement that takes too long": "SET LOCAL statement_timeout = '20ms'; SELECT pg_sleep(60)",
    "a lock that is not had in time": "SET LOCAL lock_timeout = '20ms'; UPDATE accounts SET amount = 5 WHERE name = 'b'",
}


@pytest.mark.parametrize("below", [False, True], ids=["through SQLAlchemy", "through the driver"])
@pytest.mark.parametrize("statement", WRONG.values(), ids=WRONG.keys())
def test_what_would_fail_again_is_tried_once(statement: str, accounts: Engine, *, below: bool) -> None:
    attempts: list[bool] = []

    def work(connection: Connection) -> None:
        attempts.append(True)
        add_one(connection, "a")
        if below:
            driver(connection).execute(statement.encode())
        else:
            connection.exec_driver_sql(statement)

    with accounts.begin() as other:
        add_one(other, "b")  # and holds its lock
        with pytest.raises((psycopg.Error, sqlalchemy.exc.DBAPIError)):
            in_transaction(accounts, work)
    assert len(attempts) == 1
    assert amounts(accounts) == {"a": 0, "b": 1}


def test_an_error_of_the_work_itself_is_raised_as_it_is(accounts: Engine) -> None:
    def work(connection: Connection) -> None:
        add_one(connection, "a")
        raise ValueError("wrong frame")

    with pytest.raises(ValueError, match="wrong frame"):
        in_transaction(accounts, work)
    assert amounts(accounts) == {"a": 0, "b": 0}


def test_what_never_gets_through_is_given_up_in_a_sentence(accounts: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "ATTEMPTS", 3)
    attempts: list[bool] = []

    def work(connection: Connection) -> None:
        attempts.append(True)
        add_one(connection, "a")
        connection.exec_driver_sql("DO $$ BEGIN RAISE 'as if' USING ERRCODE = 'serialization_failure'; END $$")

    with pytest.raises(DatabaseError) as refused:
        in_transaction(accounts, work)
    assert "expected a transaction to go through, found 'as if' after 3 attempts" in str(refused.value)
    assert len(attempts) == 3
    assert amounts(accounts) == {"a": 0, "b": 0}


def test_a_full_pool_is_not_waited_for_twice(accounts: Engine) -> None:
    engine = open_engine(accounts.url, limits=Limits(kept=1, most=1, wait_seconds=0.1))
    with engine.connect(), pytest.raises(DatabaseError, match="found all in use"):
        in_transaction(engine, lambda connection: add_one(connection, "a"))
    engine.dispose()


def test_a_server_that_refuses_us_for_good_is_asked_once(accounts: Engine) -> None:
    address = accounts.url.set(drivername="postgresql", database="no_such_database")
    with pytest.raises(psycopg.OperationalError, match="does not exist") as refused:
        psycopg.connect(address.render_as_string(hide_password=False))
    assert not is_transient(refused.value)


def test_a_server_that_is_not_there_may_come_back(tmp_path: Path) -> None:
    with pytest.raises(psycopg.OperationalError) as refused:
        psycopg.connect(host=str(tmp_path), dbname="tickstock")
    assert is_transient(refused.value)
