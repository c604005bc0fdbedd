"""The simulated live feed, asked with a plain WebSocket client."""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator
from datetime import date
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError

from tests.simulator.client import KEY, get, small_market
from tickstock_assets.simulator import Fault, Pace, Plan, Simulator, Vendor

# A half day: 14:30 to 18:00 UTC, 210 minutes.
DAY = date(2022, 11, 25)
PACE = Pace(DAY, speed=6_000)


@contextlib.asynccontextmanager
async def joined(simulator: Simulator, *subscriptions: str, **settings: Any) -> AsyncIterator[ClientConnection]:
    async with connect(f"{simulator.stream_url}/stocks", **settings) as feed:
        assert json.loads(await feed.recv()) == [
            {"ev": "status", "status": "connected", "message": "Connected Successfully"}
        ]
        await feed.send(json.dumps({"action": "auth", "params": KEY}))
        assert json.loads(await feed.recv()) == [{"ev": "status", "status": "auth_success", "message": "authenticated"}]
        await feed.send(json.dumps({"action": "subscribe", "params": ",".join(subscriptions)}))
        yield feed


async def events_of_the_day(simulator: Simulator, *subscriptions: str, last_minute: str) -> list[dict[str, Any]]:
    """Return events until the bar of the last minute of the day is told."""
    events: list[dict[str, Any]] = []
    end = DAY.strftime(f"%Y-%m-%dT{last_minute}")
    async with joined(simulator, *subscriptions) as feed, asyncio.timeout(60):
        while not any(event["ev"] == "AM" and event["s"] == _ms(end) for event in events):
            events += json.loads(await feed.recv())
    return events


def _ms(moment: str) -> int:
    from datetime import datetime

    return int(datetime.fromisoformat(f"{moment}:00+00:00").timestamp() * 1000)


def test_the_events_of_a_day_are_what_rest_has_of_it() -> None:
    with Simulator(small_market(), pace=PACE) as simulator:
        events = asyncio.run(events_of_the_day(simulator, "T.S0001", "AM.S0001", last_minute="17:59"))
        trades = get(simulator, "/v3/trades/S0001", order="asc", limit="50000", timestamp=str(DAY)).json()["results"]
        bars = get(simulator, f"/v2/aggs/ticker/S0001/range/1/minute/{DAY}/{DAY}", adjusted="false").json()["results"]
    # Time begins with the subscription, and the last message may reach into the next session, with trades and minutes.
    close = _ms(f"{DAY}T18:00")
    told = [event for event in events if event["ev"] == "T" and event["t"] < close]
    assert len(trades) == 4 * 210
    assert told == [
        {
            "ev": "T", "sym": "S0001", "x": row["exchange"], "i": row["id"], "z": row["tape"], "p": row["price"],
            "s": row["size"], "c": row["conditions"], "t": row["sip_timestamp"] // 1_000_000, "q": row["sequence_number"],
        }
        for row in trades
    ]  # fmt: skip
    minutes = {event["s"]: event for event in events if event["ev"] == "AM" and event["s"] < close}
    assert len(minutes) == 210
    assert all(minutes[bar["t"]][name] == bar[name] for bar in bars for name in ("o", "h", "l", "c", "v", "vw"))
    assert [event["s"] for event in events if event["ev"] == "AM" and event["s"] < close] == sorted(minutes)


async def statuses(simulator: Simulator, *subscriptions: str) -> list[tuple[str, str]]:
    async with joined(simulator, *subscriptions) as feed, asyncio.timeout(30):
        return [
            (event["status"], event["message"])
            for _ in subscriptions
            for event in json.loads(await feed.recv())
            if event["ev"] == "status"
        ]


def test_a_plan_without_trades_does_not_get_them_and_nonsense_is_no_subscription() -> None:
    with Simulator(small_market(), {Vendor.POLYGON: Plan(trades=False)}) as simulator:
        said = asyncio.run(statuses(simulator, "T.S0001", "AM.S0001", "nonsense"))
    assert said == [
        ("error", "not authorized to access T.S0001"),
        ("success", "subscribed to: AM.S0001"),
        ("error", "invalid subscription: nonsense"),
    ]


async def refusal(simulator: Simulator, key: str) -> dict[str, Any]:
    async with connect(f"{simulator.stream_url}/stocks") as feed, asyncio.timeout(30):
        await feed.recv()
        await feed.send(json.dumps({"action": "auth", "params": key}))
        [event] = json.loads(await feed.recv())
        with pytest.raises(ConnectionClosed):
            await feed.recv()
        refused: dict[str, Any] = event
        return refused


def test_an_unknown_key_is_refused_and_the_connection_ends() -> None:
    with Simulator(small_market(), {Vendor.POLYGON: Plan(keys=frozenset({KEY}))}) as simulator:
        refused = asyncio.run(refusal(simulator, "another"))
    assert refused == {"ev": "status", "status": "auth_failed", "message": "authentication failed"}


async def moments_until_cut(feed: ClientConnection) -> list[int]:
    moments: list[int] = []
    try:
        while True:
            moments += [event["t"] for event in json.loads(await feed.recv()) if event["ev"] == "T"]
    except ConnectionClosedError:
        return moments


def test_a_cut_is_recorded_and_what_happens_meanwhile_is_not_told_later() -> None:
    async def cut_then_again(simulator: Simulator) -> tuple[int, int]:
        async with joined(simulator, "T.S0001") as feed:
            last = max(await moments_until_cut(feed))
        await asyncio.sleep(0.1)  # ten minutes of the market
        async with joined(simulator, "T.S0001") as feed, asyncio.timeout(30):
            while True:
                if moments := [event["t"] for event in json.loads(await feed.recv()) if event["ev"] == "T"]:
                    return last, min(moments)

    with Simulator(small_market(), pace=PACE) as simulator:
        simulator.script(Fault.CUT, route="live", skip=5)
        last, first = asyncio.run(cut_then_again(simulator))
    assert first - last > 300_000
    assert simulator.record.fired == {Fault.CUT: 1}


def test_who_does_not_read_is_dropped() -> None:
    async def stand_still(simulator: Simulator) -> None:
        # Into the buffers of ordinary sockets, and compressed, all of it would fit.
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        narrow.connect(("127.0.0.1", int(simulator.stream_url.rpartition(":")[2])))
        wanted = [f"T.S000{number}" for number in range(1, 6)]
        async with joined(simulator, *wanted, compression=None, sock=narrow, close_timeout=0.1):
            deadline = time.monotonic() + 60
            while not simulator.record.fired and time.monotonic() < deadline:
                await asyncio.sleep(0.05)

    with Simulator(small_market(), pace=Pace(DAY, speed=12_000, patience_seconds=0.2)) as simulator:
        assert simulator._socket is not None
        simulator._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        asyncio.run(stand_still(simulator))
    assert simulator.record.fired == {Fault.SLOW: 1}
