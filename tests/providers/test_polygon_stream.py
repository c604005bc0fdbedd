"""The live feed over real connections to the simulator: what comes, what is missed, what is refused."""

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest
from websockets.asyncio import server
from websockets.asyncio.server import ServerConnection

from tests.simulator.client import KEY, small_market
from tickstock_assets.domain.errors import BadKeyError, NotEntitledError
from tickstock_assets.providers.polygon_messages import Message
from tickstock_assets.providers.polygon_stream import Missed, PolygonStream
from tickstock_assets.simulator import Fault, Pace, Plan, Simulator, Vendor

DAY = date(2022, 11, 25)
PACE = Pace(DAY, speed=3_000)


class Heard:
    """Collects what a feed hands over, until a condition holds."""

    def __init__(self, until: Callable[["Heard"], bool]) -> None:
        self.messages: list[Message] = []
        self.missed: list[Missed] = []
        self.until = until
        self.enough = asyncio.Event()

    async def take(self, message: Message) -> None:
        self.messages.append(message)
        if self.until(self):
            self.enough.set()

    async def miss(self, hole: Missed) -> None:
        self.missed.append(hole)

    @property
    def trades(self) -> int:
        return sum(message.trades.num_rows for message in self.messages)


async def hear(feed: PolygonStream, until: Callable[[Heard], bool] | Heard) -> Heard:
    heard = until if isinstance(until, Heard) else Heard(until)
    async with asyncio.timeout(60):
        receiving = asyncio.create_task(feed.receive(heard.take, heard.miss))
        waiting = asyncio.create_task(heard.enough.wait())
        await asyncio.wait([receiving, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not receiving.done():
            receiving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await receiving
    return heard


def feed(simulator: Simulator, **settings: object) -> PolygonStream:
    return PolygonStream(KEY, simulator.stream_url, ["S0001", "S0002"], first_wait_seconds=0.02, **settings)  # type: ignore[arg-type]


def test_trades_and_minutes_come_and_an_undisturbed_feed_misses_nothing() -> None:
    with Simulator(small_market(), pace=PACE) as simulator:
        heard = asyncio.run(hear(feed(simulator), lambda heard: heard.trades > 100))
    assert heard.missed == []
    assert {symbol for message in heard.messages for symbol in message.trades["symbol"].to_pylist()} == {
        "S0001",
        "S0002",
    }
    assert sum(len(message.minutes) for message in heard.messages) > 0


def test_a_cut_feed_comes_back_and_tells_what_may_be_missing() -> None:
    with Simulator(small_market(), pace=PACE) as simulator:
        simulator.script(Fault.CUT, route="live", skip=4)
        simulator.script(Fault.CUT, route="live", skip=12)
        stream = feed(simulator)
        heard = asyncio.run(hear(stream, lambda heard: len(heard.missed) == 2 and len(heard.messages) > 20))
    assert stream.connections == 3
    assert len(heard.missed) == 2
    spans = [(message.first, message.last) for message in heard.messages]
    for hole in heard.missed:
        assert hole.since < hole.until
        # It begins with the last event before and ends with the first after: nothing came in between.
        assert any(last == hole.since for _, last in spans)
        assert any(first == hole.until for first, _ in spans)
        assert not any(first and hole.since < first < hole.until for first, _ in spans)


def test_a_minute_from_before_the_cut_that_is_told_after_it_ends_no_hole() -> None:
    # The second connection first tells the minute that ended at 14:31, 5 s before the last trade of the first.
    minute = {"ev": "AM", "sym": "S0001", "s": _ms("14:30:00"), "e": _ms("14:31:00")}
    connections = [[[minute], [minute, _trade("14:31:40")], [_trade("14:31:50")]], [[_trade("14:31:05")]]]

    async def serve(socket: ServerConnection) -> None:
        await socket.send(json.dumps([{"ev": "status", "status": "connected"}]))
        await socket.recv()
        await socket.send(json.dumps([{"ev": "status", "status": "auth_success"}]))
        await socket.recv()
        for events in connections.pop():
            await socket.send(json.dumps(events))
        if connections:
            await socket.close(1011)
        await socket.wait_closed()

    async def main() -> Heard:
        async with server.serve(serve, "127.0.0.1", 0) as serving:
            port = next(iter(serving.sockets)).getsockname()[1]
            stream = PolygonStream(KEY, f"ws://127.0.0.1:{port}", ["S0001"], first_wait_seconds=0.02)
            return await hear(stream, lambda heard: len(heard.messages) == 4)

    [hole] = asyncio.run(main()).missed
    assert (_clock(hole.since), _clock(hole.until)) == ("14:31:05", "14:31:40")


def _ms(clock: str) -> int:
    return int(datetime.fromisoformat(f"{DAY}T{clock}+00:00").timestamp() * 1000)


def _clock(moment: datetime) -> str:
    return f"{moment:%H:%M:%S}"


def _trade(clock: str) -> dict[str, object]:
    return {"ev": "T", "sym": "S0001", "i": "1", "x": 4, "p": 10.0, "s": 100, "t": _ms(clock)}


def test_a_feed_that_is_stopped_while_it_is_cut_tells_the_hole_too() -> None:
    moments = iter(datetime(2026, 1, 2, 12, tzinfo=UTC) + timedelta(seconds=10 * i) for i in range(1000))
    with Simulator(small_market(), pace=PACE) as simulator:
        simulator.script(Fault.CUT, route="live", skip=4, times=1)
        simulator.script(Fault.EXPIRED_KEY, route="live_auth", skip=1, times=1)
        stream = feed(simulator, clock=lambda: next(moments))
        heard = Heard(lambda _: False)
        with pytest.raises(BadKeyError, match=r"found it refused \(authentication failed\); set another"):
            asyncio.run(stream.receive(heard.take, heard.miss))
    [hole] = heard.missed
    assert hole.since == heard.messages[-1].last
    # Between the cut and the end the clock was asked once.
    assert hole.until - hole.since == timedelta(seconds=10)


def test_a_vendor_that_is_not_there_is_asked_again_until_he_is(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    simulator = Simulator(small_market(), pace=PACE)

    async def come_up_late() -> PolygonStream:
        stream = PolygonStream(KEY, f"ws://127.0.0.1:{port}", ["S0001"], first_wait_seconds=0.02)
        heard = Heard(lambda heard: heard.trades > 0)
        receiving = asyncio.create_task(stream.receive(heard.take, heard.miss))
        while len(caplog.records) < 2:
            await asyncio.sleep(0.01)
        simulator.listen(port)
        serving = asyncio.create_task(asyncio.to_thread(simulator.serve))
        await asyncio.wait_for(heard.enough.wait(), 60)
        receiving.cancel()
        await asyncio.wait([receiving])
        assert simulator._server is not None
        simulator._server.should_exit = True
        await serving
        assert heard.missed == []
        return stream

    stream = asyncio.run(come_up_late())
    assert stream.connections == 1
    assert "the live feed ended (" in caplog.text
    assert "connecting again in" in caplog.text


@pytest.mark.parametrize(
    ("plan", "error", "sentence"),
    [
        (Plan(keys=frozenset({"other"})), BadKeyError, "expected a key that its live feed takes, found it refused"),
        (
            Plan(trades=False),
            NotEntitledError,
            r"found it refused \(not authorized to access T.S000[12]\); choose other",
        ),
    ],
)
def test_a_refusal_is_one_sentence_without_the_key(
    plan: Plan, error: type[Exception], sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    heard = Heard(lambda _: False)
    caplog.set_level(logging.DEBUG)
    with (
        Simulator(small_market(), {Vendor.POLYGON: plan}) as simulator,
        pytest.raises(error, match=sentence) as refused,
    ):
        asyncio.run(feed(simulator).receive(heard.take, heard.miss))
    assert KEY not in str(refused.value)
    assert not [
        record for record in caplog.records if record.name.startswith("tickstock") and KEY in record.getMessage()
    ]


def test_the_key_is_in_no_log_even_when_everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("WebSocketClient", "websockets", "websockets.client"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    with Simulator(small_market(), pace=PACE) as simulator:
        asyncio.run(hear(feed(simulator), lambda heard: heard.trades > 0))
    ours = [record for record in caplog.records if "server" not in record.name and "uvicorn" not in record.name]
    assert not [record for record in ours if KEY in record.getMessage()]


class Slow(Heard):
    """Takes its time over each message, and counts how many it has at once."""

    at_once = most = 0

    async def take(self, message: Message) -> None:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await asyncio.sleep(0.02)
        self.at_once -= 1
        await super().take(message)


def test_nothing_more_is_read_while_a_message_is_being_taken() -> None:
    slow = Slow(lambda heard: len(heard.messages) == 20)
    with Simulator(small_market(), pace=PACE) as simulator:
        asyncio.run(hear(feed(simulator), slow))
    assert slow.most == 1


def test_an_error_of_whoever_takes_the_messages_is_raised() -> None:
    async def fail(_: Message) -> None:
        raise ValueError("the buffer is broken")

    with Simulator(small_market(), pace=PACE) as simulator, pytest.raises(ValueError, match="the buffer is broken"):
        asyncio.run(feed(simulator).receive(fail, Heard(lambda _: False).miss))
