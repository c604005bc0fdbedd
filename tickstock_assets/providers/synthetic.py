"""A small invented market for tests and tutorials: three symbols, the 252 sessions of 2024, the same on every machine."""

from collections.abc import Sequence
from datetime import date, datetime

import numpy as np
import pandas as pd
import pyarrow as pa

from tickstock_assets.domain.errors import PermanentProviderError, UnknownSymbolError
from tickstock_assets.domain.sessions import DEFAULT_EXCHANGE, trading_sessions
from tickstock_assets.providers.base import BAR_COLUMNS, BY_SYMBOL, Dataset, Provider, Request, Route

FIRST_CLOSE = {"AAPL": 185.0, "SPY": 475.0, "TSLA": 248.0}
DAILY_VOLATILITY = {"AAPL": 0.014, "SPY": 0.008, "TSLA": 0.035}
MEAN_VOLUME_SHARES = {"AAPL": 57_000_000, "SPY": 72_000_000, "TSLA": 95_000_000}


class SyntheticProvider(Provider):
    """Random walks with plausible bars; nothing in it happened."""

    name = "synthetic"
    history_start = date(2024, 1, 1)

    def routes(self, dataset: Dataset) -> Sequence[Route]:
        """Return the recipe, for daily bars."""
        return [Route(BY_SYMBOL, self.history_start, seconds_per_call=0.01)] if dataset is Dataset.DAILY_BARS else []

    def horizon(self) -> date:
        """Return the last day of 2024."""
        return date(2024, 12, 31)

    def settled_until(self, fetched_at: datetime) -> date:
        """Return the horizon: nothing in it changes."""
        return self.horizon()

    def version(self, dataset: Dataset) -> str:
        """Return the version of the recipe; a change of it changes the bars."""
        return "1"

    def symbols(self, wanted: Sequence[str] | None = None) -> pd.DataFrame:
        """Return the three symbols."""
        names = sorted(FIRST_CLOSE if wanted is None else set(FIRST_CLOSE) & set(wanted))
        return pd.DataFrame(
            {
                "symbol": pd.Series(names, dtype="str"),
                "exchange": pd.Series([DEFAULT_EXCHANGE] * len(names), dtype="str"),
                "list_date": pd.Series([pd.NaT] * len(names), dtype="datetime64[us]"),
            }
        )

    def splits(self, wanted: Sequence[str] | None = None) -> pd.DataFrame:
        """Return no splits."""
        types = {"symbol": "str", "execution_date": "datetime64[us]", "split_from": "float64", "split_to": "float64"}
        return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in types.items()})

    def dividends(self, wanted: Sequence[str] | None = None) -> pd.DataFrame:
        """Return no dividends."""
        types = {"symbol": "str", "ex_dividend_date": "datetime64[us]", "cash_amount": "float64"}
        return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in types.items()})

    def fetch(self, request: Request) -> pa.Table:
        """Return the bars of a window."""
        window = request.window
        if request.dataset is not Dataset.DAILY_BARS:
            raise PermanentProviderError(f"{self.name} has daily bars only, not {request.dataset}")
        if window.symbol not in FIRST_CLOSE:
            raise UnknownSymbolError(f"{window.symbol}: the synthetic market has only {', '.join(FIRST_CLOSE)}")
        bars = _year(window.symbol)
        inside = bars["date"].between(pd.Timestamp(window.start), pd.Timestamp(window.end))
        return pa.Table.from_pandas(bars[inside], preserve_index=False)

    def parse(self, dataset: Dataset, payload: pa.Table) -> pd.DataFrame:
        """Return a payload's bars, row for row."""
        bars: pd.DataFrame = payload.to_pandas()
        return bars.reindex(columns=list(BAR_COLUMNS)).astype(BAR_COLUMNS)

    def check(self) -> str:
        """Say what it is."""
        return f"an invented market of {', '.join(FIRST_CLOSE)} in 2024"


def _year(symbol: str) -> pd.DataFrame:
    sessions = trading_sessions(DEFAULT_EXCHANGE, SyntheticProvider.history_start, date(2024, 12, 31))["session"]
    # RandomState and not Generator: only its stream is promised never to change with NumPy's version.
    random = np.random.RandomState(sum(symbol.encode()))
    n_bars, volatility = len(sessions), DAILY_VOLATILITY[symbol]
    close = FIRST_CLOSE[symbol] * np.exp(np.cumsum(random.normal(0, volatility, n_bars)))
    previous = np.concatenate([[FIRST_CLOSE[symbol]], close[:-1]])
    open_ = previous * np.exp(random.normal(0, volatility / 3, n_bars))
    high = np.maximum(open_, close) * np.exp(np.abs(random.normal(0, volatility / 2, n_bars)))
    low = np.minimum(open_, close) * np.exp(-np.abs(random.normal(0, volatility / 2, n_bars)))
    volume = MEAN_VOLUME_SHARES[symbol] * np.exp(random.normal(0, 0.3, n_bars))
    prices = {"open": open_, "high": high, "low": low, "close": close}
    return pd.DataFrame(
        {
            "symbol": symbol,
            "date": sessions.astype("datetime64[us]"),
            **{name: np.round(values, 2) for name, values in prices.items()},
            "volume": np.round(volume),
        }
    )
