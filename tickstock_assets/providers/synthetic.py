"""A small invented market for tests and tutorials: three symbols, the 252 sessions of 2024, the same on every machine."""

from datetime import date

import numpy as np
import pandas as pd
import pyarrow as pa

from tickstock_assets.domain.errors import PermanentProviderError
from tickstock_assets.domain.sessions import DEFAULT_EXCHANGE, trading_sessions
from tickstock_assets.domain.windows import Window

FIRST_CLOSE = {"AAPL": 185.0, "SPY": 475.0, "TSLA": 248.0}
DAILY_VOLATILITY = {"AAPL": 0.014, "SPY": 0.008, "TSLA": 0.035}
MEAN_VOLUME_SHARES = {"AAPL": 57_000_000, "SPY": 72_000_000, "TSLA": 95_000_000}


class SyntheticProvider:
    """Random walks with plausible bars; nothing in it happened."""

    name = "synthetic"
    history_start = date(2024, 1, 1)

    def horizon(self) -> date:
        """Return the last day of 2024."""
        return date(2024, 12, 31)

    def version(self) -> str:
        """Return the version of the recipe; a change of it changes the bars."""
        return "1"

    def symbols(self) -> pd.DataFrame:
        """Return the three symbols."""
        return pd.DataFrame({"symbol": sorted(FIRST_CLOSE), "exchange": DEFAULT_EXCHANGE, "list_date": pd.NaT})

    def splits(self) -> pd.DataFrame:
        """Return no splits."""
        return pd.DataFrame(columns=["symbol", "execution_date", "split_from", "split_to"])

    def dividends(self) -> pd.DataFrame:
        """Return no dividends."""
        return pd.DataFrame(columns=["symbol", "ex_dividend_date", "cash_amount"])

    def fetch_daily_bars(self, window: Window) -> pa.Table:
        """Return the bars of a window."""
        if window.symbol not in FIRST_CLOSE:
            raise PermanentProviderError(f"{window.symbol}: the synthetic market has only {', '.join(FIRST_CLOSE)}")
        bars = _year(window.symbol)
        inside = bars["date"].between(pd.Timestamp(window.start), pd.Timestamp(window.end))
        return pa.Table.from_pandas(bars[inside], preserve_index=False)

    def parse_daily_bars(self, payload: pa.Table) -> pd.DataFrame:
        """Return a payload's bars, row for row."""
        frame: pd.DataFrame = payload.to_pandas()
        return frame


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
