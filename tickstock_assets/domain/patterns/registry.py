"""The detectors, and the one function that runs them: continuous bars in, findings out.

A detector scores the bars of one symbol: 0, or a signed strength at the bar that completes the pattern. Its score at a
bar depends on that bar and `warmup_bars` before it, nothing after it and nothing earlier. To add one, write the
function beside its family and enter it in DETECTORS.

Elsewhere: how patterns are found (candlesticks.py, moving_averages.py), writing them (storage/).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tickstock_assets.domain.features import Floats, symbol_slices
from tickstock_assets.domain.patterns import candlesticks, moving_averages
from tickstock_assets.domain.patterns.candlesticks import Candles, Strengths

type Rows = npt.NDArray[np.intp]
type Scores = npt.NDArray[np.int16]

CROSSOVER_PAIRS = ((5, 20), (20, 50), (50, 200))
CONFIRMED = 200


def _no_details(_strength: int) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Detector:
    """One pattern with its parameters.

    Attributes:
        name: as stored in patterns.pattern.
        family: candlestick or chart.
        variant: parameters such as 5/20, empty where there are none.
        warmup_bars: bars before the completing one that the score and the stop depend on.
        span_bars: bars the pattern itself has; the stop lies beyond their extreme.
        find: scores the bars of one symbol.
        confirmation_bars: bars after the pattern within which a score of +-200 may confirm it.
        details: what to store as metadata for a score.
    """

    name: str
    family: str
    variant: str
    warmup_bars: int
    span_bars: int
    find: Callable[[Candles], Strengths]
    confirmation_bars: int = 0
    details: Callable[[int], dict[str, Any]] = _no_details


def _candlestick(name: str) -> Detector:
    neutral = {"neutral": True} if name in candlesticks.NEUTRAL else {}
    confirmation_bars = candlesticks.CONFIRMATION_BARS.get(name, 0)
    return Detector(
        name=name,
        family="candlestick",
        variant="",
        # A confirmation is known from the look-back alone, but not yet which earlier bar it confirms.
        warmup_bars=candlesticks.LOOKBACK_BARS[name] + confirmation_bars,
        span_bars=candlesticks.CANDLES_SPANNED[name],
        find=partial(candlesticks.find_candlestick, name),
        confirmation_bars=confirmation_bars,
        details=lambda strength: {"strength": strength, **neutral},
    )


def _crossover(fast: int, slow: int) -> Detector:
    def find(candles: Candles) -> Strengths:
        closes = np.where(candles.traded, candles.close, np.nan)
        return moving_averages.find_crossovers(closes, fast, slow)

    return Detector(
        name="ma_crossover",
        family="chart",
        variant=f"{fast}/{slow}",
        warmup_bars=moving_averages.warmup_bars(slow),
        span_bars=2,
        find=find,
    )


DETECTORS = (
    *(_candlestick(name) for name in candlesticks.CANDLES_SPANNED),
    *(_crossover(fast, slow) for fast, slow in CROSSOVER_PAIRS),
)
WARMUP_BARS = max(detector.warmup_bars for detector in DETECTORS)


def detect(bars: pd.DataFrame, detectors: Sequence[Detector] = DETECTORS) -> pd.DataFrame:
    """Return every finding of the detectors.

    Args:
        bars: symbol, timestamp (UTC), session_close (UTC), open, high, low, close in the continuous basis, and
            split_factor (to_continuous). Sorted by symbol and timestamp; warm-up bars included.
        detectors: which to run.

    Returns:
        One row per finding, by symbol, timestamp and the detectors' order: symbol, timestamp, pattern, variant, family,
        direction (bullish or bearish), known_at (the bar's session_close), entry_price (its close), stop_loss (lowest
        low, or highest high if bearish, of the bars the pattern spans), metadata (dict). Prices in currency per share
        of the completing bar's own unit.

        Candlesticks have TA-Lib's score as metadata `strength`, and `neutral: true` where TA-Lib says that the score's
        sign, hence the direction here, is the candle's colour or a convention and no forecast.

    Raises:
        ContractError: the bars are not sorted, or a bar is there twice.
    """
    prices = {name: bars[name].to_numpy(np.float64) for name in ("open", "high", "low", "close", "split_factor")}
    scores = np.zeros((len(bars), len(detectors)), dtype=np.int16)
    for rows in symbol_slices(bars):
        candles = Candles(**{name: column[rows] for name, column in prices.items()})
        for index, detector in enumerate(detectors):
            scores[rows, index] = detector.find(candles)
    row, which = np.nonzero(scores)
    stop = _stops(prices["low"], prices["high"], scores[row, which], row, _spans(scores, row, which, detectors))
    at, own_unit = bars.iloc[row], prices["split_factor"][row]
    return pd.DataFrame(
        {
            "symbol": at["symbol"].array,
            "timestamp": at["timestamp"].array,
            "pattern": _text([detector.name for detector in detectors], which),
            "variant": _text([detector.variant for detector in detectors], which),
            "family": _text([detector.family for detector in detectors], which),
            "direction": _text(["bearish", "bullish"], scores[row, which] > 0),
            "known_at": at["session_close"].array,
            "entry_price": prices["close"][row] / own_unit,
            "stop_loss": stop / own_unit,
            "metadata": _metadata(scores[row, which], which, detectors),
        }
    )


def _spans(scores: Scores, row: Rows, which: Rows, detectors: Sequence[Detector]) -> Rows:
    """Return how many bars each finding spans: the pattern's own, and for a confirmation those since the pattern."""
    spans = np.array([detector.span_bars for detector in detectors], dtype=np.intp)[which]
    waited = np.array([detector.confirmation_bars for detector in detectors], dtype=np.intp)[which]
    confirmed = np.flatnonzero((waited > 0) & (np.abs(scores[row, which]) == CONFIRMED))
    # The pattern is the last score before; where the warm-up hides it, the longest wait is assumed.
    for back in range(int(waited.max(initial=0)), 0, -1):
        begun = scores[row[confirmed] - back, which[confirmed]] != 0
        waited[confirmed[begun]] = back
    spans[confirmed] += waited[confirmed]
    return spans


def _stops(low: Floats, high: Floats, strength: Scores, row: Rows, spans: Rows) -> Floats:
    """Return the lowest low of the bars spanned, the highest high for a bearish finding."""
    bearish = strength < 0
    extreme = np.where(bearish, high[row], low[row])
    for back in range(1, int(spans.max(initial=0))):
        inside = np.flatnonzero(spans > back)
        earlier = row[inside] - back
        lower, higher = np.minimum(extreme[inside], low[earlier]), np.maximum(extreme[inside], high[earlier])
        extreme[inside] = np.where(bearish[inside], higher, lower)
    return extreme


def _text(labels: Sequence[str], which: npt.NDArray[Any]) -> pd.Series:
    """Return labels[which] as a column of text."""
    return pd.Series(labels, dtype="str").take(which.astype(np.intp)).reset_index(drop=True)


def _metadata(strength: Scores, which: Rows, detectors: Sequence[Detector]) -> pd.Series:
    """Return what each detector has to say about each of its scores."""
    pairs = zip(which.tolist(), strength.tolist(), strict=True)
    return pd.Series([detectors[index].details(score) for index, score in pairs], dtype=object)
