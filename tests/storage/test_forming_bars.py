"""Bars still forming behind the stored ones: no gap and nothing twice at the seam, wherever a trade is at the moment."""

import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from sqlalchemy import Engine, text

from tickstock_assets.domain.trades import TICKS
from tickstock_assets.storage.market_data import MarketReader
from tickstock_assets.storage.tick_spill import Spill, encoded
from tickstock_assets.storage.ticks import FlushPolicy, TickBuffer

# Monday to Wednesday; the Tuesday is today.
DAYS = [date(2024, 7, 1), date(2024, 7, 2), date(2024, 7, 3)]
NOW = datetime(2024, 7, 2, 14, 22, 30, tzinfo=UTC)
LOOKS = 30
COLUMNS = ["open", "high", "low", "close", "volume"]


def at(clock: str, day: int = 2) -> datetime:
    return datetime.fromisoformat(f"2024-07-{day:02}T{clock}").replace(tzinfo=UTC)


def trades(*rows: tuple[str, float, float], symbol: str = "AAPL", condition: str | None = None) -> pa.Table:
    """Trades of clock, price and shares; each with an id of its own."""
    return pa.table(
        {
            "symbol": [symbol] * len(rows),
            "timestamp": [at(clock) for clock, _, _ in rows],
            "exchange": ["XNAS"] * len(rows),
            "trade_id": [f"{clock}-{price}" for clock, price, _ in rows],
            "price": [float(price) for _, price, _ in rows],
            "quantity": [float(shares) for _, _, shares in rows],
            "conditions": [[condition] if condition else None] * len(rows),
            "source": ["polygon"] * len(rows),
        },
        schema=TICKS,
    )


def minute(clock: str, price: float, volume: float, day: int = 2, **more: object) -> dict[str, object]:
    prices = dict.fromkeys(COLUMNS[:4], price)
    return {"symbol": "AAPL", "timestamp": at(clock, day), **prices, "volume": volume, "source": "polygon", **more}


def insert(database: Engine, table: str, *rows: dict[str, object]) -> None:
    names = list(rows[0])
    with database.begin() as connection:
        connection.execute(
            text(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(f':{name}' for name in names)})"), rows
        )


@pytest.fixture
def market(database: Engine) -> Engine:
    """The minutes of a few moments of yesterday and today; yesterday's daily bar."""
    insert(database, "symbols", {"symbol": "AAPL"}, {"symbol": "MSFT"})
    for day in DAYS:
        opened = datetime(day.year, day.month, day.day, 13, 30, tzinfo=UTC)
        insert(
            database, "sessions",
            {"exchange": "XNYS", "session": day, "open": opened, "close": opened + timedelta(hours=6.5)},
        )  # fmt: skip
    insert(
        database, "ohlcv_1min",
        minute("13:30", 90, 1000, day=1), minute("12:00", 99, 7), minute("14:00", 100, 10), minute("14:19", 102, 20),
    )  # fmt: skip
    daily = {name: value for name, value in minute("13:30", 90, 1000, day=1).items() if name != "timestamp"}
    insert(database, "ohlcv_daily", daily | {"date": DAYS[0]})
    return database


@pytest.fixture
def spill(tmp_path: Path) -> Path:
    return tmp_path / "spill"


@pytest.fixture
def reader(market: Engine, spill: Path) -> Iterator[MarketReader]:
    with MarketReader(market.url, spill=spill) as opened:
        yield opened


def acknowledge(spill: Path, ticks: pa.Table) -> None:
    writer = Spill(spill)
    for batch in ticks.to_batches():
        writer.append(encoded(batch))
    writer.close()


def flush(database: Engine, ticks: pa.Table) -> None:
    rows = ticks.to_pylist()
    insert(database, "ticks", *rows)


def forming(reader: MarketReader, timeframe: str, now: datetime = NOW, **more: object) -> list[tuple[object, ...]]:
    """Start, prices, volume and whether it is forming, from 14:00 of today on."""
    frame = reader.bars_frame("AAPL", timeframe, at("14:00"), include_forming=True, now=now, columns=COLUMNS, **more)  # type: ignore[arg-type]
    clocks = frame["timestamp"].dt.strftime("%H:%M")
    return list(zip(clocks, *(frame[name] for name in COLUMNS), frame["forming"], strict=True))


SPILLED = trades(("14:21:10", 105, 3), ("14:22:05", 107, 1), ("14:22:20", 104, 2))
FLUSHED = trades(("14:20:30", 103, 5), ("14:20:45", 101, 5), ("14:21:10", 105, 3))


@pytest.fixture
def live(market: Engine, spill: Path) -> None:
    """Trades behind the last minute: some stored, some acknowledged only, one at the moment in both places."""
    flush(market, FLUSHED)
    acknowledge(spill, SPILLED)


@pytest.mark.usefixtures("live")
def test_minutes_of_trades_follow_the_stored_ones_and_the_last_is_forming(reader: MarketReader) -> None:
    assert forming(reader, "1m") == [
        ("14:00", 100, 100, 100, 100, 10, False),
        ("14:19", 102, 102, 102, 102, 20, False),
        ("14:20", 103, 103, 101, 101, 10, False),
        ("14:21", 105, 105, 105, 105, 3, False),
        ("14:22", 107, 107, 104, 104, 3, True),
    ]
    found = reader.bars("AAPL", "1m", at("14:19"), include_forming=True, now=NOW)
    assert found["source"].to_pylist() == ["polygon", *["ticks:polygon"] * 3]
    assert found.column_names[-1] == "forming"


@pytest.mark.usefixtures("live")
@pytest.mark.parametrize("columns", [COLUMNS, [*COLUMNS, "vwap"]])
def test_longer_bars_are_of_stored_minutes_and_trades_together(reader: MarketReader, columns: list[str]) -> None:
    expected = {
        "5m": [("14:00", 100, 10, False), ("14:15", 102, 20, False), ("14:20", 104, 16, True)],
        "15m": [("14:00", 100, 10, False), ("14:15", 104, 36, True)],
        "30m": [("14:00", 104, 46, True)],
        "1h": [("14:00", 104, 46, True)],
        "4h": [("12:00", 104, 53, True)],
        "12h": [("12:00", 104, 53, True)],
    }
    for timeframe, bars in expected.items():
        start = at("12:00" if timeframe in {"4h", "12h"} else "14:00")
        frame = reader.bars_frame("AAPL", timeframe, start, include_forming=True, now=NOW, columns=columns)
        clocks = frame["timestamp"].dt.strftime("%H:%M")
        assert list(zip(clocks, frame["close"], frame["volume"], frame["forming"], strict=True)) == bars, timeframe


@pytest.mark.usefixtures("live")
def test_from_the_open_it_is_forming_until_the_session_ends(reader: MarketReader) -> None:
    found = reader.bars_frame(
        "AAPL", "4h", at("13:00"), align="session", include_forming=True, now=NOW, columns=COLUMNS
    )
    assert found[["volume", "forming"]].to_numpy().tolist() == [[46, True]]
    assert found["timestamp"].tolist() == [pd.Timestamp("2024-07-02 13:30Z")]


@pytest.mark.usefixtures("live")
def test_a_minute_of_trades_is_forming_until_late_reports_are_in(reader: MarketReader) -> None:
    assert [row[-1] for row in forming(reader, "1m", at("14:23:09"))][-2:] == [False, True]
    assert [row[-1] for row in forming(reader, "1m", at("14:23:10"))][-2:] == [False, False]
    # A stored minute is over with its last second.
    assert [row[-1] for row in forming(reader, "1m", at("14:20"))][:2] == [False, False]


@pytest.mark.usefixtures("live")
def test_a_vendors_own_minute_takes_the_place_of_its_trades(market: Engine, reader: MarketReader) -> None:
    insert(market, "ohlcv_1min", minute("14:20", 102.5, 11), minute("14:21", 105.5, 4))
    assert [(row[0], row[4], row[5]) for row in forming(reader, "1m")][-3:] == [
        ("14:20", 102.5, 11), ("14:21", 105.5, 4), ("14:22", 104, 3),
    ]  # fmt: skip
    assert [(row[0], row[5]) for row in forming(reader, "15m")] == [("14:00", 10), ("14:15", 20 + 11 + 4 + 3)]


@pytest.mark.usefixtures("live")
def test_todays_bar_is_of_regular_hours_and_joins_yesterdays(market: Engine, reader: MarketReader) -> None:
    flush(market, trades(("09:00:00", 50, 1000)))
    days = reader.bars_frame("AAPL", "1d", include_forming=True, now=NOW).drop(columns=["symbol", "high", "vwap"])
    assert [(day.date(), *rest) for day, *rest in days.itertuples(index=False)] == [
        (DAYS[0], 90, 90, 90, 1000, "polygon", False),
        (DAYS[1], 100, 100, 104, 46, "rollup:ticks:polygon", True),
    ]  # fmt: skip
    [week] = reader.bars("AAPL", "1w", include_forming=True, now=NOW, columns=[*COLUMNS, "bars"]).to_pylist()
    assert (week["date"], week["open"], week["high"], week["close"], week["volume"], week["bars"], week["forming"]) == (
        DAYS[0], 90, 107, 104, 1046, 2, True,
    )  # fmt: skip
    # The week's end is not known to the calendar, and it lasts until the next one then.
    evening = at("20:00:10")
    assert reader.bars("AAPL", "1d", include_forming=True, now=evening)["forming"].to_pylist() == [False, False]
    assert reader.bars("AAPL", "1w", include_forming=True, now=evening)["forming"].to_pylist() == [True]


@pytest.mark.usefixtures("live")
def test_a_providers_daily_bar_is_kept_and_a_rolled_up_one_is_made_anew(market: Engine, reader: MarketReader) -> None:
    daily = {name: value for name, value in minute("13:30", 55, 5).items() if name != "timestamp"} | {"date": DAYS[1]}
    insert(market, "ohlcv_daily", daily | {"source": "rollup:polygon"})
    assert reader.bars("AAPL", "1d", DAYS[1], include_forming=True, now=NOW)["volume"].to_pylist() == [46]
    with market.begin() as connection:
        connection.execute(text("UPDATE ohlcv_daily SET source = 'polygon'"))
    assert reader.bars("AAPL", "1d", DAYS[1], include_forming=True, now=NOW)["volume"].to_pylist() == [5]


@pytest.mark.usefixtures("live")
def test_a_split_of_today_is_in_the_bars_before_it(market: Engine, reader: MarketReader) -> None:
    with market.begin() as connection:
        connection.execute(text("INSERT INTO splits VALUES ('AAPL', '2024-07-02', 'sample', 1, 2, now())"))
    found = reader.bars("AAPL", "1d", include_forming=True, now=NOW, adjusted="splits")
    assert found["close"].to_pylist() == [45, 104]
    assert reader.bars("AAPL", "1d", adjusted="splits")["close"].to_pylist() == [90]


def test_a_trade_whose_price_does_not_count_makes_no_bar(market: Engine, reader: MarketReader) -> None:
    flush(market, trades(("14:20:30", 103, 5), condition="37"))
    assert len(forming(reader, "1m")) == 2


def test_symbols_do_not_share_their_seams(market: Engine, reader: MarketReader) -> None:
    flush(market, trades(("14:10:00", 7, 1), symbol="MSFT"))
    flush(market, trades(("14:10:00", 7, 1)))
    found = reader.bars(None, "1m", at("14:00"), include_forming=True, now=NOW, columns=["volume"])
    # AAPL's last stored minute is later than its trade; MSFT has none.
    assert found["symbol"].to_pylist() == ["AAPL", "AAPL", "MSFT"]
    assert found["volume"].to_pylist() == [10, 20, 1]
    assert reader.bars("MSFT", "1d", include_forming=True, now=NOW)["close"].to_pylist() == [7]


def test_without_anything_live_it_is_what_is_stored(market: Engine, reader: MarketReader) -> None:
    plain = reader.bars("AAPL", "1m")
    assert reader.bars("AAPL", "1m", include_forming=True, now=at("20:00", 3)).drop_columns("forming") == plain
    part = reader.bars("AAPL", "1m", at("12:00"), at("14:19"), include_forming=True, now=NOW)
    assert part.drop_columns("forming") == reader.bars("AAPL", "1m", at("12:00"), at("14:19"))
    with MarketReader(market.url) as without_feed:
        assert without_feed.bars("AAPL", "1m", include_forming=True, now=NOW).drop_columns("forming") == plain
    assert reader.bars("AAPL", "1m", at("15:00"), include_forming=True, now=NOW).num_rows == 0


@pytest.mark.usefixtures("live")
def test_an_end_cuts_between_bars(reader: MarketReader) -> None:
    for timeframe, expected in (("1m", [10, 20, 10]), ("5m", [10, 20, 16]), ("15m", [10, 36])):
        found = reader.bars(
            "AAPL", timeframe, at("14:00"), at("14:20:01"), include_forming=True, now=NOW, columns=["volume"]
        )
        assert found["volume"].to_pylist() == expected, timeframe


@pytest.mark.usefixtures("live")
def test_bars_between_stored_and_forming_ones_are_filled(reader: MarketReader) -> None:
    found = reader.bars_frame("AAPL", "1m", at("14:00"), include_forming=True, fill="ffill", now=NOW, columns=COLUMNS)
    assert found["timestamp"].dt.strftime("%H:%M").tolist() == [f"14:{minute:02}" for minute in range(23)]
    assert found["filled"].sum() == 18
    assert found["forming"].tolist() == [False] * 22 + [True]


def test_no_trade_is_missed_or_met_twice_while_the_feed_stores_them(
    market: Engine, reader: MarketReader, spill: Path
) -> None:
    enough = threading.Event()
    acknowledged = 0

    def feed() -> None:
        nonlocal acknowledged
        with TickBuffer(market, spill, FlushPolicy(seconds=0.005, count=20)) as buffer:
            while not enough.is_set() and acknowledged < 50_000:
                clocks = [f"14:20:{(acknowledged + number) / 1000:09.6f}" for number in range(10)]
                buffer.put_many(trades(*((clock, 100, 1) for clock in clocks)))
                acknowledged += 10
                enough.wait(0.005)

    def total() -> float:
        found = reader.bars("AAPL", "1m", at("14:20"), include_forming=True, now=NOW, columns=["volume"])
        return sum(found["volume"].to_pylist())

    writer = threading.Thread(target=feed)
    writer.start()
    looks = []
    for _ in range(LOOKS):
        before = acknowledged
        volume = total()
        # What is being acknowledged at the moment may be there already.
        looks.append((before, volume, acknowledged + 10))
    enough.set()
    writer.join()
    assert [look for look in looks if not look[0] <= look[1] <= look[2]] == []
    assert 0 < looks[0][2] < looks[-1][1]
    assert total() == acknowledged
