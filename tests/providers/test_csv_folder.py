"""The CSV folder: what is in the files is what comes, and a mistake in one is one sentence."""

import os
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.providers.contract import Case, ProviderContract
from tickstock_assets.domain.errors import ConfigError, PermanentProviderError, TickstockError, UnknownSymbolError
from tickstock_assets.domain.windows import Window
from tickstock_assets.loading.registry import REGISTRY
from tickstock_assets.providers.base import Dataset, Request
from tickstock_assets.providers.csv_folder import CsvFolder

DAILY_HEADER = "date,open,high,low,close,volume\n"
MINUTE_HEADER = "timestamp,open,high,low,close,volume\n"

FILES = {
    # Columns in an order of their own, one that is not known, and a split of four for one on the 31st.
    "AAPL.csv": "Volume,Date,note,open,high,low,close\n"
    "46907479,2020-08-28,,504.05,505.77,498.31,499.23\n"
    '223505733,2020-08-31,"split, 4 for 1",127.58,131.00,126.00,129.04\n',
    "BINANCE%3ABTCUSDT.csv": DAILY_HEADER + "2024-01-01,42283.58,44184.10,42180.77,44179.55,27174.29903\n",
    "minute/AAPL.csv": MINUTE_HEADER
    + "2024-07-03T09:30:00-04:00,1,2,0.5,1.5,100\n2024-07-03T13:31:00Z,1,2,0.5,1.25,100.5\n",
    "splits.csv": "symbol,execution_date,split_from,split_to\nAAPL,2020-08-31,1,4\n",
    "dividends.csv": "cash_amount,symbol,ex_dividend_date,pay_date\n0.82,AAPL,2020-08-07,2020-08-13\n",
    "symbols.csv": "symbol,name,list_date\nAAPL,Apple Inc,1980-12-12\nGONE,Never Here,\n",
}
AUGUST = Window("AAPL", date(2020, 8, 1), date(2020, 8, 31))


def write(folder: Path, files: Mapping[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    return folder


def daily(symbol: str = "AAPL", start: date = date(2020, 8, 1), end: date = date(2020, 8, 31)) -> Request:
    return Request(Dataset.DAILY_BARS, Window(symbol, start, end))


def minutes(start: date, end: date) -> Request:
    return Request(Dataset.MINUTE_BARS, Window("AAPL", start, end))


@pytest.fixture
def provider(tmp_path: Path) -> CsvFolder:
    return CsvFolder(write(tmp_path, FILES))


class TestTheContract(ProviderContract):
    @pytest.fixture
    def case(self, provider: CsvFolder) -> Case:
        july = minutes(date(2024, 7, 1), date(2024, 7, 31))
        return Case(
            provider,
            requests=[daily(), daily("BINANCE:BTCUSDT", date(2024, 1, 1), date(2024, 1, 31)), july],
            closes={
                Dataset.DAILY_BARS: {date(2020, 8, 28): 499.23, date(2020, 8, 31): 129.04},
                Dataset.MINUTE_BARS: {
                    datetime(2024, 7, 3, 13, 30, tzinfo=UTC): 1.5,
                    datetime(2024, 7, 3, 13, 31, tzinfo=UTC): 1.25,
                },
            },
            empty=[
                daily(start=date(2020, 7, 1), end=date(2020, 7, 31)),
                minutes(date(2024, 6, 1), date(2024, 6, 30)),
            ],
        )


# --- bars


def test_columns_are_landed_as_the_file_names_them_with_the_symbol_added(provider: CsvFolder) -> None:
    assert provider.fetch(daily()).to_pylist()[1] == {
        "Volume": "223505733",
        "Date": "2020-08-31",
        "note": "split, 4 for 1",
        "open": "127.58",
        "high": "131.00",
        "low": "126.00",
        "close": "129.04",
        "symbol": "AAPL",
    }


def test_vwap_and_the_count_of_trades_are_read_where_they_are_given(tmp_path: Path) -> None:
    header = "date,open,high,low,close,volume,vwap,trades_count\n"
    provider = CsvFolder(write(tmp_path, {"A.csv": header + "2024-01-02,1,2,1,2,10,1.5,3\n"}))
    request = daily("A", date(2024, 1, 1), date(2024, 1, 31))
    bar = provider.parse(request.dataset, provider.fetch(request)).iloc[0]
    assert (bar["vwap"], bar["trades_count"]) == (1.5, 3)


def test_a_row_says_itself_whose_it_is_where_the_file_has_a_column_for_it(tmp_path: Path) -> None:
    # The quality stage then finds that it is another's.
    provider = CsvFolder(write(tmp_path, {"A.csv": "symbol," + DAILY_HEADER + "B,2024-01-02,1,2,1,2,10\n"}))
    payload = provider.fetch(daily("A", date(2024, 1, 1), date(2024, 1, 31)))
    assert provider.parse(Dataset.DAILY_BARS, payload)["symbol"].tolist() == ["B"]


def test_a_row_without_a_day_or_from_the_future_comes_with_every_window(tmp_path: Path) -> None:
    rows = "2024-01-02,1,2,1,2,10\nyesterday,1,2,1,2,10\n2999-01-01,1,2,1,2,10\n2024-02-01,1,2,1,2,x\n"
    provider = CsvFolder(write(tmp_path, {"A.csv": DAILY_HEADER + rows}))
    payload = provider.fetch(daily("A", date(2024, 2, 1), date(2024, 2, 29)))
    assert payload["date"].to_pylist() == ["yesterday", "2999-01-01", "2024-02-01"]
    bars = provider.parse(Dataset.DAILY_BARS, payload)
    assert bars["date"].isna().tolist() == [True, False, False]
    assert bars["volume"].isna().tolist() == [False, False, True]
    assert provider.horizon() == date(2024, 2, 1)


def test_a_minute_before_midnight_in_new_york_is_of_that_day(tmp_path: Path) -> None:
    # 3:30 UTC on the 4th is 23:30 on the 3rd in New York.
    provider = CsvFolder(write(tmp_path, {"minute/AAPL.csv": MINUTE_HEADER + "2024-07-04T03:30:00Z,1,2,1,2,10\n"}))
    assert provider.fetch(minutes(date(2024, 7, 3), date(2024, 7, 3))).num_rows == 1
    assert provider.fetch(minutes(date(2024, 7, 4), date(2024, 7, 4))).num_rows == 0


def test_a_minute_is_of_the_day_at_the_exchange_of_its_symbol(tmp_path: Path) -> None:
    # 3:30 UTC on the 4th is 23:30 on the 3rd in New York; 15:30 is half past midnight on the 5th in Tokyo.
    rows = MINUTE_HEADER + "2024-07-04T03:30:00Z,1,2,1,2,10\n2024-07-04T15:30:00Z,1,2,1,2,10\n"
    listing = "symbol,exchange\nBTC,24/7\nTOKYO,XTKS\nELSEWHERE,XNOWHERE\nUNSAID,\n"
    symbols = {"BTC": [4, 4], "TOKYO": [4, 5], "ELSEWHERE": [3, 4], "UNSAID": [3, 4], "UNLISTED": [3, 4]}
    files = {f"minute/{symbol}.csv": rows for symbol in symbols}
    provider = CsvFolder(write(tmp_path, files | {"symbols.csv": listing}))
    payloads = []
    for symbol, days in symbols.items():
        for day in (3, 4, 5):
            window = Window(symbol, date(2024, 7, day), date(2024, 7, day))
            payloads.append(provider.fetch(Request(Dataset.MINUTE_BARS, window)))
            assert payloads[-1].num_rows == days.count(day)
    # Whatever comes together is read as each by itself.
    bars = provider.parse(Dataset.MINUTE_BARS, pa.concat_tables(payloads))
    assert bars.groupby("symbol")["date"].agg(lambda dates: dates.dt.day.tolist()).to_dict() == symbols


def test_timestamps_without_an_offset_are_refused_because_a_guess_would_be_wrong_by_hours(tmp_path: Path) -> None:
    rows = "2024-07-03T13:30:00Z,1,2,1,2,10\n2024-07-03 09:31:00,1,2,1,2,10\n"
    folder = write(tmp_path, {"minute/AAPL.csv": MINUTE_HEADER + rows})
    with pytest.raises(PermanentProviderError, match=r"with an offset, such as .*, found '2024-07-03 09:31:00'"):
        CsvFolder(folder).fetch(minutes(date(2024, 7, 1), date(2024, 7, 31)))


def test_timestamps_without_an_offset_are_of_the_zone_that_the_folder_is_said_to_have(tmp_path: Path) -> None:
    stamps = [
        "2024-03-08 09:30:00",
        "2024-03-11 09:30:00",
        "2024-03-10 02:30:00",
        "2024-11-03 01:30:00",
        "2024-11-04T14:30:00Z",
    ]
    rows = "".join(f"{stamp},1,2,1,2,10\n" for stamp in stamps)
    provider = CsvFolder(write(tmp_path, {"minute/AAPL.csv": MINUTE_HEADER + rows}), zone="America/New_York")
    request = minutes(date(2024, 3, 1), date(2024, 11, 30))
    found = provider.parse(request.dataset, provider.fetch(request))["timestamp"]
    # On 10 March clocks jumped from 2:00 to 3:00; on 3 November they showed 1:30 twice.
    assert found.dt.strftime("%m-%d %H:%M").fillna("no moment").tolist() == [
        "03-08 14:30", "03-11 13:30", "no moment", "no moment", "11-04 14:30",
    ]  # fmt: skip


TIMES = (
    st.text(max_size=20)
    | st.datetimes(timezones=st.just(UTC) | st.none()).map(lambda moment: moment.isoformat())
    | st.dates().map(lambda day: day.isoformat())
)


@settings(deadline=None, max_examples=60)
@example([("9999-12-31T23:59:00-05:00", "1")], None)
@example([("9999-12-31T23:59:00", "1")], "America/New_York")
@given(st.lists(st.tuples(TIMES, st.text(max_size=12)), max_size=8), st.sampled_from([None, "America/New_York"]))
def test_no_text_breaks_parsing_or_loses_a_row(rows: list[tuple[str, str]], zone: str | None) -> None:
    values = pa.array([value for _, value in rows], pa.string())
    times = pa.array([time for time, _ in rows], pa.string())
    names = ["symbol", "open", "high", "low", "close", "volume"]
    for dataset, name in ((Dataset.DAILY_BARS, "date"), (Dataset.MINUTE_BARS, "timestamp")):
        payload = pa.table([times, *[values] * 6], names=[name, *names])
        assert len(CsvFolder(Path(), zone).parse(dataset, payload)) == len(rows)


# --- what else there is


def test_symbols_are_those_with_bars_and_symbols_csv_describes_them(provider: CsvFolder) -> None:
    symbols = provider.symbols().set_index("symbol")
    assert symbols.index.tolist() == ["AAPL", "BINANCE:BTCUSDT"]
    assert symbols.loc["AAPL", ["name", "list_date"]].tolist() == ["Apple Inc", pd.Timestamp(1980, 12, 12)]
    assert symbols.loc["BINANCE:BTCUSDT", ["name", "list_date"]].isna().all()
    assert symbols["exchange"].tolist() == ["XNYS", "XNYS"]


def test_splits_and_dividends_are_those_of_the_files(provider: CsvFolder) -> None:
    assert provider.splits().to_dict("records") == [
        {"symbol": "AAPL", "execution_date": pd.Timestamp(2020, 8, 31), "split_from": 1.0, "split_to": 4.0}
    ]
    (dividend,) = provider.dividends().to_dict("records")
    assert (dividend["ex_dividend_date"], dividend["cash_amount"]) == (pd.Timestamp(2020, 8, 7), 0.82)
    assert dividend["pay_date"] == pd.Timestamp(2020, 8, 13)
    assert provider.splits(["BINANCE:BTCUSDT"]).empty


def test_a_folder_of_bars_alone_has_no_splits_no_dividends_and_no_minutes(tmp_path: Path) -> None:
    provider = CsvFolder(write(tmp_path, {"A.csv": DAILY_HEADER + "2024-01-02,1,2,1,2,10\n"}))
    assert provider.splits().empty
    assert provider.dividends().empty
    assert provider.routes(Dataset.MINUTE_BARS) == []
    assert provider.symbols()["symbol"].tolist() == ["A"]
    assert provider.check() == f"{tmp_path}: 1 files of daily bars and 0 files of minute bars, up to 2024-01-02"


def test_the_history_begins_with_the_first_day_of_any_file(provider: CsvFolder) -> None:
    (route,) = provider.routes(Dataset.DAILY_BARS)
    assert (route.history_start, route.days_per_call) == (date(2020, 8, 28), None)
    (route,) = provider.routes(Dataset.MINUTE_BARS)
    assert (route.history_start, route.days_per_call) == (date(2024, 7, 3), 31)
    assert provider.horizon() == date(2024, 7, 3)


# --- when it changes


def test_a_change_of_a_file_is_seen_at_once_and_concerns_its_own_dataset_only(provider: CsvFolder) -> None:
    before = {dataset: provider.version(dataset) for dataset in (Dataset.DAILY_BARS, Dataset.MINUTE_BARS)}
    file = provider.folder / "AAPL.csv"
    file.write_text(file.read_text().replace("499.23", "499.24"))
    # As after an edit within the same tick of the clock.
    os.utime(file, ns=(1, 1))
    assert provider.version(Dataset.DAILY_BARS) != before[Dataset.DAILY_BARS]
    assert provider.version(Dataset.MINUTE_BARS) == before[Dataset.MINUTE_BARS]
    assert provider.fetch(daily())["close"].to_pylist() == ["499.24", "129.04"]


def test_a_new_file_a_renamed_file_and_another_zone_are_other_versions(provider: CsvFolder) -> None:
    versions = [provider.version(Dataset.DAILY_BARS)]
    write(provider.folder, {"NEW.csv": DAILY_HEADER + "2024-01-02,1,2,1,2,10\n"})
    versions.append(provider.version(Dataset.DAILY_BARS))
    (provider.folder / "NEW.csv").rename(provider.folder / "NEWER.csv")
    versions.append(provider.version(Dataset.DAILY_BARS))
    versions.append(CsvFolder(provider.folder, "UTC").version(Dataset.DAILY_BARS))
    assert len(set(versions)) == 4


def test_another_exchange_is_another_version_of_minutes_alone(provider: CsvFolder) -> None:
    versions = []
    for listing in ("symbol\nAAPL\n", "symbol,exchange\nAAPL,XNAS\n", "symbol,exchange\nAAPL,XTKS\n"):
        write(provider.folder, {"symbols.csv": listing})
        versions.append((provider.version(Dataset.MINUTE_BARS), provider.version(Dataset.DAILY_BARS)))
    assert [len(set(of_dataset)) for of_dataset in zip(*versions, strict=True)] == [3, 1]
    # What else is said of a symbol changes no bar.
    write(provider.folder, {"symbols.csv": "symbol,exchange,name\nAAPL,XTKS,Apple\n"})
    assert provider.version(Dataset.MINUTE_BARS) == versions[-1][0]


def test_touching_a_file_changes_nothing(provider: CsvFolder) -> None:
    before = provider.version(Dataset.DAILY_BARS)
    (provider.folder / "AAPL.csv").touch()
    assert provider.version(Dataset.DAILY_BARS) == before


# --- the guide


def test_the_code_of_the_guide_is_the_code_that_ships() -> None:
    project = Path(__file__).parent.parent.parent
    guide = (project / "docs" / "providers.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n# (\S+)\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    assert len(blocks) == guide.count("```python") >= 7
    for path, block in blocks:
        source = (project / path).read_text(encoding="utf-8")
        for part in block.split("...\n"):
            assert part in source, path


def test_the_guides_table_names_every_provider() -> None:
    guide = (Path(__file__).parent.parent.parent / "docs" / "providers.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([a-z_]+)`", guide, re.MULTILINE)) == set(REGISTRY)


# --- mistakes


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "A.csv: expected a header and rows, found an empty file"),
        (DAILY_HEADER, "A.csv: expected rows below the header, found none"),
        (
            "date,open,high,low,close,volmue\n2024-01-02,1,2,1,2,3\n",
            "A.csv line 1: expected a column 'volume', found 'volmue'; rename it",
        ),
        (
            "date;open;high;low;close;volume\n2024-01-02;1;2;1;2;3\n",
            "A.csv line 1: expected a column 'date', found only date;open;high;low;close;volume",
        ),
        (
            "date,open,high,low,close,Close,volume\n2024-01-02,1,2,1,2,2,3\n",
            "A.csv line 1: expected each column once, found 'close' twice",
        ),
        (
            DAILY_HEADER + "2024-01-02,1,2,1,2,3\n2024-01-03,1,2,1,2,1,000\n",
            "A.csv line 3: expected 6 fields as in the header, found 7 ('2024-01-03,1,2,1,2,1,000')",
        ),
        (
            DAILY_HEADER + "2024-01-02,1,2,1,2,3\n2024-01-03,1,2",
            "A.csv line 3: expected 6 fields as in the header, found 3",
        ),
        (
            DAILY_HEADER + "02.01.2024,1,2,1,2,3\n",
            "A.csv: expected at least one row with a time such as 2024-07-03, found none",
        ),
    ],
)
def test_a_file_that_is_not_right_is_one_sentence_with_the_place(tmp_path: Path, content: str, complaint: str) -> None:
    provider = CsvFolder(write(tmp_path, {"A.csv": content}))
    with pytest.raises(PermanentProviderError) as error:
        provider.horizon()
    assert str(error.value).startswith(f"{tmp_path}/{complaint}")
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_text_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "A.csv").write_bytes(b"PK\x03\x04\xff\xfe\n")
    with pytest.raises(
        PermanentProviderError, match=r"A.csv: expected a CSV file in UTF-8, found one that cannot be read"
    ):
        CsvFolder(tmp_path).fetch(daily("A"))


def test_a_mark_of_byte_order_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    write(tmp_path, {"A.csv": "\ufeff" + DAILY_HEADER + "2020-08-28,1,2,1,2,3\n"})
    assert CsvFolder(tmp_path).fetch(daily("A")).num_rows == 1


def test_a_bad_file_does_not_keep_the_others_from_being_had(provider: CsvFolder) -> None:
    write(provider.folder, {"BAD.csv": "", "WORSE.csv": "date\n"})
    assert provider.fetch(daily()).num_rows == 2
    assert provider.horizon() == date(2024, 7, 3)
    assert "BAD" in provider.symbols()["symbol"].tolist()


def test_an_unknown_symbol_names_the_file_and_the_nearest(provider: CsvFolder) -> None:
    with pytest.raises(
        UnknownSymbolError, match=r"APPL: expected a file APPL.csv in .*, found 2 others, the nearest AAPL.csv"
    ):
        provider.fetch(daily("APPL"))


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        (
            "splits.csv",
            "symbol,execution_date,split_form,split_to\nA,2024-01-02,1,2\n",
            "line 1: expected a column 'split_from', found 'split_form'; rename it",
        ),
        (
            "dividends.csv",
            "symbol,ex_dividend_date,cash_amount,paydate\nA,2024-01-02,1,\n",
            "found 'paydate'; did you mean 'pay_date'?",
        ),
        ("symbols.csv", "symbol,lst_date\nAAPL,2024-01-02\n", "found 'lst_date'; did you mean 'list_date'?"),
        ("splits.csv", "", "splits.csv: expected a header and rows, found an empty file"),
    ],
)
def test_a_file_beside_the_bars_may_have_no_column_that_would_be_overlooked(
    provider: CsvFolder, name: str, content: str, complaint: str
) -> None:
    write(provider.folder, {name: content})
    ask = {"splits.csv": provider.splits, "dividends.csv": provider.dividends, "symbols.csv": provider.symbols}[name]
    with pytest.raises(PermanentProviderError) as error:
        ask()
    assert complaint in str(error.value)


def test_two_files_of_one_symbol_are_refused(tmp_path: Path) -> None:
    row = DAILY_HEADER + "2024-01-02,1,2,1,2,10\n"
    write(tmp_path, {"X:Y.csv": row, "X%3AY.csv": row})
    with pytest.raises(ConfigError, match=r"expected one file of X:Y, found X%3AY.csv too; remove one"):
        CsvFolder(tmp_path).symbols()


def test_no_folder_and_an_empty_one_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere: expected a folder of files such as AAPL.csv, found no folder"):
        CsvFolder(tmp_path / "nowhere").check()
    with pytest.raises(TickstockError, match=r"expected files such as AAPL.csv, found none"):
        CsvFolder(tmp_path).check()
