"""Row counts against history: what came is neither far less nor far more than what usually comes. They warn.

Bars that are rolled up have no check here: they are held against their minutes value for value, and the minutes are counted.
"""

from collections.abc import Sequence
from datetime import date, timedelta

import dagster as dg
import pandas as pd

from tickstock_assets.defs.assets import backtests, bars, features, patterns, quality, reference, ticks
from tickstock_assets.defs.check_scope import FIRST_DAY, Windows, parts_of, scope_of
from tickstock_assets.defs.partitions import BY_DAY, BY_MONTH, BY_YEAR, FREQUENCIES, Grid
from tickstock_assets.defs.resources import Database, lineup
from tickstock_assets.defs.verdicts import Verdict
from tickstock_assets.domain.row_counts import unusual_counts
from tickstock_assets.domain.windows import Window, span_of
from tickstock_assets.loading.stored_rules import Judged
from tickstock_assets.storage.row_counts import COUNTED, Period, rows_by_period

PERIODS: dict[str, Period] = {"Y": "year", "M": "month", "D": "day"}
# How far back history is counted where all of it would be millions of rows a symbol.
LONG_ENOUGH = {"M": timedelta(days=215), "D": timedelta(days=45)}
RUNS_LOOKED_AT = 20
WARN = dg.AssetCheckSeverity.WARN


def partition_rows_check(
    asset: dg.AssetsDefinition, grid: Grid, *, is_random: bool = False
) -> dg.AssetChecksDefinition:
    """Return a check of the rows of each partition against the symbol's other partitions, by the sessions of each.

    Args:
        asset: has the name of its table.
        grid: its partitions.
        is_random: see `unusual_counts`.
    """
    counted = COUNTED[asset.key.path[-1]]
    frequency = FREQUENCIES[grid.periods.fmt]

    @dg.asset_check(
        asset=asset,
        name=f"{asset.key.path[-1]}_row_count",
        description="Each partition has about as many rows a session as the symbol's other partitions.",
    )
    def check(context: dg.AssetCheckExecutionContext, database: Database) -> dg.AssetCheckResult:
        verdict = Verdict(grid)
        with database.begin() as connection:
            windows = scope_of(context, connection)
            for part in parts_of(connection, windows):
                symbols = sorted({window.symbol for window in part})
                days = _history(part, frequency)
                counts = rows_by_period(connection, counted, PERIODS[frequency], symbols, days)
                unusual, n_judged = unusual_counts(_marked(counts, part, frequency, windows), is_random=is_random)
                verdict.add(Judged(unusual.rename(columns={"day": "date"}), n_judged))
        return verdict.result(
            WARN, f"{verdict.offending:,} of {verdict.checked:,} partitions have unusually few or many rows"
        )

    return check


def table_rows_check(asset: dg.AssetsDefinition) -> dg.AssetChecksDefinition:
    """Return a check that a table without partitions has not lost rows since the runs before; more is what loads bring."""

    @dg.asset_check(
        asset=asset,
        name=f"{asset.key.path[-1]}_row_count",
        description="The table has about as many rows as after the runs before, or more.",
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        counts = _counts_of_runs(context.instance, asset.key)
        unusual, n_judged = unusual_counts(counts)
        verdict = Verdict()
        verdict.add(Judged(unusual[unusual["rows"] < unusual["lowest"]].drop(columns="sessions"), n_judged))
        return verdict.result(WARN, None if n_judged else "Too few runs before this one to say what is usual.")

    return check


def _history(windows: Sequence[Window], frequency: str) -> tuple[date, date]:
    """Return the days within which rows are counted: enough before the windows, and up to the providers' horizon."""
    horizon = lineup().horizon()
    if frequency not in LONG_ENOUGH:
        return FIRST_DAY, horizon
    first, last = span_of(windows)
    began = FIRST_DAY if first == FIRST_DAY else first - LONG_ENOUGH[frequency]
    return began, min(last, horizon)


def _marked(counts: pd.DataFrame, part: Sequence[Window], frequency: str, asked: Windows) -> pd.DataFrame:
    """Return counts with which of them are to be judged: periods that the windows touch.

    Where everything is looked at, a period without rows was perhaps never loaded, which is no anomaly.
    """
    if asked is None:
        return counts.assign(is_judged=counts["rows"] > 0)
    ends = counts["day"].dt.to_period(frequency).dt.end_time
    is_judged = pd.Series(data=False, index=counts.index)
    for window in part:
        touched = (counts["day"] <= pd.Timestamp(window.end)) & (ends >= pd.Timestamp(window.start))
        is_judged |= touched & (counts["symbol"] == window.symbol)
    return counts.assign(is_judged=is_judged)


def _counts_of_runs(instance: dg.DagsterInstance, asset: dg.AssetKey) -> pd.DataFrame:
    """Return the row counts of an asset's last materializations as periods of one "symbol", of which the newest is judged."""
    found = instance.fetch_materializations(asset, limit=RUNS_LOOKED_AT).records
    rows = [
        (record.timestamp, materialization.metadata["dagster/row_count"].value)
        for record in found
        if (materialization := record.asset_materialization) and "dagster/row_count" in materialization.metadata
    ]
    counts = pd.DataFrame(rows, columns=["day", "rows"]).astype({"day": "float64", "rows": "int64"})
    return counts.assign(
        symbol=asset.path[-1],
        day=pd.to_datetime(counts["day"], unit="s", utc=True).dt.floor("s"),
        sessions=1,
        is_judged=counts.index == 0,
    )


ROW_COUNT_CHECKS: Sequence[dg.AssetChecksDefinition] = [
    *(
        table_rows_check(asset)
        for asset in (reference.symbols, reference.sessions, reference.splits, reference.dividends)
    ),
    partition_rows_check(bars.ohlcv_daily, BY_YEAR),
    partition_rows_check(bars.ohlcv_1min, BY_MONTH, is_random=True),
    partition_rows_check(ticks.ticks, BY_DAY, is_random=True),
    partition_rows_check(features.bar_features, BY_YEAR),
    partition_rows_check(patterns.patterns, BY_YEAR, is_random=True),
    partition_rows_check(quality.findings, BY_YEAR, is_random=True),
    table_rows_check(backtests.backtest_metrics),
]
