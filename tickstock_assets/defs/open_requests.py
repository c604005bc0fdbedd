"""Backfill requests that are open, in the web UI: one that waits for a budget or its turn has no run there yet.

Elsewhere: the sensor that works on them (sensors.py), the same from a terminal (cli/backfill.py).
"""

import dagster as dg
import pandas as pd
from pydantic import Field
from sqlalchemy import Connection

from tickstock_assets.defs.plots import rows_as_table
from tickstock_assets.defs.resources import Database
from tickstock_assets.defs.retries import retried
from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.storage import backfill_requests
from tickstock_assets.storage.backfill_requests import BackfillRequest

SHOWN = 1_000
SYMBOLS_SHOWN = 5


class Wanted(dg.Config):
    """What is to become of open requests."""

    cancel: list[str] = Field(
        default_factory=list,
        description="Ids of those to be cancelled, as a run without any lists them; their beginnings are enough.",
    )


@dg.op
@retried
def open_requests(context: dg.OpExecutionContext, config: Wanted, database: Database) -> None:
    """List the open requests after cancelling some; their runs are stopped by the sensor `due_requests`."""

    def cancel(connection: Connection) -> list[BackfillRequest]:
        for beginning in config.cancel:
            request = backfill_requests.the_one(connection, beginning, is_open=True)
            backfill_requests.cancel(connection, request.id, f"cancelled in the web UI by run {context.run_id[:8]}")
        return backfill_requests.newest(connection, SHOWN, backfill_requests.OPEN)

    try:
        left = database.in_transaction(cancel)
    except ConfigError as error:
        raise dg.Failure(f"{error}; nothing was cancelled", allow_retries=False) from None
    table = pd.DataFrame([_row(request) for request in left])
    context.add_output_metadata(
        {
            "cancelled": len(config.cancel),
            "open": len(left),
            "requests": rows_as_table(table, limit=SHOWN) if left else "none",
        }
    )


# The resources stand here for the reason that gap_healing.py has.
@dg.job(
    executor_def=dg.in_process_executor,
    name="backfill_requests",
    resource_defs={"database": Database(), "io_manager": dg.mem_io_manager},
)
def OPEN_REQUESTS() -> None:  # noqa: N802 a constant like the other jobs
    """Backfill requests that are open, those among them that wait; `cancel` in the run's config ends some."""
    open_requests()


def _row(request: BackfillRequest) -> dict[str, object]:
    more = len(request.symbols) - SYMBOLS_SHOWN
    return {
        "id": request.id,
        "symbols": ", ".join(request.symbols[:SYMBOLS_SHOWN]) + (f" and {more} more" if more > 0 else ""),
        "timeframe": request.timeframe,
        "start": request.start.isoformat(),
        "end": request.end.isoformat(),
        "kind": request.kind,
        "status": request.status,
        "not_before": f"{request.not_before:%Y-%m-%d %H:%M} UTC" if request.not_before else "",
        "progress": f"{request.progress:.0%}",
        "reason": request.reason or "",
        "requested_by": request.requested_by,
    }
