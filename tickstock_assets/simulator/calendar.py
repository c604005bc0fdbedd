"""Sessions of the exchange, looked up in one table: making a calendar for every answer would take most of its time."""

import functools
from datetime import date

import pandas as pd

from tickstock_assets.domain.sessions import DEFAULT_EXCHANGE, trading_sessions

FIRST, LAST = date(1999, 1, 1), date(2034, 12, 31)


def sessions_between(first: date, last: date) -> pd.DataFrame:
    """Return the sessions between two days, both included, as `trading_sessions` does; none outside of 1999 to 2034."""
    table = _table()
    begin, end = table["session"].searchsorted([pd.Timestamp(first), pd.Timestamp(last) + pd.Timedelta(days=1)])
    return table.iloc[begin:end].reset_index(drop=True)


@functools.cache
def _table() -> pd.DataFrame:
    return trading_sessions(DEFAULT_EXCHANGE, FIRST, LAST)
