"""The end of a load: what is finished is told of, and where not everything came the rest goes on when it can."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

import dagster as dg
from dagster import DagsterEvent
from sqlalchemy import Connection

from tickstock_assets.defs.partition_log import PartitionLog
from tickstock_assets.defs.partitions import window_of, windows_of
from tickstock_assets.defs.request_runs import CONTINUES_AT, REQUEST_TAG, SHARE_LANDED
from tickstock_assets.defs.resources import Database
from tickstock_assets.defs.retries import RETRIES, pause_seconds
from tickstock_assets.domain.errors import ProviderError, QuotaExhaustedError, TransientProviderError
from tickstock_assets.domain.timeframes import Timeframe
from tickstock_assets.domain.windows import Window, span_of
from tickstock_assets.loading.coverage import common_days, windows_of_symbols
from tickstock_assets.loading.fetching import Landing
from tickstock_assets.storage import backfill_requests
from tickstock_assets.storage.backfill_requests import Kind


def end_of_landing(
    context: dg.AssetExecutionContext,
    log: PartitionLog,
    landing: Landing,
    metadata: Mapping[str, Any],
    go_on: Callable[[ProviderError, Sequence[str]], Mapping[str, Any]],
) -> Iterator[DagsterEvent]:
    """Tell of the partitions that are finished and not told of yet, all where everything came, and end the run otherwise.

    Args:
        context: of the asset.
        log: the run's partitions, and what was told of.
        landing: what came.
        metadata: of the load.
        go_on: is called with why not everything came, and the partitions that are finished; gives the metadata that says
            how it goes on.

    Raises:
        dg.RetryRequested: something may come when it is asked for again.
        dg.Failure: something did not come; it is not retried before something has changed.
    """
    try:
        landing.raise_for_failures()
    except ProviderError as error:
        yield from log.tell(finished_partitions(log.left, landing), {"run_ended": str(error)})
        if isinstance(error, TransientProviderError) and context.op_execution_context.retry_number < RETRIES:
            raise dg.RetryRequested(RETRIES, pause_seconds(context.op_execution_context.retry_number)) from error
        finished = finished_partitions(log.keys, landing)
        told = {**metadata, **go_on(error, finished), **_counts(landing, len(finished), len(log.keys))}
        raise dg.Failure(str(error), metadata=told, allow_retries=False) from None
    yield from log.tell(log.left, metadata)


def _counts(landing: Landing, n_finished: int, n_partitions: int) -> dict[str, Any]:
    return {
        "windows_left": len(landing.failed),
        "first_window_left": str(next(iter(landing.failed))),
        "partitions_finished": n_finished,
        SHARE_LANDED: n_finished / n_partitions,
    }


def finished_partitions(partition_keys: Sequence[str], landing: Landing) -> list[str]:
    """Return the partitions of which nothing failed to come."""
    failed = windows_of_symbols(landing.failed)
    windows = [(key, window_of(key)) for key in partition_keys]
    return [key for key, window in windows if not common_days(failed.get(window.symbol, ()), window)]


def reference_held_up(
    context: dg.AssetExecutionContext, database: Database, symbols: Sequence[str], day: date, error: QuotaExhaustedError
) -> dg.Failure:
    """Return the end of a run that a budget kept from asking for instruments, splits or dividends; it goes on as a request.

    Args:
        context: of the asset.
        database: where requests are.
        symbols: whose; without any nothing need go on.
        day: of the request, the newest one.
        error: of the budget.
    """
    windows = [Window(symbol, day, day) for symbol in symbols]
    goes_on = _requested(context, database, windows, ("1d", "reference"), error) if windows else {}
    return dg.Failure(str(error), metadata={**goes_on, SHARE_LANDED: 0.0}, allow_retries=False)


def request_to_go_on(
    context: dg.AssetExecutionContext,
    database: Database,
    keys: Sequence[str],
    asked: tuple[Timeframe, Kind],
    error: QuotaExhaustedError,
) -> dict[str, Any]:
    """Return the metadata that says when a run goes on that a used up budget ended, and as which request.

    The run's symbols and periods become a backfill request for the moment when the budget lasts again, all of them: what is
    landed is not fetched again, and it has yet to go on from here. A run that a request started leaves that to the request
    as long as it is open.
    """
    return _requested(context, database, windows_of(keys), asked, error)


def request_of_what_came(
    context: dg.AssetExecutionContext, database: Database, windows: Sequence[Window], asked: tuple[Timeframe, Kind]
) -> dict[str, Any]:
    """Return the metadata that says as which request the days go on that came in a run which was refused others.

    Such a run fails, and makes nothing of what it landed: one symbol that no provider has any more would keep back all
    others, every night.

    Args:
        context: of the asset.
        database: where requests are.
        windows: that came and have yet to become bars; without any nothing need go on.
        asked: timeframe and kind of the request.
    """
    if not windows:
        return {}
    symbols, reason = {window.symbol for window in windows}, f"what came in run {context.run.run_id[:8]}, which failed"
    request = database.in_transaction(
        lambda connection: backfill_requests.enter(
            connection, sorted(symbols), asked[0], *span_of(windows), kind=asked[1], reason=reason
        )
    )
    return {"request": request}


def wholly_finished(partition_keys: Sequence[str], finished: Sequence[str]) -> list[Window]:
    """Return the windows of the partitions of those symbols of which every one is finished."""
    refused = {window_of(key).symbol for key in set(partition_keys) - set(finished)}
    return [window for window in windows_of(finished) if window.symbol not in refused]


def _requested(
    context: dg.AssetExecutionContext,
    database: Database,
    windows: Sequence[Window],
    asked: tuple[Timeframe, Kind],
    error: QuotaExhaustedError,
) -> dict[str, Any]:
    started_by = context.run.tags.get(REQUEST_TAG)

    def request(connection: Connection) -> str:
        found = backfill_requests.find(connection, started_by) if started_by else None
        # Not so where a person does a run again whose request is closed.
        if found and found.is_open:
            return found.id
        return backfill_requests.enter(
            connection,
            [window.symbol for window in windows],
            asked[0],
            *span_of(windows),
            kind=asked[1],
            reason=f"goes on where a budget ended run {context.run.run_id[:8]}",
            not_before=error.until,
        )

    return {CONTINUES_AT: dg.MetadataValue.timestamp(error.until), "request": database.in_transaction(request)}
