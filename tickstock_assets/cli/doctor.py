"""`tickstock doctor`: whether all is there that a load needs, and what to do where it is not.

Elsewhere: what is looked at (doctor_checks.py, doctor_providers.py).
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import rich.box
import typer
from rich.markup import escape
from rich.table import Table

from tickstock_assets.cli.app import JsonOption, app, console, print_json
from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.settings import settings

if TYPE_CHECKING:
    from tickstock_assets.cli.doctor_findings import Finding

EXIT_FAILED = 2
COLOURS = {"ok": "green", "warning": "yellow", "failed": "red"}


@app.command()
def doctor(
    *,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no provider anything.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Look at settings, keys, plans, budgets, database, calendar, disk and Dagster, and say what to do where one is ill.

    Each provider is asked one thing at most, and that call is counted. Exit code 2: something failed.
    """
    findings = list(_findings(offline=offline))
    if as_json:
        print_json({"status": _worst(findings), "checks": [vars(finding) for finding in findings]})
    else:
        _show(findings)
    if _worst(findings) == "failed":
        raise typer.Exit(EXIT_FAILED)


def _findings(*, offline: bool) -> "Iterator[Finding]":
    from tickstock_assets.cli import doctor_checks
    from tickstock_assets.cli.doctor_findings import Finding

    try:
        chosen = settings()
    except ConfigError as error:
        # Without settings nothing else is known but the calendar.
        yield Finding("settings", "failed", str(error), "then look again: the rest hangs on it")
        yield from doctor_checks.calendar()
        return
    yield from doctor_checks.examine(chosen, offline=offline)


def _worst(findings: "list[Finding]") -> str:
    found = {finding.status for finding in findings}
    return next((status for status in ("failed", "warning") if status in found), "ok")


def _show(findings: "list[Finding]") -> None:
    table = Table("check", "", box=rich.box.SIMPLE_HEAD)
    table.add_column("found, and what to do", overflow="fold")
    for one in findings:
        remedy = f"\n[bold]->[/] {escape(one.remedy)}" if one.remedy else ""
        table.add_row(one.check, f"[{COLOURS[one.status]}]{one.status}[/]", escape(one.found) + remedy)
    console.print(table)
