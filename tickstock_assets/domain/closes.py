"""Which sessions have closed and can be loaded, and which is next; no clock.

Elsewhere: the sessions themselves (sessions.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import pandas as pd

from tickstock_assets.domain.exchanges import ALWAYS_OPEN, calendar_of


@dataclass(frozen=True, order=True)
class Close:
    """The end of a session's regular hours at some exchanges.

    Attributes:
        at: UTC.
        session: the day at the exchanges.
        exchanges: calendar codes, in order.
    """

    at: datetime
    session: date
    exchanges: tuple[str, ...]

    def __str__(self) -> str:
        zone = calendar_of(self.exchanges[0]).tz
        there = f" ({self.at.astimezone(zone):%H:%M} in {zone})" if self.exchanges[0] != ALWAYS_OPEN else ""
        return f"{', '.join(self.exchanges)} {self.session}, close at {in_utc(self.at)}{there}"


def newest_closes(
    sessions: Mapping[str, pd.DataFrame], now: datetime, horizon: date, delay: timedelta
) -> tuple[list[Close], list[Close]]:
    """Return the newest session of each exchange that can be loaded, and the one after it.

    Args:
        sessions: by exchange, of the days around `now`: session (datetime64) and close (UTC), oldest first, those that are
            closed by override left out.
        now: with a time zone.
        horizon: last day that can be had.
        delay: from a close until its session is loaded.

    Returns:
        Twice the closes, oldest first; exchanges that close at the same moment of the same day together. An exchange is left
        out of the first where none of its sessions can be loaded, of the second where none is known to follow.
    """
    newest: dict[tuple[datetime, date], list[str]] = {}
    following: dict[tuple[datetime, date], list[str]] = {}
    for exchange, known in sorted(sessions.items()):
        can_be_had = (known["close"] + delay <= now) & (known["session"] <= pd.Timestamp(horizon))
        n_had = int(can_be_had.sum())
        for place, found in ((n_had - 1, newest), (n_had, following)):
            if 0 <= place < len(known):
                row = known.iloc[place]
                found.setdefault((row["close"].to_pydatetime(), row["session"].date()), []).append(exchange)
    return _as_closes(newest), _as_closes(following)


def in_utc(moment: datetime) -> str:
    """Return a moment as it is shown to people."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _as_closes(found: Mapping[tuple[datetime, date], list[str]]) -> list[Close]:
    return sorted(Close(at, session, tuple(exchanges)) for (at, session), exchanges in found.items())
