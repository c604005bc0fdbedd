"""Queries answered as Arrow: pooled connections of ADBC's PostgreSQL driver, beside those of the engine.

Each statement is a transaction of its own, so what a caller's open transaction has not committed is not seen; readers
that must see it use its connection (storage/bars.py). NUMERIC is to be selected as `::float8`: Arrow has no number for
it, and as text it takes 2.7 times as long.
"""

import ctypes
import os
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import adbc_driver_manager
import pyarrow as pa
import tenacity
from adbc_driver_postgresql import dbapi
from psycopg.conninfo import make_conninfo
from sqlalchemy import URL, event
from sqlalchemy.exc import DisconnectionError

from tickstock_assets.domain.errors import DatabaseError
from tickstock_assets.storage.database import CONNECT_TIMEOUT_SECONDS, DEFAULT_LIMITS, session_options
from tickstock_assets.storage.pool import RECYCLE_SECONDS, BoundedPool, Limits, PoolUse, libpq_arguments, place
from tickstock_assets.storage.retry import (
    ATTEMPTS,
    CONNECTION_CLASS,
    FIRST_WAIT_SECONDS,
    JITTER_SECONDS,
    LONGEST_WAIT_SECONDS,
    PATIENCE_SECONDS,
    REFUSED,
    REFUSED_FOR_NOW,
    TRANSIENT_STATES,
)  # fmt: skip

# A connection that was used a moment ago is taken to be alive; asking would add a third to a small query's time.
PING_AFTER_IDLE_SECONDS = 1.0
TIMED_OUT, NOT_ALLOWED = "57014", "42501"
TERMINATED = "terminating connection"  # what the server says to a connection that it ends, itself a FATAL

_pools: "weakref.WeakSet[ArrowPool]" = weakref.WeakSet()


class ArrowPool:
    """Connections of this process to one database, for reading into Arrow; for any number of threads.

    To be closed, as a context manager or with `close`. A forked child starts with none of its own.
    """

    def __init__(self, url: URL, application_name: str = "tickstock", limits: Limits = DEFAULT_LIMITS) -> None:
        """Connect when first asked.

        Args:
            url: of the database, as an engine's; its driver's name does not matter.
            application_name: what the server lists the connections as.
            limits: how many connections, how long to wait for one and for a statement; as for an engine.
        """
        self._url = url
        self._address = _address(url, application_name, limits)
        self._limits = limits
        self._start_empty()
        _pools.add(self)

    def read(self, statement: str, parameters: Sequence[object] = ()) -> pa.Table:
        """Return the rows of a query.

        Done again when the connection was lost: reading twice does no harm.

        Args:
            statement: SQL that is ours, with `$1`, `$2`, ... for the parameters and a cast to say their types.
            parameters: bound by the server, never written into the statement. Text, numbers, dates, aware datetimes,
                lists of these.

        Raises:
            DatabaseError: unreachable, access refused, no free connection, or it took longer than is allowed.
            adbc_driver_manager.Error: any other error of the server.
        """
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_is_transient),
            stop=tenacity.stop_after_attempt(ATTEMPTS) | tenacity.stop_after_delay(PATIENCE_SECONDS),
            wait=tenacity.wait_exponential(FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS)
            + tenacity.wait_random(0, JITTER_SECONDS),
            reraise=True,
        )
        try:
            return retrying(self._read_once, statement, parameters)
        except adbc_driver_manager.Error as error:
            raise _explained(self._url, self._limits, error) from None

    def use(self) -> PoolUse:
        """Return how many of the connections are in use, and the bounds."""
        return PoolUse(size=self._limits.kept, in_use=self._pool.checkedout(), max=self._limits.most)

    def close(self) -> None:
        """Close the connections that are not lent out; the next read would open new ones."""
        self._pool.dispose()

    def __enter__(self) -> "ArrowPool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start_empty(self) -> None:
        opened = _Opener(self._address)
        self._pool = BoundedPool(
            opened.open,
            pool_size=self._limits.kept,
            max_overflow=self._limits.most - self._limits.kept,
            timeout=self._limits.wait_seconds,
            recycle=RECYCLE_SECONDS,
            reset_on_return=None,  # each statement commits by itself
        )
        event.listen(self._pool, "close", opened.forget)
        event.listen(self._pool, "checkin", _note_time)
        event.listen(self._pool, "checkout", _require_alive)
        # Also when nobody closed it: a connection that is collected as garbage would warn of itself.
        self._closing = weakref.finalize(self, self._pool.dispose)

    def _start_anew_in_child(self) -> None:
        """Leave the parent's connections alone: to close one here would end it for the parent.

        Nor may they be collected as garbage, which closes them too, so they are kept for as long as the child lives.
        """
        self._closing.detach()
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._pool))
        self._start_empty()

    def _read_once(self, statement: str, parameters: Sequence[object]) -> pa.Table:
        with self._lent() as connection, connection.cursor() as cursor:
            cursor.execute(statement, list(parameters))
            return cursor.fetch_arrow_table()

    @contextmanager
    def _lent(self) -> Iterator[Any]:
        lent = self._pool.connect()
        try:
            yield lent.dbapi_connection
        except BaseException as error:
            # Interrupted work, too, leaves a connection in a state that nobody knows.
            if not isinstance(error, adbc_driver_manager.Error) or _is_transient(error):
                lent.invalidate()
            raise
        finally:
            lent.close()


class _Opener:
    """Opens connections. The first learns the server's types, which takes 40 ms; the others share what it knows."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._first: Any = None

    def open(self) -> Any:
        first = self._first
        if first is None:
            self._first = dbapi.connect(self._address, autocommit=True)
            return self._first
        connection = first.adbc_clone()
        connection.adbc_connection.set_autocommit(True)
        return connection

    def forget(self, connection: object, _record: object) -> None:
        if connection is self._first:
            self._first = None


def _note_time(_connection: object, record: Any) -> None:
    record.info["idle_since"] = time.monotonic()


def _require_alive(connection: Any, record: Any, _proxy: object) -> None:
    if time.monotonic() - record.info.get("idle_since", time.monotonic()) < PING_AFTER_IDLE_SECONDS:
        return
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetch_arrow_table()
    except adbc_driver_manager.Error as error:
        raise DisconnectionError from error


def _address(url: URL, application_name: str, limits: Limits) -> str:
    """Return libpq's own notation; in a URL it does not take a plus for a blank."""
    return make_conninfo(
        **{
            "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            **libpq_arguments(url),
            "application_name": application_name,
            "options": session_options(url, limits),
        }
    )


def _is_transient(error: BaseException) -> bool:
    """Whether the same query may well succeed when asked again; see retry.py, which knows psycopg's errors."""
    if not isinstance(error, adbc_driver_manager.Error):
        return False
    if error.sqlstate is not None:
        return error.sqlstate in TRANSIENT_STATES or error.sqlstate.startswith(CONNECTION_CLASS)
    said = str(error)
    lost = error.status_code == adbc_driver_manager.AdbcStatusCode.IO
    return lost and (REFUSED not in said or any(reason in said for reason in (*REFUSED_FOR_NOW, TERMINATED)))


def _explained(url: URL, limits: Limits, error: adbc_driver_manager.Error) -> Exception:
    said = (str(error).strip().splitlines() or ["no reason given"])[0].removeprefix("IO: ").removeprefix("[libpq] ")
    if error.sqlstate == TIMED_OUT:
        return DatabaseError(
            f"{place(url)}: expected an answer within {limits.statement_timeout_seconds} s, found none; "
            "ask for less at a time, or raise TICKSTOCK_STATEMENT_TIMEOUT_SECONDS"
        )
    if error.sqlstate == NOT_ALLOWED:
        return DatabaseError(
            f"{place(url)}: the role {url.username!r} may not do this ({said}); ask as tickstock_reader"
        )
    if error.sqlstate is None and error.status_code == adbc_driver_manager.AdbcStatusCode.IO:
        return DatabaseError(f"{place(url)}: cannot be reached ({said}); is it running, and is the address right?")
    return error


def _renew_in_child() -> None:
    for pool in _pools:
        pool._start_anew_in_child()


os.register_at_fork(after_in_child=_renew_in_child)
