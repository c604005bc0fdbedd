"""Durations worked by hand."""

from datetime import UTC, datetime, timedelta

import pytest

from tickstock_assets.loading.estimates import Estimate, estimate, price, spoken
from tickstock_assets.providers.quota import UNLIMITED, Budget
from tickstock_assets.storage.provider_quota import Remaining

NOW = datetime(2024, 3, 9, 20, tzinfo=UTC)
FREE = Budget(per_minute=5)
DAILY = Budget(per_day=25, zone="America/New_York")


@pytest.mark.parametrize(
    ("calls", "seconds_per_call", "free", "seconds"),
    [
        (0, 0.3, 5, 0),
        # Five at once, one after another.
        (5, 0.5, 5, 2.5),
        # The sixth waits until a minute after the first has ended, and lasts.
        (6, 0.5, 5, 60.5 + 0.5),
        (6, 0.5, 0, 2 * 60.5 + 0.5),
        # Two years of sessions: five at once, then 499 in waves of five, a hundred of them.
        (504, 0.0, 5, 6000),
        # Calls that are slower than the minute's budget take just as long as they take.
        (10, 30.0, 5, 300),
    ],
)
def test_what_exceeds_the_minute_waits_for_a_place(
    calls: int, seconds_per_call: float, free: int, seconds: float
) -> None:
    needed = estimate(calls, seconds_per_call, FREE, Remaining(free, None), NOW)
    assert needed == Estimate(pytest.approx(seconds), None)


def test_what_exceeds_the_day_waits_for_midnight_on_the_vendors_clock() -> None:
    # Of 60 calls 18 fit into this day, 25 into the next, which has 23 hours, and 17 into the one after it:
    # from 20:00 UTC to the first midnight at 05:00 UTC, to the second at 04:00 UTC, and half a second for each of the last.
    needed = estimate(60, 0.5, DAILY, Remaining(None, 18), NOW)
    assert needed == Estimate(pytest.approx(9 * 3600 + 23 * 3600 + 17 * 0.5), datetime(2024, 3, 10, 5, tzinfo=UTC))


def test_a_day_that_is_used_up_and_one_that_just_does() -> None:
    assert estimate(25, 0, DAILY, Remaining(None, 0), NOW) == Estimate(9 * 3600, datetime(2024, 3, 10, 5, tzinfo=UTC))
    assert estimate(25, 1, DAILY, Remaining(None, 25), NOW) == Estimate(25, None)


def test_a_vendor_that_wants_a_pause_gets_it_first() -> None:
    pause = Remaining(None, None, NOW + timedelta(seconds=90))
    assert estimate(2, 5, UNLIMITED, pause, NOW).seconds == 100
    over = Remaining(None, None, NOW - timedelta(seconds=90))
    assert estimate(2, 5, UNLIMITED, over, NOW).seconds == 10


def test_a_call_costs_its_time_or_its_share_of_the_scarcest_budget() -> None:
    assert price(UNLIMITED, 0.3) == 0.3
    assert price(FREE, 0.3) == 12
    assert price(FREE, 15) == 15
    assert price(Budget(per_minute=5, per_day=25), 0.3) == 3456


def test_durations_are_rounded_up_to_seconds() -> None:
    assert [spoken(seconds) for seconds in (0, 0.2, 6031.2, 115_208.5)] == [
        "0:00:00", "0:00:01", "1:40:32", "1 day, 8:00:09",
    ]  # fmt: skip
