"""`tickstock backfill` as people type it, without a daemon: what is refused, entered, left out, shown and cancelled."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from click.testing import Result
from dagster._core.storage.tags import RUN_KEY_TAG, SENSOR_NAME_TAG
from dagster._daemon.types import DaemonHeartbeat
from typer.testing import CliRunner

from tests.defs.conftest import OpenProject
from tests.defs.simulated import Project
from tickstock_assets.cli import backfill_progress
from tickstock_assets.cli.command import app
from tickstock_assets.definitions import defs
from tickstock_assets.defs import daemon
from tickstock_assets.defs.partitions import rectangle_tags
from tickstock_assets.defs.sensors import due_requests
from tickstock_assets.domain.errors import ConfigError

pytestmark = [
    pytest.mark.tiers("embedded"),
    # Dagster's own code calls it.
    pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated"),
]

YEAR = ("--start", "2011-01-01", "--end", "2011-12-31")


@pytest.fixture
def project(open_project: OpenProject) -> Project:
    return open_project(companies=3, calls_per_day=25)


def backfill(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["backfill", *arguments])


def complaint(result: Result) -> str:
    """Return the sentence that a mistake gets; the command prints it and exits with 2."""
    assert isinstance(result.exception, ConfigError), result.output
    return str(result.exception)


def entered(project: Project) -> list[tuple[object, ...]]:
    return project.rows(
        "SELECT symbols, timeframe::text, start_date, end_date FROM backfill_requests ORDER BY start_date"
    )


def give_signs(project: Project, at: float | None = None) -> None:
    """Let Dagster's daemon seem to have given its last sign at a moment, else now."""
    moment = datetime.now(UTC).timestamp() if at is None else at
    for name in daemon.NEEDED:
        project.instance.add_daemon_heartbeat(DaemonHeartbeat(moment, name, "a daemon"))


# --- mistakes


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Symbols: expected --symbols AAPL,MSFT or --file symbols.csv, found none; name one"),
        (["--symbols", "S0001", "--file", "x.csv"], "found both"),
        (["--symbols", " , "], "expected at least one symbol such as AAPL, found none"),
        (["--symbols", "S0001", "--timeframe", "fortnight"], "found 'fortnight'"),
        (
            ["--symbols", "S0001", "--timeframe", "5m"],
            "expected day or minute, found '5m'; others are rolled up from minutes",
        ),
        (
            ["--symbols", "S0001", "--start", "2012-01-02", "--end", "2011-01-03"],
            "expected a day up to --end 2011-01-03",
        ),
        (["--symbols", "S0001", "--start", "1970-01-02", "--end", "1971-01-03"], "which alpha_vantage can have"),
        (["--symbols", "S0001", "--start", "2190-01-02", "--end", "2190-12-03"], "which alpha_vantage can have"),
        # A Saturday and a Sunday; Independence Day and its neighbours of a weekend.
        (
            ["--symbols", "S0001", "--start", "2012-01-07", "--end", "2012-01-08"],
            "expected a day with a session, found none",
        ),
        (
            ["--symbols", "S0001", "--start", "2011-07-02", "--end", "2011-07-04"],
            "expected a day with a session, found none",
        ),
        (["--symbols", "S0009,S0001", "--no-wait", *YEAR], "has no such symbol; did you mean S0003 or S0002 or S0001?"),
        (["show", "no-such-id"], "expected how the id of one begins, found none"),
        (["cancel", ""], "expected how the id of one begins, found none"),
    ],
)
def test_a_mistake_gets_a_sentence_and_enters_nothing(project: Project, arguments: list[str], sentence: str) -> None:
    assert sentence in complaint(backfill(*arguments))
    assert entered(project) == []


def test_a_line_of_a_file_that_cannot_be_is_named(project: Project, tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    file.write_text("symbol\nS0001\nno symbol\n")
    assert f"{file}, line 3: expected a symbol" in complaint(backfill("--file", str(file)))
    file.write_text("symbol,note\nS0003,x\nS0001,y\n")
    assert backfill("--file", str(file), *YEAR, "--no-wait").exit_code == 0
    assert entered(project) == [(["S0001", "S0003"], "1d", date(2011, 1, 1), date(2011, 12, 31))]


# --- without a daemon


def test_without_a_daemon_nothing_is_entered_to_be_waited_for(project: Project) -> None:
    said = complaint(backfill("--symbols", "S0001", *YEAR))
    assert said == (
        "Backfill: expected Dagster's daemon to be running, found that it never has; start it with `tickstock ui`, or enter "
        "it for later with --no-wait; nothing was entered"
    )
    give_signs(project, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp())
    assert "found its last sign at 2026-01-02 03:04:05 UTC" in complaint(backfill("--symbols", "S0001", *YEAR))
    assert entered(project) == []
    give_signs(project)
    assert daemon.why_silent(project.instance) is None


def test_with_no_wait_it_is_entered_once_and_said_that_nothing_begins_yet(project: Project) -> None:
    with project.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM requested_history")
    first = backfill("--symbols", "S0002,S0001", *YEAR, "--no-wait")
    assert first.exit_code == 0
    assert "Nothing begins yet: expected Dagster's daemon to be running" in " ".join(first.stderr.split())
    again = json.loads(backfill("--symbols", "S0001,S0002", *YEAR, "--no-wait", "--json").stdout)["requests"]
    assert [(one["symbols"], one["status"], one["runs"]) for one in again] == [(["S0001", "S0002"], "requested", [])]
    assert len(entered(project)) == 1
    # Nor does the sensor that looks for new symbols ask for more of them.
    assert project.rows("SELECT symbol, start_date FROM requested_history ORDER BY symbol") == [
        ("S0001", date(2011, 1, 1)),
        ("S0002", date(2011, 1, 1)),
    ]


def test_a_range_that_can_be_had_in_part_is_asked_for_in_that_part(project: Project) -> None:
    result = backfill("--symbols", "S0001", "--start", "1960-01-01", "--end", "2011-12-31", "--no-wait")
    assert "Of 1960-01-01 to 2011-12-31, only 2000-01-01 to 2011-12-31 can be had." in " ".join(result.stderr.split())
    assert entered(project) == [(["S0001"], "1d", date(2000, 1, 1), date(2011, 12, 31))]


def test_a_dry_run_enters_nothing_and_asks_nobody(project: Project) -> None:
    result = backfill("--symbols", "S0001,S0003,LATER", *YEAR, "--dry-run", "--json")
    shown = json.loads(result.stdout)
    assert [(one["symbols"], one["runs"], one["partitions"]) for one in shown["requests"]] == [
        (["S0001", "S0003", "LATER"], 2, 3)
    ]
    assert shown["plan"]["provider"] == "alpha_vantage"
    assert entered(project) == []
    assert project.asked_for() == []
    assert "Nothing is entered yet" in backfill("--symbols", "S0001", *YEAR, "--dry-run").stdout


# --- only what is missing


def test_only_what_is_not_loaded_is_asked_for(project: Project) -> None:
    project.run(rectangle_tags(["S0001"], ["S0001"], date(2011, 1, 1), date(2011, 12, 31)))
    nothing = backfill("--symbols", "S0001", *YEAR, "--only-missing", "--no-wait")
    assert nothing.exit_code == 0
    assert "Nothing missing of S0001 from 2011-01-01 to 2011-12-31" in nothing.stdout
    assert json.loads(backfill("--symbols", "S0001", *YEAR, "--only-missing", "--no-wait", "--json").stdout) == {
        "requests": [],
        "nothing_missing": True,
    }
    assert entered(project) == []
    two_years = ("--start", "2011-01-01", "--end", "2012-12-31")
    backfill("--symbols", "S0001,S0002,S0003", *two_years, "--only-missing", "--no-wait")
    assert entered(project) == [
        (["S0002", "S0003"], "1d", date(2011, 1, 1), date(2012, 12, 31)),
        (["S0001"], "1d", date(2012, 1, 1), date(2012, 12, 31)),
    ]


def test_what_is_landed_and_not_stored_is_missing(project: Project) -> None:
    project.run(rectangle_tags(["S0001"], ["S0001"], date(2011, 1, 1), date(2011, 12, 31)))
    with project.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM stored_windows WHERE dataset = 'daily_bars'")
    backfill("--symbols", "S0001", *YEAR, "--only-missing", "--no-wait")
    assert len(entered(project)) == 1


# --- afterwards


@pytest.fixture
def started(project: Project) -> Callable[[], tuple[str, dg.DagsterRun]]:
    """Enters a request and lets its run be made; returns both."""

    def start() -> tuple[str, dg.DagsterRun]:
        shown = json.loads(backfill("--symbols", "S0001", *YEAR, "--no-wait", "--json").stdout)
        with dg.build_sensor_context(instance=project.instance) as context:
            ticked: Any = due_requests(context)
        (wanted,) = ticked.run_requests
        run = project.instance.create_run_for_job(
            job_def=defs.resolve_job_def("daily_history"),
            # Once it has failed, Dagster is not to start it again.
            tags={
                **wanted.tags,
                RUN_KEY_TAG: wanted.run_key,
                SENSOR_NAME_TAG: "due_requests",
                "dagster/max_retries": "0",
            },
            status=dg.DagsterRunStatus.NOT_STARTED,
        )
        return shown["requests"][0]["id"], run

    return start


def test_a_request_is_listed_shown_and_cancelled_by_the_beginning_of_its_id(
    project: Project, started: Callable[[], tuple[str, dg.DagsterRun]]
) -> None:
    request, run = started()
    assert request[:8] in backfill("list", "--open").stdout
    assert "0 of 1 partitions; runs: 1 not started" in backfill("show", request[:6]).stdout
    cancelled = backfill("cancel", request[:6], "--reason", "not wanted")
    assert cancelled.exit_code == 0
    assert "is cancelled; 1 runs are told to stop" in " ".join(cancelled.stdout.split())
    found = project.instance.get_run_by_id(run.run_id)
    assert found is not None
    assert found.status == dg.DagsterRunStatus.CANCELED
    ((status, error),) = project.rows("SELECT status, error FROM backfill_requests")
    assert status == "cancelled"
    assert str(error).endswith(": not wanted")
    assert "expected one that is open, found it cancelled" in complaint(backfill("cancel", request))
    assert json.loads(backfill("list", "--json").stdout)[0]["status"] == "cancelled"
    assert "No requests." in backfill("list", "--open").stdout


def test_following_ends_with_what_became_of_it(
    project: Project, started: Callable[[], tuple[str, dg.DagsterRun]], monkeypatch: pytest.MonkeyPatch
) -> None:
    request, run = started()
    project.instance.report_run_failed(run, "The process of this run is lost.")
    looks = []

    def tick_instead(_: float) -> None:
        # The daemon's part, in the time in which the command sleeps.
        looks.append(request)
        with dg.build_sensor_context(instance=project.instance) as context:
            due_requests(context)

    monkeypatch.setattr(backfill_progress.time, "sleep", tick_instead)
    result = backfill("show", request, "--follow")
    assert result.exit_code == 2
    assert looks == [request]
    said = " ".join(result.stderr.split())
    assert f"run {run.run_id[:8]}: The process of this run is lost." in said
    assert "Nothing moves: expected Dagster's daemon to be running" in said


def test_ctrl_c_leaves_it_going_and_says_how_to_follow_or_cancel_it(
    project: Project, started: Callable[[], tuple[str, dg.DagsterRun]], monkeypatch: pytest.MonkeyPatch
) -> None:
    request, _ = started()

    def press_it(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(backfill_progress.time, "sleep", press_it)
    result = backfill("show", request, "--follow")
    assert result.exit_code == 130
    said = " ".join(result.stderr.split())
    assert f"`tickstock backfill show {request[:8]} --follow` follows it" in said
    assert f"`tickstock backfill cancel {request[:8]}` stops it" in said
    assert project.rows("SELECT status FROM backfill_requests") == [("running",)]
