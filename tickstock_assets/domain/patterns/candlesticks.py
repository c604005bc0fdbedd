"""TA-Lib's 61 candlestick functions, made independent of where the arrays begin and of bars without a trade.

Three things would leak into a finding:

    rounding   with fractional prices a tie (a shadow exactly twice the body) falls either way, and TA-Lib's running
               totals keep the rounding of a wild bar long after it left the average, so a finding may depend on where
               the array begins. We pass whole numbers, of which float64 sums are exact.
    NaN        one silences most functions for the rest of the array. We run each stretch without NaN by itself.
    splits     prices must compare across one. We pass each bar's past in that bar's own share unit, where its prices
               are what was quoted, hence whole multiples of the unit stored.

Names are TA-Lib's own. Elsewhere: which detectors exist, what a finding holds (registry.py).
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import talib
from talib import abstract

from tickstock_assets.domain.features import Floats

type Strengths = npt.NDArray[np.int32]

# Prices are stored as NUMERIC(18,8), so this makes each of them whole, whatever the window. TA-Lib totals at most ten
# ranges: below 2**53, thus exact, while a bar's range stays under 9,000,000 of its currency; prices under 90,000,000.
UNITS_PER_CURRENCY = 1e8

# How many candles each pattern has, per TA-Lib's sources. Some also look at the colour or close of the candle before.
CANDLES_SPANNED = {
    "CDL2CROWS": 3,
    "CDL3BLACKCROWS": 3,
    "CDL3INSIDE": 3,
    "CDL3LINESTRIKE": 4,
    "CDL3OUTSIDE": 3,
    "CDL3STARSINSOUTH": 3,
    "CDL3WHITESOLDIERS": 3,
    "CDLABANDONEDBABY": 3,
    "CDLADVANCEBLOCK": 3,
    "CDLBELTHOLD": 1,
    "CDLBREAKAWAY": 5,
    "CDLCLOSINGMARUBOZU": 1,
    "CDLCONCEALBABYSWALL": 4,
    "CDLCOUNTERATTACK": 2,
    "CDLDARKCLOUDCOVER": 2,
    "CDLDOJI": 1,
    "CDLDOJISTAR": 2,
    "CDLDRAGONFLYDOJI": 1,
    "CDLENGULFING": 2,
    "CDLEVENINGDOJISTAR": 3,
    "CDLEVENINGSTAR": 3,
    "CDLGAPSIDESIDEWHITE": 3,
    "CDLGRAVESTONEDOJI": 1,
    "CDLHAMMER": 1,
    "CDLHANGINGMAN": 1,
    "CDLHARAMI": 2,
    "CDLHARAMICROSS": 2,
    "CDLHIGHWAVE": 1,
    "CDLHIKKAKE": 3,
    "CDLHIKKAKEMOD": 4,
    "CDLHOMINGPIGEON": 2,
    "CDLIDENTICAL3CROWS": 3,
    "CDLINNECK": 2,
    "CDLINVERTEDHAMMER": 1,
    "CDLKICKING": 2,
    "CDLKICKINGBYLENGTH": 2,
    "CDLLADDERBOTTOM": 5,
    "CDLLONGLEGGEDDOJI": 1,
    "CDLLONGLINE": 1,
    "CDLMARUBOZU": 1,
    "CDLMATCHINGLOW": 2,
    "CDLMATHOLD": 5,
    "CDLMORNINGDOJISTAR": 3,
    "CDLMORNINGSTAR": 3,
    "CDLONNECK": 2,
    "CDLPIERCING": 2,
    "CDLRICKSHAWMAN": 1,
    "CDLRISEFALL3METHODS": 5,
    "CDLSEPARATINGLINES": 2,
    "CDLSHOOTINGSTAR": 1,
    "CDLSHORTLINE": 1,
    "CDLSPINNINGTOP": 1,
    "CDLSTALLEDPATTERN": 3,
    "CDLSTICKSANDWICH": 3,
    "CDLTAKURI": 1,
    "CDLTASUKIGAP": 3,
    "CDLTHRUSTING": 2,
    "CDLTRISTAR": 3,
    "CDLUNIQUE3RIVER": 3,
    "CDLUPSIDEGAP2CROWS": 3,
    "CDLXSIDEGAP3METHODS": 3,
}

# TA-Lib's sign is the candle's colour, or always positive: its sources say it "does not mean bullish or bearish".
NEUTRAL = frozenset(
    {
        "CDLDOJI",
        "CDLDRAGONFLYDOJI",
        "CDLGRAVESTONEDOJI",
        "CDLHIGHWAVE",
        "CDLLONGLEGGEDDOJI",
        "CDLRICKSHAWMAN",
        "CDLSHORTLINE",
        "CDLSPINNINGTOP",
        "CDLTAKURI",
    }
)

# Bars within which the two hikkake patterns may be confirmed; the confirming bar scores 200 instead of 100.
CONFIRMATION_BARS = {"CDLHIKKAKE": 3, "CDLHIKKAKEMOD": 3}

LOOKBACK_BARS: dict[str, int] = {name: getattr(abstract, name).lookback for name in CANDLES_SPANNED}


@dataclass(frozen=True)
class Stretch:
    """Bars without NaN, in one share unit: those of `rows`, and before them what they look back on."""

    rows: slice
    prices: tuple[Floats, Floats, Floats, Floats]


@dataclass(frozen=True)
class Candles:
    """One symbol's bars, oldest first.

    open, high, low, close: float64, shape (n_bars,), currency per share, continuous across splits. A bar with a NaN
        among them has no candle.
    split_factor: float64, shape (n_bars,); a price divided by it is in that bar's own share unit.
    """

    open: Floats
    high: Floats
    low: Floats
    close: Floats
    split_factor: Floats

    @cached_property
    def traded(self) -> npt.NDArray[np.bool_]:
        """Whether each bar has all four prices."""
        return ~np.isnan(self.open + self.high + self.low + self.close)

    @cached_property
    def stretches(self) -> list[Stretch]:
        """The bars that have a candle, cut where one is missing and where the share unit changes."""
        return _stretches(self)


def _stretches(candles: Candles) -> list[Stretch]:
    """Return whole-numbered prices of each stretch; the bars before a split come in the unit after it."""
    traded, unit = candles.traded, candles.split_factor
    n_bars = len(traded)
    changes = (traded[1:] != traded[:-1]) | (unit[1:] != unit[:-1])
    edges = sorted({0, *(np.flatnonzero(changes) + 1).tolist(), n_bars})
    stretches = []
    unbroken_since = 0
    for start, stop in pairwise(edges):
        if not traded[start]:
            unbroken_since = stop
            continue
        first = max(unbroken_since, start - max(LOOKBACK_BARS.values()))
        scaled = [
            np.rint(prices[first:stop] / unit[start] * UNITS_PER_CURRENCY)
            for prices in (candles.open, candles.high, candles.low, candles.close)
        ]
        stretches.append(Stretch(slice(start, stop), (scaled[0], scaled[1], scaled[2], scaled[3])))
    return stretches


def find_candlestick(name: str, candles: Candles) -> Strengths:
    """Return TA-Lib's score of one function at each bar.

    Args:
        name: a TA-Lib pattern recognition function.
        candles: one symbol's bars.

    Returns:
        int32, shape (n_bars,): 0 where there is no finding, else +-80 or +-100, +-200 where a hikkake is confirmed.
        Depends on the bar and LOOKBACK_BARS[name] before it; silent until a stretch has as many.
    """
    function = getattr(talib, name)
    strengths = np.zeros(len(candles.close), dtype=np.int32)
    for stretch in candles.stretches:
        n_rows = stretch.rows.stop - stretch.rows.start
        strengths[stretch.rows] = function(*stretch.prices)[-n_rows:]
    return strengths
