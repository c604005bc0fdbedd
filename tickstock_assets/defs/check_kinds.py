"""Kinds of checks that several assets have: each function returns one for an asset, evaluated once a run over its scope.

A check of an asset without partitions blocks what is downstream when it fails. With partitions that would stop every symbol
and period of the run for the sake of one; there the rule itself keeps back the partitions that break it (blocked.py), and its
check is an ERROR that names them. Where what is downstream has no partitions to leave out, the check blocks after all.

Elsewhere: the checks themselves (checks.py, minute_checks.py), the rules (loading/stored_rules.py).
"""

from collections.abc import Callable, Sequence

import dagster as dg
import pandas as pd
from pandera.pandas import DataFrameSchema
from sqlalchemy import Connection

from tickstock_assets.defs import blocked
from tickstock_assets.defs.check_scope import Windows, parts_of, scope_of
from tickstock_assets.defs.partitions import Grid
from tickstock_assets.defs.plots import rows_as_table
from tickstock_assets.defs.resources import Database, MarketData, engine, lineup
from tickstock_assets.defs.verdicts import Verdict, failed_partitions
from tickstock_assets.domain.quality import violations
from tickstock_assets.domain.windows import Window
from tickstock_assets.loading.stored_rules import Judged
from tickstock_assets.loading.verifying import verify_landed
from tickstock_assets.providers.base import Dataset
from tickstock_assets.settings import settings
from tickstock_assets.storage import bars as stored

Rule = Callable[[Connection, Sequence[Window]], Judged]


def rows_check(
    asset: dg.AssetsDefinition, rule_name: str, description: str, rule: Rule, grid: Grid, *, blocking: bool = False
) -> dg.AssetChecksDefinition:
    """Return a check that no stored row of an asset with partitions breaks a rule.

    Args:
        asset: whose rows they are.
        rule_name: the end of the check's name.
        description: what the rule says.
        rule: is asked a part of the symbols at a time.
        grid: the asset's partitions.
        blocking: for what is downstream without partitions.
    """

    @dg.asset_check(asset=asset, name=f"{asset.key.path[-1]}_{rule_name}", blocking=blocking, description=description)
    def check(context: dg.AssetCheckExecutionContext, database: Database) -> dg.AssetCheckResult:
        verdict = Verdict(grid)
        with database.begin() as connection:
            for windows in parts_of(connection, scope_of(context, connection)):
                verdict.add(rule(connection, windows))
        return verdict.result()

    return check


def table_check(
    asset: dg.AssetsDefinition, rule_name: str, description: str, rule: Callable[[Connection], Judged]
) -> dg.AssetChecksDefinition:
    """Return a blocking check that no row of an asset without partitions breaks a rule."""

    @dg.asset_check(asset=asset, name=f"{asset.key.path[-1]}_{rule_name}", blocking=True, description=description)
    def check(database: Database) -> dg.AssetCheckResult:
        verdict = Verdict()
        with database.begin() as connection:
            verdict.add(rule(connection))
        return verdict.result()

    return check


def contract_check(
    asset: dg.AssetsDefinition, read: Callable[[Connection], pd.DataFrame], contract: DataFrameSchema
) -> dg.AssetChecksDefinition:
    """Return a blocking check that holds the rows of an asset without partitions against its contract."""

    def rule(connection: Connection) -> Judged:
        rows = read(connection)
        return Judged(violations(rows, contract), len(rows))

    return table_check(asset, "contract", "Every stored row keeps the contract of its stage.", rule)


def landed_check(asset: dg.AssetsDefinition, dataset: Dataset) -> dg.AssetChecksDefinition:
    """Return a check that what a raw asset fetched is all there and intact.

    What is not cannot be read by what is downstream, so nothing has to keep it back.
    """

    @dg.asset_check(
        asset=asset,
        name=f"{asset.key.path[-1]}_landed",
        description="Every window up to the horizon is in the ledger, and every landed file is what was written.",
    )
    def check(
        context: dg.AssetCheckExecutionContext, market_data: MarketData, database: Database
    ) -> dg.AssetCheckResult:
        with database.begin() as connection:
            windows = scope_of(context, connection)
        problems, n_files = verify_landed(market_data.lineup, engine(), market_data.landing_folder, windows, dataset)
        verdict = Verdict()
        verdict.add(Judged(pd.DataFrame({"problem": problems}), n_files))
        return verdict.result()

    return check


def quarantine_check(
    asset: dg.AssetsDefinition,
    dataset: Dataset,
    count: Callable[[Connection, Windows], int],
    *,
    blocking: bool = False,
) -> dg.AssetChecksDefinition:
    """Return a check of how many rows were rejected; `count` says how many are stored in windows."""
    rule = next(rule for rule in blocked.RULES[asset.key.path[-1]] if rule.name == "quarantine")

    @dg.asset_check(
        asset=asset,
        name=f"{asset.key.path[-1]}_quarantine",
        blocking=blocking,
        description="Rejected rows are few: any are a warning; a partition of which a share above "
        "TICKSTOCK_QUARANTINE_THRESHOLD is rejected is kept from what is downstream.",
    )
    def check(context: dg.AssetCheckExecutionContext, database: Database) -> dg.AssetCheckResult:
        with database.begin() as connection:
            windows = scope_of(context, connection)
            n_stored = count(connection, windows)
            rejected = stored.quarantined(connection, lineup().sources(dataset), windows)
            kept_back = _kept_back(connection, rule, rejected, windows)
        share = len(rejected) / max(len(rejected) + n_stored, 1)
        is_hard = len(kept_back) > 0 or share > settings().quarantine_threshold
        verdict = Verdict(rule.grid)
        verdict.add(Judged(rejected, n_stored + len(rejected)))
        return dg.AssetCheckResult(
            passed=rejected.empty,
            severity=dg.AssetCheckSeverity.ERROR if is_hard else dg.AssetCheckSeverity.WARN,
            metadata={
                "rows_stored": n_stored,
                "rows_quarantined": len(rejected),
                "share_quarantined": share,
                "threshold": settings().quarantine_threshold,
                "first_quarantined_rows": rows_as_table(rejected),
                **failed_partitions(verdict.by_partition),
                "partitions_kept_back": len(kept_back),
                **({"first_kept_back": rows_as_table(kept_back)} if len(kept_back) else {}),
            },
        )

    return check


def _kept_back(connection: Connection, rule: blocked.Rule, rejected: pd.DataFrame, windows: Windows) -> pd.DataFrame:
    """Return partition, rule and reason of the partitions that have too many rejected rows."""
    if rejected.empty:
        return pd.DataFrame()
    named = set(rejected["symbol"].dropna())
    of_named = [window for part in parts_of(connection, windows) for window in part if window.symbol in named]
    return blocked.breaking(connection, rule, of_named)
