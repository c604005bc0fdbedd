"""Row counts against their own history: a period of a symbol with far fewer or more rows a session than its others.

Medians throughout, so that what is looked for does not hide itself by widening what is usual.
"""

import numpy as np
import pandas as pd

# A normal variable's standard deviation over the median of its absolute deviations.
SIGMA_OF_MEDIAN_DEVIATION = 1.4826
# Below so many other periods there is no "usual".
FEWEST_OTHERS = 4
# So many standard deviations from usual is unusual, and never less than this as a share either way.
SIGMAS = 5.0
LEAST_SHARE = 0.1


def unusual_counts(counts: pd.DataFrame, *, is_random: bool = False) -> tuple[pd.DataFrame, int]:
    """Return the counts that are far from what is usual for their symbol, and how many could be judged.

    Rows a session are compared as logarithms with the median of the symbol's other periods that have rows. The scale is
    those periods' median absolute deviation, and for what comes at random, such as detections, the counting error of so
    few besides. A symbol with fewer than four other periods is not judged.

    Args:
        counts: symbol, day (of the period), rows, sessions (in the period while rows can be expected; where there are
            none nothing is), is_judged (False for what is history only). One row a symbol and period.
        is_random: whether rows come at random; else a session has its number.

    Returns:
        symbol, day, rows, sessions, usual, lowest and highest (rows for so many sessions).

    Source:
        Modified z-score: B. Iglewicz, D. Hoaglin, How to Detect and Handle Outliers, 1993.
    """
    expected = counts[counts["sessions"] > 0]
    rate = pd.Series(np.log(expected["rows"].clip(lower=0.5) / expected["sessions"]), expected.index)
    history = rate.where(expected["rows"] > 0)
    judged = expected.assign(**_others(expected["symbol"], history))
    judged = judged[judged["is_judged"] & (judged["others"] >= FEWEST_OTHERS)]
    usual = np.exp(judged["median"]) * judged["sessions"]
    variance = (SIGMA_OF_MEDIAN_DEVIATION * judged["deviation"]) ** 2 + (1 / usual if is_random else 0.0)
    band = np.maximum(SIGMAS * np.sqrt(variance), -np.log(1 - LEAST_SHARE))
    found = judged.assign(usual=usual, lowest=usual * np.exp(-band), highest=usual * np.exp(band))
    is_unusual = (found["rows"] < found["lowest"]) | (found["rows"] > found["highest"])
    columns = ["symbol", "day", "rows", "sessions", "usual", "lowest", "highest"]
    return found.loc[is_unusual, columns].round({"usual": 1, "lowest": 1, "highest": 1}), len(judged)


def _others(symbols: pd.Series, rates: pd.Series) -> dict[str, pd.Series]:
    """Return of each period the median, median absolute deviation and number of its symbol's other rates; NaN are none."""
    found = {name: pd.Series(np.nan, rates.index) for name in ("median", "deviation", "others")}
    for _, of_symbol in rates.groupby(symbols):
        values = of_symbol.to_numpy()
        # A row a period: the rates of all periods but that one.
        others = np.broadcast_to(values, (len(values), len(values))).copy()
        np.fill_diagonal(others, np.nan)
        found["others"][of_symbol.index] = n_others = np.isfinite(others).sum(axis=1)
        some = n_others > 0
        median = np.full(len(values), np.nan)
        deviation = median.copy()
        median[some] = np.nanmedian(others[some], axis=1)
        deviation[some] = np.nanmedian(np.abs(others[some] - median[some, None]), axis=1)
        found["median"][of_symbol.index], found["deviation"][of_symbol.index] = median, deviation
    return found
