"""The buffer of ticks on real servers: what it acknowledges is stored once, or in quarantine."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import ProgrammingError

from tests.storage.servers import wait_until
from tests.storage.tick_samples import BEGIN, files, list_symbols, quarantined, stored_ids, ticks
from tickstock_assets.domain.errors import ConfigError, ContractError, DatabaseError
from tickstock_assets.storage.database import open_engine
from tickstock_assets.storage.tick_frames import Tick
from tickstock_assets.storage.tick_spill import unflushed
from tickstock_assets.storage.ticks import FlushPolicy, TickBuffer

NOT_BY_ITSELF = FlushPolicy(seconds=3600, count=1_000_000)
type Opens = Callable[..., TickBuffer]


@pytest.fixture
def opens(database: Engine, tmp_path: Path) -> Iterator[Opens]:
    """Opens buffers over one spill, with two symbols listed; those left open are closed."""
    list_symbols(database)
    opened: list[TickBuffer] = []

    def open_buffer(policy: FlushPolicy = NOT_BY_ITSELF, engine: Engine = database) -> TickBuffer:
        opened.append(TickBuffer(engine, tmp_path / "ticks", policy))
        return opened[-1]

    yield open_buffer
    for buffer in opened:
        buffer.close(0)


def test_what_is_put_is_stored_as_it_is(opens: Opens, database: Engine) -> None:
    buffer = opens()
    buffer.put_many(ticks(0, 2, conditions=["14", 'quoted "4"', "back\\slash", "comma, brace}", ""]))
    buffer.put(Tick("AAPL", BEGIN, 101.12345678, 0.5, "polygon", trade_id="7"))
    assert buffer.flush()
    with database.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT symbol, timestamp, exchange, trade_id, price::text, quantity::text, conditions, side, source "
                "FROM ticks ORDER BY trade_id"
            )
        ).all()
    odd = ["14", 'quoted "4"', "back\\slash", "comma, brace}", ""]
    assert [tuple(row) for row in rows] == [
        ("AAPL", BEGIN, "4", "0", "100.00000000", "0.00000000", odd, None, "polygon"),
        ("MSFT", BEGIN.replace(microsecond=1000), "4", "1", "100.01000000", "1.00000000", odd, None, "polygon"),
        ("AAPL", BEGIN, "", "7", "101.12345678", "0.50000000", None, None, "polygon"),
    ]


def test_a_flush_is_due_by_number_and_takes_everything(opens: Opens, database: Engine) -> None:
    buffer = opens(FlushPolicy(seconds=3600, count=100))
    buffer.put_many(ticks(0, 99))
    assert buffer.counts().flushes == 0
    buffer.put_many(ticks(99, 151))
    wait_until(lambda: buffer.counts().waiting == 0)
    assert stored_ids(database) == list(range(250))


def test_a_flush_is_due_by_time(opens: Opens, database: Engine) -> None:
    buffer = opens(FlushPolicy(seconds=0.05, count=1_000_000))
    buffer.put_many(ticks(0, 3))
    wait_until(lambda: buffer.counts().waiting == 0)
    assert stored_ids(database) == [0, 1, 2]
    assert files(buffer.folder) == []


def test_a_late_duplicate_is_stored_once_and_counted(opens: Opens, database: Engine) -> None:
    buffer = opens()
    buffer.put_many(ticks(0, 10))
    assert buffer.flush()
    buffer.put_many(ticks(5, 10))
    buffer.put_many(ticks(14, 1))
    assert buffer.flush()
    assert stored_ids(database) == list(range(15))
    counts = buffer.counts()
    assert (counts.acknowledged, counts.stored, counts.repeated, counts.quarantined) == (21, 15, 6, 0)


def test_what_cannot_be_stored_is_set_aside_and_blocks_no_other(opens: Opens, database: Engine) -> None:
    buffer = opens()
    buffer.put_many(ticks(0, 1))
    buffer.put_many(ticks(1, 1, symbol="NOPE"))
    buffer.put_many(ticks(2, 1, price=float("nan")))
    buffer.put_many(ticks(3, 1, symbol="BAD\0"))
    buffer.put_many(ticks(4, 2))
    assert buffer.flush()
    assert stored_ids(database) == [0, 4, 5]
    found = quarantined(database)
    assert [(rule, symbol, row["trade_id"]) for rule, symbol, row in found] == [
        ("invalid_text", None, "3"),
        ("missing_value", "AAPL", "2"),
        ("unknown_symbol", None, "1"),
    ]
    assert found[2][2] == {
        "symbol": "NOPE", "timestamp": "2024-01-03 14:30:00.001000+00:00", "exchange": "4", "trade_id": "1",
        "price": 100.01, "quantity": 1.0, "conditions": ["14", "41"], "source": "polygon",
    }  # fmt: skip
    assert buffer.counts().quarantined == 3


def test_moments_that_no_date_reaches_are_set_aside_and_block_no_other(opens: Opens, database: Engine) -> None:
    # Nanoseconds taken for microseconds, and the ends of what 64 bits hold.
    beyond = [1_700_000_000_000_000_000, 2**63 - 1, 1 - 2**63]
    buffer = opens()
    wrong = ticks(0, 3).set_column(1, "timestamp", pa.array(beyond, pa.timestamp("us", "UTC")))
    buffer.put_many(wrong)
    buffer.put_many(ticks(3, 1, source="a\0b"))
    buffer.put_many(ticks(4, 1, price=0.0))
    buffer.put_many(ticks(5, 1))
    assert buffer.flush(60)
    assert stored_ids(database) == [5]
    found = {row["trade_id"]: (rule, row["timestamp"]) for rule, _, row in quarantined(database)}
    assert found == {
        **{str(number): ("out_of_range", moment) for number, moment in enumerate(beyond)},
        "3": ("invalid_text", "2024-01-03 14:30:00.003000+00:00"),
        "4": ("non_positive_price", "2024-01-03 14:30:00.004000+00:00"),
    }
    with database.connect() as connection:
        placed = connection.execute(text("SELECT row->>'trade_id', date, timestamp FROM quarantined_bars")).all()
    assert sorted(map(tuple, placed)) == [
        *((str(number), None, None) for number in range(3)),
        *((str(number), BEGIN.date(), BEGIN.replace(microsecond=1000 * number)) for number in (3, 4)),
    ]


def test_ticks_without_an_id_are_numbered_within_their_moment(opens: Opens, database: Engine) -> None:
    buffer = opens()
    buffer.put_many(
        ticks(0, 3, symbol="AAPL", timestamp=BEGIN, trade_id=None).set_column(3, "trade_id", pa.nulls(3, pa.string()))
    )
    for exchange in ("4", "4", "11"):
        buffer.put(Tick("AAPL", BEGIN, 1.0, 1.0, "polygon", exchange=exchange))
    buffer.put_many(
        ticks(0, 2, symbol="AAPL", timestamp=BEGIN, trade_id=None).set_column(3, "trade_id", pa.nulls(2, pa.string()))
    )
    assert buffer.close() == 0
    assert stored_ids(database) == [0, 0, 1, 2, 3, 4, 5, 6]


def test_numbering_goes_on_after_what_an_earlier_writer_left(opens: Opens, database: Engine, tmp_path: Path) -> None:
    away = unreachable(tmp_path)
    left = opens(engine=away)
    left.put(Tick("AAPL", BEGIN, 1.0, 1.0, "polygon"))
    assert left.close(0) == 1
    buffer = opens()
    buffer.put(Tick("AAPL", BEGIN, 2.0, 1.0, "polygon"))
    assert buffer.close() == 0
    assert stored_ids(database) == [0, 1]


def unreachable(folder: Path) -> Engine:
    """An engine on a server that is not there."""
    import sqlalchemy

    return sqlalchemy.create_engine(f"postgresql+psycopg:///nothing?host={folder}")


def test_what_an_earlier_writer_left_is_stored_first_and_twice_does_no_harm(
    opens: Opens, database: Engine, tmp_path: Path
) -> None:
    left = opens(engine=unreachable(tmp_path))
    left.put_many(ticks(0, 10))
    assert left.close(0) == 10
    [name] = files(left.folder)
    segment = left.folder / name
    content = segment.read_bytes()
    buffer = opens()
    assert buffer.flush()
    assert buffer.counts().replayed == 10
    assert buffer.close() == 0
    # As if it had been killed after the commit and before it deleted the segment, while it wrote the next record.
    segment.write_bytes(content + content[:50])
    again = opens()
    assert again.flush()
    assert again.counts().repeated == 10
    assert stored_ids(database) == list(range(10))
    assert files(left.folder) == []


def test_a_closed_buffer_takes_no_more(opens: Opens) -> None:
    buffer = opens()
    assert buffer.close() == 0
    with pytest.raises(DatabaseError, match="found it closed; these ticks are not acknowledged"):
        buffer.put_many(ticks(0, 1))


def test_two_buffers_over_one_spill_are_refused(opens: Opens) -> None:
    opens()
    with pytest.raises(ConfigError, match="only one who writes ticks there"):
        opens()


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (ticks(0, 1).drop_columns(["price"]), "found none of price"),
        (
            ticks(0, 1).set_column(1, "timestamp", pa.array([BEGIN.replace(tzinfo=None)])),
            "expected moments with a time zone",
        ),
        (ticks(0, 1, price="much"), "expected columns of"),
    ],
)
def test_a_table_that_has_no_ticks_is_refused_before_anything_is_acknowledged(
    opens: Opens, wrong: pa.Table, sentence: str
) -> None:
    buffer = opens()
    with pytest.raises(ContractError, match=sentence):
        buffer.put_many(wrong)
    with pytest.raises(ContractError, match="moment with a time zone"):
        buffer.put(Tick("AAPL", datetime(2024, 1, 3), 1.0, 1.0, "polygon"))  # noqa: DTZ001
    assert buffer.counts().acknowledged == 0


class Door:
    """A socket of the server that can be shut: an engine through it finds no server."""

    def __init__(self, server: Engine, folder: Path) -> None:
        host = server.url.query["host"]
        self.real = Path(str(host)) / ".s.PGSQL.5432"
        self.link = folder / self.real.name
        self.server = server
        self.open()
        self.engine = open_engine(server.url.update_query_dict({"host": str(folder)}), "behind the door")

    def open(self) -> None:
        self.link.symlink_to(self.real)

    def shut(self) -> None:
        self.link.unlink()
        with self.server.connect() as connection:
            connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'behind the door'"
                )
            )


@pytest.fixture
def door(database: Engine, tmp_path: Path) -> Iterator[Door]:
    door = Door(database, tmp_path)
    yield door
    door.engine.dispose()


@pytest.mark.tiers("embedded")
def test_while_the_database_is_away_producers_are_held_back_at_the_bound_and_go_on_afterwards(
    opens: Opens, door: Door, database: Engine
) -> None:
    buffer = opens(FlushPolicy(seconds=0.05, count=10, most=100), door.engine)
    door.shut()
    acknowledged: list[int] = []

    def produce() -> None:
        for first in range(0, 400, 8):
            buffer.put_many(ticks(first, 8))
            acknowledged.append(first)

    producer = threading.Thread(target=produce)
    producer.start()
    wait_until(lambda: len(acknowledged) == 12)  # 96 of 100
    time.sleep(0.3)
    assert len(acknowledged) == 12
    assert buffer.counts().waiting == 96
    assert unflushed(buffer.folder).num_rows == 96
    door.open()
    producer.join(60)
    assert buffer.flush(60)
    assert stored_ids(database) == list(range(400))
    counts = buffer.counts()
    assert (counts.stored, counts.repeated, counts.waiting) == (400, 0, 0)
    assert counts.held_back_seconds > 0.2


@pytest.mark.tiers("embedded")
def test_a_batch_beyond_the_bound_is_taken_piece_by_piece(opens: Opens, database: Engine) -> None:
    buffer = opens(FlushPolicy(seconds=0.05, count=10, most=50))
    buffer.put_many(ticks(0, 500))
    assert buffer.flush(60)
    assert stored_ids(database) == list(range(500))


@pytest.mark.tiers("embedded")
def test_a_producer_that_is_held_back_is_released_when_the_buffer_closes(opens: Opens, door: Door) -> None:
    buffer = opens(FlushPolicy(seconds=0.05, count=10, most=20), door.engine)
    door.shut()
    buffer.put_many(ticks(0, 20))
    refused: list[str] = []

    def produce() -> None:
        try:
            buffer.put_many(ticks(20, 5))
        except DatabaseError as error:
            refused.append(str(error))

    producer = threading.Thread(target=produce)
    producer.start()
    assert buffer.close(0.2) == 20
    producer.join(60)
    assert len(refused) == 1
    assert unflushed(buffer.folder).num_rows == 20


@pytest.mark.tiers("embedded")
def test_who_waits_for_a_flush_is_told_that_it_was_not_done_when_the_buffer_closes(
    opens: Opens, tmp_path: Path
) -> None:
    buffer = opens(engine=unreachable(tmp_path))
    buffer.put_many(ticks(0, 3))
    done: list[bool] = []
    waiting = threading.Thread(target=lambda: done.append(buffer.flush()), daemon=True)
    waiting.start()
    wait_until(lambda: buffer.counts().flushes == 1)
    assert buffer.close(0) == 3
    waiting.join(30)
    assert done == [False]
    assert not buffer.flush(30)  # and at once, as nobody stores any more
    assert unflushed(buffer.folder).num_rows == 3


def test_what_only_a_person_can_mend_is_raised_where_ticks_are_put_and_nothing_is_lost(
    opens: Opens, database: Engine
) -> None:
    buffer = opens()
    with database.begin() as connection:
        connection.execute(text("ALTER TABLE ticks RENAME TO elsewhere"))
    buffer.put_many(ticks(0, 3))
    with pytest.raises(ProgrammingError, match='relation "ticks" does not exist'):
        buffer.flush(60)
    with pytest.raises(ProgrammingError, match='relation "ticks" does not exist'):
        buffer.put_many(ticks(3, 1))
    assert unflushed(buffer.folder).num_rows == 3
    assert buffer.close() == 3
    with database.begin() as connection:
        connection.execute(text("ALTER TABLE elsewhere RENAME TO ticks"))
    assert opens().close() == 0
    assert stored_ids(database) == [0, 1, 2]


def test_latency_and_rate_are_counted(opens: Opens) -> None:
    buffer = opens(FlushPolicy(seconds=3600, count=100, sync=True))
    for first in range(0, 500, 100):
        buffer.put_many(ticks(first, 100))
        assert buffer.flush(60)
    counts = buffer.counts()
    assert counts.flushes == 5
    assert counts.latency_seconds_p50 is not None
    assert counts.flush_seconds_p99 is not None
    assert 0 < counts.latency_seconds_p50 <= (counts.latency_seconds_p99 or 0)


def test_a_streamed_trade_whose_exact_twin_is_stored_already_is_not_stored_beside_it(
    opens: Opens, database: Engine
) -> None:
    # As where a spill is left behind, and the day comes by REST before the next one streams.
    exact = BEGIN.replace(microsecond=350)
    with database.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO ticks (symbol, timestamp, exchange, trade_id, price, quantity, source) "
                "VALUES ('AAPL', :exact, '4', '0', 100, 1, 'polygon')"
            ),
            {"exact": exact},
        )
    buffer = opens()
    buffer.put_many(ticks(0, 3))
    assert buffer.flush()
    with database.connect() as connection:
        rows = connection.execute(text("SELECT trade_id, timestamp FROM ticks ORDER BY trade_id")).all()
    assert [row.trade_id for row in rows] == ["0", "1", "2"]
    assert rows[0].timestamp == exact
    counts = buffer.counts()
    assert (counts.stored, counts.repeated) == (2, 1)


def test_trades_of_a_feed_without_ids_are_all_stored_however_close_they_are(opens: Opens, database: Engine) -> None:
    moments = [BEGIN.replace(microsecond=microsecond) for microsecond in (0, 350, 1000, 1001)]
    buffer = opens()
    for moment in (moments[1], moments[0], *moments[2:]):
        buffer.put(Tick("AAPL", moment, 1.0, 1.0, "another feed"))
        assert buffer.flush(60)
    with database.connect() as connection:
        rows = connection.execute(text("SELECT timestamp, trade_id FROM ticks ORDER BY timestamp")).all()
    assert [tuple(row) for row in rows] == [(moment, "0") for moment in moments]
    counts = buffer.counts()
    assert (counts.stored, counts.repeated) == (4, 0)


def test_a_tick_without_a_venue_is_stored_with_an_empty_one(opens: Opens, database: Engine) -> None:
    buffer = opens()
    buffer.put_many(ticks(0, 2, exchange=None))
    assert buffer.flush()
    with database.connect() as connection:
        assert list(connection.execute(text("SELECT exchange FROM ticks")).scalars()) == ["", ""]
