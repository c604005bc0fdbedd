"""Servers and databases the tests share: a real embedded PostgreSQL, and a TimescaleDB where its address is given."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Engine, create_engine, make_url, text

from tickstock_assets.storage import embedded, migrate, placement
from tickstock_assets.storage.database import open_engine

TIMESCALEDB_URL = os.environ.get("TICKSTOCK_TEST_TIMESCALEDB_URL")


@pytest.fixture(scope="session")
def shared_home() -> Iterator[Path]:
    """A home whose embedded server all tests of this session share, each with a database of its own."""
    home = Path(tempfile.mkdtemp(prefix="tickstock-test-"))
    yield home
    embedded.release(home)
    embedded.destroy(home)
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session", params=["embedded", *(["timescaledb"] if TIMESCALEDB_URL else [])])
def server(request: pytest.FixtureRequest) -> URL:
    """The address of each server there is to test on, without a database."""
    if request.param == "timescaledb":
        assert TIMESCALEDB_URL
        return make_url(TIMESCALEDB_URL)
    home: Path = request.getfixturevalue("shared_home")
    return make_url(embedded.acquire(home).url("postgres"))


@pytest.fixture
def empty_database(server: URL) -> Iterator[Engine]:
    """A new database without a schema."""
    name = f"test_{uuid.uuid4().hex}"
    admin = create_engine(server.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine = open_engine(server.set(database=name))
    yield engine
    engine.dispose()
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture
def database(empty_database: Engine) -> Engine:
    """A new database with the newest schema and no rows."""
    migrate.upgrade(empty_database)
    return empty_database


def pytest_report_header() -> list[str]:
    """Name the servers that the tests run on."""
    version = subprocess.run(
        [placement.binaries(None) / "postgres", "--version"], capture_output=True, text=True, check=True
    )
    lines = [f"embedded: {version.stdout.strip()}"]
    if TIMESCALEDB_URL is None:
        return [
            *lines,
            "TimescaleDB: none, TICKSTOCK_TEST_TIMESCALEDB_URL is not set; tests run on the embedded server only",
        ]
    engine = create_engine(make_url(TIMESCALEDB_URL).set(drivername="postgresql+psycopg"))
    with contextlib.closing(engine.connect()) as connection:
        version = connection.execute(text("SHOW server_version")).scalar_one()
        timescale = connection.execute(
            text("SELECT default_version FROM pg_available_extensions WHERE name = 'timescaledb'")
        ).scalar()
    engine.dispose()
    return [*lines, f"TimescaleDB: {timescale} on PostgreSQL {version}"]


def tickstock(*arguments: str, home: Path, timeout: float = 300, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the real command in a process of its own, on a home, with only the variables named."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "TICKSTOCK_HOME": str(home),
        **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")},
        **variables,
    }
    command = [str(Path(sys.executable).parent / "tickstock"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment, check=False)


@pytest.fixture
def home() -> Iterator[Path]:
    """A home of a test's own, whose embedded server ends with the test."""
    folder = Path(tempfile.mkdtemp(prefix="tickstock-test-"))
    yield folder
    embedded.release(folder)
    embedded.destroy(folder)
    shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Demo:
    """A home in which `tickstock demo` has run once, undisturbed, and what it said with --json."""

    home: Path
    summary: dict[str, Any]


@pytest.fixture(scope="session")
def demo() -> Iterator[Demo]:
    """The demo's result, computed once for all tests that only read it."""
    folder = Path(tempfile.mkdtemp(prefix="tickstock-test-"))
    result = tickstock("demo", "--json", home=folder)
    assert result.returncode == 0, result.stderr
    yield Demo(folder, json.loads(result.stdout))
    embedded.release(folder)
    embedded.destroy(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def demo_database(demo: Demo) -> Iterator[Engine]:
    """The database that the demo filled; tests only read it."""
    engine = open_engine(make_url(embedded.acquire(demo.home).url("tickstock")))
    yield engine
    engine.dispose()
