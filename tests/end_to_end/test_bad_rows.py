"""A hand-made file with each kind of bad row, through the real demo: quarantined with the right reason, and none lost."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import exchange_calendars
import pytest
from sqlalchemy import create_engine, make_url, text

from tests.conftest import tickstock
from tickstock_assets.storage import embedded

HEADER = ["Ticker", "Date", "Open", "High", "Low", "Close", "Volume", "Adj Close"]
PRICES = ["50", "51", "49", "50.5", "1000", "50.5"]

# A bad row, the rule it breaks first, and all that is said of it. The days of AAA have no good row of their own.
BAD_ROWS = {
    "high below low": (
        ["AAA", "2001-03-01", "50", "48", "49", "48.5", "1000", "48.5"],
        "high_below_low",
        "high 48 is below low 49; open 50 or close 48.5 is above high 48; open 50 or close 48.5 is below low 49",
    ),
    "price of zero": (
        ["AAA", "2001-03-02", "50", "51", "0", "50.5", "1000", "50.5"],
        "non_positive_price",
        "low is not above 0",
    ),
    "negative price": (
        ["AAA", "2001-03-05", "50", "51", "-49", "50.5", "1000", "50.5"],
        "non_positive_price",
        "low is not above 0",
    ),
    "open above high": (
        ["AAA", "2001-03-06", "52", "51", "49", "50.5", "1000", "50.5"],
        "price_above_high",
        "open 52 or close 50.5 is above high 51",
    ),
    "close below low": (
        ["AAA", "2001-03-07", "50", "51", "49", "48", "1000", "48"],
        "price_below_low",
        "open 50 or close 48 is below low 49",
    ),
    "negative volume": (
        ["AAA", "2001-03-08", "50", "51", "49", "50.5", "-1000", "50.5"],
        "negative_volume",
        "volume -1000 is below 0",
    ),
    "one conflicting row": (["AAA", "2001-03-09", *PRICES], "duplicate_key", "the key stands more than once"),
    "the other conflicting row": (
        ["AAA", "2001-03-09", "50", "51", "49", "50.25", "1000", "50.25"],
        "duplicate_key",
        "the key stands more than once",
    ),
    "Saturday": (
        # Its Adj Close does not fit its close, which must not be taken for a split.
        ["AAA", "2001-03-10", "100", "102", "98", "101", "1000", "50.5"],
        "not_a_session",
        "2001-03-10 is not a session of the exchange",
    ),
    "the exchange stayed closed": (
        ["AAA", "2001-09-11", *PRICES],
        "not_a_session",
        "2001-09-11 is not a session of the exchange",
    ),
    "before the first year": (
        ["AAA", "1999-06-01", *PRICES],
        "not_a_session",
        "1999-06-01 is not a session of the exchange",
    ),
    "a year mistyped": (["AAA", "2201-03-12", *PRICES], "not_a_session", "2201-03-12 is not a session of the exchange"),
    "missing close": (
        ["AAA", "2001-03-12", "50", "51", "49", "", "1000", ""],
        "missing_value",
        "close is missing or cannot be read",
    ),
    "unreadable number": (
        ["AAA", "2001-03-13", "50", "51", "49", "fifty", "1000", "50.5"],
        "missing_value",
        "close is missing or cannot be read",
    ),
    "unreadable date": (
        ["AAA", "13/03/2001", *PRICES],
        "missing_value",
        "date is missing or cannot be read",
    ),
    "another unreadable date": (["AAA", "", *PRICES], "missing_value", "date is missing or cannot be read"),
    "price too large to hold": (
        ["AAA", "2001-03-14", "50", "1e12", "49", "50.5", "1000", "50.5"],
        "out_of_range",
        "high is larger or smaller than the database can hold",
    ),
    "price too small to hold": (
        ["AAA", "2001-03-15", "50", "51", "0.000000001", "50.5", "1000", "50.5"],
        "out_of_range",
        "low is larger or smaller than the database can hold",
    ),
    "volume without end": (
        ["AAA", "2001-03-16", "50", "51", "49", "50.5", "inf", "50.5"],
        "out_of_range",
        "volume is larger or smaller than the database can hold",
    ),
    "ticker that is none": (["A|B", "2001-03-01", *PRICES], "invalid_symbol", "'A|B' is not a symbol"),
    "its next bar, after what looks like a split": (
        ["A|B", "2001-03-02", *PRICES[:-1], "101"],
        "invalid_symbol",
        "'A|B' is not a symbol",
    ),
    "its next bar, without a close": (
        ["A|B", "2001-03-05", "50", "51", "49", "", "1000", ""],
        "invalid_symbol",
        "'A|B' is not a symbol; close is missing or cannot be read",
    ),
    "no ticker": (["", "2001-03-01", *PRICES], "invalid_symbol", "'' is not a symbol"),
    "a bar alone and bad": (
        ["CCC", "2001-03-01", "50", "51", "49", "", "1000", ""],
        "missing_value",
        "close is missing or cannot be read",
    ),
}
DAYS_WITHOUT_A_GOOD_ROW = {row[1] for row, _, _ in BAD_ROWS.values() if row[0] == "AAA"}


def good_rows(symbol: str) -> list[list[str]]:
    """Return a bar for each session of 2001 and 2002, up and down, as text."""
    calendar = exchange_calendars.get_calendar("XNYS", start="2001-01-01", end="2002-12-31")
    rows = []
    for number, session in enumerate(calendar.sessions):
        close, move = 50 + 10 * math.sin(number / 9), math.cos(number * 7)
        prices = [close - move, close + 1.2, close - 1.2, close]
        rows.append([symbol, f"{session:%Y-%m-%d}", *(f"{price:.2f}" for price in prices), "1000", f"{close:.2f}"])
    return rows


AAA = [row for row in good_rows("AAA") if row[1] not in DAYS_WITHOUT_A_GOOD_ROW]
# The first of two equal rows stays, the second goes.
REPEAT = AAA[100]
GOOD = [*AAA, *good_rows("BBB")]
BAD = [row for row, _, _ in BAD_ROWS.values()]


def write(file: Path, rows: list[list[str]]) -> Path:
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([HEADER, *rows])
    return file


def query(home: Path, statement: str) -> list[dict[str, Any]]:
    engine = create_engine(make_url(embedded.acquire(home).url("tickstock")).set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:
        rows = [dict(row) for row in connection.execute(text(statement)).mappings()]
    engine.dispose()
    return rows


def stored_keys(home: Path) -> list[tuple[str, str]]:
    rows = query(home, "SELECT symbol, date FROM ohlcv_daily ORDER BY 1, 2")
    return [(row["symbol"], str(row["date"])) for row in rows]


def quarantine_check(home: Path) -> dict[str, Any]:
    """Return what Dagster has recorded of the check on the quarantine."""
    engine = create_engine(make_url(embedded.acquire(home).url("dagster")).set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:
        event = connection.execute(
            text(
                "SELECT event FROM event_logs WHERE dagster_event_type = 'ASSET_CHECK_EVALUATION' "
                "AND event LIKE '%ohlcv_daily_quarantine%' ORDER BY id DESC LIMIT 1"
            )
        ).scalar_one()
    engine.dispose()
    evaluation: dict[str, Any] = json.loads(event)["dagster_event"]["event_specific_data"]
    return evaluation


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Good rows and every kind of bad one, the bad ones among the good."""
    rows = [*GOOD[:300], *BAD, *GOOD[300:], REPEAT]
    return write(tmp_path / "bars.csv", rows)


def test_every_bad_row_is_quarantined_with_its_reason_and_none_is_stored_or_lost(home: Path, file: Path) -> None:
    # Of AAA's 2001 a row in seventeen is bad.
    demo = {"TICKSTOCK_SAMPLE_FILE": str(file), "TICKSTOCK_QUARANTINE_THRESHOLD": "0.1"}
    first = tickstock("demo", "--json", home=home, **demo)
    assert first.returncode == 0, first.stderr
    quarantined = query(home, "SELECT * FROM quarantined_bars")
    found = {json.dumps(row["row"], sort_keys=True): (row["rule"], row["reason"]) for row in quarantined}
    expected = {
        json.dumps(dict(zip(HEADER, row, strict=True)), sort_keys=True): (rule, reason)
        for row, rule, reason in [*BAD_ROWS.values(), (REPEAT, "duplicate_key", "the key stands more than once")]
    }
    assert found == expected
    assert stored_keys(home) == sorted((row[0], row[1]) for row in GOOD)
    with file.open() as stream:
        n_rows = sum(1 for _ in csv.DictReader(stream))
    assert len(GOOD) + len(quarantined) == n_rows == len(GOOD) + len(BAD_ROWS) + 1
    assert json.loads(first.stdout)["quarantined"] == len(quarantined)
    # No rejected price has become a corporate action.
    assert query(home, "SELECT * FROM splits") == query(home, "SELECT * FROM dividends") == []
    # A row is filed under its symbol and day where it has any that can exist.
    filed = {
        row["row"]["Ticker"] + " " + row["row"]["Date"]: (row["symbol"], row["date"] and str(row["date"]))
        for row in quarantined
    }
    assert filed["AAA 2001-03-01"] == ("AAA", "2001-03-01")
    assert filed["AAA 13/03/2001"] == ("AAA", None)
    assert filed["A|B 2001-03-01"] == (None, "2001-03-01")
    # They are few, so they are a warning and the others went on: everything downstream has the good rows.
    warned = quarantine_check(home)
    assert not warned["success"]
    assert warned["severity"]["__enum__"] == "AssetCheckSeverity.WARN"
    assert query(home, "SELECT symbol, count(*) AS n FROM bar_features GROUP BY 1 ORDER BY 1") == [
        {"symbol": "AAA", "n": len(AAA)},
        {"symbol": "BBB", "n": len(GOOD) - len(AAA)},
    ]
    assert query(home, "SELECT count(*) AS n FROM patterns")[0]["n"] > 0
    assert query(home, "SELECT count(*) AS n FROM backtest_trades")[0]["n"] > 0
    # And the same rows are not set aside twice.
    again = tickstock("demo", "--json", home=home, **demo)
    assert again.returncode == 0, again.stderr
    assert again.stdout == first.stdout
    assert query(home, "SELECT * FROM quarantined_bars") == quarantined


def test_a_year_that_is_mostly_wrong_is_held_back_alone_and_the_demo_stops_with_one_sentence(
    home: Path, file: Path
) -> None:
    refused = tickstock(
        "demo", "--json", home=home, TICKSTOCK_SAMPLE_FILE=str(file), TICKSTOCK_QUARANTINE_THRESHOLD="0.01"
    )
    assert refused.returncode == 2
    assert refused.stdout == ""
    sentence = refused.stderr.strip()
    assert "\n" not in sentence
    assert "Traceback" not in sentence
    # Of the 25, two have no year that is loaded, so they are in no partition of the run.
    assert "check ohlcv_daily_quarantine did not pass" in sentence
    assert f"rows_stored {len(GOOD)}, rows_quarantined 23," in sentence
    assert "threshold 0.01" in sentence
    assert quarantine_check(home)["severity"]["__enum__"] == "AssetCheckSeverity.ERROR"
    # What is good is kept and what is bad is set aside, and nothing is computed from that symbol's year, nor traded on.
    assert stored_keys(home) == sorted((row[0], row[1]) for row in GOOD)
    assert query(home, "SELECT count(*) AS n FROM quarantined_bars") == [{"n": len(BAD_ROWS) + 1}]
    held_back = [row for row in GOOD if row[0] == "AAA" and row[1].startswith("2001")]
    assert query(home, "SELECT count(*) AS n FROM bar_features") == [{"n": len(GOOD) - len(held_back)}]
    assert query(home, "SELECT count(*) AS n FROM backtest_runs") == [{"n": 0}]
    # Someone who has looked at them may raise the threshold; nothing is fetched again, only the minutes are new.
    ledger = query(home, "SELECT * FROM load_ledger ORDER BY id")
    assert {row["dataset"] for row in ledger} == {"daily_bars"}
    accepted = tickstock(
        "demo", "--json", home=home, TICKSTOCK_SAMPLE_FILE=str(file), TICKSTOCK_QUARANTINE_THRESHOLD="1"
    )
    assert accepted.returncode == 0, accepted.stderr
    assert query(home, "SELECT * FROM load_ledger WHERE dataset = 'daily_bars' ORDER BY id") == ledger
    assert query(home, "SELECT count(*) AS n FROM bar_features") == [{"n": len(GOOD)}]
