"""Price spikes: a close, high or low far from the bars before and after it; the price was back at once.

A jump that stays is no spike, nor is one that the other symbols make at the same moment.
"""

import numpy as np
import pandas as pd

from tickstock_assets.domain.anomalies.findings import Flags, Floats, findings, plain
from tickstock_assets.domain.anomalies.neighbourhood import (
    median_of_others,
    rolling_median,
    rolling_median_ahead,
    shifted,
)

RULE = "price_spike"
# A close is held against the median of so many on each side, so that a spike of two bars is still alone.
SIDE_BARS = 3
# Distance from both sides in standard deviations of a return, and least relative distance. Of the 12,154 real days of the
# sample data, fat tails and all, the farthest close that is no mistake is 4.4 away, others' moves taken off. Minutes have
# fatter tails, and a hundred times as many bars.
LEAST_SIGMAS = {"1d": 5.0, "1m": 8.0}
LEAST_MOVE = {"1d": 0.04, "1m": 0.005}
# How far the sides may be apart, as a share of the distance: beyond it the price went somewhere, and did not come back.
MOST_DRIFT = 0.5
# What others did at the same moment is taken off threefold: a volatile share moves up to three times as far as they.
MARKET_SHARE = 3.0
# Beyond these nobody paid that price.
ERROR_SIGMAS, ERROR_MOVE = 15.0, 0.3


def price_spikes(bars: pd.DataFrame, timeframe: str) -> pd.DataFrame:
    """Return the findings of this rule; bars and findings as the package says."""
    sigma = bars["sigma"].to_numpy(np.float64)
    distances = {"close": _close_distance(bars), "high": _wick(bars, "high"), "low": _wick(bars, "low")}
    is_spike: dict[str, Flags] = {}
    for name, distance in distances.items():
        with np.errstate(divide="ignore", invalid="ignore"):
            sigmas = distance / sigma
        is_far = (np.abs(sigmas) >= LEAST_SIGMAS[timeframe]) & (np.abs(distance) >= LEAST_MOVE[timeframe])
        market = median_of_others(bars["timestamp"], sigmas, is_far)
        own = np.abs(sigmas) - MARKET_SHARE * np.maximum(np.sign(sigmas) * market, 0.0)
        is_spike[name] = is_far & (own >= LEAST_SIGMAS[timeframe])
    fields = np.array(list(is_spike.values()))
    places = np.flatnonzero(fields.any(axis=0))
    # Of several prices of a bar the one named is the farthest off.
    sizes = np.where(fields, np.abs(np.array(list(distances.values()))), 0.0)[:, places]
    return _told(bars, places, np.array(list(distances))[sizes.argmax(axis=0)], distances, sigma)


def _close_distance(bars: pd.DataFrame) -> Floats:
    """Return the smaller of a close's log distances from both sides, 0 where it is between them or they are apart."""
    closes, symbols = np.log(bars["close"].to_numpy(np.float64)), bars["symbol"]
    before = closes - shifted(rolling_median(closes, symbols, SIDE_BARS, 1), symbols, 1)
    after = closes - shifted(rolling_median_ahead(closes, symbols, SIDE_BARS, 1), symbols, -1)
    distance = np.where(np.abs(before) < np.abs(after), before, after)
    comes_back = (np.sign(before) == np.sign(after)) & (np.abs(before - after) <= MOST_DRIFT * np.abs(distance))
    return np.where(comes_back, distance, np.where(np.isnan(before + after), np.nan, 0.0))


def _wick(bars: pd.DataFrame, name: str) -> Floats:
    """Return how far a high (low) is beyond the close and beyond the highs (lows) of both neighbours, as a log."""
    sign = 1.0 if name == "high" else -1.0
    prices, symbols = sign * np.log(bars[name].to_numpy(np.float64)), bars["symbol"]
    # A symbol's last bar is judged when the next is there.
    around = np.maximum(shifted(prices, symbols, 1), shifted(prices, symbols, -1))
    usual = np.maximum(around, sign * np.log(bars["close"].to_numpy(np.float64)))
    return sign * np.maximum(prices - usual, 0.0)


def _told(
    bars: pd.DataFrame, places: np.ndarray, names: np.ndarray, distances: dict[str, Floats], sigma: Floats
) -> pd.DataFrame:
    factor = bars["split_factor"].to_numpy(np.float64)[places]
    prices, moves = np.empty(len(places)), np.empty(len(places))
    for name, distance in distances.items():
        chosen = names == name
        prices[chosen] = bars[name].to_numpy(np.float64)[places[chosen]] / factor[chosen]
        moves[chosen] = distance[places[chosen]]
    expected, sigmas = prices / np.exp(moves), np.abs(moves) / sigma[places]
    relative = np.expm1(moves)
    return findings(
        bars,
        places,
        RULE,
        severity=np.where((sigmas >= ERROR_SIGMAS) & (np.abs(relative) >= ERROR_MOVE), "error", "warning"),
        reasons=[
            f"{name} {price:.6g} is {abs(move):.1%} {'above' if move > 0 else 'below'} the bars before and after it "
            f"(about {usual:.6g}), {far:.1f} standard deviations of a return here, and others did not move like that"
            for name, price, move, usual, far in zip(names, prices, relative, expected, sigmas, strict=True)
        ],
        evidence={
            "field": [str(name) for name in names],
            "price": plain(prices, 8),
            "expected": plain(expected, 8),
            "relative_move": plain(relative),
            "sigmas": plain(sigmas),
            "sigma": plain(sigma[places]),
        },
    )
