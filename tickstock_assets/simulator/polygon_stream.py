"""Polygon's live feed: the market's trades and minute bars by WebSocket, as time goes by in it.

Time in the simulated market starts with the first subscription, at the open of a session, and runs through sessions without
the nights between them. It goes on while nobody listens: who comes back has missed something.

Source:
    Massive (Polygon), WebSocket documentation: quickstart; stocks, trades (T) and aggregates per minute (AM).
"""

import asyncio
import bisect
import contextlib
import functools
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from tickstock_assets.simulator.asks import Ask, Vendor
from tickstock_assets.simulator.bars import Bars, Row
from tickstock_assets.simulator.calendar import sessions_between
from tickstock_assets.simulator.fault_play import FaultPlay
from tickstock_assets.simulator.faults import Fault
from tickstock_assets.simulator.market import Market
from tickstock_assets.simulator.plans import Plan
from tickstock_assets.simulator.polygon_trades import trades_of, whole
from tickstock_assets.simulator.records import Record

PATH, ROUTE = "/stocks", "live"
MINUTE_MS, NANOSECONDS = 60_000, 1_000_000
# How often what has happened is sent, and how many events a message has at most.
TICK_SECONDS, MOST_EVENTS = 0.02, 500
# Codes of WebSocket: the vendor ends it, something went wrong, the client does not keep up.
GOING_AWAY, BROKEN, TOO_SLOW = 1001, 1011, 1008

type Event = tuple[int, str, dict[str, Any]]


@dataclass(frozen=True)
class Pace:
    """How time goes by in the simulated market.

    Attributes:
        first_day: its first session; None for the first there is.
        speed: seconds of it in one of ours.
        patience_seconds: how long a client may take for a message before he is dropped.
    """

    first_day: date | None = None
    speed: float = 1.0
    patience_seconds: float = 5.0


class LiveFeed:
    """Serves the feed to any number of clients; `sent` counts events."""

    def __init__(self, market: Market, plan: Plan, play: FaultPlay, record: Record, pace: Pace) -> None:
        self.market, self.plan, self.play, self.record, self.pace = market, plan, play, record, pace
        self._started: float | None = None
        self.sent = 0
        self.day_events = functools.lru_cache(maxsize=64)(self._make_day_events)

    # --- what happens when

    @functools.cached_property
    def hours(self) -> list[tuple[int, int]]:
        """Begin and end of each session in Unix milliseconds; at its end the last minute is told."""
        sessions = self.market.sessions()
        first = self.pace.first_day or sessions[0]
        found = sessions_between(max(first, sessions[0]), sessions[-1])
        if self.market.extended_hours:
            found = found.assign(open=found["extended_open"], close=found["extended_close"])
        moments = [found[name].astype("datetime64[ms, UTC]").astype("int64").tolist() for name in ("open", "close")]
        return [(begin, end + MINUTE_MS) for begin, end in zip(*moments, strict=True)]

    def now_ms(self) -> int:
        """Return the present of the market; time starts when this is first asked."""
        now = time.monotonic()
        if self._started is None:
            # Of the same look at the clock, or a fast market would have begun seconds ago.
            self._started = now
        passed = int((now - self._started) * self.pace.speed * 1000)
        for begin, end in self.hours:
            if passed < end - begin:
                return begin + passed
            passed -= end - begin
        return self.hours[-1][1]

    def events(self, subscriptions: Sequence[str], after_ms: int, until_ms: int) -> list[Event]:
        """Return what happened after one moment and until another, in its order: moment, subscription, event."""
        found: list[Event] = []
        for begin, end in self.hours:
            if begin <= until_ms and after_ms < end:
                for subscription in subscriptions:
                    events = self.day_events(subscription, begin)
                    first = bisect.bisect_right(events, after_ms, key=lambda event: event[0])
                    found += events[first : bisect.bisect_right(events, until_ms, key=lambda event: event[0])]
        return sorted(found, key=lambda event: event[0])

    def _make_day_events(self, subscription: str, begin_ms: int) -> list[Event]:
        channel, _, ticker = subscription.partition(".")
        day = Bars("", np.array([begin_ms]), {}).days()[0].date()
        parts = [bars.cut(first, after) for bars, first, after in self.market.window(ticker, "1m", day, day)]
        if channel == "T":
            rows = [row for part in parts for row in trades_of(part)]
            return [(row["sip_timestamp"] // NANOSECONDS, subscription, trade(ticker, row)) for row in rows]
        rows = [row for part in parts for row in part.rows()]
        volumes = np.cumsum([row["volume"] for row in rows]).tolist()
        opened = rows[0]["open"] if rows else 0
        return [
            (row["start_ms"] + MINUTE_MS, subscription, minute(row, opened, so_far))
            for row, so_far in zip(rows, volumes, strict=True)
        ]

    # --- serving

    async def serve(self, socket: WebSocket) -> None:
        """Serve one connection until either side ends it."""
        await socket.accept()
        await say(socket, "connected", "Connected Successfully")
        sent, key = 0, None
        faults: tuple[Fault, ...] = ()
        try:
            key = await self._authenticated(socket)
            if key is not None:
                sent, faults = await self._send_events(socket)
        except WebSocketDisconnect:
            pass
        finally:
            self.record.add(self._ask(), 101, key, sent, faults)

    async def _authenticated(self, socket: WebSocket) -> str | None:
        """Return the key of a client that gave a good one; otherwise the connection is closed."""
        message = json.loads(await socket.receive_text())
        key = str(message.get("params", ""))
        is_known = key and (self.plan.keys is None or key in self.plan.keys)
        if message.get("action") != "auth" or not is_known or self.play.failure(self._ask("auth")) is Fault.EXPIRED_KEY:
            await say(socket, "auth_failed", "authentication failed")
            await socket.close(GOING_AWAY)
            return None
        await say(socket, "auth_success", "authenticated")
        return key

    async def _send_events(self, socket: WebSocket) -> tuple[int, tuple[Fault, ...]]:
        """Send what happens to what the client has subscribed to; return how many events, and the fault that ended it."""
        subscriptions: set[str] = set()
        asked = asyncio.create_task(socket.receive_text())
        since, sent = 0, 0
        try:
            while True:
                await asyncio.wait([asked], timeout=TICK_SECONDS)
                if asked.done():
                    since = since if subscriptions else self.now_ms()
                    await self._subscribe(socket, json.loads(asked.result()), subscriptions)
                    asked = asyncio.create_task(socket.receive_text())
                if not subscriptions:
                    continue
                now = self.now_ms()
                happened = [event for _, _, event in self.events(sorted(subscriptions), since, now)]
                since = now
                for first in range(0, len(happened), MOST_EVENTS):
                    message = happened[first : first + MOST_EVENTS]
                    if self.play.failure(self._ask()) is Fault.CUT:
                        await socket.close(BROKEN)
                        return sent, (Fault.CUT,)
                    try:
                        async with asyncio.timeout(self.pace.patience_seconds):
                            await socket.send_text(json.dumps(message, separators=(",", ":")))
                    except TimeoutError:
                        # A goodbye would have to wait for the same client.
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(TICK_SECONDS):
                                await socket.close(TOO_SLOW)
                        return sent, (Fault.SLOW,)
                    sent += len(message)
                    self.sent += len(message)
        finally:
            asked.cancel()
            with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect):
                await asked

    async def _subscribe(self, socket: WebSocket, message: dict[str, Any], subscriptions: set[str]) -> None:
        names = [name.strip() for name in str(message.get("params", "")).split(",")]
        for name in names:
            channel, _, ticker = name.partition(".")
            allowed = {"T": self.plan.trades, "AM": self.plan.minutes}.get(channel)
            if allowed is None or not ticker:
                await say(socket, "error", f"invalid subscription: {name}")
            elif not allowed:
                await say(socket, "error", f"not authorized to access {name}")
            elif message.get("action") == "subscribe":
                subscriptions.add(name)
                await say(socket, "success", f"subscribed to: {name}")
            else:
                subscriptions.discard(name)
                await say(socket, "success", f"unsubscribed to: {name}")

    def _ask(self, what: str = "") -> Ask:
        return Ask(Vendor.POLYGON, f"{ROUTE}_{what}" if what else ROUTE)


async def say(socket: WebSocket, status: str, message: str) -> None:
    """Send a status."""
    await socket.send_text(json.dumps([{"ev": "status", "status": status, "message": message}]))


def trade(ticker: str, row: Row) -> dict[str, Any]:
    """Return a trade, as REST has it, as an event; its moment in milliseconds."""
    size = row["size"]
    fraction = {} if isinstance(size, int) else {"ds": str(size)}
    return {
        "ev": "T",
        "sym": ticker,
        "x": row["exchange"],
        "i": row["id"],
        "z": row["tape"],
        "p": row["price"],
        "s": int(size),
        **fraction,
        "c": row["conditions"],
        "t": row["sip_timestamp"] // NANOSECONDS,
        "q": row["sequence_number"],
    }


def minute(row: Row, opened: float, volume_so_far: float) -> dict[str, Any]:
    """Return a minute bar as an event; `opened` is the day's first price."""
    return {
        "ev": "AM",
        "sym": row["symbol"],
        "v": whole(row["volume"]),
        "av": whole(volume_so_far),
        "op": opened,
        "vw": row["vwap"],
        "o": row["open"],
        "c": row["close"],
        "h": row["high"],
        "l": row["low"],
        "a": row["vwap"],
        "z": int(row["volume"] / max(row["trades_count"], 1)),
        "s": row["start_ms"],
        "e": row["start_ms"] + MINUTE_MS,
    }
