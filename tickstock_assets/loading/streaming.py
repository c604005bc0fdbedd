"""The live feed into the tables: trades through the buffer, minute bars by `merge`, holes as requests to load them."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow.compute as pc
from sqlalchemy import Engine, text

from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.loading.stream_minutes import StreamMinutes
from tickstock_assets.providers.polygon_messages import Message
from tickstock_assets.providers.polygon_stream import Missed, PolygonStream
from tickstock_assets.storage.tick_counts import TickCounts
from tickstock_assets.storage.ticks import TickBuffer

# How often minute bars are stored, and how long what is left is tried at the end.
STORE_SECONDS, PATIENCE_SECONDS = 1.0, 5.0


@dataclass(frozen=True)
class StreamCounts:
    """How a stream stands.

    Attributes:
        ticks: of the buffer.
        minutes_stored, minutes_rejected, minutes_waiting: minute bars.
        connections: how many there were, the present one included.
        is_connected: whether there is one now.
        holes: how many requests to load what was missed are entered.
    """

    ticks: TickCounts
    minutes_stored: int
    minutes_rejected: int
    minutes_waiting: int
    connections: int
    is_connected: bool
    holes: int


@dataclass
class Stream:
    """A feed, and where its messages go.

    Attributes:
        last: last price by symbol and its moment, UTC.
    """

    feed: PolygonStream
    buffer: TickBuffer
    minutes: StreamMinutes
    last: dict[str, tuple[float, datetime]] = field(default_factory=dict)

    async def run(
        self, stop: asyncio.Event, seconds: float | None = None, look: Callable[[], None] | None = None
    ) -> int:
        """Receive until told to stop or until the time is over; then store what there is.

        Args:
            stop: ends it.
            seconds: ends it too; None for never.
            look: called about four times a second, to show how it stands.

        Returns:
            Ticks that are left in the spill, because the database could not be reached.

        Raises:
            BadKeyError, NotEntitledError: the feed is refused.
            ConfigError: the disk takes no more trades.
            sqlalchemy.exc.DBAPIError: the database refuses.
        """
        tasks = [
            asyncio.create_task(self.feed.receive(self._take, self._missed)),
            asyncio.create_task(self._store_minutes()),
            asyncio.create_task(self._show(look)),
        ]
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([*tasks, stopped], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            left = await self._end([*tasks, stopped])
        for task in tasks:
            if not task.cancelled():
                task.result()
        self.buffer.raise_failure()
        return left

    def counts(self) -> StreamCounts:
        """Return how it stands."""
        return StreamCounts(
            self.buffer.counts(),
            self.minutes.counts.written,
            self.minutes.rejected,
            self.minutes.waiting,
            self.feed.connections,
            self.feed.is_connected,
            self.minutes.holes,
        )

    async def _take(self, message: Message) -> None:
        if message.trades.num_rows:
            # Held back while the buffer is full: the vendor then fills the socket, and drops us if it lasts.
            await asyncio.to_thread(self._acknowledge, message)
            self._remember(message)
        if len(message.minutes):
            await asyncio.to_thread(self.minutes.take, message.minutes)

    def _acknowledge(self, message: Message) -> None:
        try:
            self.buffer.put_many(message.trades)
        except OSError as error:
            # As it is, it would pass for an error of the connection.
            raise ConfigError(
                f"{self.buffer.folder}: expected to append trades there, found {error.strerror}; what was acknowledged before "
                "is kept: mend that, and start again"
            ) from error

    async def _missed(self, hole: Missed) -> None:
        self.minutes.missed(hole)

    def _remember(self, message: Message) -> None:
        trades = message.trades.filter(pc.is_valid(message.trades["price"]))
        columns = (trades[name].to_pylist() for name in ("symbol", "price", "timestamp"))
        self.last |= {symbol: (price, moment) for symbol, price, moment in zip(*columns, strict=True)}

    async def _store_minutes(self) -> None:
        while True:
            await asyncio.sleep(STORE_SECONDS)
            await asyncio.to_thread(self.minutes.store)

    async def _show(self, look: Callable[[], None] | None) -> None:
        while True:
            if look is not None:
                look()
            await asyncio.sleep(0.25)

    async def _end(self, tasks: Iterable[asyncio.Task[Any]]) -> int:
        for task in tasks:
            if not task.done():
                task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
        left = await asyncio.to_thread(self.buffer.close, PATIENCE_SECONDS)
        is_stored = False
        try:
            is_stored = await asyncio.to_thread(self.minutes.store)
        finally:
            if not is_stored:
                self.minutes.give_up()
        return left


def require_listed(engine: Engine, symbols: Sequence[str]) -> None:
    """Look that symbols are listed, since a tick of another would end in quarantine.

    Raises:
        ConfigError: one is not.
    """
    with engine.connect() as connection:
        known = set(connection.execute(text("SELECT symbol FROM symbols")).scalars())
    if unknown := [symbol for symbol in symbols if symbol not in known]:
        raise ConfigError(
            f"{unknown[0]}: expected a symbol that is listed, found none of that name; "
            f"`tickstock load --symbols {','.join(unknown)}` lists it"
        )
