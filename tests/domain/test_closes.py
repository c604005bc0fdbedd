"""Which sessions can be loaded at a moment, by hand: the days around the Fourth of July 2024 in New York and London."""

from datetime import UTC, date, datetime, timedelta

import pandas as pd
import pytest

from tickstock_assets.domain.closes import Close, newest_closes

HALF_AN_HOUR = timedelta(minutes=30)
# The third is a half day, the fourth a holiday.
NEW_YORK = {"2024-07-02": "20:00", "2024-07-03": "17:00", "2024-07-05": "20:00"}
LONDON = dict.fromkeys(("2024-07-02", "2024-07-03", "2024-07-04", "2024-07-05"), "15:30")


def sessions(closes: dict[str, str]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "session": pd.to_datetime(list(closes)),
            "close": pd.to_datetime([f"{day} {hour}" for day, hour in closes.items()], utc=True),
        }
    )


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def newest(now: str, horizon: str = "2024-07-31", **closes: dict[str, str]) -> tuple[list[Close], list[Close]]:
    known = {exchange: sessions(of_exchange) for exchange, of_exchange in (closes or {"XNYS": NEW_YORK}).items()}
    return newest_closes(known, at(now), date.fromisoformat(horizon), HALF_AN_HOUR)


@pytest.mark.parametrize(
    ("now", "session", "following"),
    [
        ("2024-07-02 20:29", None, "2024-07-02"),
        ("2024-07-02 20:30", "2024-07-02", "2024-07-03"),
        # The half day is loaded three hours earlier than others.
        ("2024-07-03 17:29", "2024-07-02", "2024-07-03"),
        ("2024-07-03 17:30", "2024-07-03", "2024-07-05"),
        ("2024-07-05 20:29", "2024-07-03", "2024-07-05"),
        # After a long while without a tick it is still the newest.
        ("2024-07-09 00:00", "2024-07-05", None),
    ],
)
def test_a_session_can_be_loaded_half_an_hour_after_its_close(
    now: str, session: str | None, following: str | None
) -> None:
    had, after = newest(now)
    assert [str(close.session) for close in had] == ([session] if session else [])
    assert [str(close.session) for close in after] == ([following] if following else [])


def test_what_the_providers_do_not_have_yet_is_waited_for() -> None:
    had, after = newest("2024-07-03 20:00", horizon="2024-07-02")
    assert [close.session for close in had] == [date(2024, 7, 2)]
    assert [close.session for close in after] == [date(2024, 7, 3)]


def test_exchanges_that_close_together_are_one_and_others_apart() -> None:
    had, after = newest("2024-07-04 18:00", XNYS=NEW_YORK, XNAS=NEW_YORK, XLON=LONDON)
    assert had == [
        Close(at("2024-07-03 17:00"), date(2024, 7, 3), ("XNAS", "XNYS")),
        Close(at("2024-07-04 15:30"), date(2024, 7, 4), ("XLON",)),
    ]
    assert [close.exchanges for close in after] == [("XLON",), ("XNAS", "XNYS")]


def test_a_close_is_told_in_utc_and_at_the_exchange() -> None:
    half_day = Close(at("2024-07-03 17:00"), date(2024, 7, 3), ("XNAS", "XNYS"))
    assert str(half_day) == "XNAS, XNYS 2024-07-03, close at 2024-07-03 17:00 UTC (13:00 in America/New_York)"
    always = Close(at("2024-07-04 00:00"), date(2024, 7, 3), ("24/7",))
    assert str(always) == "24/7 2024-07-03, close at 2024-07-04 00:00 UTC"


def test_an_exchange_without_sessions_is_left_out() -> None:
    assert newest("2024-07-03 18:00", XNYS={}) == ([], [])
