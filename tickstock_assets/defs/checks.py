"""Asset checks: each stage's contract held against what is stored, evaluated once a run over what the run works on.

A hard violation is an ERROR and blocks what is downstream; what a person should only look at is a WARN.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import dagster as dg
import pandas as pd
from pandera.pandas import DataFrameSchema
from sqlalchemy import Connection, text

from tickstock_assets.defs.assets import backtests, bars, features, operations, patterns, raw, reconciliation, reference
from tickstock_assets.defs.assets.backtests import last_backtest
from tickstock_assets.defs.partitions import windows_of_run
from tickstock_assets.defs.plots import rows_as_table
from tickstock_assets.defs.resources import Database, MarketData, engine, lineup
from tickstock_assets.domain import schemas
from tickstock_assets.domain.quality import violations
from tickstock_assets.domain.sessions import DEFAULT_EXCHANGE
from tickstock_assets.domain.source_stretches import served_by_others
from tickstock_assets.domain.windows import Window
from tickstock_assets.loading.reconciling import RULES
from tickstock_assets.loading.verifying import verify_landed
from tickstock_assets.providers.base import Dataset
from tickstock_assets.settings import settings
from tickstock_assets.storage import bars as stored
from tickstock_assets.storage import quality_findings

Windows = Sequence[Window] | None
ROI_STEP = 1e-6


def _windows(context: dg.AssetCheckExecutionContext) -> Windows:
    return windows_of_run(context.instance, context.run.tags)


def _verdict(offending: pd.DataFrame, n_checked: int) -> dg.AssetCheckResult:
    """Return a pass when nothing offends, else a failure with the first rows."""
    metadata: dict[str, dg.MetadataValue] = {
        "rows_checked": dg.MetadataValue.int(n_checked),
        "rows_offending": dg.MetadataValue.int(len(offending)),
    }
    if not offending.empty:
        metadata["first_offending_rows"] = rows_as_table(offending)
    return dg.AssetCheckResult(passed=offending.empty, severity=dg.AssetCheckSeverity.ERROR, metadata=metadata)


def contract_check(
    asset: dg.AssetsDefinition,
    read: Callable[[Connection, dg.AssetCheckExecutionContext], pd.DataFrame],
    contract: Callable[[Connection], DataFrameSchema],
) -> dg.AssetChecksDefinition:
    """Return a blocking check that holds an asset's stored rows against its contract."""

    @dg.asset_check(
        asset=asset,
        name=f"{asset.key.path[-1]}_contract",
        blocking=True,
        description="Every stored row keeps the contract of its stage.",
    )
    def check(context: dg.AssetCheckExecutionContext, database: Database) -> dg.AssetCheckResult:
        with database.begin() as connection:
            rows = read(connection, context)
            return _verdict(violations(rows, contract(connection)), len(rows))

    return check


@dg.asset_check(asset=raw.raw_daily_bars, blocking=True)
def raw_daily_bars_landed(context: dg.AssetCheckExecutionContext, market_data: MarketData) -> dg.AssetCheckResult:
    """Every window up to the horizon is in the ledger, and every landed file is what was written."""
    windows = _windows(context)
    problems, n_files = verify_landed(market_data.lineup, engine(), market_data.landing_folder, windows)
    return _verdict(pd.DataFrame({"problem": problems}), n_checked=n_files)


@dg.asset_check(asset=bars.ohlcv_daily, blocking=True)
def ohlcv_daily_quarantine(context: dg.AssetCheckExecutionContext, database: Database) -> dg.AssetCheckResult:
    """Rejected rows are few: any are a warning, a share above TICKSTOCK_QUARANTINE_THRESHOLD blocks what is downstream."""
    windows = _windows(context)
    with database.begin() as connection:
        n_stored = len(stored.daily_bars(connection, windows))
        rejected = stored.quarantined(connection, lineup().sources(Dataset.DAILY_BARS), windows)
    share = len(rejected) / max(len(rejected) + n_stored, 1)
    blocks = share > settings().quarantine_threshold
    return dg.AssetCheckResult(
        passed=rejected.empty,
        severity=dg.AssetCheckSeverity.ERROR if blocks else dg.AssetCheckSeverity.WARN,
        metadata={
            "rows_stored": n_stored,
            "rows_quarantined": len(rejected),
            "share_quarantined": share,
            "threshold": settings().quarantine_threshold,
            "first_quarantined_rows": rows_as_table(rejected),
        },
    )


@dg.asset_check(asset=bars.ohlcv_daily)
def ohlcv_daily_complete(database: Database) -> dg.AssetCheckResult:
    """Every session of the exchange between a symbol's first bar and the provider's horizon has a bar."""
    with database.begin() as connection:
        held = stored.coverage(connection, lineup().horizons())
    missing = held[["symbol", "missing"]].explode("missing").dropna()
    return dg.AssetCheckResult(
        passed=missing.empty,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"sessions_missing": len(missing), "first_missing_sessions": rows_as_table(missing)},
    )


@dg.asset_check(asset=bars.ohlcv_daily)
def ohlcv_daily_source(context: dg.AssetCheckExecutionContext, database: Database) -> dg.AssetCheckResult:
    """Every bar is from the provider that is asked first; those that another stood in for are shown, by source."""
    with database.begin() as connection:
        rows = stored.daily_bars(connection, _windows(context))
    first = lineup().first.name
    others = served_by_others(rows, first)
    by_source = {str(name): int(count) for name, count in rows["source"].value_counts().items()}
    return dg.AssetCheckResult(
        passed=others.empty,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{int(others['bars'].sum()):,} of {len(rows):,} bars are from another source than {first}",
        metadata={
            "first_provider": first,
            "rows_by_source": dg.MetadataValue.json(by_source),
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


@dg.asset_check(asset=features.bar_features, blocking=True)
def bar_features_complete(context: dg.AssetCheckExecutionContext, database: Database) -> dg.AssetCheckResult:
    """Every bar has its features, and every row of features its bar."""
    windows = _windows(context)
    with database.begin() as connection:
        keys = stored.daily_bars(connection, windows)[["symbol", "timestamp"]]
        measured = stored.bar_features(connection, "1d", windows)[["symbol", "timestamp"]]
    joined = keys.merge(measured, how="outer", indicator="found_in")
    unmatched = joined[joined["found_in"] != "both"]
    return _verdict(unmatched.replace({"found_in": {"left_only": "bars", "right_only": "features"}}), len(joined))


@dg.asset_check(asset=patterns.patterns, blocking=True)
def patterns_known_at_close(context: dg.AssetCheckExecutionContext, database: Database) -> dg.AssetCheckResult:
    """Every detection completes on a stored bar and is known at that bar's close, not before."""
    windows = _windows(context)
    with database.begin() as connection:
        closes = stored.daily_bars(connection, windows)[["symbol", "timestamp", "session_close"]]
        found = stored.patterns(connection, "1d", windows)
    joined = found.merge(closes, how="left", on=["symbol", "timestamp"])
    early = joined[~(joined["known_at"] >= joined["session_close"])]
    return _verdict(early[["symbol", "timestamp", "pattern", "variant", "known_at", "session_close"]], len(joined))


@dg.asset_check(asset=backtests.backtest_metrics, blocking=True)
def backtest_metrics_add_up(context: dg.AssetCheckExecutionContext, database: Database) -> dg.AssetCheckResult:
    """The trades of the last backtest sum to the portfolio's return, strategy by strategy, as exactly as it is stored."""
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
            {"run": last_backtest(context.instance)},
        ).all()
    results = pd.DataFrame(rows, columns=["strategy_name", "expected", "found", "capital"])
    numbers = results[["expected", "found", "capital"]].astype(float)
    # roi is stored with six decimals.
    off = (numbers["expected"] - numbers["found"]).abs() > ROI_STEP * numbers["capital"]
    return _verdict(results[off], len(results))


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


def _daily_bars_contract(connection: Connection) -> DataFrameSchema:
    return schemas.daily_bars(_sessions(connection)["session"])


def _sessions(connection: Connection) -> pd.DataFrame:
    first, last = lineup().span(Dataset.DAILY_BARS)
    return stored.sessions(connection, DEFAULT_EXCHANGE, first, last)


CHECKS: Sequence[dg.AssetChecksDefinition] = [
    contract_check(reference.symbols, lambda connection, _: stored.symbols(connection), lambda _: schemas.SYMBOLS),
    contract_check(reference.sessions, lambda connection, _: _sessions(connection), lambda _: schemas.SESSIONS),
    contract_check(reference.splits, lambda connection, _: stored.splits(connection), lambda _: schemas.SPLITS),
    contract_check(
        reference.dividends, lambda connection, _: stored.dividends(connection), lambda _: schemas.DIVIDENDS
    ),
    raw_daily_bars_landed,
    contract_check(
        bars.ohlcv_daily,
        lambda connection, context: stored.daily_bars(connection, _windows(context)),
        _daily_bars_contract,
    ),
    ohlcv_daily_quarantine,
    ohlcv_daily_complete,
    ohlcv_daily_source,
    contract_check(
        features.bar_features,
        lambda connection, context: stored.bar_features(connection, "1d", _windows(context)),
        lambda _: schemas.BAR_FEATURES,
    ),
    bar_features_complete,
    contract_check(
        patterns.patterns,
        lambda connection, context: stored.patterns(connection, "1d", _windows(context)),
        lambda _: schemas.PATTERNS,
    ),
    patterns_known_at_close,
    contract_check(
        backtests.backtest_metrics,
        lambda connection, context: stored.backtest_results(connection, last_backtest(context.instance)),
        lambda _: schemas.BACKTEST_RESULTS,
    ),
    backtest_metrics_add_up,
    database_features_on,
    providers_agree,
]
