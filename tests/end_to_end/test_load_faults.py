"""A thousand windows from vendors that misbehave in every way they can, at random: the tables are as if they had not.

What must be stored is known from the simulated market and the record of what was answered wrong (`fault_oracle.py`). The
seed is printed, and TICKSTOCK_TEST_SEED repeats a draw.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import Engine, make_url, text

from tests.end_to_end.commands import environment
from tests.end_to_end.fault_oracle import DAILY, MINUTES, Expected, Loads, Ordered, is_equal, set_aside, stored
from tests.loading.simulated import alpha_vantage, at, polygon
from tests.storage import tiers
from tickstock_assets.domain.windows import Window
from tickstock_assets.loading.fetching import land_missing
from tickstock_assets.loading.gaps import missing_sessions
from tickstock_assets.loading.lineup import Lineup
from tickstock_assets.loading.load import Loader, Order, know_sessions
from tickstock_assets.loading.storing import store
from tickstock_assets.providers.base import Dataset
from tickstock_assets.providers.quota import Budget
from tickstock_assets.simulator import Fault, Faults, Market, Plan, Simulator, Vendor
from tickstock_assets.storage import embedded
from tickstock_assets.storage.database import open_engine

SEED = int(os.environ.get("TICKSTOCK_TEST_SEED") or time.time_ns() % 1_000_000)
N_WINDOWS = 1_000
SYMBOLS = [f"S{number:04}" for number in range(1, 41)]
REUSED = "S0003"
FIRST_DAY, LAST_DAY = date(2019, 7, 1), date(2023, 6, 30)
# The evening after the last day of the market, whose last three sessions can still change then.
NOW = "2023-07-01T02:00"
UNSETTLED = date(2023, 6, 28)
# What Polygon's plan reaches back to; what is older comes from Alpha Vantage.
POLYGON_HISTORY = date(2020, 1, 1)
PLANS = {vendor: Plan(history_start=POLYGON_HISTORY) for vendor in (Vendor.POLYGON, Vendor.FLAT_FILES)}
# Those that need a file, or bars that can still change, meet fewer windows and so are drawn more often.
RARE = (Fault.MISSING_MINUTES, Fault.LATE_CORRECTION, Fault.REPLACED_FILE)
CHANCES = {**Faults.every(0.025).chances, **dict.fromkeys(RARE, 0.4)}


@dataclass(frozen=True)
class Wanted:
    """Windows to be loaded; on a small plan Polygon's files are the cheapest way to them."""

    windows: list[Window]
    dataset: Dataset = Dataset.DAILY_BARS
    has_small_plan: bool = False


@dataclass
class Customer:
    """Somebody who loads from a simulator into a database."""

    simulator: Simulator
    engine: Engine
    folder: Path
    wanted: list[Wanted] = field(default_factory=list)
    loads: Loads = field(default_factory=Loads)
    n_windows: int = 0

    def load(self, wanted: Wanted) -> None:
        """Load windows, and once more when a key had to be renewed."""
        self.wanted.append(wanted)
        failed = self._load(wanted)
        if failed:
            assert "the key is refused" in failed[0], failed[0]
            assert self._load(wanted) == []

    def load_again(self, *, gaps: bool = False) -> None:
        """Load everything once more, or a third of it with the sessions that lack something."""
        for wanted in self.wanted[:: 3 if gaps else 1]:
            found = missing_sessions(self.engine, wanted.dataset, wanted.windows, LAST_DAY) if gaps else {}
            again = [Window(symbol, day, day) for symbol, days in found.items() for day in days]
            assert self._load(wanted, again) == []

    def know_everything(self) -> None:
        """Enter what instruments there are, their splits and dividends, and the sessions, by a load of one day."""
        # One that Polygon has: of Alpha Vantage's whole series only the first answer is wrong, whatever day it is for.
        order = Order(SYMBOLS, date(2020, 7, 16), date(2020, 7, 16), actions=True)
        assert Loader(self._lineup(Wanted([])), self.engine, self.folder).load(order).unknown == {}
        self.loads.note(self.engine)
        with self.engine.begin() as connection:
            know_sessions(connection, FIRST_DAY, LAST_DAY)
        self.wanted.append(Wanted(order.windows()))

    def an_hour_goes_by(self) -> None:
        """Let everything have been landed when the clock of the market says."""
        with self.engine.begin() as connection:
            connection.execute(
                text(
                    "UPDATE load_ledger SET finished_at = finished_at - (clock_timestamp() - CAST(:now AS timestamptz))"
                ),
                {"now": f"{NOW}Z"},
            )

    def _load(self, wanted: Wanted, recheck: Sequence[Window] = ()) -> list[str]:
        lineup, windows, dataset = self._lineup(wanted), wanted.windows, wanted.dataset
        landing = land_missing(lineup, self.engine, self.folder, windows, dataset, recheck=recheck)
        self.n_windows += len(landing.fetched)
        self.loads.note(self.engine)
        store(lineup, self.engine, self.folder, windows, dataset, new=True)
        return list(landing.failed.values())

    def _lineup(self, wanted: Wanted) -> Lineup:
        budget, clock = Budget(per_minute=5) if wanted.has_small_plan else None, at(NOW)
        first = polygon(self.simulator, with_files=True, clock=clock, budget=budget)
        return Lineup([first, alpha_vantage(self.simulator, clock=clock)])


@pytest.fixture(scope="module")
def market() -> Market:
    return Market(
        len(SYMBOLS), FIRST_DAY, LAST_DAY, sample=False, extended_hours=True, fractional_volume=0.1, reused=[REUSED],
        seed=SEED,
    )  # fmt: skip


@pytest.fixture
def customer(market: Market, database: Engine, tmp_path: Path) -> Iterator[Customer]:
    faults = Faults(CHANCES, SEED, unsettled_from=UNSETTLED, slow_seconds=0.2)
    with Simulator(market, PLANS, faults) as simulator:
        simulator.script(Fault.EXPIRED_KEY, vendor=Vendor.POLYGON, route="aggregates_day", skip=50 + SEED % 200)
        yield Customer(simulator, database, tmp_path)


@pytest.mark.tiers(tiers.EMBEDDED)
def test_a_thousand_windows_with_every_fault_end_as_without_any(
    customer: Customer, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    customer.know_everything()
    for wanted in every_route():
        customer.load(wanted)
    fired = customer.simulator.record.fired
    with capsys.disabled():
        counts = ", ".join(f"{fault} {fired[fault]}" for fault in Fault)
        os.write(
            1, f"\n[seed {SEED}: {customer.n_windows} windows, {time.monotonic() - began:.0f} s: {counts}] ".encode()
        )
    assert customer.n_windows >= N_WINDOWS
    assert [str(fault) for fault in Fault if not fired[fault]] == [], "these never fired"
    kept_out = assert_tables_are_right(customer)
    assert kept_out > 0

    # The second look: what can still change, and files that were replaced, are asked for by the same loads.
    customer.an_hour_goes_by()
    customer.load_again()
    assert assert_tables_are_right(customer, are_late_ones_mended=True) < kept_out

    # The third: sessions that lack something.
    customer.load_again(gaps=True)
    assert_tables_are_right(customer, are_late_ones_mended=True)
    with capsys.disabled():
        os.write(1, f"[with second looks {customer.n_windows} windows, {time.monotonic() - began:.0f} s] ".encode())


def test_the_command_itself_ends_with_the_bars_of_the_market_and_the_impossible_ones_in_quarantine(
    home: Path, market: Market
) -> None:
    # Waits are a thousand times shorter; nothing else is different.
    program = (
        "import time; sleep = time.sleep; time.sleep = lambda seconds: sleep(seconds / 1000); "
        "from tickstock_assets.cli import main; main()"
    )
    symbols, first, last = SYMBOLS[10:40], date(2021, 1, 4), date(2022, 12, 30)
    faults = Faults({**Faults.every(0.1).chances, Fault.SLOW: 0.0, Fault.LATE_CORRECTION: 0.0}, SEED)
    with Simulator(market, faults=faults) as simulator:
        result = subprocess.run(
            [sys.executable, "-c", program, "load", "--symbols", ",".join(symbols), "--start", str(first), "--end", str(last),
             "--no-record", "--json"],
            capture_output=True, text=True, timeout=300, check=False,
            env=environment(
                home, TICKSTOCK_POLYGON_API_KEY="any-key", TICKSTOCK_POLYGON_URL=simulator.url,
                TICKSTOCK_POLYGON_CALLS_PER_MINUTE="0",
            ),
        )  # fmt: skip
        assert (result.returncode, result.stderr) == (0, ""), f"seed {SEED}"
        engine = open_engine(make_url(embedded.acquire(home).url("tickstock")))
        loads = Loads()
        loads.note(engine)
        expected = Expected(simulator, loads, [Ordered(DAILY, symbols, first, last)], POLYGON_HISTORY)
        true, found = expected.rows(DAILY), stored(engine, DAILY)
        assert set(true) - set(found) == expected.kept_out(true), f"seed {SEED}"
        assert all(is_equal(row, true[key]) for key, row in found.items())
        assert set_aside(engine) == expected.quarantine()
        engine.dispose()
        embedded.release(home)
    # What is missing is named.
    summary = json.loads(result.stdout)
    assert sum(len(days) for days in summary["gaps"].values()) == len(expected.kept_out(true))


def every_route() -> list[Wanted]:
    """Return a thousand windows of days and minutes; Alpha Vantage serves those that Polygon does not reach."""
    minute = Dataset.MINUTE_BARS
    return [
        # Over a year, of which the plan has a part: by symbol, the older half from Alpha Vantage.
        Wanted(days(SYMBOLS, "2019-07-02", "2020-07-15")),
        # Most of a month of forty symbols: by symbol.
        *(Wanted(months(SYMBOLS, f"{year}-{first}", f"{year}-{last}"))
          for year, first, last in [(2020, "08", "12"), (2021, "01", "12"), (2022, "01", "09")]),
        # A week of forty symbols: the whole market day by day.
        Wanted([window for first in pd.date_range("2022-10-03", "2022-12-20", freq="14D")
                for window in days(SYMBOLS, str(first.date()), str(first.date() + timedelta(days=9)))]),
        # On a small plan: file by file.
        Wanted(days(SYMBOLS, "2023-06-01", "2023-06-26"), has_small_plan=True),
        # The last sessions of a few at a time: by symbol.
        *(Wanted(days(SYMBOLS[place : place + 8], "2023-06-27", "2023-06-30")) for place in range(0, 40, 8)),
        # Minutes of a few symbols by symbol, of many by file, and old ones from Alpha Vantage.
        *(Wanted(days(SYMBOLS[place : place + 8], "2023-06-28", "2023-06-30"), minute) for place in range(0, 40, 8)),
        Wanted([window for first in pd.date_range("2023-03-01", "2023-04-20", freq="3D")
                for window in days(SYMBOLS[:4], str(first.date()), str(first.date() + timedelta(days=1)))], minute),
        Wanted(days(SYMBOLS[:12], "2023-05-01", "2023-05-05"), minute),
        Wanted(days(SYMBOLS[:6], "2019-12-02", "2019-12-04"), minute),
    ]  # fmt: skip


def days(symbols: Sequence[str], first: str, last: str) -> list[Window]:
    """Return the same days of each symbol."""
    return [Window(symbol, date.fromisoformat(first), date.fromisoformat(last)) for symbol in symbols]


def months(symbols: Sequence[str], first: str, last: str) -> list[Window]:
    """Return the first 27 days of each month: none touches the next, so that each is a request of its own."""
    return [
        window
        for month in pd.period_range(first, last, freq="M")
        for window in days(symbols, f"{month}-01", f"{month}-27")
    ]


def assert_tables_are_right(customer: Customer, *, are_late_ones_mended: bool = False) -> int:
    """Hold tables and quarantine against the market and the record; return how many true rows the faults kept out."""
    orders = [
        Ordered(str(one.dataset), [window.symbol], window.start, window.end)
        for one in customer.wanted
        for window in one.windows
    ]
    expected = Expected(customer.simulator, customer.loads, orders, POLYGON_HISTORY)
    n_kept_out = 0
    for dataset in (DAILY, MINUTES):
        true, found = expected.rows(dataset), stored(customer.engine, dataset)
        kept_out = expected.kept_out(true)
        n_kept_out += len(kept_out)
        assert some_of(set(found) - set(true)) == [], "stored, but the market has no such bar"
        assert some_of(set(true) - set(found) - kept_out) == [], "not stored, though it came right"
        assert some_of(kept_out & set(found)) == [], "stored, though it never came right"
        different = {key for key, row in found.items() if not is_equal(row, true[key])}
        late = set() if are_late_ones_mended else expected.other_values(true)
        assert [(key, found[key], true[key]) for key in some_of(different - late)] == []
        assert some_of(late - different) == [], "expected the values before the correction"
    in_quarantine = set_aside(customer.engine)
    assert some_of(expected.quarantine() - in_quarantine) == [], "not in quarantine, or by another rule"
    assert some_of(in_quarantine - expected.quarantine()) == [], "in quarantine, though the market has it"
    return n_kept_out


def some_of(keys: set[Any]) -> list[Any]:
    return sorted(keys)[:3]
