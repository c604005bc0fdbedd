"""The HTTP server: addresses, keys, budgets, failures; what is answered is the vendors' modules'."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from types import TracebackType
from typing import Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from tickstock_assets.simulator import alpha_vantage_api, flat_files, polygon_api
from tickstock_assets.simulator.asks import Answer, Ask, Endpoint, Reason, Refused, Vendor
from tickstock_assets.simulator.bar_service import BarService, Notes
from tickstock_assets.simulator.fault_play import FaultPlay, Scripted
from tickstock_assets.simulator.faults import Fault, Faults
from tickstock_assets.simulator.market import Market
from tickstock_assets.simulator.plans import Meter, Plan
from tickstock_assets.simulator.polygon_actions import PolygonActions
from tickstock_assets.simulator.polygon_bars import PolygonBars
from tickstock_assets.simulator.polygon_reference import PolygonReference
from tickstock_assets.simulator.polygon_stream import PATH, LiveFeed, Pace
from tickstock_assets.simulator.polygon_trades import PolygonTrades
from tickstock_assets.simulator.records import Record, fingerprint

LOOPBACK = "127.0.0.1"
SECONDS_TO_STOP = 10


@dataclass(frozen=True)
class Interface:
    """What differs between vendors before the answer: where the key is, and how they refuse."""

    key_of: Callable[[Request], str | None]
    refusal: Callable[[Reason, str | None], Answer]


INTERFACES = {
    Vendor.POLYGON: Interface(polygon_api.key_of, polygon_api.refusal),
    Vendor.ALPHA_VANTAGE: Interface(alpha_vantage_api.key_of, alpha_vantage_api.refusal),
    Vendor.FLAT_FILES: Interface(flat_files.key_of, flat_files.refusal),
}
REASONS = {
    Fault.TOO_MANY_REQUESTS: Reason.TOO_MANY_REQUESTS,
    Fault.TOO_MANY_REQUESTS_WITH_TIME: Reason.TOO_MANY_REQUESTS,
    Fault.SERVER_ERROR: Reason.SERVER_ERROR,
    Fault.ERROR_IN_200: Reason.ERROR_IN_200,
    Fault.EXPIRED_KEY: Reason.UNKNOWN_KEY,
}


class Simulator:
    """Serves a market; in tests `with Simulator(market) as simulator: ... simulator.url ...`.

    Attributes:
        market: what is served, and what a client should have in the end.
        record: calls, wrong rows, faults that fired, counts by key.
        live: the live feed.
        crashes: mistakes of the simulator's own; leaving `with` raises the first.
        url: the address, while it serves.
    """

    def __init__(
        self,
        market: Market | None = None,
        plans: Mapping[Vendor, Plan] | None = None,
        faults: Faults | None = None,
        *,
        latency_seconds: float = 0.0,
        today: date | None = None,
        pace: Pace | None = None,
    ) -> None:
        """Prepare a server.

        Args:
            market: by default the sample data.
            plans: by vendor; a vendor without one allows everything to anyone.
            faults: none by default; `script` orders single ones.
            latency_seconds: added to every answer.
            today: what the vendors take for today, by default the clock's day (UTC).
            pace: how time goes by in the live feed.
        """
        self.market = market or Market()
        self.plans = {vendor: (plans or {}).get(vendor, Plan()) for vendor in Vendor}
        self.record = Record()
        self.crashes: list[Exception] = []
        self.latency_seconds = latency_seconds
        self._today = today
        self._play = FaultPlay(faults or Faults())
        self._service = BarService(self.market, self._play, self.record)
        self.live = LiveFeed(self.market, self.plans[Vendor.POLYGON], self._play, self.record, pace or Pace())
        self._renewed: dict[Vendor, int] = {}
        self._socket: socket.socket | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._port = 0

    # --- for tests

    @property
    def url(self) -> str:
        """The address without a path and without a slash at the end."""
        return f"http://{LOOPBACK}:{self._port}"

    @property
    def stream_url(self) -> str:
        """The address of the live feed, as the setting has it."""
        return f"ws://{LOOPBACK}:{self._port}"

    def script(
        self,
        fault: Fault,
        *,
        vendor: Vendor | None = None,
        route: str | None = None,
        symbol: str | None = None,
        page: int | None = None,
        skip: int = 0,
        times: int = 1,
    ) -> None:
        """Order a fault for the next calls that match, after `skip` that go well; see `Scripted`."""
        self._play.scripts.append(Scripted(fault, vendor, route, symbol, page, skip, times))

    def renew_key(self, vendor: Vendor) -> None:
        """Make an expired key valid for good."""
        self._renewed[vendor] = len(self.record.calls)

    def usage(self, vendor: Vendor, key: str) -> Meter:
        """Return what a key has used; all zero when it never came."""
        return self.record.meters.get((vendor, fingerprint(key))) or Meter(self.plans[vendor])

    def today(self) -> date:
        """Return what the vendors take for today."""
        return self._today or datetime.now(UTC).date()

    # --- running

    def __enter__(self) -> Self:
        self.listen()
        self._thread = threading.Thread(target=self.serve, name="simulator", daemon=True)
        self._thread.start()
        while not (self._server and self._server.started) and self._thread.is_alive():
            time.sleep(0.001)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None  # noqa: S101 set by __enter__
        assert self._thread is not None  # noqa: S101
        self._server.should_exit = True
        self._thread.join(SECONDS_TO_STOP)
        if self.crashes and error is None:
            raise RuntimeError("the simulator crashed while it answered") from self.crashes[0]

    def listen(self, port: int = 0) -> None:
        """Take a port, by default any that is free; OSError when it is taken."""
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((LOOPBACK, port))
        except OSError:
            self._socket.close()
            raise
        self._socket.listen(128)
        self._port = self._socket.getsockname()[1]

    def serve(self) -> None:
        """Serve until told to stop, by `with` or by Ctrl-C."""
        assert self._socket is not None  # noqa: S101 listen() comes first
        config = uvicorn.Config(
            self.application(),
            log_config=None,
            log_level="critical",
            access_log=False,
            lifespan="off",
            ws="websockets-sansio",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._server.run(sockets=[self._socket])

    # --- answering

    def application(self) -> Starlette:
        """Return the ASGI application."""
        polygon, alpha_vantage, files = (self.plans[vendor] for vendor in Vendor)
        by_vendor: dict[Vendor, list[Endpoint]] = {
            Vendor.POLYGON: [
                *PolygonBars(self._service, polygon).endpoints(),
                *PolygonTrades(self._service, polygon).endpoints(),
                *PolygonActions(self.market).endpoints(),
                *PolygonReference(self.market, self.today).endpoints(),
            ],
            Vendor.ALPHA_VANTAGE: alpha_vantage_api.AlphaVantage(self._service, alpha_vantage).endpoints(),
            Vendor.FLAT_FILES: flat_files.FlatFiles(self._service, files).endpoints(),
        }
        routes = [
            Route(endpoint.path, self._handler(vendor, endpoint), methods=["GET", "HEAD"])
            for vendor, endpoints in by_vendor.items()
            for endpoint in endpoints
        ]
        return Starlette(
            routes=[
                *routes,
                WebSocketRoute(PATH, self._live),
                Route("/simulator/calls", self._calls),
                Route("/simulator/stats", self._statistics),
                Route("/simulator/wrong_rows", self._wrong_rows),
            ]
        )

    def _handler(self, vendor: Vendor, endpoint: Endpoint) -> Callable[[Request], "asyncio.Future[Response]"]:
        async def handle(request: Request) -> Response:
            try:
                return await self._handle(vendor, endpoint, request)
            except Exception as error:
                # Otherwise a mistake of ours would pass for a 500 of the vendor.
                self.crashes.append(error)
                raise

        return handle  # type: ignore[return-value]

    async def _live(self, socket: WebSocket) -> None:
        try:
            await self.live.serve(socket)
        except Exception as error:
            self.crashes.append(error)
            raise

    async def _handle(self, vendor: Vendor, endpoint: Endpoint, request: Request) -> Response:
        key = INTERFACES[vendor].key_of(request)
        self._service.notes = Notes()
        answer, ask, failure = self._answer(vendor, endpoint, request, key)
        notes = self._service.notes
        if failure:
            notes.faults.append(failure)
        self.record.add(ask, answer.status, key, notes.rows, tuple(dict.fromkeys(notes.faults)))
        delay = self.latency_seconds + (self._play.faults.slow_seconds if failure is Fault.SLOW else 0)
        if delay:
            await asyncio.sleep(delay)
        if failure is Fault.CUT:
            return CutResponse(answer)
        return Response(answer.body, answer.status, dict(answer.headers), answer.media_type)

    def _answer(
        self, vendor: Vendor, endpoint: Endpoint, request: Request, key: str | None
    ) -> tuple[Answer, Ask, Fault | None]:
        """Return what to say, what was asked, and the failure to say it with."""
        ask = Ask(vendor, "")
        try:
            ask = endpoint.ask(request)
            refused, failure = self._refusal(vendor, key, ask)
            if refused:
                return refused, ask, failure
            mangled = failure in (Fault.CUT, Fault.TRUNCATED_JSON)
            self._play.muted = mangled
            answer = endpoint.answer(ask)
        except Refused as refused_by_vendor:
            return refused_by_vendor.answer, ask, None
        finally:
            self._play.muted = False
        if failure is Fault.TRUNCATED_JSON:
            # Valid HTTP: the length is that of what is there.
            answer = Answer(answer.status, answer.body[: len(answer.body) * 3 // 5], answer.media_type, answer.headers)
        return answer, ask, failure

    def _refusal(self, vendor: Vendor, key: str | None, ask: Ask) -> tuple[Answer | None, Fault | None]:
        """Return a refusal that needs no look at the market, and the failure that is due."""
        plan, refuse = self.plans[vendor], INTERFACES[vendor].refusal
        meter = self.record.meters.setdefault((vendor, fingerprint(key)), Meter(plan))
        over_budget = meter.count()
        expired = plan.expires_after is not None and meter.calls > plan.expires_after and vendor not in self._renewed
        if expired:
            return refuse(Reason.UNKNOWN_KEY, key), Fault.EXPIRED_KEY
        if (plan.keys is not None and key not in plan.keys) or (not key and vendor is not Vendor.FLAT_FILES):
            return refuse(Reason.UNKNOWN_KEY, key), None
        if over_budget:
            return refuse(over_budget, key), None
        failure = self._play.failure(ask)
        if failure not in REASONS:
            return None, failure
        answer = refuse(REASONS[failure], key)
        if failure is Fault.TOO_MANY_REQUESTS_WITH_TIME:
            seconds = str(self._play.faults.retry_after_seconds)
            answer = Answer(answer.status, answer.body, answer.media_type, {"Retry-After": seconds})
        return answer, failure

    # --- looking on

    async def _calls(self, request: Request) -> Response:
        return JSONResponse(self.record.calls_as_json(int(request.query_params.get("after", "0"))))

    async def _statistics(self, _request: Request) -> Response:
        return JSONResponse(self.record.statistics())

    async def _wrong_rows(self, _request: Request) -> Response:
        return Response(json.dumps(self.record.wrong_rows_as_json()), media_type="application/json")


class CutResponse(Response):
    """Announces a whole body, sends half of it and closes the connection."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.body, answer.status, dict(answer.headers), answer.media_type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send what is sent; the server closes the connection of an answer that ends too early."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body[: len(self.body) // 2], "more_body": True})
