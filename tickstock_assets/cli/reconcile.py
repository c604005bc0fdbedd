"""`tickstock reconcile`: two providers' bars of one symbol, how far they are apart, and why.

What is told is found in domain/reconciliation; here it is only shown. The sides are named as the providers are.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tickstock_assets.cli.app import JsonOption, app, console, errors, print_json
from tickstock_assets.domain.errors import ConfigError, ProviderError, UnknownSymbolError
from tickstock_assets.settings import settings

if TYPE_CHECKING:
    from tickstock_assets.domain.reconciliation import Reconciliation, Residual
    from tickstock_assets.domain.windows import Window
    from tickstock_assets.loading.lineup import Lineup
    from tickstock_assets.loading.reconciling import Comparison, Pair
    from tickstock_assets.providers.base import Dataset
    from tickstock_assets.storage.audit import Run

EXIT_UNEXPLAINED = 1
# A call answers a month of minutes; without --start two calls a side will do.
MINUTE_SPAN = timedelta(days=30)


@app.command()
def reconcile(
    symbol: Annotated[str, typer.Argument(help="Such as AAPL.")],
    *,
    between: Annotated[
        str | None,
        typer.Option(help="Two providers, such as polygon,alpha_vantage; else the first two of TICKSTOCK_PROVIDERS."),
    ] = None,
    timeframe: Annotated[str, typer.Option(help="day or minute.")] = "day",
    start: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="First day; else as far back as both reach, of minutes 30 days."),
    ] = None,
    end: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last day; else the last that both have.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two providers' bars of a symbol and explain how they differ, each cause with the numbers it rests on.

    What is not landed yet is fetched; tables of bars are left as they are. Exit code 1: differences stay unexplained.

    [bold]tickstock reconcile AAPL --between polygon,alpha_vantage[/]
    """
    from tickstock_assets.cli import symbol_lists
    from tickstock_assets.defs.resources import lineup
    from tickstock_assets.storage.audit import Run

    if len(typed := symbol_lists.typed(symbol)) != 1:
        raise ConfigError(f"SYMBOL: expected one such as AAPL, found {', '.join(typed)}; compare one at a time")
    if between is not None:
        settings().providers = ",".join(_two_providers(between))
    asked = lineup()
    pair, dataset = _pair(asked), _dataset(timeframe)
    window = _window(typed[0], pair, dataset, (start, end))
    run = Run("tickstock reconcile", str(uuid4()))
    refused = _land(asked, pair, window, dataset, run)
    found = _compared(pair, window, dataset, refused)
    if as_json:
        print_json({"left": found.left, "right": found.right, **found.report.as_dict()})
    else:
        show(found.report, (found.left, found.right), console)
    if not found.report.explained:
        _hint_at_actions(window.symbol)
        raise typer.Exit(EXIT_UNEXPLAINED)


def _two_providers(between: str) -> list[str]:
    from tickstock_assets.loading.registry import REGISTRY

    wanted = [name.strip() for name in between.split(",")]
    if len(set(wanted)) != 2 or len(wanted) != 2 or not set(wanted) <= set(REGISTRY):
        raise ConfigError(
            f"--between: expected two of {', '.join(REGISTRY)}, such as polygon,alpha_vantage, found {between!r}"
        )
    return wanted


def _pair(asked: "Lineup") -> "Pair":
    """Return the two providers to compare."""
    providers = list(asked)
    if len(providers) < 2:
        raise ConfigError(
            f"reconcile: expected two providers, found {providers[0].name} only; name two with --between, or set another's "
            "key, see docs/providers.md"
        )
    return providers[0], providers[1]


def _dataset(timeframe: str) -> "Dataset":
    from tickstock_assets.domain.timeframes import timeframe as timeframe_of
    from tickstock_assets.providers.base import Dataset

    datasets: dict[str, Dataset] = {"1d": Dataset.DAILY_BARS, "1m": Dataset.MINUTE_BARS}
    dataset = datasets.get(timeframe_of(timeframe))
    if dataset is None:
        raise ConfigError(
            f"--timeframe: expected day or minute, found {timeframe!r}; others are rolled up from minutes"
        )
    return dataset


def _window(symbol: str, pair: "Pair", dataset: "Dataset", span: tuple[datetime | None, datetime | None]) -> "Window":
    """Return the days to compare: those asked for, as far as both providers can have them."""
    from tickstock_assets.domain.windows import Window
    from tickstock_assets.providers.base import Dataset

    starts: list[date] = []
    for provider in pair:
        routes = provider.routes(dataset)
        if not routes:
            raise ConfigError(f"reconcile: expected {dataset.replace('_', ' ')} of both, found none of {provider.name}")
        starts.append(min(route.history_start for route in routes))
    reach, horizon = max(starts), min(provider.horizon() for provider in pair)
    last = min(span[1].date(), horizon) if span[1] else horizon
    first = last - MINUTE_SPAN if dataset is Dataset.MINUTE_BARS else reach
    first = max(span[0].date() if span[0] else first, reach)
    if last < first:
        asked = f"{span[0]:%Y-%m-%d}" if span[0] else "the beginning"
        until = f"{span[1]:%Y-%m-%d}" if span[1] else "the end"
        raise ConfigError(
            f"--start, --end: expected days that both can have, from {reach} to {horizon}, found {asked} to {until}"
        )
    return Window(symbol, first, last)


def _land(asked: "Lineup", pair: "Pair", window: "Window", dataset: "Dataset", run: "Run") -> list[str]:
    """Fetch what is not landed yet, of each by itself; return what did not come, a sentence each.

    Raises:
        UnknownSymbolError: the symbol is not known, here or to the provider that was asked.
        ProviderError: nobody could be asked.
    """
    from tickstock_assets.defs.resources import engine
    from tickstock_assets.loading.calendar import know_sessions
    from tickstock_assets.loading.fetching import land_missing
    from tickstock_assets.loading.lineup import Lineup
    from tickstock_assets.loading.load import Loader, Outcome
    from tickstock_assets.storage.retry import in_transaction

    outcome = Outcome()
    if not Loader(asked, engine(), settings().landing_path, run=run).know([window.symbol], outcome):
        if outcome.problems:
            raise ProviderError("; ".join(outcome.problems))
        raise UnknownSymbolError("; ".join(outcome.unknown.values()) + "; correct it")
    in_transaction(engine(), partial(know_sessions, first=window.start, last=window.end), run)
    refused = []
    for provider in pair:
        alone = Lineup([provider], asked.counters, asked.budgets)
        landing = land_missing(alone, engine(), settings().landing_path, [window], dataset, run=run)
        refused += [f"{provider.name}: {failed}: {reason}" for failed, reason in landing.failed.items()]
    return refused


def _compared(pair: "Pair", window: "Window", dataset: "Dataset", refused: Sequence[str]) -> "Comparison":
    from tickstock_assets.defs.resources import engine
    from tickstock_assets.loading.reconciling import compare

    found = next(compare(engine(), settings().landing_path, pair, [window], dataset), None)
    if found is None or not found.report.matched:
        raise ProviderError(
            f"{window}: expected bars of the same {'days' if dataset == 'daily_bars' else 'minutes'} from {pair[0].name} "
            f"and {pair[1].name}, found none" + "".join(f"; {reason}" for reason in refused)
        )
    for reason in refused:
        errors.print(f"[yellow]Not compared:[/] {escape(reason)}", soft_wrap=True)
    return found


def _hint_at_actions(symbol: str) -> None:
    from tickstock_assets.defs.resources import engine
    from tickstock_assets.storage import bars

    with engine().connect() as connection:
        recorded = [set(events(connection)["symbol"]) for events in (bars.splits, bars.dividends)]
    if not any(symbol in symbols for symbols in recorded):
        errors.print(
            f"No split or dividend of {escape(symbol)} is recorded, by which prices could be adjusted; "
            f"`tickstock load --symbols {escape(symbol)}` asks for them.",
            soft_wrap=True,
        )


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
