"""`tickstock quarantine`: rejected rows, to be looked at and to be let pass."""

import getpass
from typing import Annotated

import rich.box
import typer
from rich.table import Table

from tickstock_assets.cli.app import JsonOption, app, console, print_json
from tickstock_assets.cli.database import engine
from tickstock_assets.domain.errors import ConfigError

quarantine = typer.Typer(help="Rejected rows: which there are, and letting one pass.", no_args_is_help=True)
app.add_typer(quarantine, name="quarantine")


@quarantine.command("list")
def list_rejects(
    symbol: Annotated[list[str] | None, typer.Option(help="Only of this symbol; may be repeated.")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show the rows that broke a rule: which, why, and the id by which to release one."""
    from tickstock_assets.storage.quarantine import rejects

    with engine().connect() as connection:
        found = rejects(connection, symbol)
    if as_json:
        print_json([vars(reject) for reject in found])
        return
    table = Table("id", "symbol", "date", "rule", "reason", "source", "released by", box=rich.box.SIMPLE_HEAD)
    for reject in found:
        table.add_row(
            reject.id,
            reject.symbol or "",
            f"{reject.timestamp:%Y-%m-%d %H:%M:%S}" if reject.timestamp else str(reject.date or ""),
            reject.rule,
            reject.reason,
            reject.source,
            reject.released_by or "",
        )
    console.print(table if found else "Nothing is in quarantine.")


@quarantine.command()
def release(
    reject_id: Annotated[str, typer.Argument(metavar="ID", help="As `tickstock quarantine list` shows it.")],
    reason: Annotated[str, typer.Option(help="Why this row is right; it stays with the row and in the audit trail.")],
    by: Annotated[str | None, typer.Option(help="Who says so; your user name unless given.")] = None,
) -> None:
    """Let one of several contradicting bars of a day, or of a minute, pass; the next load of its day stores it.

    A row that the table of bars itself would refuse, such as one whose high is below its low, cannot be released: have
    the provider correct it.
    """
    from tickstock_assets.storage import audit
    from tickstock_assets.storage.quarantine import release as release_row
    from tickstock_assets.storage.retry import in_transaction

    if not reason.strip():
        raise ConfigError("--reason: expected why the row is right, found nothing; say it")
    author = by or getpass.getuser()
    run = audit.Run(author, correlation_id="")
    released = in_transaction(
        engine(), lambda connection: release_row(connection, reject_id, author, reason.strip()), run
    )
    timeframe = "minute" if released.timestamp else "day"
    console.print(
        f"Released {released.name}. To store it: tickstock load --symbols {released.symbol} --timeframe {timeframe} "
        f"--start {released.date} --end {released.date}",
        soft_wrap=True,
    )
