"""`tickstock sessions`: an exchange's trading days, and what a person knows better than the calendar."""

import getpass
from collections.abc import Callable
from datetime import date, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import pandas as pd
import rich.box
import typer
from rich.table import Table

from tickstock_assets.cli.app import JsonOption, app, console, print_json
from tickstock_assets.cli.database import engine
from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.domain.windows import Window
from tickstock_assets.settings import settings

if TYPE_CHECKING:
    from sqlalchemy import Connection

sessions = typer.Typer(help="Trading days: which there are, and what the calendar has wrong.", no_args_is_help=True)
app.add_typer(sessions, name="sessions")

Exchange = Annotated[str, typer.Argument(metavar="EXCHANGE", help="ISO 10383 code, such as XNYS, or 24/7.")]
Day = Annotated[datetime, typer.Argument(metavar="DATE", formats=["%Y-%m-%d"], help="The session.")]
Reason = Annotated[str, typer.Option(help="Why; it stays with the session and in the audit trail.")]
Author = Annotated[str | None, typer.Option(help="Who says so; your user name unless given.")]
MONTHS_SHOWN = 1


@sessions.command("list")
def list_sessions(
    exchange: Annotated[
        str | None, typer.Argument(metavar="EXCHANGE", help="Such as XNYS; else what was changed of any exchange.")
    ] = None,
    start: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="First day.")] = None,
    end: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last day; else a month's.")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show the sessions from a day on; without --start those that somebody has changed."""
    from tickstock_assets.domain.exchanges import calendar_of
    from tickstock_assets.storage import sessions as stored

    if start is not None and exchange is None:
        raise ConfigError("--start: expected an EXCHANGE beside it, such as XNYS, found none; name it")
    if end is not None and start is None:
        raise ConfigError(f"--end: expected a --start beside it, found only {end.date()}; give the first day too")
    if start and end and end < start:
        raise ConfigError(f"--end: expected a day on or after --start {start.date()}, found {end.date()}")
    if exchange is not None:
        calendar_of(exchange)  # refuses one that there is not
    with engine().connect() as connection:
        if start is None or exchange is None:
            found = stored.overridden(connection, exchange)
        else:
            last = end or start + pd.DateOffset(months=MONTHS_SHOWN)
            found = stored.overview(connection, exchange, start.date(), last.date())
    rows: list[dict[Any, Any]] = found.astype(object).where(found.notna(), None).to_dict("records")
    if as_json:
        print_json(rows)
        return
    table = Table("exchange", "session", "open", "close", "kind", "reason", "author", box=rich.box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(
            row["exchange"],
            f"{row['session']:%Y-%m-%d %a}",
            f"{row['open']:%H:%M} UTC",
            f"{row['close']:%H:%M} UTC",
            row["kind"].replace("_", " "),
            row["override_reason"] or "",
            row["override_author"] or "",
        )
    nothing = (
        "No sessions are stored there; a load enters those of its days." if start else "Nobody has changed a session."
    )
    console.print(table if rows else nothing)


@sessions.command("close")
def close_session(exchange: Exchange, day: Day, reason: Reason, author: Author = None) -> None:
    """Say that an exchange was closed on a day: no bars are expected of it, and none is rolled up.

    [bold]tickstock sessions close XNYS 2012-10-29 --reason "Hurricane Sandy"[/]
    """
    from tickstock_assets.storage import sessions as stored

    _change(stored.close, exchange, day.date(), reason, author)
    console.print(f"{exchange} {day:%Y-%m-%d} is closed. `tickstock rollups run` takes its rolled-up bars away.")


@sessions.command("shorten")
def shorten_session(
    exchange: Exchange,
    day: Day,
    reason: Reason,
    opens: Annotated[str | None, typer.Option("--open", help="New open, HH:MM of the exchange's own clock.")] = None,
    closes: Annotated[str | None, typer.Option("--close", help="New close, HH:MM likewise.")] = None,
    *,
    author: Author = None,
) -> None:
    """Say that an exchange opened later or closed earlier than its calendar has it.

    [bold]tickstock sessions shorten XNYS 2012-12-24 --close 12:30 --reason "power failure"[/]
    """
    from tickstock_assets.storage import sessions as stored

    if opens is None and closes is None:
        raise ConfigError("Hours: expected --open or --close, such as --close 13:00, found neither; name one")
    hours = (_moment(exchange, day.date(), "--open", opens), _moment(exchange, day.date(), "--close", closes))
    _change(partial(stored.shorten, hours=hours), exchange, day.date(), reason, author)
    console.print(f"{exchange} {day:%Y-%m-%d} is shorter now. `tickstock rollups run` makes its bars anew.")


@sessions.command("restore")
def restore_session(exchange: Exchange, day: Day, reason: Reason, author: Author = None) -> None:
    """Make a session again what the calendar says."""
    from tickstock_assets.storage import sessions as stored

    _change(stored.restore, exchange, day.date(), reason, author)
    console.print(f"{exchange} {day:%Y-%m-%d} is the calendar's again. `tickstock rollups run` makes its bars anew.")


def _change(change: "Callable[..., None]", exchange: str, day: date, reason: str, author: str | None) -> None:
    """Change a session in a transaction, in the name of who says so, and tell Dagster of the bars of that day.

    Their moment is the session's open; what is computed from them follows.
    """
    from tickstock_assets.storage.audit import Run
    from tickstock_assets.storage.bars import symbols_of_day
    from tickstock_assets.storage.retry import in_transaction

    if not reason.strip():
        raise ConfigError("--reason: expected why the calendar is wrong, found nothing; say it")
    who = author or getpass.getuser()

    def make(connection: "Connection") -> None:
        change(connection, exchange=exchange, day=day, reason=reason.strip(), author=who)

    opened = engine()
    in_transaction(opened, make, Run(who, str(uuid4())))
    with opened.connect() as connection:
        symbols = symbols_of_day(connection, exchange, day)
    from tickstock_assets.defs.recording import record_days

    record_days(settings().home_path, [Window(symbol, day, day) for symbol in symbols], "tickstock sessions")


def _moment(exchange: str, day: date, option: str, clock: str | None) -> datetime | None:
    """Return when an exchange's own clock shows a time of a day."""
    from tickstock_assets.domain.exchanges import calendar_of

    if clock is None:
        return None
    try:
        time = datetime.strptime(clock, "%H:%M").time()  # noqa: DTZ007 its zone is the exchange's
    except ValueError:
        raise ConfigError(f"{option}: expected a time such as 13:00, found {clock!r}") from None
    return datetime.combine(day, time, calendar_of(exchange).tz)
