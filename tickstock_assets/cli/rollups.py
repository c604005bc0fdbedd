"""`tickstock rollups` and `tickstock remove`: bars made of minutes, made anew and checked; wrong minutes taken away."""

import getpass
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import rich.box
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from tickstock_assets.cli.app import JsonOption, app, console, errors, print_json
from tickstock_assets.cli.database import engine
from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.domain.windows import Window
from tickstock_assets.settings import settings

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from tickstock_assets.storage.rollups import RollupCounts

rollups = typer.Typer(help="Bars made of minutes: make them anew, and check them.", no_args_is_help=True)
app.add_typer(rollups, name="rollups")

SymbolsOption = Annotated[str | None, typer.Option(help="Only of these symbols, such as AAPL,MSFT.")]
StartOption = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Only from this session on.")]
EndOption = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Only up to this session.")]
DIFFERENCES_SHOWN = 20
EXIT_DIFFERENT = 1
FIRST_DAY, LAST_DAY = datetime(1970, 1, 1), datetime(9999, 12, 1)  # noqa: DTZ001 days, as the options have them
MOMENT_FORMATS = ["%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%d"]


@rollups.command()
def run(
    symbols: SymbolsOption = None,
    start: StartOption = None,
    end: EndOption = None,
    *,
    record: Annotated[
        bool, typer.Option(help="Show the years whose days changed as materialized in the web UI.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Make the 5m, 15m, 1h and daily bars anew whose minutes were written to since they were made."""
    from tickstock_assets.storage.database import server_time
    from tickstock_assets.storage.rollups import roll_up_daily, roll_up_intraday

    opened = engine()
    with opened.connect() as connection:
        began = server_time(connection)
    windows = _windows(opened, symbols, start, end)
    of_days: RollupCounts | None = None
    try:
        with _progress() as progress:
            intraday = progress.add_task("5m, 15m, 1h", total=None)
            of_intraday = roll_up_intraday(
                opened, None, windows, lambda done, total: progress.update(intraday, completed=done, total=total)
            )
            daily = progress.add_task("1d", total=None)
            of_days = roll_up_daily(
                opened, None, windows, lambda done, total: progress.update(daily, completed=done, total=total)
            )
    finally:
        # Also when it is stopped: what is done by then is not done again, so the next run would not tell of it.
        if record and (of_days is None or of_days.written):
            _record(opened, began)
    if as_json:
        print_json({"intraday": asdict(of_intraday), "daily": asdict(of_days)})
        return
    _say(of_intraday, "5m, 15m, 1h")
    _say(of_days, "1d")


@rollups.command()
def verify(
    symbols: SymbolsOption = None,
    start: StartOption = None,
    end: EndOption = None,
    *,
    touched: Annotated[bool, typer.Option("--touched", help="Only what the last run made anew.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compute what rollups should say once more from the minutes, another way, and compare every value.

    The exit code is 1 when something differs. Hours that a run has yet to make anew are left out, and so are those whose minutes
    retention may have dropped.
    """
    from tickstock_assets.storage.rollups import verify as verify_rollups

    opened = engine()
    differences = verify_rollups(opened, _windows(opened, symbols, start, end), only_touched=touched)
    if as_json:
        print_json(differences.assign(timestamp=differences["timestamp"].astype(str)).to_dict("records"))
    elif differences.empty:
        console.print("Every rolled-up value is what its minutes say.")
    else:
        table = Table(*differences.columns, box=rich.box.SIMPLE_HEAD)
        for row in differences.head(DIFFERENCES_SHOWN).to_dict("records"):
            table.add_row(*("" if value is None else f"{value}".removesuffix(":00+00:00") for value in row.values()))
        console.print(table)
        console.print(
            f"{len(differences):,} values differ, {min(len(differences), DIFFERENCES_SHOWN)} shown; times are UTC."
        )
    if len(differences):
        raise typer.Exit(EXIT_DIFFERENT)


@app.command()
def remove(
    symbol: Annotated[str, typer.Argument(help="A symbol, such as AAPL.")],
    *,
    start: Annotated[
        datetime, typer.Option(formats=MOMENT_FORMATS, help="The first minute to go, UTC: 2024-07-03T13:30.")
    ],
    end: Annotated[datetime, typer.Option(formats=MOMENT_FORMATS, help="The first minute after it to stay, UTC.")],
    reason: Annotated[str, typer.Option(help="Why they are wrong; it stays in the audit trail.")],
    by: Annotated[str | None, typer.Option(help="Who says so; your user name unless given.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, only what would be done is printed.")] = False,
) -> None:
    """Remove minute bars that are wrong; as of an earlier moment they stay known, and rollups are made without them."""
    from tickstock_assets.storage import audit, bars, removal
    from tickstock_assets.storage.retry import in_transaction

    if not reason.strip():
        raise ConfigError("--reason: expected why the minutes are wrong, found nothing; say it")
    opened = engine()
    low, high = start.replace(tzinfo=UTC), end.replace(tzinfo=UTC)
    with opened.connect() as connection:
        if symbol not in bars.symbols(connection)["symbol"].tolist():
            raise ConfigError(
                f"{symbol}: expected a known symbol, found none of that name; `tickstock coverage` lists what is stored"
            )
        planned = removal.planned(connection, symbol, low, high)
    if not planned.bars or planned.first is None or planned.last is None:
        console.print(f"{symbol}: there are no minutes from {low:%Y-%m-%d %H:%M} to {high:%Y-%m-%d %H:%M} UTC.")
        return
    if not yes:
        span = f"from {planned.first:%Y-%m-%d %H:%M} to {planned.last:%Y-%m-%d %H:%M} UTC"
        console.print(f"To remove: {planned.bars:,} minutes of {symbol} {span}.\nNothing was done: add --yes to do it.")
        return
    run_of_person = audit.Run(by or getpass.getuser(), correlation_id="")
    removed = in_transaction(
        opened, lambda connection: removal.remove_minutes(connection, symbol, low, high, reason.strip()), run_of_person
    )
    console.print(
        f"Removed {removed:,} minutes of {symbol}. `tickstock rollups run` makes the bars anew that had them."
    )


def _windows(
    opened: "Engine", symbols: str | None, start: datetime | None, end: datetime | None
) -> list[Window] | None:
    """Return what the options mean, or None where they leave nothing out."""
    from tickstock_assets.cli import symbol_lists
    from tickstock_assets.storage import bars

    if symbols is None and start is None and end is None:
        return None
    if start and end and end < start:
        raise ConfigError(f"--end: expected a day on or after --start {start.date()}, found {end.date()}")
    with opened.connect() as connection:
        wanted = None if symbols is None else symbol_lists.typed(symbols)
        symbol_lists.require_known(connection, wanted)
        chosen = bars.symbols(connection)["symbol"].tolist() if wanted is None else wanted
    return [Window(symbol, (start or FIRST_DAY).date(), (end or LAST_DAY).date()) for symbol in chosen]


def _record(opened: "Engine", began: datetime) -> None:
    """Tell Dagster of the years of which a run changed days."""
    from tickstock_assets.defs.recording import record_days
    from tickstock_assets.storage.partition_counts import days_changed_since

    with opened.connect() as connection:
        changed = days_changed_since(connection, began)
    record_days(settings().home_path, changed, "tickstock rollups run")


def _progress() -> Progress:
    return Progress(
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("hours"),
        TimeRemainingColumn(), console=errors, transient=True, disable=not errors.is_terminal,
    )  # fmt: skip


def _say(counts: "RollupCounts", what: str) -> None:
    became = [
        f"{timeframe}: {of.written:,} written, {of.unchanged:,} unchanged, {of.removed:,} removed"
        for timeframe, of in counts.bars.items()
    ]
    notes = {
        "a provider's own bars kept": counts.outranked,
        "hours left as they are, as their minutes may have been dropped": counts.skipped_dropped,
        "hours not over yet": counts.under_way,
        "hours outside the calendar of sessions": counts.not_in_calendar,
    }
    said = "; ".join([*became, *(f"{number:,} {note}" for note, number in notes.items() if number)])
    console.print(f"{what}: {counts.hours:,} hours made anew in {counts.seconds:.1f} s" + (f"; {said}" if said else ""))
