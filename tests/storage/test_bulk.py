"""What `merge` does to the rows of a table, worked by hand."""

import json
import threading
import uuid
from datetime import date
from decimal import Decimal

import numpy as np
import pandas as pd
import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, text

from tickstock_assets.domain.errors import ContractError
from tickstock_assets.domain.windows import Window
from tickstock_assets.storage import bulk
from tickstock_assets.storage.bulk import MergeCounts, Scope, merge


def bars(*rows: tuple[str, float], source: str = "sample", symbol: str = "AAPL") -> pd.DataFrame:
    """One bar a row: day and close; the other prices follow from the close."""
    return pd.DataFrame(
        [
            {
                "symbol": symbol, "date": pd.Timestamp(day), "open": close, "high": close + 1, "low": close - 1,
                "close": close, "volume": 1000.5, "source": source,
            }
            for day, close in rows
        ]
    )  # fmt: skip


@pytest.fixture
def connection(database: Engine) -> Connection:
    with database.begin() as connection:
        connection.execute(text("INSERT INTO symbols (symbol) VALUES ('AAPL'), ('MSFT')"))
        yield connection


DAYS_OF_JANUARY = [(f"2024-01-{day:02d}", 10.0) for day in range(1, 29)]


def closes(connection: Connection) -> dict[str, str]:
    rows = connection.execute(text("SELECT date::text, close::text FROM ohlcv_daily ORDER BY date"))
    return {row[0]: row[1] for row in rows}


def test_new_bars_are_inserted_with_their_exact_decimals(connection: Connection) -> None:
    counts = merge(connection, "ohlcv_daily", bars(("2024-01-02", 28.0895), ("2024-01-03", 1.1)))
    assert counts == MergeCounts(inserted=2)
    # 28.0895 and 1.1 have no exact binary form; the stored decimals are what was written, not what it nearly is.
    assert closes(connection) == {"2024-01-02": "28.08950000", "2024-01-03": "1.10000000"}


def test_the_same_bars_again_rewrite_nothing(connection: Connection) -> None:
    merge(connection, "ohlcv_daily", bars(("2024-01-02", 10.1)))
    before = connection.execute(text("SELECT xmin, ctid, recorded_at FROM ohlcv_daily")).all()
    assert merge(connection, "ohlcv_daily", bars(("2024-01-02", 10.1))) == MergeCounts(unchanged=1)
    assert connection.execute(text("SELECT xmin, ctid, recorded_at FROM ohlcv_daily")).all() == before


def test_a_corrected_bar_replaces_the_old_and_is_recorded_anew(connection: Connection) -> None:
    merge(connection, "ohlcv_daily", bars(("2024-01-02", 10.0), ("2024-01-03", 11.0)))
    before = connection.execute(text("SELECT recorded_at FROM ohlcv_daily ORDER BY date")).scalars().all()
    counts = merge(connection, "ohlcv_daily", bars(("2024-01-02", 10.0), ("2024-01-03", 11.5)))
    assert counts == MergeCounts(corrected=1, unchanged=1)
    assert closes(connection)["2024-01-03"] == "11.50000000"
    after = connection.execute(text("SELECT recorded_at FROM ohlcv_daily ORDER BY date")).scalars().all()
    assert after[0] == before[0]
    assert after[1] > before[1]


def test_an_empty_frame_without_a_scope_removes_nothing(connection: Connection) -> None:
    merge(connection, "ohlcv_daily", bars(("2024-01-02", 10.0)))
    assert merge(connection, "ohlcv_daily", bars(("2024-01-02", 10.0)).head(0)) == MergeCounts()
    assert len(closes(connection)) == 1


def test_a_lower_ranked_source_does_not_replace_a_higher_one(connection: Connection) -> None:
    merge(connection, "ohlcv_daily", bars(("2024-01-02", 10.0), source="polygon"))
    counts = merge(connection, "ohlcv_daily", bars(("2024-01-02", 99.0), ("2024-01-03", 98.0), source="sample"))
    assert counts == MergeCounts(inserted=1, outranked=1)
    assert closes(connection)["2024-01-02"] == "10.00000000"


def test_a_higher_ranked_source_with_equal_values_takes_over_the_source(connection: Connection) -> None:
    merge(connection, "ohlcv_daily", bars(("2024-01-02", 10.0), source="sample"))
    assert merge(connection, "ohlcv_daily", bars(("2024-01-02", 10.0), source="polygon")) == MergeCounts(corrected=1)
    assert connection.execute(text("SELECT source FROM ohlcv_daily")).scalar_one() == "polygon"


def features(*days: str, symbol: str = "AAPL", timeframe: str = "1d") -> pd.DataFrame:
    moments = [pd.Timestamp(day, tz="UTC") + pd.Timedelta(hours=14.5) for day in days]
    return pd.DataFrame(
        {
            "symbol": symbol,
            "timeframe": timeframe,
            "timestamp": moments,
            "spread": 1.0,
            "true_range": 1.0,
            "atr_14": None,
        }
    )


def test_derived_rows_that_are_no_longer_produced_disappear_within_the_scope_only(connection: Connection) -> None:
    merge(connection, "bar_features", features("2023-12-29", "2024-01-02", "2024-01-03", "2025-01-02"))
    merge(connection, "bar_features", features("2024-01-02", symbol="MSFT"))
    merge(connection, "bar_features", features("2024-01-02", timeframe="1h"))
    scope = Scope([Window("AAPL", date(2024, 1, 1), date(2024, 12, 31))], "timestamp", {"timeframe": ["1d"]})
    assert merge(connection, "bar_features", features("2024-01-03"), scope) == MergeCounts(unchanged=1, removed=1)
    left = connection.execute(
        text("SELECT symbol || ' ' || timeframe || ' ' || timestamp::date FROM bar_features ORDER BY 1")
    ).scalars()
    assert list(left) == [
        "AAPL 1d 2023-12-29", "AAPL 1d 2024-01-03", "AAPL 1d 2025-01-02", "AAPL 1h 2024-01-02", "MSFT 1d 2024-01-02",
    ]  # fmt: skip


def test_missing_values_become_null_and_a_null_that_stays_null_is_unchanged(connection: Connection) -> None:
    frame = features("2024-01-02").assign(spread_ratio=float("nan"), atr_14=2.5)
    assert merge(connection, "bar_features", frame) == MergeCounts(inserted=1)
    assert merge(connection, "bar_features", frame) == MergeCounts(unchanged=1)
    assert connection.execute(text("SELECT spread_ratio, atr_14 FROM bar_features")).one()[0] is None


def test_a_missing_value_at_the_very_end_of_what_is_stored_is_one(connection: Connection) -> None:
    rows = pd.DataFrame(
        {"symbol": ["GOOG", "IBM"], "exchange": "XNYS", "list_date": [pd.Timestamp("2004-08-19"), pd.NaT]}
    )
    assert merge(connection, "symbols", rows) == MergeCounts(inserted=2)
    assert merge(connection, "symbols", rows) == MergeCounts(unchanged=2)


def test_values_are_compared_as_the_table_keeps_them(connection: Connection) -> None:
    # NUMERIC(12,6) keeps 0.333333; a third is not a correction of it.
    frame = features("2024-01-02").assign(volume_ratio=1 / 3)
    merge(connection, "bar_features", frame)
    assert merge(connection, "bar_features", frame) == MergeCounts(unchanged=1)


def test_json_is_compared_by_content_and_empty_text_is_not_null(connection: Connection) -> None:
    rows = pd.DataFrame(
        [{
            "symbol": "AAPL", "timeframe": "1d", "timestamp": pd.Timestamp("2024-01-02 14:30", tz="UTC"),
            "pattern": "CDLDOJI", "variant": "", "id": "6f1de8a5-5d56-5ff1-8a6f-3d2f6f6f7c11", "family": "candlestick",
            "direction": "bullish", "known_at": pd.Timestamp("2024-01-02 21:00", tz="UTC"),
            "metadata": json.dumps({"a": 1, "note": 'quote " and, comma\nline'}),
        }]
    )  # fmt: skip
    assert merge(connection, "patterns", rows) == MergeCounts(inserted=1)
    reordered = rows.assign(metadata=json.dumps({"note": 'quote " and, comma\nline', "a": 1}))
    assert merge(connection, "patterns", reordered) == MergeCounts(unchanged=1)
    assert (
        connection.execute(text("SELECT metadata ->> 'note' FROM patterns")).scalar_one() == 'quote " and, comma\nline'
    )


def test_text_comes_back_as_it_was_whatever_is_in_it(connection: Connection) -> None:
    texts = [
        "",
        " ",
        "a,b",
        'say "no"',
        "back\\slash",
        "\\\\",
        'mixed \\" end\\',
        "(paren)",
        "two\nlines",
        "tab\t",
        "NULL",
        "é∑",
    ]
    rows = pd.DataFrame({"symbol": [f"S{number}" for number in range(len(texts))], "name": texts})
    assert merge(connection, "symbols", rows) == MergeCounts(inserted=len(texts))
    assert merge(connection, "symbols", rows) == MergeCounts(unchanged=len(texts))
    stored = connection.execute(text("SELECT name FROM symbols WHERE symbol ~ '^S\\d' ORDER BY length(symbol), symbol"))
    assert list(stored.scalars()) == texts
    assert merge(connection, "symbols", rows.assign(name=None)) == MergeCounts(corrected=len(texts))


def test_an_arrow_table_is_as_good_as_a_frame(connection: Connection) -> None:
    table = pa.Table.from_pandas(bars(("2024-01-02", 10.0)), preserve_index=False)
    assert merge(connection, "ohlcv_daily", table) == MergeCounts(inserted=1)


def test_a_key_that_stands_twice_in_the_frame_is_refused(connection: Connection) -> None:
    with pytest.raises(ContractError, match=r"key \(symbol, date\) once, found AAPL, 2024-01-02 00:00:00 twice"):
        merge(connection, "ohlcv_daily", bars(("2024-01-02", 10.0), ("2024-01-03", 10.0), ("2024-01-02", 11.0)))


def test_an_unknown_column_is_refused_by_name(connection: Connection) -> None:
    with pytest.raises(ContractError, match="colour"):
        merge(connection, "ohlcv_daily", bars(("2024-01-02", 10.0)).assign(colour="red"))


def test_the_database_refuses_a_bar_whose_high_is_below_its_low(connection: Connection) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="chk_ohlcv_daily_high_is_highest"):
        merge(connection, "ohlcv_daily", bars(("2024-01-02", 10.0)).assign(high=1.0))


def test_two_writers_of_the_same_new_bars_leave_each_bar_once(database: Engine) -> None:
    with database.begin() as connection:
        connection.execute(text("INSERT INTO symbols (symbol) VALUES ('AAPL'), ('MSFT')"))
    days = [f"2024-01-{day:02d}" for day in range(2, 30)]
    frame = pd.concat([bars(*((day, 10.0) for day in days), symbol=symbol) for symbol in ("MSFT", "AAPL")])
    results: list[MergeCounts] = []

    def write() -> None:
        for _ in range(5):
            with database.begin() as connection:
                results.append(merge(connection, "ohlcv_daily", frame))

    writers = [threading.Thread(target=write) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sum(counts.inserted for counts in results) == len(frame)
    assert sum(counts.unchanged for counts in results) == 14 * len(frame)


def test_a_key_that_is_incomplete_is_refused(connection: Connection) -> None:
    frame = bars(("2024-01-02", 10.0), ("2024-01-03", 10.0))
    frame.loc[1, "date"] = pd.NaT
    with pytest.raises(ContractError, match="in every row, found a row without"):
        merge(connection, "ohlcv_daily", frame)


def test_rows_in_any_order_are_each_compared_with_their_own(connection: Connection) -> None:
    days = [(f"2024-01-{day:02d}", 10.0 + day) for day in range(1, 29)]
    merge(connection, "ohlcv_daily", bars(*days).sample(frac=1, random_state=1))
    shuffled = bars(*days, ("2024-02-01", 1.5)).sample(frac=1, random_state=2)
    shuffled.loc[shuffled["close"] == 20.0, "volume"] = 7.0
    for frame in (shuffled, pa.Table.from_pandas(shuffled.assign(volume=8.0), preserve_index=False)):
        counts = merge(connection, "ohlcv_daily", frame)
        assert counts in (MergeCounts(inserted=1, corrected=1, unchanged=27), MergeCounts(corrected=29))


def test_decimals_are_compared_exactly_where_a_float_could_not_tell_them_apart(connection: Connection) -> None:
    frame = bars(("2024-01-02", 10.0)).assign(volume=[Decimal("9007199254740993.00000001")])
    merge(connection, "ohlcv_daily", frame)
    assert merge(connection, "ohlcv_daily", frame) == MergeCounts(unchanged=1)
    other = frame.assign(volume=[Decimal("9007199254740993.00000002")])
    assert merge(connection, "ohlcv_daily", other) == MergeCounts(corrected=1)
    assert str(connection.execute(text("SELECT volume FROM ohlcv_daily")).scalar_one()) == str(other["volume"][0])


def test_a_moment_without_a_time_zone_is_refused(connection: Connection) -> None:
    frame = features("2024-01-02")
    frame["timestamp"] = frame["timestamp"].dt.tz_localize(None)
    with pytest.raises(ContractError, match=r"bar_features.timestamp: .*a moment without a time zone"):
        merge(connection, "bar_features", frame)


def test_a_frame_of_many_batches_is_merged_as_one(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "BATCH_ROWS", 10)
    days = [f"2024-{month:02d}-{day:02d}" for month in range(1, 5) for day in range(1, 29)]
    frame = pd.concat([bars(*((day, 10.0) for day in days), symbol=symbol) for symbol in ("MSFT", "AAPL")])
    assert merge(connection, "ohlcv_daily", frame) == MergeCounts(inserted=224)
    corrected = frame.assign(volume=[1000.5] * 200 + [9.0] * 24)
    assert merge(connection, "ohlcv_daily", corrected) == MergeCounts(unchanged=200, corrected=24)
    derived = pd.concat([features(*days, symbol=symbol) for symbol in ("MSFT", "AAPL")])
    merge(connection, "bar_features", derived)
    windows = [
        Window("AAPL", date(2024, 1, 1), date(2024, 2, 29)),
        Window("MSFT", date(2024, 1, 1), date(2024, 12, 31)),
    ]
    scope = Scope(windows, "timestamp", {"timeframe": ["1d"]})
    fewer = features(*days[::2], symbol="MSFT")
    assert merge(connection, "bar_features", fewer, scope) == MergeCounts(unchanged=56, removed=56 + 56)


def test_rows_of_a_symbol_that_is_not_in_scope_are_refused(connection: Connection) -> None:
    scope = Scope([Window("AAPL", date(2024, 1, 1), date(2024, 12, 31))])
    with pytest.raises(ContractError, match="in scope, found rows of MSFT"):
        merge(connection, "bar_features", features("2024-01-02", symbol="MSFT"), scope)


@given(
    values=st.lists(
        st.one_of(st.floats(0.00000001, 1e9), st.integers(1, 10**12).map(lambda n: n / 1e8)), min_size=1, max_size=40
    )
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_number_merged_twice_is_unchanged_the_second_time(connection: Connection, values: list[float]) -> None:
    connection.execute(text("DELETE FROM ohlcv_daily"))
    days = pd.date_range("2024-01-01", periods=len(values)).as_unit("us")
    prices = np.maximum(values, 1e-8)
    frame = pd.DataFrame(
        {"symbol": "AAPL", "date": days, "open": prices, "high": prices, "low": prices, "close": prices,
         "volume": np.array(values) * 1000, "source": "sample"}
    )  # fmt: skip
    assert merge(connection, "ohlcv_daily", frame) == MergeCounts(inserted=len(values))
    assert merge(connection, "ohlcv_daily", frame) == MergeCounts(unchanged=len(values))


# --- what a merge refuses, and what it once got wrong


def test_windows_of_a_scope_that_overlap_remove_nothing_that_the_frame_has(connection: Connection) -> None:
    days = [f"2021-{month:02d}-{day:02d}" for month in range(4, 9) for day in range(1, 29)]
    frame = features(*days)
    windows = [
        Window("AAPL", date(2021, 1, 1), date(2021, 6, 30)),
        Window("AAPL", date(2021, 6, 1), date(2021, 12, 31)),
    ]
    merge(connection, "bar_features", frame)
    assert merge(connection, "bar_features", frame, Scope(windows)) == MergeCounts(unchanged=len(days))


def test_a_scope_of_many_batches_holds_where_the_key_does_not_begin_with_the_symbol(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "BATCH_ROWS", 10)
    start = pd.Timestamp("2024-01-02", tz="UTC")
    rows = pd.DataFrame(
        [
            {
                "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{symbol}{number}")), "version": 1, "symbol": symbol,
                "timeframe": "1d", "start_time": start + pd.Timedelta(days=number), "duration_bars": 20,
                "end_time": start + pd.Timedelta(days=number + 28), "known_at": start + pd.Timedelta(days=number + 29),
                "creek_level": 11, "ice_level": 10, "range_width": 1, "jump_target": 12, "cause_factor": 2,
                "phase": "B", "strength_score": 60, "touch_count_creek": 2, "touch_count_ice": 2,
            }
            for symbol in ("MSFT", "AAPL") for number in range(20)
        ]
    )  # fmt: skip
    scope = Scope([Window(symbol, date(2024, 1, 1), date(2024, 12, 31)) for symbol in ("AAPL", "MSFT")], "start_time")
    assert merge(connection, "trading_ranges", rows, scope) == MergeCounts(inserted=40)
    assert merge(connection, "trading_ranges", rows, scope) == MergeCounts(unchanged=40)


def test_categories_in_an_order_of_their_own_are_symbols_all_the_same(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "BATCH_ROWS", 10)
    frame = pd.concat([bars(*DAYS_OF_JANUARY, symbol=symbol) for symbol in ("AAPL", "MSFT")])
    frame["symbol"] = pd.Categorical(frame["symbol"], categories=["MSFT", "AAPL"])
    assert merge(connection, "ohlcv_daily", frame) == MergeCounts(inserted=56)
    assert merge(connection, "ohlcv_daily", frame) == MergeCounts(unchanged=56)


def test_several_timeframes_of_a_symbol_are_each_compared_with_their_own(connection: Connection) -> None:
    moments = {"15m": "15:30", "1h": "15:00", "5m": "15:35"}
    rows = pd.DataFrame(
        [
            {"symbol": "AAPL", "timeframe": timeframe, "timestamp": pd.Timestamp(f"2024-01-02 {clock}", tz="UTC"),
             "spread": 1.0, "true_range": 1.0}
            for timeframe, clock in moments.items()
        ]
    )  # fmt: skip
    assert merge(connection, "bar_features", rows) == MergeCounts(inserted=3)
    assert merge(connection, "bar_features", rows) == MergeCounts(unchanged=3)
    assert merge(connection, "bar_features", rows.assign(spread=2.0)) == MergeCounts(corrected=3)


def test_more_symbols_than_the_server_has_locks_are_merged_at_once(connection: Connection) -> None:
    rows = pd.DataFrame({"symbol": [f"S{number}" for number in range(30_000)]})
    assert merge(connection, "symbols", rows) == MergeCounts(inserted=30_000)


def test_amounts_too_large_for_more_decimals_are_stored_as_they_are(connection: Connection) -> None:
    frame = bars(("2024-01-02", 10.0)).assign(quote_volume=6457141690.67)
    merge(connection, "ohlcv_daily", frame)
    assert str(connection.execute(text("SELECT quote_volume FROM ohlcv_daily")).scalar_one()) == "6457141690.67000000"
    assert merge(connection, "ohlcv_daily", frame) == MergeCounts(unchanged=1)


def test_a_source_that_takes_a_bar_over_leaves_nothing_of_the_other(connection: Connection) -> None:
    merge(connection, "ohlcv_daily", bars(("2024-01-02", 10.0)).assign(vwap=10.0, trades_count=5))
    merge(connection, "ohlcv_daily", bars(("2024-01-02", 20.0)))  # the same source corrects what it sends
    stored = text("SELECT close::int, vwap::int, trades_count, source FROM ohlcv_daily")
    assert tuple(connection.execute(stored).one()) == (20, 10, 5, "sample")
    merge(connection, "ohlcv_daily", bars(("2024-01-02", 20.0), source="polygon"))
    assert tuple(connection.execute(stored).one()) == (20, None, None, "polygon")


def test_bars_take_neither_a_scope_nor_a_moment_of_the_callers(connection: Connection) -> None:
    scope = Scope([Window("AAPL", date(2024, 1, 1), date(2024, 12, 31))], "date")
    with pytest.raises(ContractError, match="expected no scope, as bars are corrected and never removed"):
        merge(connection, "ohlcv_daily", bars(("2024-01-02", 10.0)), scope)
    back_dated = bars(("2024-01-02", 10.0)).assign(recorded_at=pd.Timestamp("2019-01-01", tz="UTC"))
    with pytest.raises(ContractError, match="expected recorded_at to be left to the server"):
        merge(connection, "ohlcv_daily", back_dated)


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE", "AUTOCOMMIT"])
def test_a_merge_wants_a_transaction_in_which_it_sees_what_others_have_committed(database: Engine, level: str) -> None:
    with (
        database.execution_options(isolation_level=level).begin() as connection,
        pytest.raises(ContractError, match="expected a transaction of READ COMMITTED"),
    ):
        merge(connection, "symbols", pd.DataFrame({"symbol": ["AAPL"]}))


def test_rows_without_a_symbol_have_a_lock_too(database: Engine) -> None:
    with database.begin() as connection:
        connection.execute(text("INSERT INTO symbols (symbol) VALUES ('AAPL'), ('IBM')"))
    common = {
        "rule": "invalid_symbol",
        "reason": "none",
        "source": "sample",
        "dataset": "daily_bars",
        "source_version": "1",
    }
    shared = str(uuid.uuid5(uuid.NAMESPACE_OID, "shared"))

    def rejects(symbol: str) -> pd.DataFrame:
        own = str(uuid.uuid5(uuid.NAMESPACE_OID, symbol))
        return pd.DataFrame({"id": [shared, own], "symbol": [None, symbol], "row": "{}", **common})

    counts: list[MergeCounts] = []

    def write(symbol: str) -> None:
        with database.begin() as connection:
            counts.append(merge(connection, "quarantined_bars", rejects(symbol)))

    with database.begin() as connection:
        merge(connection, "quarantined_bars", rejects("AAPL"))
        other = threading.Thread(target=write, args=["IBM"])
        other.start()
        other.join(timeout=0.5)
        assert other.is_alive()  # it waits for us
    other.join()
    assert counts == [MergeCounts(inserted=1, unchanged=1)]


def test_documents_whose_numbers_are_written_otherwise_are_equal(connection: Connection) -> None:
    rows = pd.DataFrame(
        [{
            "symbol": "AAPL", "timeframe": "1d", "timestamp": pd.Timestamp("2024-01-02 14:30", tz="UTC"),
            "pattern": "CDLDOJI", "variant": "", "id": "6f1de8a5-5d56-5ff1-8a6f-3d2f6f6f7c11", "family": "candlestick",
            "direction": "bullish", "known_at": pd.Timestamp("2024-01-02 21:00", tz="UTC"),
            "metadata": '{"a": 1e16, "b": -0.0, "c": [1.50, "1.5"], "d": 123456789012345678901234567890}',
        }]
    )  # fmt: skip
    merge(connection, "patterns", rows)
    assert merge(connection, "patterns", rows) == MergeCounts(unchanged=1)
    for other in ('{"a": 1e16, "b": 0, "c": ["1.5", 1.5], "d": 123456789012345678901234567890}',
                  '{"a": 1e16, "b": 0, "c": ["1.5", 1.5], "d": 123456789012345678901234567891}'):  # fmt: skip
        assert merge(connection, "patterns", rows.assign(metadata=other)) == MergeCounts(corrected=1)


def test_arrays_of_texts_are_written_and_compared(connection: Connection) -> None:
    conditions = [["12", "37"], ["a,b", 'say "no"', "back\\slash", "{}"], [], None]
    ticks = pd.DataFrame(
        {
            "symbol": "AAPL", "timestamp": pd.date_range("2024-01-02 15:00", periods=4, freq="s", tz="UTC").as_unit("us"),
            "exchange": "Q", "trade_id": [str(number) for number in range(4)], "price": 10.0, "quantity": 1.0,
            "source": "sample", "conditions": conditions,
        }
    )  # fmt: skip
    assert merge(connection, "ticks", ticks) == MergeCounts(inserted=4)
    assert list(connection.execute(text("SELECT conditions FROM ticks ORDER BY timestamp")).scalars()) == conditions
    assert merge(connection, "ticks", ticks) == MergeCounts(unchanged=4)
    changed = ticks.assign(conditions=[["12", "38"], *conditions[1:]])
    assert merge(connection, "ticks", changed) == MergeCounts(corrected=1, unchanged=3)


@pytest.mark.parametrize(
    ("table", "change", "sentence"),
    [
        ("ticks", {"quote_quantity": 1.0}, "at odds: quote_quantity"),
        ("ohlcv_daily", {"date": pd.Timestamp("2024-01-02 15:00")}, "a day with a time of day"),
        ("ohlcv_daily", {"date": pd.Timestamp("2024-01-02", tz="UTC")}, "a moment where a day is meant"),
        ("ohlcv_bars", {}, "expected a table with a primary key"),
        ("no_such_table", {}, "expected a table of the schema, found none"),
    ],
)
def test_a_frame_that_cannot_be_written_is_refused_in_a_sentence(
    connection: Connection, table: str, change: dict[str, object], sentence: str
) -> None:
    frame = bars(("2024-01-02", 10.0))
    if table == "ticks":
        moment = pd.Timestamp("2024-01-02 15:00", tz="UTC")
        frame = pd.DataFrame([{"symbol": "AAPL", "timestamp": moment, "exchange": "Q", "trade_id": "1", "price": 1.0}])
    with pytest.raises(ContractError, match=sentence):
        merge(connection, table, frame.assign(**change))


def test_not_a_number_in_a_column_of_whole_numbers_is_a_missing_value(connection: Connection) -> None:
    table = pa.Table.from_pandas(bars(("2024-01-02", 10.0), ("2024-01-03", 10.0)), preserve_index=False)
    table = table.append_column("trades_count", pa.array([5.0, float("nan")]))
    assert merge(connection, "ohlcv_daily", table) == MergeCounts(inserted=2)
    stored = connection.execute(text("SELECT trades_count FROM ohlcv_daily ORDER BY date")).scalars()
    assert list(stored) == [5, None]


def test_a_corrected_or_withdrawn_split_leaves_its_old_values(connection: Connection) -> None:
    split = pd.DataFrame(
        {"symbol": ["AAPL", "MSFT"], "execution_date": pd.Timestamp("2024-03-01"), "split_from": 1.0, "split_to": 2.0,
         "source": "sample"}
    )  # fmt: skip
    scope = Scope(where={"source": ["sample"]})
    merge(connection, "splits", split, scope)
    merge(connection, "splits", split.assign(split_to=[4.0, 2.0]), scope)
    merge(connection, "splits", split.iloc[:1].assign(split_to=4.0), scope)
    kept = connection.execute(
        text("SELECT symbol, split_to::int, recorded_at < superseded_at FROM split_revisions ORDER BY superseded_at")
    )
    assert [tuple(row) for row in kept] == [("AAPL", 2, True), ("MSFT", 2, True)]
    assert connection.execute(text("SELECT symbol, split_to::int FROM splits")).one() == ("AAPL", 4)
