"""Roles, dumps and exports as people type them, on a server that wants passwords."""

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pyarrow.dataset as ds
import pytest
from psycopg import sql

from tests.conftest import Demo, tickstock
from tests.storage.tcp_server import TcpServer, running_tcp_server

PASSWORDS = {"owner": "owner's word", "app": "app%word", "reader": "reader-word"}
GIVEN = {f"TICKSTOCK_{role.upper()}_PASSWORD": password for role, password in PASSWORDS.items()}


@pytest.fixture(scope="module")
def tcp_server() -> Iterator[TcpServer]:
    with running_tcp_server() as server:
        yield server


def url(server: TcpServer, role: str) -> str:
    return server.url(user=f"tickstock_{role}", password=PASSWORDS[role])


def test_from_an_empty_server_each_role_does_its_work_and_no_others(
    home: Path, tcp_server: TcpServer, demo: Demo, tmp_path: Path
) -> None:
    def run(role: str, *verb: str) -> str:
        """Return what a verb says as a role: its output, or the sentence with which it refuses."""
        address = tcp_server.url() if role == "admin" else url(tcp_server, role)
        done = tickstock(*verb, home=home, TICKSTOCK_DATABASE_URL=address, **(GIVEN if role == "admin" else {}))
        assert not any(password in done.stdout + done.stderr for password in PASSWORDS.values())
        assert (done.returncode, bool(done.stderr)) in {(0, False), (2, True)}, done.stderr
        return done.stderr or done.stdout

    assert "tickstock_reader" in run("admin", "db", "roles")
    assert "may not do this (permission denied for schema public)" in run("app", "db", "migrate")
    assert run("owner", "db", "migrate").startswith("Schema revision: ")
    assert "may not do this (permission denied" in run("reader", "seed")
    assert json.loads(run("app", "demo", "--json")) == demo.summary  # Dagster's database is the app's
    assert len(json.loads(run("reader", "bars", "AAPL", "--json"))) == 3270
    assert json.loads(run("reader", "db", "status", "--json"))["rows"]["ohlcv_daily"] == 12_154

    dumped = run("owner", "db", "dump", str(tmp_path / "market.dump"))
    assert " rows of " in dumped
    assert "expected a role that may create databases" in run(
        "owner", "db", "restore", str(tmp_path / "market.dump"), "--replace"
    )
    tcp_server.execute(sql.SQL("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'tickstock'"))
    assert " restored, as they were at " in run("admin", "db", "restore", str(tmp_path / "market.dump"), "--replace")
    assert len(json.loads(run("reader", "bars", "AAPL", "--json"))) == 3270  # with the rights it had
    assert "may not do this (permission denied" in run("reader", "seed")
    assert "12,154 rows of 1 tables" in run("reader", "export", str(tmp_path / "bars"), "--tables", "ohlcv_daily")


def test_roles_are_made_by_an_administrator_only(home: Path, tcp_server: TcpServer) -> None:
    tcp_server.execute(sql.SQL("CREATE ROLE trader LOGIN PASSWORD {}").format(tcp_server.password))
    tcp_server.execute(sql.SQL("CREATE DATABASE traders OWNER trader"))
    done = tickstock("db", "roles", home=home, TICKSTOCK_DATABASE_URL=tcp_server.url("traders", "trader"), **GIVEN)
    assert (done.returncode, done.stdout) == (2, "")
    assert "expected an administrator's role, found trader that may not do everything" in done.stderr


def test_an_export_of_the_demo_is_read_by_others(demo: Demo, tmp_path: Path) -> None:
    arguments = [
        "--tables",
        "ohlcv_daily,splits",
        "--symbols",
        "AAPL,IBM",
        "--from",
        "2005-02-28",
        "--to",
        "2005-03-01",
        "--json",
    ]
    done = tickstock("export", str(tmp_path / "bars"), *arguments, home=demo.home)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["rows"] == {"ohlcv_daily": 4, "splits": 1}
    rows = ds.dataset(tmp_path / "bars" / "table=ohlcv_daily", partitioning="hive").to_table().to_pylist()
    # Apple's split of 2:1 on that day, as the vendored file has its close.
    [close] = [row["close"] for row in rows if row["symbol"] == "AAPL" and str(row["date"]) == "2005-02-28"]
    assert close == Decimal("44.86000000")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--tables", "bars"], "--tables bars: expected a table, found none of that name; there are "),
        (["--symbols", "NOPE"], "--symbols NOPE: expected a known symbol, found none of that name; known symbols are AAPL, FB"),
        (["--from", "2012-01-02", "--to", "2012-01-01"], "--to: expected a day on or after --from 2012-01-02"),
    ],
)  # fmt: skip
def test_an_export_refuses_in_a_sentence(arguments: list[str], said: str, demo: Demo, tmp_path: Path) -> None:
    done = tickstock("export", str(tmp_path / "bars"), *arguments, home=demo.home)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"tickstock: {said}")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_dump_is_refused_in_a_sentence(home: Path, tmp_path: Path) -> None:
    done = tickstock("db", "restore", str(tmp_path / "nothing.dump"), home=home)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"tickstock: {tmp_path}/nothing.dump: expected a dump of `tickstock db dump`")
