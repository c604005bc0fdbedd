"""`tickstock quality`: what looks odd in the stored bars, and how good each session's are."""

from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, Any

import rich.box
import typer
from rich.table import Table

from tickstock_assets.cli.app import JsonOption, app, console, print_json
from tickstock_assets.domain.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

LOWEST_SHOWN = 10
FINDINGS_SHOWN = 100


@app.command()
def quality(
    *,
    symbols: Annotated[str | None, typer.Option(help="Such as AAPL,MSFT; else all.")] = None,
    start: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="First day.")] = None,
    end: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last day.")] = None,
    rule: Annotated[str | None, typer.Option(help="Findings of this rule only, such as price_spike.")] = None,
    only_open: Annotated[bool, typer.Option("--open", help="Findings that still hold only.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what looks odd in the stored bars, and the sessions with the lowest scores.

    The assets quality_findings and quality_scores compute them; nothing is computed here.
    """
    from tickstock_assets.cli import symbol_lists
    from tickstock_assets.cli.database import engine
    from tickstock_assets.storage import quality_findings, quality_scores

    _require_rule(rule)
    first, last = start.date() if start else None, end.date() if end else None
    if first and last and last < first:
        raise ConfigError(f"--end: expected a day on or after --start {first}, found {last}")
    wanted = symbol_lists.typed(symbols) if symbols is not None else None
    with engine().connect() as connection:
        symbol_lists.require_known(connection, wanted)
        found = quality_findings.stored(
            connection, rules=[rule] if rule else None, symbols=wanted, first=first, last=last, only_open=only_open
        )
        scores = quality_scores.newest(connection, symbols=wanted, first=first, last=last)
    lowest = scores.sort_values(["score", "symbol", "session"]).head(LOWEST_SHOWN)
    if as_json:
        print_json({"findings": _records(found), "means": _means(scores), "lowest_scores": _records(lowest)})
        return
    if scores.empty and found.empty:
        console.print(
            "Nothing was found, and no session is scored; the assets quality_findings and quality_scores do that."
        )
        return
    _show_findings(found)
    _show_scores(scores, lowest)


def _require_rule(rule: str | None) -> None:
    from tickstock_assets.domain.anomalies import RULES
    from tickstock_assets.loading.reconciling import RULES as OF_RECONCILIATION

    if rule is not None and rule not in (rules := (*RULES, *OF_RECONCILIATION)):
        raise ConfigError(f"--rule: expected one of {', '.join(rules)}, found {rule!r}; correct it")


def _show_findings(found: "pd.DataFrame") -> None:
    table = Table("symbol", "bars", "time", "rule", "severity", "reason", title="Findings", box=rich.box.SIMPLE_HEAD)
    for row in found.head(FINDINGS_SHOWN).itertuples():
        resolved = "" if _missing(row.resolved_at) else f" (resolved {row.resolved_at:%Y-%m-%d})"
        when = f"{row.timestamp:%Y-%m-%d}" if row.timeframe == "1d" else f"{row.timestamp:%Y-%m-%d %H:%M}Z"
        table.add_row(
            str(row.symbol), str(row.timeframe), when, str(row.rule), f"{row.severity}{resolved}", str(row.reason)
        )
    console.print(table if len(found) else "Nothing was found.")
    if len(found) > FINDINGS_SHOWN:
        console.print(f"{len(found) - FINDINGS_SHOWN:,} more; --json prints all, --symbols and --rule choose.")


def _show_scores(scores: "pd.DataFrame", lowest: "pd.DataFrame") -> None:
    means = Table("symbol", "bars", title="Scores", box=rich.box.SIMPLE_HEAD)
    for name in ("sessions", "mean", "lowest"):
        means.add_column(name, justify="right")
    for mean in _means(scores):
        means.add_row(
            mean["symbol"], mean["timeframe"], f"{mean['sessions']:,}", f"{mean['mean']:.2f}", f"{mean['lowest']:.2f}"
        )
    console.print(means)
    worst = Table("symbol", "bars", title="Lowest sessions", box=rich.box.SIMPLE_HEAD)
    worst.add_column("session", no_wrap=True, min_width=len("2012-07-02"))
    names = ("score", "completeness", "validity", "plausibility", "agreement")
    for name in names:
        worst.add_column(name, justify="right")
    for row in lowest.to_dict("records"):
        numbers = [f"{row[name]:.4g}" for name in names]
        worst.add_row(row["symbol"], row["timeframe"], f"{row['session']:%Y-%m-%d}", *numbers)
    console.print(worst)


def _means(scores: "pd.DataFrame") -> list[dict[str, Any]]:
    grouped = scores.groupby(["symbol", "timeframe"])["score"].agg(["size", "mean", "min"])
    return [
        {"symbol": key[0], "timeframe": key[1], "sessions": int(size), "mean": float(mean), "lowest": float(low)}
        for key, size, mean, low in grouped.itertuples(name=None)
    ]


def _records(frame: "pd.DataFrame") -> list[dict[Any, Any]]:
    shown = frame.assign(session=frame["session"].dt.date) if "session" in frame else frame
    records: list[dict[Any, Any]] = shown.astype(object).where(shown.notna(), None).to_dict("records")
    return records


def _missing(moment: object) -> bool:
    import pandas as pd

    return moment is pd.NaT or isinstance(moment, date) is False
