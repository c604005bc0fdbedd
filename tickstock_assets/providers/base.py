"""The contract every provider keeps, so that assets need not know whom they ask.

Fetching is thin: it returns the vendor's own columns as they came, ready to be landed. Parsing is pure: a payload in,
a frame out, and it never drops a row; what cannot be read becomes missing and is left for the quality stage.
"""

from datetime import date
from typing import Protocol

import pandas as pd
import pyarrow as pa

from tickstock_assets.domain.windows import Window

DAILY_BARS = "daily_bars"


class Provider(Protocol):
    """A source of market data.

    Attributes:
        name: what `source` and the ledger say.
        history_start: first day it can have data for.
    """

    name: str
    history_start: date

    def horizon(self) -> date:
        """Return the last day it can have data for; lookbacks and gaps are measured from here, not from the clock."""
        ...

    def version(self) -> str:
        """Return what its data stands at: equal versions promise equal answers for windows up to the horizon."""
        ...

    def symbols(self) -> pd.DataFrame:
        """Return the instruments it has: symbol, exchange, list_date (NaT where unknown), one row each."""
        ...

    def splits(self) -> pd.DataFrame:
        """Return symbol, execution_date, split_from, split_to: `split_from` old shares became `split_to` new ones."""
        ...

    def dividends(self) -> pd.DataFrame:
        """Return symbol, ex_dividend_date, cash_amount: currency per share as counted on that day."""
        ...

    def fetch_daily_bars(self, window: Window) -> pa.Table:
        """Return the vendor's rows for a window, in its own columns.

        Raises:
            TransientProviderError, PermanentProviderError: it did not deliver.
        """
        ...

    def parse_daily_bars(self, payload: pa.Table) -> pd.DataFrame:
        """Return a payload's bars, row for row, unadjusted.

        Returns:
            symbol (text), date (datetime64, midnight without a zone), open, high, low, close (float64, quote currency
            per share), volume (float64, shares). What cannot be read is NaN, NaT or None.
        """
        ...


def empty_daily_bars() -> pd.DataFrame:
    """Return what `parse_daily_bars` gives for a payload without rows."""
    columns = {"symbol": "str", "date": "datetime64[us]"} | dict.fromkeys(
        ["open", "high", "low", "close", "volume"], "float64"
    )
    return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in columns.items()})
