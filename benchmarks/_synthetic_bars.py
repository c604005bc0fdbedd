"""Invented bars for benchmarks: random walks in cents, the same every time."""

import numpy as np
import pandas as pd

FIRST_DAY = "2010-01-04"


def symbol_names(n_symbols: int) -> list[str]:
    """Return the first symbols of the set."""
    return [f"S{number:04d}" for number in range(n_symbols)]


def daily_bars(symbols: int, days: int) -> pd.DataFrame:
    """Return so many bars of each of so many symbols, with the columns that a provider delivers, ordered by key."""
    draw = np.random.default_rng(1)
    walk = np.exp(np.cumsum(draw.normal(0, 0.01, (symbols, days)), axis=1))
    close = np.round(100 * walk, 2).ravel()
    return pd.DataFrame(
        {
            "symbol": np.repeat(symbol_names(symbols), days),
            "date": np.tile(pd.bdate_range(FIRST_DAY, periods=days).as_unit("us"), symbols),
            "open": np.round(close * 1.001, 2),
            "high": np.round(close * 1.01, 2),
            "low": np.round(close * 0.99, 2),
            "close": close,
            "volume": draw.integers(10_000, 10_000_000, len(close)).astype(float),
            "vwap": np.round(close * 1.0003, 4),
            "trades_count": draw.integers(100, 10_000, len(close)),
            "source": "synthetic",
        }
    )
