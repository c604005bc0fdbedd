"""Requests to load history: entered by a person or by a run that could not finish, worked on when they are due.

A request is `requested` until work on it begins, then `running`, and ends as `succeeded`, `failed` or `cancelled`. What has
to wait for a provider's budget becomes `requested` once more, with `not_before`. The first two are its open states.

Elsewhere: which runs a request takes, and who starts them (defs/).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

from sqlalchemy import Connection, MappingResult, text

from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.domain.timeframes import Timeframe, timeframe
from tickstock_assets.storage import audit

TABLE = "backfill_requests"
# What is to be loaded: what is not there yet; bars that data_gaps has under the request, again; trades; reference data.
type Kind = Literal["history", "gaps", "trades", "reference"]
OPEN = ("requested", "running")
STATUSES = (*OPEN, "succeeded", "failed", "cancelled")

# Two who enter the same request at once would both find none.
LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('backfill_requests', 0))")
OPEN_TWIN = text("""
    SELECT id::text FROM backfill_requests
    WHERE status IN ('requested', 'running') AND kind = :kind AND symbols = CAST(:symbols AS text[])
      AND timeframe = CAST(:timeframe AS timeframe) AND start_date = :start AND end_date = :end
""")
WAIT_LONGER = text("""
    UPDATE backfill_requests SET not_before = greatest(not_before, :not_before)
    WHERE id = CAST(:id AS uuid) AND status = 'requested' AND not_before IS DISTINCT FROM greatest(not_before, :not_before)
""")
ENTER = text("""
    INSERT INTO backfill_requests (symbols, timeframe, start_date, end_date, kind, reason, not_before)
    VALUES (:symbols, CAST(:timeframe AS timeframe), :start, :end, :kind, :reason, :not_before) RETURNING id::text
""")
# A person may have written into the table what no date of Python can be, such as infinity or a year before the first.
COLUMNS = """
    id::text, symbols, timeframe::text AS timeframe,
    least(greatest(start_date, DATE '0001-01-01'), DATE '9999-12-31') AS start,
    least(greatest(end_date, DATE '0001-01-01'), DATE '9999-12-31') AS "end", status, attempts, progress,
    requested_by, reason,
    CASE WHEN not_before IS NOT NULL
        THEN least(greatest(not_before, TIMESTAMPTZ '0001-01-02Z'), TIMESTAMPTZ '9999-12-30Z') END AS not_before,
    error, kind, least(greatest(created_at, TIMESTAMPTZ '0001-01-02Z'), TIMESTAMPTZ '9999-12-30Z') AS created_at
"""
WAITING_LONGEST = text(f"""
    SELECT {COLUMNS} FROM backfill_requests
    WHERE status = 'requested' AND (not_before IS NULL OR not_before <= clock_timestamp())
    ORDER BY coalesce(not_before, created_at), created_at, id LIMIT :most
""")  # noqa: S608 constants
RUNNING = text(f"SELECT {COLUMNS} FROM backfill_requests WHERE status = 'running' ORDER BY started_at, id")  # noqa: S608
ONE = text(f"SELECT {COLUMNS} FROM backfill_requests WHERE id = CAST(:id AS uuid)")  # noqa: S608
BEGINNING_WITH = text(f"""
    SELECT {COLUMNS} FROM backfill_requests WHERE starts_with(id::text, lower(:start)) ORDER BY created_at DESC LIMIT :most
""")  # noqa: S608
NEWEST = text(f"""
    SELECT {COLUMNS} FROM backfill_requests WHERE status = ANY (:statuses) ORDER BY created_at DESC, id LIMIT :most
""")  # noqa: S608
CANCELLED = text("SELECT id::text FROM backfill_requests WHERE id::text = ANY (:ids) AND status = 'cancelled'")
WAITING = text("""
    SELECT count(*) AS n_waiting, min(CASE WHEN isfinite(not_before) THEN not_before END) AS first
    FROM backfill_requests WHERE status = 'requested' AND not_before > clock_timestamp()
""")
BEGIN = text(f"""
    UPDATE backfill_requests
    SET status = 'running', attempts = least(attempts, 2147483646) + 1, started_at = clock_timestamp(),
        not_before = NULL, error = NULL
    WHERE id = CAST(:id AS uuid) AND status = 'requested' AND (not_before IS NULL OR not_before <= clock_timestamp())
    RETURNING {COLUMNS}
""")  # noqa: S608
PROGRESS = text("""
    UPDATE backfill_requests SET progress = :share
    WHERE id = CAST(:id AS uuid) AND status = 'running' AND progress <> round(CAST(:share AS numeric), 6)
""")
POSTPONE = text("""
    UPDATE backfill_requests SET status = 'requested', not_before = :not_before, progress = :share
    WHERE id = CAST(:id AS uuid) AND status = 'running'
""")
END = text("""
    UPDATE backfill_requests
    SET status = :status, error = :error, finished_at = greatest(clock_timestamp(), started_at), not_before = NULL,
        progress = CASE WHEN :status = 'succeeded' THEN 1 ELSE progress END
    WHERE id = CAST(:id AS uuid) AND status IN ('requested', 'running')
""")


@dataclass(frozen=True)
class BackfillRequest:
    """A request as it stands.

    Attributes:
        id: the row's.
        symbols: in order, each once; they need not be known yet.
        timeframe: of the bars.
        start: first day.
        end: last day.
        status: requested, running, succeeded, failed or cancelled.
        attempts: how often work on it began.
        progress: share that is loaded, 0 to 1.
        requested_by: who asked.
        reason: what for.
        not_before: when it may begin (UTC); None for at once.
        error: why it failed, or was cancelled.
        kind: what is to be loaded of it.
        created_at: when it was entered (UTC).
    """

    id: str
    symbols: Sequence[str]
    timeframe: Timeframe
    start: date
    end: date
    status: str
    attempts: int
    progress: float
    requested_by: str
    reason: str | None
    not_before: datetime | None
    error: str | None
    kind: Kind
    created_at: datetime

    @property
    def is_open(self) -> bool:
        """Whether it is still to be loaded."""
        return self.status in OPEN


def enter(
    connection: Connection,
    symbols: Sequence[str],
    timeframe_text: str,
    start: date,
    end: date,
    *,
    kind: Kind = "history",
    reason: str | None = None,
    not_before: datetime | None = None,
) -> str:
    """Enter a request and return its id; of one that is open already the id, and it waits as long as both are to.

    Args:
        connection: open; `audit.begin` on it says who asks.
        symbols: instruments, known or not.
        timeframe_text: of the bars, such as `1d` or `daily`.
        start: first day.
        end: last day.
        kind: what is to be loaded of it; of `gaps`, those of data_gaps that get its id.
        reason: what for.
        not_before: when it may begin, with a time zone; None for at once.

    Raises:
        ConfigError: there is no symbol, no such timeframe, or the range is reversed.
        ValueError: `not_before` has no time zone.
    """
    wanted = sorted({symbol.strip() for symbol in symbols} - {""})
    if not wanted:
        raise ConfigError("Request: expected at least one symbol, found none; name some")
    if start > end:
        raise ConfigError(f"Request: expected a first day on or before the last, {end}, found {start}; swap them")
    if not_before is not None and not_before.tzinfo is None:
        raise ValueError(f"Request: expected a moment with a time zone, found {not_before.isoformat()}")
    values = {"symbols": wanted, "timeframe": timeframe(timeframe_text), "start": start, "end": end, "kind": kind}
    connection.execute(LOCK)
    twin: str | None = connection.execute(OPEN_TWIN, values).scalar()
    if twin is not None:
        if not_before is not None:
            connection.execute(WAIT_LONGER, {"id": twin, "not_before": not_before})
        return twin
    entered: str = connection.execute(ENTER, {**values, "reason": reason, "not_before": not_before}).scalar_one()
    _audit(connection, entered, "request", {**values, "reason": reason, "not_before": not_before})
    return entered


def find(connection: Connection, request_id: str) -> BackfillRequest | None:
    """Return a request, None when there is none of that id."""
    return next(iter(_requests(connection.execute(ONE, {"id": request_id}).mappings())), None)


def the_one(connection: Connection, beginning: str, *, is_open: bool = False) -> BackfillRequest:
    """Return the request whose id begins so; a person types no more than tells it apart.

    Raises:
        ConfigError: none or several begin so, or it has to be open and is not.
    """
    values = {"start": beginning.strip(), "most": 2}
    found = _requests(connection.execute(BEGINNING_WITH, values).mappings()) if beginning.strip() else []
    if len(found) != 1:
        raise ConfigError(
            f"Request {beginning!r}: expected how the id of one begins, found {'several' if found else 'none'}; "
            "`tickstock backfill list` has them"
        )
    (request,) = found
    if is_open and not request.is_open:
        raise ConfigError(
            f"Request {request.id.partition('-')[0]}: expected one that is open, found it {request.status}"
        )
    return request


def newest(connection: Connection, most: int, statuses: Sequence[str] = STATUSES) -> list[BackfillRequest]:
    """Return the requests that were entered last, newest first."""
    return _requests(connection.execute(NEWEST, {"most": most, "statuses": list(statuses)}).mappings())


def cancelled(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Return which of some ids are those of cancelled requests."""
    return set(connection.execute(CANCELLED, {"ids": list(ids)}).scalars())


def waiting(connection: Connection) -> tuple[int, datetime | None]:
    """Return how many requests wait for a moment, and the first of those moments."""
    row = connection.execute(WAITING).one()
    return row.n_waiting, row.first


def due(connection: Connection, most: int) -> list[BackfillRequest]:
    """Return requests on which work may begin, those that waited longest first."""
    return _requests(connection.execute(WAITING_LONGEST, {"most": most}).mappings())


def running(connection: Connection) -> list[BackfillRequest]:
    """Return the requests that are worked on, oldest first."""
    return _requests(connection.execute(RUNNING).mappings())


def begin(connection: Connection, request_id: str) -> BackfillRequest | None:
    """Mark a due request as running and return it; None when somebody else was quicker."""
    begun = next(iter(_requests(connection.execute(BEGIN, {"id": request_id}).mappings())), None)
    if begun:
        _audit(connection, request_id, "begin", {"attempt": begun.attempts})
    return begun


def progress(connection: Connection, request_id: str, share: float) -> None:
    """Say which share of a running request is loaded, 0 to 1."""
    connection.execute(PROGRESS, {"id": request_id, "share": share})


def postpone(connection: Connection, request_id: str, not_before: datetime, share: float) -> None:
    """Let a running request wait until a moment, with the share of it that is loaded."""
    if connection.execute(POSTPONE, {"id": request_id, "not_before": not_before, "share": share}).rowcount:
        _audit(connection, request_id, "postpone", {"not_before": not_before, "progress": share})


def succeed(connection: Connection, request_id: str) -> None:
    """Close an open request as loaded."""
    _end(connection, request_id, "succeeded", None)


def fail(connection: Connection, request_id: str, error: str) -> None:
    """Close an open request with the reason why it cannot be loaded."""
    _end(connection, request_id, "failed", error)


def cancel(connection: Connection, request_id: str, reason: str) -> None:
    """Close an open request that is not wanted any more."""
    _end(connection, request_id, "cancelled", reason)


def _end(connection: Connection, request_id: str, status: str, error: str | None) -> None:
    if connection.execute(END, {"id": request_id, "status": status, "error": error}).rowcount:
        _audit(connection, request_id, status, {"error": error} if error else {})


def _audit(connection: Connection, request_id: str, action: str, details: dict[str, object]) -> None:
    audit.record(connection, "load", (TABLE, request_id), action, details)


def _requests(rows: MappingResult) -> list[BackfillRequest]:
    return [BackfillRequest(**{**row, "progress": float(row["progress"])}) for row in rows]
