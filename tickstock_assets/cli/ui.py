"""`tickstock ui`: Dagster's web interface and daemon on our database."""

import os
import signal
import sys
from typing import Annotated

import typer
from rich.markup import escape

from tickstock_assets.cli.app import app, console
from tickstock_assets.cli.listening import LOOPBACK, listener, url
from tickstock_assets.project_files import project_file
from tickstock_assets.settings import settings

# To use `dg dev` instead, which needs a project of its own making.
DAGSTERS_ADVICE = "ignore:Function `dev_command` is superseded"


@app.command()
def ui(
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on. There is no login: open it to others only behind a proxy that has one."
        ),
    ] = LOOPBACK,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 3000,
) -> None:
    """Open the Dagster web UI, with the daemon that runs backfills, schedules and sensors. Ctrl-C stops both."""
    from tickstock_assets.cli.database import server_url
    from tickstock_assets.defs.launching import dagster_environment
    from tickstock_assets.defs.parent_watch import UI_PROCESS
    from tickstock_assets.storage.database import require_two_databases

    # Dagster's processes would say it too, in a traceback each.
    require_two_databases(server_url(), settings().dagster_database)
    # Dagster would say in a traceback that the port is taken.
    listener(host, port).close()
    # The children of this process end with it also when it is killed.
    environment = dagster_environment(settings().home_path) | {UI_PROCESS: str(os.getpid())}
    console.print(f"Dagster web UI: [bold]{escape(url(host, port))}[/] (ready in a few seconds; Ctrl-C stops it)")
    sys.stdout.flush()
    # A script's background jobs inherit that SIGINT is ignored; Dagster's processes would then heed no signal at all.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # This process becomes Dagster's, so that a signal reaches it and nothing is left behind.
    python = [sys.executable, "-W", DAGSTERS_ADVICE]
    arguments = [
        "dagster",
        "dev",
        "--workspace",
        str(project_file("workspace.yaml")),
        "--host",
        host,
        "--port",
        str(port),
    ]
    os.execve(sys.executable, [*python, "-m", *arguments], environment)  # noqa: S606 no shell, our own interpreter
