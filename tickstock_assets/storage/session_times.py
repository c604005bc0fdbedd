"""When sessions open and close, read for those who place bars in them.

Elsewhere: what a calendar's days are (domain/sessions.py), filling the table (loading/calendar.py).
"""

from collections.abc import Iterable
from datetime import date

import pandas as pd

from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.storage.arrow import ArrowPool


def sessions_between(pool: ArrowPool, exchanges: Iterable[str], first: date, last: date) -> pd.DataFrame:
    """Return exchange, session, open and close (datetime64[us] in UTC, without a zone) of the sessions that take place.

    Args:
        pool: where to ask.
        exchanges: ISO 10383 codes.
        first: a session's date.
        last: likewise, included.
    """
    table = pool.read(
        """
        SELECT exchange, session, open AT TIME ZONE 'UTC' AS open, close AT TIME ZONE 'UTC' AS close FROM sessions
        WHERE exchange = ANY ($1::text[]) AND kind <> 'closed_by_override' AND session BETWEEN $2::date AND $3::date
        ORDER BY exchange, session
        """,
        [sorted(set(exchanges)), first, last],
    )
    found: pd.DataFrame = table.to_pandas(date_as_object=False)
    return found.astype({"session": "datetime64[us]"})


def require_sessions(sessions: pd.DataFrame, exchanges: Iterable[str], wanted_for: str) -> None:
    """Raise ConfigError for an exchange without any session."""
    if missing := sorted(set(exchanges) - set(sessions["exchange"])):
        raise ConfigError(
            f"{missing[0]}: expected the sessions of the time of its bars, as {wanted_for} needs them, found none; "
            "materialize the asset sessions over that time"
        )
