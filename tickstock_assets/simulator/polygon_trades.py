"""Polygon's trades, invented so that they make up the minute bars: open, high, low and close in that order."""

from dataclasses import replace
from typing import Any

import pandas as pd
from starlette.requests import Request

from tickstock_assets.simulator.asks import Answer, Ask, Endpoint, Refused
from tickstock_assets.simulator.bar_service import BarService
from tickstock_assets.simulator.bars import MILLISECONDS_A_DAY, NEW_YORK, PRICES, Bars, midnight
from tickstock_assets.simulator.plans import Plan
from tickstock_assets.simulator.polygon_api import (
    check_depth,
    day_of,
    error,
    limit_of,
    listing,
    not_entitled,
    paged,
)

DEFAULT_LIMIT, MOST_TRADES = 1_000, 50_000
# They are made on demand, and nobody needs the trades of years at once.
MOST_DAYS = 31
NANOSECONDS = 1_000_000
# Seconds into the minute of its four trades, and how late the tape has them.
SECONDS = (1, 17, 34, 58)
DELAY_NS = 350_123
# Intermarket sweep: such a trade counts for high, low, last and volume.
SWEEP = 14
EXCHANGES = (4, 11, 12)
TAPES = {"XNYS": 1, "ARCX": 2, "XNAS": 3}


class PolygonTrades:
    """Answers trades."""

    def __init__(self, service: BarService, plan: Plan) -> None:
        self.service, self.market, self.plan = service, service.market, plan

    def endpoints(self) -> list[Endpoint]:
        """Return the addresses served."""
        return [Endpoint("/v3/trades/{ticker}", trades_ask, self.trades)]

    def trades(self, ask: Ask) -> Answer:
        """Answer a page of trades, newest first unless asked otherwise."""
        if not self.plan.trades:
            raise not_entitled("You are not entitled to this data.")
        check_depth(self.plan, ask.first)
        limit = limit_of(ask, DEFAULT_LIMIT, MOST_TRADES)
        rows = self._rows(ask)
        if ask.parameters.get("order", "desc") == "desc":
            rows = rows[::-1]
        self.service.notes.rows = len(rows[ask.offset : ask.offset + limit])
        return paged(ask, rows, limit)

    def _rows(self, ask: Ask) -> list[dict[str, Any]]:
        if ask.symbol not in self.market.companies or ask.first is None or ask.last is None:
            return []
        if (ask.last - ask.first).days > MOST_DAYS:
            raise Refused(error(400, f"the simulator serves trades of at most {MOST_DAYS} days a request"))
        low, high = int(ask.parameters["from_ns"]), int(ask.parameters["to_ns"])
        tape = TAPES.get(self.market.company(ask.symbol).exchange, 1)
        parts = self.market.window(ask.symbol, "1m", ask.first, ask.last)
        rows = [row for bars, first, after in parts for row in trades_of(bars.cut(first, after), tape)]
        return [row for row in rows if low <= row["sip_timestamp"] <= high]


def trades_of(bars: Bars, tape: int = 1) -> list[dict[str, Any]]:
    """Return the trades that make up minute bars, as rows of Polygon's."""
    rows: list[dict[str, Any]] = []
    for bar, day in zip(bars.rows(), bars.days(), strict=True):
        for number, price in enumerate(PRICES):
            moment = (bar["start_ms"] + SECONDS[number] * 1_000) * NANOSECONDS + 17 * (number + 1)
            rows.append(
                {
                    "conditions": [SWEEP],
                    "exchange": EXCHANGES[(bar["start_ms"] // 60_000 + number) % len(EXCHANGES)],
                    "id": str(moment // NANOSECONDS % MILLISECONDS_A_DAY),
                    "participant_timestamp": moment,
                    "price": bar[price],
                    "sequence_number": (bar["start_ms"] - midnight_of(day)) // 1_000 * 10 + number,
                    "sip_timestamp": moment + DELAY_NS,
                    "size": whole(sizes(bar["volume"])[number]),
                    "tape": tape,
                }
            )
    return rows


def sizes(volume: float) -> list[float]:
    """Return a bar's volume as that of four trades, whole shares where there are enough; their sum is exact."""
    if volume < len(SECONDS):
        return [volume / len(SECONDS)] * len(SECONDS)
    quarter = volume // len(SECONDS)
    return [quarter, quarter, quarter, volume - 3 * quarter]


def whole(number: float) -> float:
    """Return a whole number as one, as the vendor writes it."""
    return int(number) if number.is_integer() else number


def midnight_of(day: pd.Timestamp) -> int:
    """Return midnight in New York in Unix milliseconds."""
    return int(day.tz_localize(NEW_YORK).value // NANOSECONDS)


def trades_ask(request: Request) -> Ask:
    """Read the window: `timestamp` as a day or nanoseconds, or its bounds .gte, .gt, .lte, .lt."""
    ask = listing(request, "trades")
    if "from_ns" in ask.parameters:
        low, high = int(ask.parameters["from_ns"]), int(ask.parameters["to_ns"])
    else:
        low, high = _bounds(ask)
    days = [pd.Timestamp(moment, unit="ns", tz=NEW_YORK).date() for moment in (low, min(high, 2**62))]
    parameters = {**ask.parameters, "from_ns": str(low), "to_ns": str(high)}
    return replace(ask, first=days[0], last=days[1], parameters=parameters)


def _bounds(ask: Ask) -> tuple[int, int]:
    wanted = ask.parameters
    low, high = 0, 2**62
    for name, text in wanted.items():
        field, _, bound = name.partition(".")
        if field != "timestamp":
            continue
        start, stop = _span(text)
        match bound:
            case "":
                low, high = start, stop if len(text) == len("2024-01-01") else start
            case "gte":
                low = start
            case "gt":
                low = stop + 1
            case "lte":
                high = stop
            case "lt":
                high = start - 1
    return low, high


def _span(text: str) -> tuple[int, int]:
    """Return the first and last nanosecond of a moment: of a day in New York, or the one nanosecond."""
    if text.isdigit():
        return int(text), int(text)
    day = day_of(text, "timestamp")
    return midnight(day) * NANOSECONDS, (midnight(day) + MILLISECONDS_A_DAY) * NANOSECONDS - 1
