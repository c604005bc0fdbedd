"""`tickstock reconcile` as people type it, with both vendors simulated and a folder of files."""

import json
import subprocess
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import tickstock
from tests.loading.simulated import ALPHA_VANTAGE_KEY, KEYS_KNOWN, POLYGON_KEY, both_vendors
from tickstock_assets.simulator import Market, Simulator

SPAN = ("--start", "2022-10-03", "--end", "2022-12-30")
# 21 sessions in each of October, November and December 2022.
SESSIONS = 63


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    market = Market(2, date(2022, 9, 1), date(2023, 1, 31), sample=False, extended_hours=True)
    with Simulator(market, KEYS_KNOWN) as running:
        yield running


def variables(simulator: Simulator) -> dict[str, str]:
    return {
        **both_vendors(simulator),
        "TICKSTOCK_POLYGON_CALLS_PER_MINUTE": "0",
        "TICKSTOCK_ALPHA_VANTAGE_PREMIUM": "true",
        "TICKSTOCK_ALPHA_VANTAGE_CALLS_PER_MINUTE": "0",
        "TICKSTOCK_ALPHA_VANTAGE_CALLS_PER_DAY": "1000",
    }


def reconcile(simulator: Simulator, home: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return tickstock("reconcile", *arguments, home=home, **{**variables(simulator), **more})


def bars_in(folder: Path, simulator: Simulator, wrong_day: int | None = None) -> dict[str, str]:
    """Write S0001's daily bars as files, one close wrong if wanted, and return the setting that points there."""
    bars = simulator.market.daily("S0001")
    if wrong_day is not None:
        bars.loc[wrong_day, "close"] = bars.loc[wrong_day, "low"]
    columns = bars[["date", "open", "high", "low", "close", "volume"]]
    columns.assign(date=bars["date"].dt.strftime("%Y-%m-%d")).to_csv(folder / "S0001.csv", index=False)
    return {"TICKSTOCK_CSV_FOLDER": str(folder)}


def test_it_fetches_both_sides_once_and_finds_that_they_agree(simulator: Simulator, module_home: Path) -> None:
    first = reconcile(simulator, module_home, "S0001", *SPAN)
    assert (first.returncode, first.stderr) == (0, "")
    assert "S0001 1d: left is polygon, right is alpha_vantage; 63 bars on both sides" in " ".join(first.stdout.split())
    assert "No difference" in first.stdout
    n_calls = len(simulator.record.calls)
    again = reconcile(simulator, module_home, "S0001", *SPAN, "--json")
    assert len(simulator.record.calls) == n_calls  # all of it is landed
    report = json.loads(again.stdout)
    assert (report["left"], report["right"], report["matched"], report["explained"]) == (
        "polygon",
        "alpha_vantage",
        SESSIONS,
        True,
    )
    # Tables of bars are left to loads.
    rows = json.loads(tickstock("db", "status", "--json", home=module_home).stdout)["rows"]
    assert (rows["ohlcv_daily"], rows["ohlcv_1min"]) == (0, 0)


def test_what_stays_unexplained_is_shown_and_makes_exit_code_1(
    simulator: Simulator, module_home: Path, tmp_path: Path
) -> None:
    # September had 21 sessions, so this is the 10th bar of October.
    setting = bars_in(tmp_path, simulator, wrong_day=30)
    result = reconcile(simulator, module_home, "S0001", "--between", "polygon,csv_folder", *SPAN, "--json", **setting)
    assert result.returncode == 1
    report = json.loads(result.stdout)
    assert (report["left"], report["right"], report["unexplained_bars"]) == ("polygon", "csv_folder", 1)
    bars = simulator.market.daily("S0001")
    [bar] = report["unexplained"]
    assert (bar["time"], bar["fields"]) == (f"{bars.loc[30, 'date']:%Y-%m-%d}", ["close"])
    assert (bar["left"]["close"], bar["right"]["close"]) == (bars.loc[30, "close"], bars.loc[30, "low"])
    assert "No split or dividend of S0001 is recorded" in result.stderr


def test_minute_bars_are_compared_and_those_outside_the_sessions_counted_apart(
    simulator: Simulator, module_home: Path
) -> None:
    week = ("--start", "2022-11-07", "--end", "2022-11-11")
    result = reconcile(simulator, module_home, "S0001", "--timeframe", "minute", *week, "--json")
    assert (result.returncode, result.stderr) == (0, "")
    report = json.loads(result.stdout)
    assert (report["timeframe"], report["only_right"]) == ("1m", 0)
    minutes = simulator.market.minutes("S0001", date(2022, 11, 7), date(2022, 11, 11))
    local = minutes["timestamp"].dt.tz_convert("America/New_York")
    since_midnight = local - local.dt.normalize()
    regular = since_midnight.between(pd.Timedelta("9:30:00"), pd.Timedelta("15:59:00"))
    assert report["matched"] == int(regular.sum())
    assert report["only_left"] == report["only_left_outside_sessions"] == int((~regular).sum()) > 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("S0001,S0002",), "SYMBOL: expected one such as AAPL, found S0001, S0002; compare one at a time"),
        (("S0001", "--between", "polygon,bloomberg"), "--between: expected two of polygon, alpha_vantage, csv_folder, sample"),
        (("S0001", "--between", "polygon,polygon"), "found 'polygon,polygon'"),
        (("S0001", "--between", "polygon"), "--between: expected two of"),
        (("S0001", "--between", "polygon,csv_folder"), "TICKSTOCK_CSV_FOLDER: expected a folder"),
        (("S0001", "--timeframe", "5m"), "--timeframe: expected day or minute, found '5m'"),
        (("S0001", "--start", "2300-01-01"), "expected days that both can have, from "),
        (("S0001", "--start", "2022-12-30", "--end", "2022-10-03"), "found 2022-12-30 to 2022-10-03"),
        (("S9999", *SPAN), "S9999: polygon has no such symbol"),
        (("S0001", "--start", "2021-03-01", "--end", "2021-03-31"),
         "S0001 2021-03-01..2021-03-31: expected bars of the same days from polygon and alpha_vantage, found none"),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence(
    simulator: Simulator, module_home: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    result = reconcile(simulator, module_home, *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("tickstock: ")
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1
    assert not {POLYGON_KEY, ALPHA_VANTAGE_KEY} & set(result.stderr.split())


def test_one_provider_has_nobody_to_be_compared_with(module_home: Path) -> None:
    result = tickstock("reconcile", "AAPL", home=module_home)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        "tickstock: reconcile: expected two providers, found sample only; name two with --between, or set another's key, "
        "see docs/providers.md\n"
    )


def test_a_wrong_key_is_said_without_the_key(simulator: Simulator, module_home: Path) -> None:
    wrong = "a-wrong-key-4711"
    result = reconcile(simulator, module_home, "S0002", *SPAN, TICKSTOCK_POLYGON_API_KEY=wrong)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("tickstock: S0002: polygon: ")
    assert result.stderr.count("\n") == 1
    assert wrong not in result.stderr
