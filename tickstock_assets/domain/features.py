"""Single-bar and rolling arithmetic: price arrays in, arrays out.

Every value of a bar depends on that bar and at most WARMUP_BARS before it, and comes out bit for bit the same whether
the arrays hold the symbol's whole history or begin WARMUP_BARS earlier. A value that was computed once is therefore
never "corrected" by computing it again over another window. Running sums break this (their rounding remembers where
they began), so sums here are added up afresh for each bar, oldest first, for all bars at once.

NaN marks a bar without a trade. It gives NaN for itself and for what cannot be known because of it, never beyond:
the next bar's true range and return (no prior close), ratios of the 20 bars that would average over it. ATR skips it.

Elsewhere: splits (adjustments.py), findings (patterns/), SQL (storage/).
"""

from collections.abc import Iterator
from functools import reduce
from itertools import accumulate, pairwise
from operator import add

import numpy as np
import numpy.typing as npt
import pandas as pd

from tickstock_assets.domain.errors import ContractError

type Floats = npt.NDArray[np.float64]

RATIO_WINDOW = 20
ATR_PERIOD = 14
WARMUP_BARS = 400

# Bars worked on at a time: few enough that the arrays of a step stay in the processor's cache.
_BLOCK = 8192


def true_range(high: Floats, low: Floats, close: Floats) -> Floats:
    """Return the true range of each bar.

    Args:
        high: float64, shape (n_bars,), oldest first; one instrument, in its currency per share, continuous across
            splits. NaN marks a bar without a trade.
        low: likewise.
        close: likewise.

    Returns:
        float64, shape (n_bars,), same currency. Bar 0 has no prior close, so it is high - low.

    Raises:
        ValueError: the shapes differ.

    Source:
        J. W. Wilder, New Concepts in Technical Trading Systems, 1978.
    """
    if not high.shape == low.shape == close.shape:
        raise ValueError(f"expected one shape, found high {high.shape}, low {low.shape}, close {close.shape}")
    ranges = high - low
    gaps = np.maximum(np.abs(high[1:] - close[:-1]), np.abs(low[1:] - close[:-1]))
    ranges[1:] = np.maximum(ranges[1:], gaps)
    return ranges


def wilder_atr(ranges: Floats, period: int = ATR_PERIOD, memory: int = WARMUP_BARS) -> Floats:
    """Return Wilder's average true range with a memory that ends.

    Wilder's recursion, atr = (atr * (period - 1) + true range) / period, never forgets its seed. Here it is seeded, for
    each bar anew, with the mean of the first `period` true ranges of the last `memory`. Until bar `memory` that is
    the usual series (TA-Lib's, seeded with bars 1 to `period`). After it, the two differ by what the weight
    of the seed has decayed to: (13 / 14) ** 386 or 4e-13 of the seeds' difference, below the eighth decimal stored.

    Args:
        ranges: float64, shape (n_bars,), true ranges, oldest first. Bar 0 is not used: it has no prior close. NaN is
            skipped, as if the bar were not there; the memory counts it.
        period: bars averaged over.
        memory: true ranges a value depends on.

    Returns:
        float64, shape (n_bars,); NaN where the range is NaN, and while there are fewer than `period` ranges.

    Raises:
        ValueError: the memory is shorter than the period.
    """
    if not 1 <= period <= memory:
        raise ValueError(f"expected 1 <= period <= memory, found period {period}, memory {memory}")
    n_bars = len(ranges)
    atr = np.full(n_bars, np.nan)
    # padded[t : t + memory] are the ranges that bar t may remember.
    padded = np.concatenate([np.full(memory, np.nan), ranges[1:]])
    missing = np.concatenate([[0], np.cumsum(np.isnan(padded))])
    n_before_bar_0 = np.maximum(memory - np.arange(n_bars), 0)
    broken = missing[memory:][:n_bars] - missing[:n_bars] > n_before_bar_0
    atr[:memory] = _recursion_from_bar_0(ranges[:memory], period)
    for start in range(memory, n_bars, _BLOCK):
        stop = min(start + _BLOCK, n_bars)
        atr[start:stop] = _recursion(padded[start : stop + memory], stop - start, period, memory)
    for start in range(0, n_bars, _BLOCK):
        bars = start + np.flatnonzero(broken[start : start + _BLOCK])
        if len(bars):
            atr[bars] = _skipping_recursion(padded, bars, period, memory)
    atr[np.isnan(ranges)] = np.nan
    return atr


# The three below do the same operations in the same order, so that a bar has the same bits whichever computes it.


def _recursion_from_bar_0(ranges: Floats, period: int) -> Floats:
    """Return Wilder's average over all ranges so far; NaN from the first NaN on."""
    average = np.full(len(ranges), np.nan)
    if len(ranges) > period:
        # Not sum(), which since Python 3.12 corrects its rounding.
        seed = reduce(add, ranges[1 : period + 1].tolist()) / period
        later = ranges[period + 1 :].tolist()
        average[period:] = list(accumulate(later, lambda atr, tr: (atr * (period - 1) + tr) / period, initial=seed))
    return average


def _recursion(padded: Floats, n_bars: int, period: int, memory: int) -> Floats:
    """Return Wilder's average over padded[t : t + memory] for each bar t; NaN if the window has one."""
    average = padded[:n_bars].copy()
    for step in range(1, period):
        average += padded[step : step + n_bars]
    average /= period
    for step in range(period, memory):
        average *= period - 1
        average += padded[step : step + n_bars]
        average /= period
    return average


def _skipping_recursion(padded: Floats, bars: npt.NDArray[np.intp], period: int, memory: int) -> Floats:
    """Return Wilder's average over those of padded[t : t + memory] that are not NaN, for each bar t of `bars`."""
    average = np.zeros(len(bars))
    seen = np.zeros(len(bars), dtype=np.int64)
    for step in range(memory):
        ranges = padded[bars + step]
        traded = ~np.isnan(ranges)
        seen += traded
        grown = np.where(seen > period, average * (period - 1), average) + ranges
        average = np.where(traded, np.where(seen >= period, grown / period, grown), average)
    return np.where(seen >= period, average, np.nan)


def trailing_mean(values: Floats, window: int) -> Floats:
    """Return the mean of each bar and the window - 1 before it, NaN while there are fewer or where one is NaN."""
    mean = np.full(len(values), np.nan)
    n_full = len(values) - window + 1
    if n_full < 1:
        return mean
    total = values[:n_full].copy()
    for step in range(1, window):
        total += values[step : step + n_full]
    mean[window - 1 :] = total / window
    return mean


def trailing_ratio(values: Floats, window: int = RATIO_WINDOW) -> Floats:
    """Return each value over the mean of the `window` bars before it, the bar itself excluded.

    Args:
        values: float64, shape (n_bars,), oldest first, not negative.
        window: bars averaged over.

    Returns:
        float64, shape (n_bars,), without unit. NaN during the first `window` bars, where the value or one averaged
        over is NaN, and where the mean is zero: nothing is a multiple of no volume.
    """
    ratio = np.full(len(values), np.nan)
    prior = trailing_mean(values, window)[:-1]
    np.divide(values[1:], prior, out=ratio[1:], where=prior > 0)
    return ratio


def log_return(close: Floats) -> Floats:
    """Return ln(close / prior close), shape (n_bars,); NaN at bar 0 and where a close is NaN or not positive."""
    returns = np.full(len(close), np.nan)
    known = np.flatnonzero((close[1:] > 0) & (close[:-1] > 0))
    returns[known + 1] = np.log(close[known + 1] / close[known])
    return returns


def compute_features(bars: pd.DataFrame) -> pd.DataFrame:
    """Return the features of each bar.

    Args:
        bars: symbol, timestamp, high, low, close, volume in the continuous basis, and split_factor (to_continuous).
            Sorted by symbol and timestamp; warm-up bars included.

    Returns:
        One row per bar, same index: symbol, timestamp; spread (high - low), true_range and atr_14 in currency per share
        of that bar's own unit; spread_ratio and volume_ratio to the mean of the 20 bars before, at most MAX_RATIO; log_return.

    Raises:
        ContractError: the bars are not sorted, or a bar is there twice.
    """
    columns = {name: np.full(len(bars), np.nan) for name in _FEATURES}
    prices = {name: bars[name].to_numpy(np.float64) for name in ("high", "low", "close", "volume", "split_factor")}
    for rows in symbol_slices(bars):
        for name, values in _features_of_one({name: column[rows] for name, column in prices.items()}).items():
            columns[name][rows] = values
    return bars[["symbol", "timestamp"]].assign(**columns)


# What NUMERIC(12,6) can hold; of a ratio beyond it only that it is beyond is worth knowing.
MAX_RATIO = 999_999.999999

_FEATURES = ("spread", "spread_ratio", "volume_ratio", "true_range", "atr_14", "log_return")


def _features_of_one(prices: dict[str, Floats]) -> dict[str, Floats]:
    """Return every feature of one symbol's bars, oldest first."""
    high, low, close, own_unit = prices["high"], prices["low"], prices["close"], prices["split_factor"]
    spread, ranges = high - low, true_range(high, low, close)
    return {
        "spread": spread / own_unit,
        "spread_ratio": np.minimum(trailing_ratio(spread), MAX_RATIO),
        "volume_ratio": np.minimum(trailing_ratio(prices["volume"]), MAX_RATIO),
        "true_range": ranges / own_unit,
        "atr_14": wilder_atr(ranges) / own_unit,
        "log_return": log_return(close),
    }


def symbol_slices(bars: pd.DataFrame) -> Iterator[slice]:
    """Yield the rows of each symbol in turn.

    Raises:
        ContractError: a symbol's rows are not together, or its timestamps not strictly ascending.
    """
    codes, symbols = pd.factorize(bars["symbol"])
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    moments = pd.DatetimeIndex(bars["timestamp"]).asi8
    backwards = np.flatnonzero((np.diff(moments) <= 0) & (np.diff(codes) == 0))
    if len(backwards):
        row = bars.iloc[int(backwards[0]) + 1]
        raise ContractError(
            f"{row['symbol']} {row['timestamp']}: expected a bar after the one before, found it out of order"
        )
    if len(starts) != len(symbols):
        raise ContractError(
            f"bars: expected {len(symbols)} symbols one after another, found {len(starts)} changes of symbol"
        )
    for start, stop in pairwise([*starts.tolist(), len(bars)]):
        yield slice(start, stop)
