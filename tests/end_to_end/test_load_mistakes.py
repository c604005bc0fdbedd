"""A user's mistakes with the real command: a sentence each, no traceback, and the rest of the load goes on where it can."""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import psycopg
import pytest

from tests.conftest import tickstock
from tests.end_to_end.commands import environment, free_port
from tickstock_assets.simulator import Market, Plan, Simulator, Vendor
from tickstock_assets.storage import embedded

KEY = "the-right-key-8d2e"
SPAN = ("--start", "2023-05-01", "--end", "2023-05-31")
N_SESSIONS = 22


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    market = Market(3, date(2023, 1, 3), date(2023, 6, 30), sample=False, delisted={"S0003": date(2023, 5, 12)})
    plan = Plan(keys=frozenset({KEY}))
    with Simulator(market, {Vendor.POLYGON: plan, Vendor.ALPHA_VANTAGE: plan}) as running:
        yield running


def load(
    *arguments: str, home: Path, simulator: Simulator | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run `tickstock load` with Polygon at the simulator, unless the variables say otherwise."""
    settings = {}
    if simulator:
        settings = {
            "TICKSTOCK_POLYGON_API_KEY": KEY,
            "TICKSTOCK_POLYGON_URL": simulator.url,
            "TICKSTOCK_POLYGON_CALLS_PER_MINUTE": "0",
            "TICKSTOCK_ALPHA_VANTAGE_URL": f"{simulator.url}/query",
            "TICKSTOCK_ALPHA_VANTAGE_CALLS_PER_MINUTE": "0",
            "TICKSTOCK_ALPHA_VANTAGE_CALLS_PER_DAY": "0",
            "TICKSTOCK_ALPHA_VANTAGE_PREMIUM": "true",
        }
    result = tickstock("load", *arguments, "--no-record", home=home, **settings | variables)
    assert "Traceback" not in result.stdout + result.stderr
    return result


def sentence(result: subprocess.CompletedProcess[str]) -> str:
    """Return the one sentence with which the command ended."""
    assert result.returncode == 2, result.stdout + result.stderr
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("tickstock: ")
    return lines[0].removeprefix("tickstock: ")


def only_problem(result: subprocess.CompletedProcess[str]) -> str:
    """Return the one problem of a load that told in its summary, as JSON, what became of it."""
    assert (result.returncode, result.stderr) == (2, "")
    problems: list[str] = json.loads(result.stdout)["problems"]
    assert len(problems) == 1, problems
    assert "\n" not in problems[0]
    return problems[0]


def stored(home: Path) -> dict[str, int]:
    """Return how many daily bars of each symbol are stored."""
    with psycopg.connect(embedded.acquire(home).url("tickstock")) as connection:
        found = connection.execute("SELECT symbol, count(*) FROM ohlcv_daily GROUP BY symbol").fetchall()
    embedded.release(home)
    return dict(found)


def test_a_wrong_key_is_one_sentence_that_names_its_variable(module_home: Path, simulator: Simulator) -> None:
    said = only_problem(
        load(
            "--symbols", "S0001", *SPAN, "--json", home=module_home, simulator=simulator,
            TICKSTOCK_POLYGON_API_KEY="a-wrong-key-77",
        )
    )  # fmt: skip
    assert "the key is refused" in said
    assert "TICKSTOCK_POLYGON_API_KEY" in said
    assert "a-wrong-key-77" not in said


def test_a_wrong_key_of_the_other_vendor_is_one_sentence(module_home: Path, simulator: Simulator) -> None:
    said = only_problem(
        load(
            "--symbols", "S0001", *SPAN, "--json", "--provider", "alpha_vantage", home=module_home, simulator=simulator,
            TICKSTOCK_ALPHA_VANTAGE_API_KEY="a-wrong-key-77",
        )
    )  # fmt: skip
    assert "expected a valid key, found one that is refused" in said


def test_an_unknown_symbol_and_a_delisted_one_do_not_keep_the_others_from_being_loaded(
    home: Path, simulator: Simulator
) -> None:
    result = load("--symbols", "S0001,NOPE,S0003,S0002", *SPAN, "--json", home=home, simulator=simulator)
    assert result.returncode == 2
    summary = json.loads(result.stdout)
    assert summary["problems"] == ["NOPE: polygon has no such symbol"]
    # The third was delisted on May 12: that is no gap.
    assert stored(home) == {"S0001": N_SESSIONS, "S0002": N_SESSIONS, "S0003": 10}
    assert summary["gaps"] == {}


def test_a_future_range_and_a_reversed_one_are_refused_before_anybody_is_asked(
    module_home: Path, simulator: Simulator
) -> None:
    n_calls = len(simulator.record.calls)
    future = sentence(load("--symbols", "S0001", "--start", "2199-01-04", home=module_home, simulator=simulator))
    assert future.startswith("--start: expected a day up to ")
    reversed_ = sentence(
        load(
            "--symbols", "S0001", "--start", "2023-05-31", "--end", "2023-05-01", home=module_home, simulator=simulator
        )
    )
    assert reversed_ == "--end: expected a day on or after --start 2023-05-31, found 2023-05-01"
    assert len(simulator.record.calls) == n_calls


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "expected a header `symbol` and a symbol a line, found an empty file; fill it"),
        ("symbol\n", "expected at least one symbol such as AAPL, found none; name some"),
        ("symbl\nS0001\n", "line 1: expected a column `symbol`, found symbl; rename 'symbl'"),
        ("symbol\nS0001\n!!\n", "line 3: expected a symbol such as AAPL or BRK.B, found '!!'; correct it"),
        (
            'symbol\n"' + "S0001\n" * 30_000,
            "(field larger than field limit (131072); is a quote left open?); name another",
        ),
        (None, "expected a readable CSV file, found"),
    ],
    ids=["empty", "no symbol", "misspelt", "impossible", "open quote", "folder"],
)
def test_a_list_of_symbols_that_cannot_be_read_is_one_sentence(
    content: str | None, expected: str, module_home: Path, simulator: Simulator, tmp_path: Path
) -> None:
    file = tmp_path / "symbols.csv"
    file.mkdir() if content is None else file.write_text(content)
    said = sentence(load("--file", str(file), *SPAN, home=module_home, simulator=simulator))
    assert str(file) in said
    assert expected in said


def test_a_summary_that_cannot_be_written_is_told_before_anybody_is_asked(
    module_home: Path, simulator: Simulator, tmp_path: Path
) -> None:
    n_calls = len(simulator.record.calls)
    file = tmp_path / "logs" / "load.json"
    said = sentence(load("--symbols", "S0001", *SPAN, "--log-file", str(file), home=module_home, simulator=simulator))
    assert said == f"{file}: expected a file we can write, found No such file or directory; name another"
    assert len(simulator.record.calls) == n_calls


def test_the_summary_is_written_as_it_is_shown(home: Path, simulator: Simulator, tmp_path: Path) -> None:
    file = tmp_path / "load.json"
    result = load("--symbols", "S0001", *SPAN, "--log-file", str(file), "--json", home=home, simulator=simulator)
    assert result.returncode == 0
    written, shown = json.loads(file.read_text()), json.loads(result.stdout)
    assert {name: str(value) for name, value in written.items()} == {name: str(value) for name, value in shown.items()}
    assert written["inserted"] == N_SESSIONS


@pytest.mark.parametrize(
    ("provider", "expected"),
    [
        ("polygone", "TICKSTOCK_PROVIDERS: expected some of polygon, alpha_vantage, csv_folder, sample, each once, found p"),
        ("alpha_vantage", "TICKSTOCK_ALPHA_VANTAGE_API_KEY: expected the key of alpha_vantage, which"),
        ("csv_folder", "TICKSTOCK_CSV_FOLDER: expected a folder of SYMBOL.csv files for csv_folder, found it unset; set it"),
    ],
)  # fmt: skip
def test_a_provider_that_is_unknown_or_lacks_its_key_is_one_sentence(
    provider: str, expected: str, module_home: Path, simulator: Simulator
) -> None:
    said = sentence(load("--symbols", "S0001", *SPAN, "--provider", provider, home=module_home, simulator=simulator))
    assert said.startswith(expected)


def test_a_folder_of_csv_files_with_an_empty_one_and_a_typo_loads_the_others(home: Path, tmp_path: Path) -> None:
    header = "date,open,high,low,close,volume\n"
    rows = "2023-05-01,1,2,1,2,10\n2023-05-02,2,3,2,3,10\n"
    (tmp_path / "GOOD.csv").write_text(header + rows)
    # Slashes and colons are legal in a symbol and not in a file's name.
    (tmp_path / "BRK%2FB.csv").write_text(header + rows)
    (tmp_path / "X%3ABTC.csv").write_text(header + rows)
    (tmp_path / "EMPTY.csv").write_text("")
    (tmp_path / "TYPO.csv").write_text(header.replace("close", "clsoe") + rows)
    result = load(
        "--symbols", "EMPTY,GOOD,TYPO,BRK/B,X:BTC", "--start", "2023-05-01", "--end", "2023-05-02", "--provider", "csv_folder",
        "--json", home=home, TICKSTOCK_CSV_FOLDER=str(tmp_path),
    )  # fmt: skip
    assert result.returncode == 2
    problems = json.loads(result.stdout)["problems"]
    assert len(problems) == 2
    assert "EMPTY.csv: expected a header and rows, found an empty file" in problems[0]
    assert "TYPO.csv line 1: expected a column 'close', found 'clsoe'; rename it" in problems[1]
    assert stored(home) == {"GOOD": 2, "BRK/B": 2, "X:BTC": 2}


def test_a_server_that_is_down_is_one_sentence_with_the_address(module_home: Path) -> None:
    port = free_port()
    result = impatient(
        "--symbols", "S0001", *SPAN, "--json", home=module_home, TICKSTOCK_POLYGON_URL=f"http://127.0.0.1:{port}",
        TICKSTOCK_POLYGON_API_KEY=KEY, TICKSTOCK_POLYGON_CALLS_PER_MINUTE="0",
    )  # fmt: skip
    said = only_problem(result)
    assert f"http://127.0.0.1:{port}/" in said
    assert "expected an answer within 6 tries, found NewConnectionError" in said
    assert "try again later" in said


def impatient(*arguments: str, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command with waits between its tries that are a thousand times shorter."""
    program = (
        "import time; sleep = time.sleep; time.sleep = lambda seconds: sleep(seconds / 1000); "
        "from tickstock_assets.cli import main; main()"
    )
    return subprocess.run(
        [sys.executable, "-c", program, "load", *arguments, "--no-record"],
        capture_output=True, text=True, timeout=300, env=environment(home, **variables), check=False,
    )  # fmt: skip
