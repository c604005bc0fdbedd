"""The live feed into real tables: what the simulator sends is stored, and what it did not send is asked for."""

import asyncio
import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import Engine, text

from tests.simulator.client import KEY, get, small_market
from tests.storage.servers import wait_until
from tests.storage.tick_samples import files, list_symbols
from tickstock_assets.domain.errors import BadKeyError, ConfigError
from tickstock_assets.domain.windows import Window
from tickstock_assets.loading.gap_finding import windows_to_look_at
from tickstock_assets.loading.stream_minutes import StreamMinutes
from tickstock_assets.loading.streaming import Stream, require_listed
from tickstock_assets.providers.polygon_messages import read
from tickstock_assets.providers.polygon_stream import PolygonStream
from tickstock_assets.simulator import Fault, Pace, Plan, Simulator, Vendor
from tickstock_assets.storage.audit import Run
from tickstock_assets.storage.removal import remove_minutes
from tickstock_assets.storage.tick_spill import unflushed
from tickstock_assets.storage.ticks import FlushPolicy, TickBuffer

DAY = date(2022, 11, 25)
SYMBOLS = ["S0001", "S0002"]
RUN = Run("a test", "6f9619ff-8b86-d011-b42d-00c04fc964ff")


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(small_market(), pace=Pace(DAY, speed=3_000)) as running:
        yield running


def stream_into(engine: Engine, folder: Path, simulator: Simulator) -> Stream:
    list_symbols(engine, SYMBOLS)
    return Stream(
        PolygonStream(KEY, simulator.stream_url, SYMBOLS, first_wait_seconds=0.02),
        TickBuffer(engine, folder, FlushPolicy(seconds=0.1)),
        StreamMinutes(engine, SYMBOLS, RUN),
    )


def run_until(stream: Stream, condition: Callable[[], bool]) -> int:
    stop = asyncio.Event()
    return asyncio.run(stream.run(stop, 60, lambda: stop.set() if condition() else None))


def column(engine: Engine, statement: str, **values: Any) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(text(statement), values).scalars())


def trades_by_rest(simulator: Simulator, symbol: str) -> dict[tuple[int, str, str], tuple[float, float]]:
    """Return price and size by millisecond, exchange and id, of the half day."""
    rows = get(simulator, f"/v3/trades/{symbol}", order="asc", limit="50000", timestamp=str(DAY)).json()["results"]
    return {
        (row["sip_timestamp"] // 1_000_000, str(row["exchange"]), row["id"]): (row["price"], float(row["size"]))
        for row in rows
    }


@pytest.mark.tiers("embedded", "apache")
def test_trades_and_minutes_of_the_feed_are_stored_as_rest_has_them_and_a_cut_becomes_a_request(
    database: Engine, tmp_path: Path, simulator: Simulator
) -> None:
    simulator.script(Fault.CUT, route="live", skip=30)
    stream = stream_into(database, tmp_path / "ticks", simulator)
    left = run_until(
        stream, lambda: stream.feed.connections == 2 and len(stream.last) == 2 and stream.counts().holes > 0
    )
    assert left == 0
    assert files(tmp_path / "ticks") == []
    assert unflushed(tmp_path / "ticks").num_rows == 0
    with database.connect() as connection:
        ticks = connection.execute(
            text(
                "SELECT symbol, (extract(epoch FROM timestamp) * 1000)::bigint, exchange, trade_id, price::float8, "
                "quantity::float8, conditions, source FROM ticks"
            )
        ).all()
    counts = stream.counts()
    assert len(ticks) == counts.ticks.stored == counts.ticks.acknowledged > 50
    expected = {symbol: trades_by_rest(simulator, symbol) for symbol in SYMBOLS}
    on_the_day = [row for row in ticks if (row[1], row[2], row[3]) in expected[row[0]]]
    assert len(on_the_day) > 50
    for symbol, milliseconds, exchange, trade_id, price, quantity, conditions, source in on_the_day:
        assert expected[symbol][milliseconds, exchange, trade_id] == (price, quantity)
        assert (conditions, source) == (["14"], "polygon")
    bars = get(simulator, f"/v2/aggs/ticker/S0001/range/1/minute/{DAY}/{DAY}", adjusted="false").json()["results"]
    closes = {bar["t"]: bar["c"] for bar in bars}
    with database.connect() as connection:
        minutes = connection.execute(
            text(
                "SELECT (extract(epoch FROM timestamp) * 1000)::bigint, close::float8, source FROM ohlcv_1min "
                "WHERE symbol = 'S0001'"
            )
        ).all()
    assert minutes
    assert all(closes.get(start, close) == close and source == "polygon" for start, close, source in minutes)
    # Whoever rolls minutes up learns of the hours they are in.
    hours = column(database, "SELECT DISTINCT date_trunc('hour', timestamp, 'UTC') FROM ohlcv_1min ORDER BY 1")
    assert column(database, "SELECT DISTINCT timestamp FROM touched_buckets ORDER BY 1") == hours
    [reason] = column(database, "SELECT reason FROM backfill_requests WHERE timeframe = '1m'")
    assert reason.startswith(f"live feed: cut from {DAY} ")
    assert column(database, "SELECT symbols FROM backfill_requests") == [SYMBOLS]
    # Asked for sooner, the vendor would have nothing of that day: it closed at 18:00, and is published four and a half hours on.
    assert column(database, "SELECT not_before FROM backfill_requests") == [datetime(2022, 11, 25, 22, 30, tzinfo=UTC)]
    assert column(database, "SELECT DISTINCT actor FROM audit_trail WHERE entity_type = 'backfill_requests'") == [
        "a test"
    ]


@pytest.mark.tiers("embedded")
def test_while_the_database_is_away_ticks_wait_and_minutes_are_told_of_at_the_end(
    database: Engine, tmp_path: Path, simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    list_symbols(database, SYMBOLS)
    away = sqlalchemy.create_engine(f"postgresql+psycopg:///nothing?host={tmp_path}")
    stream = Stream(
        PolygonStream(KEY, simulator.stream_url, SYMBOLS),
        TickBuffer(away, tmp_path / "ticks", FlushPolicy(seconds=0.1)),
        StreamMinutes(away, SYMBOLS, RUN),
    )
    left = run_until(stream, lambda: stream.counts().ticks.acknowledged > 50 and stream.counts().minutes_waiting > 5)
    acknowledged = stream.counts().ticks.acknowledged
    assert left == acknowledged == unflushed(tmp_path / "ticks").num_rows
    assert f"{left} ticks are not stored yet; they are kept in" in caplog.text
    assert "minute bars and the holes since [] UTC are lost here; load the day again" in caplog.text
    with TickBuffer(database, tmp_path / "ticks") as buffer:
        assert buffer.flush(60)
    assert column(database, "SELECT count(*) FROM ticks") == [acknowledged]


@pytest.mark.tiers("embedded")
def test_a_refused_key_ends_the_stream_and_closes_the_buffer(database: Engine, tmp_path: Path) -> None:
    with Simulator(small_market(), {Vendor.POLYGON: Plan(keys=frozenset())}) as simulator:
        stream = stream_into(database, tmp_path / "ticks", simulator)
        with pytest.raises(BadKeyError, match="found it refused"):
            run_until(stream, lambda: False)
    TickBuffer(database, tmp_path / "ticks").close()


@pytest.mark.tiers("embedded")
def test_minutes_that_break_the_contract_are_set_aside(database: Engine) -> None:
    list_symbols(database, SYMBOLS)
    minutes = StreamMinutes(database, SYMBOLS, RUN)
    bar = '{{"ev":"AM","sym":"S0001","v":10,"vw":5,"o":5,"c":5,"h":{high},"l":5,"s":{start}}}'
    # 14:30 and 14:31 UTC of the half day.
    message = f"[{bar.format(high=5, start=1669386600000)},{bar.format(high=4, start=1669386660000)}]"
    minutes.take(read(message).minutes)
    assert minutes.store()
    assert (minutes.counts.inserted, minutes.rejected, minutes.waiting) == (1, 1, 0)
    assert column(database, "SELECT rule FROM quarantined_bars") == ["high_below_low"]
    # Also once their hours are rolled up and forgotten, whoever looks for gaps is told of the day.
    with database.begin() as connection:
        connection.execute(text("DELETE FROM touched_buckets"))
        assert windows_to_look_at(connection, "1m", None) == [Window("S0001", DAY, DAY)]


@pytest.mark.tiers("embedded")
def test_minutes_that_a_person_removed_do_not_come_back_by_the_feed(database: Engine) -> None:
    list_symbols(database, SYMBOLS)
    minutes = StreamMinutes(database, SYMBOLS, RUN)
    bar = '{"ev":"AM","sym":"%s","v":10,"vw":5,"o":5,"c":5,"h":5,"l":5,"s":%d}'
    first, second = 1669386600000, 1669386660000  # 14:30 and 14:31 UTC of the half day
    minutes.take(read(f"[{bar % ('S0001', first)},{bar % ('S0001', second)},{bar % ('S0002', first)}]").minutes)
    assert minutes.store()
    start, end = datetime(2022, 11, 25, 14, 30, tzinfo=UTC), datetime(2022, 11, 25, 14, 31, tzinfo=UTC)
    with database.begin() as connection:
        assert remove_minutes(connection, "S0001", start, end, "prints of another") == 1
    # Told again, as after a reconnection or by a correction.
    minutes.take(read(f"[{bar % ('S0001', first)},{bar % ('S0001', second)},{bar % ('S0002', first)}]").minutes)
    assert minutes.store()
    assert minutes.waiting == 0
    left = "SELECT symbol || to_char(timestamp AT TIME ZONE 'UTC', ' HH24:MI') FROM ohlcv_1min ORDER BY 1"
    assert column(database, left) == ["S0001 14:31", "S0002 14:30"]


@pytest.mark.tiers("embedded")
def test_a_symbol_that_is_not_listed_is_one_sentence(database: Engine) -> None:
    list_symbols(database, SYMBOLS)
    require_listed(database, SYMBOLS)
    with pytest.raises(ConfigError, match="NOPE: expected a symbol that is listed, found none of that name"):
        require_listed(database, [*SYMBOLS, "NOPE"])


@pytest.mark.tiers("embedded")
def test_what_goes_wrong_with_the_last_flush_ends_the_stream_with_it(
    database: Engine, tmp_path: Path, simulator: Simulator
) -> None:
    list_symbols(database, SYMBOLS)
    stream = Stream(
        PolygonStream(KEY, simulator.stream_url, SYMBOLS, ("T",)),
        TickBuffer(database, tmp_path / "ticks", FlushPolicy(seconds=3600, count=1_000_000)),
        StreamMinutes(database, SYMBOLS, RUN),
    )
    with database.begin() as connection:
        connection.execute(text("ALTER TABLE ticks RENAME TO not_ticks"))
    with pytest.raises(sqlalchemy.exc.ProgrammingError, match='relation "ticks" does not exist'):
        run_until(stream, lambda: stream.counts().ticks.acknowledged > 5)
    assert unflushed(tmp_path / "ticks").num_rows > 5


@pytest.mark.tiers("embedded")
def test_who_waits_to_bring_minutes_is_let_go_when_nobody_stores_them_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tickstock_assets.loading import stream_minutes

    monkeypatch.setattr(stream_minutes, "MOST_WAITING", 1)
    away = sqlalchemy.create_engine(f"postgresql+psycopg:///nothing?host={tmp_path}")
    minutes = StreamMinutes(away, SYMBOLS, RUN)
    frame = read(b'[{"ev":"AM","sym":"S0001","v":1,"vw":5,"o":5,"c":5,"h":5,"l":5,"s":1669386600000}]').minutes
    minutes.take(frame)
    held_back = threading.Thread(target=minutes.take, args=[frame], daemon=True)
    held_back.start()
    assert not minutes.store()
    minutes.give_up()
    held_back.join(30)
    assert not held_back.is_alive()


@pytest.mark.tiers("embedded")
def test_two_who_store_at_once_store_each_minute_and_none_is_forgotten(database: Engine) -> None:
    list_symbols(database, SYMBOLS)
    minutes = StreamMinutes(database, SYMBOLS, RUN)
    bar = '[{"ev":"AM","sym":"S0001","v":1,"vw":5,"o":5,"c":5,"h":5,"l":5,"s":%d}]'
    minutes.take(read(bar % 1669386600000).minutes)
    with database.connect() as blocker:
        blocker.execute(text("LOCK TABLE ohlcv_1min IN EXCLUSIVE MODE"))
        storing = [threading.Thread(target=minutes.store) for _ in range(2)]
        for thread in storing:
            thread.start()
        wait_until(lambda: bool(column(database, "SELECT pid FROM pg_locks WHERE NOT granted")))
        minutes.take(read(bar % 1669386660000).minutes)
        blocker.rollback()
    for thread in storing:
        thread.join(60)
    assert minutes.store()
    assert minutes.waiting == 0
    assert column(database, "SELECT count(*) FROM ohlcv_1min") == [2]


@pytest.mark.tiers("embedded")
def test_a_spill_that_cannot_be_written_ends_the_stream_with_a_sentence(
    database: Engine, tmp_path: Path, simulator: Simulator
) -> None:
    stream = stream_into(database, tmp_path / "ticks", simulator)
    shutil.rmtree(tmp_path / "ticks")
    with pytest.raises(ConfigError, match="ticks: expected to append trades there, found No such file or directory"):
        run_until(stream, lambda: stream.feed.connections > 1)


@pytest.mark.tiers("embedded")
def test_a_minute_of_a_day_that_no_calendar_reaches_is_set_aside_and_holds_up_no_other(database: Engine) -> None:
    list_symbols(database, SYMBOLS)
    minutes = StreamMinutes(database, SYMBOLS, RUN)
    bar = '{"ev":"AM","sym":"S0001","v":1,"vw":5,"o":5,"c":5,"h":5,"l":5,"s":%d}'
    minutes.take(read(f"[{bar % 1669386600000},{bar % 4102497000000}]").minutes)  # of 2022, and of 1 January 2100
    assert minutes.store()
    assert (minutes.counts.inserted, minutes.rejected, minutes.waiting) == (1, 1, 0)
    assert column(database, "SELECT min(session) FROM sessions") == [date(2022, 1, 3)]
