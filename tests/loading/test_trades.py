"""Trades from a vendor to their table, and the minutes made from them where the vendor has none."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import Connection, Engine, text

from tests.loading.simulated import KEYS_KNOWN, polygon
from tests.storage.servers import wait_until
from tickstock_assets.domain.sessions import trading_sessions
from tickstock_assets.domain.windows import Window
from tickstock_assets.loading.deliveries import Delivery
from tickstock_assets.loading.fetching import land_missing
from tickstock_assets.loading.lineup import Lineup
from tickstock_assets.loading.storing import Stored, store
from tickstock_assets.loading.trade_bars import store_trade_bars
from tickstock_assets.loading.validating import keep_valid_rows
from tickstock_assets.loading.verifying import verify_landed
from tickstock_assets.providers.base import Dataset
from tickstock_assets.providers.polygon_payloads import trades_table
from tickstock_assets.simulator import Market, Simulator
from tickstock_assets.storage.bulk import MergeCounts, merge

pytestmark = pytest.mark.tiers("embedded")

# The third is a half day, the fourth a holiday.
DAYS = Window("S0001", date(2024, 7, 2), date(2024, 7, 4))
HALF_DAY = Window("S0001", date(2024, 7, 3), date(2024, 7, 3))
N_MINUTES = 390 + 210


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    market = Market(generated=1, start=date(2024, 6, 3), end=date(2024, 7, 31), sample=False)
    with Simulator(market, KEYS_KNOWN) as simulator:
        yield simulator


@pytest.fixture
def known(database: Engine) -> Engine:
    with database.begin() as connection:
        connection.execute(text("INSERT INTO symbols (symbol) VALUES ('S0001')"))
        merge(connection, "sessions", trading_sessions("XNYS", date(2024, 1, 1), date(2024, 12, 31)))
    return database


def load(simulator: Simulator, engine: Engine, folder: Path, dataset: Dataset, window: Window = DAYS) -> Stored:
    lineup = Lineup([polygon(simulator)])
    land_missing(lineup, engine, folder, [window], dataset).raise_for_failures()
    assert verify_landed(lineup, engine, folder, [window], dataset) == ([], 2 if dataset is Dataset.TRADES else 1)
    return store(lineup, engine, folder, [window], dataset)


def minutes(engine: Engine) -> pd.DataFrame:
    query = "SELECT timestamp, open, high, low, close, volume, source FROM ohlcv_1min ORDER BY timestamp"
    with engine.connect() as connection:
        return pd.DataFrame(connection.execute(text(query)).mappings())


def test_trades_are_stored_by_session_with_their_conditions_and_once(
    simulator: Simulator, known: Engine, tmp_path: Path
) -> None:
    stored = load(simulator, known, tmp_path, Dataset.TRADES)
    # Four trades a minute.
    assert stored.counts == MergeCounts(inserted=4 * N_MINUTES)
    partitions = pd.concat(stored.partitions)
    assert list(zip(partitions["period"].astype(str), partitions["rows"], strict=True)) == [
        ("2024-07-02", 4 * 390), ("2024-07-03", 4 * 210),
    ]  # fmt: skip
    with known.connect() as connection:
        rows = connection.execute(text("SELECT DISTINCT conditions, source FROM ticks")).all()
        last = connection.execute(text("SELECT max(timestamp) FROM ticks")).scalar_one()
    assert [tuple(row) for row in rows] == [(["14"], "polygon")]
    assert last.astimezone(UTC).replace(microsecond=0) == datetime(2024, 7, 3, 16, 59, 58, tzinfo=UTC)
    again = load(simulator, known, tmp_path, Dataset.TRADES)
    assert again.counts == MergeCounts(unchanged=4 * N_MINUTES)


def test_trades_that_were_streamed_before_are_stored_once(simulator: Simulator, known: Engine, tmp_path: Path) -> None:
    load(simulator, known, tmp_path, Dataset.TRADES)
    with known.begin() as connection:
        # The feed tells moments in milliseconds.
        connection.execute(text("UPDATE ticks SET timestamp = date_trunc('milliseconds', timestamp)"))
        connection.execute(text("DELETE FROM stored_windows"))
    stored = load(simulator, known, tmp_path, Dataset.TRADES)
    with known.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM ticks")).scalar_one() == 4 * N_MINUTES
        assert (
            stored.counts.inserted
            == connection.execute(
                text("SELECT count(*) FROM ticks WHERE timestamp <> date_trunc('milliseconds', timestamp)")
            ).scalar_one()
        )


def test_minutes_made_from_trades_are_the_vendors_own_and_say_what_they_are_from(
    simulator: Simulator, known: Engine, tmp_path: Path
) -> None:
    load(simulator, known, tmp_path, Dataset.TRADES)
    made = store_trade_bars(known, [DAYS])
    assert (made.rows_in, made.counts) == (4 * N_MINUTES, MergeCounts(inserted=N_MINUTES))
    from_trades = minutes(known)
    assert set(from_trades["source"]) == {"ticks:polygon"}

    # The vendor's own bars of the same minutes take their place, and what they replace is the same bar.
    own = load(simulator, known, tmp_path, Dataset.MINUTE_BARS)
    assert own.counts == MergeCounts(corrected=N_MINUTES)
    vendors = minutes(known)
    assert set(vendors["source"]) == {"polygon"}
    pd.testing.assert_frame_equal(from_trades.drop(columns="source"), vendors.drop(columns="source"))

    # From then on they stay, whatever trades say.
    assert store_trade_bars(known, [DAYS]).counts == MergeCounts(outranked=N_MINUTES)
    assert minutes(known).equals(vendors)


def test_only_minutes_that_the_vendor_has_no_bar_of_are_made_from_trades(
    simulator: Simulator, known: Engine, tmp_path: Path
) -> None:
    load(simulator, known, tmp_path, Dataset.MINUTE_BARS)
    with known.begin() as connection:
        connection.execute(
            text("DELETE FROM ohlcv_1min WHERE timestamp BETWEEN '2024-07-03 14:00Z' AND '2024-07-03 14:09Z'")
        )
    load(simulator, known, tmp_path, Dataset.TRADES)
    made = store_trade_bars(known, [HALF_DAY])
    assert made.counts == MergeCounts(inserted=10, outranked=200)
    of_day = minutes(known).query("timestamp >= '2024-07-03 13:30+00:00'")
    assert of_day["source"].value_counts().to_dict() == {"polygon": 200, "ticks:polygon": 10}


def row(**changes: Any) -> dict[str, Any]:
    """Return a trade as the vendor sends it: 100 shares at 10 on 3 July 2024, 10:00 in New York."""
    moment = 1_720_015_200_000_000_000
    whole = {"conditions": [14], "exchange": 4, "id": "1", "price": 10.0, "size": 100, "sip_timestamp": moment,
             "participant_timestamp": moment, "sequence_number": 1, "tape": 1}  # fmt: skip
    return whole | changes


def kept(known: Engine, simulator: Simulator, *rows: dict[str, Any]) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """Return the trades that may be stored, and rule and reason of those that are in quarantine."""
    provider = polygon(simulator)
    payload = trades_table(list(rows), "S0001")
    frame = provider.parse(Dataset.TRADES, payload).assign(asked_for="S0001")
    delivery = Delivery({datetime.now(UTC): [HALF_DAY]}, frame, [payload])
    sessions = trading_sessions("XNYS", HALF_DAY.start, HALF_DAY.end)
    with known.begin() as connection:
        valid, _ = keep_valid_rows(connection, provider, Dataset.TRADES, delivery, sessions)
        found = connection.execute(text("SELECT rule, reason FROM quarantined_bars ORDER BY rule")).all()
    return valid, [tuple(one) for one in found]


@pytest.mark.parametrize(
    ("changes", "rule", "reason"),
    [
        ({"price": 0}, "non_positive_price", "price is not above 0"),
        ({"price": None}, "missing_value", "price is missing or cannot be read"),
        ({"size": -1}, "negative_quantity", "quantity -1 is below 0"),
        ({"size": 1e17}, "out_of_range", "quantity is larger or smaller than the database can hold"),
        # 18:00 in New York: after a half day trading goes on for four hours, until 17:00.
        ({"sip_timestamp": 1_720_044_000_000_000_000}, "outside_hours", "is outside of the hours of its session"),
        ({"sip_timestamp": 1_720_101_600_000_000_000}, "not_a_session", "2024-07-04 is not a session of the exchange"),
        ({"sip_timestamp": None}, "missing_value", "timestamp is missing or cannot be read"),
    ],
)
def test_a_trade_that_cannot_be_is_set_aside_with_its_reason(
    known: Engine, simulator: Simulator, changes: dict[str, Any], rule: str, reason: str
) -> None:
    valid, quarantined = kept(known, simulator, row(), row(id="2", sequence_number=2, **changes))
    assert valid["trade_id"].tolist() == ["1"]
    [(found_rule, found_reason)] = quarantined
    assert found_rule == rule
    assert reason in found_reason


def test_a_trade_that_is_sent_twice_is_stored_once_and_one_that_contradicts_itself_not_at_all(
    known: Engine, simulator: Simulator
) -> None:
    valid, quarantined = kept(
        known, simulator, row(), row(), row(id="2", price=11.0), row(id="2", price=12.0), row(id="1", exchange=11)
    )
    # A venue's ids are its own.
    assert list(zip(valid["trade_id"], valid["exchange"], strict=True)) == [("1", "4"), ("1", "11")]
    assert [rule for rule, _ in quarantined] == ["duplicate_key"] * 3


def test_trades_without_an_id_are_numbered_in_the_order_of_the_tape(known: Engine, simulator: Simulator) -> None:
    later = row(id=None, sequence_number=9, price=12.0)
    valid, quarantined = kept(known, simulator, later, row(id=None, sequence_number=3, price=11.0), row(id="77"))
    assert quarantined == []
    assert sorted(zip(valid["trade_id"], valid["price"], strict=True)) == [("0", 11.0), ("1", 12.0), ("77", 10.0)]


def test_a_trade_that_was_cancelled_is_stored_marked_and_makes_no_bar(known: Engine, simulator: Simulator) -> None:
    minute = 60_000_000_000
    cancelled = row(id="2", price=99.0, correction=8)
    alone = row(id="3", sip_timestamp=row()["sip_timestamp"] + minute, correction=8)
    valid, _ = kept(known, simulator, row(correction=0), cancelled, alone)
    assert valid["conditions"].tolist() == [["14"], ["14", "e8"], ["14", "e8"]]
    with known.begin() as connection:
        merge(connection, "ticks", valid.drop(columns="date"))
    assert store_trade_bars(known, [HALF_DAY]).counts == MergeCounts(inserted=1)
    [bar] = minutes(known).to_dict("records")
    assert (bar["high"], bar["volume"]) == (10, 100)


def test_a_minute_whose_trades_are_all_taken_back_loses_its_bar(known: Engine) -> None:
    def trades(connection: Connection, marked: str) -> None:
        """Store a trade of three minutes and one of a later hour; those named are marked as cancelled."""
        connection.execute(
            text("""
                INSERT INTO ticks (symbol, timestamp, exchange, trade_id, price, quantity, conditions, source)
                SELECT 'S0001', moment::timestamptz, '4', '1', price, 10,
                       CASE WHEN moment = ANY (string_to_array(:marked, ',')) THEN ARRAY['e8'] END, 'polygon'
                FROM (VALUES ('2024-07-03 14:00:10Z', 5), ('2024-07-03 14:01:10Z', 250), ('2024-07-03 14:02:10Z', 6),
                             ('2024-07-03 16:00:10Z', 7)) AS t (moment, price)
                ON CONFLICT (symbol, timestamp, exchange, trade_id) DO UPDATE SET conditions = excluded.conditions
            """),
            {"marked": marked},
        )

    with known.begin() as connection:
        trades(connection, "")
        connection.execute(
            text("""
                INSERT INTO ohlcv_1min (symbol, timestamp, open, high, low, close, volume, source)
                VALUES ('S0001', '2024-07-03 13:45Z', 4, 4, 4, 4, 1, 'ticks:polygon'),
                       ('S0001', '2024-07-03 14:05Z', 4, 4, 4, 4, 1, 'polygon')
            """)
        )
    assert store_trade_bars(known, [HALF_DAY]).counts == MergeCounts(inserted=4)
    with known.begin() as connection:
        trades(connection, "2024-07-03 14:01:10Z,2024-07-03 16:00:10Z")
        connection.execute(text("UPDATE touched_buckets SET intraday_at = now(), daily_at = now()"))
    assert store_trade_bars(known, [HALF_DAY]).counts == MergeCounts(unchanged=2, removed=2)
    # The first was made of trades that may have been dropped for their age, the fourth is the vendor's own.
    left = minutes(known)
    assert left["timestamp"].dt.strftime("%H:%M").tolist() == ["13:45", "14:00", "14:02", "14:05"]
    assert left["high"].max() == 6
    with known.connect() as connection:
        revised = connection.execute(text("SELECT high FROM bar_revisions ORDER BY timestamp")).scalars().all()
        stale = connection.execute(
            text("SELECT timestamp FROM touched_buckets WHERE intraday_at IS NULL AND daily_at IS NULL ORDER BY 1")
        ).scalars()
        assert revised == [250, 7]
        assert [f"{hour:%H}" for hour in stale] == ["14", "16"]
    assert store_trade_bars(known, [HALF_DAY]).counts == MergeCounts(unchanged=2)


def test_a_bar_that_another_run_makes_of_a_later_trade_meanwhile_is_left(known: Engine) -> None:
    trade = text("""
        INSERT INTO ticks (symbol, timestamp, exchange, trade_id, price, quantity, source)
        VALUES ('S0001', :moment, '4', '1', 5, 10, 'polygon')
    """)
    first, later = (datetime(2024, 7, 3, 14, minute, 10, tzinfo=UTC) for minute in (0, 1))
    bar = {"symbol": "S0001", "timestamp": pd.Timestamp(later).floor("min"), "source": "ticks:polygon", "volume": 10.0}
    prices = dict.fromkeys(["open", "high", "low", "close"], 5.0)
    with known.begin() as connection:
        connection.execute(trade, {"moment": first})
    with ThreadPoolExecutor() as threads, known.connect() as other:
        merge(other, "ohlcv_1min", pd.DataFrame([bar | prices]))
        made = threads.submit(store_trade_bars, known, [HALF_DAY])
        with known.connect().execution_options(isolation_level="AUTOCOMMIT") as watch:
            waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
            wait_until(lambda: watch.execute(waiting).scalar_one() == 1)
        # It waits for the symbol, and has not read a trade yet.
        other.execute(trade, {"moment": later})
        other.commit()
        counts = made.result().counts
    assert (counts.inserted, counts.removed) == (1, 0)
    assert minutes(known)["timestamp"].dt.strftime("%H:%M").tolist() == ["14:00", "14:01"]


def test_a_minute_makes_its_bar_once_it_is_over(database: Engine) -> None:
    with database.begin() as connection:
        connection.execute(text("INSERT INTO symbols (symbol, exchange) VALUES ('X:BTCUSD', '24/7')"))
        today = connection.execute(text("SELECT (now() AT TIME ZONE 'UTC')::date")).scalar_one()
        merge(connection, "sessions", trading_sessions("24/7", today - timedelta(days=1), today + timedelta(days=1)))
        connection.execute(
            text(
                "INSERT INTO ticks (symbol, timestamp, trade_id, price, quantity, source) "
                "SELECT 'X:BTCUSD', now() - age, age::text, 5, 1, 'polygon' FROM unnest(ARRAY["
                "INTERVAL '10 minutes', INTERVAL '0 minutes']) AS age"
            )
        )
    window = Window("X:BTCUSD", today - timedelta(days=1), today + timedelta(days=1))
    assert store_trade_bars(database, [window]).counts == MergeCounts(inserted=1)
