"""The database servers a test run has, by tier: which there are, why one is not, and databases made in them."""

import contextlib
import subprocess
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from tests.storage import debian_timescaledb
from tickstock_assets.storage import placement

EMBEDDED, APACHE, COMMUNITY = "embedded", "apache", "community"
ALL = (EMBEDDED, APACHE, COMMUNITY)
TIMESCALEDB = (APACHE, COMMUNITY)
LICENSES = {"apache": APACHE, "timescale": COMMUNITY}


class WrongAddressError(Exception):
    """The TimescaleDB that the tests were told to use will not do; the message says why."""


@dataclass(frozen=True)
class Tiers:
    """What a run has: versions by tier, reasons by tier that is missing, and where the servers come from.

    `given` is the server of the address in the environment, of tier `given_tier`; `root` is where ours would run.
    """

    versions: dict[str, str]
    missing: dict[str, str]
    given: URL | None
    given_tier: str | None
    root: debian_timescaledb.Root | None

    def lines(self) -> list[str]:
        """Return a line for each tier, for the header of the run."""
        return [
            f"{tier}: {self.versions[tier]}" if tier in self.versions else f"{tier}: none, {self.missing[tier]}"
            for tier in ALL
        ]

    def of(self, wanted: Sequence[str]) -> list[str]:
        """Return those of the wanted tiers that this run has."""
        return [tier for tier in ALL if tier in wanted and tier in self.versions]


def find_tiers(variable: str, address: str | None, say: Callable[[str], object]) -> Tiers:
    """Look which tiers there are; an Apache edition that is not given is set up where that is possible.

    Args:
        variable: name of the environment's variable with the address, for messages.
        address: of a TimescaleDB server, `postgresql://superuser:password@host:port/database`, or None.
        say: is told what takes long.

    Raises:
        WrongAddressError: no TimescaleDB answers at the address.
    """
    postgres = [str(placement.binaries(None) / "postgres"), "--version"]
    version = subprocess.run(postgres, capture_output=True, text=True, check=True).stdout.split()[-1]
    versions = {EMBEDDED: f"PostgreSQL {version}"}
    missing = {COMMUNITY: f"{variable} names no such server"}
    given = given_tier = root = None
    if address:
        try:
            given = make_url(address)
            given_tier, versions_there = _look_at(given)
        except (ArgumentError, psycopg.Error) as error:
            # Not the address itself: it may hold a password.
            raise WrongAddressError(f"{variable}: expected a superuser's address of a TimescaleDB: {error}") from None
        versions[given_tier] = f"{versions_there}, as {variable} names it"
    if APACHE not in versions:
        try:
            root = debian_timescaledb.make_root(say)
            versions[APACHE] = f"{root.description()}, from packages of Debian {debian_timescaledb.SUITE}"
        except debian_timescaledb.UnavailableError as error:
            missing[APACHE] = f"{variable} names no such server, and {error}"
    return Tiers(versions, missing, given, given_tier, root)


@contextlib.contextmanager
def new_database(server: URL, template: str | None = None, *, with_timescaledb: bool = False) -> Iterator[str]:
    """Create a database, give its name, and drop it after the block.

    No job of TimescaleDB starts by itself in it, unless a test calls `_timescaledb_functions.start_background_workers`.
    """
    name = f"test_{uuid.uuid4().hex}"
    # Copying files takes a fifth of the time of logging every page, on servers that make nothing durable.
    source = sql.SQL("TEMPLATE {} STRATEGY FILE_COPY").format(sql.Identifier(template)) if template else sql.SQL("")
    with connect(server) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} {}").format(sql.Identifier(name), source))
    try:
        if with_timescaledb:
            with connect(server.set(database=name)) as connection:
                if template is None:
                    # Its greeting is a warning.
                    connection.execute("SET client_min_messages = error")
                    connection.execute("CREATE EXTENSION timescaledb")
                connection.execute("SELECT _timescaledb_functions.stop_background_workers()")
        yield name
    finally:
        with connect(server) as admin:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def close_to_connections(server: URL, database: str) -> None:
    """Let nobody connect any more, so that the database can be copied at any time."""
    with connect(server) as admin:
        admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(database)))
        admin.execute("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s", [database])


def make_nothing_durable(server: URL) -> None:
    """Spare a server of throw-away databases the waiting for the disk; it still survives being killed."""
    with connect(server) as admin:
        admin.execute("ALTER SYSTEM SET fsync = off")
        admin.execute("ALTER SYSTEM SET full_page_writes = off")
        admin.execute("SELECT pg_reload_conf()")


def connect(url: URL) -> psycopg.Connection:
    """Return a connection outside transactions."""
    address = url.set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(address, autocommit=True, connect_timeout=10)


def _look_at(server: URL) -> tuple[str, str]:
    """Return the tier and the versions of a TimescaleDB server."""
    # The setting is there only in a database with the extension.
    with new_database(server, with_timescaledb=True) as name, connect(server.set(database=name)) as connection:
        row = connection.execute(
            "SELECT current_setting('timescaledb.license'), extversion, current_setting('server_version') "
            "FROM pg_extension WHERE extname = 'timescaledb'"
        ).fetchone()
    assert row is not None
    return LICENSES[row[0]], f"TimescaleDB {row[1]} on PostgreSQL {row[2].split()[0]}"
