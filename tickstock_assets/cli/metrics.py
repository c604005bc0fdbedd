"""`tickstock metrics`: what Prometheus asks for."""

import socket
import sys
from typing import Annotated

import typer

from tickstock_assets.cli.app import app, console
from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.settings import settings

LOOPBACK = "127.0.0.1"
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

    with _listening(host, port) as listener:
        found = listener.getsockname()[1]
        console.print(f"Metrics: [bold]http://{host}:{found}/metrics[/], health: /health/db (Ctrl-C stops it)")
        sys.stdout.flush()
        configuration = uvicorn.Config(application(exporter), log_level="warning", access_log=False, lifespan="off")
        uvicorn.Server(configuration).run(sockets=[listener])


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        # Whoever asks while the server is still starting waits for it, and is not refused.
        listener.listen()
    except OSError as error:
        raise ConfigError(
            f"http://{host}:{port}: expected an address and port that are free, found {error.strerror}; "
            "choose another with --port"
        ) from None
    return listener
