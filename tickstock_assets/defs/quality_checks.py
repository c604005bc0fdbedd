"""Checks of quality: what a person should look at. They warn and block nothing: an odd bar may be what was traded."""

from collections import Counter
from collections.abc import Sequence

import dagster as dg
import pandas as pd

from tickstock_assets.defs.assets import quality
from tickstock_assets.defs.check_scope import parts_of, scope_of
from tickstock_assets.defs.partitions import BY_YEAR
from tickstock_assets.defs.plots import rows_as_table
from tickstock_assets.defs.resources import Database
from tickstock_assets.defs.verdicts import ROWS_SHOWN, Verdict, failed_partitions
from tickstock_assets.domain.windows import Window
from tickstock_assets.loading.stored_rules import Judged

# A session below this is not to be computed with before somebody has looked: a bar in six is missing and one looks odd,
# or two thirds of its bars are there.
LOW_SCORE = 67.0


@dg.asset_check(asset=quality.findings)
def bars_look_right(context: dg.AssetCheckExecutionContext, database: Database) -> dg.AssetCheckResult:
    """No bar looks wrong: the first 20 findings of severity warning or error, those that still hold."""
    verdict, by_symbol = Verdict(BY_YEAR), Counter[str]()
    for windows in _parts(context, database):
        found = quality.open_findings(database, windows)
        odd = found[found["severity"] != "info"]
        by_symbol.update(odd["symbol"])
        verdict.add(Judged(odd[["symbol", "timeframe", "timestamp", "rule", "severity", "reason"]], len(found)))
    return dg.AssetCheckResult(
        passed=not verdict.offending,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{verdict.offending:,} findings of severity warning or error are open",
        metadata={
            "findings_open": verdict.offending,
            "findings_by_symbol": dg.MetadataValue.json(dict(by_symbol.most_common())),
            "first_findings": rows_as_table(verdict.first),
            **failed_partitions(verdict.by_partition),
        },
    )


@dg.asset_check(asset=quality.scores)
def sessions_score_well(context: dg.AssetCheckExecutionContext, database: Database) -> dg.AssetCheckResult:
    """No session scores below 67 of 100; the lowest 20 are shown."""
    verdict, lowest = Verdict(BY_YEAR), pd.DataFrame(columns=["score", "symbol", "session"])
    for windows in _parts(context, database):
        scores = quality.newest_scores(database, windows)
        low = scores[scores["score"] < LOW_SCORE]
        verdict.add(Judged(low, len(scores)))
        if not low.empty:
            both = low if lowest.empty else pd.concat([lowest, low])
            lowest = both.sort_values(["score", "symbol", "session"]).head(ROWS_SHOWN)
    return dg.AssetCheckResult(
        passed=not verdict.offending,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{verdict.offending:,} of {verdict.checked:,} sessions score below {LOW_SCORE:g}",
        metadata={
            "sessions_scored": verdict.checked,
            "sessions_low": verdict.offending,
            "lowest": rows_as_table(lowest),
            **failed_partitions(verdict.by_partition),
        },
    )


def _parts(context: dg.AssetCheckExecutionContext, database: Database) -> list[list[Window]]:
    with database.begin() as connection:
        return list(parts_of(connection, scope_of(context, connection)))


QUALITY_CHECKS: Sequence[dg.AssetChecksDefinition] = [bars_look_right, sessions_score_well]
