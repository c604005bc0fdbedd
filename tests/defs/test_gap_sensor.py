"""Gaps close by themselves: asked for again in their own days only, closed by a later look, given up with a reason."""

from datetime import date, timedelta

import dagster as dg
import pandas as pd
import pytest

from tests.defs.conftest import OpenProject
from tests.defs.gap_holes import (
    POLYGON,
    YEAR,
    Hole,
    as_the_daemon_does,
    expected,
    hours_pass,
    killed_at_statement,
    let_lack,
    load,
    look,
    punch,
    stored,
    tick,
)
from tests.defs.simulated import Project
from tickstock_assets.definitions import defs
from tickstock_assets.defs import gap_sensor, resources
from tickstock_assets.defs.gap_sensor import heal_gaps, look_for_gaps
from tickstock_assets.defs.request_runs import REQUEST_TAG
from tickstock_assets.domain.errors import TickstockError
from tickstock_assets.loading import gap_healing
from tickstock_assets.loading.gap_healing import Healer
from tickstock_assets.loading.load import Loader, Order
from tickstock_assets.providers.base import Dataset
from tickstock_assets.settings import settings
from tickstock_assets.simulator import Market
from tickstock_assets.storage import audit, backfill_requests, gap_attempts
from tickstock_assets.storage.removal import remove_minutes
from tickstock_assets.storage.retry import in_transaction

pytestmark = [
    pytest.mark.tiers("embedded"),
    # Dagster's own code calls it.
    pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated"),
]

SYMBOLS = [f"S{number:04}" for number in range(1, 13)]
SEED = 20260
N_HOLES, N_LACKING = 50, 3


def holes_in(market: Market) -> list[Hole]:
    """Return 50 days of the year: scattered, three in a row of one symbol, and as many of a symbol as look like a habit."""
    days = [day.date() for day in market.daily(SYMBOLS[0])["date"] if YEAR[0] <= day.date() <= YEAR[1]]
    row = [(SYMBOLS[0], day) for day in days[100:103]]
    habit = [(SYMBOLS[1], day) for day in days[20:240:20]]
    rest = [(symbol, day) for symbol in SYMBOLS[2:] for day in days[5:-5]]
    picked = pd.Series(rest).sample(N_HOLES - len(row) - len(habit), random_state=SEED).tolist()
    return sorted([*row, *habit, *picked])


@pytest.fixture
def project(open_project: OpenProject) -> Project:
    """Twelve symbols of which the year is loaded from a vendor that is asked by symbol."""
    project = open_project(companies=len(SYMBOLS), calls_per_day=0, **POLYGON)
    load(project, SYMBOLS, *YEAR)
    return project


def gaps(
    project: Project, what: str = "symbol, evidence ->> 'session'", where: str = "healed_at IS NULL"
) -> list[tuple[object, ...]]:
    return project.rows(f"SELECT {what} FROM data_gaps WHERE class <> 'holiday' AND {where} ORDER BY 1, 2")


def sessions_of(project: Project, symbol: str, window: str) -> list[Hole]:
    """Return the sessions of a call's window, `first..last+offset`."""
    first, last = (pd.Timestamp(day) for day in window.partition("+")[0].split(".."))
    days = project.simulator.market.daily(symbol)["date"]
    return [(symbol, day.date()) for day in days[(days >= first) & (days <= last)]]


def asked_since(project: Project, n_calls: int) -> list[tuple[str, str]]:
    return [(call.symbol, call.window) for call in project.simulator.record.calls[n_calls:]]


def test_fifty_holes_are_healed_with_no_other_work_done_and_closed(project: Project) -> None:
    holes = holes_in(project.simulator.market)
    assert len(holes) == len(set(holes)) == N_HOLES
    before = stored(project)
    punch(project, holes)
    assert len(stored(project)) == len(before) - N_HOLES
    look(project, SYMBOLS, *YEAR)
    assert gaps(project) == [(symbol, str(day)) for symbol, day in holes]
    n_calls = len(project.simulator.record.calls)

    (run,) = as_the_daemon_does(project)

    assert run.job_name == "gap_healing"
    assert gaps(project) == []
    pd.testing.assert_frame_equal(stored(project), before)
    pd.testing.assert_frame_equal(before, expected(project.simulator.market, SYMBOLS, *YEAR))
    # One call a hole, but for the three in a row, which are one; nobody's other days are asked for.
    asked = asked_since(project, n_calls)
    assert len(asked) == N_HOLES - 2
    assert sorted(day for call in asked for day in sessions_of(project, *call)) == holes
    assert project.rows("SELECT kind, status, attempts FROM backfill_requests") == [("gaps", "succeeded", 1)]
    # Just the partitions in which something was filled are told of, and nothing is computed anew that did not change.
    assert project.materialized("ohlcv_daily") == {f"{symbol}|2012" for symbol, _ in holes}
    assert project.materialized("bar_features") == set()
    assert [run.job_name for run in project.instance.get_runs()] == ["gap_healing"]

    assert as_the_daemon_does(project) == []
    assert tick(heal_gaps, project).skip_message == "No gap is open that a provider may fill"  # type: ignore[union-attr]
    assert len(asked_since(project, n_calls)) == N_HOLES - 2


def test_what_nobody_has_is_given_up_with_a_reason_and_the_rest_is_healed(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TICKSTOCK_GAP_ATTEMPTS", "2")
    settings.cache_clear()
    holes = holes_in(project.simulator.market)
    # Of the row, of the one that looks like a habit, and of another.
    lacking = [holes[1], next(hole for hole in holes if hole[0] == SYMBOLS[1]), holes[-1]]
    punch(project, holes)
    let_lack(project.simulator.market, lacking)
    look(project, SYMBOLS, *YEAR)
    assert len(as_the_daemon_does(project)) == 1
    assert gaps(project, "symbol, evidence ->> 'session', attempts") == [
        (symbol, str(day), 1) for symbol, day in sorted(lacking)
    ]
    # A quarter of an hour has to pass before the second attempt, and no more are made.
    assert as_the_daemon_does(project) == []
    hours_pass(project)
    n_calls = len(project.simulator.record.calls)
    assert len(as_the_daemon_does(project)) == 1
    again = asked_since(project, n_calls)
    assert sorted(day for call in again for day in sessions_of(project, *call)) == sorted(lacking)
    assert gaps(project, "count(*), 0", "given_up_at IS NOT NULL") == [(0, 0)]
    said = tick(heal_gaps, project)
    assert isinstance(said, dg.SkipReason)
    assert str(said.skip_message).startswith("gave up 3 gaps, the first S0001 1d 2012-")
    reasons = gaps(project, "symbol, given_up_reason", "healed_at IS NULL")
    assert [symbol for symbol, _ in reasons] == sorted(symbol for symbol, _ in lacking)
    for (_, reason), (_, day) in zip(reasons, sorted(lacking), strict=True):
        assert str(reason).startswith("2 attempts, the last on ")
        assert str(reason).endswith(f" UTC: polygon answered for {day} without them")
    pd.testing.assert_frame_equal(stored(project), expected(project.simulator.market, SYMBOLS, *YEAR, without=lacking))
    hours_pass(project, 1000)
    assert as_the_daemon_does(project) == []

    # A person has them tried again when the vendor has mended itself.
    let_lack(project.simulator.market, [])
    del project.simulator.market._listed_series
    project.simulator.market._listed_series = project.simulator.market._make_listed_series  # type: ignore[assignment]
    assert in_transaction(project.engine, gap_attempts.try_again) == N_LACKING
    as_the_daemon_does(project)
    assert gaps(project) == []
    assert gaps(project, "symbol, attempts", "given_up_at IS NOT NULL") == []


JULY = date(2012, 7, 2), date(2012, 7, 31)
# In New York 10:30 to 10:50, and from 11:00 on.
HOLE = pd.date_range("2012-07-10 14:30", periods=20, freq="min", tz="UTC")
REMOVED = pd.date_range("2012-07-10 15:00", periods=15, freq="min", tz="UTC")


def test_minutes_that_a_person_removed_do_not_come_back_while_a_hole_of_the_same_day_is_healed(
    open_project: OpenProject,
) -> None:
    project = open_project(companies=3, calls_per_day=0, **POLYGON)
    symbols = SYMBOLS[:3]
    load(project, symbols, *JULY)
    load(project, symbols, *JULY, dataset=Dataset.MINUTE_BARS)
    with project.engine.begin() as connection:
        end = (REMOVED[-1] + pd.Timedelta(minutes=1)).to_pydatetime()
        assert remove_minutes(connection, "S0002", REMOVED[0].to_pydatetime(), end, "prints of another symbol") == 15
        minutes = "DELETE FROM ohlcv_1min WHERE symbol = 'S0002' AND timestamp = ANY (%s)"
        assert connection.exec_driver_sql(minutes, (HOLE.to_list(),)).rowcount == 20
    look(project, symbols, *JULY, timeframe="1m")
    found = "symbol, class, missing_bars"
    is_there = "healed_at IS NULL AND class NOT IN ('half_day', 'no_trade')"
    assert gaps(project, found, is_there) == [("S0002", "provider_hole", 20), ("S0002", "removed", 15)]
    n_calls = len(project.simulator.record.calls)

    (run,) = as_the_daemon_does(project)

    assert run.job_name == "gap_healing"
    assert [(call.symbol, call.route, call.window) for call in project.simulator.record.calls[n_calls:]] == [
        ("S0002", "aggregates_minute", "2012-07-10..2012-07-10+0")
    ]
    assert gaps(project, found, is_there) == [("S0002", "removed", 15)]
    day = "symbol = 'S0002' AND timestamp BETWEEN '2012-07-10 13:30Z' AND '2012-07-10 19:59Z'"
    assert project.rows(f"SELECT count(*) FROM ohlcv_1min WHERE {day}") == [(390 - 15,)]
    # What is made of the minutes is made anew, of those that there are.
    assert project.rows(
        "SELECT (SELECT sum(volume) FROM ohlcv_1min WHERE timestamp >= '2012-07-10 14:00Z' AND timestamp < '2012-07-10 15:00Z' "
        "AND symbol = 'S0002') = volume FROM ohlcv_1h WHERE symbol = 'S0002' AND timestamp = '2012-07-10 14:00Z'"
    ) == [(True,)]
    assert project.materialized("ohlcv_1min") == {"S0002|2012-07"}
    # A person who wants them back after all has everything fetched again.
    loader = Loader(resources.lineup(), project.engine, settings().landing_path)
    one_day = date(2012, 7, 10), date(2012, 7, 10)
    loader.load(Order(["S0002"], *one_day, Dataset.MINUTE_BARS, recheck=True, actions=False))
    assert project.rows(f"SELECT count(*) FROM ohlcv_1min WHERE {day}") == [(390,)]


def test_a_tick_that_is_killed_at_any_statement_neither_doubles_nor_loses_an_attempt(project: Project) -> None:
    holes = [("S0001", date(2012, 5, 15)), ("S0007", date(2012, 3, 1))]
    punch(project, holes)
    look(project, SYMBOLS, *YEAR)
    state = (
        "SELECT (SELECT count(*) FROM backfill_requests), min(attempts), max(attempts), count(DISTINCT request_id) "
        "FROM data_gaps WHERE class = 'provider_hole'"
    )
    n_killed = 0
    while killed_at_statement(n_killed + 1, project, heal_gaps):
        n_killed += 1
        assert project.rows(state) in ([(0, 0, 0, 0)], [(1, 1, 1, 1)])
    # Both transactions, what they write, and the look before the last word.
    assert n_killed >= 5
    tick(heal_gaps, project)
    assert project.rows(state) == [(1, 1, 1, 1)]
    assert len(as_the_daemon_does(project)) == 1
    assert gaps(project) == []


def heal_until_killed(project: Project, monkeypatch: pytest.MonkeyPatch, place: object, name: str) -> dict[str, str]:
    """Let a run do the request and be killed where it calls this, and return the tags of the run."""
    tick(heal_gaps, project)
    [(request,)] = project.rows("SELECT id::text FROM backfill_requests")
    tags = {REQUEST_TAG: str(request)}

    def killed(*_: object, **__: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(place, name, killed)
        with pytest.raises(TickstockError):
            project.run(tags, "gap_healing")
    return tags


def told(project: Project, asset: str) -> list[str]:
    """Return the partitions of an asset that Dagster was told of, each time."""
    return sorted(
        str(record.partition_key)
        for record in project.instance.fetch_materializations(dg.AssetKey(asset), limit=100).records
    )


def test_what_a_killed_run_had_healed_is_told_of_by_the_next_one_and_by_no_other(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    punch(project, [("S0001", date(2012, 5, 15)), ("S0007", date(2012, 3, 1))])
    look(project, SYMBOLS, *YEAR)
    tags = heal_until_killed(project, monkeypatch, Healer, "_note")
    assert (gaps(project), told(project, "ohlcv_daily")) == ([], [])
    for _ in range(2):
        project.run(tags, "gap_healing")
        assert told(project, "raw_daily_bars") == told(project, "ohlcv_daily") == ["S0001|2012", "S0007|2012"]


@pytest.mark.parametrize(("place", "name"), [(gap_healing, "find_gaps"), (Healer, "_note")])
def test_days_that_a_killed_run_had_made_of_minutes_are_told_of_by_the_next_one(
    open_project: OpenProject, monkeypatch: pytest.MonkeyPatch, place: object, name: str
) -> None:
    project = open_project(companies=3, calls_per_day=0, **POLYGON)
    # No daily bars: the days are made of the minutes.
    load(project, SYMBOLS[:3], *JULY, dataset=Dataset.MINUTE_BARS)
    with project.engine.begin() as connection:
        minutes = "DELETE FROM ohlcv_1min WHERE symbol = 'S0002' AND timestamp = ANY (%s)"
        assert connection.exec_driver_sql(minutes, (HOLE.to_list(),)).rowcount == 20
    look(project, SYMBOLS[:3], *JULY, timeframe="1m")
    tags = heal_until_killed(project, monkeypatch, place, name)
    assert ("S0002", "2012-07-10") in project.rows("SELECT symbol::text, date::text FROM ohlcv_daily")
    for _ in range(2):
        project.run(tags, "gap_healing")
        assert told(project, "ohlcv_1min") == ["S0002|2012-07"]
        assert told(project, "ohlcv_daily") == ["S0002|2012"]


def test_a_request_that_a_person_cancels_gives_its_gaps_up(project: Project) -> None:
    punch(project, [("S0001", date(2012, 5, 15))])
    look(project, SYMBOLS, *YEAR)
    tick(heal_gaps, project)
    [(request,)] = project.rows("SELECT id::text FROM backfill_requests")
    with project.engine.begin() as connection:
        backfill_requests.cancel(connection, str(request), "not wanted")
    tick(heal_gaps, project)
    [(_, reason)] = gaps(project, "symbol, given_up_reason")
    assert str(reason).endswith("UTC: a person cancelled the request")
    assert project.rows("SELECT count(*) FROM backfill_requests") == [(1,)]


def test_a_look_is_started_once_after_bars_were_stored_and_not_while_they_still_come(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Loaded a moment ago: its end is waited for.
    said = tick(look_for_gaps, project)
    assert isinstance(said, dg.SkipReason)
    assert "waiting until that is over" in str(said.skip_message)
    monkeypatch.setattr(gap_sensor, "QUIET", timedelta(0))
    (wanted,) = tick(look_for_gaps, project).run_requests or []  # type: ignore[union-attr]
    (again,) = tick(look_for_gaps, project).run_requests or []  # type: ignore[union-attr]
    assert wanted.run_key == again.run_key
    project.run(wanted.tags, "gaps")
    said = tick(look_for_gaps, project)
    assert isinstance(said, dg.SkipReason)
    assert str(said.skip_message).startswith("No bars were stored since ")


@pytest.mark.parametrize("looked_before", [False, True])
def test_bars_that_are_stored_without_a_pause_are_looked_at_an_hour_after_the_first_of_them(
    project: Project, monkeypatch: pytest.MonkeyPatch, *, looked_before: bool
) -> None:
    if looked_before:
        monkeypatch.setattr(gap_sensor, "QUIET", timedelta(0))
        (wanted,) = tick(look_for_gaps, project).run_requests or []  # type: ignore[union-attr]
        project.run(wanted.tags, "gaps")
        with project.engine.begin() as connection:
            audit.record(connection, "load", ("ohlcv_daily", "ohlcv_daily"), "load", {})
    # The load goes on, and its last bars are of a moment ago.
    monkeypatch.setattr(gap_sensor, "QUIET", timedelta(days=1))
    assert isinstance(tick(look_for_gaps, project), dg.SkipReason)
    monkeypatch.setattr(gap_sensor, "LOOK_EVERY", timedelta(0))
    assert len(tick(look_for_gaps, project).run_requests or []) == 1  # type: ignore[union-attr]


def test_a_look_that_failed_is_repeated_after_a_while_and_one_that_a_person_cancelled_is_not(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gap_sensor, "QUIET", timedelta(0))
    job = defs.resolve_job_def("gaps")
    (wanted,) = tick(look_for_gaps, project).run_requests or []  # type: ignore[union-attr]
    run = project.instance.create_run_for_job(job_def=job, tags=wanted.tags, status=dg.DagsterRunStatus.STARTED)
    project.instance.report_run_failed(run)
    said = tick(look_for_gaps, project)
    assert isinstance(said, dg.SkipReason)
    assert said.skip_message == "The last look failed; the next one is due 15 minutes after it"
    monkeypatch.setattr(gap_sensor, "LOOK_AGAIN_AFTER", timedelta(0))
    (again,) = tick(look_for_gaps, project).run_requests or []  # type: ignore[union-attr]
    assert (again.run_key, again.tags) == (f"{str(wanted.run_key).removesuffix('/1')}/2", wanted.tags)
    project.instance.create_run_for_job(job_def=job, tags=again.tags, status=dg.DagsterRunStatus.CANCELED)
    said = tick(look_for_gaps, project)
    assert isinstance(said, dg.SkipReason)
    assert said.skip_message == "The last look was cancelled; the next one follows on the next change"


@pytest.mark.parametrize("how", ["failed", "was cancelled"])
def test_bars_that_are_stored_all_day_do_not_hurry_the_look_after_one_that_ended_without_success(
    project: Project, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(gap_sensor, "QUIET", timedelta(0))
    (wanted,) = tick(look_for_gaps, project).run_requests or []  # type: ignore[union-attr]
    run = project.instance.create_run_for_job(
        job_def=defs.resolve_job_def("gaps"), tags=wanted.tags, status=dg.DagsterRunStatus.STARTED
    )
    ends = project.instance.report_run_failed if how == "failed" else project.instance.report_run_canceled
    ends(run)
    with project.engine.begin() as connection:
        audit.record(connection, "load", ("ohlcv_daily", "ohlcv_daily"), "load", {})
    said = tick(look_for_gaps, project)
    assert isinstance(said, dg.SkipReason)
    assert said.skip_message == f"The last look {how}; the next one is due 15 minutes after it"
    monkeypatch.setattr(gap_sensor, "LOOK_AGAIN_AFTER", timedelta(0))
    (later,) = tick(look_for_gaps, project).run_requests or []  # type: ignore[union-attr]
    assert later.tags != wanted.tags


def test_gaps_that_nobody_asked_about_are_not_healed_by_a_run_that_a_person_starts(project: Project) -> None:
    with pytest.raises(TickstockError, match="expected a run of a request with gaps, found no tag tickstock/request"):
        project.run({}, "gap_healing")
