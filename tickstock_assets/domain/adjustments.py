"""Splits: from bars as they were traded to bars whose prices compare across the years.

Two bases, both computed when reading and never stored:

    continuous   price x every split so far: as if no split had ever happened. Forward and causal: a split changes the
                 bars after it, never those before, so what was computed from them stays as it was. Kernels read this.
    adjusted     price in the share unit of one day, by default the last. What a person expects on a chart; every new
                 split rewrites all of it.

Dividends enter returns (backtest/), not prices. Elsewhere: reading bars and splits (storage/).
"""

from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tickstock_assets.domain.errors import ContractError

type Floats = npt.NDArray[np.float64]
type Ints = npt.NDArray[np.int64]
type Column = pd.Series[Any] | npt.NDArray[Any] | Sequence[Any]

PRICE_COLUMNS = ("open", "high", "low", "close", "vwap")

# A day number needs 32 bits at most, so symbol and day make one sortable integer.
_DAY_BITS = 32


def split_factors(symbols: Column, dates: Column, splits: pd.DataFrame) -> Floats:
    """Return, for every bar, how many shares of today one share held since before the first split has become.

    Args:
        symbols: shape (n_bars,), in any order.
        dates: shape (n_bars,), the session of each bar: python dates or naive datetime64.
        splits: symbol, execution_date, split_from, split_to; in any order, one row per symbol and day. A split that
            gives two shares for one is from 1 to 2.

    Returns:
        float64, shape (n_bars,): the product of split_to / split_from over the splits of that symbol with
        execution_date <= date; 1 before the first. A split takes effect at the open of its execution date.

    Raises:
        ContractError: a day is missing or has a time zone, a ratio is not positive, a split is listed twice.
    """
    return _factors_at(symbols, _day_numbers(dates, "bars.date"), splits)


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
    day = _day_numbers(bars["date"], "bars.date")
    if as_of is None:
        basis = pd.Series(day, index=bars.index).groupby(bars["symbol"]).transform("max").to_numpy(np.int64)
    else:
        basis = np.full(len(day), _day_numbers([as_of], "as_of")[0])
    at_bar = _factors_at(bars["symbol"], np.minimum(day, basis), splits)
    return _rescaled(bars, at_bar / _factors_at(bars["symbol"], basis, splits))


def _rescaled(bars: pd.DataFrame, factor: Floats) -> pd.DataFrame:
    """Return a copy with prices times, volume divided by the factor."""
    columns = {name: bars[name].to_numpy(np.float64) * factor for name in PRICE_COLUMNS if name in bars}
    return bars.assign(**columns, volume=bars["volume"].to_numpy(np.float64) / factor)


def _factors_at(symbols: Column, day: Ints, splits: pd.DataFrame) -> Floats:
    """Return the forward factor of each symbol on each day number."""
    ratio = _ratios(splits)
    # Only symbols that ever split need a number; -1, for all others, sorts before every split.
    split_code, known = pd.factorize(splits["symbol"])
    bar_code = pd.Index(known).get_indexer(pd.Index(symbols))
    split_key = (split_code.astype(np.int64) << _DAY_BITS) + _day_numbers(splits["execution_date"], "splits")
    order = np.argsort(split_key, kind="stable")
    _refuse_duplicates(splits.iloc[order], split_key[order])
    grown = pd.Series(ratio[order]).groupby(split_code[order]).cumprod().to_numpy(np.float64)
    # Key 0 stands for "before every split", so that a position of 0 reads a factor of 1 of no symbol.
    position = np.searchsorted(split_key[order], (bar_code.astype(np.int64) << _DAY_BITS) + day, side="right")
    code_at = np.concatenate([[-1], split_code[order]])[position]
    return np.where(code_at == bar_code, np.concatenate([[1.0], grown])[position], 1.0)


def _ratios(splits: pd.DataFrame) -> Floats:
    """Return split_to / split_from, all positive and finite."""
    shares_from: Floats = splits["split_from"].to_numpy(np.float64)
    shares_to: Floats = splits["split_to"].to_numpy(np.float64)
    wrong = ~((shares_from > 0) & (shares_to > 0) & np.isfinite(shares_from) & np.isfinite(shares_to))
    if wrong.any():
        split = splits.iloc[int(np.argmax(wrong))]
        found = f"{split['split_from']} to {split['split_to']}"
        raise ContractError(f"{split['symbol']} {split['execution_date']}: expected a positive split, found {found}")
    return shares_to / shares_from


def _refuse_duplicates(splits: pd.DataFrame, keys: Ints) -> None:
    """Raise when two neighbours of the sorted splits have the same symbol and day: the product would count both."""
    twice = np.flatnonzero(keys[1:] == keys[:-1])
    if len(twice):
        split = splits.iloc[int(twice[0])]
        raise ContractError(f"{split['symbol']} {split['execution_date']}: expected one split a day, found two")


def _day_numbers(dates: Column, subject: str) -> Ints:
    """Return days since 1970-01-01 of python dates or naive datetime64."""
    moments = pd.DatetimeIndex(pd.to_datetime(pd.Series(dates)))
    if moments.tz is not None:
        raise ContractError(f"{subject}: expected a session's date, found moments in {moments.tz}")
    if moments.hasnans:
        missing = np.count_nonzero(moments.isna())
        raise ContractError(f"{subject}: expected a date in every row, found {missing} without")
    return moments.to_numpy().astype("datetime64[D]").astype(np.int64)
