"""Bars that are missing, filled with the last close: on request only, when bars are read, and never stored.

Elsewhere: bars of any length (resampling.py).
"""

import itertools
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tickstock_assets.domain.resampling import MINUTE, Align
from tickstock_assets.domain.timeframes import BarLength

type Moments = npt.NDArray[np.datetime64]
type Integers = npt.NDArray[np.int64]

FILLED = "filled"
CARRIED = ["open", "high", "low", "close"]
NOTHING_TRADED = ["volume", "quote_volume", "trades_count", "bars"]


def forward_filled(
    bars: pd.DataFrame, sessions: pd.DataFrame, length: BarLength, *, until: datetime, align: Align = "utc"
) -> pd.DataFrame:
    """Return the bars and, for those that are missing within regular hours, ones of the last close, marked.

    A bar of minutes or hours is filled from one of the same session, so that what comes before a session's first bar
    stays missing; a daily bar from the session just before, so that of several missing ones the first is filled. Bars in
    extended hours stay as they are and fill nothing.

    Args:
        bars: symbol, exchange, close and timestamp (UTC) or date, as `resample` returns them, with any other of its
            columns; symbol by symbol, oldest first.
        sessions: exchange, session, open, close (datetime64[us] in UTC, without a zone), oldest first.
        length: of the bars, a session at most.
        until: only bars that had ended at this moment (with a time zone) are filled.
        align: as the bars were made.

    Returns:
        The same columns and `filled`. A filled bar has open, high, low and close of the last close, volume,
        quote_volume, trades_count and bars of 0, no vwap and no recorded_at, and the source "filled".
    """
    time = "timestamp" if length.is_intraday else "date"
    ended = np.datetime64(pd.Timestamp(until).tz_convert(None), "us")
    symbols, names = pd.factorize(bars["symbol"])
    moments, closes = bars[time].to_numpy("datetime64[us]"), bars["close"].to_numpy(np.float64)
    expected = {
        exchange: _expected(sessions[(sessions["exchange"] == exchange).to_numpy()], length, align)
        for exchange in bars["exchange"].unique()
    }
    bounds = np.searchsorted(symbols, np.arange(len(names) + 1))
    origins, stamps = [], []
    for first, end in itertools.pairwise(bounds):
        grid = expected[bars["exchange"].iloc[first]]
        origin, stamp = grid.missing(moments[first:end], np.isnan(closes[first:end]), ended)
        origins.append(origin + first)
        stamps.append(stamp)
    origin = np.concatenate([np.empty(0, np.int64), *origins])
    if not len(origin):
        return bars.assign(filled=False)
    filled = _filled(bars.iloc[origin], time, np.concatenate(stamps))
    both = pd.concat([_plain(bars).assign(filled=False), filled.assign(filled=True)], ignore_index=True)
    order = np.lexsort((both[time].to_numpy("datetime64[us]"), np.concatenate([symbols, symbols[origin]])))
    return both.iloc[order].reset_index(drop=True)


@dataclass(frozen=True)
class _Expected:
    """The bars of an exchange: start and end of each, the session it is in, and how many one close may fill."""

    stamps: Moments
    ends: Moments
    sessions: Integers
    most: int

    def missing(self, moments: Moments, has_no_price: npt.NDArray[np.bool_], until: Any) -> tuple[Integers, Moments]:
        """Return what is to be filled of one symbol: from which bar, and its start."""
        none = -1
        bar_at = np.full(len(self.stamps), none)
        place = np.searchsorted(self.stamps, moments)
        is_there = (place < len(self.stamps)) & (self.stamps[np.minimum(place, len(self.stamps) - 1)] == moments)
        bar_at[place[is_there]] = np.flatnonzero(is_there)
        # A bar without a price is there, but there is nothing in it to carry on.
        carries = bar_at >= 0
        carries[carries] = ~has_no_price[bar_at[carries]]
        places = np.arange(len(self.stamps))
        last = np.maximum.accumulate(np.where(carries, places, none))
        same = (last >= 0) & (places - last <= self.most) & (self.sessions == self.sessions[np.maximum(last, 0)])
        fill = same & (bar_at < 0) & (self.ends <= until)
        return bar_at[last[fill]], self.stamps[fill]


def _expected(sessions: pd.DataFrame, length: BarLength, align: Align) -> _Expected:
    opens, closes = sessions["open"].to_numpy("datetime64[us]"), sessions["close"].to_numpy("datetime64[us]")
    if not length.is_intraday:
        # All in one block, as a close may be carried into the next session.
        days = sessions["session"].to_numpy("datetime64[us]")
        return _Expected(days, closes, np.zeros(len(days), np.int64), most=1)
    width = length.count * MINUTE
    first = opens if align == "session" else opens - (opens - np.datetime64(0, "us")) % width
    counts = -((first - closes) // width)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    stamps = np.repeat(first, counts) + within * width
    ends = np.minimum(stamps + width, np.repeat(closes, counts))
    return _Expected(stamps, ends, np.repeat(np.arange(len(opens)), counts), most=len(stamps))


def _filled(carried: pd.DataFrame, time: str, stamps: Moments) -> pd.DataFrame:
    """Return the bars that stand for the missing ones, from those whose close they carry on."""
    filled = _plain(carried)
    at = pd.Series(stamps, index=filled.index)
    filled[time] = at.dt.tz_localize("UTC") if time == "timestamp" else at
    for name in filled.columns.intersection(CARRIED):
        filled[name] = filled["close"]
    for name in filled.columns.intersection(NOTHING_TRADED):
        filled[name] = 0
    if "vwap" in filled:
        filled["vwap"] = np.nan
    if "recorded_at" in filled:
        filled["recorded_at"] = pd.Series(pd.NaT, index=filled.index, dtype=filled["recorded_at"].dtype)
    if "source" in filled:
        filled["source"] = FILLED
    return filled


def _plain(bars: pd.DataFrame) -> pd.DataFrame:
    """Return a copy whose texts may be any, of no given categories."""
    texts = {name: object for name in bars.columns if isinstance(bars[name].dtype, pd.CategoricalDtype)}
    return bars.astype(texts)
