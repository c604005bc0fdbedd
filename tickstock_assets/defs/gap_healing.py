"""The job in which gaps are asked for again: a run does a request of the kind `gaps`, and nothing besides.

It has no partitions: a gap is a day or some minutes, and of its month or year nothing else is to be fetched. What it filled
is told of as materialized, partition by partition, so that what is computed from it is computed anew; also what an earlier try
of the request filled, where that was stopped before it told.

Elsewhere: which gaps, and when (gap_sensor.py); how (loading/gap_healing.py).
"""

from collections.abc import Mapping
from typing import Any, Never

import dagster as dg
import pandas as pd

from tickstock_assets.defs.assets.bars import ohlcv_daily
from tickstock_assets.defs.assets.raw import POOL
from tickstock_assets.defs.assets.rollups import INTRADAY, rollup_metadata
from tickstock_assets.defs.landing_metadata import landing_metadata
from tickstock_assets.defs.materializations import told_at
from tickstock_assets.defs.partitions import BY_YEAR, Grid
from tickstock_assets.defs.plots import rows_as_table
from tickstock_assets.defs.recording import RECORDED
from tickstock_assets.defs.request_runs import CONTINUES_AT, GAP_HEALING, REQUEST_TAG, SHARE_LANDED
from tickstock_assets.defs.resources import Database, MarketData, engine
from tickstock_assets.defs.retries import retried
from tickstock_assets.defs.run_cost import add_cost, counted
from tickstock_assets.domain.errors import ProviderError, QuotaExhaustedError, TransientProviderError
from tickstock_assets.loading.gap_healing import DATASETS, Healer, Healing, windows_of_gaps
from tickstock_assets.storage import backfill_requests, gap_attempts
from tickstock_assets.storage.backfill_requests import BackfillRequest
from tickstock_assets.storage.partition_counts import days_changed_since


@dg.op(pool=POOL)
@retried
def ask_again_for_gaps(context: dg.OpExecutionContext, market_data: MarketData, database: Database) -> None:
    """Fetch the days of the request's open gaps, store what comes, and look whether they are filled."""
    request = _request(context, database)
    healer = Healer(market_data.lineup, engine(), market_data.landing_folder, database.run)
    with counted(context, market_data.lineup):
        result = healer.heal(request)
    add_cost(context, rows_landed=result.landing.rows, bytes_landed=result.landing.bytes)
    for event in _materialized(context, database, request, result):
        context.log_event(event)
    metadata = {
        **landing_metadata(result.landing, market_data.lineup, market_data.landing_folder),
        "gaps_tried": len(result.tried),
        "gaps_healed": len(result.healed),
        "still_open": rows_as_table(result.tried[result.tried["id"].isin(result.still_open)].drop(columns="id")),
    }
    context.log.info("Healed %s of %s gaps", len(result.healed), len(result.tried))
    try:
        result.landing.raise_for_failures()
    except TransientProviderError:
        raise
    except ProviderError as error:
        _end(error, result, metadata)
    context.add_output_metadata(metadata)


# The resources stand here since Dagster would else make a sensor that starts this job anew, and warn of its own doing so.
@dg.job(
    executor_def=dg.in_process_executor,
    name=GAP_HEALING,
    resource_defs={"database": Database(), "market_data": MarketData(), "io_manager": dg.mem_io_manager},
)
def HEALING() -> None:  # noqa: N802 a constant like the other jobs
    """Ask the providers once more for the bars of gaps, and see whether that filled them; started by requests."""
    ask_again_for_gaps()


def _request(context: dg.OpExecutionContext, database: Database) -> BackfillRequest:
    """Return the request of a run.

    Raises:
        dg.Failure: there is none, or no gap is tried under it.
    """
    started_by = context.run.tags.get(REQUEST_TAG)
    with database.begin() as connection:
        request = backfill_requests.find(connection, started_by) if started_by else None
        has_gaps = request is not None and not gap_attempts.of_request(connection, request.id, only_open=False).empty
    if request is None or not has_gaps:
        found = f"request {started_by}" if started_by else f"no tag {REQUEST_TAG}"
        raise dg.Failure(
            f"Gaps: expected a run of a request with gaps, found {found}; the sensor heal_gaps enters such requests, and "
            "`tickstock gaps --retry` has gaps tried again that were given up",
            allow_retries=False,
        )
    return request


def _materialized(
    context: dg.OpExecutionContext, database: Database, request: BackfillRequest, result: Healing
) -> list[dg.AssetMaterialization]:
    """Return what is to be told of: partitions in which gaps were filled, bars rolled up from them, years of days so made."""
    instance = context.instance
    return [
        *_partitions(instance, request, result),
        *_rollups(result),
        *_years_of_days(instance, database, request, result),
    ]


def _partitions(
    instance: dg.DagsterInstance, request: BackfillRequest, result: Healing
) -> list[dg.AssetMaterialization]:
    """Return the partitions in which gaps were filled, of what was fetched and of what was stored."""
    grid, assets = RECORDED[DATASETS[request.timeframe]]
    # What is stored is told of last, so where that was told of the other was too.
    filled = _filled(instance, assets[-1].key, grid, result)
    return [
        dg.AssetMaterialization(asset.key, partition=str(partition), metadata={"gaps_healed": n_gaps})
        for partition, n_gaps in _keys(filled, grid).value_counts().sort_index().items()
        for asset in assets
    ]


def _rollups(result: Healing) -> list[dg.AssetMaterialization]:
    """Return the bars that were rolled up from the minutes."""
    if result.rolled_up is None or not result.rolled_up.written:
        return []
    return [
        dg.AssetMaterialization(name, metadata=rollup_metadata(result.rolled_up, timeframe))
        for name, timeframe in {**INTRADAY, "daily_rollups": "1d"}.items()
    ]


def _years_of_days(
    instance: dg.DagsterInstance, database: Database, request: BackfillRequest, result: Healing
) -> list[dg.AssetMaterialization]:
    """Return the years with days that the minutes made or changed, so that what is computed from those days catches up."""
    filled = _filled(instance, ohlcv_daily.key, BY_YEAR, result) if request.timeframe == "1m" else result.tried[:0]
    if filled.empty:
        return []
    with database.begin() as connection:
        changed = days_changed_since(connection, request.created_at, filled["symbol"].unique().tolist())
    touched = sorted({*BY_YEAR.keys_of(windows_of_gaps(filled))} & {*BY_YEAR.keys_of(changed)})
    made = {"made_by": "daily_rollups"}
    return [dg.AssetMaterialization(ohlcv_daily.key, partition=key, metadata=made) for key in touched]


def _filled(instance: dg.DagsterInstance, asset: dg.AssetKey, grid: Grid, result: Healing) -> pd.DataFrame:
    """Return symbol and day of the gaps that this try filled, or one before it without telling of their partition."""
    before, now = result.filled_before, result.healed[["symbol", "day"]]
    if before.empty:
        return now
    keys = _keys(before, grid)
    told = told_at(instance, asset)
    is_untold = [
        key not in told or told[key] < filled_at for key, filled_at in zip(keys, before["healed_at"], strict=True)
    ]
    return pd.concat([before.loc[is_untold, ["symbol", "day"]], now], ignore_index=True)


def _keys(gaps: pd.DataFrame, grid: Grid) -> "pd.Series[str]":
    """Return the partition of each gap."""
    keys: pd.Series[str] = gaps["symbol"] + "|" + gaps["day"].dt.strftime(grid.periods.fmt)
    return keys


def _end(error: ProviderError, result: Healing, metadata: Mapping[str, Any]) -> Never:
    """End a run that could not ask for everything: where a budget held it up it says when it goes on, and how far it is."""
    windows = windows_of_gaps(result.tried)
    goes_on: dict[str, Any] = {}
    if isinstance(error, QuotaExhaustedError):
        share = 1 - len(result.landing.failed) / max(len(windows), 1)
        goes_on = {CONTINUES_AT: dg.MetadataValue.timestamp(error.until), SHARE_LANDED: max(share, 0.0)}
    raise dg.Failure(str(error), metadata={**metadata, **goes_on}, allow_retries=False) from None
