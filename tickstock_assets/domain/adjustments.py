"""Splits and dividends: from bars as they were traded to bars whose prices compare across the years.

Two bases, both computed when reading and never stored:

    continuous   price x every split so far: as if no split had ever happened. Forward and causal: a split changes the
                 bars after it, never those before, so what was computed from them stays as it was. Kernels read this.
    adjusted     price in the share unit of one day, by default the last. What a person expects on a chart; every new
                 split rewrites all of it. Without dividends it shows price, with them total return.

Kernels see dividends in the returns only (backtest/), never in prices: nobody was quoted those. Elsewhere: the factors
themselves (splits.py, dividends.py); reading bars, splits and dividends (storage/).
"""

from datetime import date

import numpy as np
import pandas as pd

from tickstock_assets.domain.dividends import CONVENTIONS, Convention, dividend_factors
from tickstock_assets.domain.errors import ContractError
from tickstock_assets.domain.splits import Floats, basis_days, day_numbers, factors_at, split_factors

__all__ = ["CONVENTIONS", "Convention", "adjust", "dividend_factors", "split_adjust", "split_factors", "to_continuous"]

PRICE_COLUMNS = ("open", "high", "low", "close", "vwap")


def to_continuous(bars: pd.DataFrame, splits: pd.DataFrame) -> pd.DataFrame:
    """Return the bars as if no split had ever happened, in the share unit before the first one in `splits`.

    Args:
        bars: symbol, date, open, high, low, close, volume and perhaps vwap, as traded, in any order.
        splits: as in `split_factors`. Whole history, not the bars' window: the unit must not move with the window.

    Returns:
        A copy with float64 prices multiplied, volume divided by the new column `split_factor`. Dividing a price found
        on these bars by `split_factor` gives it in the bar's own share unit.

    Raises:
        ContractError: the bars have a split_factor already, or as `split_factors`.
    """
    if "split_factor" in bars:
        raise ContractError(
            "bars: expected prices as traded, found a split_factor column, so they are adjusted already"
        )
    factor = split_factors(bars["symbol"], bars["date"], splits)
    return _rescaled(bars, factor).assign(split_factor=factor)


def split_adjust(bars: pd.DataFrame, splits: pd.DataFrame, as_of: date | None = None) -> pd.DataFrame:
    """Return the bars in the share unit of one day: the usual backward-adjusted series.

    Args:
        bars: symbol, date, open, high, low, close, volume and perhaps vwap, as traded, in any order.
        splits: as in `split_factors`; those after the day are ignored, also for bars after it.
        as_of: the day; by default each symbol's last bar.

    Returns:
        A copy with float64 prices multiplied, volume divided by factor(bar) / factor(as_of).

    Raises:
        ContractError: as `split_factors`.
    """
    day = day_numbers(bars["date"], "bars.date")
    basis = basis_days(bars["symbol"], day, as_of)
    at_bar = factors_at(bars["symbol"], np.minimum(day, basis), splits)
    return _rescaled(bars, at_bar / factors_at(bars["symbol"], basis, splits))


def adjust(
    bars: pd.DataFrame,
    splits: pd.DataFrame,
    dividends: pd.DataFrame | None = None,
    as_of: date | None = None,
    convention: Convention = "crsp",
    *,
    closes: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Return the bars in the share unit of one day, without the splits and dividends up to it.

    Args:
        bars: as in `split_adjust`.
        splits: as in `split_factors`; those after the day are ignored.
        dividends: as in `dividend_factors`; without any this is `split_adjust`.
        as_of: the day; by default each symbol's last bar.
        convention: "crsp" or "wiki", as in `dividend_factors`.
        closes: as in `dividend_factors`; to be given where the bars are a part of the history, or several a day.

    Returns:
        A copy with float64 prices times split and dividend factors; volume takes part in splits only.

    Raises:
        ConfigError, ContractError: as `split_adjust` and `dividend_factors`.
    """
    adjusted = split_adjust(bars, splits, as_of)
    if dividends is None:
        return adjusted
    factor = dividend_factors(bars, dividends, splits, convention, as_of, closes=closes)
    return adjusted.assign(**{name: adjusted[name] * factor for name in PRICE_COLUMNS if name in adjusted})


def _rescaled(bars: pd.DataFrame, factor: Floats) -> pd.DataFrame:
    """Return a copy with prices times, volume divided by the factor."""
    columns = {name: bars[name].to_numpy(np.float64) * factor for name in PRICE_COLUMNS if name in bars}
    return bars.assign(**columns, volume=bars["volume"].to_numpy(np.float64) / factor)
