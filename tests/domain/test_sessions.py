"""The calendar, against days known from the newspapers."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pandas as pd
import pytest

from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.domain.sessions import last_closed_session, sessions_up_to, settled_session, trading_sessions


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
