"""The table of sessions: what the calendar says, and what a person says otherwise, which no calendar overwrites.

A session that a person has changed has an `override_reason`. It makes the bars that are rolled up from its minutes stale,
so their hours are touched in the same transaction.

Elsewhere: what the calendar says (domain/sessions.py), reading sessions with bars (bars.py).
"""

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Any

import pandas as pd
from sqlalchemy import Connection, text

from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.domain.exchanges import EXTENDED_HOURS
from tickstock_assets.domain.sessions import CLOSED_BY_OVERRIDE, trading_sessions
from tickstock_assets.storage import audit, bars
from tickstock_assets.storage.bars import UTC
from tickstock_assets.storage.bulk import MergeCounts, merge

# A row of the table; None for what it does not have.
type Session = Mapping[str, Any]

DTYPES: bars.Dtypes = {
    "session": "datetime64[us]",
    **dict.fromkeys(["open", "close", "extended_open", "extended_close"], UTC),
    **dict.fromkeys(["exchange", "kind", "override_reason", "override_author"], "str"),
}
COLUMNS = "exchange, session, open, close, kind, extended_open, extended_close, override_reason, override_author"
# Readers go on; two who change sessions take turns, so that no calendar overwrites an override it has not seen.
ONE_WRITER = "LOCK TABLE sessions IN SHARE ROW EXCLUSIVE MODE"


def enter(connection: Connection, calendar: pd.DataFrame) -> MergeCounts:
    """Make the sessions between the first and the last of a calendar's its own; those that a person changed stay.

    Args:
        connection: open.
        calendar: as `trading_sessions` gives it, of one exchange or several; each over all of its span.
    """
    if calendar.empty:
        return MergeCounts()
    connection.execute(text(ONE_WRITER))
    counts = MergeCounts()
    for exchange, of_exchange in calendar.groupby("exchange"):
        stored = overview(
            connection, str(exchange), of_exchange["session"].min().date(), of_exchange["session"].max().date()
        )
        overridden = stored.loc[stored["override_reason"].notna(), "session"]
        new = of_exchange[~of_exchange["session"].isin(overridden)]
        gone = stored.loc[~stored["session"].isin(of_exchange["session"]) & stored["override_reason"].isna(), "session"]
        # Also an hour that only loses its session has to be rolled up anew, so it is touched before and after.
        changed, filled = _changed(new, stored), _filling(connection, str(exchange), new, stored)
        touch(connection, str(exchange), [*changed, *gone])
        counts += merge(connection, "sessions", new)
        touch(connection, str(exchange), [*changed, *filled])
        counts += MergeCounts(removed=_delete(connection, str(exchange), gone))
    return counts


def overview(connection: Connection, exchange: str, first: date, last: date) -> pd.DataFrame:
    """Return the sessions of an exchange between two days, those that are closed by override among them.

    Returns:
        exchange, session (datetime64), open, close, extended_open, extended_close (UTC), kind, override_reason,
        override_author (missing where the calendar says so), oldest first.
    """
    return bars.query(
        connection,
        f"SELECT {COLUMNS} FROM sessions "  # noqa: S608 a constant
        "WHERE exchange = :exchange AND session BETWEEN :first AND :last ORDER BY session",
        {"exchange": exchange, "first": first, "last": last},
        DTYPES,
    )


def overridden(connection: Connection, exchange: str | None = None) -> pd.DataFrame:
    """Return the sessions that a person has changed, of one exchange or of all, as `overview` does."""
    return bars.query(
        connection,
        f"SELECT {COLUMNS} FROM sessions "  # noqa: S608 a constant
        "WHERE override_reason IS NOT NULL AND (CAST(:exchange AS text) IS NULL OR exchange = :exchange) "
        "ORDER BY exchange, session",
        {"exchange": exchange},
        DTYPES,
    )


def counted(connection: Connection) -> dict[str, int]:
    """Return how many sessions of each exchange are stored."""
    rows = connection.execute(
        text("SELECT exchange, count(*) AS n_sessions FROM sessions GROUP BY exchange ORDER BY exchange")
    )
    return {str(row.exchange): int(row.n_sessions) for row in rows}


def close(connection: Connection, exchange: str, day: date, reason: str, author: str) -> None:
    """Say that an exchange was closed on a day that its calendar has as a session.

    Raises:
        ConfigError: the day is no session, or is closed already.
    """
    before = _session(connection, exchange, day)
    if before["kind"] == CLOSED_BY_OVERRIDE:
        raise ConfigError(f"{exchange} {day}: expected a session that is open, found it closed by {_author(before)}")
    change = {"kind": CLOSED_BY_OVERRIDE, "override_reason": reason, "override_author": author}
    _change(connection, before, {**before, **change}, "close")


def shorten(
    connection: Connection, exchange: str, day: date, hours: tuple[datetime | None, datetime | None], *,
    reason: str, author: str,
) -> None:  # fmt: skip
    """Say that an exchange opened later or closed earlier than its calendar says.

    Args:
        connection: open.
        exchange: of which.
        day: of which session.
        hours: its open and its close, with time zones; None for the calendar's.
        reason: why.
        author: who says so.

    Raises:
        ConfigError: the day is no session, or the hours are not part of the calendar's.
    """
    before = _session(connection, exchange, day)
    calendar = _of_calendar(exchange, day) or before
    opens, closes = (
        pd.Timestamp(hour).tz_convert("UTC") if hour else calendar[name]
        for hour, name in zip(hours, ("open", "close"), strict=True)
    )
    usual = f"{calendar['open']:%H:%M} to {calendar['close']:%H:%M} UTC"
    if not calendar["open"] <= opens < closes <= calendar["close"] or (opens, closes) == (
        calendar["open"], calendar["close"],
    ):  # fmt: skip
        raise ConfigError(
            f"{exchange} {day}: expected hours that are part of its usual ones, {usual}, "
            f"found {opens:%Y-%m-%d %H:%M} to {closes:%Y-%m-%d %H:%M} UTC"
        )
    ends = calendar["extended_close"]
    if pd.notna(ends) and closes < calendar["close"]:
        ends = min(ends, closes + EXTENDED_HOURS[exchange].after_half_day)
    after = {**calendar, "open": opens, "close": closes, "extended_close": ends, "kind": "half_day"}
    _change(connection, before, {**after, "override_reason": reason, "override_author": author}, "shorten")


def restore(connection: Connection, exchange: str, day: date, reason: str, author: str) -> None:
    """Make a session again what the calendar says.

    Raises:
        ConfigError: nobody has changed it.
    """
    before = _session(connection, exchange, day)
    if before["override_reason"] is None:
        raise ConfigError(
            f"{exchange} {day}: expected a session that somebody has changed, found it as in the calendar"
        )
    after = _of_calendar(exchange, day)
    _change(connection, before, after, "restore", {"reason": reason, "author": author})


def touch(connection: Connection, exchange: str, days: Iterable[pd.Timestamp | date]) -> None:
    """Mark the bars of some sessions that are rolled up from minutes as stale."""
    which = [pd.Timestamp(day).date() for day in days]
    if not which:
        return
    connection.execute(
        text("""
            INSERT INTO touched_buckets (symbol, timestamp)
            SELECT DISTINCT b.symbol, date_trunc('hour', b.timestamp, 'UTC') FROM sessions s
            JOIN symbols i ON i.exchange = s.exchange
            JOIN ohlcv_1min b ON b.symbol = i.symbol AND b.timestamp >= s.open AND b.timestamp < s.close
            WHERE s.exchange = :exchange AND s.session = ANY (CAST(:days AS date[]))
            ORDER BY 1, 2
            ON CONFLICT (symbol, timestamp) DO UPDATE SET intraday_at = NULL, daily_at = NULL
        """),
        {"exchange": exchange, "days": which},
    )


def _session(connection: Connection, exchange: str, day: date) -> Session:
    """Return a session as it is stored; what the table does not have yet is entered from the calendar."""
    connection.execute(text(ONE_WRITER))
    if _stored(connection, exchange, day) is None and _of_calendar(exchange, day) is not None:
        enter(connection, trading_sessions(exchange, date(day.year, 1, 1), date(day.year, 12, 31)))
    found = _stored(connection, exchange, day)
    if found is None:
        raise ConfigError(f"{exchange} {day}: expected a session of the exchange, found none on this {day:%A}")
    return found


def _stored(connection: Connection, exchange: str, day: date) -> Session | None:
    return _first(overview(connection, exchange, day, day))


def _of_calendar(exchange: str, day: date) -> Session | None:
    """Return a day's session as the calendar has it."""
    found = trading_sessions(exchange, day, day)
    return _first(found.assign(override_reason=None, override_author=None))


def _first(rows: pd.DataFrame) -> Session | None:
    if rows.empty:
        return None
    return {str(name): None if pd.isna(value) else value for name, value in rows.iloc[0].items()}


def _change(
    connection: Connection,
    before: Session,
    after: Session | None,
    action: str,
    said: Mapping[str, object] | None = None,
) -> None:
    """Replace a session, mark what was rolled up from its minutes, and enter it in the audit trail."""
    exchange, day = str(before["exchange"]), pd.Timestamp(str(before["session"])).date()
    # Its minutes are those of its hours before and after.
    touch(connection, exchange, [day])
    if after is None:
        _delete(connection, exchange, [day])
    else:
        merge(connection, "sessions", pd.DataFrame([after]).astype(DTYPES))
        touch(connection, exchange, [day])
    particulars = {"before": before, "after": after, **(said or {})}
    audit.record(connection, "session_override", ("sessions", f"{exchange} {day}"), action, particulars)


def _delete(connection: Connection, exchange: str, days: Iterable[pd.Timestamp | date]) -> int:
    return connection.execute(
        text("DELETE FROM sessions WHERE exchange = :exchange AND session = ANY (CAST(:days AS date[]))"),
        {"exchange": exchange, "days": [pd.Timestamp(day).date() for day in days]},
    ).rowcount


def _changed(new: pd.DataFrame, stored: pd.DataFrame) -> list[pd.Timestamp]:
    """Return the stored sessions whose open or close the calendar now has otherwise."""
    both = stored.merge(new, on="session", suffixes=("", "_now"))
    differs = (both["open"] != both["open_now"]) | (both["close"] != both["close_now"])
    return list(both.loc[differs, "session"])


def _filling(connection: Connection, exchange: str, new: pd.DataFrame, stored: pd.DataFrame) -> list[pd.Timestamp]:
    """Return the new sessions that lie between stored ones: a minute of theirs was taken for one without a session.

    Those before and after all stored ones need no touch: until now nothing was known of their time.
    """
    bounds = connection.execute(
        text("SELECT min(session), max(session) FROM sessions WHERE exchange = :exchange"), {"exchange": exchange}
    ).one()
    if bounds.min is None:
        return []
    is_between = new["session"].between(pd.Timestamp(bounds.min), pd.Timestamp(bounds.max))
    return list(new.loc[is_between & ~new["session"].isin(stored["session"]), "session"])


def _author(session: Session) -> str:
    return f"{session['override_author']}: {session['override_reason']}"
