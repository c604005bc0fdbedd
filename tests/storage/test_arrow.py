"""Pooled connections that answer with Arrow: bound, renewed, never shared with a child, none left behind."""

import os
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime
from uuid import uuid4

import pyarrow as pa
import pytest
from sqlalchemy import Engine, make_url, text

from tests.storage.servers import wait_until
from tickstock_assets.domain.errors import DatabaseError
from tickstock_assets.storage import arrow
from tickstock_assets.storage.arrow import ArrowPool
from tickstock_assets.storage.pool import Limits, PoolUse

SMALL = Limits(kept=1, most=2, wait_seconds=0.05, statement_timeout_seconds=600)
HOSTILE = "x'; DROP TABLE symbols; -- $1 :name %s {} \\ \" ünïcödé"


@pytest.fixture
def name() -> str:
    """What the server lists the connections of one test as."""
    return f"arrow {uuid4().hex[:12]}"


@pytest.fixture
def pool(database: Engine, name: str) -> Iterator[ArrowPool]:
    with ArrowPool(database.url, name, SMALL) as opened:
        yield opened


def backends(database: Engine, name: str) -> list[int]:
    with database.connect() as connection:
        found = connection.execute(
            text("SELECT pid FROM pg_stat_activity WHERE application_name = :name ORDER BY pid"), {"name": name}
        )
        return list(found.scalars())


def end_connections(database: Engine, name: str) -> None:
    with database.connect() as connection:
        connection.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = :name"),
            {"name": name},
        )
    wait_until(lambda: not backends(database, name))


def pid(pool: ArrowPool) -> int:
    return int(pool.read("SELECT pg_backend_pid() AS pid")["pid"][0].as_py())


def test_values_are_bound_and_come_back_as_they_were(pool: ArrowPool) -> None:
    moment = datetime(2024, 7, 3, 13, 30, tzinfo=UTC)
    values = [HOSTILE, date(2024, 7, 3), moment, 7, 1.5, True, [HOSTILE, "", "a,b", "{c}"]]
    types = ["text", "date", "timestamptz", "bigint", "float8", "boolean", "text[]"]
    listed = ", ".join(f"${n}::{kind} AS c{n}" for n, kind in enumerate(types, start=1))
    [row] = pool.read(f"SELECT {listed}", values).to_pylist()
    assert list(row.values()) == values


def test_answers_are_arrow_with_their_types(pool: ArrowPool) -> None:
    table = pool.read("SELECT 1.25::numeric::float8 AS price, date '2024-07-03' AS day, now() AS at, 'x'::text AS name")
    assert table.schema.types == [pa.float64(), pa.date32(), pa.timestamp("us", "UTC"), pa.string()]


def test_connections_are_in_utc_named_and_bounded_in_time(pool: ArrowPool, name: str) -> None:
    [row] = pool.read(
        "SELECT current_setting('TimeZone') AS zone, current_setting('statement_timeout') AS timeout, "
        "current_setting('application_name') AS name"
    ).to_pylist()
    assert row == {"zone": "UTC", "timeout": "10min", "name": name}


def test_options_of_the_address_are_kept(database: Engine) -> None:
    url = database.url.update_query_dict({"options": "-c work_mem=7MB"})
    with ArrowPool(url) as pool:
        [row] = pool.read("SELECT current_setting('work_mem') AS m, current_setting('TimeZone') AS z").to_pylist()
    assert row == {"m": "7MB", "z": "UTC"}


def test_one_connection_serves_again(pool: ArrowPool, database: Engine, name: str) -> None:
    assert pid(pool) == pid(pool)
    assert len(backends(database, name)) == 1


def test_an_error_of_a_statement_leaves_the_connection_as_good_as_before(pool: ArrowPool) -> None:
    before = pid(pool)
    with pytest.raises(arrow.adbc_driver_manager.DataError, match="division by zero"):
        pool.read("SELECT 1 / 0")
    assert pid(pool) == before


def test_a_connection_that_the_server_ended_a_moment_ago_is_replaced(
    pool: ArrowPool, database: Engine, name: str
) -> None:
    before = pid(pool)
    end_connections(database, name)
    assert pid(pool) != before


def test_a_connection_that_ended_while_idle_is_found_dead_before_it_is_lent(
    pool: ArrowPool, database: Engine, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrow, "PING_AFTER_IDLE_SECONDS", 0.0)
    before = pid(pool)
    end_connections(database, name)
    assert pool._read_once("SELECT pg_backend_pid() AS pid", ())["pid"][0].as_py() != before


def test_threads_share_the_connections_and_wait_for_none_beyond_the_bound(database: Engine, name: str) -> None:
    limits = Limits(kept=2, most=3, wait_seconds=60)
    found: list[int] = []
    with ArrowPool(database.url, name, limits) as pool:

        def read() -> None:
            for n in range(20):
                table = pool.read("SELECT count(*) AS n FROM generate_series(1, $1::bigint)", [n])
                found.append(table["n"][0].as_py() - n)

        threads = [threading.Thread(target=read) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert pool.use() == PoolUse(size=2, in_use=0, max=3)
        assert len(backends(database, name)) <= 3
    assert found == [0] * 120


def test_when_all_are_lent_out_the_refusal_names_the_bound(pool: ArrowPool) -> None:
    with pool._lent(), pool._lent():
        assert pool.use() == PoolUse(size=1, in_use=2, max=2)
        with pytest.raises(DatabaseError, match=r"expected one of this process's 2 to be free.*TICKSTOCK_POOL_MAX"):
            pool.read("SELECT 1")
    assert pool.use().in_use == 0


def test_closing_leaves_no_connection(database: Engine, name: str) -> None:
    with ArrowPool(database.url, name) as pool:
        pool.read("SELECT 1")
        assert len(backends(database, name)) == 1
    wait_until(lambda: not backends(database, name))


def test_a_pool_that_nobody_closed_closes_with_its_last_reference(database: Engine, name: str) -> None:
    pool = ArrowPool(database.url, name)
    pool.read("SELECT 1")
    del pool
    wait_until(lambda: not backends(database, name))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_connections_of_its_own_and_leaves_the_parents_alone(pool: ArrowPool) -> None:
    before = pid(pool)
    receiving, sending = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(sending, str(pid(pool)).encode())
            pool.close()
        finally:
            os._exit(0)
    os.close(sending)
    with os.fdopen(receiving) as answer:
        of_child = answer.read()
    assert os.waitpid(child, 0)[1] == 0
    assert of_child
    assert int(of_child) != before
    assert pid(pool) == before


def test_an_answer_that_takes_too_long_is_one_sentence(database: Engine) -> None:
    with (
        ArrowPool(database.url, limits=Limits(statement_timeout_seconds=1)) as pool,
        pytest.raises(DatabaseError, match=r"expected an answer within 1 s, found none.*STATEMENT_TIMEOUT"),
    ):
        pool.read("SELECT pg_sleep(30)")


def test_a_server_that_is_not_there_is_one_sentence_without_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow, "ATTEMPTS", 1)
    url = make_url("postgresql://someone:secret-word@127.0.0.1:1/nowhere")
    with ArrowPool(url) as pool, pytest.raises(DatabaseError, match="cannot be reached") as caught:
        pool.read("SELECT 1")
    assert "secret-word" not in str(caught.value)
