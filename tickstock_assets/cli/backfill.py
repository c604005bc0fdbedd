"""`tickstock backfill`: history asked for, to be loaded by Dagster's daemon; and what became of it."""

import getpass
from dataclasses import asdict
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import uuid4

import typer

from tickstock_assets.cli.app import JsonOption, app, console, errors, print_json
from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.settings import settings

if TYPE_CHECKING:
    import dagster as dg

    from tickstock_assets.storage.backfill_requests import BackfillRequest

EXIT_NOT_LOADED = 2
EXIT_LEFT = 130
LISTED = 20
ID_SHOWN = 8

backfill = typer.Typer(help="History asked for, to be loaded by Dagster's daemon.")
app.add_typer(backfill, name="backfill")

Request = Annotated[str, typer.Argument(metavar="ID", help="Of a request, or how it begins.")]


@backfill.callback(invoke_without_command=True)
def enter(
    context: typer.Context,
    *,
    symbols: Annotated[str | None, typer.Option(help="Symbols, such as AAPL,MSFT.")] = None,
    file: Annotated[Path | None, typer.Option(help="A CSV file with a column `symbol`.")] = None,
    timeframe: Annotated[str, typer.Option(help="day or minute.")] = "day",
    start: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="First day; else as far back as there is, of minutes two years."),
    ] = None,
    end: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last day; else the last session.")] = None,
    only_missing: Annotated[
        bool, typer.Option("--only-missing", help="Leave out partitions that are loaded as a whole.")
    ] = False,
    wait: Annotated[bool, typer.Option(help="Follow it until it is done; else only enter it.")] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be entered, and what it takes.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Enter a request for history, which Dagster's daemon loads (`tickstock ui` has one), and follow it.

    Ctrl-C stops following; the request goes on. Exit code 2: it was not loaded; 130: it goes on without you.

    [bold]tickstock backfill --symbols AAPL,MSFT --start 2020-01-01[/]
    """
    if context.invoked_subcommand:
        return
    from tickstock_assets.cli import backfill_orders, backfill_progress
    from tickstock_assets.defs import daemon, launching

    order = backfill_orders.order(symbols, file, timeframe, start and start.date(), end and end.date())
    wanted = order.missing() if only_missing else [order.asked]
    if not wanted:
        backfill_progress.say_nothing_missing(order.asked, as_json=as_json)
        return
    with launching.open_instance(settings().home_path) as instance:
        if dry_run:
            backfill_orders.show_plan(instance, order, wanted, as_json=as_json)
            return
        silence = daemon.why_silent(instance)
        if silence and wait:
            raise ConfigError(f"Backfill: {silence}, or enter it for later with --no-wait; nothing was entered")
        order.know(instance)
        entered = order.enter(wanted)
        if silence:
            errors.print(f"[yellow]Nothing begins yet: {silence}.[/]")
        if wait:
            _follow(instance, entered, as_json=as_json)
        else:
            backfill_progress.say(backfill_progress.look(instance, entered), as_json=as_json)


@backfill.command(name="list")
def list_requests(
    *,
    only_open: Annotated[bool, typer.Option("--open", help="Leave out those that are closed.")] = False,
    most: Annotated[int, typer.Option(min=1, help="How many, of the newest.")] = LISTED,
    as_json: JsonOption = False,
) -> None:
    """List requests, newest first, with what became of each."""
    from tickstock_assets.cli import backfill_progress
    from tickstock_assets.defs.resources import engine
    from tickstock_assets.storage import backfill_requests

    statuses = backfill_requests.OPEN if only_open else backfill_requests.STATUSES
    with engine().connect() as connection:
        found = backfill_requests.newest(connection, most, statuses)
    if as_json:
        print_json([asdict(one) for one in found])
        return
    console.print(backfill_progress.table(found) if found else "No requests.")


@backfill.command()
def show(
    request_id: Request,
    *,
    follow: Annotated[bool, typer.Option("--follow", help="Stay until it is done.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show how far a request is, its runs, and why it failed or waits."""
    from tickstock_assets.cli import backfill_progress
    from tickstock_assets.defs import launching

    request = _request(request_id)
    with launching.open_instance(settings().home_path) as instance:
        if follow:
            _follow(instance, [request.id], as_json=as_json)
        else:
            backfill_progress.say(backfill_progress.look(instance, [request.id]), as_json=as_json)


@backfill.command()
def cancel(
    request_id: Request,
    reason: Annotated[str | None, typer.Option(help="It stays with the request and in the audit trail.")] = None,
) -> None:
    """Cancel a request and stop its runs; what they have loaded stays."""
    from tickstock_assets.defs import launching
    from tickstock_assets.defs.request_runs import stop, unfinished_runs
    from tickstock_assets.defs.resources import engine
    from tickstock_assets.storage import audit, backfill_requests
    from tickstock_assets.storage.retry import in_transaction

    request = _request(request_id, is_open=True)
    said = f"cancelled by {getpass.getuser()}" + (f": {reason}" if reason else "")
    closing = partial(backfill_requests.cancel, request_id=request.id, reason=said)
    in_transaction(engine(), closing, audit.Run("tickstock backfill", str(uuid4())))
    with launching.open_instance(settings().home_path) as instance:
        n_stopped = stop(instance, unfinished_runs(instance, [request.id]))
    stopped = f"; {n_stopped:,} runs are told to stop" if n_stopped else ""
    console.print(f"Request {request.id[:ID_SHOWN]} is cancelled{stopped}. What was loaded stays.")


def _follow(instance: "dg.DagsterInstance", ids: list[str], *, as_json: bool) -> None:
    """Stay until requests are closed or a person has seen enough; exit with what became of them."""
    from tickstock_assets.cli import backfill_progress

    try:
        seen = backfill_progress.follow(instance, ids, quiet=as_json)
    except KeyboardInterrupt:
        names = " ".join(one[:ID_SHOWN] for one in ids[:1])
        errors.print(
            f"[yellow]It goes on without you. `tickstock backfill show {names} --follow` follows it, "
            f"`tickstock backfill cancel {names}` stops it, `tickstock backfill list --open` has all.[/]",
            soft_wrap=True,
        )
        raise typer.Exit(EXIT_LEFT) from None
    backfill_progress.say(seen, as_json=as_json)
    if any(one.request.status != "succeeded" for one in seen):
        raise typer.Exit(EXIT_NOT_LOADED)


def _request(beginning: str, *, is_open: bool = False) -> "BackfillRequest":
    """Return the one request whose id begins so."""
    from tickstock_assets.defs.resources import engine
    from tickstock_assets.storage import backfill_requests

    with engine().connect() as connection:
        return backfill_requests.the_one(connection, beginning, is_open=is_open)
