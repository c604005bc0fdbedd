"""Bars that another source than the preferred one served, as stretches of sessions."""

import pandas as pd


def served_by_others(bars: pd.DataFrame, preferred: str) -> pd.DataFrame:
    """Return the stretches of bars of other sources than the preferred one.

    Args:
        bars: symbol, date, source; one row a symbol and date.
        preferred: the source that is to serve them.

    Returns:
        symbol, source, first and last (as `date`), bars; a stretch ends where its symbol's next bar has another source.
    """
    ordered = bars.sort_values(["symbol", "date"])[["symbol", "date", "source"]]
    key = ordered[["symbol", "source"]]
    stretch = key.ne(key.shift()).any(axis=1).cumsum()
    others = ordered[ordered["source"] != preferred]
    found = others.groupby(stretch[others.index]).agg(
        symbol=("symbol", "first"),
        source=("source", "first"),
        first=("date", "min"),
        last=("date", "max"),
        bars=("date", "size"),
    )
    return found.reset_index(drop=True)
