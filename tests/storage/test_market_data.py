"""Reading bars: what is asked for, as it was known, adjusted or as traded; and nothing else, whatever is typed."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from tickstock_assets.domain.dividends import Convention
from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.storage import bars
from tickstock_assets.storage.adjusted_bars import Adjustment
from tickstock_assets.storage.bulk import OPEN_LOADS, Scope, merge
from tickstock_assets.storage.market_data import MarketReader
from tickstock_assets.storage.readings import reading

VENDORED = Path(__file__).parents[2] / "tickstock_assets" / "sample_data" / "stocks.csv.gz"
DAYS = [date(2024, 7, 1), date(2024, 7, 2), date(2024, 7, 3), date(2024, 7, 5)]
STAMP = datetime(2024, 8, 1, tzinfo=UTC)
HOSTILE = [
    "AAPL' OR '1'='1",
    "'; DROP TABLE symbols; --",
    "AAPL\\",
    "{AAPL,MSFT}",
    '"',
    "$1",
    "%s",
    "%(x)s",
    ":symbol",
    "AAPL ",
]


def opened_at(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 13, 30, tzinfo=UTC)


@pytest.fixture
def market(database: Engine) -> Engine:
    """Daily bars of two symbols over four sessions, minute bars of one; closes count up from 100 and 200."""
    with database.begin() as connection:
        connection.execute(text("INSERT INTO symbols (symbol) VALUES ('AAPL'), ('MSFT'), ('QUIET')"))
        for number, day in enumerate(DAYS):
            connection.execute(
                text("INSERT INTO sessions (exchange, session, open, close) VALUES ('XNYS', :day, :open, :close)"),
                {"day": day, "open": opened_at(day), "close": opened_at(day) + timedelta(hours=6.5)},
            )
            for symbol, close in (("AAPL", 100 + number), ("MSFT", 200 + number)):
                connection.execute(
                    text("""
                        INSERT INTO ohlcv_daily (symbol, date, open, high, low, close, volume, vwap, trades_count, source,
                                                 recorded_at)
                        VALUES (:symbol, :day, :close, :close + 1, :close - 1, :close, 1000.5, NULL, 7, 'sample', :stamp)
                    """),
                    {"symbol": symbol, "day": day, "close": close, "stamp": STAMP},
                )
        for minute in range(5):
            connection.execute(
                text("""
                    INSERT INTO ohlcv_1min (symbol, timestamp, open, high, low, close, volume, source, recorded_at)
                    VALUES ('AAPL', :at, 10, 11, 9, 10 + :n * 0.1, 100, 'sample', :stamp)
                """),
                {"at": opened_at(DAYS[1]) + timedelta(minutes=minute), "n": minute, "stamp": STAMP},
            )
    return database


@pytest.fixture
def reader(market: Engine) -> Iterator[MarketReader]:
    with MarketReader(market.url) as opened:
        yield opened


def closes(table: pa.Table) -> list[tuple[str, Any, float]]:
    time = "date" if "date" in table.column_names else "timestamp"
    return [(row["symbol"], row[time], row["close"]) for row in table.to_pylist()]


# --- what is asked for


def test_bars_of_several_symbols_come_in_the_order_of_symbol_and_time(reader: MarketReader) -> None:
    expected = [("AAPL", day, 100.0 + n) for n, day in enumerate(DAYS)]
    expected += [("MSFT", day, 200.0 + n) for n, day in enumerate(DAYS)]
    assert closes(reader.bars(["MSFT", "AAPL"])) == expected
    assert closes(reader.bars(None)) == expected


def test_the_default_columns_are_float64_date32_and_text(reader: MarketReader) -> None:
    table = reader.bars("AAPL", "daily")
    assert table.column_names == ["symbol", "date", "open", "high", "low", "close", "volume", "vwap", "source"]
    assert table.schema.types == [pa.string(), pa.date32(), *[pa.float64()] * 6, pa.string()]
    assert table.slice(0, 1).to_pylist() == [
        {
            "symbol": "AAPL", "date": DAYS[0], "open": 100.0, "high": 101.0, "low": 99.0, "close": 100.0,
            "volume": 1000.5, "vwap": None, "source": "sample",
        }
    ]  # fmt: skip


def test_the_columns_asked_for_come_in_their_order_after_the_key(reader: MarketReader) -> None:
    columns = ["trades_count", "session_close", "timestamp", "symbol", "recorded_at", "date"]
    [row] = reader.bars("AAPL", start=DAYS[3], columns=columns).to_pylist()
    assert row == {
        "symbol": "AAPL", "date": DAYS[3], "trades_count": 7, "session_close": opened_at(DAYS[3]) + timedelta(hours=6.5),
        "timestamp": opened_at(DAYS[3]), "recorded_at": STAMP,
    }  # fmt: skip


def test_the_start_is_included_and_the_end_is_not(reader: MarketReader) -> None:
    found = reader.bars("AAPL", start=DAYS[1], end=DAYS[3])
    assert found["date"].to_pylist() == [DAYS[1], DAYS[2]]


def test_moments_are_compared_with_the_sessions_open(reader: MarketReader) -> None:
    opens = opened_at(DAYS[1])
    assert reader.bars("AAPL", start=opens, end=opened_at(DAYS[2]))["date"].to_pylist() == [DAYS[1]]
    just_after = opens + timedelta(microseconds=1)
    assert reader.bars("AAPL", start=just_after, end=opened_at(DAYS[2]) + timedelta(days=1))["date"].to_pylist() == [
        DAYS[2]
    ]
    in_new_york = datetime(2024, 7, 2, 9, 30, tzinfo=ZoneInfo("America/New_York"))
    assert reader.bars("AAPL", start=in_new_york)["date"].to_pylist() == DAYS[1:]


def test_minute_bars_have_a_timestamp_and_dates_mean_midnight_utc(reader: MarketReader) -> None:
    table = reader.bars("AAPL", "1min", DAYS[1], DAYS[2])
    assert closes(table)[:2] == [
        ("AAPL", opened_at(DAYS[1]), 10.0), ("AAPL", opened_at(DAYS[1]) + timedelta(minutes=1), 10.1),
    ]  # fmt: skip
    assert table.schema.field("timestamp").type == pa.timestamp("us", "UTC")
    assert reader.bars("AAPL", "minute", DAYS[2]).num_rows == 0
    assert reader.bars("AAPL", "minute", end=opened_at(DAYS[1]) + timedelta(minutes=3)).num_rows == 3


def test_a_frame_has_naive_dates_and_timestamps_in_utc(reader: MarketReader) -> None:
    frame = reader.bars_frame("AAPL", start=DAYS[3], columns=["timestamp", "close"])
    assert frame["date"].tolist() == [pd.Timestamp("2024-07-05")]
    assert frame["timestamp"].tolist() == [pd.Timestamp("2024-07-05 13:30", tz="UTC")]
    assert frame["close"].dtype == "float64"


def test_a_known_symbol_without_bars_gives_an_empty_table_with_all_columns(reader: MarketReader) -> None:
    table = reader.bars("QUIET")
    assert (table.num_rows, len(table.column_names)) == (0, 9)
    assert reader.bars_frame("QUIET").empty


def test_one_symbol_is_read_along_the_primary_key(market: Engine) -> None:
    request = reading("AAPL", "1d", start=DAYS[1], end=DAYS[2]).stored
    assert request is not None
    statement, parameters = request.statement()
    with market.begin() as connection:
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        literal = statement.replace("$1", "'AAPL'").replace("$2", "'2024-07-02'").replace("$3", "'2024-07-03'")
        assert len(parameters) == 3
        plan = "\n".join(connection.execute(text(f"EXPLAIN {literal.replace('::', ' :: ')}")).scalars())
    # One index gives the range and the order, so that nothing is sorted.
    assert "Index" in plan
    assert "Sort" not in plan


# --- what is refused

NAIVE = datetime(2024, 7, 2)  # noqa: DTZ001 the fault that is looked for
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"start": NAIVE}, "start: expected a datetime with a time zone, found 2024-07-02 00:00:00 without"),
    ({"end": NAIVE}, "end: expected a datetime with a time zone"),
    ({"as_of": NAIVE}, "as_of: expected a datetime with a time zone"),
    ({"as_of": DAYS[0]}, "as_of: expected a datetime with a time zone, found datetime.date"),
    ({"as_of": pd.NaT}, "as_of: expected a datetime with a time zone, found NaT"),
    ({"start": "2024-07-02"}, "start: expected a date or a datetime with a time zone, found '2024-07-02'"),
    ({"start": DAYS[1], "end": DAYS[1]}, "end: expected a day or moment after start 2024-07-02, found 2024-07-02"),
    ({"start": DAYS[1], "end": opened_at(DAYS[0])}, "end: expected a day or moment after start"),
    ({"timeframe": "2x"}, "timeframe: expected a number and a unit such as 1m, 5m, 15m, 1h, 1d, 30m, 4h, 1w"),
    ({"timeframe": "7m"}, "timeframe: expected minutes that divide a day, such as 30m or 4h, found 7m; with align session"),
    ({"timeframe": "1w", "fill": "ffill"}, "fill: expected a timeframe of a day at most, found 1w"),
    ({"fill": "bfill"}, "fill: expected ffill or nothing, found 'bfill'"),
    ({"timeframe": "1h", "align": "open"}, "align: expected one of utc, session, found 'open'"),
    ({"as_of": STAMP, "include_forming": True}, "as_of: expected none with the bars that are still forming now"),
    ({"columns": ["bars"]}, "columns: expected some of symbol, date.* found 'bars'"),
    ({"now": NAIVE}, "now: expected a datetime with a time zone"),
    ({"columns": ["close", "colour"]}, "columns: expected some of symbol, date.* found 'colour'"),
    ({"columns": ["close; DROP TABLE symbols"]}, "columns: expected some of"),
    ({"columns": ["timestamp"], "timeframe": "1m", "adjusted": "half"}, "adjusted: expected one of none, splits, all"),
    ({"columns": ["session_close"], "timeframe": "1m"}, "columns: expected some of symbol, timestamp, open"),
    ({"adjusted": Adjustment("all", convention="mine")}, "convention: expected one of crsp, wiki, found 'mine'"),  # type: ignore[arg-type]
    ({"adjusted": Adjustment("splits", up_to=STAMP)}, "up_to: expected a date"),
    ({"symbols": []}, "symbols: expected 1 to 10,000, found 0"),
    ({"symbols": [f"S{n}" for n in range(10_001)]}, "symbols: expected 1 to 10,000, found 10,001"),
    ({"symbols": [7]}, "symbols: expected texts of 1 to 32 characters such as 'AAPL', found 7"),
    ({"symbols": "A" * 33}, "symbols: expected texts of 1 to 32 characters"),
    ({"symbols": "AAPL\0"}, "symbols: expected texts of 1 to 32 characters"),
    ({"symbols": ["AAPL", "NOPE"]}, "NOPE: expected a known symbol, found none of that name; known are AAPL, MSFT"),
    ({"symbols": "nope", "start": DAYS[0]}, "nope: expected a known symbol"),
]  # fmt: skip


def test_what_cannot_be_meant_is_refused_in_a_sentence(reader: MarketReader) -> None:
    for arguments, said in REFUSED:
        with pytest.raises(ConfigError, match=said):
            reader.bars(**{"symbols": "AAPL", **arguments})


def test_a_hostile_symbol_is_only_a_symbol_that_is_not_known(reader: MarketReader, market: Engine) -> None:
    for symbol in HOSTILE:
        for arguments in ({}, {"as_of": STAMP}, {"adjusted": "all"}):
            with pytest.raises(ConfigError, match="expected a known symbol"):
                reader.bars([symbol, "MSFT"], **arguments)
    with market.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM symbols")).scalar_one() == 3


# --- as it was known


def test_a_correction_does_not_show_before_its_moment(market: Engine, reader: MarketReader) -> None:
    before = reader.bars("AAPL", start=DAYS[3], columns=["close"])
    known_then = datetime.now(UTC)
    corrected = pd.DataFrame(
        {
            "symbol": ["AAPL"], "date": [pd.Timestamp(DAYS[3])], "open": [150.0], "high": [151.0], "low": [149.0],
            "close": [150.0], "volume": [1000.5], "source": ["sample"],
        }
    )  # fmt: skip
    with market.begin() as connection:
        merge(connection, "ohlcv_daily", corrected)
    assert closes(reader.bars("AAPL", start=DAYS[3])) == [("AAPL", DAYS[3], 150.0)]
    assert reader.bars("AAPL", start=DAYS[3], columns=["close"], as_of=known_then) == before
    assert reader.bars("AAPL", as_of=STAMP - timedelta(microseconds=1)).num_rows == 0
    by_moment = reader.bars("AAPL", start=opened_at(DAYS[3]), columns=["close", "timestamp"], as_of=known_then)
    assert [row["close"] for row in by_moment.to_pylist()] == [103.0]


def test_a_moment_that_is_not_past_is_refused(reader: MarketReader) -> None:
    with pytest.raises(ConfigError, match="as_of: expected a moment before the server's clock"):
        reader.bars("AAPL", as_of=datetime.now(UTC) + timedelta(hours=1))


def test_a_moment_within_a_load_that_is_open_is_refused_until_it_has_ended(
    market: Engine, reader: MarketReader
) -> None:
    frame = reader.bars_frame("AAPL").assign(volume=2000.0)
    with market.connect() as connection:
        merge(connection, "ohlcv_daily", frame)
        began = connection.execute(
            text("SELECT to_timestamp(objid::bigint) FROM pg_locks WHERE locktype = 'advisory' AND classid = :loads"),
            {"loads": OPEN_LOADS},
        ).scalar_one()
        with pytest.raises(ConfigError, match="when the oldest load began that is still open"):
            reader.bars("AAPL", as_of=began)
        settled = reader.bars("AAPL", as_of=began - timedelta(seconds=1))
        assert settled.num_rows == 4
        connection.commit()
    assert reader.bars("AAPL", as_of=began - timedelta(seconds=1)) == settled
    with market.connect() as connection:
        now = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    assert set(reader.bars("AAPL", as_of=now)["volume"].to_pylist()) == {2000.0}


def test_the_load_of_another_database_does_not_matter(market: Engine, reader: MarketReader) -> None:
    elsewhere = market.url.set(database="postgres")
    with MarketReader(elsewhere) as other, other.pool._lent() as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_advisory_lock_shared({OPEN_LOADS}, 1)")
        cursor.fetch_arrow_table()
        assert reader.bars("AAPL", as_of=STAMP).num_rows == 4


@dataclass(frozen=True)
class Version:
    """One value of a bar, known from a second on (counted from STAMP) until the next version's."""

    close: int
    known_from: int


histories = st.dictionaries(
    st.tuples(st.sampled_from(["AAPL", "MSFT"]), st.sampled_from([0, 1, 2])),
    st.lists(
        st.builds(Version, close=st.integers(10, 99), known_from=st.integers(0, 6)),
        min_size=1, max_size=3, unique_by=lambda version: version.known_from,
    ).map(lambda versions: sorted(versions, key=lambda version: version.known_from)),
    max_size=6,
)  # fmt: skip


def store(database: Engine, timeframe: str, histories: dict[tuple[str, int], list[Version]]) -> None:
    table, time, zero = (
        ("ohlcv_daily", "date", DAYS[0]) if timeframe == "1d" else ("ohlcv_1min", "timestamp", opened_at(DAYS[0]))
    )
    step = timedelta(days=1) if timeframe == "1d" else timedelta(minutes=1)
    with database.begin() as connection:
        connection.execute(text(f"DELETE FROM {table}"))
        connection.execute(text("DELETE FROM bar_revisions"))
        for (symbol, number), versions in histories.items():
            moment = zero + step * number
            stamps = [STAMP + timedelta(seconds=version.known_from) for version in versions]
            for place, version in enumerate(versions):
                values = {
                    "symbol": symbol, "time": moment, "close": version.close, "stamp": stamps[place],
                    "start": opened_at(moment) if timeframe == "1d" else moment, "timeframe": timeframe,
                    "session": moment if timeframe == "1d" else None,
                }  # fmt: skip
                if place == len(versions) - 1:
                    connection.execute(
                        text(f"""
                            INSERT INTO {table} (symbol, {time}, open, high, low, close, volume, source, recorded_at)
                            VALUES (:symbol, :time, :close, :close, :close, :close, 1, 'sample', :stamp)
                        """),
                        values,
                    )
                    continue
                connection.execute(
                    text("""
                        INSERT INTO bar_revisions (symbol, timeframe, timestamp, session, superseded_at, open, high, low,
                                                   close, volume, exchange, source, recorded_at)
                        VALUES (:symbol, :timeframe, :start, :session, :superseded, :close, :close, :close, :close, 1,
                                'XNYS', 'sample', :stamp)
                    """),
                    {**values, "superseded": stamps[place + 1]},
                )


@pytest.mark.parametrize("timeframe", ["1d", "1m"])
@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(histories=histories)
def test_what_was_known_at_any_moment_is_the_last_version_known_by_then(
    market: Engine, reader: MarketReader, timeframe: str, histories: dict[tuple[str, int], list[Version]]
) -> None:
    store(market, timeframe, histories)
    zero = DAYS[0] if timeframe == "1d" else opened_at(DAYS[0])
    step = timedelta(days=1) if timeframe == "1d" else timedelta(minutes=1)
    for second in range(-1, 8):
        expected = []
        for (symbol, number), versions in sorted(histories.items()):
            known = [version for version in versions if version.known_from <= second]
            if known:
                expected.append((symbol, zero + step * number, float(known[-1].close)))
        found = reader.bars(["AAPL", "MSFT"], timeframe, as_of=STAMP + timedelta(seconds=second))
        assert closes(found) == expected


# --- adjusted


@pytest.fixture
def split_and_paid(market: Engine) -> Engine:
    """Two for one on the third session; 1.00 paid on the last one, whose close before is 102. Both known a day later."""
    with market.begin() as connection:
        connection.execute(
            text("INSERT INTO splits VALUES ('AAPL', :day, 'sample', 1, 2, :stamp)"),
            {"day": DAYS[2], "stamp": STAMP + timedelta(days=1)},
        )
        connection.execute(
            text("""
                INSERT INTO dividends (symbol, ex_dividend_date, source, cash_amount, recorded_at)
                VALUES ('AAPL', :day, 'sample', 1.02, :stamp), ('AAPL', :day, 'synthetic', 50, :stamp)
            """),
            {"day": DAYS[3], "stamp": STAMP + timedelta(days=1)},
        )
    return market


@pytest.mark.usefixtures("split_and_paid")
def test_splits_change_prices_and_volume_before_them(reader: MarketReader) -> None:
    table = reader.bars("AAPL", adjusted="splits", columns=["volume", "close", "trades_count", "vwap"])
    assert table.column_names == ["symbol", "date", "volume", "close", "trades_count", "vwap"]
    # Two shares for one: half the price and twice the shares of the two sessions before.
    assert table["close"].to_pylist() == [50.0, 50.5, 102.0, 103.0]
    assert table["volume"].to_pylist() == [2001.0, 2001.0, 1000.5, 1000.5]
    assert table["trades_count"].to_pylist() == [7] * 4
    assert table["vwap"].to_pylist() == [None] * 4
    assert reader.bars("MSFT", adjusted="splits") == reader.bars("MSFT")


@pytest.mark.usefixtures("split_and_paid")
def test_dividends_change_prices_only_by_the_source_that_ranks_first(reader: MarketReader) -> None:
    table = reader.bars(["AAPL", "MSFT"], adjusted="all", columns=["close", "volume"])
    # 1.02 is a hundredth of the close before, so prices before are 0.99 of what they are without.
    assert table["close"].to_pylist()[:4] == pytest.approx([49.5, 49.995, 100.98, 103.0], rel=1e-12)
    assert table["close"].to_pylist()[4:] == [200.0, 201.0, 202.0, 203.0]
    assert table["volume"].to_pylist()[:4] == [2001.0, 2001.0, 1000.5, 1000.5]
    wiki = reader.bars("AAPL", adjusted=Adjustment("all", convention="wiki"), columns=["close"])
    assert wiki["close"].to_pylist()[2] == pytest.approx(102 / (1 + 1.02 / 103), rel=1e-12)


@pytest.mark.usefixtures("split_and_paid")
def test_the_basis_is_the_last_stored_bar_whatever_part_is_read(reader: MarketReader) -> None:
    whole = reader.bars("AAPL", adjusted="all")
    assert reader.bars("AAPL", start=DAYS[1], end=DAYS[2], adjusted="all") == whole.slice(1, 1)


@pytest.mark.usefixtures("split_and_paid")
def test_later_events_than_the_day_are_ignored(reader: MarketReader) -> None:
    as_traded = reader.bars("AAPL", columns=["close"])
    assert reader.bars("AAPL", adjusted=Adjustment("all", up_to=DAYS[1]), columns=["close"]) == as_traded
    split_only = reader.bars("AAPL", adjusted=Adjustment("all", up_to=DAYS[2]), columns=["close"])
    assert split_only["close"].to_pylist() == [50.0, 50.5, 102.0, 103.0]


@pytest.mark.usefixtures("split_and_paid")
def test_events_that_were_not_known_yet_are_ignored(reader: MarketReader) -> None:
    as_traded = reader.bars("AAPL")
    assert reader.bars("AAPL", adjusted="all", as_of=STAMP + timedelta(hours=1)) == as_traded
    assert reader.bars("AAPL", adjusted="all", as_of=STAMP + timedelta(days=1)) == reader.bars("AAPL", adjusted="all")


SPLIT_REVISION = """
    INSERT INTO split_revisions (symbol, execution_date, source, superseded_at, split_from, split_to, recorded_at)
    VALUES ('AAPL', :day, :source, :superseded, 1, :ratio, :stamp)
"""
DIVIDEND_REVISION = """
    INSERT INTO dividend_revisions (symbol, ex_dividend_date, source, distribution_type, superseded_at, cash_amount,
                                    recorded_at)
    VALUES ('AAPL', :day, :source, :kind, :superseded, :cash, :stamp)
"""


def after(days: float) -> datetime:
    return STAMP + timedelta(days=days)


def adjusted_closes(reader: MarketReader, kind: str, days: float | None = None) -> list[float]:
    as_of = None if days is None else after(days)
    found: list[float] = reader.bars("AAPL", adjusted=kind, as_of=as_of, columns=["close"])["close"].to_pylist()
    return found


def test_a_corrected_split_counts_with_its_old_ratio_until_it_was_corrected(
    split_and_paid: Engine, reader: MarketReader
) -> None:
    known_then = adjusted_closes(reader, "splits", 1.5)
    assert known_then == [50.0, 50.5, 102.0, 103.0]
    with split_and_paid.begin() as connection:
        connection.execute(text("UPDATE splits SET split_to = 4, recorded_at = :stamp"), {"stamp": after(2)})
        connection.execute(
            text(SPLIT_REVISION),
            {"day": DAYS[2], "source": "sample", "superseded": after(2), "ratio": 2, "stamp": after(1)},
        )
    assert adjusted_closes(reader, "splits") == [25.0, 25.25, 102.0, 103.0]
    # The moment itself belongs to what came with it.
    assert adjusted_closes(reader, "splits", 2) == [25.0, 25.25, 102.0, 103.0]
    assert adjusted_closes(reader, "splits", 1.5) == known_then
    assert adjusted_closes(reader, "splits", 1) == known_then
    assert adjusted_closes(reader, "splits", 0.5) == [100.0, 101.0, 102.0, 103.0]


def test_a_withdrawn_split_counts_until_it_was_withdrawn(split_and_paid: Engine, reader: MarketReader) -> None:
    with split_and_paid.begin() as connection:
        connection.execute(text("DELETE FROM splits"))
        connection.execute(
            text(SPLIT_REVISION),
            {"day": DAYS[2], "source": "sample", "superseded": after(2), "ratio": 2, "stamp": after(1)},
        )
    assert adjusted_closes(reader, "splits", 1.5) == [50.0, 50.5, 102.0, 103.0]
    for moment in (0.5, 2, 3, None):
        assert adjusted_closes(reader, "splits", moment) == [100.0, 101.0, 102.0, 103.0]


def test_of_old_and_present_values_the_source_that_ranks_first_counts(
    split_and_paid: Engine, reader: MarketReader
) -> None:
    # Withdrawn on the fourth day: of a better source, five for one; of a worse one, ten for one.
    with split_and_paid.begin() as connection:
        for source, ratio in (("polygon", 5), ("synthetic", 10)):
            connection.execute(
                text(SPLIT_REVISION),
                {"day": DAYS[2], "source": source, "superseded": after(4), "ratio": ratio, "stamp": after(2)},
            )
        # And a dividend of a better source, in two parts, that is 2.04 together, a fiftieth of the close before.
        for kind in ("recurring", "special"):
            connection.execute(
                text(DIVIDEND_REVISION),
                {"day": DAYS[3], "source": "polygon", "kind": kind, "superseded": after(4), "cash": "1.02",
                 "stamp": after(3)},
            )  # fmt: skip
    assert adjusted_closes(reader, "splits", 1.5) == [50.0, 50.5, 102.0, 103.0]
    assert adjusted_closes(reader, "splits", 2) == pytest.approx([20.0, 20.2, 102.0, 103.0], rel=1e-12)
    assert adjusted_closes(reader, "splits", 4) == [50.0, 50.5, 102.0, 103.0]
    assert adjusted_closes(reader, "all", 2)[2:] == pytest.approx([100.98, 103.0], rel=1e-12)
    assert adjusted_closes(reader, "all", 3)[2:] == pytest.approx([99.96, 103.0], rel=1e-12)
    assert adjusted_closes(reader, "all", 4)[2:] == pytest.approx([100.98, 103.0], rel=1e-12)


def test_a_dividend_counts_as_it_was_known_before_it_was_corrected_twice_and_withdrawn(
    split_and_paid: Engine, reader: MarketReader
) -> None:
    # 1.02 from the first day on, 2.04 from the second, 5.10 from the third, none of this source from the fourth.
    with split_and_paid.begin() as connection:
        connection.execute(text("DELETE FROM dividends"))
        for day, cash in ((1, "1.02"), (2, "2.04"), (3, "5.10")):
            connection.execute(
                text(DIVIDEND_REVISION),
                {"day": DAYS[3], "source": "sample", "kind": "unknown", "superseded": after(day + 1), "cash": cash,
                 "stamp": after(day)},
            )  # fmt: skip
    # The close before is 102: a hundredth, a fiftieth, a twentieth of it.
    expected = {0.9: 102.0, 1: 100.98, 1.9: 100.98, 2: 99.96, 3: 96.9, 3.9: 96.9, 4: 102.0, None: 102.0}
    for moment, close in expected.items():
        assert adjusted_closes(reader, "all", moment)[2] == pytest.approx(close, rel=1e-12), moment


def load_events(database: Engine, ratio: int | None, cash: str | None) -> datetime:
    """Load all splits and dividends of a source, AAPL's only if given and MSFT's always; return a moment after that."""
    splits = pd.DataFrame(
        {
            "symbol": ["AAPL", "MSFT"], "execution_date": [DAYS[2], DAYS[1]], "source": "sample", "split_from": 1,
            "split_to": [ratio, 3],
        }
    )  # fmt: skip
    dividends = pd.DataFrame(
        {
            "symbol": ["AAPL", "MSFT"], "ex_dividend_date": [DAYS[3], DAYS[1]], "source": "sample",
            "distribution_type": "unknown", "cash_amount": [cash and Decimal(cash), Decimal(2)],
        }
    )  # fmt: skip
    with database.begin() as connection:
        for table, frame in (("splits", splits), ("dividends", dividends)):
            merge(connection, table, frame.dropna(ignore_index=True), Scope(where={"source": ["sample"]}))
    with database.connect() as connection:
        moment = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    assert isinstance(moment, datetime)
    return moment


def test_a_past_moment_keeps_its_adjusted_answer_while_splits_and_dividends_are_loaded_corrected_and_withdrawn(
    market: Engine, reader: MarketReader
) -> None:
    as_traded = [100.0, 101.0, 102.0, 103.0]
    # A split divides what comes before it; the dividends are a hundredth and a fiftieth of the close before, 102.
    once, twice = [49.5, 49.995, 100.98, 103.0], [24.5, 24.745, 99.96, 103.0]
    only_paid = [99.0, 99.99, 100.98, 103.0]
    states = [
        (2, "1.02", once), (4, "2.04", twice), (None, None, as_traded), (2, "1.02", once), (None, "1.02", only_paid),
    ]  # fmt: skip
    known: list[tuple[datetime, list[float]]] = []
    for ratio, cash, closes_now in states:
        known.append((load_events(market, ratio, cash), closes_now))
        assert adjusted_closes(reader, "all") == pytest.approx(closes_now, rel=1e-12)
        for then, expected in [(after(0), as_traded), *known]:
            found = reader.bars("AAPL", adjusted="all", as_of=then, columns=["close"])
            assert found["close"].to_pylist() == pytest.approx(expected, rel=1e-12)


def test_the_basis_is_the_last_bar_that_was_known(split_and_paid: Engine, reader: MarketReader) -> None:
    with split_and_paid.begin() as connection:
        connection.execute(
            text("UPDATE ohlcv_daily SET recorded_at = :late WHERE date >= :day"),
            {"late": STAMP + timedelta(days=9), "day": DAYS[2]},
        )
    # The split is announced, but the last bar there is comes before it.
    found = reader.bars("AAPL", adjusted="splits", as_of=STAMP + timedelta(days=2), columns=["close"])
    assert found["close"].to_pylist() == [100.0, 101.0]


def test_bars_before_the_open_and_after_the_close_belong_to_their_own_session(
    split_and_paid: Engine, reader: MarketReader
) -> None:
    before_the_split, after_it = opened_at(DAYS[1]), opened_at(DAYS[2])
    minutes = {
        before_the_split - timedelta(hours=5): 50.0,  # early in the morning
        before_the_split + timedelta(hours=6): 50.0,
        # In the evening of New York it is the next day already in UTC.
        after_it - timedelta(hours=13, minutes=10): 50.0,
        after_it - timedelta(hours=5): 100.0,
        after_it: 100.0,
    }
    with split_and_paid.begin() as connection:
        connection.execute(text("DELETE FROM ohlcv_1min"))
        for at in minutes:
            connection.execute(
                text("""
                    INSERT INTO ohlcv_1min (symbol, timestamp, open, high, low, close, volume, source)
                    VALUES ('AAPL', :at, 100, 100, 100, 100, 10, 'sample')
                """),
                {"at": at},
            )
    table = reader.bars("AAPL", "1m", adjusted="splits", columns=["close"])
    assert table.column_names == ["symbol", "timestamp", "close"]
    assert dict(zip(table["timestamp"].to_pylist(), table["close"].to_pylist(), strict=True)) == minutes


def test_minutes_of_an_exchange_without_sessions_are_not_adjusted_by_a_guess(
    split_and_paid: Engine, reader: MarketReader
) -> None:
    with split_and_paid.begin() as connection:
        connection.execute(text("UPDATE ohlcv_1min SET exchange = 'XLON'"))
    with pytest.raises(ConfigError, match="XLON: expected the sessions around every bar that is to be adjusted"):
        reader.bars("AAPL", "1m", adjusted="splits")


def test_a_symbol_with_minutes_only_is_adjusted_to_the_last_of_them(
    split_and_paid: Engine, reader: MarketReader
) -> None:
    with split_and_paid.begin() as connection:
        connection.execute(text("DELETE FROM ohlcv_daily"))
    minutes = opened_at(DAYS[1])
    # The last minute is of the session before the split.
    assert reader.bars("AAPL", "1m", adjusted="splits") == reader.bars("AAPL", "1m")
    with split_and_paid.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO ohlcv_1min (symbol, timestamp, open, high, low, close, volume, source, recorded_at)
                VALUES ('AAPL', :at, 5, 6, 4, 5, 100, 'sample', :stamp)
            """),
            {"at": opened_at(DAYS[2]), "stamp": STAMP + timedelta(days=3)},
        )
    [first] = reader.bars("AAPL", "1m", minutes, minutes + timedelta(minutes=1), adjusted="all").to_pylist()
    # The dividend, later than the last bar, does not count.
    assert (first["close"], first["volume"]) == (5.0, 200.0)
    before = reader.bars("AAPL", "1m", adjusted="splits", as_of=STAMP + timedelta(days=2), columns=["close"])
    assert before["close"].to_pylist()[0] == 10.0


def test_an_event_that_two_sources_date_differently_counts_once(split_and_paid: Engine, reader: MarketReader) -> None:
    once = reader.bars("AAPL", adjusted="all")
    with split_and_paid.begin() as connection:
        # Alpha Vantage ranks before the sample; its days are the day before and the day after.
        connection.execute(
            text("INSERT INTO splits VALUES ('AAPL', :day, 'sample', 2, 4, :stamp)"),
            {"day": DAYS[2] - timedelta(days=6), "stamp": STAMP},
        )
        connection.execute(text("UPDATE splits SET source = 'alpha_vantage' WHERE split_from = 1"))
        connection.execute(
            text("""
                INSERT INTO dividends (symbol, ex_dividend_date, source, cash_amount, recorded_at)
                VALUES ('AAPL', :day, 'alpha_vantage', 1.02, :stamp)
            """),
            {"day": DAYS[3], "stamp": STAMP},
        )
        connection.execute(
            text("UPDATE dividends SET ex_dividend_date = :day WHERE source = 'sample'"), {"day": DAYS[2]}
        )
        assert bars.splits(connection)["execution_date"].dt.date.tolist() == [DAYS[2]]
        assert bars.dividends(connection).to_dict("records") == [
            {"symbol": "AAPL", "ex_dividend_date": pd.Timestamp(DAYS[3]), "cash_amount": 1.02}
        ]
    assert reader.bars("AAPL", adjusted="all") == once
    with split_and_paid.begin() as connection:
        # Another ratio, and another amount, are other events.
        connection.execute(text("UPDATE splits SET split_from = 3 WHERE source = 'sample'"))
        connection.execute(text("UPDATE dividends SET cash_amount = 2 WHERE source = 'sample'"))
        assert len(bars.splits(connection)) == 2
        assert bars.dividends(connection)["cash_amount"].tolist() == [2, 1.02]


def test_a_dividend_that_no_close_measures_is_refused_and_not_left_out(
    split_and_paid: Engine, reader: MarketReader
) -> None:
    with split_and_paid.begin() as connection:
        connection.execute(text("DELETE FROM ohlcv_daily WHERE date < :day"), {"day": DAYS[3]})
        connection.execute(text("UPDATE dividends SET ex_dividend_date = :day"), {"day": DAYS[2]})
    with pytest.raises(
        ConfigError,
        match=r"AAPL: expected a daily bar in the month before the dividend of 2024-07-03.+, found none; load",
    ):
        reader.bars("AAPL", "1m", adjusted="all")
    assert reader.bars("AAPL", "1m", adjusted="splits").num_rows == 5
    # Of what comes after it nothing is to be adjusted.
    assert reader.bars("AAPL", adjusted="all").num_rows == 1


@pytest.mark.parametrize("convention", ["crsp", "wiki"])
def test_a_dividend_after_the_day_needs_no_close(
    split_and_paid: Engine, reader: MarketReader, convention: Convention
) -> None:
    soon, later = (DAYS[3] + timedelta(days=days) for days in (20, 60))
    to_the_last_bar = Adjustment("all", up_to=DAYS[3], convention=convention)
    adjustments = [to_the_last_bar, replace(to_the_last_bar, up_to=None), replace(to_the_last_bar, up_to=DAYS[2])]
    before = [reader.bars("AAPL", adjusted=one) for one in adjustments]
    with split_and_paid.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO dividends (symbol, ex_dividend_date, source, cash_amount)
                VALUES ('AAPL', :soon, 'sample', 1), ('AAPL', :later, 'sample', 1)
            """),
            {"soon": soon, "later": later},
        )
    assert [reader.bars("AAPL", adjusted=one) for one in adjustments] == before
    # Up to its own day it counts, and no close measures it.
    with pytest.raises(ConfigError, match=f"expected a daily bar in the month .+ the dividend of {later}"):
        reader.bars("AAPL", adjusted=replace(to_the_last_bar, up_to=later))


def test_daily_bars_from_the_ex_date_on_measure_its_dividend_by_wiki_only(
    split_and_paid: Engine, reader: MarketReader
) -> None:
    with split_and_paid.begin() as connection:
        connection.execute(text("DELETE FROM ohlcv_daily WHERE date < :day"), {"day": DAYS[3]})
    # A close of the ex-date is not the one before it.
    with pytest.raises(ConfigError, match="expected a daily bar in the month before the dividend of 2024-07-05"):
        reader.bars("AAPL", "1m", adjusted="all")
    wiki = reader.bars("AAPL", "1m", adjusted=Adjustment("all", convention="wiki"), columns=["close"])
    assert wiki["close"].to_pylist()[0] == pytest.approx(10 / 2 / (1 + 1.02 / 103), rel=1e-12)


def test_a_hole_after_the_ex_date_leaves_wiki_without_a_measure_and_a_bar_that_is_not_there_yet_does_not(
    split_and_paid: Engine, reader: MarketReader
) -> None:
    wiki = Adjustment("all", up_to=DAYS[3], convention="wiki")
    with split_and_paid.begin() as connection:
        connection.execute(text("DELETE FROM ohlcv_daily WHERE date = :day"), {"day": DAYS[3]})
    # As the evening before: it has no step until its close is stored.
    assert reader.bars("AAPL", adjusted=wiki, columns=["close"])["close"].to_pylist() == [50.0, 50.5, 102.0]
    with split_and_paid.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO ohlcv_daily (symbol, date, open, high, low, close, volume, source)
                VALUES ('AAPL', :day, 100, 100, 100, 100, 1, 'sample')
            """),
            {"day": DAYS[3] + timedelta(days=60)},
        )
    with pytest.raises(ConfigError, match="expected a daily bar in the month from the dividend of 2024-07-05"):
        reader.bars("AAPL", adjusted=wiki)
    assert reader.bars("AAPL", adjusted=replace(wiki, convention="crsp")).num_rows == 4


@pytest.mark.usefixtures("split_and_paid")
def test_no_adjustment_is_the_bars_as_traded(reader: MarketReader) -> None:
    assert reader.bars("AAPL", adjusted="none") == reader.bars("AAPL") == reader.bars("AAPL", adjusted=None)


def test_the_close_without_dividends_is_the_vendored_files(demo_database: Engine) -> None:
    vendored = pd.read_csv(VENDORED, parse_dates=["Date"])
    with MarketReader(demo_database.url) as reader:
        for symbol in ("AAPL", "IBM", "MSFT"):
            found = reader.bars_frame(symbol, adjusted=Adjustment("all", convention="wiki"), columns=["close"])
            expected = vendored[vendored["Ticker"] == symbol].sort_values("Date")
            last = expected.iloc[-1]
            # The file's factors also hold what came after it ends.
            rescaled = expected["Adj Close"] * (last["Close"] / last["Adj Close"])
            assert found["date"].tolist() == expected["Date"].tolist()
            assert found["close"].tolist() == pytest.approx(rescaled.tolist(), rel=1e-6)
