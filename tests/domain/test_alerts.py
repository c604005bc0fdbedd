"""Who is told what, and when: worked by hand."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickstock_assets.domain.alerts import (
    QUIET_MINUTES,
    Alert,
    Kind,
    Notice,
    Told,
    left_of,
    line,
    notice,
    quiet_periods,
)
from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.domain.lags import lag
from tickstock_assets.domain.windows import Window

NOON = datetime(2024, 3, 5, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def alert(
    kind: Kind = Kind.LAG, times: int = 1, last_at: datetime = NOON, resolved_at: datetime | None = None
) -> Alert:
    return Alert(
        "id", kind, "1d bars", "warning", "expected a,\nfound b", "0123456789", times, NOON, last_at, resolved_at
    )


def told(minutes: float, times: int = 1, *, as_resolved: bool = False) -> Told:
    return Told(NOON + timedelta(minutes=minutes), times, as_resolved)


def due(what: Alert, last: Told | None, minutes: float) -> int | None:
    """Return the repeats that are told a number of minutes after noon, None for nothing; the quiet period is an hour."""
    found = notice(what, last, HOUR, NOON + timedelta(minutes=minutes), known_since=NOON)
    return found.repeats if found else None


def test_what_is_new_is_told_at_once() -> None:
    assert due(alert(times=1), None, 0) == 0
    assert due(alert(times=4), None, 0) == 3


def test_the_same_is_told_again_after_the_quiet_period_with_how_often_it_was_seen() -> None:
    # Told at noon when it had been seen once; five more times since, of which this is one.
    assert due(alert(times=6), told(0), 59.9) is None
    assert due(alert(times=6), told(0), 60) == 4
    assert due(alert(times=1), told(0), 600) is None


def test_that_all_is_well_is_told_at_once_and_once_and_only_to_who_knew_of_it() -> None:
    well = alert(times=3, resolved_at=NOON + HOUR)
    assert due(well, told(0), 1) == 2
    assert due(well, told(0, 3, as_resolved=True), 1) is None
    assert due(well, None, 1) is None


def test_what_comes_back_in_its_quiet_period_waits_for_its_end() -> None:
    back = alert(times=5)
    assert due(back, told(0, 2, as_resolved=True), 59) is None
    assert due(back, told(0, 2, as_resolved=True), 61) == 2


def test_what_happened_before_a_receiver_was_set_up_is_no_news_but_what_still_holds_is() -> None:
    long_ago = NOON - timedelta(hours=1, seconds=1)
    assert due(alert(Kind.RUN_FAILED, last_at=long_ago), None, 0) is None
    assert due(alert(Kind.RUN_FAILED, last_at=NOON - HOUR), None, 0) == 0
    assert due(alert(Kind.LAG, last_at=long_ago), None, 0) == 0
    # Told before: whatever comes then is news.
    assert due(alert(Kind.RUN_FAILED, times=2, last_at=long_ago), told(-120), 0) == 0


@given(
    seen=st.lists(st.integers(0, 600), min_size=1, max_size=40),
    looks=st.lists(st.integers(0, 900), min_size=1, max_size=60),
)
def test_no_receiver_hears_of_the_same_twice_in_a_quiet_period_and_in_the_end_of_all(
    seen: list[int], looks: list[int]
) -> None:
    last: Told | None = None
    heard: list[tuple[int, int]] = []
    for minute in [*sorted(looks), 2000]:
        times = sum(moment <= minute for moment in seen)
        if not times:
            continue
        found = notice(alert(times=times), last, HOUR, NOON + timedelta(minutes=minute), known_since=NOON)
        if found:
            heard.append((minute, found.repeats + 1))
            last = Told(NOON + timedelta(minutes=minute), times)
    moments = [minute for minute, _ in heard]
    assert all(later - earlier >= 60 for earlier, later in pairwise(moments))
    # What they say adds up to what there was.
    assert sum(times for _, times in heard) == len(seen)


def test_a_notice_is_one_line() -> None:
    with_link = line(Notice(alert(times=4), 3), "http://host:3000/")
    assert with_link == (
        "WARNING lag 1d bars: expected a, found b (3 more since 2024-03-05 12:00 UTC) http://host:3000/runs/0123456789"
    )
    assert line(Notice(alert(), 0), None) == "WARNING lag 1d bars: expected a, found b (run 01234567)"
    well = Notice(alert(resolved_at=NOON + timedelta(minutes=90)), 0, NOON)
    assert (
        line(well, "http://host") == "RESOLVED lag 1d bars: well again after 90 minutes (it was: expected a, found b)"
    )


@pytest.mark.parametrize(
    ("seconds", "said"), [(30, "30 seconds"), (120, "2 minutes"), (7200, "2 hours"), (200_000, "2 days")]
)
def test_a_length_of_time_is_said_as_a_person_does(seconds: float, said: str) -> None:
    assert f"after {said} (" in line(Notice(alert(resolved_at=NOON + timedelta(seconds=seconds)), 0), None)


def test_quiet_periods_are_for_all_or_by_kind() -> None:
    assert quiet_periods(None) == {kind: timedelta(minutes=minutes) for kind, minutes in QUIET_MINUTES.items()}
    assert set(quiet_periods("30").values()) == {timedelta(minutes=30)}
    by_kind = quiet_periods(" lag = 2880, run_failed=0.5 ")
    assert (by_kind[Kind.LAG], by_kind[Kind.RUN_FAILED]) == (timedelta(days=2), timedelta(seconds=30))
    assert by_kind[Kind.DISK_LOW] == timedelta(minutes=QUIET_MINUTES[Kind.DISK_LOW])


@pytest.mark.parametrize("text", ["soon", "lag", "lag=soon", "lags=5", "-5", "lag=-1", "1e9", "5=lag"])
def test_what_is_no_quiet_period_is_told(text: str) -> None:
    with pytest.raises(ConfigError, match="TICKSTOCK_ALERT_QUIET_MINUTES: expected minutes, such as 30"):
        quiet_periods(text)


def test_a_later_evaluation_speaks_for_what_it_looked_at() -> None:
    year = Window("A", date(2011, 1, 1), date(2011, 12, 31))
    half = Window("A", date(2011, 7, 1), date(2011, 12, 31))
    other = Window("B", date(2011, 1, 1), date(2011, 12, 31))
    assert left_of([year, other], [half]) == [Window("A", date(2011, 1, 1), date(2011, 6, 30)), other]
    assert left_of([half], [year]) == []
    assert left_of([year], None) == []
    assert left_of(None, [year]) is None
    assert left_of(None, None) == []


def test_lag_is_counted_in_sessions_and_from_close_to_close() -> None:
    # Friday 1 March to Tuesday 5 March 2024: Monday and Tuesday are missing, four days from close to close.
    behind = lag("XNYS", "1d", date(2024, 3, 1), date(2024, 3, 5))
    assert (behind.sessions, behind.seconds) == (2, 4 * 86_400)
    assert behind.horizon_close == datetime(2024, 3, 5, 21, tzinfo=UTC)
    # Across Independence Day, and the half day before it closes at 17:00 UTC: 5 July 20:00 is 2 days and 3 hours later.
    across = lag("XNYS", "1m", date(2024, 7, 3), date(2024, 7, 5))
    assert (across.sessions, across.seconds) == (1, 2 * 86_400 + 3 * 3600)
    assert (lag("XNYS", "1d", date(2024, 3, 5), date(2024, 3, 5)).sessions) == 0
    ahead = lag("XNYS", "1d", date(2024, 3, 6), date(2024, 3, 5))
    assert (ahead.sessions, ahead.seconds) == (0, 0.0)
