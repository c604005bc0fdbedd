"""The vendored sample file: what is in it, what follows from it, and what other files are refused."""

import csv
import gzip
import hashlib
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from tests.providers.contract import Case, ProviderContract
from tickstock_assets.domain.errors import ConfigError, UnknownSymbolError
from tickstock_assets.domain.windows import Window
from tickstock_assets.providers.base import Dataset, Request
from tickstock_assets.providers.sample import VENDORED_FILE, SampleProvider

HEADER = "Ticker,Date,Open,High,Low,Close,Volume,Adj Close\n"


@pytest.fixture(scope="module")
def sample() -> SampleProvider:
    return SampleProvider()


def daily(symbol: str, start: date, end: date) -> Request:
    return Request(Dataset.DAILY_BARS, Window(symbol, start, end))


def minutes(symbol: str, start: date, end: date) -> Request:
    return Request(Dataset.MINUTE_BARS, Window(symbol, start, end))


class TestTheContract(ProviderContract):
    @pytest.fixture
    def case(self, sample: SampleProvider) -> Case:
        return Case(
            sample,
            requests=[
                daily("AAPL", date(2005, 1, 1), date(2005, 12, 31)),
                daily("IBM", date(2012, 1, 1), date(2012, 12, 31)),
                minutes("AAPL", date(2005, 2, 25), date(2005, 3, 1)),
            ],
            # Two for one on 28 February 2005. The last minute of a day ends at the day's close.
            closes={
                Dataset.DAILY_BARS: {date(2005, 2, 25): 88.99, date(2005, 2, 28): 44.86},
                Dataset.MINUTE_BARS: {
                    datetime(2005, 2, 25, 20, 59, tzinfo=UTC): 88.99,
                    datetime(2005, 2, 28, 20, 59, tzinfo=UTC): 44.86,
                },
            },
            # Facebook was listed in 2012.
            empty=[
                daily("FB", date(2010, 1, 1), date(2010, 12, 31)),
                minutes("FB", date(2010, 1, 1), date(2010, 1, 31)),
            ],
        )


def rows_of_the_file() -> list[dict[str, str]]:
    with gzip.open(VENDORED_FILE, "rt", newline="") as file:
        return list(csv.DictReader(file))


def test_the_file_is_the_one_the_notice_describes() -> None:
    notice = (VENDORED_FILE.parent / "NOTICE.md").read_text()
    assert hashlib.sha256(VENDORED_FILE.read_bytes()).hexdigest() in notice


def test_every_row_of_the_file_is_delivered_as_it_stands(sample: SampleProvider) -> None:
    rows = rows_of_the_file()
    assert len(rows) == 12_154
    delivered = []
    for symbol in sample.symbols()["symbol"]:
        payload = sample.fetch(daily(symbol, sample.history_start, sample.horizon()))
        delivered += payload.to_pylist()
    assert delivered == rows


def test_the_horizon_is_the_last_day_of_the_file(sample: SampleProvider) -> None:
    assert sample.horizon() == date(2013, 3, 1)


def test_a_late_listing_is_known_and_an_early_one_is_not_guessed(sample: SampleProvider) -> None:
    listed = sample.symbols().set_index("symbol")["list_date"]
    assert listed["FB"].date() == date(2012, 5, 18)
    assert listed["GOOG"].date() == date(2004, 8, 19)
    assert listed[["AAPL", "IBM", "MSFT"]].isna().all()


def test_the_three_splits_follow_from_the_adjusted_closes(sample: SampleProvider) -> None:
    splits = [
        (row.symbol, str(row.execution_date.date()), row.split_from, row.split_to)
        for row in sample.splits().itertuples()
    ]
    assert splits == [("AAPL", "2000-06-21", 1, 2), ("AAPL", "2005-02-28", 1, 2), ("MSFT", "2003-02-18", 1, 2)]


def test_the_dividends_follow_and_rebuild_the_adjusted_closes_exactly(sample: SampleProvider) -> None:
    dividends = sample.dividends()
    assert len(dividends) == 92
    known = {(row.symbol, str(row.ex_dividend_date.date())): row.cash_amount for row in dividends.itertuples()}
    # From the companies' own announcements.
    assert known["MSFT", "2004-11-15"] == 3.08
    assert known["AAPL", "2012-08-09"] == 2.65
    assert known["IBM", "2010-05-06"] == 0.65
    ratios = {
        (row.symbol, str(row.execution_date.date())): row.split_to / row.split_from
        for row in sample.splits().itertuples()
    }
    previous: dict[str, float] = {}
    for row in rows_of_the_file():
        key, close = (row["Ticker"], row["Date"]), float(row["Close"])
        factor = float(row["Adj Close"]) / close
        step = ratios.get(key, 1.0) * (1 + known.get(key, 0.0) / close)
        assert factor == pytest.approx(previous.get(row["Ticker"], factor / step) * step, rel=1e-9)
        previous[row["Ticker"]] = factor


def test_an_unknown_symbol_is_one_sentence(sample: SampleProvider) -> None:
    with pytest.raises(UnknownSymbolError, match=r"TSLA: not in stocks.csv.gz"):
        sample.fetch(daily("TSLA", date(2000, 1, 1), date(2001, 1, 1)))


def test_what_cannot_be_read_is_delivered_and_parsed_as_missing(tmp_path: Path) -> None:
    file = tmp_path / "bars.csv"
    file.write_text(HEADER + "A,2024-01-02,1,2,1,2,x,2\nA,yesterday,1,2,1,2,3,2\nA,2024-01-03,,2,1,2,3,2\n")
    provider = SampleProvider(file)
    payload = provider.fetch(daily("A", date(2024, 1, 1), date(2024, 1, 2)))
    # The second row names no day, so it could belong to any window and comes with each.
    assert payload["Date"].to_pylist() == ["2024-01-02", "yesterday"]
    frame = provider.parse(Dataset.DAILY_BARS, payload)
    assert frame["volume"].isna().tolist() == [True, False]
    assert frame["date"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "Empty CSV"),
        ("Ticker,Date,Open\nA,2024-01-02,1\n", "expected a CSV file with the columns Ticker,Date"),
        (HEADER + "A,2024-01-02,1\n", "Expected 8 columns, got 3"),
        (HEADER, "expected at least one row with a date"),
        (HEADER + "A,x,1,1,1,1,1,1\n", "expected at least one row with a date"),
    ],
)
def test_a_file_that_is_no_price_file_is_one_sentence(tmp_path: Path, content: str, complaint: str) -> None:
    file = tmp_path / "bars.csv"
    file.write_text(content)
    with pytest.raises(ConfigError, match=complaint) as error:
        SampleProvider(file).horizon()
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"TICKSTOCK_SAMPLE_FILE: expected a readable CSV file, found .*none.csv"):
        SampleProvider(tmp_path / "none.csv").version(Dataset.DAILY_BARS)


# --- minutes


def test_invented_minutes_say_so_and_daily_bars_are_the_files(sample: SampleProvider) -> None:
    assert sample.source(Dataset.MINUTE_BARS) == "synthetic"
    assert sample.source(Dataset.DAILY_BARS) == "sample"


def test_the_minutes_of_every_day_of_the_file_add_up_to_its_bar_in_every_field(sample: SampleProvider) -> None:
    # Out of the file's text by hand, with no tolerance, and by pandas' own first, max, min, last and sum.
    expected = {
        (row["Ticker"], row["Date"]): tuple(float(row[name]) for name in ("Open", "High", "Low", "Close", "Volume"))
        for row in rows_of_the_file()
    }
    found = {}
    n_half_days = 0
    for symbol in sample.symbols()["symbol"]:
        request = minutes(symbol, sample.history_start, sample.horizon())
        bars = sample.parse(Dataset.MINUTE_BARS, sample.fetch(request))
        days = bars.groupby("date").agg(
            {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum", "timestamp": "size"}
        )
        n_half_days += int((days.pop("timestamp") == 210).sum())
        found |= {(symbol, f"{row.Index:%Y-%m-%d}"): tuple(row)[1:] for row in days.itertuples()}
    assert len(found) == 12_154
    assert found == expected
    assert n_half_days > 100


def test_minutes_are_the_same_whichever_window_asks_for_them(sample: SampleProvider) -> None:
    year = sample.fetch(minutes("IBM", date(2012, 1, 1), date(2012, 12, 31))).to_pandas()
    week = sample.fetch(minutes("IBM", date(2012, 7, 2), date(2012, 7, 6))).to_pandas()
    of_week = year[year["date"].between("2012-07-02", "2012-07-06")].reset_index(drop=True)
    # The third is a half day, the fourth a holiday.
    assert len(week) == 390 + 210 + 390 + 390
    assert of_week.equals(week)


def test_a_row_that_breaks_the_contract_has_no_minutes(tmp_path: Path) -> None:
    file = tmp_path / "bars.csv"
    good, bad = "A,2012-01-03,10,11,9,10,1000,10", "A,2012-01-04,10,8,9,10,1000,10"
    file.write_text(HEADER + f"{good}\n{bad}\nA,2012-01-02,10,11,9,10,1000,10\n")
    provider = SampleProvider(file)
    bars = provider.parse(Dataset.MINUTE_BARS, provider.fetch(minutes("A", date(2012, 1, 1), date(2012, 1, 31))))
    assert {str(day.date()) for day in bars["date"]} == {"2012-01-03"}
