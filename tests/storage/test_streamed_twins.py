"""The same trade streamed and by REST is stored once in the end, with the exact moment."""

from datetime import timedelta

from sqlalchemy import Engine, text

from tests.storage.tick_samples import BEGIN, list_symbols
from tickstock_assets.storage.streamed_twins import remove_streamed_twins

MS, US = timedelta(milliseconds=1), timedelta(microseconds=1)


def test_only_what_is_the_same_trade_within_its_millisecond_is_removed(database: Engine) -> None:
    list_symbols(database)
    rows = [
        ("AAPL", BEGIN, "4", "twin", "polygon"),  # streamed, and
        ("AAPL", BEGIN + 350 * US, "4", "twin", "polygon"),  # by REST
        ("AAPL", BEGIN + MS, "4", "streamed only", "polygon"),
        ("AAPL", BEGIN + 2 * MS, "4", "a whole millisecond by REST", "polygon"),
        ("AAPL", BEGIN + 3 * MS, "4", "next millisecond", "polygon"),
        ("AAPL", BEGIN + 4 * MS, "4", "next millisecond", "polygon"),
        ("AAPL", BEGIN + 5 * MS, "4", "other venue", "polygon"),
        ("AAPL", BEGIN + 5 * MS + US, "11", "other venue", "polygon"),
        ("MSFT", BEGIN, "4", "not asked", "polygon"),
        ("MSFT", BEGIN + US, "4", "not asked", "polygon"),
        # Of a feed with microseconds and without ids, each the first of its moment.
        ("AAPL", BEGIN + 6 * MS, "4", "0", "another feed"),
        ("AAPL", BEGIN + 6 * MS + 350 * US, "4", "0", "another feed"),
        ("AAPL", BEGIN + 7 * MS, "4", "0", "polygon"),
        ("AAPL", BEGIN + 7 * MS + US, "4", "0", "another feed"),
    ]
    names = ("symbol", "timestamp", "exchange", "trade_id", "source")
    with database.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO ticks (symbol, timestamp, exchange, trade_id, source, price, quantity) "
                "VALUES (:symbol, :timestamp, :exchange, :trade_id, :source, 1, 1)"
            ),
            [dict(zip(names, row, strict=True)) for row in rows],
        )
        assert remove_streamed_twins(connection, ["AAPL"], BEGIN, BEGIN + timedelta(seconds=1)) == 1
        assert remove_streamed_twins(connection, ["AAPL"], BEGIN, BEGIN + timedelta(seconds=1)) == 0
        left = connection.execute(
            text("SELECT symbol, timestamp, exchange, trade_id, source FROM ticks ORDER BY symbol, timestamp, exchange")
        ).all()
    assert [tuple(row) for row in left] == sorted(rows[1:])
