"""The command as people type it: every verb in a process of its own, on real databases, and every error in one sentence."""

import csv
import io
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Engine, text

from tests.conftest import Demo, tickstock
from tests.end_to_end.commands import environment, free_port, start
from tests.storage.servers import is_locked, wait_until
from tests.storage.tcp_server import TcpServer, running_tcp_server
from tickstock_assets.cli.command import app
from tickstock_assets.cli.listening import listener
from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.storage import embedded, migrate
from tickstock_assets.storage.database import database_url, open_engine, require_two_databases

VERBS = [
    ["demo"], ["ui"], ["bars"], ["coverage"], ["health"], ["seed"], ["db"],
    ["db", "status"], ["db", "migrate"], ["db", "url"], ["db", "stop"], ["db", "roles"], ["db", "dump"],
    ["db", "restore"], ["export"], ["simulate"],
]  # fmt: skip
Result = subprocess.CompletedProcess[str]


def succeeded(result: Result) -> str:
    """Return what a command printed, after a look that it did without complaint."""
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def sentence_of(result: Result) -> str:
    """Return the one sentence with which a command refused."""
    assert result.returncode == 2, result.stdout + result.stderr
    assert result.stdout.strip() == ""  # where the progress bar was
    [line] = result.stderr.splitlines()
    assert line.startswith("tickstock: ")
    return line.removeprefix("tickstock: ")


@pytest.fixture(scope="module", autouse=True)
def _demo_server_stays_up(demo_database: Engine) -> None:
    """Save every command on the demo's home the start of a server."""


@pytest.fixture
def served_home(home: Path) -> Path:
    """A home whose server stays up between commands."""
    embedded.acquire(home)
    return home


# Help ----------------------------------------------------------------------------------------------------------------


def test_help_lists_every_verb_with_what_it_does(home: Path) -> None:
    said = succeeded(tickstock("--help", home=home))
    for verb in ("demo", "ui", "bars", "coverage", "seed", "db"):
        assert f" {verb} " in said
    assert "Trustworthy market history" in said
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_explains_itself(verb: list[str], home: Path) -> None:
    assert f"Usage: tickstock {' '.join(verb)}" in succeeded(tickstock(*verb, "--help", home=home))
    assert list(home.iterdir()) == []  # asking starts nothing


# db ------------------------------------------------------------------------------------------------------------------


def test_db_status_says_server_tier_revision_and_rows(demo: Demo, demo_database: Engine) -> None:
    with demo_database.connect() as connection:
        trades = connection.execute(text("SELECT count(*) FROM backtest_trades")).scalar_one()
        size = connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
    status = json.loads(succeeded(tickstock("db", "status", "--json", home=demo.home)))
    assert status["server"] == "embedded"
    assert status["version"].startswith("18.")
    assert (status["tier"], status["timescaledb"]) == ("plain PostgreSQL", None)
    assert status["revision"] == status["latest_revision"] == migrate.latest_revision()
    assert status["size_bytes"] == pytest.approx(size, rel=0.1)
    assert (status["rows"]["ohlcv_daily"], status["rows"]["backtest_trades"]) == (12_154, trades)
    assert (status["rows"]["symbols"], status["rows"]["splits"], status["rows"]["dividends"]) == (5, 3, 92)

    shown = succeeded(tickstock("db", "status", home=demo.home))
    for part in ("embedded, PostgreSQL 18.", "plain PostgreSQL", migrate.latest_revision(), "12,154 rows"):
        assert part in shown


def test_db_migrate_goes_up_and_down_again(served_home: Path) -> None:
    latest = migrate.latest_revision()
    assert f"(latest is {latest}: run `tickstock db migrate`)" in unwrapped(tickstock("db", "status", home=served_home))
    assert (
        succeeded(tickstock("db", "migrate", home=served_home))
        == f"Schema revision: {latest}\nTier: plain PostgreSQL\n"
    )
    assert (
        succeeded(tickstock("db", "migrate", home=served_home))
        == f"Schema revision: {latest}\nTier: plain PostgreSQL\n"
    )
    assert (
        succeeded(tickstock("db", "migrate", "--down", "base", home=served_home))
        == "Schema revision: none\nTier: plain PostgreSQL\n"
    )
    status = json.loads(succeeded(tickstock("db", "status", "--json", home=served_home)))
    assert (status["revision"], status["rows"]) == (None, {})
    assert (
        succeeded(tickstock("db", "migrate", home=served_home))
        == f"Schema revision: {latest}\nTier: plain PostgreSQL\n"
    )


def test_db_migrate_down_wants_to_know_how_far(home: Path) -> None:
    assert sentence_of(tickstock("db", "migrate", "--down", home=home)).startswith("--down: expected the revision")


def test_db_migrate_to_an_unknown_revision_says_so(home: Path) -> None:
    assert "Schema revision 9999" in sentence_of(tickstock("db", "migrate", "9999", home=home))


def test_db_url_is_one_that_other_clients_can_use(demo: Demo, demo_database: Engine) -> None:
    result = tickstock("db", "url", home=demo.home)
    assert result.returncode == 0
    [address] = result.stdout.splitlines()  # alone, as in: psql $(tickstock db url)
    assert "The server stops when the last" in result.stderr
    with demo_database.connect(), psycopg.connect(address) as connection:
        assert connection.execute("SELECT count(*) FROM ohlcv_daily").fetchone() == (12_154,)


def test_db_stop_of_an_idle_server(home: Path) -> None:
    assert succeeded(tickstock("db", "stop", home=home)) == "It was not running.\n"
    succeeded(tickstock("db", "migrate", home=home))
    succeeded(tickstock("db", "stop", home=home))
    assert not embedded.is_running(home)


def test_db_stop_refuses_while_another_process_uses_it_unless_forced(home: Path) -> None:
    server = embedded.acquire(home)
    with psycopg.connect(server.url("postgres"), application_name="a notebook"):
        said = sentence_of(tickstock("db", "stop", home=home))
        assert (
            "expected no other process to use it, found a notebook; end them, or run `tickstock db stop --force`"
            in said
        )
        assert embedded.is_running(home)
        assert succeeded(tickstock("db", "stop", "--force", home=home)) == "Stopped.\n"
    assert not embedded.is_running(home)


# bars and coverage ---------------------------------------------------------------------------------------------------


def test_coverage_finds_every_session_of_the_calendar(demo: Demo) -> None:
    every = json.loads(succeeded(tickstock("coverage", "--json", home=demo.home)))
    held = [row for row in every if row["timeframe"] == "1d"]
    # The last month is twenty sessions of 390 minutes, none of them a half day.
    minutes = [(row["symbol"], row["source"], row["bars"]) for row in every if row["timeframe"] == "1m"]
    assert minutes == [(row["symbol"], "synthetic", 7800) for row in held]
    assert [(row["symbol"], row["bars"]) for row in held] == [
        ("AAPL", 3270), ("FB", 196), ("GOOG", 2148), ("IBM", 3270), ("MSFT", 3270),
    ]  # fmt: skip
    assert all(row["expected"] == row["bars"] and row["missing"] == [] for row in held)
    assert all((row["timeframe"], row["source"], row["last"]) == ("1d", "sample", "2013-03-01") for row in held)

    assert json.loads(succeeded(tickstock("coverage", "AAPL", "--json", home=demo.home))) == [every[0], every[5]]
    shown = succeeded(tickstock("coverage", home=demo.home))
    assert all(row["symbol"] in shown and f"{row['bars']:,}" in shown for row in held)


def test_coverage_of_an_unknown_symbol_names_the_known_ones(demo: Demo) -> None:
    said = sentence_of(tickstock("coverage", "AAPL", "NOPE", home=demo.home))
    assert said.startswith("NOPE: ")
    assert "AAPL, FB, GOOG, IBM, MSFT" in said


def test_coverage_of_an_empty_database_says_what_to_do(served_home: Path) -> None:
    assert "`tickstock demo`" in succeeded(tickstock("coverage", home=served_home))
    assert json.loads(succeeded(tickstock("coverage", "--json", home=served_home))) == []


# AAPL on 2000-03-01, as the vendored file has it.
FIRST_BAR = {
    "symbol": "AAPL", "date": "2000-03-01", "open": 118.56, "high": 132.06, "low": 118.5, "close": 130.31,
    "volume": 9_616_100.0, "source": "sample",
}  # fmt: skip
FIRST_DAY = ["--start", "2000-03-01", "--end", "2000-03-01"]


def test_bars_in_every_format_say_the_same(demo: Demo, tmp_path: Path) -> None:
    written = succeeded(tickstock("bars", "AAPL", "--format", "csv", home=demo.home))
    rows = list(csv.DictReader(io.StringIO(written)))
    assert len(rows) == 3270
    assert {name: type(FIRST_BAR[name])(value) for name, value in rows[0].items()} == FIRST_BAR

    as_json = json.loads(succeeded(tickstock("bars", "AAPL", "--format", "json", home=demo.home)))
    assert as_json[0] == FIRST_BAR
    assert len(as_json) == 3270
    assert json.loads(succeeded(tickstock("bars", "AAPL", "--json", home=demo.home))) == as_json

    file = tmp_path / "aapl.parquet"
    assert succeeded(tickstock("bars", "AAPL", "--format", "parquet", "--output", str(file), home=demo.home)) == ""
    frame = pd.read_parquet(file)
    assert frame.assign(date=frame["date"].dt.strftime("%Y-%m-%d")).to_dict("records") == as_json

    table = succeeded(tickstock("bars", "AAPL", *FIRST_DAY, home=demo.home))
    assert all(part in table for part in ("AAPL", "2000-03-01", "130.31", "9,616,100", "sample"))


def test_bars_as_parquet_go_through_a_pipe(demo: Demo) -> None:
    command = [Path(sys.executable).parent / "tickstock", "bars", "IBM", "--format", "parquet"]
    piped = subprocess.run(command, env=environment(demo.home), capture_output=True, check=True).stdout
    assert len(pd.read_parquet(io.BytesIO(piped))) == 3270


def test_adjusted_bars_are_in_the_shares_of_the_last_bar(demo: Demo) -> None:
    # Two splits of 2:1 follow, on 2000-06-21 and 2005-02-28: a quarter of the price, four times the shares.
    [first] = json.loads(succeeded(tickstock("bars", "AAPL", *FIRST_DAY, "--adjusted", "--json", home=demo.home)))
    assert (first["close"], first["volume"]) == (32.5775, 38_464_400)
    # One of them is over: half the price.
    between = ["--start", "2000-06-21", "--end", "2000-06-21"]
    [day] = json.loads(succeeded(tickstock("bars", "AAPL", *between, "--adjusted", "--json", home=demo.home)))
    assert (day["close"], day["volume"]) == (27.815, 8_750_000)
    # Both are over.
    last = ["--start", "2005-02-28", "--end", "2005-02-28"]
    [day] = json.loads(succeeded(tickstock("bars", "AAPL", *last, "--adjusted", "--json", home=demo.home)))
    assert (day["close"], day["volume"]) == (44.86, 11_635_900)


def test_start_and_end_are_both_included(demo: Demo) -> None:
    # 2000-03-04 and 05 are a weekend.
    days = ["--start", "2000-03-02", "--end", "2000-03-06"]
    bars = json.loads(succeeded(tickstock("bars", "AAPL", *days, "--json", home=demo.home)))
    assert [bar["date"] for bar in bars] == ["2000-03-02", "2000-03-03", "2000-03-06"]


def test_bars_go_to_a_file_when_one_is_named(demo: Demo, tmp_path: Path) -> None:
    for name, arguments in {"bars.csv": ["--format", "csv"], "bars.json": ["--json"]}.items():
        printed = succeeded(tickstock("bars", "FB", *arguments, home=demo.home))
        file = tmp_path / name
        assert succeeded(tickstock("bars", "FB", *arguments, "-o", str(file), home=demo.home)) == ""
        assert file.read_text() == printed


def test_bars_as_a_table_go_to_a_file_when_one_is_named(demo: Demo, tmp_path: Path) -> None:
    file = tmp_path / "bars.txt"
    assert succeeded(tickstock("bars", "AAPL", *FIRST_DAY, "-o", str(file), home=demo.home)) == ""
    assert "130.31" in file.read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["AAPL", "--start", "2001-01-02", "--end", "2001-01-01"], "--end: expected a day on or after --start 2001-01-02"),
        (["AAPL", "--start", "2020-01-01"], "AAPL: expected stored bars of 1d from 2020-01-01, found none; `tickstock coverage"),
        (["AAPL", "--start", "2010-01-01", "--end", "2010-01-31", "--timeframe", "30m"], "`tickstock rollups run` makes"),
        (["NOPE"], "NOPE: expected a known symbol, found none of that name; known are AAPL, FB"),
        (["AAPL", "--format", "csv", "-o", "/nowhere/bars.csv"], "/nowhere/bars.csv"),
        (["AAPL", "--as-of", "0001-01-01T00:00+14:00"], "as_of: expected a moment in the years 1 to 9999 of UTC"),
    ],
)  # fmt: skip
def test_bars_refuses_in_one_sentence(arguments: list[str], said: str, demo: Demo) -> None:
    assert said in sentence_of(tickstock("bars", *arguments, home=demo.home))


def test_bars_adjusted_for_dividends_too_are_below_those_for_splits_only(demo: Demo) -> None:
    def close(*arguments: str) -> float:
        [day] = json.loads(succeeded(tickstock("bars", "IBM", *FIRST_DAY, *arguments, "--json", home=demo.home)))
        return float(day["close"])

    # IBM split nothing and paid dividends in these years.
    assert close("--adjusted") == close("--adjusted", "splits") == close() == close("--adjusted", "none") == 100.25
    assert 50 < close("--adjusted", "all") < 100.25


def test_adjusted_may_stand_alone_before_a_symbol(demo: Demo) -> None:
    [day] = json.loads(succeeded(tickstock("bars", "--adjusted", "AAPL", *FIRST_DAY, "--json", home=demo.home)))
    assert day["close"] == 32.5775


def test_bars_take_what_people_type_for_a_timeframe(demo: Demo) -> None:
    for typed in ("daily", "1D", "day"):
        [day] = json.loads(
            succeeded(tickstock("bars", "AAPL", *FIRST_DAY, "--timeframe", typed, "--json", home=demo.home))
        )
        assert day == FIRST_BAR
    minute = ["--timeframe", "minute", "--json"]
    of_a_session = succeeded(
        tickstock("bars", "AAPL", "--start", "2013-02-01", "--end", "2013-02-01", *minute, home=demo.home)
    )
    assert len(json.loads(of_a_session)) == 390
    assert "AAPL: expected stored bars of 1m" in sentence_of(
        tickstock("bars", "AAPL", "--end", "2012-12-31", *minute, home=demo.home)
    )
    assert "timeframe: expected a number and a unit such as 1m" in sentence_of(
        tickstock("bars", "AAPL", "--timeframe", "2x", home=demo.home)
    )


def test_longer_bars_are_made_of_the_stored_ones(demo: Demo) -> None:
    year = ["--start", "2012-01-01", "--end", "2012-12-31", "--json"]
    # The last week of the year ends in the next one, and is whole.
    longer = ["--start", "2012-01-01", "--end", "2013-01-31", "--json"]
    daily = pd.DataFrame(json.loads(succeeded(tickstock("bars", "IBM", *longer, home=demo.home))))
    for typed, frequency in (("weekly", "W-SUN"), ("1M", "M")):
        made = json.loads(succeeded(tickstock("bars", "IBM", *year, "--timeframe", typed, home=demo.home)))
        expected = daily.groupby(pd.to_datetime(daily["date"]).dt.to_period(frequency)).agg(
            date=("date", "first"), open=("open", "first"), high=("high", "max"), low=("low", "min"),
            close=("close", "last"), volume=("volume", "sum"),
        )  # fmt: skip
        expected = expected[expected["date"] <= "2012-12-31"]
        assert [{name: row[name] for name in expected} for row in made] == expected.to_dict("records")


def test_filled_and_forming_bars_are_marked(demo: Demo) -> None:
    last = ["--start", "2013-02-28", "--fill", "--forming"]
    rows = json.loads(succeeded(tickstock("bars", "AAPL", *last, "--json", home=demo.home)))
    # The sample ends on the first of March, a Friday.
    assert [(row["date"], row["filled"], row["forming"], row["source"]) for row in rows] == [
        ("2013-02-28", False, False, "sample"), ("2013-03-01", False, False, "sample"), ("2013-03-04", True, False, "filled"),
    ]  # fmt: skip
    shown = succeeded(tickstock("bars", "AAPL", *last, home=demo.home))
    assert "forming" in shown
    assert shown.count("yes") == 1


def test_bars_as_of_a_moment_before_all_loads_are_none_and_of_a_later_one_refused(demo: Demo) -> None:
    early = tickstock("bars", "AAPL", "--as-of", "2001-01-01", home=demo.home)
    assert "AAPL: expected stored bars of 1d known at 2001-01-01, found none" in sentence_of(early)
    late = tickstock("bars", "AAPL", "--as-of", "2999-01-01T00:00+02:00", home=demo.home)
    assert "as_of: expected a moment before the server's clock" in sentence_of(late)
    assert "--as-of: expected a moment such as" in sentence_of(
        tickstock("bars", "AAPL", "--as-of", "yesterday", home=demo.home)
    )


def refusal_of(*arguments: str) -> str:
    """Return the sentence with which a verb refuses its options, before there is any need of a database."""
    with pytest.raises(ConfigError) as refused:
        app(list(arguments))
    return str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--json", "--format", "csv"], "--json: expected no other --format, found csv; give one of the two"),
        (["-o", "x.foo"], "--output x.foo: expected a name that ends in one of .csv, .json, .parquet, .txt"),
        (["-o", "x"], "--output x: expected a name that ends in one of"),
        (["--adjusted", "foo"], "--adjusted: expected none, splits, all or nothing, found 'foo'"),
    ],
)
def test_bars_refuses_options_that_do_not_fit(arguments: list[str], said: str) -> None:
    assert refusal_of("bars", "AAPL", *arguments).startswith(said)


def test_bars_without_a_symbol_or_with_two_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in ([], "Missing argument"), (["AAPL", "MSFT"], "unexpected extra arguments (MSFT)"):
        with pytest.raises(SystemExit) as ended:
            app(["bars", *arguments])
        assert ended.value.code == 2
        assert said in capsys.readouterr().err


def test_the_ending_of_a_file_says_how_bars_are_written(demo: Demo, tmp_path: Path) -> None:
    file = tmp_path / "bars.CSV"
    succeeded(tickstock("bars", "AAPL", *FIRST_DAY, "-o", str(file), home=demo.home))
    assert [row["close"] for row in csv.DictReader(io.StringIO(file.read_text()))] == ["130.31"]


# export --------------------------------------------------------------------------------------------------------------


def test_export_of_no_names_is_refused() -> None:
    for option in ("--symbols", "--tables"):
        assert refusal_of("export", "market", option, " ,").startswith(f"{option}: expected names, separated by commas")


# health --------------------------------------------------------------------------------------------------------------


def test_health_of_the_embedded_server(served_home: Path) -> None:
    found = json.loads(succeeded(tickstock("health", "--json", home=served_home, TICKSTOCK_LOW_DISK_GB="0")))
    assert (found["reachable"], found["tier"], found["reason"]) == (True, "plain PostgreSQL", None)
    assert found["pool"] == {"size": 5, "in_use": 0, "max": 20}
    assert found["disk"]["free_bytes"] > 0
    assert found["latency_ms"] > 0
    printed = succeeded(tickstock("health", home=served_home))
    assert all(part in printed for part in ("Status", "Latency", "Free disk", "20 at most"))


def test_health_of_a_server_that_is_not_there_is_exit_code_2(tmp_path: Path) -> None:
    nowhere = {"TICKSTOCK_DATABASE_URL": "postgresql://someone:secret-word@127.0.0.1:1/nowhere"}
    assert "127.0.0.1:1: cannot be reached" in sentence_of(tickstock("health", home=tmp_path, **nowhere))
    result = tickstock("health", "--json", home=tmp_path, **nowhere)
    assert result.returncode == 2
    found = json.loads(result.stdout)
    assert (found["reachable"], found["status"], found["latency_ms"]) == (False, "unreachable", None)
    assert "secret-word" not in result.stdout + result.stderr


# seed ----------------------------------------------------------------------------------------------------------------


def test_seed_writes_252_synthetic_sessions_of_three_symbols_once(served_home: Path) -> None:
    first = json.loads(succeeded(tickstock("seed", "--json", home=served_home)))
    assert first == {"inserted": 756, "corrected": 0, "unchanged": 0}
    held = json.loads(succeeded(tickstock("coverage", "--json", home=served_home)))
    assert [(row["symbol"], row["source"], row["bars"], len(row["missing"])) for row in held] == [
        ("AAPL", "synthetic", 252, 0), ("SPY", "synthetic", 252, 0), ("TSLA", "synthetic", 252, 0),
    ]  # fmt: skip
    assert "0 inserted, 756 unchanged" in unwrapped(tickstock("seed", home=served_home))


def test_seed_beside_the_demo_leaves_its_bars_and_detections_alone(demo: Demo, demo_database: Engine) -> None:
    def of_the_demo() -> list[object]:
        with demo_database.connect() as connection:
            return [
                connection.execute(text(query)).scalar_one()
                for query in (
                    "SELECT md5(string_agg(t::text, '' ORDER BY symbol, date)) FROM ohlcv_daily t WHERE source = 'sample'",
                    "SELECT md5(string_agg(t::text, '' ORDER BY id)) FROM patterns t",
                    "SELECT md5(string_agg(t::text, '' ORDER BY symbol)) FROM symbols t WHERE symbol <> ALL ('{SPY,TSLA}')",
                    "SELECT md5(string_agg(t::text, '' ORDER BY session)) FROM sessions t WHERE session < '2024-01-01'",
                )
            ]

    before = of_the_demo()
    try:
        succeeded(tickstock("seed", home=demo.home))
        assert of_the_demo() == before
        every = json.loads(succeeded(tickstock("coverage", "AAPL", "--json", home=demo.home)))
        apple = [row for row in every if row["timeframe"] == "1d"]
        assert [(row["source"], row["bars"], len(row["missing"])) for row in apple] == [
            ("sample", 3270, 0), ("synthetic", 252, 0),
        ]  # fmt: skip
    finally:  # other tests read the demo's database
        with demo_database.begin() as connection:
            connection.execute(text("DELETE FROM ohlcv_daily WHERE source = 'synthetic'"))
            connection.execute(text("DELETE FROM load_ledger WHERE provider = 'synthetic'"))
            connection.execute(text("DELETE FROM stored_windows WHERE provider = 'synthetic'"))
            connection.execute(text("DELETE FROM symbols WHERE symbol = ANY ('{SPY,TSLA}')"))
            connection.execute(text("DELETE FROM sessions WHERE session >= '2024-01-01'"))
        shutil.rmtree(demo.home / "landing" / "synthetic", ignore_errors=True)


# Ctrl-C --------------------------------------------------------------------------------------------------------------

INTERRUPTED_IMPORT = """
import os, signal, sys
class Finder:
    def find_spec(self, name, *_):
        if name == "sqlalchemy":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
signal.signal(signal.SIGINT, signal.default_int_handler)
from tickstock_assets.cli import main
main()
"""


def test_ctrl_c_while_modules_are_imported_is_exit_code_130_and_no_traceback() -> None:
    result = subprocess.run([sys.executable, "-c", INTERRUPTED_IMPORT], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "")


# Errors of settings and of the moment --------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", [["demo"], ["db", "status"], ["ui"], ["seed"]], ids=" ".join)
def test_a_bad_value_of_a_setting_is_named(verb: list[str], home: Path) -> None:
    said = sentence_of(tickstock(*verb, home=home, TICKSTOCK_BACKTEST_HOLDING_BARS="abc"))
    assert said.startswith("TICKSTOCK_BACKTEST_HOLDING_BARS: ")
    assert "'abc'" in said


def test_a_missing_sample_file_is_named(home: Path) -> None:
    said = sentence_of(tickstock("demo", home=home, TICKSTOCK_SAMPLE_FILE="/nowhere/bars.csv"))
    assert "/nowhere/bars.csv" in said


def test_a_home_that_is_a_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "home"
    file.touch()
    for verb in (["demo"], ["db", "status"], ["seed"]):
        assert str(file) in sentence_of(tickstock(*verb, home=file))


def test_ui_on_a_busy_port_proposes_another(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = sentence_of(tickstock("ui", "--port", str(port), home=home))
    assert said.startswith(f"http://127.0.0.1:{port}: expected an address and port that are free")
    assert said.endswith("choose another with --port")


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")
def test_ui_listens_on_an_ipv6_address_too(home: Path) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
        port = taken.getsockname()[1]
        said = sentence_of(tickstock("ui", "--host", "::1", "--port", str(port), home=home))
    # Its own family was asked: the port is taken there, and free on 127.0.0.1.
    assert said == (
        f"http://[::1]:{port}: expected an address and port that are free, found Address already in use; "
        "choose another with --port"
    )
    with listener("::1", 0) as free:
        assert free.getsockname()[0] == "::1"


def test_ui_on_an_address_that_is_not_here_proposes_another(home: Path) -> None:
    said = sentence_of(tickstock("ui", "--host", "192.0.2.1", home=home))
    assert said.startswith("http://192.0.2.1:3000: expected an address and port that are free, found Cannot assign")
    assert said.endswith("choose another with --host")


def test_ui_refuses_one_database_for_both(home: Path) -> None:
    said = sentence_of(tickstock("ui", home=home, TICKSTOCK_DAGSTER_DATABASE="tickstock"))
    assert said.startswith("TICKSTOCK_DAGSTER_DATABASE: expected another database than the market's")


def test_a_second_demo_waits_for_no_one(home: Path, tmp_path: Path) -> None:
    first = start("demo", home=home, log=tmp_path / "demo.log")
    try:
        wait_until(lambda: (home / "demo.lock").exists() and is_locked(home / "demo.lock"))
        said = sentence_of(tickstock("demo", home=home))
    finally:
        first.kill()
        first.wait()
    assert said == f"{home}: another `tickstock demo` is at work there; wait for it to end"


# A server of one's own -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tcp_server() -> Iterator[TcpServer]:
    with running_tcp_server() as server:
        yield server


VERBS_ON_A_SERVER = [["db", "status"], ["db", "migrate"], ["coverage"], ["bars", "AAPL"], ["seed"], ["demo"]]


@pytest.mark.parametrize("verb", VERBS_ON_A_SERVER, ids=" ".join)
def test_a_wrong_password_is_refused_and_not_repeated(verb: list[str], home: Path, tcp_server: TcpServer) -> None:
    result = tickstock(*verb, home=home, TICKSTOCK_DATABASE_URL=tcp_server.url(password="open-sesame"))
    assert "the user name or password is not accepted for admin" in sentence_of(result)
    assert "open-sesame" not in result.stderr


@pytest.mark.parametrize("verb", VERBS_ON_A_SERVER, ids=" ".join)
def test_an_unreachable_server_is_named_and_its_password_is_not(verb: list[str], home: Path) -> None:
    port = free_port()
    result = tickstock(
        *verb, home=home, TICKSTOCK_DATABASE_URL=f"postgresql://me:open-sesame@127.0.0.1:{port}/tickstock"
    )
    said = sentence_of(result)
    assert said.startswith(f"PostgreSQL at 127.0.0.1:{port}: cannot be reached")
    assert "open-sesame" not in said


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("postgresql://me:p@open-sesame@host:5432/db", "expected one @, .* found several; percent-encode it \\(%40\\)"),
        ("postgresql://me:p@open/sesame@host:5432/db", "expected one @"),
        ("postgresql://me:open-sesame@host:abc/db", "expected postgresql://user:password@host:port/database"),
        ("postgresql://me:[open-sesame/db", "expected postgresql://user:password@host:port/database"),
        ("postgresql://me:open-sesame@host:99999/db", "expected a port from 1 to 65535, found 99999"),
        ("postgresql://me:open-sesame@host/db?foo=bar", "expected options of PostgreSQL's own clients .*, found 'foo'"),
    ],
)
def test_an_address_with_a_slip_is_refused_and_its_password_not_repeated(address: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"TICKSTOCK_DATABASE_URL: {said}") as refused:
        database_url(Path("unused"), address)
    assert "sesame" not in str(refused.value)
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


def test_ports_in_the_options_of_an_address_are_numbers() -> None:
    with pytest.raises(ConfigError, match="TICKSTOCK_DATABASE_URL: expected hosts with their ports"):
        open_engine(database_url(Path("unused"), "postgresql:///db?host=localhost&port=abc"))


@pytest.mark.parametrize(
    ("address", "market"),
    [(None, "tickstock"), ("postgresql://host", "tickstock"), ("postgresql://host/market", "market")],
)
def test_dagsters_database_is_not_the_markets(address: str | None, market: str) -> None:
    require_two_databases(address, "dagster")
    with pytest.raises(ConfigError, match=f"DAGSTER_DATABASE: expected another .* found '{market}' for both"):
        require_two_databases(address, market)


@pytest.mark.parametrize("address", ["mysql://me:open-sesame@host/db", "open-sesame", "postgresql:open-sesame"])
def test_an_address_of_something_else_is_refused_and_not_repeated(address: str, home: Path) -> None:
    for verb in (["db", "status"], ["demo"]):
        said = sentence_of(tickstock(*verb, home=home, TICKSTOCK_DATABASE_URL=address))
        assert said.startswith("TICKSTOCK_DATABASE_URL: expected postgresql://user:password@host:port/database")
        assert "open-sesame" not in said


def test_a_database_that_is_not_there_is_named(home: Path, tcp_server: TcpServer) -> None:
    said = sentence_of(tickstock("db", "migrate", home=home, TICKSTOCK_DATABASE_URL=tcp_server.url("absent")))
    assert 'database "absent" does not exist; create it or name another' in said


def test_a_server_that_is_too_old_is_refused(home: Path, tcp_server: TcpServer) -> None:
    # There is no PostgreSQL 14 here, so the bound is raised above the one there is.
    code = """
from tickstock_assets.storage import database
database.OLDEST_SUPPORTED = 99
from tickstock_assets.cli import main
main()
"""
    said = sentence_of(
        subprocess.run(
            [sys.executable, "-c", code, "db", "status"], capture_output=True, text=True, check=False,
            env=environment(home, TICKSTOCK_DATABASE_URL=tcp_server.url()),
        )
    )  # fmt: skip
    assert said.startswith(f"PostgreSQL at 127.0.0.1:{tcp_server.port}: expected PostgreSQL 99 or newer, found 18;")


def test_a_server_without_the_schema_is_not_migrated_behind_ones_back(home: Path, tcp_server: TcpServer) -> None:
    tcp_server.execute(sql.SQL("CREATE DATABASE bare"))
    for verb in (["coverage"], ["seed"], ["demo"]):
        said = sentence_of(tickstock(*verb, home=home, TICKSTOCK_DATABASE_URL=tcp_server.url("bare")))
        assert said.endswith("run `tickstock db migrate`")


def test_a_role_that_may_not_create_dagsters_database_is_told_who_can(home: Path, tcp_server: TcpServer) -> None:
    tcp_server.execute(sql.SQL("CREATE ROLE trader LOGIN PASSWORD {}").format(tcp_server.password))
    tcp_server.execute(sql.SQL("CREATE DATABASE traders OWNER trader"))
    address = tcp_server.url("traders", user="trader")
    succeeded(tickstock("db", "migrate", home=home, TICKSTOCK_DATABASE_URL=address))
    said = sentence_of(
        tickstock("demo", home=home, TICKSTOCK_DATABASE_URL=address, TICKSTOCK_DAGSTER_DATABASE="traders_dagster")
    )
    assert said.endswith("have an administrator run CREATE DATABASE traders_dagster")


def test_db_stop_leaves_a_server_alone_that_is_not_ours(home: Path, tcp_server: TcpServer) -> None:
    address = tcp_server.url()
    embedded.acquire(home)
    embedded.release(home)
    succeeded(tickstock("db", "stop", home=home, TICKSTOCK_DATABASE_URL=address))
    assert not embedded.is_running(home)
    with psycopg.connect(address) as connection:  # ours to use, not to stop
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_db_url_of_a_server_hides_the_password(home: Path, tcp_server: TcpServer) -> None:
    said = succeeded(tickstock("db", "url", home=home, TICKSTOCK_DATABASE_URL=tcp_server.url()))
    assert said == f"postgresql://admin:***@127.0.0.1:{tcp_server.port}/tickstock\n"


def test_the_demo_runs_on_a_server_from_migration_to_backtest(home: Path, demo: Demo, tcp_server: TcpServer) -> None:
    address = tcp_server.url()
    migrated = succeeded(tickstock("db", "migrate", home=home, TICKSTOCK_DATABASE_URL=address))
    assert migrated == f"Schema revision: {migrate.latest_revision()}\nTier: plain PostgreSQL\n"
    said = json.loads(succeeded(tickstock("demo", "--json", home=home, TICKSTOCK_DATABASE_URL=address)))
    assert said == demo.summary  # the same as on the embedded server
    assert not (home / "postgres").exists()
    with psycopg.connect(tcp_server.url("dagster")) as connection:
        assert connection.execute("SELECT count(*), min(status), max(status) FROM runs").fetchone() == (
            7, "SUCCESS", "SUCCESS",
        )  # fmt: skip
    status = json.loads(succeeded(tickstock("db", "status", "--json", home=home, TICKSTOCK_DATABASE_URL=address)))
    assert status["server"] == f"PostgreSQL at 127.0.0.1:{tcp_server.port}"
    assert status["rows"]["ohlcv_daily"] == 12_154


def unwrapped(result: Result) -> str:
    """Return what a command printed as one line: rich wraps it to the width of a terminal that is not there."""
    return " ".join(succeeded(result).split())
