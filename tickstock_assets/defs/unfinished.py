"""The end of a run that could not land everything: what is finished counts, and the rest goes on when it can."""

from collections.abc import Mapping, Sequence
from typing import Any, Never

import dagster as dg
from sqlalchemy import Connection

from tickstock_assets.defs.partitions import window_of, windows_of
from tickstock_assets.defs.request_runs import CONTINUES_AT, REQUEST_TAG, SHARE_LANDED
from tickstock_assets.defs.resources import Database
from tickstock_assets.domain.errors import ProviderError, QuotaExhaustedError
from tickstock_assets.loading.coverage import common_days, windows_of_symbols
from tickstock_assets.loading.fetching import Landing
from tickstock_assets.storage import backfill_requests


def require_all_landed(
    context: dg.AssetExecutionContext, landing: Landing, metadata: Mapping[str, Any], database: Database
) -> None:
    """Do nothing when everything came; else record the partitions that are finished and end the run.

    Where a budget is used up, the run's symbols and years become a backfill request for the moment when it lasts again, all
    of them: what is landed is not fetched again, and it has yet to go on from here. A run that a request started leaves
    that to the request as long as it is open.

    Raises:
        dg.Failure: something did not come; it is not retried before something has changed.
    """
    try:
        landing.raise_for_failures()
    except QuotaExhaustedError as error:
        _end(context, landing, {**metadata, **_to_go_on(context, error, database)}, error)
    except ProviderError as error:
        _end(context, landing, metadata, error)


def _end(
    context: dg.AssetExecutionContext, landing: Landing, metadata: Mapping[str, Any], error: ProviderError
) -> Never:
    keys = context.partition_keys
    finished = finished_partitions(keys, landing)
    # The run's failure takes the place of its output, so that these partitions are told of one by one.
    for key in finished:
        context.log_event(dg.AssetMaterialization(context.asset_key, partition=key, metadata={"run_ended": str(error)}))
    counts: dict[str, Any] = {
        "windows_left": len(landing.failed),
        "first_window_left": str(next(iter(landing.failed))),
        "partitions_finished": len(finished),
        SHARE_LANDED: len(finished) / len(keys),
    }
    raise dg.Failure(str(error), metadata={**metadata, **counts}, allow_retries=False) from None


def finished_partitions(partition_keys: Sequence[str], landing: Landing) -> list[str]:
    """Return the partitions of which nothing failed to come."""
    failed = windows_of_symbols(landing.failed)
    windows = [(key, window_of(key)) for key in partition_keys]
    return [key for key, window in windows if not common_days(failed.get(window.symbol, ()), window)]


def _to_go_on(context: dg.AssetExecutionContext, error: QuotaExhaustedError, database: Database) -> dict[str, Any]:
    """Return the metadata that says when it goes on, and as which request."""
    windows = windows_of(context.partition_keys)
    started_by = context.run.tags.get(REQUEST_TAG)

    def request(connection: Connection) -> str:
        found = backfill_requests.find(connection, started_by) if started_by else None
        # Not so where a person does a run again whose request is closed.
        if found and found.is_open:
            return found.id
        return backfill_requests.enter(
            connection,
            [window.symbol for window in windows],
            "1d",
            min(window.start for window in windows),
            max(window.end for window in windows),
            reason=f"goes on where a budget ended run {context.run.run_id[:8]}",
            not_before=error.until,
        )

    return {CONTINUES_AT: dg.MetadataValue.timestamp(error.until), "request": database.in_transaction(request)}
