"""`tickstock check`: every asset check on what is stored, with an exit code."""

import difflib
from collections.abc import Container, Iterable, Sequence
from dataclasses import asdict
from datetime import date, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import rich.box
import typer
from rich.table import Table

from tickstock_assets.cli.app import JsonOption, app, console, print_json
from tickstock_assets.cli.progress import steps
from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.settings import settings

if TYPE_CHECKING:
    import dagster as dg

    from tickstock_assets.defs.check_runs import CheckOutcome

EXIT_FAILED, EXIT_NOT_EVALUATED = 1, 2
ROWS_SHOWN = 3


class Severity(StrEnum):
    """What a failed check is."""

    WARN = "warn"
    ERROR = "error"


@app.command()
def check(
    *,
    asset: Annotated[
        list[str] | None, typer.Option(help="Checks of this asset only, such as ohlcv_daily; may be repeated.")
    ] = None,
    symbols: Annotated[str | None, typer.Option(help="Such as AAPL,MSFT; else all.")] = None,
    start: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="First day.")] = None,
    end: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last day.")] = None,
    strict: Annotated[bool, typer.Option(help="Fail also when a check only warns.")] = False,
    severity: Annotated[
        Severity, typer.Option(help="List failed checks of this severity and above; the others are only counted.")
    ] = Severity.WARN,
    as_json: JsonOption = False,
) -> None:
    """Evaluate asset checks on what is stored, here and now; nothing is fetched or computed.

    The web UI shows the results like those of any run. Symbols and days narrow the checks of assets with partitions; the
    others look at their whole table. Exit code 0: all passed; 1: a check failed with severity ERROR, or with --strict any;
    2: a check could not be evaluated, or there was nothing to look at.

    [bold]tickstock check --asset ohlcv_daily --symbols AAPL,MSFT --start 2012-01-01[/]
    """
    outcomes = _evaluate(asset, symbols, _days(start, end), quiet=as_json)
    failed = [one for one in outcomes if one.passed is False and (strict or one.severity == "ERROR")]
    not_evaluated = [one for one in outcomes if one.passed is None]
    if as_json:
        print_json([asdict(one) for one in outcomes])
    else:
        _show(outcomes, severity)
    if not_evaluated:
        raise typer.Exit(EXIT_NOT_EVALUATED)
    if failed:
        raise typer.Exit(EXIT_FAILED)


def _days(start: datetime | None, end: datetime | None) -> tuple[date | None, date | None]:
    first, last = start.date() if start else None, end.date() if end else None
    if first and last and last < first:
        raise ConfigError(f"--end: expected a day on or after --start {first}, found {last}; swap them")
    return first, last


def _evaluate(
    assets: Sequence[str] | None, symbols: str | None, days: tuple[date | None, date | None], *, quiet: bool
) -> "list[CheckOutcome]":
    with steps(quiet) as progress:
        task = progress.add_task("Starting PostgreSQL and Dagster", total=None)
        from tickstock_assets.definitions import defs
        from tickstock_assets.defs import launching
        from tickstock_assets.defs.check_runs import run_checks
        from tickstock_assets.defs.check_scope import scope_tags

        wanted = _checks(defs.resolve_asset_graph().asset_check_keys, assets)
        tags = scope_tags(_symbols(symbols), *days)

        def on_step(step: str) -> None:
            progress.update(task, advance=1, description=step)

        with launching.open_instance(settings().home_path) as instance:
            progress.update(task, total=len(wanted), description="Evaluating")
            outcomes = run_checks(instance, defs.resolve_job_def("checks"), wanted, tags, on_step)
        if tags:
            graph = defs.resolve_asset_graph()
            _require_rows(
                outcomes, {key.asset_key.to_user_string() for key in wanted if graph.get(key.asset_key).is_partitioned}
            )
        return outcomes


def _require_rows(outcomes: "Iterable[CheckOutcome]", partitioned: Container[str]) -> None:
    """Raise where symbols and days were named and no check of an asset with partitions has found any row there."""
    checked = [one.metadata.get("rows_checked") for one in outcomes if one.asset in partitioned]
    if any(number == 0 for number in checked) and not any(checked):
        raise ConfigError(
            "--symbols, --start, --end: expected rows of them to be stored, found none, so nothing was checked; correct them"
        )


def _checks(keys: "Iterable[dg.AssetCheckKey]", assets: Sequence[str] | None) -> "list[dg.AssetCheckKey]":
    """Return the checks of some assets, all for None, by name."""
    by_name = {(key.asset_key.to_user_string(), key.name): key for key in keys}
    known = sorted({asset for asset, _ in by_name})
    for name in assets or ():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            meant = f"; did you mean {close[0]}?" if close else f"; those with checks are {', '.join(known)}"
            raise ConfigError(f"--asset: expected an asset with checks, found {name!r}{meant}")
    return [key for (asset, _), key in sorted(by_name.items()) if assets is None or asset in assets]


def _symbols(symbols: str | None) -> list[str] | None:
    """Return the symbols that were named, None for all; nothing stored at all is an error, and not that all is well."""
    from tickstock_assets.cli import symbol_lists
    from tickstock_assets.defs.resources import engine
    from tickstock_assets.storage import bars

    wanted = symbol_lists.typed(symbols) if symbols is not None else None
    with engine().connect() as connection:
        if bars.symbols(connection).empty:
            raise ConfigError(
                "Symbols: expected some to be stored, found none, so there is nothing to check; `tickstock load` or "
                "`tickstock demo` brings them"
            )
        symbol_lists.require_known(connection, wanted)
    return wanted


def _show(outcomes: "Sequence[CheckOutcome]", severity: Severity) -> None:
    table = Table(box=rich.box.SIMPLE_HEAD)
    for name in ("asset", "check", "result"):
        table.add_column(name, no_wrap=True)
    for name in ("rows", "offending", "partitions"):
        table.add_column(name, justify="right")
    for one in outcomes:
        numbers = [one.metadata.get(name) for name in ("rows_checked", "rows_offending", "partitions_failed")]
        shown = [f"{number:,}" if isinstance(number, int) else "" for number in numbers]
        table.add_row(one.asset, one.check.removeprefix(f"{one.asset}_"), _result(one), *shown)
    console.print(table)
    for one in outcomes:
        if _is_shown(one, severity):
            _show_failed(one)
    counts = {
        "passed": sum(one.passed is True for one in outcomes),
        "warned": sum(one.passed is False and one.severity == "WARN" for one in outcomes),
        "failed": sum(one.passed is False and one.severity == "ERROR" for one in outcomes),
        "not evaluated": sum(one.passed is None for one in outcomes),
    }
    console.print(f"{len(outcomes)} checks: " + ", ".join(f"{n} {name}" for name, n in counts.items() if n) + ".")


def _result(one: "CheckOutcome") -> str:
    if one.passed is None:
        return "[bold red]not evaluated[/]"
    return "[green]passed[/]" if one.passed else f"[{'red' if one.severity == 'ERROR' else 'yellow'}]{one.severity}[/]"


def _is_shown(one: "CheckOutcome", severity: Severity) -> bool:
    return one.passed is None or (one.passed is False and (severity is Severity.WARN or one.severity == "ERROR"))


def _show_failed(one: "CheckOutcome") -> None:
    """Print what a check says and the first of each table of rows it has."""
    console.print(f"{one.asset}: {one.check}", style="bold", highlight=False)
    if one.description:
        console.print(f"  {one.description}", highlight=False, markup=False, soft_wrap=True)
    for name, rows in one.metadata.items():
        if isinstance(rows, list) and rows:
            console.print(f"  {name.replace('_', ' ')}:", highlight=False)
            for row in rows[:ROWS_SHOWN]:
                values = ", ".join(f"{column} {value}" for column, value in row.items())
                console.print(f"    {values}", highlight=False, markup=False, soft_wrap=True)
            if len(rows) > ROWS_SHOWN:
                console.print(f"    and {len(rows) - ROWS_SHOWN} more; --json and the web UI have them")
