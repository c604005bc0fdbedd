"""How long calls take under a budget: what can start at once does, the rest waits for a minute's or a day's place.

Elsewhere: which calls (planning.py), counting those that are made (storage/provider_quota.py).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil

from tickstock_assets.domain.vendor_days import vendor_day
from tickstock_assets.providers.quota import Budget
from tickstock_assets.storage.provider_quota import Remaining

MINUTE_SECONDS, DAY_SECONDS = 60.0, 86_400.0


@dataclass(frozen=True)
class Estimate:
    """How long calls take from now on.

    Attributes:
        seconds: until the last of them is answered.
        continues_at: when the first that does not fit into the present day can be made (UTC); None when all fit.
    """

    seconds: float
    continues_at: datetime | None = None


def price(budget: Budget, seconds_per_call: float) -> float:
    """Return what one more call costs, in seconds: how long it lasts, or its share of the minute or day if longer."""
    shares = [seconds_per_call]
    if budget.per_minute is not None:
        shares.append(MINUTE_SECONDS / budget.per_minute)
    if budget.per_day is not None:
        shares.append(DAY_SECONDS / budget.per_day)
    return max(shares)


def estimate(calls: int, seconds_per_call: float, budget: Budget, left: Remaining, now: datetime) -> Estimate:
    """Return how long calls take that are made one after another.

    Args:
        calls: how many.
        seconds_per_call: how long one lasts.
        budget: what they are counted against.
        left: what is left of it now.
        now: with a time zone.
    """
    if not calls:
        return Estimate(0.0)
    start = max(now, left.blocked_until or now)
    fitting = calls if left.day is None else min(calls, left.day)
    if fitting == calls:
        waiting = (start - now).total_seconds()
        return Estimate(waiting + _spell(calls, seconds_per_call, budget.per_minute, left.minute))
    midnight = continues_at = vendor_day(start, budget.zone).end
    rest = calls - fitting
    per_day = budget.per_day or rest
    for _ in range(ceil(rest / per_day) - 1):
        midnight = vendor_day(midnight, budget.zone).end
        rest -= per_day
    last_day = _spell(rest, seconds_per_call, budget.per_minute, budget.per_minute)
    return Estimate((midnight - now).total_seconds() + last_day, continues_at)


def spoken(seconds: float) -> str:
    """Return a duration as hours:minutes:seconds, with days before where there are some."""
    return str(timedelta(seconds=ceil(seconds)))


def _spell(calls: int, seconds_per_call: float, per_minute: int | None, free: int | None) -> float:
    """Return how long calls of one day take; the first `free` start at once."""
    without_limit = calls * seconds_per_call
    if per_minute is None or calls <= (free or 0):
        return without_limit
    waves, last = divmod(calls - (free or 0) - 1, per_minute)
    # A place is free a minute after its call has ended, so each wave comes that much later than the one before.
    return max(without_limit, (waves + 1) * (MINUTE_SECONDS + seconds_per_call) + (last + 1) * seconds_per_call)
