"""Exported folders, read by others' readers, against what SQL says: row for row, as exact decimals."""

import resource
import subprocess
import sys
import time
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from sqlalchemy import Engine, text

from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.storage import export as module
from tickstock_assets.storage import parquet_folder
from tickstock_assets.storage.database import open_engine
from tickstock_assets.storage.export import Selection, export
from tickstock_assets.storage.pool import Limits
from tickstock_assets.storage.whole_file import whole_file, whole_folder

PARTITIONS = pa.schema([("symbol", pa.string()), ("year", pa.int32())])
ROWS = """
    INSERT INTO symbols (symbol, name) VALUES
        ('AAPL', ''), ('BTC/USD', E'two\\nlines, "quoted"'), ('O:X', NULL), ('TRUE', 'NULL');
    INSERT INTO ohlcv_daily (symbol, date, open, high, low, close, volume, vwap, trades_count, exchange, source)
        SELECT s.symbol, day::date, 1234567890.12345678, 9999999999.99999999, 0.00000001, 0.1, 0.00000001 * extract(doy FROM day),
               nullif(extract(doy FROM day), 7), nullif(extract(day FROM day)::int, 3), 'XNYS', 'sample'
        FROM symbols s, generate_series('2019-12-20'::timestamp, '2021-01-10', '1 day') day;
    INSERT INTO ohlcv_1min (symbol, timestamp, open, high, low, close, volume, exchange, source)
        SELECT 'AAPL', moment, 10, 12, 9, 11, 5, 'XNYS', 'sample'
        FROM generate_series('2023-12-31 23:58:00.000001Z'::timestamptz, '2024-01-01 00:03Z', '1 minute') moment;
    INSERT INTO audit_trail (event_type, entity_type, entity_id, action, metadata)
        VALUES ('load', 'ohlcv_daily', 'AAPL', 'merge', '{"rows": 4, "note": "a, \\"b\\""}');
"""


@pytest.fixture
def filled(database: Engine) -> Engine:
    with database.begin() as connection:
        connection.exec_driver_sql(ROWS)
    return database


def stored(engine: Engine, query: str) -> list[dict[str, Any]]:
    with engine.connect() as connection:
        return [dict(row._mapping) for row in connection.execute(text(query))]


def read(folder: Path, table: str) -> list[dict[str, Any]]:
    """Return the rows of a partitioned table, ordered and without the year."""
    partitioning = ds.partitioning(PARTITIONS, flavor="hive")
    rows = ds.dataset(folder / f"table={table}", format="parquet", partitioning=partitioning).to_table().to_pylist()
    for row in rows:
        moment = row.get("date") or row["timestamp"]
        assert row.pop("year") == moment.year
    return sorted(rows, key=lambda row: (row["symbol"], row.get("date") or row["timestamp"]))


def test_bars_are_exact_to_the_last_decimal_and_nothing_is_lost(filled: Engine, tmp_path: Path) -> None:
    written = export(filled, tmp_path / "market", Selection())
    wanted = stored(filled, 'SELECT * FROM ohlcv_daily ORDER BY symbol COLLATE "C", date')
    assert written.rows["ohlcv_daily"] == len(wanted) == 4 * 388
    found = read(tmp_path / "market", "ohlcv_daily")
    assert [{name: row[name] for name in wanted[0]} for row in found] == wanted
    assert found[0]["open"] == Decimal("1234567890.12345678")
    wanted = stored(filled, "SELECT * FROM ohlcv_1min ORDER BY symbol, timestamp")
    assert [{name: row[name] for name in wanted[0]} for row in read(tmp_path / "market", "ohlcv_1min")] == wanted


def test_a_table_that_takes_longer_than_a_statement_may_is_written(
    filled: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Far more than the buffers between us and the server hold.
    with filled.begin() as connection:
        connection.exec_driver_sql("""
            INSERT INTO ohlcv_1min (symbol, timestamp, open, high, low, close, volume, exchange, source)
            SELECT 'TRUE', moment, 10, 12, 9, 11, 5, 'XNYS', 'sample'
            FROM generate_series('2023-01-01Z'::timestamptz, '2023-03-31Z', '1 minute') moment
        """)
    monkeypatch.setattr(module, "BLOCK_BYTES", 100_000)
    hurried = open_engine(filled.url, limits=Limits(statement_timeout_seconds=1))
    slept: list[float] = []

    def look(_table: str, _rows: int) -> None:
        if not slept:
            slept.append(1.5)
            time.sleep(slept[0])

    written = export(hurried, tmp_path / "market", Selection(tables=["ohlcv_1min"]), look)
    hurried.dispose()
    assert written.rows == {"ohlcv_1min": 89 * 1440 + 1 + 5}
    assert slept


def test_types_in_the_files_are_decimals_days_and_moments_in_utc(filled: Engine, tmp_path: Path) -> None:
    export(filled, tmp_path / "market", Selection())
    daily = pq.read_schema(tmp_path / "market/table=ohlcv_daily/symbol=AAPL/year=2020/part-0.parquet")
    assert daily.field("close").type == pa.decimal128(18, 8)
    assert daily.field("volume").type == pa.decimal128(24, 8)
    assert daily.field("date").type == pa.date32()
    assert daily.field("recorded_at").type == pa.timestamp("us", "UTC")
    assert "symbol" not in daily.names
    minutes = pq.read_table(
        tmp_path / "market/table=ohlcv_1min/symbol=AAPL/year=2023/part-0.parquet", partitioning=None
    )
    assert minutes["timestamp"].to_pylist() == [
        datetime(2023, 12, 31, 23, 58, 0, 1, UTC),
        datetime(2023, 12, 31, 23, 59, 0, 1, UTC),
    ]


def test_folders_are_by_symbol_and_year_and_names_are_escaped(filled: Engine, tmp_path: Path) -> None:
    export(filled, tmp_path / "market", Selection(tables=["ohlcv_daily"]))
    folders = {str(path.parent.relative_to(tmp_path / "market")) for path in (tmp_path / "market").rglob("*.parquet")}
    assert folders == {
        f"table=ohlcv_daily/symbol={symbol}/year={year}"
        for symbol in ("AAPL", "BTC%2FUSD", "O%3AX", "TRUE")
        for year in (2019, 2020, 2021)
    }


def test_tables_without_symbol_and_time_in_their_key_are_one_file(filled: Engine, tmp_path: Path) -> None:
    export(filled, tmp_path / "market", Selection())
    symbols = pq.read_table(tmp_path / "market/table=symbols/part-0.parquet", partitioning=None).to_pylist()
    assert symbols == stored(filled, 'SELECT * FROM symbols ORDER BY symbol COLLATE "C"')
    assert [row["name"] for row in symbols] == ["", 'two\nlines, "quoted"', None, "NULL"]
    [entry] = pq.read_table(tmp_path / "market/table=audit_trail/part-0.parquet", partitioning=None).to_pylist()
    [wanted] = stored(
        filled, "SELECT *, metadata::text AS metadata, id::text AS id, correlation_id::text FROM audit_trail"
    )
    assert entry == {name: wanted[name] for name in entry}
    # Without rows it is a file all the same, which says what the columns are.
    empty = pq.read_table(tmp_path / "market/table=backtest_runs/part-0.parquet", partitioning=None)
    assert (empty.num_rows, "config_hash" in empty.column_names) == (0, True)


def test_every_table_of_the_schema_is_there(filled: Engine, tmp_path: Path) -> None:
    written = export(filled, tmp_path / "market", Selection())
    tables = stored(
        filled, "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
    )
    assert {row["relname"] for row in tables} - {"schema_revision"} <= written.rows.keys()
    assert {"ohlcv_5min", "ohlcv_15min", "ohlcv_1h"} <= written.rows.keys()


def test_pandas_reads_it(filled: Engine, tmp_path: Path) -> None:
    export(filled, tmp_path / "market", Selection(tables=["ohlcv_daily"], symbols=["AAPL", "BTC/USD"]))
    frame = pd.read_parquet(tmp_path / "market" / "table=ohlcv_daily")
    assert sorted(frame["symbol"].unique()) == ["AAPL", "BTC/USD"]
    assert len(frame) == 2 * 388
    assert set(frame["high"]) == {Decimal("9999999999.99999999")}


def test_symbols_and_days_narrow_it_down(filled: Engine, tmp_path: Path) -> None:
    selection = Selection(["O:X", "AAPL"], ["ohlcv_daily", "symbols", "sessions"], date(2019, 12, 31), date(2020, 1, 2))
    written = export(filled, tmp_path / "market", selection)
    assert written.rows == {"ohlcv_daily": 6, "symbols": 2, "sessions": 0}
    assert [(row["symbol"], str(row["date"])) for row in read(tmp_path / "market", "ohlcv_daily")] == [
        (symbol, day) for symbol in ("AAPL", "O:X") for day in ("2019-12-31", "2020-01-01", "2020-01-02")
    ]


def test_a_day_is_one_of_utc_with_its_last_minute(filled: Engine, tmp_path: Path) -> None:
    day = date(2023, 12, 31)
    assert export(filled, tmp_path / "market", Selection(tables=["ohlcv_1min"], start=day, end=day)).rows == {
        "ohlcv_1min": 2
    }


def test_a_table_larger_than_a_batch_is_whole(filled: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", 10_000)
    monkeypatch.setattr(parquet_folder, "ROW_GROUP_ROWS", 100)
    seen: list[int] = []
    export(filled, tmp_path / "market", Selection(tables=["ohlcv_daily"]), lambda _, rows: seen.append(rows))
    assert len(seen) > 10
    wanted = stored(filled, 'SELECT * FROM ohlcv_daily ORDER BY symbol COLLATE "C", date')
    assert [{name: row[name] for name in wanted[0]} for row in read(tmp_path / "market", "ohlcv_daily")] == wanted
    groups = pq.ParquetFile(tmp_path / "market/table=ohlcv_daily/symbol=AAPL/year=2020/part-0.parquet").num_row_groups
    assert groups >= 3


def test_an_export_that_is_broken_off_leaves_nothing(filled: Engine, tmp_path: Path) -> None:
    def break_off(table: str, _: int) -> None:
        if table == "symbols":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(filled, tmp_path / "market", Selection(), break_off)
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from sqlalchemy import make_url
from tickstock_assets.storage.database import open_engine
from tickstock_assets.storage.export import Selection, export
export(open_engine(make_url(sys.argv[1])), Path(sys.argv[2]), Selection(), lambda *_: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_an_export_that_is_killed_leaves_no_folder_and_its_rest_is_swept_away_by_the_next(
    filled: Engine, tmp_path: Path
) -> None:
    address = filled.url.render_as_string(hide_password=False)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, address, str(tmp_path / "market")], check=False, cwd=Path(__file__).parents[2]
    )
    assert killed.returncode == -9
    assert not (tmp_path / "market").exists()
    assert len(list(tmp_path.iterdir())) == 1  # hidden, and no one's
    (tmp_path / ".of_another_program.1.part").mkdir()
    with whole_folder(tmp_path / "at_work"):
        export(filled, tmp_path / "other", Selection(tables=["symbols"]))
    assert {path.name for path in tmp_path.iterdir()} == {"at_work", "other", ".of_another_program.1.part"}


def test_a_disk_that_takes_no_more_is_one_sentence_and_leaves_nothing(filled: Engine, tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(ConfigError, match="market: expected a folder we can write, found File too large"):
            export(filled, tmp_path / "market", Selection(tables=["ohlcv_daily"]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["", ".", "/"])
def test_what_has_no_name_cannot_be_written(path: str) -> None:
    with pytest.raises(ConfigError, match="expected the name of a folder, found none"), whole_folder(Path(path)):
        pass
    with pytest.raises(ConfigError, match="expected the name of a file, found none"), whole_file(Path(path)):
        pass


def test_a_folder_with_something_in_it_is_left_alone(filled: Engine, tmp_path: Path) -> None:
    (tmp_path / "market").mkdir()
    export(filled, tmp_path / "market", Selection(tables=["symbols"]))
    with pytest.raises(ConfigError, match="market: expected a new folder we can make, found something there already"):
        export(filled, tmp_path / "market", Selection(tables=["symbols"]))


@pytest.mark.parametrize(
    ("selection", "said"),
    [
        (Selection(tables=["bars"]), "--tables bars: expected a table, found none of that name; there are alert_notices, "),
        (Selection(tables=["symbols; DROP TABLE symbols"]), "expected a table, found none of that name"),
        (Selection(symbols=["IBM"]), "--symbols IBM: expected a known symbol, found none of that name; known symbols are AAPL"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_named(filled: Engine, tmp_path: Path, selection: Selection, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        export(filled, tmp_path / "market", selection)
    assert said in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_all_tables_are_of_one_moment(filled: Engine, tmp_path: Path) -> None:
    other = open_engine(filled.url)

    def meanwhile(table: str, _: int) -> None:
        if table == "audit_trail":  # the first; symbols come later
            with other.begin() as connection:
                connection.execute(text("INSERT INTO symbols (symbol) VALUES ('LATER')"))

    assert export(filled, tmp_path / "market", Selection(), meanwhile).rows["symbols"] == 4
    other.dispose()
    assert [path.name for path in tmp_path.iterdir()] == ["market"]


def test_a_number_without_a_bound_and_a_list_are_text(filled: Engine, tmp_path: Path) -> None:
    with filled.begin() as connection:
        connection.execute(text("CREATE TABLE odd (x numeric, y integer[])"))
        connection.execute(text("INSERT INTO odd VALUES (1 / 3::numeric, '{1,2}')"))
    export(filled, tmp_path / "market", Selection(tables=["odd"]))
    [row] = pq.read_table(tmp_path / "market/table=odd/part-0.parquet", partitioning=None).to_pylist()
    assert row == {"x": "0.33333333333333333333", "y": "{1,2}"}  # no bound in Arrow holds it, so it stays text
