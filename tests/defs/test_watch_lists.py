"""New symbols and watch lists: partitions, and requests for history, each once, whatever is killed in between."""

import json
import os
import sys
from collections.abc import Callable
from datetime import date, datetime, timedelta, tzinfo
from functools import partial
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.tags import RUN_KEY_TAG

from tests.defs.conftest import OpenProject
from tests.defs.gap_holes import POLYGON, killed_at_statement, load, tick
from tests.defs.simulated import FIRST, LAST, Project
from tickstock_assets.defs import resources
from tickstock_assets.defs import watch_lists as module
from tickstock_assets.defs.partitions import SYMBOLS
from tickstock_assets.defs.request_standing import ending_of
from tickstock_assets.defs.symbol_sensor import new_symbols
from tickstock_assets.defs.watch_lists import watch_lists
from tickstock_assets.domain.errors import TickstockError
from tickstock_assets.loading.registry import open_lineup
from tickstock_assets.providers.http import Patience
from tickstock_assets.simulator import Fault, Plan, Vendor
from tickstock_assets.storage import backfill_requests

pytestmark = [
    pytest.mark.tiers("embedded"),
    # Dagster's own code calls it.
    pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated"),
]

# As far back as there is.
POLYGON_BEGINS = "2003-09-10"
REQUESTS = (
    "SELECT symbols, timeframe::text, start_date::text, kind FROM backfill_requests ORDER BY created_at, start_date"
)


def forget(project: Project, *symbols: str) -> None:
    """Let symbols be as if nobody had ever named them."""
    with project.engine.begin() as connection:
        for table in ("requested_history", "symbols"):
            connection.exec_driver_sql(f"DELETE FROM {table} WHERE symbol = ANY (%s)", (list(symbols),))
    for symbol in symbols:
        project.instance.delete_dynamic_partition(str(SYMBOLS.name), symbol)


def partitions(project: Project) -> list[str]:
    return sorted(project.instance.get_dynamic_partitions(str(SYMBOLS.name)))


# --- new symbols


def test_a_new_symbol_becomes_a_partition_and_its_history_is_requested_once(open_project: OpenProject) -> None:
    project = open_project(companies=4, calls_per_day=25, **POLYGON)
    forget(project, "S0002", "S0003", "S0004")
    with project.engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO symbols (symbol, active) VALUES ('S0003', true), ('S0004', false), ('S0002', NULL)"
        )
    said = tick(new_symbols, project)
    assert isinstance(said, dg.SkipReason)
    assert said.skip_message == "3 symbols are partitions now; the history of 2 was requested, the first S0002"
    assert partitions(project) == ["S0001", "S0002", "S0003", "S0004"]
    # Without the one that does not trade any more, and the one that somebody has asked for.
    assert project.rows(REQUESTS) == [(["S0002", "S0003"], "1d", POLYGON_BEGINS, "history")]
    for _ in range(2):
        assert tick(new_symbols, project).skip_message == "None of 4 symbols is new"  # type: ignore[union-attr]
    assert project.rows("SELECT count(*) FROM backfill_requests") == [(1,)]


def test_what_a_person_loads_is_not_requested_besides(open_project: OpenProject) -> None:
    project = open_project(companies=2, calls_per_day=25, **POLYGON)
    forget(project, "S0001", "S0002")
    load(project, ["S0001"], date(2012, 3, 1), date(2012, 3, 30))
    tick(new_symbols, project)
    assert partitions(project) == ["S0001"]
    assert project.rows("SELECT count(*) FROM backfill_requests") == [(0,)]
    assert project.rows("SELECT symbol, timeframe::text, start_date::text FROM requested_history") == [
        ("S0001", "1d", "2012-03-01")
    ]


def test_what_a_request_names_is_not_requested_besides_whoever_entered_it(open_project: OpenProject) -> None:
    project = open_project(companies=2, calls_per_day=25, **POLYGON)
    forget(project, "S0001", "S0002")
    with project.engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO symbols (symbol, active) VALUES ('S0001', true), ('S0002', true)")
        backfill_requests.enter(connection, ["S0002"], "1d", date(2012, 3, 1), date(2012, 3, 30))
    tick(new_symbols, project)
    assert project.rows(REQUESTS) == [
        (["S0002"], "1d", "2012-03-01", "history"),
        (["S0001"], "1d", POLYGON_BEGINS, "history"),
    ]


def test_a_tick_for_new_symbols_that_is_killed_at_any_statement_requests_once(open_project: OpenProject) -> None:
    project = open_project(companies=2, calls_per_day=25, **POLYGON)
    forget(project, "S0002")
    with project.engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO symbols (symbol) VALUES ('S0002')")
    n_killed = 0
    while killed_at_statement(n_killed + 1, project, new_symbols):
        n_killed += 1
    assert n_killed >= 4
    assert partitions(project) == ["S0001", "S0002"]
    assert project.rows(REQUESTS) == [(["S0002"], "1d", POLYGON_BEGINS, "history")]


def test_the_history_of_a_symbol_that_changes_is_requested_again_once(open_project: OpenProject) -> None:
    project = open_project(companies=3, calls_per_day=25, **POLYGON)

    def change(statement: str) -> str:
        with project.engine.begin() as connection:
            connection.exec_driver_sql(statement)
        said = tick(new_symbols, project)
        assert isinstance(said, dg.SkipReason)
        return str(said.skip_message)

    unchanged = "None of 3 symbols is new"
    change("UPDATE requested_history SET start_date = '2012-03-01' WHERE symbol = 'S0002'")
    # What a vendor corrects in its texts, or who stops to trade, lacks no session.
    assert change("UPDATE symbols SET name = 'Renamed' WHERE symbol = 'S0001'") == unchanged
    assert change("UPDATE symbols SET active = false WHERE symbol = 'S0003'") == unchanged
    said = change("UPDATE symbols SET exchange = 'XLON' WHERE symbol = 'S0002'")
    assert said == "that of 1 which changed was requested again, the first S0002"
    assert change("UPDATE symbols SET active = true WHERE symbol = 'S0003'").endswith("the first S0003")
    assert change("UPDATE symbols SET name = 'Again'") == unchanged
    assert project.rows(REQUESTS) == [
        (["S0002"], "1d", "2012-03-01", "history"),
        (["S0003"], "1d", POLYGON_BEGINS, "history"),
    ]


# --- watch lists


class Folder:
    """A watch folder, and the sensor that looks at it, tick by tick."""

    def __init__(self, project: Project, path: Path) -> None:
        self.project, self.path, self.cursor = project, path, None
        self.said = ""

    def write(self, name: str, text: str) -> Path:
        file = self.path / name
        before = file.stat().st_mtime_ns if file.exists() else 0
        file.write_text(text)
        # Two writes within the clock's step are told apart by anybody who waits a tick.
        os.utime(file, ns=(before + 1_000_000_000, max(before + 1_000_000_000, file.stat().st_mtime_ns)))
        return file

    def tick(self) -> list[dg.RunRequest]:
        with dg.build_sensor_context(instance=self.project.instance, cursor=self.cursor) as context:
            result = watch_lists(context)
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor
        self.said = str(result.skip_reason.skip_message) if result.skip_reason else ""
        return list(result.run_requests or [])

    def run(self, wanted: dg.RunRequest) -> None:
        """Do what a tick wants; TickstockError when it fails."""
        self.project.run({**wanted.tags, RUN_KEY_TAG: str(wanted.run_key)}, "watch_list")

    def take(self) -> dg.RunRequest:
        """Let what was written be seen, found unchanged, and taken."""
        assert self.tick() == []
        (wanted,) = self.tick()
        self.run(wanted)
        return wanted


@pytest.fixture
def watched(open_project: OpenProject, tmp_path: Path) -> Callable[..., Folder]:
    """Opens the project with a watch folder; it knows the first of its companies only."""

    def open_it(companies: int = 4, calls_per_day: int = 25, **settings: str) -> Folder:
        path = tmp_path / "lists"
        path.mkdir()
        project = open_project(companies, calls_per_day, TICKSTOCK_WATCH_FOLDER=str(path), **settings)
        forget(project, *project.simulator.market.tickers[1:])
        return Folder(project, path)

    return open_it


def test_a_dropped_file_enters_its_symbols_and_requests_their_history_once(watched: Callable[..., Folder]) -> None:
    folder = watched(**POLYGON)
    folder.write(
        "mine.csv",
        "symbol,start,timeframe\nS0002\nS0003,2012-01-03\nS0004,2012-06-01,minute\nS0003,2012-06-01,minute\n",
    )
    wanted = folder.take()
    assert partitions(folder.project) == ["S0001", "S0002", "S0003", "S0004"]
    assert sorted(folder.project.rows(REQUESTS), key=str) == [
        (["S0002"], "1d", POLYGON_BEGINS, "history"),
        (["S0003", "S0004"], "1m", "2012-06-01", "history"),
        (["S0003"], "1d", "2012-01-03", "history"),
    ]
    # The sessions to store them by are there.
    assert folder.project.rows("SELECT count(*) > 0 FROM sessions WHERE session = '2003-09-10'") == [(True,)]
    for _ in range(3):
        assert folder.tick() == []
    # A cursor that is lost asks for the same run, of which Dagster makes none a second time.
    folder.cursor = None
    assert folder.tick() == []
    (again,) = folder.tick()
    assert again.run_key == wanted.run_key
    # And were it made, or the file dropped under another name as well, nothing is requested twice.
    folder.run(again)
    folder.write("other.csv", "S0003,,2012-06-01\nS0002\n")
    folder.tick()
    folder.run(folder.tick()[-1])
    assert folder.project.rows("SELECT count(*) FROM backfill_requests") == [(3,)]
    # Who has what is watched already makes nothing new of it.
    tick(new_symbols, folder.project)
    assert folder.project.rows("SELECT count(*) FROM backfill_requests") == [(3,)]


def test_mistakes_are_told_by_line_in_one_report_and_the_other_lines_are_taken(watched: Callable[..., Folder]) -> None:
    folder = watched(**POLYGON)
    text = "symbol,exchange,start\nS0002\nNOBODY\nS 3\nS0003,XLON\nS0004,XNYS,2999-01-01\nS0002\n"
    file = folder.write("mine.csv", text)
    with pytest.raises(TickstockError, match=r"mine\.csv: 5 lines have mistakes, the others are taken") as failed:
        folder.take()
    assert "line 3: NOBODY: polygon has no such symbol; line 4: expected a symbol such as AAPL" in str(failed.value)
    report = folder.path / "mine.csv.errors.txt"
    told = report.read_text().splitlines()
    assert told[:3] == [
        "line 3: NOBODY: polygon has no such symbol",
        "line 4: expected a symbol such as AAPL or BRK.B, found 'S 3'; correct it",
        "line 5: S0003: expected exchange XNYS, found XLON; correct it",
    ]
    assert told[3].startswith("line 6: S0004: --start") or "expected" in told[3]
    assert told[4] == "line 7: S0002 1d stands on line 2 already; remove one"
    assert file.read_text() == text
    assert [symbols for symbols, *_ in folder.project.rows(REQUESTS)] == [["S0002"]]
    # It is told once, until the file is another one: then the rest is taken, and the report goes.
    assert folder.tick() == folder.tick() == []
    folder.write("mine.csv", "S0002\nS0003\n")
    folder.take()
    assert [symbols for symbols, *_ in folder.project.rows(REQUESTS)] == [["S0002"], ["S0003"]]
    assert not report.exists()


def test_a_file_is_not_read_while_it_is_written(watched: Callable[..., Folder]) -> None:
    folder = watched(**POLYGON)
    for text in ("S0002\nS0", "S0002\nS0003\nS000", "S0002\nS0003\nS0004\n"):
        folder.write("mine.csv", text)
        assert folder.tick() == []
    # Of another kind, hidden, or a folder: nobody's list.
    for name in ("notes.txt", ".mine.csv.swp", ".hidden.csv"):
        folder.write(name, "S0001\n")
    (folder.path / "folder.csv").mkdir()
    (wanted,) = folder.tick()
    folder.run(wanted)
    assert [symbols for symbols, *_ in folder.project.rows(REQUESTS)] == [["S0002", "S0003", "S0004"]]


def test_a_list_whose_content_changed_before_its_run_leaves_it_to_the_next_run(watched: Callable[..., Folder]) -> None:
    folder = watched(**POLYGON)
    folder.write("mine.csv", "S0002\n")
    folder.tick()
    (wanted,) = folder.tick()
    folder.write("mine.csv", "S0003,,2012-01-03\n")
    folder.run(wanted)
    assert folder.project.rows(REQUESTS) == []
    folder.take()
    # Further back than was asked for is asked for; later is not.
    folder.write("mine.csv", "S0003,,2011-06-01\n")
    folder.take()
    folder.write("mine.csv", "S0003,,2012-06-01\n")
    folder.take()
    assert folder.project.rows(REQUESTS) == [
        (["S0003"], "1d", "2012-01-03", "history"),
        (["S0003"], "1d", "2011-06-01", "history"),
    ]


def test_a_list_that_was_away_when_its_run_began_is_taken_when_it_is_back(watched: Callable[..., Folder]) -> None:
    folder = watched(**POLYGON)
    file = folder.write("mine.csv", "S0002\n")
    folder.tick()
    (wanted,) = folder.tick()
    away = file.rename(file.with_suffix(".away"))
    folder.run(wanted)
    assert folder.tick() == []
    away.rename(file)
    assert folder.tick() == []
    # Its key is taken; what came of that run shows in the next tick.
    assert [one.run_key for one in folder.tick()] == [wanted.run_key]
    (again,) = folder.tick()
    assert again.run_key == str(wanted.run_key).removesuffix("1") + "2"
    folder.run(again)
    assert [symbols for symbols, *_ in folder.project.rows(REQUESTS)] == [["S0002"]]
    assert folder.tick() == folder.tick() == []


def test_a_file_that_is_too_large_fails_by_itself_and_the_others_are_taken(watched: Callable[..., Folder]) -> None:
    folder = watched(**POLYGON)
    with folder.write("dump.csv", "S0003\n").open("ab") as file:
        file.truncate(module.LARGEST_BYTES + 1)
    folder.write("mine.csv", "S0002\n")
    assert folder.tick() == []
    too_large, mine = folder.tick()
    with pytest.raises(
        TickstockError, match=r"dump.csv: expected a list of symbols of at most 10,000,000 bytes, found"
    ):
        folder.run(too_large)
    folder.run(mine)
    assert [symbols for symbols, *_ in folder.project.rows(REQUESTS)] == [["S0002"]]
    assert "split it" in (folder.path / "dump.csv.errors.txt").read_text()
    assert folder.tick() == folder.tick() == []


@pytest.mark.skipif(sys.platform != "linux", reason="has a file that cannot be read, whoever reads it")
def test_a_file_that_cannot_be_read_is_told_and_holds_up_no_other(watched: Callable[..., Folder]) -> None:
    folder = watched(**POLYGON)
    unreadable = folder.path / "a.csv"
    unreadable.symlink_to("/proc/self/mem")
    folder.write("mine.csv", "S0002\n")
    assert folder.tick() == []
    (mine,) = folder.tick()
    folder.run(mine)
    assert folder.tick() == []
    assert f"{unreadable}: expected a list that can be read, found: Input/output error" in folder.said
    unreadable.unlink()
    folder.write("a.csv", "S0003\n")
    assert folder.tick() == []
    (readable,) = folder.tick()
    folder.run(readable)
    assert folder.tick() == []
    assert folder.said == "2 files: 0 to stand still, 0 at work, the others are taken as they are"


def test_symbols_that_a_budget_does_not_let_ask_for_are_asked_for_when_it_does(
    watched: Callable[..., Folder], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = watched(calls_per_day=2)
    load(folder.project, ["S0001"], FIRST, LAST)
    use_up(folder.project)
    folder.write("mine.csv", "S0001\nS0002\n")
    with pytest.raises(TickstockError, match=r"mine.csv: 1 lines wait until .* UTC: "):
        folder.take()
    # Of the one that is known somebody has asked before.
    assert folder.project.rows(REQUESTS) == []
    assert folder.tick() == []

    folder.project.a_day_passes()
    days_pass(monkeypatch, 1)
    (again,) = folder.tick()
    assert json.loads(str(folder.cursor))["mine.csv"]["attempt"] == 2
    # A call to know it, one for its splits, none is left for its dividends: without them bars would be measured as they are.
    with pytest.raises(TickstockError, match=r"mine.csv: 1 lines wait until .* UTC: splits and dividends: "):
        folder.run(again)
    assert folder.project.rows("SELECT symbol FROM symbols ORDER BY 1") == [("S0001",), ("S0002",)]
    assert folder.project.rows(REQUESTS) == []
    folder.project.a_day_passes()
    days_pass(monkeypatch, 2)
    (again,) = folder.tick()
    folder.run(again)
    assert [symbols for symbols, *_ in folder.project.rows(REQUESTS)] == [["S0002"]]
    assert folder.tick() == folder.tick() == []


def days_pass(monkeypatch: pytest.MonkeyPatch, days: int) -> None:
    """Let the sensor's clock be so much later."""

    class Later(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(days=days)

    monkeypatch.setattr(module, "datetime", Later)


def ask_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no request to a vendor be tried again: that takes a minute."""
    monkeypatch.setattr(resources, "open_lineup", partial(open_lineup, patience=Patience(tries=1)))


def goes_on(project: Project) -> bool:
    """Return whether the last run said that it goes on by itself, so that nobody is alerted."""
    (run,) = project.instance.get_runs(limit=1)
    ending = ending_of(project.instance, run)
    assert ending is not None
    return ending.continues_at is not None


def test_a_fault_of_the_moment_is_met_a_few_times_in_a_row_and_then_told(
    watched: Callable[..., Folder], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask_once(monkeypatch)
    folder = watched(**POLYGON)
    folder.project.simulator.script(Fault.SERVER_ERROR, times=module.MOST_ATTEMPTS)
    folder.write("mine.csv", "S0002\n")
    with pytest.raises(TickstockError, match=r"mine\.csv: 1 lines wait until .* UTC: S0002: "):
        folder.take()
    assert goes_on(folder.project)
    # Not at once.
    assert folder.tick() == []
    days_pass(monkeypatch, 1)
    (second,) = folder.tick()
    with pytest.raises(TickstockError, match="1 lines wait until"):
        folder.run(second)
    assert goes_on(folder.project)
    (third,) = folder.tick()
    what_to_do = (
        r"1 lines are not taken in 3 attempts: S0002: .*; mend that, then rename the file, which has it taken anew"
    )
    with pytest.raises(TickstockError, match=what_to_do):
        folder.run(third)
    assert not goes_on(folder.project)
    assert folder.tick() == folder.tick() == []
    assert folder.said == "1 files: 0 to stand still, 0 at work, the others are taken as they are"


def test_a_budget_that_was_waited_for_begins_the_count_of_faults_anew(
    watched: Callable[..., Folder], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask_once(monkeypatch)
    folder = watched()
    folder.project.simulator.script(Fault.SERVER_ERROR, times=2)
    folder.write("mine.csv", "S0002\n")
    with pytest.raises(TickstockError, match="1 lines wait until"):
        folder.take()

    def faults_before_the_next() -> str:
        """Do the next run, which has to wait too, and return how many in a row before it have met a fault."""
        (again,) = folder.tick()
        with pytest.raises(TickstockError, match="1 lines wait until"):
            folder.run(again)
        return again.tags[module.FAULTS_TAG]

    days_pass(monkeypatch, 1)
    assert faults_before_the_next() == "1"
    use_up(folder.project)
    assert faults_before_the_next() == "2"
    folder.project.a_day_passes()
    folder.project.simulator.script(Fault.SERVER_ERROR)
    days_pass(monkeypatch, 2)
    assert faults_before_the_next() == "0"
    assert goes_on(folder.project)


def test_a_refusal_ends_with_what_to_do_and_another_name_has_the_list_taken_anew(
    watched: Callable[..., Folder],
) -> None:
    folder = watched(**POLYGON)
    folder.project.simulator.plans[Vendor.POLYGON] = Plan(expires_after=0)
    file = folder.write("mine.csv", "S0002\n")
    what_to_do = r"1 lines are not taken: S0002: polygon: .*; mend that, then rename the file, which has it taken anew"
    with pytest.raises(TickstockError, match=what_to_do):
        folder.take()
    assert not goes_on(folder.project)
    assert folder.tick() == folder.tick() == []
    folder.project.simulator.renew_key(Vendor.POLYGON)
    file.rename(file.with_name("again.csv"))
    folder.take()
    assert [symbols for symbols, *_ in folder.project.rows(REQUESTS)] == [["S0002"]]


def use_up(project: Project) -> None:
    """Let all calls of the day have been made."""
    with project.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE provider_quota SET used = budget WHERE period = 'day'")


def test_without_the_setting_nothing_is_read(open_project: OpenProject) -> None:
    project = open_project(companies=1, calls_per_day=25)
    assert tick(watch_lists, project).skip_message == "TICKSTOCK_WATCH_FOLDER is not set"  # type: ignore[union-attr]


def test_a_watch_folder_that_is_none_is_told(open_project: OpenProject, tmp_path: Path) -> None:
    project = open_project(companies=1, calls_per_day=25, TICKSTOCK_WATCH_FOLDER=str(tmp_path / "nowhere"))
    with pytest.raises(
        TickstockError, match=r"TICKSTOCK_WATCH_FOLDER: expected a folder, found .*nowhere, which is none"
    ):
        tick(watch_lists, project)
