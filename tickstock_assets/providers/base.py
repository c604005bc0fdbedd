"""The contract every provider keeps, so that whoever loads need not know whom it asks.

Fetching is thin: it returns the vendor's own columns as they came, ready to be landed. Parsing is pure: a payload in,
a frame out, and it never drops a row; what cannot be read becomes missing and is left for the quality stage.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Protocol

import pandas as pd
import pyarrow as pa

from tickstock_assets.domain.errors import PermanentProviderError
from tickstock_assets.domain.windows import Window
from tickstock_assets.providers.quota import UNLIMITED, Budget


class Dataset(StrEnum):
    """What can be asked for; ledger, quarantine and landing folder file it under this name."""

    DAILY_BARS = "daily_bars"
    MINUTE_BARS = "minute_bars"
    TRADES = "trades"
    SYMBOLS = "symbols"
    SPLITS = "splits"
    DIVIDENDS = "dividends"


BY_SYMBOL = "by_symbol"


@dataclass(frozen=True)
class Route:
    """One way to fetch a dataset, and what it costs.

    Attributes:
        name: such as by_symbol, grouped_daily, flat_files.
        history_start: first day it can have data for, on this plan.
        days_per_call: calendar days that one call answers at most, None for any number. A call never spans more than
            that, and with 31 never more than one calendar month.
        whole_market: a call answers one session of every symbol instead of a window of one.
        budget: what its calls are counted against.
        seconds_per_call: roughly how long one takes, for estimates.
    """

    name: str
    history_start: date
    days_per_call: int | None = None
    whole_market: bool = False
    budget: Budget = UNLIMITED
    seconds_per_call: float = 0.3


@dataclass(frozen=True)
class Request:
    """One thing to fetch: it becomes one landed file and one row of the ledger.

    Attributes:
        dataset: what.
        window: whose, and which days; the symbol is WHOLE_MARKET on a route that answers the whole market.
        route: name of the route.
    """

    dataset: Dataset
    window: Window
    route: str = BY_SYMBOL


class Provider(Protocol):
    """A source of market data. Who inherits from it need not say that he has no files and no lists of symbols."""

    @property
    def name(self) -> str:
        """What the ledger and, of most rows, `source` say."""
        ...

    def source(self, dataset: Dataset) -> str:
        """Return what the rows of a dataset say they are from: the provider's name, unless it invents them."""
        return self.name

    def routes(self, dataset: Dataset) -> Sequence[Route]:
        """Return the ways in which it can deliver bars or trades; none when it cannot."""
        ...

    def horizon(self) -> date:
        """Return the last day it can have data for; lookbacks and gaps are measured from here, not from the clock."""
        ...

    def settled_until(self, fetched_at: datetime) -> date:
        """Return the last day whose data could no longer change when it was fetched at that moment (UTC).

        Later days are fetched again and compared.
        """
        ...

    def version(self, dataset: Dataset) -> str:
        """Return what its data stands at: a new version makes every window due again."""
        ...

    def etags(self, dataset: Dataset, route: str, days: Sequence[date]) -> Mapping[date, str]:
        """Return the ETag of each day's file on a route of files; a day without a file is left out.

        Routes without files return nothing.
        """
        return {}

    def fetch(self, request: Request) -> pa.Table:
        """Return the vendor's rows for a request, in its own columns, unadjusted.

        Raises:
            TransientProviderError: it did not deliver, after retries, and may later.
            QuotaExhaustedError: the day's budget is used up; the error says until when.
            NotEntitledError, UnknownSymbolError, PermanentProviderError: it will not deliver.
        """
        ...

    def parse(self, dataset: Dataset, payload: pa.Table) -> pd.DataFrame:
        """Return a payload's rows, row for row, under the project's names (`BAR_COLUMNS`).

        Returns:
            For bars: symbol (text), date (datetime64, midnight without a zone: the day at the exchange), for minutes
            also timestamp (UTC, start of the bar), open, high, low, close (float64, quote currency per share), volume
            (float64, shares), vwap (float64), trades_count (float64). What cannot be read, or was not sent, is NaN,
            NaT or None.
        """
        ...

    def symbols(self, wanted: Sequence[str] | None = None) -> pd.DataFrame:
        """Return the instruments asked for, or all it has: symbol, exchange, list_date and what else it knows.

        Columns are those of the table `symbols`; one row an instrument. Unknown symbols are left out.
        """
        ...

    def universe(self, on: date) -> list[str]:
        """Return the symbols that were listed on a day, in order.

        Raises:
            PermanentProviderError: it has no lists of symbols by day.
        """
        raise PermanentProviderError(f"{self.name} has no lists of symbols by day; name the symbols, or a file of them")

    def splits(self, wanted: Sequence[str] | None = None) -> pd.DataFrame:
        """Return symbol, execution_date, split_from, split_to: `split_from` old shares became `split_to` new ones."""
        ...

    def dividends(self, wanted: Sequence[str] | None = None) -> pd.DataFrame:
        """Return symbol, ex_dividend_date, cash_amount: currency per share as counted on that day."""
        ...

    def check(self) -> str:
        """Ask one cheap thing and return what the plan allows, in a sentence.

        Raises:
            ProviderError: the key is refused, the vendor does not answer.
        """
        ...


BAR_COLUMNS = {
    "symbol": "str",
    "date": "datetime64[us]",
    **dict.fromkeys(["open", "high", "low", "close", "volume", "vwap", "trades_count"], "float64"),
}
MINUTE_COLUMNS = {"timestamp": "datetime64[us, UTC]"}


def no_bars(dataset: Dataset) -> pd.DataFrame:
    """Return what `parse` gives for a payload without rows."""
    columns = BAR_COLUMNS | (MINUTE_COLUMNS if dataset is Dataset.MINUTE_BARS else {})
    return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in columns.items()})
