"""What a receiver of alerts is, and how often one that stumbles is tried."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import tenacity

from tickstock_assets.domain.errors import TransientReceiverError

TRIES = 3
FIRST_WAIT_SECONDS = 0.5
JITTER_SECONDS = 0.25
# A receiver that wants a longer pause is left alone until then: a tick has other work, and a minute in all.
LONGEST_PAUSE_SECONDS = 5.0


@dataclass(frozen=True)
class Message:
    """What a receiver is told at once.

    Attributes:
        id: the same whenever the same is sent, so that a receiver can drop what it has already.
        title: what it is about, in a few words.
        lines: an alert each.
    """

    id: str
    title: str
    lines: Sequence[str]


class Receiver(Protocol):
    """Who is told of alerts."""

    @property
    def name(self) -> str:
        """How it is called in messages and stored; never a secret, and the same as long as its address is."""
        ...

    def send(self, message: Message) -> None:
        """Deliver a message; when this returns, the receiver has taken it.

        Raises:
            TransientReceiverError: it may take it later.
            ReceiverError: it will not, until something is changed.
        """
        ...


def try_a_few_times(attempt: Callable[[], None], sleep: Callable[[float], None] = time.sleep) -> None:
    """Call `attempt` until it succeeds, at most three times, with growing pauses or those that the receiver asks for.

    Raises:
        TransientReceiverError: of the last time; or the receiver wants a pause that is too long for us.
        ReceiverError: from its first time.
    """
    tenacity.Retrying(
        retry=tenacity.retry_if_exception(_is_worth_another),
        stop=tenacity.stop_after_attempt(TRIES),
        wait=_pause,
        sleep=sleep,
        reraise=True,
    )(attempt)


def _is_worth_another(error: BaseException) -> bool:
    return isinstance(error, TransientReceiverError) and (error.retry_after_seconds or 0) <= LONGEST_PAUSE_SECONDS


def _pause(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, TransientReceiverError) and error.retry_after_seconds is not None:
        return error.retry_after_seconds
    return FIRST_WAIT_SECONDS * 2.0 ** (state.attempt_number - 1) + random.uniform(0, JITTER_SECONDS)  # noqa: S311 no secret
