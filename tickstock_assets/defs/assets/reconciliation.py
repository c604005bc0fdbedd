"""Where two providers have bars of the same days: how far they are apart, why, and what stays unexplained."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg

from tickstock_assets.defs.assets import reference
from tickstock_assets.defs.assets.raw import raw_daily_bars
from tickstock_assets.defs.resources import Database, MarketData, engine
from tickstock_assets.defs.retries import retried
from tickstock_assets.domain.reconciliation import Residual
from tickstock_assets.loading.reconciling import Comparison, Reconciled, reconcile_landed

PAIRS_SHOWN = 50


# Without partitions: an adjustment shows over the whole of a symbol's history and not in one of its years, there is one
# report to read, and a run costs more than the few symbols that are landed from two providers.
@dg.asset(
    group_name="quality",
    kinds={"postgres"},
    deps=[raw_daily_bars, reference.sessions, reference.splits, reference.dividends],
    code_version="1",
)
@retried
def provider_reconciliation(market_data: MarketData, database: Database) -> dg.MaterializeResult[None]:
    """Daily bars that are landed from two providers, compared and explained; nobody is asked for anything.

    What stays unexplained is in `quality_findings`, rule `provider_disagreement`. Minute bars, and days of which only one
    side is landed yet: `tickstock reconcile SYMBOL`.
    """
    found = reconcile_landed(market_data.lineup, engine(), market_data.landing_folder, database.run)
    return dg.MaterializeResult(metadata=reconciliation_metadata(found))


def reconciliation_metadata(found: Reconciled) -> dict[str, Any]:
    """Return causes, residuals before and after, and a table with a line a pair."""
    reports = [one.report for one in found.comparisons]
    causes = Counter(explanation.cause for report in reports for explanation in report.explanations)
    return {
        "symbols_compared": len({report.symbol for report in reports}),
        "bars_compared": sum(report.matched for report in reports),
        "bars_of_one_side_only": sum(report.only_left + report.only_right for report in reports),
        "bars_unexplained": sum(report.unexplained_bars for report in reports),
        "causes": dg.MetadataValue.json(dict(causes.most_common())),
        "residual_before": dg.MetadataValue.json(_largest(report.before for report in reports)),
        "residual_after": dg.MetadataValue.json(_largest(report.after for report in reports)),
        "findings_new": found.findings.inserted,
        "findings_changed": found.findings.changed,
        "findings_unchanged": found.findings.unchanged,
        "findings_resolved": found.findings.resolved,
        "report": dg.MetadataValue.md(_markdown(found.comparisons)),
    }


def _largest(residuals: Iterable[Mapping[str, Residual]]) -> dict[str, float]:
    """Return the largest relative difference of each field over all pairs."""
    largest: dict[str, float] = {}
    for of_report in residuals:
        for name, residual in of_report.items():
            largest[name] = max(largest.get(name, 0.0), residual.max)
    return largest


def _markdown(comparisons: Sequence[Comparison]) -> str:
    """Return a table with a line a pair, the one with the most unexplained bars first."""
    if not comparisons:
        return "Nothing is landed from two providers."
    worst_first = sorted(
        comparisons, key=lambda one: (one.report.explained, -one.report.unexplained_bars, one.report.symbol)
    )
    lines = [
        "| symbol | left | right | bars | only left | only right | price apart before | after | causes | unexplained |",
        "|---|---|---|--:|--:|--:|--:|--:|---|--:|",
    ]
    for one in worst_first[:PAIRS_SHOWN]:
        report = one.report
        causes = ", ".join(dict.fromkeys(e.cause.replace("_", " ") for e in report.explanations))
        cells = [
            report.symbol, one.left, one.right, f"{report.matched:,}", f"{report.only_left:,}", f"{report.only_right:,}",
            _apart(report.before), _apart(report.after), causes or "none", f"{report.unexplained_bars:,}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    left_out = len(comparisons) - PAIRS_SHOWN
    return "\n".join(lines) + (f"\n\n{left_out} more pairs." if left_out > 0 else "")


def _apart(residuals: Mapping[str, Residual]) -> str:
    return f"{max(residual.max for name, residual in residuals.items() if name != 'volume'):.2e}"
