"""Whole transactions, done again when what broke them was the moment and not the work.

What is transient: the server could not serialize us or found a deadlock, or the connection was lost, as when the server
restarts. All else, such as a broken constraint, a wrong statement or a statement that takes too long, would fail again
and is raised as it is, at once.

Elsewhere: engines and their pool (database.py, pool.py).
"""

from collections.abc import Callable

import psycopg
import sqlalchemy.exc
import tenacity
from sqlalchemy import Connection, Engine

from tickstock_assets.domain.errors import TransientDatabaseError
from tickstock_assets.storage import audit
from tickstock_assets.storage.pool import place

# Of a transaction that others get in the way of.
ATTEMPTS = 10
# For a server that is away: an embedded one that was killed is back in a few seconds, one that is restarted or replaced by
# hand within a minute, and then it recovers.
PATIENCE_SECONDS = 120.0
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS, JITTER_SECONDS = 0.05, 5.0, 0.25

# serialization_failure, deadlock_detected.
OF_OTHERS = {"40001", "40P01"}
# admin_shutdown, crash_shutdown, cannot_connect_now; class 08 is connections.
AWAY = {"57P01", "57P02", "57P03"}
TRANSIENT_STATES = OF_OTHERS | AWAY
CONNECTION_CLASS = "08"
# A refused connection has no SQLSTATE in libpq. The server says FATAL when it was reached and refuses us for good,
# except for these, which are 57P03.
REFUSED = "FATAL"
REFUSED_FOR_NOW = ("starting up", "shutting down", "recovery", "not yet accepting connections")


def in_transaction[T](engine: Engine, work: Callable[[Connection], T], run: audit.Run | None = None) -> T:
    """Do `work` in a transaction and commit it; do the whole of it again when a transient error broke it.

    Args:
        engine: of `open_engine`; for another isolation level hand over `engine.execution_options(isolation_level=...)`.
        work: takes the open connection. It is called again after a rollback, so it must change nothing but the
            database. Where the connection is lost during the commit itself, the first time may have counted: `work` is to
            be one that changes nothing when done twice, as `merge` is.
        run: whose entries in the audit trail these are.

    Returns:
        What `work` returned the time it was committed.

    Raises:
        TransientDatabaseError: it met a transient error each time.
        Exception: any other error of `work`, from its first time.
    """

    def attempt() -> T:
        with engine.begin() as connection:
            if run is not None:
                audit.begin(connection, run)
            return work(connection)

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_transient),
        stop=_is_given_up,
        wait=tenacity.wait_exponential(FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS)
        + tenacity.wait_random(0, JITTER_SECONDS),
    )
    try:
        return retrying(attempt)
    except tenacity.RetryError as error:
        last = error.last_attempt
        cause = _driver_error(last.exception())
        said = (str(cause).strip().splitlines() or ["no reason given"])[0]
        raise TransientDatabaseError(
            f"{place(engine.url)}: expected a transaction to go through, found {said!r} after {last.attempt_number} "
            "attempts; nothing of it was kept, run it again"
        ) from cause


def is_transient(error: BaseException) -> bool:
    """Whether the same work may well succeed when done again; knows psycopg's errors and SQLAlchemy's around them."""
    found = _driver_error(error)
    is_of_others = isinstance(found, psycopg.Error) and found.sqlstate in OF_OTHERS
    return is_of_others or _is_away(found)


def is_refused_for_now(said: str) -> bool:
    """Whether what a client says of a connection that failed means that another attempt may succeed."""
    return REFUSED not in said or any(reason in said for reason in REFUSED_FOR_NOW)


def _is_given_up(state: tenacity.RetryCallState) -> bool:
    """Whether it has been waited for long enough, or tried often enough where the server is there."""
    error = state.outcome.exception() if state.outcome else None
    is_out_of_time = (state.seconds_since_start or 0.0) >= PATIENCE_SECONDS
    return is_out_of_time or (state.attempt_number >= ATTEMPTS and not _is_away(_driver_error(error)))


def _is_away(found: BaseException | None) -> bool:
    """Whether the server ended our connection, or gives us none for now."""
    if not isinstance(found, psycopg.Error):
        return False
    if found.sqlstate is not None:
        return found.sqlstate in AWAY or found.sqlstate.startswith(CONNECTION_CLASS)
    return isinstance(found, psycopg.OperationalError) and is_refused_for_now(str(found))


def _driver_error(error: BaseException | None) -> BaseException | None:
    return error.orig if isinstance(error, sqlalchemy.exc.DBAPIError) else error
