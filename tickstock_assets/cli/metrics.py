"""`tickstock metrics`: what Prometheus asks for."""

import sys
from typing import Annotated

import typer
from rich.markup import escape

from tickstock_assets.cli.app import app, console
from tickstock_assets.cli.listening import LOOPBACK, listener, url
from tickstock_assets.settings import settings

# Beside those of Prometheus' own exporters.
PORT = 9464


@app.command()
def metrics(
    *,
    host: Annotated[
        str, typer.Option(help="Address to listen on. There is no login: open it only to whoever may read.")
    ] = LOOPBACK,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any that is free.")] = PORT,
    once: Annotated[bool, typer.Option("--once", help="Print them and end, without listening.")] = False,
) -> None:
    """Serve metrics for Prometheus at /metrics, and how the database is at /health/db (200 or 503). Ctrl-C stops it."""
    from tickstock_assets.metrics.exporter import Exporter

    exporter = Exporter(settings())
    if once:
        sys.stdout.write(exporter.collect().decode())
        exporter.close()
        return
    import uvicorn

    from tickstock_assets.metrics.server import application

    with listener(host, port) as listening:
        address = url(host, listening.getsockname()[1])
        console.print(f"Metrics: [bold]{escape(address)}/metrics[/], health: /health/db (Ctrl-C stops it)")
        sys.stdout.flush()
        configuration = uvicorn.Config(application(exporter), log_level="warning", access_log=False, lifespan="off")
        uvicorn.Server(configuration).run(sockets=[listening])
