"""`tickstock sessions` and `tickstock gaps` as people type them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from tests.conftest import Demo, tickstock
from tests.conftest import new_home as a_new_home


@pytest.fixture(scope="module")
def new_home() -> Iterator[Path]:
    with a_new_home() as folder:
        yield folder


def test_a_session_is_closed_listed_and_restored(new_home: Path) -> None:
    why = ("--reason", "a storm", "--author", "Ada")
    closed = tickstock("sessions", "close", "XNYS", "2012-10-26", *why, home=new_home)
    assert (closed.returncode, closed.stderr) == (0, "")
    assert "XNYS 2012-10-26 is closed." in closed.stdout
    listed = json.loads(tickstock("sessions", "list", "--json", home=new_home).stdout)
    assert [(one["session"][:10], one["kind"], one["override_author"]) for one in listed] == [
        ("2012-10-26", "closed_by_override", "Ada")
    ]
    shorter = tickstock("sessions", "shorten", "XNYS", "2012-10-25", "--close", "12:30", *why, home=new_home)
    assert shorter.returncode == 0
    days = tickstock("sessions", "list", "XNYS", "--start", "2012-10-25", "--end", "2012-10-31", home=new_home).stdout
    # At 12:30 in New York it was 16:30 UTC; then came the closed Friday, the storm, and Wednesday.
    assert [line.split()[1] for line in days.splitlines() if "XNYS" in line] == [
        "2012-10-25",
        "2012-10-26",
        "2012-10-31",
    ]
    assert "16:30 UTC" in days
    restored = tickstock("sessions", "restore", "XNYS", "2012-10-26", "--reason", "no", home=new_home)
    assert restored.returncode == 0
    assert len(json.loads(tickstock("sessions", "list", "--json", home=new_home).stdout)) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["close", "XNYS", "2012-10-27", "--reason", "x"],
            "expected a session of the exchange, found none on this Saturday",
        ),
        (["close", "NOWHERE", "2012-10-26", "--reason", "x"], "expected an ISO 10383 code"),
        (["close", "XNYS", "2012-10-26", "--reason", " "], "--reason: expected why the calendar is wrong"),
        (["shorten", "XNYS", "2012-10-26", "--reason", "x"], "expected --open or --close"),
        (
            ["shorten", "XNYS", "2012-10-26", "--close", "1pm", "--reason", "x"],
            "expected a time such as 13:00, found '1pm'",
        ),
        (["list", "--start", "2012-10-26"], "expected an EXCHANGE beside it"),
        (["list", "XNYS", "--end", "2012-10-26"], "--end: expected a --start beside it, found only 2012-10-26"),
        (["list", "NOWHERE", "--start", "2012-10-26"], "expected an ISO 10383 code"),
        (
            ["list", "XNYS", "--start", "2012-10-26", "--end", "2012-10-22"],
            "--end: expected a day on or after --start 2012-10-26, found 2012-10-22",
        ),
    ],
)
def test_a_mistake_is_one_sentence(new_home: Path, arguments: list[str], said: str) -> None:
    result = tickstock("sessions", *arguments, home=new_home)
    assert result.returncode == 2
    assert result.stderr.startswith("tickstock: ")
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_gaps_are_listed_with_their_classes(demo: Demo) -> None:
    found = tickstock("gaps", "--find", "--timeframe", "day", "--symbols", "AAPL", "--json", home=demo.home)
    assert found.returncode == 0, found.stderr
    rows = json.loads(found.stdout)
    assert {row["class"] for row in rows} == {"holiday"}
    assert "2012-10-29" in {row["evidence"]["date"] for row in rows}
    mistake = tickstock("gaps", "--class", "hole", home=demo.home)
    assert mistake.returncode == 2
    assert mistake.stderr.startswith("tickstock: --class: expected some of holiday")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--timeframe", "5m"], "--timeframe: expected day or minute, which are loaded, found '5m'"),
        (["--symbols", "NOPE"], "--symbols: expected known symbols, found NOPE"),
        (["--find", "--symbols", "AAPL,NOPE"], "--symbols: expected known symbols, found NOPE"),
    ],
)
def test_gaps_of_what_cannot_have_any_are_refused(demo: Demo, arguments: list[str], said: str) -> None:
    result = tickstock("gaps", *arguments, home=demo.home)
    assert (result.returncode, result.stdout) == (2, "")
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_gaps_counts_what_was_asked_for(demo: Demo) -> None:
    tickstock("gaps", "--find", "--symbols", "AAPL", home=demo.home)
    assert "Open: holiday" in tickstock("gaps", "--timeframe", "day", home=demo.home).stdout
    assert "Open: holiday" not in tickstock("gaps", "--class", "halt", home=demo.home).stdout


@pytest.fixture
def session_with_a_gap_that_is_none(demo_database: Engine) -> Iterator[None]:
    """A session of AAPL with all its minutes, that was scored as if some were missing."""
    with demo_database.begin() as connection:
        since = connection.execute(text("SELECT now()")).scalar()
        connection.execute(
            text("""
                WITH gap AS (
                    INSERT INTO data_gaps (id, symbol, timeframe, gap_start, gap_end, missing_bars, class, evidence)
                    SELECT gen_random_uuid(), symbol, '1m', timestamp, timestamp, 1, 'provider_hole', '{}'
                    FROM ohlcv_1min WHERE symbol = 'AAPL' AND (timestamp AT TIME ZONE 'UTC')::time = '18:00'
                    ORDER BY timestamp LIMIT 1
                    RETURNING symbol, gap_start)
                INSERT INTO quality_scores (symbol, timeframe, session, score, components)
                SELECT symbol, '1m', (gap_start AT TIME ZONE 'UTC')::date, 1, '{}' FROM gap
            """)
        )
    yield
    with demo_database.begin() as connection:
        for statement in ("DELETE FROM data_gaps WHERE created_at >= :since",
                          "DELETE FROM quality_scores WHERE scored_at >= :since"):  # fmt: skip
            connection.execute(text(statement), {"since": since})


@pytest.mark.usefixtures("session_with_a_gap_that_is_none")
def test_sessions_whose_gaps_changed_are_scored_anew(demo: Demo) -> None:
    found = tickstock("gaps", "--find", "--symbols", "AAPL", home=demo.home)
    assert "1m: 0 gaps new, 0 changed, 1 unchanged, 1 filled" in found.stderr
    assert "1 scores of sessions changed by it" in found.stderr
    assert "scores" not in tickstock("gaps", "--find", "--symbols", "AAPL", home=demo.home).stderr
