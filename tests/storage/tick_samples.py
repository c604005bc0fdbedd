"""Ticks to store, and what is stored of them, read without the code under test."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from sqlalchemy import Engine, text

BEGIN = datetime(2024, 1, 3, 14, 30, tzinfo=UTC)
SYMBOLS = ("AAPL", "MSFT")


def ticks(first: int, number: int, symbols: Sequence[str] = SYMBOLS, **columns: Any) -> pa.Table:
    """Return ticks numbered from `first`, a millisecond after each other, in the columns of a spill in any types."""
    numbers = range(first, first + number)
    made = {
        "symbol": [symbols[i % len(symbols)] for i in numbers],
        "timestamp": [BEGIN + timedelta(milliseconds=i) for i in numbers],
        "exchange": ["4"] * number,
        "trade_id": [str(i) for i in numbers],
        "price": [100 + i % 1000 / 100 for i in numbers],
        "quantity": [float(i % 500) for i in numbers],
        "conditions": [["14", "41"]] * number,
        "source": ["polygon"] * number,
    }
    table: pa.Table = pa.table(made | {name: [value] * number for name, value in columns.items()})
    moments = table["timestamp"].cast(pa.timestamp("us", "UTC"))
    return table.set_column(1, "timestamp", moments)


def list_symbols(engine: Engine, symbols: Sequence[str] = SYMBOLS) -> None:
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO symbols (symbol) SELECT unnest(CAST(:s AS text[]))"), {"s": list(symbols)})


def stored_ids(engine: Engine) -> list[int]:
    """Return the trade_id of every stored tick, in order; doubled ones twice."""
    with engine.connect() as connection:
        return list(connection.execute(text("SELECT trade_id::int FROM ticks ORDER BY 1")).scalars())


def quarantined(engine: Engine) -> list[tuple[str, str | None, dict[str, Any]]]:
    """Return rule, symbol and row of what is in quarantine."""
    with engine.connect() as connection:
        rows = connection.execute(text('SELECT rule, symbol, "row" FROM quarantined_bars ORDER BY rule, id'))
        return [(rule, symbol, row) for rule, symbol, row in rows]


def files(folder: Path) -> list[str]:
    """Return what a spill has besides its lock."""
    return sorted(path.name for path in folder.iterdir() if path.name != "writer.lock")
