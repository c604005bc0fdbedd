"""Crossings of two simple moving averages.

Elsewhere: which pairs are searched for, what a finding holds (registry.py).
"""

import numpy as np
import numpy.typing as npt

from tickstock_assets.domain.features import Floats, trailing_mean

# Averages closer than this part of the slow one are equal: what remains is rounding, not price.
TIE = 1e-9
CROSSED = 100


def warmup_bars(slow: int) -> int:
    """Return how many bars before it a finding depends on: `slow` bars of looking back, on means of `slow` bars."""
    return 2 * slow - 1


def find_crossovers(close: Floats, fast: int, slow: int) -> npt.NDArray[np.int32]:
    """Return where the fast average of the close passes the slow one.

    A crossing is counted once, at the first bar on the other side. Averages may meet on the way and stay equal for a
    while; after `slow` bars of being equal the side they came from is forgotten, and leaving them is no crossing.

    Args:
        close: float64, shape (n_bars,), oldest first; one instrument, continuous across splits. NaN marks a bar without
            a trade: no crossing is seen on the `slow` bars whose average would contain it, and none across them.
        fast: bars averaged over, the bar itself included.
        slow: likewise, more of them.

    Returns:
        int32, shape (n_bars,): 100 where the fast one is above and was below, -100 the other way, 0 elsewhere.

    Raises:
        ValueError: fast is not shorter than slow.
    """
    if not 1 <= fast < slow:
        raise ValueError(f"expected 1 <= fast < slow, found {fast} and {slow}")
    mean_fast, mean_slow = trailing_mean(close, fast), trailing_mean(close, slow)
    apart = np.abs(mean_fast - mean_slow) > TIE * np.abs(mean_slow)
    side = np.where(apart, np.sign(mean_fast - mean_slow), 0.0)
    bar = np.arange(len(close))
    last_apart = np.maximum.accumulate(np.where(apart, bar, -1))
    came_from = np.concatenate([[-1], last_apart[:-1]])[: len(close)]
    remembered = (came_from >= 0) & (bar - came_from <= slow)
    crossed = apart & remembered & (side == -side[came_from])
    return np.where(crossed, CROSSED * side, 0).astype(np.int32)
