"""Budgets as the vendor counts them, over processes, kills and restarts; and what a load does when one is used up."""

import json
import multiprocessing
import subprocess
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine, make_url, text

from tests.conftest import tickstock
from tests.loading.simulated import ALPHA_VANTAGE_KEY, POLYGON_KEY, Address, alpha_vantage, polygon
from tests.storage import tiers
from tests.storage.test_provider_quota import zone_in_which_it_is_noon
from tickstock_assets.domain.windows import Window
from tickstock_assets.loading.fetching import Landing, land_missing
from tickstock_assets.loading.lineup import Lineup
from tickstock_assets.loading.load import Loader, Order, Outcome
from tickstock_assets.providers.quota import Budget
from tickstock_assets.simulator import Market, Plan, Simulator, Vendor
from tickstock_assets.storage import embedded
from tickstock_assets.storage.database import open_engine
from tickstock_assets.storage.provider_quota import StoredQuota

embedded_only = pytest.mark.tiers(tiers.EMBEDDED)

SYMBOLS = [f"S{number:04}" for number in range(1, 37)]
FIRST, LAST = date(2023, 5, 1), date(2023, 5, 31)
N_SESSIONS = 22
PER_MINUTE, PER_DAY = 5, 25
MINUTE_SECONDS = 1.5
N_PROCESSES = 3


@pytest.fixture(scope="module")
def market() -> Market:
    return Market(len(SYMBOLS), date(2023, 1, 3), date(2023, 6, 30), sample=False)


@pytest.fixture
def with_symbols(database: Engine) -> Engine:
    with database.begin() as connection:
        connection.execute(
            text("INSERT INTO symbols (symbol) SELECT unnest(CAST(:names AS text[]))"), {"names": SYMBOLS}
        )
    return database


def fetch(database: str, simulator: str, folder: Path, vendor: str, symbols: list[str]) -> Landing:
    """Fetch some symbols as a process of its own does: the budget is known to the database only."""
    engine = open_engine(make_url(database))
    zone = zone_in_which_it_is_noon()
    if vendor == Vendor.POLYGON:
        # A killed call holds its place for the longest one; here it takes a moment.
        quota = StoredQuota(
            engine, "polygon", PER_MINUTE, None, zone,
            minute=timedelta(seconds=MINUTE_SECONDS), longest_call=timedelta(seconds=1),
        )  # fmt: skip
        lineup = Lineup([polygon(Address(simulator), quota=quota, budget=Budget(per_minute=PER_MINUTE))])
    else:
        quota = StoredQuota(engine, "alpha_vantage", None, PER_DAY, zone)
        budget = Budget(per_day=PER_DAY, zone=zone)
        lineup = Lineup([alpha_vantage(Address(simulator), quota=quota, budget=budget)])
    landing = land_missing(lineup, engine, folder, [Window(symbol, FIRST, LAST) for symbol in symbols])
    engine.dispose()
    return landing


def in_processes(
    engine: Engine, simulator: Simulator, folder: Path, vendor: Vendor, n_symbols: int
) -> list[multiprocessing.process.BaseProcess]:
    """Start processes that share the symbols, and the folder and the database besides."""
    database = engine.url.render_as_string(hide_password=False)
    context = multiprocessing.get_context("spawn")
    processes: list[multiprocessing.process.BaseProcess] = []
    for place in range(N_PROCESSES):
        share = SYMBOLS[:n_symbols][place::N_PROCESSES]
        process = context.Process(target=fetch, args=(database, simulator.url, folder, vendor.value, share))
        process.start()
        processes.append(process)
    return processes


def landed(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        query = "SELECT symbol FROM load_ledger WHERE status = 'landed' AND attempts = 1 ORDER BY symbol"
        return list(connection.execute(text(query)).scalars())


@embedded_only
def test_three_processes_one_of_which_is_killed_and_started_again_keep_to_five_calls_a_minute(
    with_symbols: Engine, market: Market, tmp_path: Path
) -> None:
    plan = Plan(keys=frozenset({POLYGON_KEY}), per_minute=PER_MINUTE, minute_seconds=MINUTE_SECONDS)
    with Simulator(market, {Vendor.POLYGON: plan}) as simulator:
        processes = in_processes(with_symbols, simulator, tmp_path, Vendor.POLYGON, 18)
        while len(simulator.record.calls) < PER_MINUTE + 2:
            assert any(process.is_alive() for process in processes)
            time.sleep(0.01)
        processes[0].kill()
        processes += in_processes(with_symbols, simulator, tmp_path, Vendor.POLYGON, 18)[:1]
        for process in processes:
            process.join()
        usage = simulator.usage(Vendor.POLYGON, POLYGON_KEY)
        # All of it came, and never more than five calls within a minute; none was refused.
        assert (usage.refused, usage.highest_in_a_minute) == (0, PER_MINUTE)
        assert [process.exitcode for process in processes[1:]] == [0] * (len(processes) - 1)
        assert set(landed(with_symbols)) == set(SYMBOLS[:18])


@embedded_only
def test_three_processes_and_three_after_them_keep_to_twenty_five_calls_a_day(
    with_symbols: Engine, market: Market, tmp_path: Path
) -> None:
    plan = Plan(keys=frozenset({ALPHA_VANTAGE_KEY}), per_day=PER_DAY)
    with Simulator(market, {Vendor.ALPHA_VANTAGE: plan}) as simulator:
        for _ in range(2):
            for process in in_processes(with_symbols, simulator, tmp_path, Vendor.ALPHA_VANTAGE, len(SYMBOLS)):
                process.join()
                assert process.exitcode == 0
        usage = simulator.usage(Vendor.ALPHA_VANTAGE, ALPHA_VANTAGE_KEY)
        assert (usage.calls, usage.refused, usage.highest_in_a_day) == (PER_DAY, 0, PER_DAY)
    assert len(landed(with_symbols)) == PER_DAY


@embedded_only
def test_a_load_that_waits_goes_on_by_itself_when_the_day_is_over(
    database: Engine, market: Market, tmp_path: Path
) -> None:
    zone = zone_in_which_it_is_noon()
    waits: list[float] = []

    def until_tomorrow(seconds: float) -> None:
        """Move all that was counted a day back, which is what a day of waiting comes to."""
        waits.append(seconds)
        with database.begin() as connection:
            connection.execute(
                text(
                    "UPDATE provider_quota SET period_start = period_start - interval '1 day', "
                    "ends_at = ends_at - interval '1 day'"
                )
            )

    with Simulator(market) as simulator:
        quota = StoredQuota(database, "alpha_vantage", None, 4, zone)
        provider = alpha_vantage(simulator, quota=quota, budget=Budget(per_day=4, zone=zone))
        loader = Loader(Lineup([provider]), database, tmp_path, sleep=until_tomorrow)
        outcome = loader.load(Order(SYMBOLS[:6], FIRST, LAST, actions=False))
        # A list of symbols and six series: four calls a day make two days.
        assert len(simulator.record.calls) == 7
    assert (outcome.problems, outcome.continues_at, outcome.gaps) == ([], None, {})
    assert len(waits) == 1
    assert 0 < waits[0] <= timedelta(hours=14).total_seconds()
    with database.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM ohlcv_daily")).scalar() == 6 * N_SESSIONS


def run(home: Path, simulator: Simulator, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Load six symbols with the real command from an Alpha Vantage that answers four calls a day."""
    settings = {
        "TICKSTOCK_PROVIDERS": "alpha_vantage",
        "TICKSTOCK_ALPHA_VANTAGE_API_KEY": ALPHA_VANTAGE_KEY,
        "TICKSTOCK_ALPHA_VANTAGE_URL": f"{simulator.url}/query",
        "TICKSTOCK_ALPHA_VANTAGE_CALLS_PER_MINUTE": "0",
        "TICKSTOCK_ALPHA_VANTAGE_CALLS_PER_DAY": "4",
        "TICKSTOCK_ALPHA_VANTAGE_PREMIUM": "true",
        "TICKSTOCK_POLYGON_API_KEY": POLYGON_KEY,
        "TICKSTOCK_POLYGON_URL": simulator.url,
        "TICKSTOCK_POLYGON_CALLS_PER_MINUTE": "0",
    }
    span = ("--start", str(FIRST), "--end", str(LAST))
    result = tickstock(
        "load", "--symbols", ",".join(SYMBOLS[:6]), *span, "--no-record", *arguments, home=home, **settings | variables
    )
    assert "Traceback" not in result.stdout + result.stderr
    return result


def sources(home: Path) -> dict[str, int]:
    with psycopg.connect(embedded.acquire(home).url("tickstock")) as connection:
        found = dict(connection.execute("SELECT source, count(*) FROM ohlcv_daily GROUP BY source").fetchall())
    embedded.release(home)
    return found


def test_a_load_without_waiting_ends_with_3_and_says_when_it_continues_or_goes_on_with_the_next_provider(
    home: Path, market: Market
) -> None:
    plan = Plan(per_day=4)
    with Simulator(market, {Vendor.ALPHA_VANTAGE: plan}) as simulator:
        first = run(home, simulator, "--no-wait")
        assert first.returncode == 3, first.stdout + first.stderr
        assert "Continues at " in first.stdout
        assert sources(home) == {"alpha_vantage": 3 * N_SESSIONS}
        # The day is over for the next one too, by what the database remembers: nobody is asked.
        n_calls = len(simulator.record.calls)
        again = run(home, simulator, "--no-wait", "--json")
        assert again.returncode == 3
        assert datetime.fromisoformat(json.loads(again.stdout)["continues_at"]) > datetime.now(UTC)
        assert len(simulator.record.calls) == n_calls == 4

        both = {"TICKSTOCK_PROVIDERS": "alpha_vantage,polygon", "TICKSTOCK_ON_QUOTA": "next"}
        other = run(home, simulator, "--no-wait", "--json", **both)
        summary = json.loads(other.stdout)
        assert (other.returncode, summary["problems"]) == (0, [])
        assert {row["served_by"] for row in summary["fallbacks"]} == {"polygon"}
        assert sources(home) == {"alpha_vantage": 3 * N_SESSIONS, "polygon": 3 * N_SESSIONS}
        usage = simulator.usage(Vendor.ALPHA_VANTAGE, ALPHA_VANTAGE_KEY)
        assert (usage.refused, usage.highest_in_a_day) == (0, 4)


@embedded_only
def test_symbols_looked_up_by_tens_cost_a_small_plan_one_call(database: Engine, market: Market, tmp_path: Path) -> None:
    with Simulator(market) as simulator:
        loader = Loader(Lineup([alpha_vantage(simulator)]), database, tmp_path)
        assert loader.know(SYMBOLS, Outcome()) == SYMBOLS
        assert [call.route for call in simulator.record.calls] == ["LISTING_STATUS"]
