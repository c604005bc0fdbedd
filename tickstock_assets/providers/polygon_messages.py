"""What messages of Polygon's live feed say: trades and minute bars under the project's names.

Pure. A row is never dropped: what cannot be read becomes missing and is left for the quality stage.

A trade has the vendor's number of its venue and the vendor's id, as trades by REST have. Its moment is in milliseconds, by
REST in nanoseconds, so the two are the same by symbol, exchange and trade_id within a millisecond, and not by key.

Source:
    Massive (Polygon), WebSocket documentation, stocks: trades (T) and aggregates per minute (AM).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
import pandas as pd
import pyarrow as pa

from tickstock_assets.domain.trades import TICKS
from tickstock_assets.providers.moments import stamps_between

SOURCE = "polygon"
EXCHANGE_ZONE = "America/New_York"
VALUES = {"open": "o", "high": "h", "low": "l", "close": "c", "vwap": "vw"}
FIRST_MS, AFTER_MS = stamps_between("ms")
MINUTE_MS = 60_000

type Event = dict[str, Any]


@dataclass(frozen=True)
class Message:
    """One message.

    Attributes:
        statuses: what the vendor says of the connection: status and message.
        trades: `TICKS`, in the order they came; price in USD per share, quantity in shares.
        minutes: symbol, date (datetime64, the day at the exchange), timestamp (UTC, start of the bar), open, high, low,
            close, volume (shares), vwap, trades_count (not told), all float64.
        first, last: moments of its earliest and its latest event, UTC, of a minute its end; None without events.
    """

    statuses: Sequence[tuple[str, str]]
    trades: pa.Table
    minutes: pd.DataFrame
    first: datetime | None
    last: datetime | None


def read(message: bytes | str) -> Message:
    """Return what a message says.

    Raises:
        ValueError: it is no list of events.
    """
    events = orjson.loads(message)
    if not isinstance(events, list) or not all(isinstance(event, dict) for event in events):
        raise ValueError(f"expected a list of events, found {str(events)[:100]}")
    trades = [event for event in events if event.get("ev") == "T"]
    minutes = [event for event in events if event.get("ev") == "AM"]
    moments = [event["t"] for event in trades if _moment(event.get("t"))]
    # It happens when it is over: it is told after all of its trades.
    moments += [event["s"] + MINUTE_MS for event in minutes if _moment(event.get("s"))]
    return Message(
        [(str(event.get("status")), str(event.get("message"))) for event in events if event.get("ev") == "status"],
        _trades(trades),
        _minutes(minutes),
        datetime.fromtimestamp(min(moments) / 1000, UTC) if moments else None,
        datetime.fromtimestamp(max(moments) / 1000, UTC) if moments else None,
    )


def _trades(events: Sequence[Event]) -> pa.Table:
    def column(name: str, read_one: Callable[[Any], object]) -> list[object]:
        return [read_one(event.get(name)) for event in events]

    columns = {
        "symbol": column("sym", _text),
        "timestamp": column("t", _moment),
        "exchange": [_text(event.get("x")) or "" for event in events],
        "trade_id": column("i", _text),
        "price": column("p", _number),
        # With fractions of shares it is told as a text besides.
        "quantity": [_number(event.get("ds", event.get("s"))) for event in events],
        "conditions": column("c", _texts),
        "source": [SOURCE] * len(events),
    }
    return pa.table([pa.array(columns[field.name], field.type) for field in TICKS], schema=TICKS)


def _minutes(events: Sequence[Event]) -> pd.DataFrame:
    stamps = pd.Series([_moment(event.get("s")) for event in events], dtype="Int64")
    moments = pd.to_datetime(stamps, unit="us", utc=True).astype("datetime64[us, UTC]")
    days = moments.dt.tz_convert(EXCHANGE_ZONE).dt.tz_localize(None).dt.normalize().astype("datetime64[us]")
    columns: dict[str, object] = {
        "symbol": pd.Series([_text(event.get("sym")) for event in events], dtype="str"),
        "date": days,
        "timestamp": moments,
    }
    numbers = {name: [_number(event.get(key)) for event in events] for name, key in VALUES.items()}
    numbers["volume"] = [_number(event.get("dv", event.get("v"))) for event in events]
    numbers["trades_count"] = [None] * len(events)
    return pd.DataFrame(columns | {name: pd.Series(values, dtype="float64") for name, values in numbers.items()})


def _moment(milliseconds: object) -> int | None:
    """Return Unix milliseconds as microseconds."""
    if isinstance(milliseconds, int) and FIRST_MS <= milliseconds < AFTER_MS:
        return milliseconds * 1000
    return None


def _number(value: object) -> float | None:
    try:
        return None if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def _text(value: object) -> str | None:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None


def _texts(values: object) -> list[str] | None:
    if not isinstance(values, list):
        return None
    return [text for value in values if (text := _text(value)) is not None]
