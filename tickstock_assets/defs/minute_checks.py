"""Checks of minutes, of trades, and that what is rolled up from minutes equals them."""

from collections.abc import Iterator, Sequence

import dagster as dg
from sqlalchemy import Connection

from tickstock_assets.defs.assets import bars, raw, ticks
from tickstock_assets.defs.assets.rollups import INTRADAY
from tickstock_assets.defs.check_kinds import landed_check, quarantine_check, rows_check
from tickstock_assets.defs.check_scope import Windows, scope_of
from tickstock_assets.defs.partitions import BY_DAY, BY_MONTH
from tickstock_assets.defs.plots import rows_as_table
from tickstock_assets.defs.resources import Database, engine, lineup
from tickstock_assets.domain.windows import Window
from tickstock_assets.loading import stored_rules
from tickstock_assets.loading.stored_rules import Judged
from tickstock_assets.loading.trade_bars import MADE_OF_TRADES
from tickstock_assets.providers.base import Dataset
from tickstock_assets.providers.synthetic import SyntheticProvider
from tickstock_assets.storage import minutes
from tickstock_assets.storage.rollups import verify

ROLLED_UP = {**INTRADAY, "daily_rollups": "1d"}


@dg.asset_check(asset=bars.ohlcv_1min)
def ohlcv_1min_source(context: dg.AssetCheckExecutionContext, database: Database) -> dg.AssetCheckResult:
    """Every bar is from the provider that is asked first; those of others, or made from trades, are shown by source."""
    with database.begin() as connection:
        found = minutes.sources_of_minutes(connection, scope_of(context, connection))
    first = lineup().first.source(Dataset.MINUTE_BARS)
    others = found[found["source"] != first]
    by_source = {str(name): int(count) for name, count in found.groupby("source")["bars"].sum().items()}
    return dg.AssetCheckResult(
        passed=others.empty,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{int(others['bars'].sum()):,} of {int(found['bars'].sum()):,} bars are from another source than {first}",
        metadata={
            "first_provider": first,
            "rows_by_source": dg.MetadataValue.json(by_source),
            "bars_of_others": rows_as_table(others),
        },
    )


# One for all of them: they are made of the same hours, and those are read once.
@dg.multi_asset_check(
    name="rollups_equal_their_minutes",
    specs=[
        dg.AssetCheckSpec(
            "rollups_equal_their_minutes",
            asset=name,
            blocking=True,
            description="Every bar of the hours that were computed last equals what its minutes say, value for value.",
        )
        for name in ROLLED_UP
    ],
)
def rollups_equal_their_minutes() -> Iterator[dg.AssetCheckResult]:
    """Compute the bars once more, by other means than the rollup job, and compare."""
    differences = verify(engine())
    for name, timeframe in ROLLED_UP.items():
        of_asset = differences[differences["timeframe"] == timeframe]
        metadata: dict[str, dg.MetadataValue] = {"values_different": dg.MetadataValue.int(len(of_asset))}
        if not of_asset.empty:
            metadata["first_differences"] = rows_as_table(of_asset)
        yield dg.AssetCheckResult(
            asset_key=name, passed=of_asset.empty, severity=dg.AssetCheckSeverity.ERROR, metadata=metadata
        )


def _invented_days_add_up(connection: Connection, windows: Sequence[Window]) -> Judged:
    return Judged(*minutes.days_at_odds(connection, windows, SyntheticProvider.name))


def _count_minutes(connection: Connection, windows: Windows) -> int:
    found = minutes.sources_of_minutes(connection, windows)
    return int(found.loc[~found["source"].str.startswith(MADE_OF_TRADES), "bars"].sum())


KEEPS_CONTRACT = "Every stored minute keeps the contract of its stage."

# What is rolled up from minutes has no partitions that could be left out, so what is wrong with minutes stops all of it.
MINUTE_CHECKS: Sequence[dg.AssetChecksDefinition] = [
    landed_check(raw.raw_minute_bars, Dataset.MINUTE_BARS),
    rows_check(
        bars.ohlcv_1min, "contract", KEEPS_CONTRACT, stored_rules.minute_bars_keep_contract, BY_MONTH, blocking=True
    ),
    quarantine_check(bars.ohlcv_1min, Dataset.MINUTE_BARS, _count_minutes, blocking=True),
    ohlcv_1min_source,
    rows_check(
        bars.ohlcv_1min,
        "adds_up",
        "Invented minutes add up to the real daily bar that they were made for, in every field and to the last digit.",
        _invented_days_add_up,
        BY_MONTH,
        blocking=True,
    ),
    rollups_equal_their_minutes,
    landed_check(raw.raw_trades, Dataset.TRADES),
    quarantine_check(ticks.ticks, Dataset.TRADES, minutes.count_trades),
    rows_check(
        ticks.tick_minute_bars,
        "contract",
        KEEPS_CONTRACT,
        stored_rules.minutes_of_trades_keep_contract,
        BY_DAY,
        blocking=True,
    ),
]
