"""Rows let out of quarantine: only what a person can know better than the contract, recorded, and stored by the next load."""

import json
from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from tests.conftest import tickstock
from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.domain.sessions import trading_sessions
from tickstock_assets.domain.windows import Window
from tickstock_assets.loading.fetching import land_missing
from tickstock_assets.loading.lineup import Lineup
from tickstock_assets.loading.storing import store
from tickstock_assets.providers.sample import SampleProvider
from tickstock_assets.storage import audit
from tickstock_assets.storage.bulk import MergeCounts, merge
from tickstock_assets.storage.quarantine import Reject, rejects, release

pytestmark = pytest.mark.tiers("embedded")

RUN = audit.Run("a trader", "0b6e0a80-1a4f-4d51-9a0c-16f3f1b6d0aa")
# 3 January came twice with different closes, 4 January is a repeat of an equal row, 5 January is impossible.
FILE = """Ticker,Date,Open,High,Low,Close,Volume,Adj Close
AAPL,2005-01-03,10,12,9,11,100,11
AAPL,2005-01-03,10,12,9,10.5,100,10.5
AAPL,2005-01-04,10,12,9,11,100,11
AAPL,2005-01-04,10,12,9,11,100,11
AAPL,2005-01-05,10,8,9,11,100,11
AAPL,2005-01-06,10,12,9,11,100,11
"""
WINDOW = Window("AAPL", date(2005, 1, 1), date(2005, 1, 31))


@pytest.fixture
def provider(tmp_path: Path, database: Engine) -> SampleProvider:
    file = tmp_path / "bars.csv"
    file.write_text(FILE)
    with database.begin() as connection:
        connection.execute(text("INSERT INTO symbols (symbol) VALUES ('AAPL')"))
        merge(connection, "sessions", trading_sessions("XNYS", date(2005, 1, 1), date(2005, 1, 31)))
    return SampleProvider(file)


def load(provider: SampleProvider, database: Engine, folder: Path) -> MergeCounts:
    lineup = Lineup([provider])
    land_missing(lineup, database, folder / "landing", [WINDOW])
    return store(lineup, database, folder / "landing", [WINDOW], run=RUN).counts


def in_quarantine(database: Engine) -> list[Reject]:
    with database.connect() as connection:
        return rejects(connection)


def test_one_of_two_contradicting_rows_is_let_pass_and_stored_by_the_next_load(
    provider: SampleProvider, database: Engine, tmp_path: Path
) -> None:
    assert load(provider, database, tmp_path) == MergeCounts(inserted=2)
    chosen = next(reject for reject in in_quarantine(database) if reject.row["Close"] == "10.5")
    with database.begin() as connection:
        audit.begin(connection, RUN)
        release(connection, chosen.id, "a trader", "the exchange's own file says 10.5")
    assert load(provider, database, tmp_path) == MergeCounts(inserted=1, unchanged=2)
    with database.connect() as connection:
        close = connection.execute(text("SELECT close::text FROM ohlcv_daily WHERE date = '2005-01-03'")).scalar_one()
        entry = connection.execute(
            text("SELECT actor, entity_id, correlation_id::text, metadata FROM audit_trail "
                 "WHERE event_type = 'quarantine_release'")
        ).one()  # fmt: skip
    assert close == "10.50000000"
    assert tuple(entry)[:3] == ("a trader", chosen.id, RUN.correlation_id)
    assert entry.metadata["reason"] == "the exchange's own file says 10.5"
    # The row stays where it was, with who let it pass; its twin is as it was.
    twins = [reject for reject in in_quarantine(database) if reject.date == date(2005, 1, 3)]
    assert {(twin.row["Close"], twin.released_by) for twin in twins} == {("10.5", "a trader"), ("11", None)}
    # Loading on changes nothing more.
    assert load(provider, database, tmp_path) == MergeCounts(unchanged=3)


def test_what_cannot_be_right_is_not_let_pass(provider: SampleProvider, database: Engine, tmp_path: Path) -> None:
    load(provider, database, tmp_path)
    by_day = {reject.date: reject for reject in in_quarantine(database)}
    refusals = {
        by_day[date(2005, 1, 5)].id: "AAPL 2005-01-05 cannot be released, since high 8 is below low 9",
        by_day[date(2005, 1, 4)].id: "found one stored from the same source; this row only repeats it",
        "6f1de8a5-5d56-5ff1-8a6f-3d2f6f6f7c11": "expected the id of a rejected row, found '6f1de8a5",
    }
    for reject_id, sentence in refusals.items():
        with database.begin() as connection, pytest.raises(ConfigError, match=sentence):
            release(connection, reject_id, "a trader", "I would like it to be")
    first, second = (reject for reject in in_quarantine(database) if reject.date == date(2005, 1, 3))
    with database.begin() as connection:
        release(connection, first.id, "a trader", "it is right")
    for twin in (first, second):
        with database.begin() as connection, pytest.raises(ConfigError, match="found one that a trader let pass"):
            release(connection, twin.id, "another", "no, this one is")
    assert load(provider, database, tmp_path) == MergeCounts(inserted=1, unchanged=2)


def test_the_command_lists_and_releases(home: Path) -> None:
    shown = tickstock("quarantine", "list", home=home)
    assert (shown.returncode, shown.stdout) == (0, "Nothing is in quarantine.\n")
    assert json.loads(tickstock("quarantine", "list", "--json", home=home).stdout) == []
    refused = tickstock("quarantine", "release", "none", "--reason", "because", home=home)
    assert refused.returncode == 2
    assert refused.stderr == (
        "tickstock: Quarantine: expected the id of a rejected row, found 'none'; `tickstock quarantine list` shows them\n"
    )


CONTRADICTING = {
    "AAPL.csv": "date,open,high,low,close,volume\n2024-07-03,10,12,9,11,100\n",
    "minute/AAPL.csv": "timestamp,open,high,low,close,volume\n"
    "2024-07-03T13:30:00Z,10,12,9,11,100\n2024-07-03T13:30:00Z,10,12,9,10.5,100\n"
    "2024-07-03T13:31:00Z,10,12,9,11,100\n2024-07-03T13:31:00Z,10,12,9,10.25,100\n"
    "2024-07-03T13:32:00Z,10,12,9,11,100\n",
    "splits.csv": "symbol,execution_date,split_from,split_to\nAAPL,2020-08-31,1,4\nAAPL,2020-08-31,1,5\n",
}


def test_two_minutes_of_a_day_with_its_bar_are_let_pass_by_the_command_and_a_split_is_not(
    home: Path, tmp_path: Path
) -> None:
    for name, content in CONTRADICTING.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    environment = {"TICKSTOCK_PROVIDERS": "csv_folder", "TICKSTOCK_CSV_FOLDER": str(tmp_path)}

    def run(*words: str) -> str:
        done = tickstock(*words, home=home, **environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    of_the_day = ("--symbols", "AAPL", "--start", "2024-07-03", "--end", "2024-07-03")
    run("load", *of_the_day)
    run("load", *of_the_day, "--timeframe", "minute")
    listed = json.loads(run("quarantine", "list", "--json"))
    ids = {(one["dataset"], one["row"].get("timestamp"), one["row"].get("close")): one["id"] for one in listed}
    commands = {
        run("quarantine", "release", ids["minute_bars", f"2024-07-03T13:{minute}:00Z", close], "--reason", "the tape")
        .partition("To store it: tickstock ")[2]
        .strip()
        for minute, close in (("30", "10.5"), ("31", "11"))
    }
    assert len(commands) == 1
    run(*commands.pop().split())
    bars = json.loads(
        run("bars", "AAPL", "--timeframe", "1m", "--start", "2024-07-03", "--end", "2024-07-03", "--json")
    )
    assert [bar["close"] for bar in bars] == [10.5, 11, 11]

    twin = ids["minute_bars", "2024-07-03T13:30:00Z", "11"]
    split = next(one["id"] for one in listed if one["dataset"] == "splits")
    for reject_id, sentence in (
        (twin, "expected no row of AAPL 2024-07-03 13:30 UTC to have been released"),
        (split, "expected a daily or minute bar to release, found AAPL of splits; have the provider correct it"),
    ):
        refused = tickstock("quarantine", "release", reject_id, "--reason", "no", home=home, **environment)
        assert (refused.returncode, sentence in refused.stderr) == (2, True), refused.stderr
