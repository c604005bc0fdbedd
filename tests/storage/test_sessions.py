"""The table of sessions: the calendar's word, a person's, and what follows from either."""

from datetime import date, datetime
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from sqlalchemy import Connection, Engine, text

from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.domain.sessions import trading_sessions
from tickstock_assets.loading.calendar import know_sessions, renew_sessions, session_days
from tickstock_assets.storage import bars, sessions

NEW_YORK = ZoneInfo("America/New_York")
SANDY = date(2012, 10, 26)  # the Friday before the storm, a session
WHY = {"reason": "a storm", "author": "Ada"}


def know(connection: Connection, *symbols: tuple[str, str]) -> None:
    for symbol, exchange in symbols:
        connection.execute(
            text("INSERT INTO symbols (symbol, exchange) VALUES (:symbol, :exchange)"),
            {"symbol": symbol, "exchange": exchange},
        )
    know_sessions(connection, date(2012, 1, 1), date(2012, 12, 31))


def minute(connection: Connection, symbol: str, moment: str) -> None:
    connection.execute(
        text(
            "INSERT INTO ohlcv_1min (symbol, timestamp, open, high, low, close, volume, source) "
            "VALUES (:symbol, :moment, 1, 1, 1, 1, 1, 'polygon')"
        ),
        {"symbol": symbol, "moment": moment},
    )


def stale_hours(connection: Connection) -> list[tuple[str, str]]:
    rows = connection.execute(
        text("SELECT symbol, timestamp FROM touched_buckets WHERE daily_at IS NULL ORDER BY 1, 2")
    )
    return [(row.symbol, f"{row.timestamp.astimezone(ZoneInfo('UTC')):%d %H}") for row in rows]


def stored(connection: Connection, day: date = SANDY, exchange: str = "XNYS") -> dict[str, object]:
    [row] = sessions.overview(connection, exchange, day, day).to_dict("records")
    return {str(name): None if pd.isna(value) else value for name, value in row.items()}


def audited(connection: Connection) -> list[tuple[str, str, str]]:
    rows = connection.execute(
        text("SELECT entity_id, action, metadata -> 'after' ->> 'kind' AS kind FROM audit_trail ORDER BY timestamp")
    )
    return [(row.entity_id, row.action, row.kind) for row in rows]


def test_every_exchange_that_a_symbol_has_is_entered_with_its_own_days(database: Engine) -> None:
    with database.begin() as connection:
        know(connection, ("AAPL", "XNYS"), ("X:BTCUSD", "24/7"), ("VOD", "XLON"))
        assert sessions.counted(connection) == {"24/7": 366, "XLON": 252, "XNYS": 250}
        saturday = stored(connection, date(2012, 1, 7), "24/7")
    assert (saturday["open"], saturday["close"]) == (
        pd.Timestamp("2012-01-07", tz="UTC"),
        pd.Timestamp("2012-01-08", tz="UTC"),
    )
    assert saturday["extended_open"] is None


def test_the_days_of_a_load_are_those_of_its_symbols_exchanges(database: Engine) -> None:
    with database.begin() as connection:
        know(connection, ("AAPL", "XNYS"), ("X:BTCUSD", "24/7"))
        weekend = date(2012, 1, 7), date(2012, 1, 9)
        assert session_days(connection, *weekend, ["AAPL", "NEVERSEEN"]) == [date(2012, 1, 9)]
        assert len(session_days(connection, *weekend, ["AAPL", "X:BTCUSD"])) == 3
        # 2013 is not in the table: its calendar answers.
        assert session_days(connection, date(2013, 1, 1), date(2013, 1, 2), ["AAPL"]) == [date(2013, 1, 2)]


def test_a_session_closed_by_a_person_is_read_by_nobody_and_stays_closed_when_the_calendar_is_loaded_again(
    database: Engine,
) -> None:
    with database.begin() as connection:
        know(connection)
        sessions.close(connection, "XNYS", SANDY, **WHY)
        assert bars.sessions(connection, "XNYS", SANDY, SANDY).empty
        for load in (know_sessions, renew_sessions):
            load(connection, date(2011, 1, 1), date(2013, 12, 31))
            found = stored(connection)
            assert (found["kind"], found["override_author"]) == ("closed_by_override", "Ada")
        assert sessions.overridden(connection)["session"].dt.date.tolist() == [SANDY]
        assert sessions.overridden(connection, "XLON").empty
        assert audited(connection) == [(f"XNYS {SANDY}", "close", "closed_by_override")]


def test_a_shortened_session_ends_its_extended_hours_four_hours_after_its_close(database: Engine) -> None:
    with database.begin() as connection:
        know(connection)
        noon = datetime(2012, 10, 26, 12, 0, tzinfo=NEW_YORK)
        sessions.shorten(connection, "XNYS", SANDY, (None, noon), **WHY)
        renew_sessions(connection, date(2012, 1, 1), date(2012, 12, 31))
        found = stored(connection)
    assert (found["kind"], found["override_reason"]) == ("half_day", "a storm")
    hours = [found[name] for name in ("extended_open", "open", "close", "extended_close")]
    # New York was four hours behind UTC: 4:00, 9:30, 12:00, 16:00.
    assert hours == [pd.Timestamp(f"2012-10-26 {clock}", tz="UTC") for clock in ("08:00", "13:30", "16:00", "20:00")]


def test_a_restored_session_is_the_calendars_again(database: Engine) -> None:
    with database.begin() as connection:
        know(connection)
        before = stored(connection)
        sessions.close(connection, "XNYS", SANDY, **WHY)
        sessions.restore(connection, "XNYS", SANDY, reason="it was the 29th", author="Ben")
        assert stored(connection) == before
        assert [action for _, action, _ in audited(connection)] == ["close", "restore"]
        [who] = connection.execute(
            text("SELECT metadata ->> 'author' FROM audit_trail WHERE action = 'restore'")
        ).scalars()
    assert who == "Ben"


def test_hours_of_a_changed_session_are_to_be_rolled_up_anew(database: Engine) -> None:
    with database.begin() as connection:
        know(connection, ("AAPL", "XNYS"), ("VOD", "XLON"))
        # In its first and last hour, before the open, on the next session, and of another exchange.
        for moment in ("2012-10-26 13:30Z", "2012-10-26 19:59Z", "2012-10-26 12:00Z", "2012-10-31 14:00Z"):
            minute(connection, "AAPL", moment)
        minute(connection, "VOD", "2012-10-26 14:00Z")
        connection.execute(text("DELETE FROM touched_buckets"))
        sessions.close(connection, "XNYS", SANDY, **WHY)
        assert stale_hours(connection) == [("AAPL", "26 13"), ("AAPL", "26 19")]
        connection.execute(text("UPDATE touched_buckets SET intraday_at = now(), daily_at = now()"))
        sessions.restore(connection, "XNYS", SANDY, **WHY)
        assert stale_hours(connection) == [("AAPL", "26 13"), ("AAPL", "26 19")]


def test_a_calendar_that_was_corrected_corrects_the_table(database: Engine) -> None:
    with database.begin() as connection:
        know(connection, ("AAPL", "XNYS"))
        minute(connection, "AAPL", "2012-10-26 19:00Z")
        connection.execute(text("DELETE FROM touched_buckets"))
        calendar = trading_sessions("XNYS", date(2012, 1, 1), date(2012, 12, 31))
        shorter = calendar.assign(
            close=calendar["close"].where(calendar["session"].dt.date != SANDY, calendar["close"] - pd.Timedelta("3h"))
        )
        counts = sessions.enter(connection, shorter[shorter["session"] != "2012-10-25"])
        assert (counts.corrected, counts.removed, counts.inserted) == (1, 1, 0)
        assert stored(connection)["close"] == pd.Timestamp("2012-10-26 17:00", tz="UTC")
        # Its last minute is no longer of the session, which is reason enough.
        assert stale_hours(connection) == [("AAPL", "26 19")]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: sessions.close(c, "XNYS", date(2012, 10, 29), **WHY), "found none on this Monday"),
        (lambda c: sessions.close(c, "XXXX", SANDY, **WHY), "expected an ISO 10383 code"),
        (lambda c: sessions.restore(c, "XNYS", SANDY, **WHY), "found it as in the calendar"),
        (
            lambda c: sessions.shorten(
                c, "XNYS", SANDY, (None, datetime(2012, 10, 26, 16, 30, tzinfo=NEW_YORK)), **WHY
            ),
            "part of its usual ones, 13:30 to 20:00 UTC, found 2012-10-26 13:30 to 2012-10-26 20:30 UTC",
        ),
        (
            lambda c: [sessions.close(c, "XNYS", SANDY, **WHY) for _ in range(2)],
            "found it closed by Ada: a storm",
        ),
    ],
)
def test_a_change_that_cannot_be_is_one_sentence(database: Engine, change: object, said: str) -> None:
    with database.connect() as connection, pytest.raises(ConfigError, match=said):
        change(connection)  # type: ignore[operator]


def test_sessions_that_fill_a_hole_make_the_minutes_in_it_stale(database: Engine) -> None:
    with database.begin() as connection:
        connection.execute(text("INSERT INTO symbols (symbol) VALUES ('AAPL')"))
        for year in (2011, 2013):
            know_sessions(connection, date(year, 1, 3), date(year, 12, 30))
        minute(connection, "AAPL", "2012-10-26 15:00+00")
        # Of a time between known sessions, so it was taken for one without a session.
        know_sessions(connection, date(2012, 1, 3), date(2012, 12, 28))
        assert stale_hours(connection) == [("AAPL", "26 15")]
