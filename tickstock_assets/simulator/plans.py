"""What a key may do, and how often: entitlements, and budgets of calls by minute and by day."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date

from tickstock_assets.simulator.asks import Reason


@dataclass(frozen=True)
class Plan:
    """A plan at one vendor. Without arguments everything is allowed to anyone.

    Attributes:
        keys: the keys that are known; None for any text.
        per_minute: calls in any `minute_seconds`; None for no limit.
        per_day: calls in one day, which begins whenever the clock is a multiple of `day_seconds`.
        minute_seconds, day_seconds: shorter ones spare tests the wait.
        history_start: windows that begin earlier are refused.
        history_end: windows that begin later are refused.
        minutes, trades: whether minute bars and trades are included.
        premium: of Alpha Vantage: full output, adjusted daily bars.
        delayed: of Polygon: answers say DELAYED instead of OK.
        expires_after: calls after which the key is refused; None for never.
    """

    keys: frozenset[str] | None = None
    per_minute: int | None = None
    per_day: int | None = None
    minute_seconds: float = 60.0
    day_seconds: float = 86_400.0
    history_start: date | None = None
    history_end: date | None = None
    minutes: bool = True
    trades: bool = True
    premium: bool = True
    delayed: bool = False
    expires_after: int | None = None

    def covers(self, first: date | None) -> bool:
        """Return whether a window that begins on a day is included."""
        if first is None:
            return True
        return (self.history_start or date.min) <= first <= (self.history_end or date.max)


@dataclass
class Meter:
    """Counts the calls of one key at one vendor.

    Attributes:
        calls: all that came.
        refused: those that were over a budget.
        highest_in_a_minute: most calls seen in any rolling minute, refused ones included.
        highest_in_a_day: most calls in one day, refused ones included.
    """

    plan: Plan
    clock: Callable[[], float] = time.time
    calls: int = 0
    refused: int = 0
    highest_in_a_minute: int = 0
    highest_in_a_day: int = 0
    _seen: deque[float] = field(default_factory=deque)
    _allowed: deque[float] = field(default_factory=deque)
    _day: int = -1
    _seen_today: int = 0
    _allowed_today: int = 0

    def count(self) -> Reason | None:
        """Count a call and return why it is refused, None when it is not."""
        now = self.clock()
        if int(now // self.plan.day_seconds) != self._day:
            self._day, self._seen_today, self._allowed_today = int(now // self.plan.day_seconds), 0, 0
        for moments in (self._seen, self._allowed):
            while moments and moments[0] <= now - self.plan.minute_seconds:
                moments.popleft()
        self._seen.append(now)
        self._seen_today += 1
        self.calls += 1
        self.highest_in_a_minute = max(self.highest_in_a_minute, len(self._seen))
        self.highest_in_a_day = max(self.highest_in_a_day, self._seen_today)
        reason = self._over()
        if reason:
            self.refused += 1
        else:
            self._allowed.append(now)
            self._allowed_today += 1
        return reason

    def _over(self) -> Reason | None:
        if self.plan.per_day is not None and self._allowed_today >= self.plan.per_day:
            return Reason.DAY_BUDGET
        if self.plan.per_minute is not None and len(self._allowed) >= self.plan.per_minute:
            return Reason.MINUTE_BUDGET
        return None
