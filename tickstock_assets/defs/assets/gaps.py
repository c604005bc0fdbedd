"""Bars that were expected and are not there, and why."""

from datetime import UTC, datetime

import dagster as dg
import pandas as pd

from tickstock_assets.defs.assets import reference
from tickstock_assets.defs.assets.bars import ohlcv_1min, ohlcv_daily
from tickstock_assets.defs.assets.rollups import daily_rollups
from tickstock_assets.defs.gap_plots import holes_by_month
from tickstock_assets.defs.materializations import newest_metadata
from tickstock_assets.defs.plots import rows_as_table
from tickstock_assets.defs.resources import Database, MarketData, engine
from tickstock_assets.defs.retries import retried
from tickstock_assets.domain.timeframes import Timeframe
from tickstock_assets.loading.gap_finding import Reach, find_gaps, windows_to_look_at
from tickstock_assets.loading.landed_days import Landed
from tickstock_assets.loading.quality_scores import score_gaps
from tickstock_assets.storage import data_gaps as stored
from tickstock_assets.storage.data_gaps import GapCounts

LOOKED_AT = "looked_at"
TIMEFRAMES: tuple[Timeframe, ...] = ("1d", "1m")


# Without partitions: what is looked at is what was stored since the last time, and the other symbols of those days are
# evidence, so a partition would have to read its neighbours.
@dg.asset(
    group_name="quality",
    kinds={"postgres"},
    deps=[ohlcv_daily, ohlcv_1min, daily_rollups, reference.sessions],
    code_version="1",
)
@retried
def data_gaps(
    context: dg.AssetExecutionContext, market_data: MarketData, database: Database
) -> dg.MaterializeResult[None]:
    """Sessions and regular minutes without a bar, each with its class and the numbers that this rests on.

    Holiday, half day, halt, no trade, hole of the provider, not yet published, or removed by a person; see `docs/gaps.md`.
    A gap that is filled is stamped and kept. Each run looks at what was stored, and at sessions that were changed, since the
    run before. The sessions of years with gaps that changed are scored anew.
    """
    since, now = last_look(context.instance), datetime.now(UTC)
    counts, landed = GapCounts(), Landed(market_data.lineup, market_data.landing_folder)
    for timeframe in TIMEFRAMES:
        with database.begin() as connection:
            windows = windows_to_look_at(connection, timeframe, since)
        counts += find_gaps(engine(), windows, timeframe, Reach.of(market_data.lineup), landed=landed, run=database.run)
    # Also of what others entered since the run before, such as the attempts to heal, or a run that was stopped.
    n_scores = score_gaps(engine(), market_data.lineup, since, database.run)
    with database.begin() as connection:
        by_class, holes = stored.counted(connection), stored.holes_by_day(connection)
    return dg.MaterializeResult(
        metadata={
            LOOKED_AT: now.isoformat(),
            "gaps_new": counts.inserted,
            "gaps_changed": counts.changed,
            "gaps_unchanged": counts.unchanged,
            "gaps_healed": counts.healed,
            "scores_changed": n_scores,
            "open_gaps": rows_as_table(pd.DataFrame(by_class), limit=len(by_class)),
            "holes": holes_by_month(holes),
        }
    )


def last_look(instance: dg.DagsterInstance) -> datetime | None:
    """Return when the last run of this version began to look; None where there was none."""
    said = newest_metadata(instance, data_gaps.key).get(LOOKED_AT)
    return datetime.fromisoformat(str(said.value)) if said else None
