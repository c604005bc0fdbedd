"""What is usual around a bar: medians of its neighbours, the scale of its returns, and what other symbols did then.

Medians throughout, so that what is looked for does not hide itself by widening what is usual.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.api.indexers import BaseIndexer

from tickstock_assets.domain.anomalies.findings import Floats

# The median of the absolute values of a normal variable, in its standard deviations.
MEDIAN_OF_ABSOLUTE_NORMAL = 0.6744897501960817
# A quarter of trading days; the least of them from which a median says something.
LONG_BARS, FEWEST_OF_LONG = 63, 10
# Volatility rises within days: what it is just before and just after counts where it is higher than over the quarter.
SHORT_BARS, FEWEST_OF_SHORT = 10, 5
# So many bars after a bar can change what is found there.
LOOK_AHEAD_BARS = SHORT_BARS + 1
# Below two others there is no "others".
FEWEST_OTHERS = 2


def shifted(values: Floats, symbols: "pd.Series[Any]", by: int) -> Floats:
    """Return the value `by` bars before (after, where negative) within the symbol; NaN where there is none.

    Here and in the medians below the bars of a symbol stand together, oldest first.
    """
    if by < 0:
        return shifted(values[::-1], symbols.iloc[::-1], -by)[::-1]
    moved = np.full(len(values), np.nan)
    moved[by:] = values[: max(len(values) - by, 0)]
    moved[np.arange(len(values)) - by < _first_of_symbol(symbols)] = np.nan
    return moved


def rolling_median(values: Floats, symbols: "pd.Series[Any]", n_bars: int, fewest: int) -> Floats:
    """Return the median of the last `n_bars` values within the symbol, this one included."""
    rolled = pd.Series(values).rolling(_WithinSymbol(symbols, n_bars), min_periods=fewest).median()
    return np.asarray(rolled, np.float64)


def rolling_median_ahead(values: Floats, symbols: "pd.Series[Any]", n_bars: int, fewest: int) -> Floats:
    """Return the median of the next `n_bars` values within the symbol, this one included."""
    return rolling_median(values[::-1], symbols.iloc[::-1], n_bars, fewest)[::-1]


class _WithinSymbol(BaseIndexer):
    """Windows that do not reach back into the symbol before; a group for each symbol costs ten times that."""

    def __init__(self, symbols: "pd.Series[Any]", n_bars: int) -> None:
        super().__init__()
        self.n_bars, self.first = n_bars, _first_of_symbol(symbols)

    def get_window_bounds(
        self,
        num_values: int = 0,
        min_periods: int | None = None,  # noqa: ARG002 pandas passes these four by name
        center: bool | None = None,  # noqa: ARG002
        closed: str | None = None,  # noqa: ARG002
        step: int | None = None,  # noqa: ARG002
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return where each value's window starts, and the place after its end."""
        places = np.arange(num_values)
        return np.maximum(places - self.n_bars + 1, self.first), places + 1


def _first_of_symbol(symbols: "pd.Series[Any]") -> npt.NDArray[np.int64]:
    """Return for each bar the place of its symbol's first one."""
    places = np.arange(len(symbols))
    changes = np.asarray(symbols.array[1:] != symbols.array[:-1], np.bool_)
    places[1:] *= changes
    return np.maximum.accumulate(places)


def log_returns(bars: pd.DataFrame) -> Floats:
    """Return the log return of each close over the close before, NaN for a symbol's first bar."""
    closes = np.log(bars["close"].to_numpy(np.float64))
    return closes - shifted(closes, bars["symbol"], 1)


def local_sigma(bars: pd.DataFrame) -> Floats:
    """Return the standard deviation of log returns around each bar, without its own return and the next.

    It is the largest of three: over the quarter before, just before, and just after; never less than a tick. NaN where
    there are too few bars around.
    """
    symbols, moves = bars["symbol"], np.abs(log_returns(bars))
    scales = [
        shifted(rolling_median(moves, symbols, LONG_BARS, FEWEST_OF_LONG), symbols, 1),
        shifted(rolling_median(moves, symbols, SHORT_BARS, FEWEST_OF_SHORT), symbols, 1),
        shifted(rolling_median_ahead(moves, symbols, SHORT_BARS, FEWEST_OF_SHORT), symbols, -2),
    ]
    sigma: Floats = np.fmax.reduce(scales) / MEDIAN_OF_ABSOLUTE_NORMAL
    return np.maximum(sigma, relative_tick(bars))


def relative_tick(bars: pd.DataFrame) -> Floats:
    """Return the smallest step of each symbol's closes relative to the close; 0 where it never moved.

    It is measured, as the 5 % quantile of the steps there are, and so is the same in any currency.
    """
    closes = bars["close"].to_numpy(np.float64)
    steps = np.abs(closes - shifted(closes, bars["symbol"], 1))
    positive = pd.Series(np.where(steps > 0, steps, np.nan))
    tick = positive.groupby(bars["symbol"].array).transform(lambda of_symbol: of_symbol.quantile(0.05))
    relative: Floats = np.nan_to_num(tick.to_numpy(np.float64)) / closes
    return relative


def median_of_others(
    moments: "pd.Series[pd.Timestamp]", values: Floats, wanted: npt.NDArray[np.bool_] | None = None
) -> Floats:
    """Return for each value the median of the others at the same moment; 0 where there are fewer than two others.

    Args:
        moments: shape (n,), UTC.
        values: shape (n,); NaN counts for nobody, and gets 0.
        wanted: shape (n,), whose answers are; the others get 0 or theirs. All, where not given.
    """
    counted = ~np.isnan(values)
    if wanted is not None:
        # Few moments have something to be judged; the rest need no sorting.
        counted &= moments.isin(moments[wanted]).to_numpy()
    there = np.flatnonzero(counted)
    codes = pd.factorize(moments.astype(np.int64).to_numpy()[there])[0]
    order = np.lexsort((values[there], codes))
    ranked, codes = values[there][order], codes[order]
    starts = np.searchsorted(codes, codes, side="left")
    others = np.searchsorted(codes, codes, side="right") - starts - 1
    rank = np.arange(len(codes)) - starts
    middle = np.zeros((2, len(codes)))
    for row, place in enumerate(((others - 1) // 2, others // 2)):
        # Among the others, those from its own place on move up by one.
        at = np.clip(starts + place + (place >= rank), 0, max(len(codes) - 1, 0))
        middle[row] = ranked[at] if len(codes) else 0.0
    result = np.zeros(len(values))
    result[there[order]] = np.where(others >= FEWEST_OTHERS, middle.mean(axis=0), 0.0)
    return result
