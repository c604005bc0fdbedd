"""The calendar, against days known from the newspapers."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.domain.sessions import (
    expected_minutes,
    last_closed_session,
    session_of,
    sessions_up_to,
    settled_session,
    trading_sessions,
)


@pytest.fixture(scope="module")
def xnys() -> pd.DataFrame:
    return trading_sessions("XNYS", date(2000, 1, 1), date(2013, 12, 31)).set_index("session")


@pytest.mark.parametrize(
    ("day", "why"),
    [
        ("2001-09-11", "attacks"), ("2001-09-14", "attacks"), ("2004-06-11", "mourning for Reagan"),
        ("2007-01-02", "mourning for Ford"), ("2012-10-29", "hurricane Sandy"), ("2012-10-30", "hurricane Sandy"),
        ("2012-07-04", "Independence Day"), ("2013-03-02", "a Saturday"), ("2013-03-29", "Good Friday"),
    ],
)  # fmt: skip
def test_the_exchange_was_closed(xnys: pd.DataFrame, day: str, why: str) -> None:
    assert pd.Timestamp(day) not in xnys.index, why


def test_a_session_opens_at_half_past_nine_in_new_york_in_winter_and_in_summer(xnys: pd.DataFrame) -> None:
    assert xnys.loc["2012-01-03", "open"] == pd.Timestamp("2012-01-03 14:30", tz="UTC")
    assert xnys.loc["2012-07-03", "open"] == pd.Timestamp("2012-07-03 13:30", tz="UTC")


def test_a_half_day_closes_at_one(xnys: pd.DataFrame) -> None:
    assert xnys.loc["2012-11-23", "close"] == pd.Timestamp("2012-11-23 18:00", tz="UTC")
    assert xnys.loc["2012-11-23", "kind"] == "half_day"
    assert xnys.loc["2012-11-26", "kind"] == "regular"


def test_2024_had_252_sessions_three_of_them_half_days() -> None:
    sessions = trading_sessions("XNYS", date(2024, 1, 1), date(2024, 12, 31))
    assert len(sessions) == 252
    assert sessions.loc[sessions["kind"] == "half_day", "session"].dt.strftime("%m-%d").tolist() == [
        "07-03",
        "11-29",
        "12-24",
    ]


def test_an_unknown_exchange_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match="'NOWHERE': expected an ISO 10383 code"):
        trading_sessions("NOWHERE", date(2024, 1, 1), date(2024, 12, 31))


def test_a_reversed_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected an end on or after 2024-12-31, found 2024-01-01"):
        trading_sessions("XNYS", date(2024, 12, 31), date(2024, 1, 1))


CLOSE_OF_FRIDAY = datetime(2024, 7, 5, 20, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "last_closed"),
    [
        (CLOSE_OF_FRIDAY, date(2024, 7, 5)),
        # Before Friday's close it is Wednesday: Thursday was Independence Day.
        (CLOSE_OF_FRIDAY - timedelta(seconds=1), date(2024, 7, 3)),
        # Wednesday was a half day and closed at 17:00 UTC.
        (datetime(2024, 7, 3, 17, 0, tzinfo=UTC), date(2024, 7, 3)),
        (datetime(2024, 7, 3, 16, 59, tzinfo=UTC), date(2024, 7, 2)),
        (datetime(2024, 7, 7, 12, 0, tzinfo=UTC), date(2024, 7, 5)),
        # New Year's day belongs to no year's sessions.
        (datetime(2025, 1, 1, 12, 0, tzinfo=UTC), date(2024, 12, 31)),
        # The moment of Friday's close, on a clock in Tokyo that says Saturday.
        (CLOSE_OF_FRIDAY.astimezone(ZoneInfo("Asia/Tokyo")), date(2024, 7, 5)),
    ],
)
def test_the_last_closed_session_is_told_by_the_clock_that_is_handed_in(now: datetime, last_closed: date) -> None:
    assert last_closed_session("XNYS", now) == last_closed


def test_the_last_three_closed_sessions_are_not_settled() -> None:
    # Closed: ... 28 June, 1, 2, 3 and 5 July. The 2nd, 3rd and 5th can still change.
    assert settled_session("XNYS", CLOSE_OF_FRIDAY) == date(2024, 7, 1)
    assert settled_session("XNYS", CLOSE_OF_FRIDAY - timedelta(seconds=1)) == date(2024, 6, 28)


def test_sessions_are_counted_back_from_the_last_one_that_opened() -> None:
    # Friday opened at 13:30 UTC.
    opening = datetime(2024, 7, 5, 13, 30, tzinfo=UTC)
    assert sessions_up_to("XNYS", opening, 3) == [date(2024, 7, 2), date(2024, 7, 3), date(2024, 7, 5)]
    assert sessions_up_to("XNYS", opening - timedelta(seconds=1), 2) == [date(2024, 7, 2), date(2024, 7, 3)]
    assert len(sessions_up_to("XNYS", opening, 100)) == 100


# --- parts of a session


NEW_YORK = ZoneInfo("America/New_York")
YEARS = trading_sessions("XNYS", date(2011, 12, 1), date(2013, 1, 31))
HALF_DAYS_OF_2012 = {date(2012, 7, 3), date(2012, 11, 23), date(2012, 12, 24)}
# Listed by hand from the exchange's own notices.
CLOSED_IN_2012 = {
    date(2012, 1, 2), date(2012, 1, 16), date(2012, 2, 20), date(2012, 4, 6), date(2012, 5, 28), date(2012, 7, 4),
    date(2012, 9, 3), date(2012, 10, 29), date(2012, 10, 30), date(2012, 11, 22), date(2012, 12, 25),
}  # fmt: skip


MOMENTS_OF_2012 = st.datetimes(datetime(2012, 1, 1, 12), datetime(2012, 12, 31, 12), timezones=st.just(UTC))  # noqa: DTZ001


def naive_phase(moment: datetime) -> tuple[date | None, str]:
    """What the rules of 2012 say of a moment, one moment at a time."""
    local = moment.astimezone(NEW_YORK)
    day, clock = local.date(), local.time()
    if local.weekday() >= 5 or day in CLOSED_IN_2012:
        return None, "closed"
    closes, ends = (time(13), time(17)) if day in HALF_DAYS_OF_2012 else (time(16), time(20))
    if not time(4) <= clock < ends:
        return None, "closed"
    return day, "pre_market" if clock < time(9, 30) else "regular" if clock < closes else "post_market"


@given(st.lists(MOMENTS_OF_2012, min_size=1))
def test_the_part_of_a_session_is_what_the_rules_say_of_each_moment_alone(moments: list[datetime]) -> None:
    found = session_of(pd.Series(moments, dtype="datetime64[us, UTC]"), YEARS)
    days = [None if pd.isna(day) else day.date() for day in found["session"]]
    assert list(zip(days, found["phase"], strict=True)) == [naive_phase(moment) for moment in moments]
    placed = found[found["place"] >= 0]
    assert YEARS["session"].iloc[placed["place"]].tolist() == placed["session"].tolist()


@pytest.mark.parametrize(
    ("moment", "phase"),
    [
        ("2012-07-03 07:59:59", "closed"), ("2012-07-03 08:00", "pre_market"), ("2012-07-03 13:29:59.999999", "pre_market"),
        ("2012-07-03 13:30", "regular"), ("2012-07-03 16:59:59", "regular"), ("2012-07-03 17:00", "post_market"),
        ("2012-07-03 20:59:59", "post_market"), ("2012-07-03 21:00", "closed"),
        # A full day ends at 20:00 in New York, which in winter is the next day of UTC.
        ("2012-01-04 00:59", "post_market"), ("2012-01-04 01:00", "closed"), ("2012-10-29 15:00", "closed"),
        # The first session before and after the clocks changed, 11 March and 4 November: an hour earlier, an hour later.
        ("2012-03-09 14:30", "regular"), ("2012-03-12 13:29", "pre_market"), ("2012-03-12 13:30", "regular"),
        ("2012-11-02 13:30", "regular"), ("2012-11-05 14:29", "pre_market"), ("2012-11-05 14:30", "regular"),
    ],
)  # fmt: skip
def test_a_moment_lies_in_the_part_that_the_clock_on_the_wall_says(moment: str, phase: str) -> None:
    [found] = session_of(pd.DatetimeIndex([moment], tz="UTC"), YEARS)["phase"]
    assert found == phase


def test_a_moment_that_is_not_known_is_in_no_session() -> None:
    found = session_of(pd.Series([pd.NaT, pd.Timestamp("2012-01-03 15:00", tz="UTC")], [7, 3]), YEARS)
    assert (found.index.tolist(), found["phase"].tolist()) == ([7, 3], ["closed", "regular"])
    assert session_of(pd.DatetimeIndex(["2012-01-03 15:00"], tz="UTC"), YEARS[:0])["place"].tolist() == [-1]


def test_a_session_that_is_closed_by_override_has_no_hours_and_expects_no_minute() -> None:
    two = YEARS[YEARS["session"].between("2012-07-02", "2012-07-03")]
    closed = two.assign(kind=["closed_by_override", "half_day"])
    moments = pd.DatetimeIndex(["2012-07-02 15:00", "2012-07-03 15:00"], tz="UTC")
    assert session_of(moments, closed)["phase"].tolist() == ["closed", "regular"]
    assert expected_minutes(closed)["session"].dt.day.unique().tolist() == [3]


def test_every_minute_of_2012_is_expected_once() -> None:
    sessions = trading_sessions("XNYS", date(2012, 1, 1), date(2012, 12, 31))
    grids = {
        phase: [
            day.replace(hour=0) + timedelta(minutes=minute)
            for day in pd.date_range("2012-01-01", "2012-12-31", tz="America/New_York").to_pydatetime()
            for minute in range(24 * 60)
            if naive_phase(day + timedelta(minutes=minute))[1] == phase
        ]
        for phase in ("pre_market", "regular", "post_market")
    }
    # 247 full days and three half days.
    assert len(grids["regular"]) == 247 * 390 + 3 * 210
    for phase, expected in grids.items():
        found = expected_minutes(sessions, phase)["timestamp"]
        assert found.tolist() == [moment.astimezone(UTC) for moment in expected]


def test_what_is_always_open_has_a_session_a_day_of_1440_regular_minutes() -> None:
    days = trading_sessions("24/7", date(2024, 2, 28), date(2024, 3, 1))
    assert days["extended_open"].isna().all()
    assert len(expected_minutes(days)) == 3 * 1440
    assert expected_minutes(days, "pre_market").empty
    found = session_of(pd.DatetimeIndex(["2024-02-29 00:00", "2024-02-29 23:59"], tz="UTC"), days)
    assert found["session"].dt.strftime("%m-%d").tolist() == ["02-29", "02-29"]
    assert found["phase"].tolist() == ["regular", "regular"]


@pytest.mark.parametrize(
    ("year", "closed"),
    [(2001, ["09-11", "09-12", "09-13", "09-14"]), (2012, ["10-29", "10-30"]), (2018, ["12-05"]), (2025, ["01-09"])],
)
def test_the_exchange_was_closed_for_what_no_rule_foresees(year: int, closed: list[str]) -> None:
    weekdays = set(pd.bdate_range(f"{year}-01-01", f"{year}-12-31"))
    missing = weekdays - set(trading_sessions("XNYS", date(year, 1, 1), date(year, 12, 31))["session"])
    assert set(closed) <= {f"{day:%m-%d}" for day in missing}
    assert len(missing) <= 10 + len(closed)


def test_an_exchange_whose_holidays_are_known_for_some_years_says_which() -> None:
    with pytest.raises(ConfigError, match=r"Sessions of XBOM: expected days from 1997 to \d{4}, .* found 1990-01-01"):
        trading_sessions("XBOM", date(1990, 1, 1), date(2012, 1, 5))
    assert len(trading_sessions("XBOM", date(2012, 1, 2), date(2012, 1, 6))) == 5


def test_a_frame_of_sessions_is_the_askers_own() -> None:
    one = trading_sessions("XNYS", date(2012, 1, 3), date(2012, 1, 3))
    one.loc[0, "kind"] = "spoilt"
    assert trading_sessions("XNYS", date(2012, 1, 3), date(2012, 1, 3))["kind"].tolist() == ["regular"]
