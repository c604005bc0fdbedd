"""`tickstock check`: exit codes, what is shown, and the workflow that uses it."""

import csv
import json
import re
import shlex
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from sqlalchemy import create_engine, make_url, text

from tests.conftest import tickstock
from tickstock_assets.cli.command import app
from tickstock_assets.domain.sessions import trading_sessions
from tickstock_assets.storage import embedded

PROJECT = Path(__file__).parents[2]
WORKFLOW = PROJECT / "docs" / "examples" / "asset-checks.yml"


def write_bars(file: Path) -> None:
    """Write a bar for each session of 2011 and 2012 of one symbol."""
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["Ticker", "Date", "Open", "High", "Low", "Close", "Volume", "Adj Close"])
        for day in trading_sessions("XNYS", date(2011, 1, 1), date(2012, 12, 31))["session"]:
            writer.writerow(["AAPL", f"{day:%Y-%m-%d}", 10, 12, 9, 11, 100, 11])


def change(home: Path, statement: str) -> None:
    url = make_url(embedded.acquire(home).url("tickstock")).set(drivername="postgresql+psycopg")
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


def test_the_exit_code_says_whether_anything_failed(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "bars.csv"
    write_bars(file)
    sample = {"TICKSTOCK_SAMPLE_FILE": str(file)}

    nothing = tickstock("check", home=home, **sample)
    assert (nothing.returncode, nothing.stdout) == (2, "")
    assert "expected some to be stored, found none" in nothing.stderr
    assert len(nothing.stderr.splitlines()) == 1

    loaded = tickstock("load", "--symbols", "AAPL", home=home, **sample)
    assert loaded.returncode == 0, loaded.stderr
    arguments = ("check", "--asset", "ohlcv_daily", "--json")
    passed = tickstock(*arguments, home=home, **sample)
    assert passed.returncode == 0, passed.stderr
    outcomes = {one["check"]: one for one in json.loads(passed.stdout)}
    assert {one["asset"] for one in outcomes.values()} == {"ohlcv_daily"}
    assert {one["passed"] for one in outcomes.values()} == {True}
    # 252 and 250 sessions.
    assert outcomes["ohlcv_daily_contract"]["metadata"]["rows_checked"] == 502

    later = tickstock(*arguments, "--start", "2050-01-01", home=home, **sample)
    assert (later.returncode, later.stdout) == (2, "")
    assert "--symbols, --start, --end: expected rows of them to be stored, found none" in later.stderr

    change(home, "DELETE FROM ohlcv_daily WHERE date = '2012-03-15'")
    warned = tickstock(*arguments, home=home, **sample)
    assert warned.returncode == 0
    [missing] = [one for one in json.loads(warned.stdout) if not one["passed"]]
    assert (missing["check"], missing["severity"]) == ("ohlcv_daily_complete", "WARN")
    assert missing["metadata"]["failed_partitions"] == {"AAPL|2012": 1}
    assert tickstock(*arguments, "--strict", home=home, **sample).returncode == 1

    # A Saturday.
    change(home, "UPDATE ohlcv_daily SET date = '2012-03-17' WHERE date = '2012-03-16'")
    failed = tickstock("check", "--asset", "ohlcv_daily", "--severity", "error", home=home, **sample)
    assert failed.returncode == 1
    assert "not_a_session" in failed.stdout
    assert "first offending rows" in failed.stdout
    # Listed are errors only, counted are all: two sessions lack their bar now.
    assert "ohlcv_daily: ohlcv_daily_complete" not in failed.stdout
    assert re.search(r"\d+ checks: \d+ passed, 1 warned, 1 failed\.", failed.stdout)

    change(home, "ALTER TABLE ohlcv_daily RENAME TO put_away")
    broken = tickstock(*arguments, home=home, **sample)
    assert broken.returncode == 2
    assert {one["passed"] for one in json.loads(broken.stdout)} == {None}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--asset", "ohlcv_dayly"], "expected an asset with checks, found 'ohlcv_dayly'; did you mean ohlcv_daily?"),
        (["--start", "2012-02-01", "--end", "2012-01-01"], "expected a day on or after --start 2012-02-01"),
    ],
)
def test_a_mistake_is_one_sentence(home: Path, arguments: list[str], sentence: str) -> None:
    refused = tickstock("check", *arguments, home=home)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert sentence in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def commands_of_the_workflow() -> list[list[str]]:
    steps: list[dict[str, Any]] = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]["check"]["steps"]
    runs = [step["run"] for step in steps if step.get("run", "").startswith("tickstock")]
    return [shlex.split(re.split(r" [>|]", run)[0].replace('"$(', "'").replace(')"', "'")) for run in runs]


def test_the_commands_of_the_example_workflow_exist_with_their_options() -> None:
    commands = commands_of_the_workflow()
    assert len(commands) == 3
    verbs = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for _, verb, *arguments in commands:
        known = {option for parameter in verbs[verb].params for option in parameter.opts}
        assert {argument for argument in arguments if argument.startswith("--")} - {
            "--utc",
            "--date=30 days ago",
        } <= known


def test_the_example_workflow_is_one_to_github() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(WORKFLOW)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
