"""From a provider to validated bars: what is fetched, what overlaps, what is refused."""

from datetime import date
from pathlib import Path

import pandas as pd
import pytest
from sqlalchemy import Engine, text

from tickstock_assets.domain.errors import ProviderError
from tickstock_assets.domain.sessions import trading_sessions
from tickstock_assets.domain.windows import Window
from tickstock_assets.loading.deliveries import deliveries
from tickstock_assets.loading.everything import load_everything
from tickstock_assets.loading.fetching import land_missing
from tickstock_assets.loading.lineup import Lineup
from tickstock_assets.loading.storing import store
from tickstock_assets.loading.verifying import verify_landed
from tickstock_assets.providers.base import Dataset
from tickstock_assets.providers.sample import SampleProvider
from tickstock_assets.providers.synthetic import SyntheticProvider
from tickstock_assets.storage.bars import quarantined
from tickstock_assets.storage.bulk import MergeCounts, merge

SAMPLE = Lineup([SampleProvider()])


def landed_bars(lineup: Lineup, engine: Engine, folder: Path, windows: list[Window]) -> pd.DataFrame:
    found = deliveries(lineup.first, Dataset.DAILY_BARS, engine, folder, windows)
    return pd.concat([delivery.frame for delivery in found])


@pytest.fixture
def loaded(database: Engine) -> Engine:
    with database.begin() as connection:
        connection.execute(text("INSERT INTO symbols (symbol) SELECT unnest(ARRAY['AAPL', 'IBM', 'NONE'])"))
    return database


def year(symbol: str, first: int, last: int | None = None) -> Window:
    return Window(symbol, date(first, 1, 1), date(last or first, 12, 31))


def test_neighbouring_years_of_a_symbol_are_one_fetch_up_to_the_horizon(loaded: Engine, tmp_path: Path) -> None:
    summary = land_missing(SAMPLE, loaded, tmp_path, [year("IBM", 2011), year("IBM", 2012), year("IBM", 2013)])
    assert summary.fetched == [Window("IBM", date(2011, 1, 1), date(2013, 3, 1))]


def test_only_what_is_missing_is_fetched_and_then_nothing(loaded: Engine, tmp_path: Path) -> None:
    land_missing(SAMPLE, loaded, tmp_path, [year("AAPL", 2005)])
    summary = land_missing(SAMPLE, loaded, tmp_path, [year("AAPL", 2004, 2006)])
    assert summary.fetched == [year("AAPL", 2006), year("AAPL", 2004)]  # newest first
    assert land_missing(SAMPLE, loaded, tmp_path, [year("AAPL", 2004, 2006)]).fetched == []
    assert len(landed_bars(SAMPLE, loaded, tmp_path, [year("AAPL", 2004, 2006)])) == 252 + 252 + 251


def test_years_after_the_horizon_are_not_asked_for(loaded: Engine, tmp_path: Path) -> None:
    assert land_missing(SAMPLE, loaded, tmp_path, [year("AAPL", 2014)]).fetched == []


def test_a_window_that_is_refused_leaves_its_reason_and_the_others_go_on(loaded: Engine, tmp_path: Path) -> None:
    summary = land_missing(SAMPLE, loaded, tmp_path, [year("NONE", 2005), year("AAPL", 2005)])
    assert summary.fetched == [year("AAPL", 2005)]
    with pytest.raises(
        ProviderError, match=r"1 of 2 windows did not come, first NONE 2005-01-01..2005-12-31: NONE: not in"
    ):
        summary.raise_for_failures()
    with loaded.connect() as connection:
        reason = connection.execute(text("SELECT error FROM load_ledger WHERE status = 'failed'")).scalar_one()
    assert reason.startswith("NONE: not in stocks.csv.gz")


def test_a_changed_file_makes_every_window_due_again_and_its_rows_count(loaded: Engine, tmp_path: Path) -> None:
    header = "Ticker,Date,Open,High,Low,Close,Volume,Adj Close\n"
    file = tmp_path / "bars.csv"
    file.write_text(header + "AAPL,2005-01-03,1,2,1,2,10,2\n")
    land_missing(Lineup([SampleProvider(file)]), loaded, tmp_path / "landing", [year("AAPL", 2005)])
    file.write_text(header + "AAPL,2005-01-03,1,3,1,3,10,3\n")
    assert land_missing(Lineup([SampleProvider(file)]), loaded, tmp_path / "landing", [year("AAPL", 2005)]).fetched
    frame = landed_bars(Lineup([SampleProvider(file)]), loaded, tmp_path / "landing", [year("AAPL", 2005)])
    assert frame["close"].tolist() == [3.0]
    # What was sent first is still there: raw payloads are never overwritten.
    assert len(list((tmp_path / "landing").rglob("*.parquet"))) == 2


def test_verification_names_a_window_that_is_not_landed_and_a_file_that_was_changed(
    loaded: Engine, tmp_path: Path
) -> None:
    land_missing(SAMPLE, loaded, tmp_path, [year("AAPL", 2005)])
    assert verify_landed(SAMPLE, loaded, tmp_path, [year("AAPL", 2005)]) == ([], 1)
    assert verify_landed(SAMPLE, loaded, tmp_path, [year("IBM", 2005)]) == (
        ["IBM 2005-01-01..2005-12-31: not landed"],
        0,
    )
    next(tmp_path.rglob("*.parquet")).write_bytes(b"")
    assert "expected sha256" in verify_landed(SAMPLE, loaded, tmp_path, [year("AAPL", 2005)])[0][0]


def test_days_without_a_session_need_not_be_landed(loaded: Engine, tmp_path: Path) -> None:
    # 2005 began on a Saturday; trading on Monday, the 3rd.
    land_missing(SAMPLE, loaded, tmp_path, [Window("AAPL", date(2005, 1, 3), date(2005, 12, 31))])
    assert verify_landed(SAMPLE, loaded, tmp_path, [year("AAPL", 2005)]) == ([], 1)
    missing = Window("AAPL", date(2004, 12, 31), date(2005, 1, 2))
    assert verify_landed(SAMPLE, loaded, tmp_path, [missing])[0] == [f"{missing}: not landed"]


def test_the_synthetic_market_loads_without_dagster_and_a_second_time_changes_nothing(
    database: Engine, tmp_path: Path
) -> None:
    assert load_everything(Lineup([SyntheticProvider()]), database, tmp_path) == MergeCounts(inserted=756)
    assert load_everything(Lineup([SyntheticProvider()]), database, tmp_path) == MergeCounts(unchanged=756)


def test_a_row_that_was_corrected_counts_no_more_but_stays_in_quarantine(loaded: Engine, tmp_path: Path) -> None:
    header = "Ticker,Date,Open,High,Low,Close,Volume,Adj Close\n"
    file = tmp_path / "bars.csv"
    with loaded.begin() as connection:
        merge(connection, "sessions", trading_sessions("XNYS", date(2005, 1, 1), date(2005, 12, 31)))
    rejected = []
    for volume in ("-10", "10"):
        file.write_text(header + f"AAPL,2005-01-03,1,2,1,2,{volume},2\n")
        lineup = Lineup([SampleProvider(file)])
        land_missing(lineup, loaded, tmp_path / "landing", [year("AAPL", 2005)])
        store(lineup, loaded, tmp_path / "landing", [year("AAPL", 2005)])
        with loaded.connect() as connection:
            rejected.append(quarantined(connection, lineup.sources(Dataset.DAILY_BARS))["rule"].tolist())
    assert rejected == [["negative_volume"], []]
    with loaded.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM quarantined_bars")).scalar_one() == 1
