"""Servers and databases the tests share: a real embedded PostgreSQL, and a TimescaleDB where its address is given."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

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
    version = subprocess.run([placement.binaries(None) / "postgres", "--version"], capture_output=True, text=True, check=True)
    lines = [f"embedded: {version.stdout.strip()}"]
    if TIMESCALEDB_URL is None:
        return [*lines, "TimescaleDB: none, TICKSTOCK_TEST_TIMESCALEDB_URL is not set; tests run on the embedded server only"]
    engine = create_engine(make_url(TIMESCALEDB_URL).set(drivername="postgresql+psycopg"))
    with contextlib.closing(engine.connect()) as connection:
        version = connection.execute(text("SHOW server_version")).scalar_one()
        timescale = connection.execute(
            text("SELECT default_version FROM pg_available_extensions WHERE name = 'timescaledb'")
        ).scalar()
    engine.dispose()
    return [*lines, f"TimescaleDB: {timescale} on PostgreSQL {version}"]
