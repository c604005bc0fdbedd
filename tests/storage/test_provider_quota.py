"""Budgets on a real server, as a vendor counts them: several processes, a kill, restarts, midnights and Retry-After."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text

from tests.storage import tiers
from tickstock_assets.domain.errors import QuotaExhaustedError
from tickstock_assets.storage.provider_quota import LONGEST_CALL, LONGEST_WAIT, Remaining, StoredQuota

pytestmark = pytest.mark.tiers(tiers.EMBEDDED)

PER_MINUTE, PER_DAY = 5, 25
MINUTE = timedelta(seconds=0.4)
# Of a call that is killed; the slowest below takes 0.2 seconds.
LONGEST = timedelta(seconds=1)
# Before 2024-03-10 07:00 UTC New York is at -05:00, after it at -04:00.
NEW_YORK = "America/New_York"


def zone_in_which_it_is_noon() -> str:
    """So that no test meets a midnight by chance."""
    return f"Etc/GMT{datetime.now(UTC).hour - 12:+d}"


def quota(engine: Engine, per_minute: int | None, per_day: int | None, **options: Any) -> StoredQuota:
    return StoredQuota(engine, "polygon", per_minute, per_day, **{"zone": zone_in_which_it_is_noon(), **options})


def no_wait(seconds: float) -> None:
    raise AssertionError(f"expected no wait, found one of {seconds} s")


def stored(engine: Engine, period: str) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        query = "SELECT provider, used, budget FROM provider_quota WHERE period = :period ORDER BY period_start"
        return [tuple(row) for row in connection.execute(text(query), {"period": period})]


def write(engine: Engine, period: str, start: datetime, end: datetime, used: int = 1) -> None:
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO provider_quota (provider, period, period_start, ends_at, used) "
                "VALUES ('polygon', :period, :start, :end, :used)"
            ),
            {"period": period, "start": start, "end": end, "used": used},
        )


# --- as the vendor counts


class Vendor(ThreadingHTTPServer):
    """Counts requests as they arrive, which is some time after they were sent; `/hold` is never answered."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Counter)
        self.arrivals: list[float] = []
        self.holds, self.is_held = threading.Event(), threading.Event()
        self.draw = random.Random(4)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Counter(BaseHTTPRequestHandler):
    server: Vendor

    def do_GET(self) -> None:
        time.sleep(self.server.draw.choice([0, 0, 0.02, 0.2]))
        self.server.arrivals.append(time.monotonic())
        if self.path == "/hold":
            self.server.is_held.set()
            self.server.holds.wait()
        else:
            self.send_response(204)
            self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    with Vendor() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.holds.set()
        server.shutdown()
        thread.join()


CALLER = """
import json, sys, urllib.request
from datetime import timedelta
from sqlalchemy import make_url
from tickstock_assets.domain.errors import QuotaExhaustedError
from tickstock_assets.storage.database import open_engine
from tickstock_assets.storage.provider_quota import StoredQuota

database, zone, minute, longest, per_minute, per_day, *paths = sys.argv[1:]
quota = StoredQuota(open_engine(make_url(database)), "polygon", int(per_minute), int(per_day), zone,
                    minute=timedelta(seconds=float(minute)), longest_call=timedelta(seconds=float(longest)))
made = 0
try:
    while True:
        with quota.call():
            urllib.request.urlopen(paths[min(made, len(paths) - 1)]).close()
        made += 1
except QuotaExhaustedError as error:
    print(json.dumps({"made": made, "message": str(error), "until": error.until.isoformat()}))
"""


def caller(database: Engine, *paths: str) -> subprocess.Popen[str]:
    address = database.url.render_as_string(hide_password=False)
    limits = [MINUTE.total_seconds(), LONGEST.total_seconds(), PER_MINUTE, PER_DAY]
    command = [sys.executable, "-c", CALLER, address, zone_in_which_it_is_noon(), *map(str, limits), *paths]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_three_processes_one_of_them_killed_never_exceed_the_minute_or_the_day(
    database: Engine, vendor: Vendor
) -> None:
    page = f"{vendor.address}/page"
    callers = [caller(database, page), caller(database, page)]
    killed = caller(database, page, f"{vendor.address}/hold")
    assert vendor.is_held.wait(60)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    callers.append(caller(database, page))  # started again after the kill

    said = []
    for process in callers:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        said.append(json.loads(out))
    # Two of them were the killed one's, which arrived too.
    assert sum(one["made"] for one in said) == PER_DAY - 2
    assert len(vendor.arrivals) == PER_DAY
    arrivals = sorted(vendor.arrivals)
    assert min(b - a for a, b in zip(arrivals, arrivals[PER_MINUTE:], strict=False)) >= MINUTE.total_seconds()
    # What was used is known to whoever starts next, and ends at the midnight that is twelve hours away at most.
    again = quota(database, PER_MINUTE, PER_DAY, wait=no_wait)
    assert again.used_today() == PER_DAY
    with pytest.raises(QuotaExhaustedError), again.call():
        pass
    assert len({one["until"] for one in said}) == 1
    ahead = datetime.fromisoformat(said[0]["until"]) - datetime.now(UTC)
    assert timedelta(hours=10.5) < ahead <= timedelta(hours=12)


def test_threads_share_the_minute(database: Engine) -> None:
    shared = quota(database, 3, None, minute=MINUTE)
    moments: list[tuple[float, float]] = []

    def one_call() -> None:
        with shared.call():
            before = time.monotonic()
            time.sleep(0.05)
            moments.append((before, time.monotonic()))

    threads = [threading.Thread(target=one_call) for _ in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    moments.sort()
    # Whenever the vendor counted each of them: the fourth begins a minute after the first has ended at the earliest.
    assert len(moments) == 9
    for third in range(3, 9):
        ended = sorted(end for _, end in moments[:third])[-3]
        assert moments[third][0] - ended >= MINUTE.total_seconds()


# --- the minute


def test_a_call_holds_its_place_while_it_lasts_and_for_a_minute_after_it_ended(database: Engine) -> None:
    counted = quota(database, 2, None)
    with counted.call():
        assert counted.remaining() == Remaining(minute=1, day=None)
    soon = datetime.now(UTC)
    assert counted.remaining(soon + timedelta(seconds=58)).minute == 1
    assert counted.remaining(soon + timedelta(seconds=61)).minute == 2


def test_a_call_whose_process_died_keeps_its_place_for_the_longest_call_and_a_minute(database: Engine) -> None:
    counted = quota(database, 1, None, wait=no_wait)
    never_left = counted.call()
    never_left.__enter__()
    start = datetime.now(UTC)
    held_for = LONGEST_CALL + timedelta(minutes=1)
    assert counted.remaining(start + held_for - timedelta(seconds=2)).minute == 0
    assert counted.remaining(start + held_for + timedelta(seconds=1)).minute == 1


def test_a_call_that_outlasts_its_place_gets_it_back_for_a_minute(database: Engine) -> None:
    counted = quota(database, 2, None)
    with counted.call(), database.begin() as connection:
        connection.execute(text("DELETE FROM provider_quota WHERE period = 'minute'"))
    assert counted.remaining().minute == 1


def test_a_call_that_fails_counts_as_well(database: Engine) -> None:
    counted = quota(database, 5, 25)
    with pytest.raises(ConnectionError), counted.call():
        raise ConnectionError
    assert counted.used_today() == 1
    assert counted.remaining() == Remaining(minute=4, day=24)


def test_waiting_is_for_the_place_that_frees_next_and_never_longer_than_a_minute(database: Engine) -> None:
    waited: list[float] = []

    class EnoughError(Exception):
        """Ends the waiting."""

    def note(seconds: float) -> None:
        waited.append(seconds)
        raise EnoughError

    counted = quota(database, 2, None, wait=note)
    now = datetime.now(UTC)
    for seconds in (170, 20, 40):
        write(database, "minute", now - timedelta(seconds=seconds), now + timedelta(seconds=seconds))
    # Of three places held two may be: the first of 20, 40 and 170 s brings nothing, the second does.
    with pytest.raises(EnoughError), counted.call():
        pass
    with database.begin() as connection:
        connection.execute(text("DELETE FROM provider_quota WHERE ends_at < :later"), {"later": now + LONGEST_CALL})
    write(database, "minute", now, now + timedelta(seconds=170))
    # Both are under way as far as is known; if one ends now, its place is free in a minute.
    with pytest.raises(EnoughError), counted.call():
        pass
    assert 30 < waited[0] <= 40
    assert waited[1] == 60


def test_ctrl_c_ends_the_waiting_and_takes_nothing(database: Engine) -> None:
    def interrupted(_: float) -> None:
        # As when the terminal sends it to a main thread that sleeps.
        signal.raise_signal(signal.SIGINT)

    counted = quota(database, 1, 25, wait=interrupted)
    with counted.call():
        pass
    before = stored(database, "minute")
    # A program that was started in the background ignores it.
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), counted.call():
            pass
    finally:
        signal.signal(signal.SIGINT, usual)
    assert stored(database, "minute") == before
    assert counted.used_today() == 1


def test_places_of_long_ago_are_cleared_away_and_days_stay(database: Engine) -> None:
    past = datetime.now(UTC) - timedelta(days=3)
    write(database, "minute", past, past + timedelta(minutes=1))
    write(database, "retry_after", past, past + timedelta(minutes=1))
    write(database, "day", past, past + timedelta(days=1), used=7)
    with quota(database, 5, 25).call():
        pass
    assert stored(database, "minute") == [("polygon", 1, 5)]
    assert stored(database, "retry_after") == []
    assert stored(database, "day") == [("polygon", 7, None), ("polygon", 1, 25)]


# --- the day


def test_a_used_up_day_says_in_one_sentence_when_it_goes_on(database: Engine) -> None:
    counted = quota(database, None, 2, wait=no_wait)
    for _ in range(2):
        with counted.call():
            pass
    with pytest.raises(QuotaExhaustedError) as caught, counted.call():
        pass
    assert str(caught.value) == (
        "polygon: expected a call left of the 2 a day, found all used; "
        f"goes on at {caught.value.until:%Y-%m-%d %H:%M} UTC"
    )
    assert counted.remaining() == Remaining(minute=None, day=0)
    assert counted.used_today() == 2
    assert stored(database, "day") == [("polygon", 2, 2)]


def test_another_provider_and_another_day_have_budgets_of_their_own(database: Engine) -> None:
    counted = quota(database, 1, 1, wait=no_wait)
    with counted.call():
        pass
    with StoredQuota(database, "alpha_vantage", 1, 1, wait=no_wait).call():
        pass
    assert counted.remaining(datetime.now(UTC) + timedelta(days=1)) == Remaining(minute=1, day=1)


def test_the_day_changes_at_midnight_in_the_vendors_zone_also_when_its_clock_does(database: Engine) -> None:
    # 2024-03-10 in New York lasts from 05:00 UTC to 04:00 UTC of the next day, an hour less.
    day = datetime(2024, 3, 10, 5, tzinfo=UTC), datetime(2024, 3, 11, 4, tzinfo=UTC)
    write(database, "day", *day, used=10)
    counted = quota(database, None, 25, zone=NEW_YORK)
    moment = timedelta(microseconds=1)
    assert counted.remaining(day[0]).day == 15
    assert counted.remaining(day[0] - moment).day == 25
    assert counted.remaining(day[1] - moment).day == 15
    assert counted.remaining(day[1]).day == 25


def test_a_call_under_way_at_midnight_counts_in_both_days(database: Engine) -> None:
    counted = quota(database, None, 5)
    midnight = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=12)
    minute, second = timedelta(minutes=1), timedelta(seconds=1)
    # A place ends a minute after its call did: one ended before midnight, one at it, one was under way.
    write(database, "minute", midnight - 9 * second, midnight - second + minute)
    write(database, "minute", midnight - 8 * second, midnight + minute)
    write(database, "minute", midnight - 7 * second, midnight + 2 * minute)
    assert counted.used_today() == 2
    with counted.call():
        pass
    # They were cleared away with the first call of the day, which wrote down that they count.
    assert len(stored(database, "minute")) == 1
    assert counted.used_today() == 3
    assert stored(database, "day") == [("polygon", 3, 5)]


# --- what the vendor asks for


def test_a_short_retry_after_is_waited_for_by_every_process(database: Engine) -> None:
    until = datetime.now(UTC) + timedelta(seconds=0.3)
    quota(database, 5, None).blocked(until)
    quota(database, 5, None).blocked(until - timedelta(seconds=0.2))  # does not shorten it
    with quota(database, 5, None).call():
        assert datetime.now(UTC) >= until


def test_a_long_retry_after_says_when_it_goes_on_and_takes_nothing(database: Engine) -> None:
    until = datetime(2099, 1, 2, 3, 4, 5, tzinfo=UTC)
    quota(database, 5, 25).blocked(until)
    counted = quota(database, 5, 25, wait=no_wait)
    with pytest.raises(QuotaExhaustedError) as caught, counted.call():
        pass
    assert caught.value.until == until
    assert str(caught.value) == (
        "polygon: expected calls to be taken (budget: 5 a minute and 25 a day), found that it asks for a pause "
        "(Retry-After); goes on at 2099-01-02 03:04:05 UTC"
    )
    assert counted.used_today() == 0
    assert counted.remaining() == Remaining(minute=5, day=25, blocked_until=until)


def test_of_a_used_up_day_and_a_retry_after_the_later_end_counts(database: Engine) -> None:
    counted = quota(database, 5, 1, wait=no_wait)
    with counted.call():
        pass
    until = datetime(2099, 1, 2, tzinfo=UTC)
    counted.blocked(until)
    with pytest.raises(QuotaExhaustedError, match="2099-01-02 00:00 UTC") as caught, counted.call():
        pass
    assert caught.value.until == until


def test_a_retry_after_that_is_over_is_not_kept(database: Engine) -> None:
    counted = quota(database, 5, None)
    counted.blocked(datetime.now(UTC) - timedelta(seconds=1))
    assert stored(database, "retry_after") == []


# --- without limits, and mistakes


def test_without_limits_the_database_is_not_asked() -> None:
    free = quota(create_engine("postgresql+psycopg://nobody@127.0.0.1:1/nothing"), None, None)
    with free.call():
        pass
    assert free.used_today() == 0
    until = datetime.now(UTC) + timedelta(seconds=0.1)
    free.blocked(until)
    assert free.remaining() == Remaining(None, None, until)
    with free.call():
        assert datetime.now(UTC) >= until
    free.blocked(datetime.now(UTC) + 2 * LONGEST_WAIT)
    with pytest.raises(QuotaExhaustedError, match=r"polygon: .*budget: no limit.*Retry-After"), free.call():
        pass


def test_a_broken_database_is_an_error_and_the_call_is_not_made(database: Engine) -> None:
    with database.begin() as connection:
        connection.execute(text("ALTER TABLE provider_quota RENAME TO elsewhere"))
    with pytest.raises(Exception, match='relation "provider_quota" does not exist'), quota(database, 5, None).call():
        pytest.fail("the call was let through")


def test_limits_below_one_and_moments_without_a_zone_are_refused(database: Engine) -> None:
    with pytest.raises(ValueError, match="polygon: expected per_day of at least 1, or None for no limit, found 0"):
        quota(database, 5, 0)
    with pytest.raises(ValueError, match="expected a moment with a time zone"):
        quota(database, 5, None).blocked(datetime(2099, 1, 2))  # noqa: DTZ001 that is the mistake
