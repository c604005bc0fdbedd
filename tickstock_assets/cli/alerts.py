"""`tickstock alerts`: what people were told of, and whether they can be told."""

import sys
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated

import rich.box
import typer
from rich.markup import escape
from rich.table import Table

from tickstock_assets.cli.app import JsonOption, app, console, print_json
from tickstock_assets.domain.errors import ConfigError, ReceiverError
from tickstock_assets.settings import settings

EXIT_NOT_TAKEN = 2

alerts = typer.Typer(help="Alerts: the last ones, and a test of who is told.", no_args_is_help=True)
app.add_typer(alerts, name="alerts")


@alerts.command("list")
def show(
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many, the newest.")] = 20,
    only_open: Annotated[bool, typer.Option("--open", help="Only what is wrong now.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the alerts that were seen last, and how sending to each receiver goes."""
    from tickstock_assets.alerting.addresses import OFF, receivers
    from tickstock_assets.alerting.delivery import wording
    from tickstock_assets.cli.database import engine
    from tickstock_assets.storage import alerts as stored

    names = [receiver.name for receiver in receivers(settings())]
    redact = wording(settings()).redact
    with engine().connect() as connection:
        newest = stored.newest(connection, limit, only_open=only_open)
        found = [replace(alert, message=redact(alert.message)) for alert in newest]
        states = [state for name, state in stored.receivers(connection).items() if name in names]
    if as_json:
        print_json({"alerts": [vars(alert) for alert in found], "receivers": [vars(state) for state in states]})
        return
    table = Table("kind", "subject", "times", "first", "last (UTC)", "resolved", box=rich.box.SIMPLE_HEAD)
    table.add_column("", overflow="fold")
    for one in found:
        resolved = f"{one.resolved_at:%m-%d %H:%M}" if one.resolved_at else ""
        times = (f"{one.first_at:%m-%d %H:%M}", f"{one.last_at:%Y-%m-%d %H:%M}")
        table.add_row(one.kind, escape(one.subject), f"{one.times:,}", *times, resolved, escape(one.message))
    console.print(table if found else "There is no alert.")
    for state in states:
        console.print(f"{state.receiver}: {state.error or _last(state.delivered_at)}", markup=False, soft_wrap=True)
    if not names:
        console.print(OFF[0].upper() + OFF[1:], markup=False, soft_wrap=True)


@alerts.command("test")
def send_test(*, as_json: JsonOption = False) -> None:
    """Send a test alert to each receiver, and say what each answered; exit code 2 when one did not take it."""
    from tickstock_assets.alerting.addresses import OFF, receivers
    from tickstock_assets.alerting.receivers import Message

    known = receivers(settings())
    if not known:
        raise ConfigError(f"{OFF[0].upper()}{OFF[1:]}; set one of them")
    line = f"This is a test, sent by a person at {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC; nothing is wrong."
    answers: dict[str, str | None] = {}
    for receiver in known:
        try:
            receiver.send(Message(str(uuid.uuid4()), "TickStock: test", [line]))
            answers[receiver.name] = None
        except ReceiverError as error:
            answers[receiver.name] = str(error)
    if as_json:
        print_json([{"receiver": name, "taken": error is None, "error": error} for name, error in answers.items()])
    else:
        for name, refusal in answers.items():
            console.print(refusal or f"{name}: taken", markup=False, soft_wrap=True)
    if any(answers.values()):
        sys.exit(EXIT_NOT_TAKEN)


def _last(delivered_at: datetime | None) -> str:
    return f"last message taken at {delivered_at:%Y-%m-%d %H:%M} UTC" if delivered_at else "no message yet"
