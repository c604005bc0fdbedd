"""The servers, databases and homes that tests share: an embedded PostgreSQL and what TimescaleDB there is."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Engine, make_url

from tests.storage import debian_timescaledb, tiers
from tests.storage.tiers import Tiers
from tickstock_assets.storage import embedded, migrate
from tickstock_assets.storage.database import open_engine

# Address of a TimescaleDB server of either edition; without it the Apache edition is set up where that is possible.
TIMESCALEDB_URL = "TICKSTOCK_TEST_TIMESCALEDB_URL"
# When 1, a run in which no Community-only test ran fails.
REQUIRE_COMMUNITY = "TICKSTOCK_TEST_REQUIRE_COMMUNITY"
TIERS = pytest.StashKey[Tiers]()
COMMUNITY_ONLY = ("only on", "community")


# --- which servers there are


def tiers_of(config: pytest.Config) -> Tiers:
    """Return the tiers of this run; the first call may set a server's files up, which takes half a minute once."""
    if TIERS not in config.stash:
        terminal = config.pluginmanager.get_plugin("terminalreporter")
        say = terminal.write_line if terminal else print
        try:
            config.stash[TIERS] = tiers.find_tiers(TIMESCALEDB_URL, os.environ.get(TIMESCALEDB_URL), say)
        except tiers.WrongAddressError as error:
            raise pytest.UsageError(str(error)) from None
    return config.stash[TIERS]


def tiers_wanted(item: pytest.Item | pytest.Metafunc) -> tuple[str, ...]:
    """Return the tiers that a test is for: all of them, unless its marker or `community_database` says otherwise."""
    definition = item.definition if isinstance(item, pytest.Metafunc) else item
    if "community_database" in item.fixturenames:  # type: ignore[union-attr]
        return (tiers.COMMUNITY,)
    marker = definition.get_closest_marker("tiers")
    if marker is None:
        return tiers.ALL
    if not marker.args or not set(marker.args) <= set(tiers.ALL):
        raise pytest.UsageError(f"{definition.nodeid}: tiers are {', '.join(tiers.ALL)}, found {marker.args}")
    return marker.args


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(CommunityCount(config))
    config.addinivalue_line("markers", "tiers(*names): run the test on these tiers of the server only")


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Name the servers that the tests run on."""
    return tiers_of(config).lines()


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """In CI the storage tests must not quietly run on half of the tiers."""
    reason = tiers_of(session.config).missing.get(tiers.APACHE)
    if reason and os.environ.get("CI", "false") != "false":
        pytest.exit(f"CI: expected a TimescaleDB of the Apache edition, found none: {reason}", returncode=1)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the files that take minutes, so that in the end no process is left alone with one of them."""
    items.sort(key=lambda item: "end_to_end" not in item.path.parts)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that uses a server on every tier there is and it is for."""
    if "tier" not in metafunc.fixturenames:
        return
    wanted, found = tiers_wanted(metafunc), tiers_of(metafunc.config)
    there: list[object] = list(found.of(wanted))
    if not there:
        reason = "; ".join(f"{tier}: {found.missing[tier]}" for tier in wanted)
        there = [pytest.param(wanted[0], marks=pytest.mark.skip(reason=reason))]
    metafunc.parametrize("tier", there, indirect=True, scope="session")


# --- Community-only tests are counted: a run without any must be told from one in which all passed


class CommunityCount:
    """Counts in the process that reports, of the tests that several processes run."""

    def __init__(self, config: pytest.Config) -> None:
        self.config, self.reported, self.run = config, 0, 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if COMMUNITY_ONLY not in map(tuple, report.user_properties):
            return
        self.reported += report.when == "setup"
        self.run += report.when == "call" and not report.skipped

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if self.is_missed() and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.write_line(f"Community-only tests: {self.run} of {self.reported} ran")
        if self.is_missed():
            terminalreporter.write_line(
                f"{REQUIRE_COMMUNITY}=1: expected at least one of them to run, found none", red=True
            )

    def is_missed(self) -> bool:
        is_required = os.environ.get(REQUIRE_COMMUNITY) == "1" and not self.config.option.collectonly
        return is_required and not self.run


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if "tier" in getattr(item, "fixturenames", ()) and tiers_wanted(item) == (tiers.COMMUNITY,):
        report.user_properties.append(COMMUNITY_ONLY)
    return report


# --- servers and databases


@contextlib.contextmanager
def new_home() -> Iterator[Path]:
    """A folder for a home of its own; in the end its server is stopped and all of it removed."""
    home = Path(tempfile.mkdtemp(prefix="tickstock-test-"))
    yield home
    embedded.release(home)
    embedded.destroy(home)
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def shared_home() -> Iterator[Path]:
    """A home whose embedded server all tests of this session share, each with a database of its own."""
    with new_home() as home:
        yield home


@pytest.fixture(scope="module")
def module_home() -> Iterator[Path]:
    """A home that the tests of a module share: to make one takes longer than most of them."""
    with new_home() as home:
        yield home


@pytest.fixture(scope="session")
def tier(request: pytest.FixtureRequest) -> str:
    """Which of `tests.storage.tiers.ALL` the test runs on."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def server(tier: str, request: pytest.FixtureRequest) -> Iterator[URL]:
    """A superuser's address of the server of each tier there is."""
    found = tiers_of(request.config)
    if tier == tiers.EMBEDDED:
        home: Path = request.getfixturevalue("shared_home")
        url = make_url(embedded.acquire(home).url("postgres"))
        tiers.make_nothing_durable(url)
        yield url
    elif tier == found.given_tier:
        assert found.given
        yield found.given
    else:
        assert found.root
        with debian_timescaledb.running_server(found.root) as url:
            yield url


@pytest.fixture(scope="session")
def migrated_template(server: URL, tier: str) -> Iterator[str]:
    """A database with the newest schema, to be copied, which takes a fraction of the time of migrating."""
    with tiers.new_database(server, with_timescaledb=tier in tiers.TIMESCALEDB) as name:
        engine = open_engine(server.set(database=name))
        migrate.upgrade(engine)
        engine.dispose()
        tiers.close_to_connections(server, name)
        yield name


@pytest.fixture
def bare_database(server: URL) -> Iterator[Engine]:
    """A new database without a schema, and without TimescaleDB also where the server has it."""
    with tiers.new_database(server) as name, opened(server, name) as engine:
        yield engine


@pytest.fixture
def empty_database(server: URL, tier: str) -> Iterator[Engine]:
    """A new database without a schema, with TimescaleDB where the server has it."""
    has_timescaledb = tier in tiers.TIMESCALEDB
    with tiers.new_database(server, with_timescaledb=has_timescaledb) as name, opened(server, name) as engine:
        yield engine


@pytest.fixture
def database(server: URL, tier: str, migrated_template: str) -> Iterator[Engine]:
    """A new database with the newest schema of its tier and no rows; TimescaleDB runs no job in it by itself."""
    has_timescaledb = tier in tiers.TIMESCALEDB
    with (
        tiers.new_database(server, migrated_template, with_timescaledb=has_timescaledb) as name,
        opened(server, name) as engine,
    ):
        yield engine


@pytest.fixture
def community_database(database: Engine) -> Engine:
    """The same as `database`, for tests of what only the Community edition can do."""
    return database


@contextlib.contextmanager
def opened(server: URL, database: str) -> Iterator[Engine]:
    engine = open_engine(server.set(database=database))
    try:
        yield engine
    finally:
        engine.dispose()


# --- the command


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
    with new_home() as folder:
        yield folder


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
