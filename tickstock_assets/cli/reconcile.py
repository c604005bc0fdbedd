"""`tickstock reconcile`: two providers' bars of one symbol, how far they are apart, and why.

What is told is found in domain/reconciliation; here it is only shown. The sides are named as the providers are.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tickstock_assets.cli.app import console, print_json

if TYPE_CHECKING:
    import pandas as pd

    from tickstock_assets.domain.reconciliation import Reconciliation, Residual, Side


def reconcile_frames(
    left: "pd.DataFrame",
    right: "pd.DataFrame",
    *,
    names: tuple[str, str],
    splits: "pd.DataFrame",
    dividends: "pd.DataFrame",
    sessions: "pd.DataFrame",
    minutes: "Mapping[Side, pd.DataFrame] | None" = None,
    threshold: float = 1e-6,
    volume_threshold: float = 1e-6,
    as_json: bool = False,
) -> "Reconciliation":
    """Compare two providers' bars, print the report and return it.

    Args:
        left: one side's bars, as in `domain.reconciliation.reconcile`, and so all that is not named here.
        right: the other's.
        names: the providers of left and right.
        splits: what is recorded of the symbol.
        dividends: likewise.
        sessions: of its exchange.
        minutes: minute bars of one or both sides.
        threshold: for prices.
        volume_threshold: for volume.
        as_json: print JSON instead of tables.

    Raises:
        ConfigError, ContractError: as `domain.reconciliation.reconcile`.
    """
    from tickstock_assets.domain.reconciliation import reconcile

    report = reconcile(
        left,
        right,
        splits=splits,
        dividends=dividends,
        sessions=sessions,
        minutes=minutes,
        threshold=threshold,
        volume_threshold=volume_threshold,
    )
    if as_json:
        print_json({"left": names[0], "right": names[1], **report.as_dict()})
    else:
        show(report, names, console)
    return report


def show(report: "Reconciliation", names: tuple[str, str], to: Console) -> None:
    """Print a report."""
    left, right = (escape(name) for name in names)
    to.print(
        f"[bold]{escape(report.symbol)}[/] {report.timeframe}: left is {left}, right is {right}; "
        f"{report.matched:,} bars on both sides, {report.only_left:,} only left "
        f"({report.only_left_outside_sessions:,} outside sessions), {report.only_right:,} only right "
        f"({report.only_right_outside_sessions:,} outside sessions)",
        highlight=False,
    )
    to.print(_residuals([("as given", report.before), *_steps(report)]))
    for number, explanation in enumerate(report.explanations, start=1):
        mark = "[yellow]suspected[/] " if explanation.is_suspicion else ""
        span = f"; {explanation.bars:,} bars"
        span += "" if explanation.first is None else f", {explanation.first} to {explanation.last}"
        to.print(f"{number}. {mark}{escape(explanation.sentence)}{span}", highlight=False)
        evidence = ", ".join(f"{name} {_shown(value)}" for name, value in explanation.evidence.items())
        to.print(f"   [dim]{escape(evidence)}[/]", highlight=False)
    if report.unexplained:
        to.print(_unexplained(report))
    to.print(_verdict(report), highlight=False)


def _steps(report: "Reconciliation") -> Iterable[tuple[str, "Mapping[str, Residual]"]]:
    for number, explanation in enumerate(report.explanations, start=1):
        yield f"{number}. {explanation.cause.replace('_', ' ')}", explanation.after


def _residuals(stages: Iterable[tuple[str, "Mapping[str, Residual]"]]) -> Table:
    """Return a table of the residual of every field after every step."""
    table = Table("after", "field", title="Relative difference")
    for name in ("median", "99 %", "max", "above threshold"):
        table.add_column(name, justify="right")
    for stage, fields in stages:
        for number, (field, residual) in enumerate(fields.items()):
            numbers = (f"{value:.2e}" for value in (residual.median, residual.p99, residual.max))
            table.add_row("" if number else stage, field, *numbers, f"{residual.share_above:.1%}")
        table.add_section()
    return table


def _unexplained(report: "Reconciliation") -> Table:
    shown = len(report.unexplained)
    table = Table("time", "field", title=f"Unexplained: the first {shown} of {report.unexplained_bars:,} bars")
    for name in ("left", "right", "relative difference"):
        table.add_column(name, justify="right")
    for bar in report.unexplained:
        for number, field in enumerate(bar.fields):
            values = (f"{bar.left[field]:,.8g}", f"{bar.right[field]:,.8g}", f"{bar.residual[field]:.2e}")
            table.add_row("" if number else str(bar.time), field, *values)
    return table


def _verdict(report: "Reconciliation") -> str:
    if report.matched == 0:
        return "[yellow]Nothing to compare[/]: no bar is on both sides"
    if report.explained:
        what = "Every difference is explained" if report.explanations else "No difference"
        return f"[green]{what}[/] (threshold {report.threshold:g}, of volume {report.volume_threshold:g})"
    suspected = any(explanation.is_suspicion for explanation in report.explanations)
    because = " and something is only suspected; correct the recorded splits and dividends" if suspected else ""
    return f"[red]Not explained[/]: {report.unexplained_bars:,} bars stay above the threshold{because}"


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
