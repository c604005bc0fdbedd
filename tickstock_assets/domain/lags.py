"""How far stored bars are behind what a provider can have, in sessions and in seconds."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta

import pandas as pd

from tickstock_assets.domain.sessions import trading_sessions

# Longer than any exchange was closed in a row in the years that providers have.
LONGEST_CLOSURE = timedelta(days=14)


@dataclass(frozen=True)
class Lag:
    """How far behind bars of a timeframe are.

    Attributes:
        timeframe: of the bars.
        newest: session of the newest bar.
        newest_close: when that closed (UTC).
        horizon: last session that a provider can have bars of.
        horizon_close: when that closed (UTC).
        sessions: sessions from the one to the other; 0 when nothing is missing at the end.
    """

    timeframe: str
    newest: date
    newest_close: datetime
    horizon: date
    horizon_close: datetime
    sessions: int

    @property
    def seconds(self) -> float:
        """From the one close to the other; 0 when nothing is missing at the end."""
        return max((self.horizon_close - self.newest_close).total_seconds(), 0.0)


def lag(exchange: str, timeframe: str, newest: date, horizon: date) -> Lag:
    """Return how far bars are behind.

    Args:
        exchange: whose sessions they are of.
        timeframe: of the bars.
        newest: day of the newest bar.
        horizon: last day that a provider can have bars of.

    Raises:
        ConfigError: the exchange is unknown, or its calendar does not reach so far.
    """
    sessions = trading_sessions(exchange, min(newest, horizon) - LONGEST_CLOSURE, max(newest, horizon))
    days = sessions["session"]
    at_newest, at_horizon = (int(days.searchsorted(pd.Timestamp(day), side="right")) - 1 for day in (newest, horizon))
    closes = sessions["close"].dt.to_pydatetime()
    return Lag(
        timeframe, newest, closes[at_newest], horizon, closes[at_horizon], sessions=max(at_horizon - at_newest, 0)
    )
