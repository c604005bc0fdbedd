"""How long rows live in which form: chunk, compression and retention intervals, and what a sane interval is.

Elsewhere: applying them to a database (storage/tiers.py, storage/retention.py), reading them from the environment
(settings.py).
"""

import re
from dataclasses import dataclass, field
from datetime import timedelta

# As PostgreSQL compares intervals: a month is 30 days, a year twelve months.
_UNITS = {
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
    "month": timedelta(days=30),
    "year": timedelta(days=360),
}
_TERM = re.compile(rf"\s*(\d{{1,6}})\s*({'|'.join(_UNITS)})s?\s*", re.IGNORECASE)
NEVER = "never"
# A century: longer is a slip of the keyboard, and near the end of PostgreSQL's calendar.
LONGEST = timedelta(days=36_000)
# What the rollups are refreshed over again, at the least, so that late minutes reach them; see storage/tiers.py.
REFRESH_WINDOW = "2 days"


def length(interval: str) -> timedelta:
    """Return how long an interval such as `90 days` or `1 year 6 months` is.

    Raises:
        ValueError: it is no interval, is zero, or is longer than a century.
    """
    place, total = 0, timedelta()
    while place < len(interval):
        term = _TERM.match(interval, place)
        if term is None:
            raise ValueError(f"expected an interval such as '7 days', '12 hours' or '1 year', found {interval!r}")
        total += int(term[1]) * _UNITS[term[2].lower()]
        place = term.end()
    if not timedelta() < total <= LONGEST:
        raise ValueError(f"expected an interval between 1 minute and 100 years, found {interval!r}")
    return total


@dataclass(frozen=True)
class Lifecycle:
    """Intervals of one kind of rows, as PostgreSQL writes them; None means never."""

    chunk: str
    compress_after: str | None = None
    retention: str | None = None

    def __post_init__(self) -> None:
        for interval in (self.chunk, self.compress_after, self.retention):
            if interval is not None:
                length(interval)
        if problem := retention_problem(self.retention, self.compress_after):
            raise ValueError(problem)


def retention_problem(retention: str | None, compress_after: str | None) -> str | None:
    """Return why rows cannot be kept only that long, or None when they can."""
    if retention and compress_after and length(retention) < length(compress_after):
        return (
            f"expected at least the interval after which rows are compressed ({compress_after}), as rows dropped before "
            f"that are never compressed, found {retention!r}; lower that too, or set it to {NEVER!r}"
        )
    return None


def minute_retention_problem(retention: str | None) -> str | None:
    """Return why minutes cannot be kept only that long, or None when they can."""
    if retention and length(retention) < length(REFRESH_WINDOW):
        return (
            f"expected at least {REFRESH_WINDOW}, over which rollups are refreshed from minutes, found {retention!r}; "
            "rollups would lose bars whose minutes are dropped meanwhile"
        )
    return None


def minute_chunk_problem(chunk: str) -> str | None:
    """Return why minutes cannot be cut into chunks of that length, or None when they can."""
    if length(chunk) % timedelta(hours=1):
        return f"expected whole hours, so that no hour is dropped in part, found {chunk!r}"
    return None


@dataclass(frozen=True)
class Lifecycles:
    """The intervals of minute bars, daily bars and ticks, and the hash partitions of the latter by symbol.

    The defaults are those of the settings; `docs/tiers.md` says which tables follow which.
    """

    minute: Lifecycle = field(default_factory=lambda: Lifecycle("7 days", "90 days"))
    daily: Lifecycle = field(default_factory=lambda: Lifecycle("1 year", "1 year"))
    tick: Lifecycle = field(default_factory=lambda: Lifecycle("1 day", "30 days", "1 year"))
    tick_partitions: int = 16

    def __post_init__(self) -> None:
        if problem := minute_retention_problem(self.minute.retention) or minute_chunk_problem(self.minute.chunk):
            raise ValueError(problem)
