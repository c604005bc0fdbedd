"""Calls counted against a provider's budgets, over threads, processes, restarts and kills.

A vendor counts a call when it arrives, which may be at any moment between its start and its end here. So a call holds its
place in the minute from before it starts until a minute after it ended; and one that is under way at the vendor's midnight
counts in both days. A place that is taken is never given back early, and the server's clock is the only one that is read.

Elsewhere: what a plan allows (providers/quota.py), what a load will cost (loading/planning.py).
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, Engine, text

from tickstock_assets.domain.errors import QuotaExhaustedError
from tickstock_assets.domain.vendor_days import VendorDay, vendor_day
from tickstock_assets.storage.database import server_time
from tickstock_assets.storage.retry import in_transaction

MINUTE = timedelta(minutes=1)
# From a call's start to the last moment at which it can still reach the vendor, connecting and sending included: for so
# long, and a minute, a process that was killed inside a call keeps its place.
LONGEST_CALL = timedelta(minutes=2)
# A Retry-After up to this is waited for; a longer one ends the load, which goes on then.
LONGEST_WAIT = timedelta(minutes=2)

LOCK_AND_NOW = text("""
    WITH lock AS MATERIALIZED (SELECT pg_advisory_xact_lock(hashtextextended('provider_quota|' || :provider, 0)))
    SELECT clock_timestamp() FROM lock
""")
# Once places_per_minute calls hold a place, the next is free when the place that is so many from the last one ends.
STANDING = text("""
    SELECT
        coalesce(max(used) FILTER (WHERE period = 'day' AND period_start = :day),
                 -- No call yet today: those count that were under way at midnight.
                 count(*) FILTER (WHERE period = 'minute' AND ends_at - :minute >= :day)) AS used_today,
        count(*) FILTER (WHERE period = 'minute' AND ends_at > :now) AS places_held,
        (array_agg(ends_at ORDER BY ends_at DESC) FILTER (WHERE period = 'minute' AND ends_at > :now))[:per_minute]
            AS place_free_at,
        max(ends_at) FILTER (WHERE period = 'retry_after' AND ends_at > :now) AS blocked_until,
        greatest(max(period_start) FILTER (WHERE period = 'minute') + interval '1 microsecond', :now) AS key
    FROM provider_quota WHERE provider = :provider
""")
# Days stay as a record; what held a place or a Retry-After and no longer does goes.
TAKE_A_PLACE = text("""
    WITH gone AS (
        DELETE FROM provider_quota WHERE provider = :provider AND period <> 'day' AND ends_at <= :now
    ), today AS (
        INSERT INTO provider_quota (provider, period, period_start, ends_at, used, budget)
        VALUES (:provider, 'day', :day, :day_end, :used_today, :per_day)
        ON CONFLICT (provider, period, period_start) DO UPDATE SET used = excluded.used, budget = excluded.budget
    )
    INSERT INTO provider_quota (provider, period, period_start, ends_at, used, budget)
    VALUES (:provider, 'minute', :key, :now + :longest_call + :minute, 1, :per_minute)
""")
# An insertion where the call outlasted its place, which may have been cleared away.
END_OF_CALL = text("""
    INSERT INTO provider_quota (provider, period, period_start, ends_at, used, budget)
    VALUES (:provider, 'minute', :key, clock_timestamp() + :minute, 1, :per_minute)
    ON CONFLICT (provider, period, period_start) DO UPDATE SET ends_at = excluded.ends_at
""")
BLOCK = text("""
    INSERT INTO provider_quota (provider, period, period_start, ends_at)
    SELECT :provider, 'retry_after', now, :until FROM clock_timestamp() AS now
    WHERE :until > now AND NOT EXISTS (
        SELECT FROM provider_quota WHERE provider = :provider AND period = 'retry_after' AND ends_at >= :until)
    ON CONFLICT (provider, period, period_start) DO UPDATE SET ends_at = greatest(provider_quota.ends_at, excluded.ends_at)
""")


@dataclass(frozen=True)
class Remaining:
    """What is left of a budget.

    Attributes:
        minute: calls that could start at once; None for no limit.
        day: calls left of the vendor's day; None for no limit.
        blocked_until: before when the vendor wants no call, UTC; None when it did not say so.
    """

    minute: int | None
    day: int | None
    blocked_until: datetime | None = None


@dataclass(frozen=True)
class _Standing:
    now: datetime
    day: VendorDay
    used_today: int
    places_held: int
    place_free_at: datetime | None
    blocked_until: datetime | None
    key: datetime


class StoredQuota:
    """What may still be asked of one provider, kept in `provider_quota`.

    Args:
        engine: of the database; a call takes a connection twice for a moment and none while it waits or lasts.
        provider: whose budget it is.
        per_minute: calls in any minute; None for no limit.
        per_day: calls in a day of the vendor; None for no limit.
        zone: time zone in which that day begins at midnight.
        minute: how long the minute is; shorter ones are for tests.
        longest_call: see LONGEST_CALL.
        wait: sleeps some seconds; what it raises, such as on Ctrl-C, ends the waiting, and nothing was taken.

    Without any limit nothing is counted and the database is not asked; a Retry-After is then known to this process only.
    """

    def __init__(
        self,
        engine: Engine,
        provider: str,
        per_minute: int | None,
        per_day: int | None,
        zone: str = "UTC",
        *,
        minute: timedelta = MINUTE,
        longest_call: timedelta = LONGEST_CALL,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        for name, limit in (("per_minute", per_minute), ("per_day", per_day)):
            if limit is not None and limit < 1:
                raise ValueError(f"{provider}: expected {name} of at least 1, or None for no limit, found {limit}")
        self._engine, self._wait = engine, wait
        self._provider, self._zone = provider, zone
        self._per_minute, self._per_day = per_minute, per_day
        self._minute, self._longest_call = minute, longest_call
        self._blocked_here: datetime | None = None

    @contextmanager
    def call(self) -> Iterator[None]:
        """Wait for a place in the minute, take it, and hold it for as long as the call lasts and a minute more.

        Raises:
            QuotaExhaustedError: on entry: the day's budget is used up, or the vendor's Retry-After is far away.
            DatabaseError: the database is gone; the call is then not made, or keeps its place for the longest time.
        """
        if self._is_unlimited:
            self._wait_for_vendor()
            yield
            return
        key = self._taken_place()
        try:
            yield
        finally:
            in_transaction(self._engine, lambda connection: connection.execute(END_OF_CALL, self._values(key=key)))

    def blocked(self, until: datetime) -> None:
        """Let no process make a call before a moment (with a time zone); an earlier one than known changes nothing."""
        if until.tzinfo is None:
            raise ValueError(f"{self._provider}: expected a moment with a time zone, found {until.isoformat()}")
        if self._is_unlimited:
            self._blocked_here = max(until, self._blocked_here or until)
        else:
            in_transaction(self._engine, lambda connection: connection.execute(BLOCK, self._values(until=until)))

    def used_today(self) -> int:
        """Return the calls that count in the vendor's present day; 0 where nothing is counted."""
        return 0 if self._is_unlimited else self._look().used_today

    def remaining(self, now: datetime | None = None) -> Remaining:
        """Return what is left at a moment: now by the server's clock, unless another is named."""
        if self._is_unlimited:
            return Remaining(None, None, self._blocked_here)
        standing = self._look(now)
        return Remaining(
            None if self._per_minute is None else max(self._per_minute - standing.places_held, 0),
            None if self._per_day is None else max(self._per_day - standing.used_today, 0),
            standing.blocked_until,
        )

    @property
    def _is_unlimited(self) -> bool:
        return self._per_minute is None and self._per_day is None

    def _taken_place(self) -> datetime:
        """Return the key of the place, as soon as there was one."""
        while True:
            place = in_transaction(self._engine, self._take_or_tell)
            if isinstance(place, datetime):
                return place
            self._wait(place.total_seconds())

    def _take_or_tell(self, connection: Connection) -> datetime | timedelta:
        """Take a place and return its key, or return how long to wait before looking again."""
        now: datetime = connection.execute(LOCK_AND_NOW, {"provider": self._provider}).scalar_one()
        standing = self._standing(connection, now)
        self._require_budget(standing)
        if standing.blocked_until:
            return standing.blocked_until - now
        if standing.place_free_at:
            # A call that is under way seems to hold its place for the longest time; had it just ended, it would for a minute.
            return min(standing.place_free_at - now, self._minute)
        values = self._values(
            now=now, day=standing.day.start, day_end=standing.day.end, used_today=standing.used_today + 1,
            per_day=self._per_day, longest_call=self._longest_call, key=standing.key,
        )  # fmt: skip
        connection.execute(TAKE_A_PLACE, values)
        return standing.key

    def _look(self, moment: datetime | None = None) -> _Standing:
        def work(connection: Connection) -> _Standing:
            now = moment or server_time(connection)
            return self._standing(connection, now)

        return in_transaction(self._engine, work)

    def _standing(self, connection: Connection, now: datetime) -> _Standing:
        day = vendor_day(now, self._zone)
        row = connection.execute(STANDING, self._values(now=now, day=day.start)).one()
        return _Standing(now, day, **row._mapping)

    def _values(self, **values: object) -> dict[str, object]:
        return {"provider": self._provider, "minute": self._minute, "per_minute": self._per_minute, **values}

    def _require_budget(self, standing: _Standing) -> None:
        """Raise where waiting is not for us: the day is used up, or the vendor wants a long pause."""
        is_used_up = self._per_day is not None and standing.used_today >= self._per_day
        pause = standing.blocked_until
        if is_used_up:
            until = max(standing.day.end, pause or standing.day.end)
            raise QuotaExhaustedError(
                f"{self._provider}: expected a call left of the {self._per_day} a day, found all used; "
                f"goes on at {until:%Y-%m-%d %H:%M} UTC",
                until,
            )
        if pause and pause - standing.now > LONGEST_WAIT:
            raise self._long_pause(pause)

    def _wait_for_vendor(self) -> None:
        """Keep to a Retry-After where nothing is counted."""
        while self._blocked_here and (left := self._blocked_here - datetime.now(UTC)) > timedelta(0):
            if left > LONGEST_WAIT:
                raise self._long_pause(self._blocked_here)
            self._wait(left.total_seconds())

    def _long_pause(self, until: datetime) -> QuotaExhaustedError:
        until = until.astimezone(UTC)
        budget = " and ".join(
            f"{limit} a {period}"
            for limit, period in ((self._per_minute, "minute"), (self._per_day, "day"))
            if limit is not None
        )
        return QuotaExhaustedError(
            f"{self._provider}: expected calls to be taken (budget: {budget or 'no limit'}), found that it asks for a "
            f"pause (Retry-After); goes on at {until:%Y-%m-%d %H:%M:%S} UTC",
            until,
        )
