"""Trading sessions of an exchange, from exchange_calendars; whole arrays, no clock.

Elsewhere: which exchanges there are and their hours outside of the regular ones (exchanges.py).
"""

import functools
from datetime import UTC, date, datetime
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.domain.exchanges import DEFAULT_EXCHANGE as DEFAULT_EXCHANGE  # noqa: PLC0414 most look for it here
from tickstock_assets.domain.exchanges import EXTENDED_HOURS, calendar_of

type Phase = Literal["pre_market", "regular", "post_market", "closed"]
PHASES: tuple[Phase, ...] = ("pre_market", "regular", "post_market", "closed")
CLOSED = PHASES.index("closed")
_PHASES = pd.CategoricalDtype(list(PHASES))

# Vendors correct the bars of the last sessions: late trades, cancellations, busted prints.
SESSIONS_STILL_CORRECTED = 3
CLOSED_BY_OVERRIDE = "closed_by_override"
_ONE_MINUTE = np.timedelta64(1, "m")


def trading_sessions(exchange: str, start: date, end: date) -> pd.DataFrame:
    """Return the sessions of an exchange between two days, both included.

    Args:
        exchange: ISO 10383 code, such as XNYS, or 24/7.
        start: a day in the exchange's own time zone.
        end: likewise.

    Returns:
        exchange, session (datetime64, midnight without a zone), open and close (UTC), kind (regular or half_day),
        extended_open and extended_close (UTC; NaT where nothing is traded outside of regular hours), oldest first.

    Raises:
        ConfigError: the exchange is unknown, its calendar does not reach so far, or `end` lies before `start`.
    """
    if end < start:
        raise ConfigError(f"Sessions of {exchange}: expected an end on or after {start}, found {end}")
    known, years = _all_sessions(exchange), known_years(exchange)
    if start.year < years.start or end.year >= years.stop:
        raise ConfigError(
            f"Sessions of {exchange}: expected days from {years.start} to {years.stop - 1}, for which its holidays are "
            f"known, found {start} to {end}"
        )
    places = known["session"].searchsorted([pd.Timestamp(start), pd.Timestamp(end) + pd.Timedelta(days=1)])
    return known.iloc[places[0] : places[1]].reset_index(drop=True)


def known_years(exchange: str) -> range:
    """Return the years for which the holidays of an exchange are known.

    Raises:
        ConfigError: the exchange is unknown.
    """
    sessions = _all_sessions(exchange)["session"]
    return range(sessions.iloc[0].year, sessions.iloc[-1].year + 1)


@functools.cache
def _all_sessions(exchange: str) -> pd.DataFrame:
    """Return all sessions of an exchange, as `trading_sessions` does."""
    calendar = calendar_of(exchange)
    schedule = calendar.schedule
    is_half_day = schedule.index.isin(calendar.early_closes)
    sessions = pd.DataFrame(
        {
            "exchange": exchange,
            "session": schedule.index.astype("datetime64[us]"),
            "open": schedule["open"].array.astype("datetime64[us, UTC]"),
            "close": schedule["close"].array.astype("datetime64[us, UTC]"),
            "kind": np.where(is_half_day, "half_day", "regular"),
            "extended_open": pd.Series(pd.NaT, range(len(schedule)), dtype="datetime64[us, UTC]"),
            "extended_close": pd.Series(pd.NaT, range(len(schedule)), dtype="datetime64[us, UTC]"),
        }
    )
    if hours := EXTENDED_HOURS.get(exchange):
        # Added to the local midnight as a wall clock reads, so that a clock change in the night moves nothing.
        begins, ends = (
            (sessions["session"] + hour).dt.tz_localize(calendar.tz).dt.tz_convert("UTC")
            for hour in (hours.begins, hours.ends)
        )
        sessions["extended_open"] = begins
        sessions["extended_close"] = ends.mask(is_half_day, sessions["close"] + hours.after_half_day)
    return sessions


def session_of(timestamps: pd.Series | pd.DatetimeIndex, sessions: pd.DataFrame) -> pd.DataFrame:
    """Return the session that each moment belongs to, and the part of it.

    Args:
        timestamps: UTC, in any order.
        sessions: of one exchange, oldest first: session, open, close, extended_open and extended_close, as
            `trading_sessions` gives them. A row of the kind closed_by_override is no session.

    Returns:
        Under the same index: session (datetime64, NaT where there is none), place (of its row in `sessions`, -1 where there
        is none) and phase: pre_market, regular, post_market or closed. The very open is regular, the very close is not.
    """
    moments = _instants(timestamps)
    index = timestamps.index if isinstance(timestamps, pd.Series) else None
    begin, opens, closes, end = _bounds(sessions)
    place = np.searchsorted(begin, moments, side="right") - 1
    found = np.maximum(place, 0)
    if len(sessions):
        phase = 0 + (moments >= opens[found]) + (moments >= closes[found])
        is_closed = (place < 0) | (moments >= end[found]) | _is_closed_by_override(sessions)[found] | np.isnat(moments)
        days = sessions["session"].to_numpy("datetime64[us]")[found]
    else:
        phase, is_closed = np.zeros(len(moments), np.int64), np.ones(len(moments), np.bool_)
        days = np.full(len(moments), np.datetime64("NaT", "us"))
    return pd.DataFrame(
        {
            "session": np.where(is_closed, np.datetime64("NaT", "us"), days),
            "place": np.where(is_closed, -1, place),
            "phase": pd.Categorical.from_codes(np.where(is_closed, CLOSED, phase).astype(np.int8), dtype=_PHASES),
        },
        index=index,
    )


def expected_minutes(sessions: pd.DataFrame, phase: Phase = "regular") -> pd.DataFrame:
    """Return the start of every minute of a part of some sessions.

    Args:
        sessions: of one exchange, as `session_of` takes them.
        phase: pre_market, regular or post_market.

    Returns:
        session (datetime64) and timestamp (UTC), one row a minute, in the order of the sessions.
    """
    begin, opens, closes, end = _bounds(sessions)
    first, last = {"pre_market": (begin, opens), "regular": (opens, closes), "post_market": (closes, end)}[phase]
    counts = np.where(_is_closed_by_override(sessions), 0, (last - first) // _ONE_MINUTE).astype(np.int64)
    # Minutes counted on through all sessions, less those before the own session, are the minutes into it.
    into = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    minutes = np.repeat(first, counts) + into * _ONE_MINUTE
    return pd.DataFrame(
        {
            "session": np.repeat(sessions["session"].to_numpy("datetime64[us]"), counts),
            "timestamp": pd.DatetimeIndex(minutes.astype("datetime64[us]")).tz_localize("UTC"),
        }
    )


def _instants(moments: pd.Series | pd.DatetimeIndex) -> npt.NDArray[np.datetime64]:
    """Return moments of UTC as NumPy has them."""
    found = moments.to_numpy("datetime64[us]")
    return cast("npt.NDArray[np.datetime64]", found)


def _bounds(sessions: pd.DataFrame) -> tuple[npt.NDArray[np.datetime64], ...]:
    """Return when each session begins, opens, closes and ends; without extended hours it begins with the open."""
    begin, opens, closes, end = (
        _instants(sessions[name]) for name in ("extended_open", "open", "close", "extended_close")
    )
    return np.where(np.isnat(begin), opens, begin), opens, closes, np.where(np.isnat(end), closes, end)


def _is_closed_by_override(sessions: pd.DataFrame) -> npt.NDArray[np.bool_]:
    closed: npt.NDArray[np.bool_] = (sessions["kind"] == CLOSED_BY_OVERRIDE).to_numpy(np.bool_)
    return closed


def last_closed_session(exchange: str, now: datetime) -> date:
    """Return the last session that had closed by a moment (with a time zone); at the very close it has."""
    return _last_closed(exchange, now, 1)


def settled_session(exchange: str, at: datetime) -> date:
    """Return the last session whose bars could no longer change at a moment (with a time zone).

    The three sessions that had closed last still can, and so can one that had not closed yet.
    """
    return _last_closed(exchange, at, 1 + SESSIONS_STILL_CORRECTED)


def sessions_up_to(exchange: str, now: datetime, count: int) -> list[date]:
    """Return the last `count` sessions that had opened by a moment (with a time zone), oldest first; at most 200."""
    around = _sessions_around(exchange, now.astimezone(UTC).year)
    n_opened = int(around["open"].searchsorted(pd.Timestamp(now), side="right"))
    return [session.date() for session in around["session"].iloc[max(n_opened - count, 0) : n_opened]]


def _last_closed(exchange: str, moment: datetime, count: int) -> date:
    """Return the `count`th last session that had closed by a moment."""
    around = _sessions_around(exchange, moment.astimezone(UTC).year)
    n_closed = int(around["close"].searchsorted(pd.Timestamp(moment), side="right"))
    session: pd.Timestamp = around["session"].iloc[n_closed - count]
    return session.date()


# This is asked for every window of a load, and even a slice takes a millisecond.
@functools.lru_cache(maxsize=32)
def _sessions_around(exchange: str, year: int) -> pd.DataFrame:
    """Return the sessions of a year and of the one before it, enough to count back from any of its days."""
    return trading_sessions(exchange, date(year - 1, 1, 1), date(year + 1, 1, 2))
