"""Gaps that the calendar explains: weekdays without a session, and the hours after an early close."""

from collections.abc import Mapping
from datetime import date
from typing import Any

import pandas as pd

from tickstock_assets.domain.exchanges import ALWAYS_OPEN, calendar_of
from tickstock_assets.domain.gaps.rows import gap_rows
from tickstock_assets.domain.sessions import CLOSED_BY_OVERRIDE
from tickstock_assets.domain.timeframes import Timeframe
from tickstock_assets.domain.windows import Window, span_of

ONE_MINUTE = pd.Timedelta(minutes=1)


def calendar_gaps(exchange: str, sessions: pd.DataFrame, windows: list[Window], timeframe: Timeframe) -> pd.DataFrame:
    """Return what a person who knows only weekdays and usual hours would miss.

    Args:
        exchange: of the sessions.
        sessions: as they are stored, those closed by override among them: session, open, close, kind, override_reason.
        windows: whose gaps, and which days.
        timeframe: 1m or 1d.

    Returns:
        As `gap_rows` gives them. A day's gap is one bar at the usual open, of minutes all from the usual open to the usual
        close; a half day's are the minutes after its close, and there is none of daily bars.
    """
    if exchange == ALWAYS_OPEN or not windows:
        return gap_rows([])
    first, last = span_of(windows)
    found = _holidays(exchange, sessions, first, last)
    if timeframe == "1m":
        found = pd.concat([found, _half_days(exchange, sessions, first, last)], ignore_index=True)
    else:
        found = found.assign(gap_end=found["gap_start"], missing_bars=1)
    rows: list[Mapping[Any, Any]] = []
    for window in windows:
        inside = found["session"].between(pd.Timestamp(window.start), pd.Timestamp(window.end))
        rows += found[inside].assign(symbol=window.symbol).to_dict("records")
    return gap_rows(rows)


def _holidays(exchange: str, sessions: pd.DataFrame, first: date, last: date) -> pd.DataFrame:
    """Return the weekdays without a session, as gaps of minutes."""
    is_open = sessions["kind"] != CLOSED_BY_OVERRIDE
    weekdays = pd.date_range(first, last, freq=_week(exchange))
    days = pd.Series(weekdays.difference(pd.DatetimeIndex(sessions.loc[is_open, "session"]))).astype("datetime64[us]")
    calendar = calendar_of(exchange)
    # The hours in force last; a calendar lists each change of them.
    opens, closes = calendar.open_times[-1][1], calendar.close_times[-1][1]
    start, end = (
        (days + pd.Timedelta(hours=clock.hour, minutes=clock.minute)).dt.tz_localize(calendar.tz).dt.tz_convert("UTC")
        for clock in (opens, closes)
    )
    reasons = sessions[~is_open].set_index("session")["override_reason"]
    return pd.DataFrame(
        {
            "session": days,
            "gap_start": start,
            "gap_end": end - ONE_MINUTE,
            "missing_bars": _minutes(start, end),
            "class": "holiday",
            "evidence": [
                {"date": f"{day:%Y-%m-%d}", "weekday": f"{day:%A}", **_closed_because(reasons.get(day))} for day in days
            ],
        }
    )


def _half_days(exchange: str, sessions: pd.DataFrame, first: date, last: date) -> pd.DataFrame:
    """Return the minutes between an early close and the usual one."""
    short = sessions[
        (sessions["kind"] == "half_day") & sessions["session"].between(pd.Timestamp(first), pd.Timestamp(last))
    ]
    calendar = calendar_of(exchange)
    usual = calendar.close_times[-1][1]
    closes = (short["session"] + pd.Timedelta(hours=usual.hour, minutes=usual.minute)).dt.tz_localize(calendar.tz)
    ends = closes.dt.tz_convert("UTC").astype("datetime64[us, UTC]")
    missing = _minutes(short["close"], ends)
    rows = pd.DataFrame(
        {
            "session": short["session"],
            "gap_start": short["close"],
            "gap_end": ends - ONE_MINUTE,
            "missing_bars": missing,
            "class": "half_day",
            "evidence": [
                {"date": f"{day:%Y-%m-%d}", "closed_at": f"{close:%Y-%m-%d %H:%M} UTC", **_closed_because(reason)}
                for day, close, reason in zip(short["session"], short["close"], short["override_reason"], strict=True)
            ],
        }
    )
    # A day that only opened late is short as well.
    return rows.loc[missing > 0]


def _minutes(start: pd.Series, end: pd.Series) -> pd.Series:
    found: pd.Series = (end - start).dt.total_seconds() // 60
    return found.astype("int64")


def _week(exchange: str) -> pd.offsets.CustomBusinessDay:
    """Return the days of the week on which an exchange has sessions."""
    return pd.offsets.CustomBusinessDay(weekmask=calendar_of(exchange).weekmask)


def _closed_because(reason: object) -> dict[str, str]:
    """Return what a person said of it."""
    return {"override": str(reason)} if isinstance(reason, str) else {}
