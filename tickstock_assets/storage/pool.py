"""How many connections a process keeps, how long it waits for one, and how many are in use.

Elsewhere: addresses and engines (database.py), what is done again when a connection breaks (retry.py).
"""

import logging
from dataclasses import dataclass
from typing import Any

import sqlalchemy.exc
from sqlalchemy import URL, Engine
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import PoolProxiedConnection, QueuePool

from tickstock_assets.domain.errors import ConfigError, DatabaseError

DRIVER = "postgresql+psycopg"
RECYCLE_SECONDS = 3600
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """Bounds of an engine.

    Attributes:
        kept: connections that stay open when idle.
        most: connections open at once; the next caller waits for one.
        wait_seconds: how long it waits before it is refused.
        statement_timeout_seconds: how long the server works on one statement before it gives up; 0 for no bound.
    """

    kept: int = 5
    most: int = 20
    wait_seconds: float = 30.0
    statement_timeout_seconds: int = 600


# For verbs that may rightly work for hours, such as a migration of a large table: one connection, no statement timeout.
MAINTENANCE = Limits(kept=1, most=5, statement_timeout_seconds=0)


@dataclass(frozen=True)
class PoolUse:
    """Connections of this process: `size` stay open when idle, `in_use` are lent out now, `max` is the bound."""

    size: int
    in_use: int
    max: int


class BoundedPool(QueuePool):
    """SQLAlchemy's queue of connections, whose refusal names the bound and the setting."""

    def connect(self) -> PoolProxiedConnection:
        """Return a connection; wait for one when all are lent out.

        Raises:
            DatabaseError: none came back in time.
        """
        try:
            return super().connect()
        except sqlalchemy.exc.TimeoutError:
            raise DatabaseError(
                f"Connections: expected one of this process's {_bound(self)} to be free within {self.timeout():g} s, "
                "found all in use; let some of its work end, or raise TICKSTOCK_POOL_MAX"
            ) from None


def pool_use(engine: Engine) -> PoolUse:
    """Return how many connections of an engine of `open_engine` are in use, and its bounds."""
    pool = _pool(engine)
    return PoolUse(size=pool.size(), in_use=pool.checkedout(), max=_bound(pool))


def log_pool(engine: Engine, application_name: str) -> None:
    """Write the bounds of an engine to the log; for processes that live long."""
    pool = _pool(engine)
    log.info(
        "Connections to %s as %r: %d kept, %d at most, %g s wait for a free one, recycled after %d s",
        place(engine.url), application_name, pool.size(), _bound(pool), pool.timeout(), RECYCLE_SECONDS,
    )  # fmt: skip


def place(url: URL) -> str:
    """Return what a person calls the server of an address, or its servers; never a password."""
    named = libpq_arguments(url)
    hosts, ports = str(named.get("host") or "localhost").split(","), str(named.get("port", "")).split(",")
    # One port counts for all the hosts; the name of a folder with a socket says enough.
    each = zip(hosts, ports * len(hosts) if len(ports) == 1 else ports, strict=True)
    return "PostgreSQL at " + ", ".join(
        host if not port or host.startswith("/") else f"{host}:{port}" for host, port in each
    )


def libpq_arguments(url: URL) -> dict[str, Any]:
    """Return an address as the keywords that psycopg and libpq take; SQLAlchemy's text of it is not always libpq's.

    They are those that an engine of `open_engine` connects with, also where an address names several hosts.

    Raises:
        ConfigError: the hosts and ports after the question mark are none.
    """
    try:
        named = url.set(drivername=DRIVER).get_dialect()().create_connect_args(url)[1]
    except (ArgumentError, ValueError) as error:  # the latter for a host with several colons
        found = error.args[0] if isinstance(error, ArgumentError) else "others"
        raise ConfigError(
            f"TICKSTOCK_DATABASE_URL: expected hosts with their ports, found {found}; correct them"
        ) from None
    return {
        # Said more than once, `options` add up.
        name: (" " if name == "options" else ",").join(value) if isinstance(value, tuple) else value
        for name, value in named.items()
    }


def _pool(engine: Engine) -> QueuePool:
    if not isinstance(engine.pool, QueuePool):
        raise TypeError(f"expected an engine of `open_engine`, found one with {type(engine.pool).__name__}")
    return engine.pool


def _bound(pool: QueuePool) -> int:
    return pool.size() + pool._max_overflow  # SQLAlchemy has no public word for it
