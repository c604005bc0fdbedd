"""Polygon's live feed: trades and minute bars by WebSocket, through the vendor's client.

The client connects once; to connect again is decided here, since what was missed in between has to be told. The key goes
into the client and nowhere else: what a library would log of messages sent is kept quiet.

Elsewhere: what a message says (polygon_messages.py), where its rows go (loading/streaming.py).
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

from polygon.exceptions import AuthError  # type: ignore[import-untyped]
from polygon.websocket import WebSocketClient  # type: ignore[import-untyped]
from pydantic import SecretStr
from websockets.exceptions import WebSocketException

from tickstock_assets.domain.errors import BadKeyError, NotEntitledError
from tickstock_assets.providers.polygon_messages import Message, read

log = logging.getLogger(__name__)
# At DEBUG the library logs every message sent, the one with the key among them.
WIRE = logging.getLogger(f"{__name__}.wire")
WIRE.setLevel(logging.INFO)

TRADES, MINUTES = "T", "AM"
GOOD = {"connected", "auth_success", "success"}
REFUSED = ("not authorized", "not entitled", "have access", "upgrade")
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 60.0
# From connecting until a subscription is confirmed.
ANSWER_SECONDS = 30.0


@dataclass(frozen=True)
class Missed:
    """Between which moments events may be missing, in the feed's own time: the last one before a cut and the next."""

    since: datetime
    until: datetime


type Take = Callable[[Message], Awaitable[None]]
type Hear = Callable[[Missed], Awaitable[None]]


class UnreachableError(ConnectionError):
    """No connection came about."""


class PolygonStream:
    """Receives over any number of connections until it is cancelled; for one event loop.

    Attributes:
        connections: how many there were.
        is_connected: whether there is one, and subscribed.
    """

    def __init__(
        self,
        key: SecretStr | str,
        url: str,
        symbols: Sequence[str],
        channels: Sequence[str] = (TRADES, MINUTES),
        *,
        first_wait_seconds: float = FIRST_WAIT_SECONDS,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Prepare to receive.

        Args:
            key: of the vendor.
            url: `wss://host` of the feed that the plan includes.
            symbols: whose events.
            channels: `T` for trades, `AM` for minute bars.
            first_wait_seconds: before connecting again; doubled each time in vain, up to a minute.
            clock: the present, UTC.
        """
        self._key = key if isinstance(key, SecretStr) else SecretStr(key)
        self._url = url
        self._subscriptions = [f"{channel}.{symbol}" for channel in channels for symbol in symbols]
        self._first_wait = self._wait = first_wait_seconds
        self._clock = clock
        self.connections, self.is_connected = 0, False
        self._last: datetime | None = None
        self._first_begun: datetime | None = None
        self._has_hole, self._cut_at = False, clock()

    async def receive(self, take: Take, missed: Hear) -> None:
        """Hand over messages with events as they come, until cancelled.

        Args:
            take: takes a message; nothing more is read before it returns.
            missed: hears what a cut connection may have lost: when events come again, or when this ends before.

        Raises:
            BadKeyError: the key is refused.
            NotEntitledError: the plan does not include what was asked for.
        """
        try:
            while True:
                reason = await self._one_connection(take, missed)
                wait = self._wait * random.uniform(0.5, 1)  # noqa: S311 so that not all come back at once
                log.warning("polygon: the live feed ended (%s); connecting again in %.1f s", reason, wait)
                await asyncio.sleep(wait)
                self._wait = min(2 * self._wait, LONGEST_WAIT_SECONDS)
        finally:
            if self._has_hole:
                # The feed's own time goes by as ours does, though it may be behind.
                await missed(self._hole(self._since() + (self._clock() - self._cut_at)))

    async def _one_connection(self, take: Take, missed: Hear) -> str:
        """Receive until the connection ends, and return why it did."""
        client = self._client()
        try:
            await self._until_closed(client, take, missed)
        except asyncio.CancelledError:
            self.is_connected = False  # and nothing was missed
            raise
        except (AuthError, WebSocketException, OSError, LookupError, TypeError, ValueError) as error:
            if isinstance(error, LookupError | TypeError | ValueError) and self.is_connected:
                raise  # of ours; before, of the client, who takes the answer to the key for what it should be
            return _reason(error)
        finally:
            if self.is_connected and not self._has_hole:
                self._has_hole, self._cut_at = True, self._clock()
            self.is_connected = False
            if client.websocket is not None:
                await client.close()
        return "closed by the vendor"

    def _client(self) -> WebSocketClient:
        address = urlsplit(self._url)
        return WebSocketClient(
            self._key.get_secret_value(),
            feed=f"{address.netloc}{address.path}".rstrip("/"),
            raw=True,
            subscriptions=self._subscriptions,
            max_reconnects=0,
            secure=address.scheme == "wss",
        )

    async def _until_closed(self, client: WebSocketClient, take: Take, missed: Hear) -> None:
        async with asyncio.timeout(ANSWER_SECONDS) as limit:

            async def hear(text: bytes | str) -> None:
                if not self.is_connected:
                    limit.reschedule(None)
                    self._begun()
                await self._hear(text, take, missed)

            await client.connect(hear, logger=WIRE, reconnect_delays=_not_again)

    def _begun(self) -> None:
        self.is_connected = True
        self.connections += 1
        self._wait = self._first_wait
        self._first_begun = self._first_begun or self._clock()

    async def _hear(self, text: bytes | str, take: Take, missed: Hear) -> None:
        try:
            message = read(text)
        except ValueError as error:
            log.warning("polygon: a message of the live feed cannot be read: %s", error)
            return
        for status, said in message.statuses:
            _heed(status, said)
        if message.first is None or message.last is None:
            return
        # A minute from before the cut may be told after it, and ends no hole.
        if self._has_hole and (self._last is None or message.last > self._last):
            is_all_later = self._last is None or message.first > self._last
            await missed(self._hole(message.first if is_all_later else message.last))
        await take(message)
        self._last = max(self._last or message.last, message.last)

    def _hole(self, until: datetime) -> Missed:
        self._has_hole = False
        return Missed(min(self._since(), until), until)

    def _since(self) -> datetime:
        """Return the moment of the last event, or when the first subscription began where none came."""
        return self._last or self._first_begun or self._clock()


def _reason(error: Exception) -> str:
    """Return why a connection ended or did not come about; BadKeyError where another would end alike."""
    match error:
        case AuthError():
            raise BadKeyError(
                f"polygon: expected a key that its live feed takes, found it refused ({error}); "
                "set another as TICKSTOCK_POLYGON_API_KEY"
            ) from None
        case TimeoutError():
            return f"no answer within {ANSWER_SECONDS:.0f} s"
        case LookupError() | TypeError() | ValueError():
            return "an answer to the key that says neither yes nor no"
        case UnreachableError():
            return str(error.__context__)
        case _:
            return str(error)


def _heed(status: str, said: str) -> None:
    if status in GOOD:
        return
    if any(words in said.lower() for words in REFUSED):
        raise NotEntitledError(
            f"polygon: expected a plan with this live feed, found it refused ({said}); choose other channels, or as "
            "TICKSTOCK_POLYGON_STREAM_URL the feed that the plan includes"
        )
    log.warning("polygon: the live feed says %s: %s", status, said)


def _not_again() -> Iterator[float]:
    """Stand for the pauses between the library's own attempts: there are none."""
    raise UnreachableError
    yield 0.0
