"""Unrecorded splits: an overnight jump by a ratio of shares, that stays, in normal trade, and of this symbol alone.

What tells a split from a crash or a takeover is what does not happen: the money traded stays what it was, as the shares
traded change by the same ratio, and the rest of the day is as quiet as any.
"""

from fractions import Fraction

import numpy as np
import pandas as pd

from tickstock_assets.domain.anomalies.findings import Flags, Floats, findings, plain
from tickstock_assets.domain.anomalies.neighbourhood import (
    median_of_others,
    rolling_median,
    rolling_median_ahead,
    shifted,
)

RULE = "unrecorded_split"
# New shares for old ones. Smaller steps than 5:4 cannot be told from news.
FORWARD = [
    Fraction(text) for text in ("5/4", "4/3", "3/2", "2", "5/2", "3", "4", "5", "6", "7", "8", "10", "15", "20", "50")
]
REVERSE = [Fraction(1, n) for n in (2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50)]
RATIOS = sorted(FORWARD + REVERSE)
# The jump may miss the ratio by what a night brings: so many standard deviations of a day's return, but at least and at
# most so much. Neighbouring ratios up to 10 are farther apart than twice the most.
FIT_SIGMAS, LEAST_FIT, MOST_FIT = 3.0, 0.01, 0.06
# A jump is one where it is this far beyond what the symbol does by itself, the market's part taken off.
LEAST_SIGMAS = 6.0
# It stays: the medians of so many closes on each side differ by the ratio too, give or take what days bring.
SIDE_BARS = 5
STAYS_SIGMAS, STAYS_AT_LEAST, MOST_OF_RATIO = 6.0, 0.05, 0.5
FEWEST_AFTER = 2
# The money traded may be 3.3 times as much (1.2 as a log) as before, beyond what it is for others; news that halve a price
# bring ten times as much. The farther the jump, the more it says by itself: up to its own ratio is let pass.
MOST_MONEY = 1.2
# The move within the day, in standard deviations of a return. News go on moving.
MOST_WITHIN_DAY = 3.5
HOW_TO_RECORD = 'tickstock splits add {symbol} {day} {split_from} {split_to} --reason "..."'


def unrecorded_splits(bars: pd.DataFrame, splits: pd.DataFrame) -> pd.DataFrame:
    """Return the findings of this rule.

    Args:
        bars: of days, as the package says, adjusted for the recorded splits.
        splits: symbol and execution_date of what is recorded; a jump within a session of one is not reported.
    """
    symbols = bars["symbol"]
    closes, opens = (np.log(bars[name].to_numpy(np.float64)) for name in ("close", "open"))
    sigma = _quiet_sigma(bars)
    jump = opens - shifted(closes, symbols, 1)
    market = median_of_others(bars["timestamp"], jump)
    ratio_logs = np.array([-np.log(float(ratio)) for ratio in RATIOS])  # what a split does to the price
    nearest = np.abs(np.nan_to_num(jump)[:, None] - ratio_logs).argmin(axis=1)
    fit = jump - ratio_logs[nearest]
    stays = _step_of_medians(closes, symbols) - ratio_logs[nearest]
    with np.errstate(divide="ignore", invalid="ignore"):
        is_split = (
            (np.abs(fit) <= np.clip(FIT_SIGMAS * sigma, LEAST_FIT, MOST_FIT))
            & (np.abs(jump - market) >= np.maximum(LEAST_SIGMAS * sigma, np.log(5 / 4) - MOST_FIT))
            & (
                np.abs(stays)
                <= np.clip(STAYS_SIGMAS * sigma, STAYS_AT_LEAST, MOST_OF_RATIO * np.abs(ratio_logs[nearest]))
            )
            & (np.abs(closes - opens) <= MOST_WITHIN_DAY * sigma)
        )
    money = _money(bars)
    is_split &= ~(money > np.maximum(MOST_MONEY, np.abs(ratio_logs[nearest]))) & ~_is_recorded(bars, splits)
    return _told(bars, np.flatnonzero(is_split), nearest, fit=fit, market=market, money=money)


def _quiet_sigma(bars: pd.DataFrame) -> Floats:
    """Return the scale of returns around each bar; at least half a percent, as no share is calmer for long."""
    return np.asarray(bars["sigma"].clip(lower=0.005), np.float64)


def _step_of_medians(closes: Floats, symbols: "pd.Series[str]") -> Floats:
    """Return the median log close from each bar on, less that before it; NaN while too few bars have followed."""
    after = rolling_median_ahead(closes, symbols, SIDE_BARS, FEWEST_AFTER)
    return after - shifted(rolling_median(closes, symbols, SIDE_BARS, FEWEST_AFTER), symbols, 1)


def _money(bars: pd.DataFrame) -> Floats:
    """Return how much more money was traded on this day or the days from it on than before, as a log, and than by others.

    The larger of the day and the median of the days. NaN without volume.
    """
    symbols = bars["symbol"]
    traded = bars["close"].to_numpy(np.float64) * bars["volume"].to_numpy(np.float64)
    logs = np.log(np.where(traded > 0, traded, np.nan))
    before = shifted(rolling_median(logs, symbols, 4 * SIDE_BARS, FEWEST_AFTER), symbols, 1)
    after = rolling_median_ahead(logs, symbols, SIDE_BARS, FEWEST_AFTER)
    more: Floats = np.fmax(logs, after) - before
    return more - median_of_others(bars["timestamp"], more)


def _is_recorded(bars: pd.DataFrame, splits: pd.DataFrame) -> Flags:
    """Return which bars are within a session of a recorded split of their symbol."""
    recorded = pd.MultiIndex.from_arrays([splits["symbol"], splits["execution_date"].astype("datetime64[us]")])
    at = pd.Series(pd.MultiIndex.from_arrays([bars["symbol"], bars["session"]]).isin(recorded).astype(np.float64))
    symbols = bars["symbol"]
    flags = np.asarray(at, np.float64)
    near: Flags = np.fmax.reduce([flags, shifted(flags, symbols, 1), shifted(flags, symbols, -1)]) > 0
    return near


def _told(
    bars: pd.DataFrame, places: np.ndarray, nearest: np.ndarray, *, fit: Floats, market: Floats, money: Floats
) -> pd.DataFrame:
    at = bars.iloc[places]
    ratios = [RATIOS[place] for place in nearest[places]]
    factor = at["split_factor"].to_numpy(np.float64)
    before = shifted(bars["close"].to_numpy(np.float64), bars["symbol"], 1)[places] / factor
    opens = at["open"].to_numpy(np.float64) / factor
    days = [f"{day:%Y-%m-%d}" for day in at["session"]]
    return findings(
        bars,
        places,
        RULE,
        severity=np.full(len(places), "warning"),
        reasons=[
            f"the open {opened:.6g} after a close of {closed:.6g} looks like a split of {ratio.denominator} into "
            f"{ratio.numerator} ({abs(off):.1%} off), the price stays there, and trade goes on as before; if it is one, "
            + HOW_TO_RECORD.format(symbol=symbol, day=day, split_from=ratio.denominator, split_to=ratio.numerator)
            for opened, closed, ratio, off, symbol, day in zip(
                opens, before, ratios, fit[places], at["symbol"], days, strict=True
            )
        ],
        evidence={
            "split_from": [ratio.denominator for ratio in ratios],
            "split_to": [ratio.numerator for ratio in ratios],
            "execution_date": days,
            "fit": plain(fit[places]),
            "close_before": plain(before, 8),
            "open": plain(opens, 8),
            "market_jump": plain(market[places]),
            "money_traded_ratio": plain(np.exp(money[places])),
        },
    )
