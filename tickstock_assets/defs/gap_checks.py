"""Asset check of gaps: what a provider does not have, and could."""

import dagster as dg

from tickstock_assets.defs.assets.gaps import data_gaps
from tickstock_assets.defs.plots import rows_as_table
from tickstock_assets.defs.resources import Database
from tickstock_assets.storage import data_gaps as stored
from tickstock_assets.storage import gap_attempts

ROWS_SHOWN = 20
HOLE_COLUMNS = ["symbol", "timeframe", "gap_start", "gap_end", "missing_bars", "evidence", "attempts"]


@dg.asset_check(asset=data_gaps)
def no_gaps_given_up(database: Database) -> dg.AssetCheckResult:
    """No missing bar was asked for in vain so often that it was given up; `tickstock gaps --retry` has them tried anew."""
    with database.begin() as connection:
        given_up = stored.gaps(connection, classes=gap_attempts.HEALABLE, only_given_up=True, limit=ROWS_SHOWN)
        n_given_up = gap_attempts.given_up(connection)
    shown = given_up[["symbol", "timeframe", "gap_start", "missing_bars", "attempts", "given_up_at", "given_up_reason"]]
    return dg.AssetCheckResult(
        passed=given_up.empty,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"gaps_given_up": n_given_up, "first_given_up": rows_as_table(shown)},
    )


@dg.asset_check(asset=data_gaps)
def no_provider_holes(database: Database) -> dg.AssetCheckResult:
    """No bar is missing that was traded; `tickstock gaps --class provider_hole --open` says what to load again."""
    with database.begin() as connection:
        holes = stored.gaps(connection, classes=["provider_hole"], only_open=True, limit=ROWS_SHOWN)
        n_holes = sum(row["gaps"] for row in stored.counted(connection) if row["class"] == "provider_hole")
    return dg.AssetCheckResult(
        passed=holes.empty,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"holes_open": n_holes, "first_holes": rows_as_table(holes[HOLE_COLUMNS])},
    )


GAP_CHECKS = [no_provider_holes, no_gaps_given_up]
