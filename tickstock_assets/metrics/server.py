"""The endpoints that monitoring asks: /metrics for Prometheus, /health/db for whoever starts and restarts things."""

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tickstock_assets.metrics.exporter import Exporter

OK, UNAVAILABLE = 200, 503
HERE = "TickStock metrics are at /metrics, how the database is at /health/db.\n"


def application(exporter: Exporter) -> Starlette:
    """Return the endpoints of an exporter. None of them takes anything from whoever asks."""

    # Functions that are not async: they wait in a thread, and the server answers others meanwhile.
    def metrics(_: Request) -> Response:
        return Response(exporter.metrics(), media_type=CONTENT_TYPE_LATEST)

    def database(_: Request) -> Response:
        found = exporter.health()
        return JSONResponse(found.as_dict(), OK if found.reachable else UNAVAILABLE)

    def index(_: Request) -> Response:
        return PlainTextResponse(HERE)

    return Starlette(routes=[Route("/", index), Route("/metrics", metrics), Route("/health/db", database)])
