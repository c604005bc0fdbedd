"""`tickstock quality` and `tickstock splits add` as people type them, on a home whose database holds a few findings."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url, text

from tests.conftest import new_home, tickstock
from tickstock_assets.storage import embedded, migrate
from tickstock_assets.storage.database import open_engine

FOUND = """
    INSERT INTO quality_findings (id, symbol, timeframe, timestamp, rule, severity, source, reason, resolved_at) VALUES
        (gen_random_uuid(), 'AAPL', '1d', '2012-07-02 13:30Z', 'price_spike', 'warning', 'sample', 'close 30 is far', NULL),
        (gen_random_uuid(), 'AAPL', '1m', '2012-07-03 13:31Z', 'stale_run', 'warning', 'sample', '9 bars in a row', now()),
        (gen_random_uuid(), 'MSFT', '1d', '2012-07-03 13:30Z', 'unrecorded_split', 'warning', 'sample', 'looks like', NULL)
"""
SCORED = """
    INSERT INTO quality_scores (symbol, timeframe, session, scored_at, score, components)
    SELECT 'AAPL', '1d', '2012-07-02', CAST(at AS timestamptz), score,
           '{"completeness": 1, "validity": 1, "plausibility": 0.8, "agreement": 1}'
    FROM (VALUES ('2024-01-01', 100), ('2024-01-02', 80)) AS v (at, score)
"""


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with new_home() as folder:
        embedded.ensure_database(server := embedded.acquire(folder), "tickstock")
        engine = open_engine(make_url(server.url("tickstock")))
        migrate.upgrade(engine)
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO symbols (symbol) VALUES ('AAPL'), ('MSFT')"))
            connection.execute(text(FOUND))
            connection.exec_driver_sql(SCORED)
        engine.dispose()
        yield folder


def told(home: Path, *arguments: str) -> dict[str, list[dict[str, object]]]:
    result = tickstock("quality", "--json", *arguments, home=home)
    assert (result.returncode, result.stderr) == (0, "")
    answer: dict[str, list[dict[str, object]]] = json.loads(result.stdout)
    return answer


def refused(result: subprocess.CompletedProcess[str]) -> str:
    assert (result.returncode, result.stdout) == (2, "")
    return result.stderr


def test_it_shows_findings_and_the_newest_scores(home: Path) -> None:
    shown = tickstock("quality", home=home, COLUMNS="200").stdout
    for words in ("close 30 is far", "resolved", "unrecorded_split", "Lowest sessions"):
        assert words in shown
    # Also where there is no room for all columns, a session can be told.
    assert "2012-07-02" in tickstock("quality", home=home, COLUMNS="60").stdout.split("Lowest sessions")[1]
    everything = told(home)
    assert [row["symbol"] for row in everything["findings"]] == ["AAPL", "AAPL", "MSFT"]
    assert everything["means"] == [{"symbol": "AAPL", "timeframe": "1d", "sessions": 1, "mean": 80.0, "lowest": 80.0}]
    assert (everything["lowest_scores"][0]["session"], everything["lowest_scores"][0]["plausibility"]) == (
        "2012-07-02",
        0.8,
    )


@pytest.mark.parametrize(
    ("arguments", "rules"),
    [
        (["--open"], ["price_spike", "unrecorded_split"]),
        (["--symbols", "AAPL"], ["price_spike", "stale_run"]),
        (["--rule", "stale_run"], ["stale_run"]),
        (["--start", "2012-07-03"], ["stale_run", "unrecorded_split"]),
        (["--end", "2012-07-02"], ["price_spike"]),
    ],
)
def test_options_choose(home: Path, arguments: list[str], rules: list[str]) -> None:
    assert [row["rule"] for row in told(home, *arguments)["findings"]] == rules


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--symbols", "NONE"], "--symbols: expected known symbols, found NONE"),
        (["--rule", "spikes"], "--rule: expected one of price_spike, stale_run"),
        (["--start", "2012-07-03", "--end", "2012-07-02"], "--end: expected a day on or after --start 2012-07-03"),
    ],
)
def test_a_mistake_is_one_sentence(home: Path, arguments: list[str], said: str) -> None:
    assert said in refused(tickstock("quality", *arguments, home=home))


def test_a_split_is_recorded_once_with_a_reason(home: Path) -> None:
    typed = ("splits", "add", "AAPL", "2012-07-03", "1", "2")
    assert "--reason: expected how you know" in refused(tickstock(*typed, "--reason", " ", home=home))
    said = [tickstock(*typed, "--reason", "press release", "--by", "Ada", home=home).stdout for _ in range(2)]
    assert said[0].startswith("Recorded: AAPL 2012-07-03, 1 into 2.")
    assert said[1].startswith("Had been recorded")
    wrong = tickstock("splits", "add", "AAPL", "2012-07-03", "one", "2", "--reason", "x", home=home)
    assert "FROM: expected a number of shares such as 2, found 'one'" in refused(wrong)
    back = ("splits", "remove", "AAPL", "2012-07-03", "--reason", "a spin-off")
    assert tickstock(*back, home=home).stdout.startswith("Removed: AAPL 2012-07-03.")
    assert "expected a split that somebody has entered here, found none" in refused(tickstock(*back, home=home))


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (
            ["AAPL", "2012-07-04", "1", "2"],
            "expected a session of XNYS, the first in new shares, found none on this Wednesday",
        ),
        (["AAPL", "2012-07-03", "1", "1e30"], "shares from 0.0001 to 1000000"),
        (["AAPL", "2012-07-03", "1e-9", "2"], "shares from 0.0001 to 1000000"),
        (["AAPL", "2099-07-06", "1", "2"], "expected days from 1960 to 2049"),
    ],
)
def test_what_can_be_no_split_is_refused(home: Path, typed: list[str], said: str) -> None:
    assert said in refused(tickstock("splits", "add", *typed, "--reason", "x", home=home))
