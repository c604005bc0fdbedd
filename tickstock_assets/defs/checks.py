"""Asset checks: each stage's contract held against what is stored, evaluated once a run over what the run works on.

A hard violation is an ERROR and is kept from what is downstream; what a person should only look at is a WARN.
"""

from collections import Counter
from collections.abc import Sequence

import dagster as dg
import pandas as pd
from sqlalchemy import Connection, text

from tickstock_assets.defs.assets import backtests, bars, features, operations, patterns, raw, reconciliation, reference
from tickstock_assets.defs.assets.backtests import latest_backtest
from tickstock_assets.defs.check_kinds import contract_check, landed_check, quarantine_check, rows_check, table_check
from tickstock_assets.defs.check_scope import Windows, parts_of, scope_of
from tickstock_assets.defs.partitions import BY_YEAR
from tickstock_assets.defs.plots import rows_as_table
from tickstock_assets.defs.resources import Database, lineup
from tickstock_assets.defs.verdicts import Verdict
from tickstock_assets.domain import schemas
from tickstock_assets.domain.quality import violations
from tickstock_assets.domain.source_stretches import served_by_others
from tickstock_assets.loading import stored_rules
from tickstock_assets.loading.reconciling import RULES
from tickstock_assets.loading.stored_rules import Judged
from tickstock_assets.providers.base import Dataset
from tickstock_assets.storage import bars as stored
from tickstock_assets.storage import partition_counts, quality_findings, rule_breaks

ROI_STEP = 1e-6


@dg.asset_check(asset=bars.ohlcv_daily)
def ohlcv_daily_complete(context: dg.AssetCheckExecutionContext, database: Database) -> dg.AssetCheckResult:
    """Every session of the exchange between a symbol's first bar and its provider's horizon has a bar."""
    verdict = Verdict(BY_YEAR)
    with database.begin() as connection:
        for windows in parts_of(connection, scope_of(context, connection)):
            verdict.add(Judged(*rule_breaks.sessions_without_a_bar(connection, windows, lineup().horizons())))
    return verdict.result(dg.AssetCheckSeverity.WARN, sessions_missing=verdict.offending)


@dg.asset_check(asset=bars.ohlcv_daily)
def ohlcv_daily_source(context: dg.AssetCheckExecutionContext, database: Database) -> dg.AssetCheckResult:
    """Every bar is from the provider that is asked first; those that another stood in for are shown, by source."""
    first = lineup().first.name
    by_source: Counter[str] = Counter()
    of_others: list[pd.DataFrame] = []
    with database.begin() as connection:
        for windows in parts_of(connection, scope_of(context, connection)):
            rows = rule_breaks.sources_of_days(connection, windows)
            by_source.update(rows["source"])
            of_others.append(served_by_others(rows, first))
    others = pd.concat(of_others) if of_others else pd.DataFrame()
    n_others = by_source.total() - by_source[first]
    return dg.AssetCheckResult(
        passed=not n_others,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{n_others:,} of {by_source.total():,} bars are from another source than {first}",
        metadata={
            "first_provider": first,
            "rows_by_source": dg.MetadataValue.json(dict(by_source)),
            "windows_of_others": len(others),
            "first_windows_of_others": rows_as_table(others),
        },
    )


@dg.asset_check(asset=reconciliation.provider_reconciliation)
def providers_agree(database: Database) -> dg.AssetCheckResult:
    """No bar differs between two providers without an explanation, as far as they have been compared."""
    with database.begin() as connection:
        apart = quality_findings.still_open(connection, RULES)
    return dg.AssetCheckResult(
        passed=apart.empty,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "findings_open": len(apart),
            "findings_by_symbol": dg.MetadataValue.json(dict(Counter(apart["symbol"]).most_common())),
            "first_findings": rows_as_table(apart[["symbol", "timestamp", "rule", "reason"]]),
        },
    )


@dg.asset_check(asset=backtests.backtest_metrics, blocking=True)
def backtest_metrics_contract(context: dg.AssetCheckExecutionContext, database: Database) -> dg.AssetCheckResult:
    """Every stored row keeps the contract of its stage."""
    if (run := latest_backtest(context.instance)) is None:
        return _no_backtest()
    with database.begin() as connection:
        rows = stored.backtest_results(connection, run)
    verdict = Verdict()
    verdict.add(Judged(violations(rows, schemas.BACKTEST_RESULTS), len(rows)))
    return verdict.result()


@dg.asset_check(asset=backtests.backtest_metrics, blocking=True)
def backtest_metrics_add_up(context: dg.AssetCheckExecutionContext, database: Database) -> dg.AssetCheckResult:
    """The trades of the last backtest sum to the portfolio's return, strategy by strategy, as exactly as it is stored."""
    if (run := latest_backtest(context.instance)) is None:
        return _no_backtest()
    with database.begin() as connection:
        rows = connection.execute(
            text("""
                WITH sums AS (SELECT pattern, variant, sum(pnl) AS pnl FROM backtest_trades
                              WHERE run = CAST(:run AS uuid) GROUP BY pattern, variant)
                SELECT r.strategy_name, r.roi * c.capital AS expected, coalesce(s.pnl, 0) AS found, c.capital
                FROM backtest_results r
                JOIN (SELECT id, (config ->> 'capital')::numeric AS capital FROM backtest_runs) c ON c.id = r.run
                LEFT JOIN sums s ON r.strategy_name = rtrim(s.pattern || ' ' || s.variant)
                WHERE r.run = CAST(:run AS uuid) AND r.scope = 'portfolio'
            """),
            {"run": run},
        ).all()
    results = pd.DataFrame(rows, columns=["strategy_name", "expected", "found", "capital"])
    numbers = results[["expected", "found", "capital"]].astype(float)
    # roi is stored with six decimals.
    off = (numbers["expected"] - numbers["found"]).abs() > ROI_STEP * numbers["capital"]
    verdict = Verdict()
    verdict.add(Judged(results[off], len(results)))
    return verdict.result()


@dg.asset_check(asset=operations.database)
def database_features_on() -> dg.AssetCheckResult:
    """Nothing that TimescaleDB could do here is off, and policies are as the settings say; see docs/tiers.md."""
    warnings = operations.tier_of_database().warnings
    metadata: dict[str, dg.MetadataValue] = {"features_off": dg.MetadataValue.int(len(warnings))}
    if warnings:
        metadata["off"] = rows_as_table(pd.DataFrame([vars(warning) for warning in warnings]))
    return dg.AssetCheckResult(
        passed=not warnings,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(str(warning) for warning in warnings) or "everything is on",
        metadata=metadata,
    )


def _no_backtest() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True, description="Nothing to look at: no backtest has been computed yet.")


def _count_days(connection: Connection, windows: Windows) -> int:
    parts = parts_of(connection, windows)
    return sum(int(partition_counts.daily_bars(connection, part)["rows"].sum()) for part in parts)


KEEPS_CONTRACT = "Every stored row keeps the contract of its stage."

CHECKS: Sequence[dg.AssetChecksDefinition] = [
    contract_check(reference.symbols, stored.symbols, schemas.SYMBOLS),
    table_check(reference.sessions, "contract", KEEPS_CONTRACT, stored_rules.sessions_keep_contract),
    contract_check(reference.splits, stored.splits, schemas.SPLITS),
    contract_check(reference.dividends, stored.dividends, schemas.DIVIDENDS),
    landed_check(raw.raw_daily_bars, Dataset.DAILY_BARS),
    rows_check(bars.ohlcv_daily, "contract", KEEPS_CONTRACT, stored_rules.daily_bars_keep_contract, BY_YEAR),
    quarantine_check(bars.ohlcv_daily, Dataset.DAILY_BARS, _count_days),
    ohlcv_daily_complete,
    ohlcv_daily_source,
    rows_check(features.bar_features, "contract", KEEPS_CONTRACT, stored_rules.features_keep_contract, BY_YEAR),
    rows_check(
        features.bar_features,
        "complete",
        "Every bar has its features, and every row of features its bar.",
        stored_rules.every_bar_has_features,
        BY_YEAR,
    ),
    rows_check(patterns.patterns, "contract", KEEPS_CONTRACT, stored_rules.patterns_keep_contract, BY_YEAR),
    rows_check(
        patterns.patterns,
        "known_at_close",
        "Every detection completes on a stored bar and is known at that bar's close, not before.",
        stored_rules.patterns_are_known_at_close,
        BY_YEAR,
    ),
    backtest_metrics_contract,
    backtest_metrics_add_up,
    database_features_on,
    providers_agree,
]
