"""`tickstock gaps`: bars that were expected and are not there, why, and what becomes of it."""

import getpass
import json
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any
from uuid import uuid4

import pandas as pd
import rich.box
import typer
from rich.table import Table

from tickstock_assets.cli.app import JsonOption, app, console, errors, print_json
from tickstock_assets.cli.database import engine
from tickstock_assets.domain.errors import ConfigError

ROWS_SHOWN = 50
LOADED = ("1d", "1m")


@app.command()
def gaps(
    *,
    symbols: Annotated[str | None, typer.Option(help="Only of these, such as AAPL,MSFT.")] = None,
    timeframe: Annotated[str | None, typer.Option(help="Only missing bars of a day or of a minute.")] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            "--class",
            help="Only these: holiday, half_day, halt, no_trade, provider_hole, not_yet_published, removed.",
        ),
    ] = None,
    only_open: Annotated[bool, typer.Option("--open", help="Leave out those that were filled.")] = False,
    given_up: Annotated[bool, typer.Option("--given-up", help="Only those that nobody asks for any more.")] = False,
    retry: Annotated[
        bool,
        typer.Option("--retry", help="Have those that were given up tried anew by the daemon, from the first attempt."),
    ] = False,
    find: Annotated[bool, typer.Option("--find", help="Look for gaps in all that was loaded first.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show missing bars, newest first, with the class of each and the numbers it rests on.

    [bold]tickstock gaps --symbols AAPL --class provider_hole --open[/]
    """
    from tickstock_assets.cli.symbol_lists import require_known, typed
    from tickstock_assets.domain.timeframes import timeframe as timeframe_of
    from tickstock_assets.storage import data_gaps

    wanted = typed(symbols) if symbols else None
    chosen = timeframe_of(timeframe) if timeframe else None
    if chosen not in {None, *LOADED}:
        raise ConfigError(
            f"--timeframe: expected day or minute, which are loaded, found {timeframe!r}; name one of them"
        )
    kinds = _classes(classes)
    opened = engine()
    with opened.connect() as connection:
        require_known(connection, wanted)
    if retry:
        _retry(wanted, chosen, kinds)
    if find:
        _find(wanted, [chosen] if chosen else LOADED)
    with opened.connect() as connection:
        limit = None if as_json else ROWS_SHOWN
        found = data_gaps.gaps(
            connection, symbols=wanted, timeframe=chosen, classes=kinds, only_open=only_open,
            only_given_up=given_up, limit=limit,
        )  # fmt: skip
        counts = [
            one
            for one in data_gaps.counted(connection, wanted)
            if chosen in {None, one["timeframe"]} and (kinds is None or one["class"] in kinds)
        ]
    if as_json:
        print_json([_as_json(row) for row in found.to_dict("records")])
        return
    _show(found, counts)


def _classes(text: str | None) -> list[str] | None:
    from tickstock_assets.domain.gaps import CLASSES

    if text is None:
        return None
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in CLASSES]:
        raise ConfigError(f"--class: expected some of {', '.join(CLASSES)}, found {', '.join(unknown)}")
    return names


def _retry(symbols: list[str] | None, timeframe: Any, classes: list[str] | None) -> None:
    """Let gaps be tried again that were given up."""
    from tickstock_assets.storage import gap_attempts
    from tickstock_assets.storage.audit import Run
    from tickstock_assets.storage.retry import in_transaction

    run = Run(getpass.getuser(), str(uuid4()))
    n_gaps = in_transaction(
        engine(), lambda connection: gap_attempts.try_again(connection, symbols, timeframe, classes), run
    )
    errors.print(
        f"{n_gaps:,} gaps are tried again as long as Dagster's daemon runs; `tickstock ui` has one"
        if n_gaps
        else "No gap is given up; nothing changed."
    )


def _find(symbols: list[str] | None, timeframes: Iterable[Any]) -> None:
    """Look at all that was loaded of some symbols, or of all."""
    from tickstock_assets.defs.resources import lineup
    from tickstock_assets.loading.gap_finding import Reach, find_gaps, windows_to_look_at
    from tickstock_assets.loading.landed_days import Landed
    from tickstock_assets.loading.quality_scores import score_gaps
    from tickstock_assets.settings import settings
    from tickstock_assets.storage.audit import Run
    from tickstock_assets.storage.database import server_time

    opened, reach = engine(), Reach.of(lineup())
    landed = Landed(lineup(), settings().landing_path)
    run = Run("tickstock gaps", str(uuid4()))
    with opened.connect() as connection:
        began = server_time(connection)
    for timeframe in timeframes:
        with opened.connect() as connection:
            windows = windows_to_look_at(connection, timeframe, None)
        of_symbols = [window for window in windows if symbols is None or window.symbol in symbols]
        with errors.status(f"Looking at {len(of_symbols):,} windows of {timeframe} bars") as status:
            found = find_gaps(
                opened,
                of_symbols,
                timeframe,
                reach,
                landed=landed,
                run=run,
                on_batch=lambda name, _: status.update(f"Looked at {name}"),
            )
        errors.print(
            f"{timeframe}: {found.inserted:,} gaps new, {found.changed:,} changed, {found.unchanged:,} unchanged, "
            f"{found.healed:,} filled"
        )
    if n_scores := score_gaps(opened, lineup(), began, run):
        errors.print(f"{n_scores:,} scores of sessions changed by it")


def _show(found: pd.DataFrame, counts: list[dict[str, Any]]) -> None:
    table = Table("symbol", "bars", "from", "to (UTC)", "missing", "class", "tried", "filled", box=rich.box.SIMPLE_HEAD)
    for row in found.to_dict("records"):
        table.add_row(
            row["symbol"],
            row["timeframe"],
            f"{row['gap_start']:%Y-%m-%d %H:%M}",
            f"{row['gap_end']:%Y-%m-%d %H:%M}",
            f"{row['missing_bars']:,}",
            row["class"].replace("_", " "),
            f"{row['attempts']:,}" if row["attempts"] else "",
            _filled(row),
        )
    for row in found[found["given_up_at"].notna() & found["healed_at"].isna()].to_dict("records"):
        errors.print(
            f"[yellow]{row['symbol']} {row['gap_start']:%Y-%m-%d %H:%M} was given up after {row['given_up_reason']}[/]",
            soft_wrap=True,
        )
    console.print(table if len(found) else "No such gaps are known; `tickstock gaps --find` looks for them.")
    for one in counts:
        console.print(
            f"Open: {one['class'].replace('_', ' ')}, {one['gaps']:,} of {one['symbols']:,} symbols, "
            f"{one['missing_bars']:,} bars of {one['timeframe']}"
        )
    holes = found[(found["class"] == "provider_hole") & found["healed_at"].isna()]
    for timeframe, of_timeframe in holes.groupby("timeframe"):
        kind = "day" if timeframe == "1d" else "minute"
        names = ",".join(sorted(of_timeframe["symbol"].unique()))
        first, last = of_timeframe["gap_start"].min(), of_timeframe["gap_end"].max()
        console.print(
            f"To fetch them again: tickstock load --symbols {names} --timeframe {kind} --start {first:%Y-%m-%d} "
            f"--end {last:%Y-%m-%d} --recheck gaps",
            soft_wrap=True,
        )


def _filled(row: dict[Any, Any]) -> str:
    healed: datetime | None = None if pd.isna(row["healed_at"]) else row["healed_at"]
    if healed:
        return f"{healed:%Y-%m-%d %H:%M}"
    return "" if pd.isna(row["given_up_at"]) else "given up"


def _as_json(row: dict[Any, Any]) -> dict[str, Any]:
    known = {str(name): None if pd.isna(value) else value for name, value in row.items()}
    return {**known, "evidence": json.loads(row["evidence"])}
