"""The tests' own servers: none outlives its session, and a run says which tiers it lacks."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import URL, Engine, make_url, text

from tests.storage import debian_timescaledb, tiers
from tests.storage.servers import PROJECT, wait_until

# One quick test without a database.
ONE_TEST = "tests/test_architecture.py::test_an_arrow_that_points_the_wrong_way_is_found"
SESSION = """
import sys
from tests.storage.debian_timescaledb import make_root, running_server
with running_server(make_root(print)) as url:
    print(url.render_as_string(hide_password=False), flush=True)
    sys.stdin.read()
"""

where_it_can_be_set_up = pytest.mark.skipif(
    debian_timescaledb.obstacle() is not None, reason=str(debian_timescaledb.obstacle())
)


def start_session() -> tuple[subprocess.Popen[str], URL]:
    process = subprocess.Popen(
        [sys.executable, "-c", SESSION], cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    return process, make_url(process.stdout.readline().strip())


def answers(url: URL) -> bool:
    try:
        tiers.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def run_one_test(**variables: str) -> subprocess.CompletedProcess[str]:
    unset = {"CI", "TICKSTOCK_TEST_TIMESCALEDB_URL", "TICKSTOCK_TEST_REQUIRE_COMMUNITY"}
    environment = {name: value for name, value in os.environ.items() if name not in unset} | variables
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", ONE_TEST]
    return subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)


@where_it_can_be_set_up
def test_the_server_of_a_killed_session_ends_and_a_later_session_removes_its_files() -> None:
    clusters = debian_timescaledb.make_root(print).clusters
    process, url = start_session()
    assert answers(url)
    # The fourth line is the port; other runs may have servers here, too.
    (folder,) = (
        file.parents[1]
        for file in clusters.glob("session-*/pg/postmaster.pid")
        if file.read_text().splitlines()[3] == str(url.port)
    )
    process.send_signal(signal.SIGKILL)
    process.communicate()
    wait_until(lambda: not answers(url))

    def is_removed_by_another_session() -> bool:
        other, _ = start_session()
        other.communicate()
        return not folder.exists()

    wait_until(is_removed_by_another_session)


@where_it_can_be_set_up
def test_every_session_has_a_server_of_its_own_that_ends_with_it() -> None:
    process, url = start_session()
    other, other_url = start_session()
    assert url.port != other_url.port
    assert answers(url)
    process.communicate()
    assert not answers(url)
    assert answers(other_url)
    other.communicate()
    assert (process.returncode, other.returncode) == (0, 0)


def test_in_ci_a_missing_apache_edition_fails_the_run_with_its_reason(tmp_path: Path) -> None:
    # Without programs on the path nothing can be set up.
    lacking = {"PATH": "", "XDG_CACHE_HOME": str(tmp_path)}
    in_ci = run_one_test(CI="true", **lacking)
    assert in_ci.returncode == 1
    assert "CI: expected a TimescaleDB of the Apache edition, found none" in in_ci.stdout + in_ci.stderr
    elsewhere = run_one_test(**lacking)
    assert elsewhere.returncode == 0, elsewhere.stdout
    assert "apache: none, TICKSTOCK_TEST_TIMESCALEDB_URL names no such server, and " in elsewhere.stdout


def test_a_run_that_must_have_community_tests_fails_without_any() -> None:
    result = run_one_test(TICKSTOCK_TEST_REQUIRE_COMMUNITY="1")
    assert result.returncode == 1
    assert "Community-only tests: 0 of 0 ran" in result.stdout


def test_an_address_at_which_nothing_answers_is_refused_without_its_password() -> None:
    result = run_one_test(TICKSTOCK_TEST_TIMESCALEDB_URL="postgresql://postgres:hidden@127.0.0.1:1/postgres")
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    said = result.stdout + result.stderr
    assert "TICKSTOCK_TEST_TIMESCALEDB_URL: expected a superuser's address of a TimescaleDB" in said
    assert "hidden" not in said


def test_databases_have_the_extension_where_the_tier_has_it_and_no_job_runs(
    database: Engine, bare_database: Engine, tier: str
) -> None:
    query = text("SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'")
    with database.connect() as connection, bare_database.connect() as bare:
        assert connection.execute(query).scalar_one() == (tier in tiers.TIMESCALEDB)
        assert bare.execute(query).scalar_one() == 0
        schedulers = connection.execute(
            text(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type ~ 'Scheduler'"
            )
        )
        assert schedulers.scalar_one() == 0


def test_community_databases_are_communitys(community_database: Engine) -> None:
    with community_database.connect() as connection:
        assert connection.execute(text("SHOW timescaledb.license")).scalar_one() == "timescale"
