"""No key in anything that a load leaves: output, logs at every level, tables, Dagster's events and files.

The vendors here repeat the keys in whatever they say, which both real ones do in some of their errors.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import Path
from urllib.parse import quote, quote_plus

import psycopg
import pytest
from psycopg import sql

from tests.conftest import tickstock
from tests.end_to_end.commands import environment
from tests.providers.scripted_server import Asked, Reply, serving
from tickstock_assets.simulator import Market, Plan, Simulator, Vendor
from tickstock_assets.storage import embedded

ROOT = Path(__file__).parents[2]
# With characters that look otherwise within a URL.
POLYGON_KEY = "pOlygon+sEcret/4f1d=%9"
ALPHA_VANTAGE_KEY = "aLpha+sEcret/77b2=%9"
FILES_KEY, FILES_SECRET = "fIles+access/0c9e=%9", "fIles+sEcret/d31a=%9"
SECRETS = (POLYGON_KEY, ALPHA_VANTAGE_KEY, FILES_SECRET)
SPAN = ("--start", "2023-05-01", "--end", "2023-05-31")
# Every logger tells everything, and waits are a thousand times shorter.
TALKATIVE = (
    "import logging, time; logging.basicConfig(level=logging.DEBUG); "
    "sleep = time.sleep; time.sleep = lambda seconds: sleep(seconds / 1000); "
)
COMMAND = TALKATIVE + "from tickstock_assets.cli import main; main()"
DAGSTER_RUN = (
    TALKATIVE
    + """
from datetime import date
from tests.defs.simulated import know
from tickstock_assets.definitions import defs
from tickstock_assets.defs import launching, resources
from tickstock_assets.defs.partitions import SYMBOLS, rectangle_tags
from tickstock_assets.settings import settings

symbols = ["S0001", "S0002", "S0003"]
with launching.open_instance(settings().home_path) as instance:
    if not instance.get_dynamic_partitions(SYMBOLS.name):
        know(resources.engine(), instance, symbols)
    tags = rectangle_tags(symbols, symbols, date(2011, 1, 1), date(2012, 1, 1))
    launching.run_job(instance, defs.resolve_job_def("daily_history"), tags, print)
"""
)


@pytest.fixture(scope="module")
def shared() -> Iterator[Path]:
    """A home that knows one symbol, so that a load asks for its bars at once."""
    folder = Path(tempfile.mkdtemp(prefix="tickstock-test-"))
    assert tickstock("db", "migrate", home=folder).returncode == 0
    with psycopg.connect(embedded.acquire(folder).url("tickstock")) as connection:
        connection.execute("INSERT INTO symbols (symbol) VALUES ('S0001')")
    embedded.release(folder)
    yield folder
    embedded.release(folder)
    embedded.destroy(folder)
    shutil.rmtree(folder, ignore_errors=True)


def key_in(asked: Asked) -> str:
    """Return what a request is signed with."""
    headers = {name.lower(): value for name, value in asked.headers.items()}
    return asked.query.get("apikey") or headers.get("authorization", "").removeprefix("Bearer ")


def says(status: int, body: Mapping[str, str]) -> Callable[[Asked], Reply]:
    """Return a vendor who says the same to everything, with the key and the whole address in it."""

    def answer(asked: Asked) -> Reply:
        said = {name: text.format(key=f"{key_in(asked)} {asked.path}") for name, text in body.items()}
        return Reply(json.dumps(said).encode(), status)

    return answer


def run(program: str, *arguments: str, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True, text=True, timeout=300, check=False, cwd=ROOT, env=environment(home, **variables),
    )  # fmt: skip


def polygon_at(url: str) -> dict[str, str]:
    return {
        "TICKSTOCK_POLYGON_API_KEY": POLYGON_KEY,
        "TICKSTOCK_POLYGON_URL": url,
        "TICKSTOCK_POLYGON_CALLS_PER_MINUTE": "0",
    }


def alpha_vantage_at(url: str) -> dict[str, str]:
    return {
        "TICKSTOCK_ALPHA_VANTAGE_API_KEY": ALPHA_VANTAGE_KEY,
        "TICKSTOCK_ALPHA_VANTAGE_URL": f"{url}/query",
        "TICKSTOCK_ALPHA_VANTAGE_CALLS_PER_MINUTE": "0",
        "TICKSTOCK_ALPHA_VANTAGE_PREMIUM": "true",
    }


def files_at(url: str) -> dict[str, str]:
    return {
        **polygon_at(url),
        "TICKSTOCK_FLAT_FILES_URL": f"{url}/flatfiles",
        "TICKSTOCK_FLAT_FILES_ACCESS_KEY": FILES_KEY,
        "TICKSTOCK_FLAT_FILES_SECRET_KEY": FILES_SECRET,
        # Then files are the cheapest way.
        "TICKSTOCK_POLYGON_CALLS_PER_MINUTE": "1",
    }


def assert_untold(text: str, where: str) -> None:
    for secret in SECRETS:
        for form in (secret, quote(secret), quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1]):
            assert form.lower() not in text.lower(), f"a key in {where}"


def assert_nothing_left_tells_a_key(home: Path) -> int:
    """Search every table of the databases and every file of the home; return how many rows were searched."""
    server, n_rows = embedded.acquire(home), 0
    with psycopg.connect(server.url("tickstock")) as connection:
        # Dagster's is there from its first run on.
        query = "SELECT datname FROM pg_database WHERE datname IN ('tickstock', 'dagster')"
        databases = [name for (name,) in connection.execute(query)]
    for database in databases:
        with psycopg.connect(server.url(database)) as connection:
            tables = connection.execute(
                "SELECT schemaname, relname FROM pg_stat_user_tables WHERE schemaname NOT LIKE '\\_timescaledb%%'"
            ).fetchall()
            assert len(tables) > 10
            for schema, table in tables:
                rows = sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(schema, table))
                for (row,) in connection.execute(rows):
                    assert_untold(row, f"{database}.{table}")
                    n_rows += 1
    embedded.release(home)
    for file in home.rglob("*"):
        if file.is_file():
            assert_untold(file.read_bytes().decode(errors="replace"), str(file))
    return n_rows


def test_the_search_finds_a_key_where_there_is_one(shared: Path) -> None:
    with psycopg.connect(embedded.acquire(shared).url("tickstock")) as connection:
        entry = {"url": f"https://host?apikey={quote_plus(POLYGON_KEY)}"}
        connection.execute("CREATE TABLE leak AS SELECT %s::jsonb AS entry", [json.dumps(entry)])
        connection.commit()
        with pytest.raises(AssertionError, match=r"a key in tickstock.leak"):
            assert_nothing_left_tells_a_key(shared)
        connection.execute("DROP TABLE leak")
    embedded.release(shared)


@pytest.mark.parametrize(
    ("vendor", "status", "body", "told"),
    [
        (polygon_at, 401, {"status": "ERROR", "error": "Unknown API Key {key}"}, "the key is refused"),
        (polygon_at, 403, {"status": "NOT_AUTHORIZED", "message": "{key} may not"}, "the plan does not include this"),
        (polygon_at, 400, {"status": "ERROR", "error": "bad {key}"}, "refused with HTTP 400"),
        (polygon_at, 503, {"status": "ERROR", "error": "{key} {key}"}, "expected an answer within 6 tries"),
        (polygon_at, 200, {"status": "ERROR", "error": "{key}"}, "expected an answer of status OK"),
        (alpha_vantage_at, 200, {"Information": "Your API key is {key} and our limit is 25 requests per day."}, "continues at"),
        (alpha_vantage_at, 200, {"Information": "{key}"}, "it says only"),
        (alpha_vantage_at, 200, {"Error Message": "{key} is what it is"}, "is what it is"),
        (alpha_vantage_at, 500, {"message": "{key}"}, "expected an answer within 6 tries"),
        (files_at, 403, {"Code": "AccessDenied {key}"}, "flat files"),
    ],
)  # fmt: skip
def test_a_vendor_that_repeats_the_key_is_quoted_without_it(
    vendor: Callable[[str], dict[str, str]], status: int, body: dict[str, str], told: str, shared: Path
) -> None:
    # Each is asked for the same days, of which none ever comes; what one vendor said of budgets is not the next one's.
    with psycopg.connect(embedded.acquire(shared).url("tickstock")) as connection:
        connection.execute("DELETE FROM provider_quota")
    embedded.release(shared)
    with serving(says(status, body)) as server:
        result = run(
            COMMAND, "load", "--symbols", "S0001", *SPAN, "--no-wait", "--no-record", "--no-actions", "--json",
            home=shared, **vendor(server.url),
        )  # fmt: skip
        assert any(secret in key_in(asked) for asked in server.asked for secret in (*SECRETS, FILES_KEY))
    assert result.returncode in {2, 3}, result.stderr
    assert told.lower() in " ".join(json.loads(result.stdout)["problems"]).lower()
    assert_untold(result.stdout, "standard output")
    assert_untold(result.stderr, "standard error and the logs")
    assert assert_nothing_left_tells_a_key(shared) > 0


def test_a_run_of_dagster_with_a_wrong_key_and_one_with_a_key_that_expires_tell_it_nowhere(home: Path) -> None:
    market = Market(3, date(2011, 1, 3), date(2012, 12, 31), sample=False)
    with serving(says(401, {"status": "ERROR", "error": "Unknown API Key {key}"})) as server:
        refused = run(DAGSTER_RUN, home=home, **polygon_at(server.url))
    with Simulator(market, {Vendor.POLYGON: Plan(keys=frozenset({POLYGON_KEY}), expires_after=2)}) as simulator:
        expired = run(DAGSTER_RUN, home=home, **polygon_at(simulator.url))
        assert simulator.usage(Vendor.POLYGON, POLYGON_KEY).calls > 2
    for result in (refused, expired):
        assert result.returncode != 0
        assert "the key is refused" in result.stderr
        assert_untold(result.stdout, "standard output")
        assert_untold(result.stderr, "standard error and the logs")
    with psycopg.connect(embedded.acquire(home).url("dagster")) as connection:
        found = connection.execute("SELECT count(*) FROM event_logs WHERE event LIKE '%the key is refused%'").fetchone()
    embedded.release(home)
    assert found
    assert found[0] >= 2
    assert assert_nothing_left_tells_a_key(home) > 0
