"""`tickstock load`: history from the providers to the tables, as fast as their plans allow."""

import contextlib
import json
import sys
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import uuid4

import typer

from tickstock_assets.cli.app import JsonOption, app, console, errors, print_json
from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.settings import settings

if TYPE_CHECKING:
    from tickstock_assets.cli.load_progress import LoadProgress
    from tickstock_assets.loading.lineup import Lineup
    from tickstock_assets.loading.load import Loader, Order, Outcome

EXIT_INCOMPLETE = 2
EXIT_CONTINUES = 3
EXIT_INTERRUPTED = 130
MINUTE_YEARS = 2

Day = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"])]


@app.command()
def load(
    *,
    symbols: Annotated[str | None, typer.Option(help="Symbols, such as AAPL,MSFT.")] = None,
    file: Annotated[Path | None, typer.Option(help="A CSV file with a column `symbol`.")] = None,
    universe: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="All symbols that were listed on this day.")
    ] = None,
    timeframe: Annotated[str, typer.Option(help="day or minute.")] = "day",
    start: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"], help="First day; else as far back as the plan reaches, of minutes two years."
        ),
    ] = None,
    end: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last day; else the last session.")] = None,
    provider: Annotated[
        str | None, typer.Option(help="Whom to ask instead of TICKSTOCK_PROVIDERS, such as polygon,alpha_vantage.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be asked for, and how long it takes.")
    ] = False,
    recheck: Annotated[
        str | None,
        typer.Option(help="Fetch again what is landed: `all` of it, or the sessions that have `gaps`."),
    ] = None,
    actions: Annotated[bool, typer.Option(help="Also load splits and dividends.")] = True,
    record: Annotated[bool, typer.Option(help="Show the loaded partitions as materialized in the web UI.")] = True,
    wait: Annotated[
        bool, typer.Option(help="Wait for an exhausted day budget; else end, and say when it continues.")
    ] = True,
    log_file: Annotated[Path | None, typer.Option(help="Write the summary to this file, as JSON.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Load the history of symbols from the providers, and go on where an earlier load was stopped.

    What is landed is never fetched twice; only the last three sessions, which can still change, are asked for again and
    compared. Ctrl-C stops it cleanly. Exit code 2: something did not come; 3: it continues when the budget allows.

    [bold]tickstock load --symbols AAPL,MSFT --start 2020-01-01[/]
    """
    from tickstock_assets.cli.load_progress import LoadProgress
    from tickstock_assets.defs.resources import engine, lineup

    if provider is not None:
        settings().providers = provider
    asked = lineup()
    order = _order(asked, _symbols(asked, symbols, file, universe), timeframe, (start, end), recheck, actions=actions)
    _warn_of_retention(order)
    if dry_run:
        _show_plan(asked, order, as_json=as_json)
        return
    progress = LoadProgress(order, errors, quiet=as_json)
    from tickstock_assets.cli.log_file import opened_log
    from tickstock_assets.loading.load import Loader
    from tickstock_assets.storage.audit import Run

    loader = Loader(
        asked,
        engine(),
        settings().landing_path,
        progress,
        Run("tickstock load", str(uuid4())),
        progress.sleep if wait else None,
    )
    with opened_log(log_file) if log_file else contextlib.nullcontext() as log:
        with progress:
            outcome, interrupted = _load(loader, order)
            if record:
                _record(loader, order, progress)
        summary = progress.summary(outcome, interrupted=interrupted)
        if as_json:
            print_json(summary)
        else:
            progress.print_summary(console, summary)
        if log is not None:
            sys.stdout.flush()  # which may be the same file
            with open(log, "w", encoding="utf-8", closefd=False) as stream:
                stream.write(json.dumps(summary, indent=2, default=str) + "\n")
    if code := _exit_code(outcome, interrupted=interrupted):
        raise typer.Exit(code)


def _load(loader: "Loader", order: "Order") -> tuple["Outcome", bool]:
    """Load, and return what became of it and whether a person stopped it."""
    from tickstock_assets.loading.load import Outcome

    try:
        return loader.load(order), False
    except KeyboardInterrupt:
        return Outcome(), True


def _record(loader: "Loader", order: "Order", progress: "LoadProgress") -> None:
    """Tell Dagster of what was stored, also by an earlier load that was stopped before it did."""
    from tickstock_assets.defs.recording import record_partitions
    from tickstock_assets.loading.coverage import stored

    in_table = stored(loader.lineup, loader.engine, order.dataset, order.symbols)
    record_partitions(settings().home_path, order.dataset, progress.partitions(), in_table, progress.recording)


def _exit_code(outcome: "Outcome", *, interrupted: bool) -> int:
    if interrupted:
        return EXIT_INTERRUPTED
    if outcome.continues_at is not None:
        return EXIT_CONTINUES
    return EXIT_INCOMPLETE if outcome.unknown or outcome.problems else 0


def _symbols(asked: "Lineup", symbols: str | None, file: Path | None, universe: datetime | None) -> list[str]:
    from tickstock_assets.cli import symbol_lists
    from tickstock_assets.loading.reference import first_to_answer

    given = [name for name, value in (("--symbols", symbols), ("--file", file), ("--universe", universe)) if value]
    if len(given) != 1:
        raise ConfigError(
            f"Symbols: expected one of --symbols AAPL,MSFT, --file symbols.csv and --universe 2024-07-03, "
            f"found {' and '.join(given) or 'none'}"
        )
    if symbols:
        return symbol_lists.typed(symbols)
    if universe:
        day = universe.date()
        return first_to_answer(asked, lambda one: one.universe(day))[1]
    return symbol_lists.in_file(file or Path())


def _order(
    asked: "Lineup",
    symbols: list[str],
    timeframe: str,
    span: tuple[datetime | None, datetime | None],
    recheck: str | None,
    *,
    actions: bool,
) -> "Order":
    from tickstock_assets.domain.timeframes import timeframe as timeframe_of
    from tickstock_assets.loading.load import Order
    from tickstock_assets.providers.base import Dataset

    datasets: dict[str, Dataset] = {"1d": Dataset.DAILY_BARS, "1m": Dataset.MINUTE_BARS}
    dataset = datasets.get(timeframe_of(timeframe))
    if dataset is None:
        raise ConfigError(
            f"--timeframe: expected day or minute, found {timeframe!r}; others are rolled up from minutes"
        )
    if recheck not in {None, "all", "gaps"}:
        raise ConfigError(f"--recheck: expected all or gaps, found {recheck!r}")
    first_possible, horizon = asked.span(dataset)
    last = span[1].date() if span[1] else horizon
    default = (
        max(first_possible, _years_before(last, MINUTE_YEARS)) if dataset is Dataset.MINUTE_BARS else first_possible
    )
    first = span[0].date() if span[0] else default
    if span[0] and first > horizon:
        raise ConfigError(f"--start: expected a day up to {horizon}, the last session that can be had, found {first}")
    if last < first:
        raise ConfigError(f"--end: expected a day on or after --start {first}, found {last}")
    if span[1] and last > horizon:
        errors.print(f"[yellow]Nothing after {horizon} can be had yet; --end {last} stands for it.[/]")
    return Order(symbols, first, min(last, horizon), dataset, recheck == "all", recheck == "gaps", actions)


def _years_before(day: date, years: int) -> date:
    return date(day.year - years, day.month, min(day.day, 28))


def _warn_of_retention(order: "Order") -> None:
    from datetime import UTC

    from tickstock_assets.loading.storing import TABLES
    from tickstock_assets.storage import retention

    warning = retention.warning(TABLES[order.dataset], order.start, settings().lifecycles, datetime.now(UTC))
    if warning:
        errors.print(f"[yellow]{warning}[/]")


def _show_plan(asked: "Lineup", order: "Order", *, as_json: bool) -> None:
    from rich.table import Table

    from tickstock_assets.defs.resources import engine
    from tickstock_assets.loading.fetching import plan_missing

    name, made = plan_missing(asked, engine(), order.windows(), order.dataset)
    rows = [{"provider": name, **row} for row in made.rows()]
    if as_json:
        print_json({"provider": name, "routes": rows, "seconds": made.seconds, "continues_at": made.continues_at})
        return
    table = Table("provider", "route", "calls", "budget", "time", title="Nothing is asked for yet")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    console.print(table)
    for sentence in made.describe()[len(rows) :]:
        console.print(sentence)
