"""Which faults of a step are tried again: those of the moment, with growing pauses; all others fail at once.

Four things try again, each what the one before it cannot: the provider's client its request (providers/http.py), a transaction
what the server broke (storage/retry.py), a step what outlasted these, and Dagster a run whose process was lost
(dagster.yaml). What stays away longer still becomes another attempt of its request (request_runs.py).
"""

import functools
import inspect
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import dagster as dg

from tickstock_assets.domain.errors import TransientDatabaseError, TransientProviderError
from tickstock_assets.storage.retry import is_transient

# Of a step. The pauses are 20, 40 and 80 s and up to half as much again, so that runs that met the same fault do not come
# back together.
RETRIES = 3
FIRST_PAUSE_SECONDS, JITTER = 20.0, 0.5


def may_succeed_later(error: BaseException) -> bool:
    """Whether the same work may well succeed in a minute, with nothing changed by anybody."""
    return isinstance(error, TransientProviderError | TransientDatabaseError) or is_transient(error)


def pause_seconds(retries_so_far: int) -> float:
    """Return how long to wait before the next try."""
    return FIRST_PAUSE_SECONDS * 2.0**retries_so_far * (1 + random.uniform(0, JITTER))  # noqa: S311 no secret


def retried[**P, T](compute: Callable[P, T]) -> Callable[P, T]:
    """Let a step be tried again when its function, plain or generator, meets a fault of the moment.

    It stands below `dg.asset`, `dg.op` and the like. What a failed try has stored stays: a step does nothing twice.
    """
    if inspect.isgeneratorfunction(compute):

        @functools.wraps(compute)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> Iterator[object]:
            with _retry_requested():
                yield from cast("Iterator[object]", compute(*args, **kwargs))

        return cast("Callable[P, T]", wrapped)

    @functools.wraps(compute)
    def plain(*args: P.args, **kwargs: P.kwargs) -> T:
        with _retry_requested():
            return compute(*args, **kwargs)

    return plain


@contextmanager
def _retry_requested() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if not may_succeed_later(error):
            raise
        raise dg.RetryRequested(RETRIES, pause_seconds(_retries_so_far())) from error


def _retries_so_far() -> int:
    return dg.OpExecutionContext.get().retry_number
