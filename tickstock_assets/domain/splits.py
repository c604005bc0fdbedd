"""Splits: how many shares one share has become, by symbol and day.

Elsewhere: what this does to prices (adjustments.py), dividends (dividends.py).
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
    return factors_at(symbols, day_numbers(dates, "bars.date"), splits)


def factors_at(symbols: Column, day: Ints, splits: pd.DataFrame) -> Floats:
    """Return the forward factor of each symbol on each day number."""
    ratio = _ratios(splits)
    # Only symbols that ever split need a number; -1, for all others, sorts before every split.
    split_code, known = pd.factorize(splits["symbol"])
    bar_code = pd.Index(known).get_indexer(pd.Index(symbols))
    split_key = symbol_day_keys(split_code, day_numbers(splits["execution_date"], "splits"))
    order = np.argsort(split_key, kind="stable")
    _refuse_duplicates(splits.iloc[order], split_key[order])
    grown = pd.Series(ratio[order]).groupby(split_code[order]).cumprod().to_numpy(np.float64)
    # Key 0 stands for "before every split", so that a position of 0 reads a factor of 1 of no symbol.
    position = np.searchsorted(split_key[order], symbol_day_keys(bar_code, day), side="right")
    code_at = np.concatenate([[-1], split_code[order]])[position]
    return np.where(code_at == bar_code, np.concatenate([[1.0], grown])[position], 1.0)


def basis_days(symbols: Column, day: Ints, as_of: date | None) -> Ints:
    """Return for every bar the day number it is to be adjusted to: as_of's, or that of its symbol's last bar."""
    if as_of is not None:
        return np.full(len(day), day_numbers([as_of], "as_of")[0])
    return pd.Series(day).groupby(np.asarray(symbols)).transform("max").to_numpy(np.int64)


def symbol_day_keys(code: npt.NDArray[np.integer[Any]], day: Ints) -> Ints:
    """Return integers that sort by symbol code, then by day number; a code of -1 sorts before all others."""
    return (code.astype(np.int64) << _DAY_BITS) + day


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


def day_numbers(dates: Column, subject: str) -> Ints:
    """Return days since 1970-01-01 of python dates or naive datetime64."""
    moments = pd.DatetimeIndex(pd.to_datetime(pd.Series(dates)))
    if moments.tz is not None:
        raise ContractError(f"{subject}: expected a session's date, found moments in {moments.tz}")
    if moments.hasnans:
        missing = np.count_nonzero(moments.isna())
        raise ContractError(f"{subject}: expected a date in every row, found {missing} without")
    return moments.to_numpy().astype("datetime64[D]").astype(np.int64)
