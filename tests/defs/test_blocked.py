"""A year of a symbol that breaks a hard rule: what depends on it stays out, in this run and any other; all else is made."""

import csv
import math
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
from sqlalchemy import text

from tests.defs.conftest import OpenProject
from tests.defs.simulated import Project
from tickstock_assets.definitions import defs
from tickstock_assets.defs.blocked import blocked, broken
from tickstock_assets.defs.partitions import PARTITION_TAG, RANGE_END_TAG, RANGE_START_TAG, windows_of
from tickstock_assets.domain.errors import TickstockError
from tickstock_assets.domain.sessions import trading_sessions
from tickstock_assets.settings import settings

pytestmark = [
    pytest.mark.tiers("embedded"),
    # Dagster's own code calls it.
    pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated"),
]

SYMBOLS, YEARS = ("AAA", "BBB", "CCC"), ("2001", "2002", "2003")
ALL = {f"{symbol}|{year}" for symbol in SYMBOLS for year in YEARS}
BAD = "BBB|2002"
EVERYTHING = {RANGE_START_TAG: "AAA|2001", RANGE_END_TAG: "CCC|2003"}
# Of 252 sessions, far above the threshold of 1 %.
N_BAD = 30


def write_bars(file: Path) -> Path:
    """Write a bar for each session, up and down; in 30 sessions of the one year the high is below the low."""
    sessions = trading_sessions("XNYS", pd.Timestamp("2001-01-01").date(), pd.Timestamp("2003-12-31").date())["session"]
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["Ticker", "Date", "Open", "High", "Low", "Close", "Volume", "Adj Close"])
        for symbol in SYMBOLS:
            n_of_year = 0
            for number, day in enumerate(sessions):
                n_of_year += f"{symbol}|{day:%Y}" == BAD
                is_bad = 0 < n_of_year <= N_BAD and f"{symbol}|{day:%Y}" == BAD
                close, move = 50 + 10 * math.sin(number / 9), math.cos(number * 7)
                high, low = (close - 5, close + 5) if is_bad else (close + 1.2, close - 1.2)
                prices = [close - move, high, low, close]
                writer.writerow(
                    [symbol, f"{day:%Y-%m-%d}", *(f"{price:.2f}" for price in prices), 1000, f"{close:.2f}"]
                )
    return file


@pytest.fixture
def project(open_project: OpenProject, tmp_path: Path) -> Project:
    """Three symbols of three years from a file, one year of one of them mostly wrong; nothing is loaded yet."""
    file = write_bars(tmp_path / "bars.csv")
    project = open_project(0, 0, TICKSTOCK_PROVIDERS="sample", TICKSTOCK_SAMPLE_FILE=str(file))
    project.run({}, "reference")
    return project


def loaded(project: Project) -> dg.ExecuteInProcessResult:
    """Run the job in which history is built over all of it, as the daemon does."""
    return defs.resolve_job_def("daily_history").execute_in_process(
        instance=project.instance, tags=EVERYTHING, raise_on_error=False
    )


def test_only_what_depends_on_that_symbol_and_year_stays_out(project: Project) -> None:
    result = loaded(project)
    assert result.success
    for name in ("raw_daily_bars", "ohlcv_daily"):
        assert project.materialized(name) == ALL, name
    for name in ("bar_features", "patterns"):
        assert project.materialized(name) == ALL - {BAD}, name
    # Not only in what Dagster is told: there are rows of all the others, and none of this one.
    rows = project.rows("SELECT DISTINCT symbol || '|' || extract(year FROM timestamp) FROM bar_features ORDER BY 1")
    assert {str(row[0]) for row in rows} == ALL - {BAD}
    # The check of the bars names it, as an error, and does not stop the others.
    check = next(one for one in result.get_asset_check_evaluations() if one.check_name == "ohlcv_daily_quarantine")
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert BAD in str({name: value.value for name, value in check.metadata.items()})
    # And each partition that was told of was told of once.
    for name in ("raw_daily_bars", "ohlcv_daily", "bar_features", "patterns"):
        told = [event.partition for event in result.asset_materializations_for_node(name)]
        assert len(told) == len(set(told)) > 0

    # Another run, which knows nothing of the first, is held back as well, and says so: it is no success over nothing.
    with pytest.raises(
        TickstockError, match=r"1 of 1 partitions are held back: BBB\|2002 \(30 of 252 rows are in quarantine"
    ):
        project.run({PARTITION_TAG: BAD})
    assert project.materialized("bar_features") == ALL - {BAD}


def test_a_bar_that_somebody_put_there_against_the_contract_holds_its_year_back_and_a_raised_threshold_lets_go(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded(project)
    with project.engine.begin() as connection:
        # A Saturday: the table takes it, the contract does not.
        connection.execute(
            text("INSERT INTO ohlcv_daily (symbol, exchange, date, open, high, low, close, volume, source) "
                 "SELECT symbol, exchange, '2003-06-07', open, high, low, close, volume, source FROM ohlcv_daily "
                 "WHERE symbol = 'CCC' AND date = '2003-06-06'")
        )  # fmt: skip
        windows = windows_of(ALL)
        assert blocked(connection, ["ohlcv_daily"], windows).keys() == {BAD, "CCC|2003"}
        found = broken(connection, "ohlcv_daily", windows)
        assert found[["partition", "rule"]].to_numpy().tolist() == [[BAD, "quarantine"], ["CCC|2003", "contract"]]
        assert "2003-06-07 is not a session" in found["reason"].iloc[1]
        # Assets without rules pass everything on.
        assert blocked(connection, ["raw_daily_bars", "splits"], windows) == {}

    monkeypatch.setenv("TICKSTOCK_QUARANTINE_THRESHOLD", "0.5")
    settings.cache_clear()
    project.run({PARTITION_TAG: BAD})
    assert project.materialized("bar_features") == project.materialized("patterns") == ALL
