"""What a provider may be asked, per minute and per day. Counting is the storage's: it must survive a restart."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import Protocol


@dataclass(frozen=True)
class Budget:
    """How many calls a plan allows.

    Attributes:
        per_minute: calls in any 60 seconds; None for no limit.
        per_day: calls a day; None for no limit.
        zone: time zone in which the vendor's day begins at midnight.
    """

    per_minute: int | None = None
    per_day: int | None = None
    zone: str = "UTC"

    @property
    def unlimited(self) -> bool:
        """Whether nothing has to be counted."""
        return self.per_minute is None and self.per_day is None


UNLIMITED = Budget()


class Quota(Protocol):
    """Counts calls against a budget, over all processes that use the same key."""

    def call(self) -> AbstractContextManager[None]:
        """Wait for a place in the minute, take it, and hold it for as long as the call lasts.

        Every HTTP request is one call: each page and each retry.

        Raises:
            QuotaExhaustedError: on entry, when the day's budget is used up.
        """
        ...

    def blocked(self, until: datetime) -> None:
        """Remember, for every process, that the vendor wants no call before a moment (its Retry-After)."""
        ...


class Uncounted:
    """No limit and nothing to remember."""

    def call(self) -> AbstractContextManager[None]:
        """Return at once."""
        return nullcontext()

    def blocked(self, until: datetime) -> None:
        """Remember nothing; whoever was told waits by himself."""


class Counted:
    """Another quota, and how many calls were made through it in this process."""

    def __init__(self, quota: Quota) -> None:
        self._quota = quota
        self._lock = Lock()
        self.calls = 0

    @contextmanager
    def call(self) -> Iterator[None]:
        """Count a call once it is let through."""
        with self._quota.call():
            with self._lock:
                self.calls += 1
            yield

    def blocked(self, until: datetime) -> None:
        """Pass it on."""
        self._quota.blocked(until)
