"""Volume outliers: far more or fewer shares than a symbol trades, by its own history and at its time of the day.

What the other symbols do at the same moment is taken off: the days around holidays are thin for all, and those on which
indexes are rebalanced are heavy for many.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tickstock_assets.domain.anomalies.findings import Flags, Floats, findings, plain
from tickstock_assets.domain.anomalies.neighbourhood import (
    MEDIAN_OF_ABSOLUTE_NORMAL,
    log_returns,
    median_of_others,
    rolling_median,
    shifted,
)

RULE = "volume_outlier"
# Both must be passed: a share that always trades the same is not odd at twice that, nor is an erratic one at 10 times.
# On earnings days shares trade three to six times the usual volume; vendors' errors come in powers of ten.
LEAST_SIGMAS = 4.0
LEAST_RATIO = 8.0
# A day's volume varies by this much at the least, as a log: narrower histories are accidents.
LEAST_SIGMA = 0.2
HISTORY_BARS, FEWEST_BARS = 63, 20
# Of minutes: what is usual at that minute of the day over so many sessions.
HISTORY_SESSIONS, FEWEST_SESSIONS = 20, 5
# A day on which the price moved so far has news in it, and news bring volume.
NEWS_SIGMAS = 4.0


def volume_outliers(bars: pd.DataFrame, timeframe: str) -> pd.DataFrame:
    """Return the findings of this rule; bars and findings as the package says.

    Minutes are judged in regular hours, and only for too much volume: a quiet minute is nothing odd.
    """
    volume = bars["volume"].to_numpy(np.float64)
    logs = np.log(np.where(volume > 0, volume, np.nan))
    usual, sigma = _usual_of_days(bars, logs) if timeframe == "1d" else _usual_of_minutes(bars, logs)
    distance = logs - usual
    with np.errstate(invalid="ignore"):
        sigmas = distance / np.maximum(sigma, LEAST_SIGMA)
        is_far = (np.abs(sigmas) >= LEAST_SIGMAS) & (np.abs(distance) >= np.log(LEAST_RATIO))
        market = median_of_others(bars["timestamp"], sigmas, is_far)
        is_outlier = is_far & (np.abs(sigmas) - np.maximum(np.sign(sigmas) * market, 0.0) >= LEAST_SIGMAS)
    is_outlier &= (distance > 0) | _may_be_thin(bars, timeframe)
    with np.errstate(invalid="ignore"):
        has_news = np.abs(log_returns(bars)) >= NEWS_SIGMAS * bars["sigma"].to_numpy(np.float64)
    return _told(bars, np.flatnonzero(is_outlier), usual, sigmas, has_news)


def _may_be_thin(bars: pd.DataFrame, timeframe: str) -> Flags:
    """Return where few shares are odd: on whole days."""
    return ~bars["is_half_day"].to_numpy(np.bool_) & (timeframe == "1d")


def _usual_of_days(bars: pd.DataFrame, logs: Floats) -> tuple[Floats, Floats]:
    """Return median and scale of the log volumes of the quarter before, half days left out."""
    symbols = bars["symbol"]
    whole_days = np.where(bars["is_half_day"].to_numpy(np.bool_), np.nan, logs)
    usual = rolling_median(whole_days, symbols, HISTORY_BARS, FEWEST_BARS)
    spread = rolling_median(np.abs(whole_days - usual), symbols, HISTORY_BARS, FEWEST_BARS)
    return shifted(usual, symbols, 1), shifted(spread, symbols, 1) / MEDIAN_OF_ABSOLUTE_NORMAL


def _usual_of_minutes(bars: pd.DataFrame, logs: Floats) -> tuple[Floats, Floats]:
    """Return what is usual at that minute of the day, on a day as busy as this one, and the scale around it."""
    minute = (bars["timestamp"] - bars["session_open"]).dt.total_seconds() // 60
    regular = np.where(bars["is_extended"], np.nan, logs)
    # Each minute of the day is a series of its own, a bar a session.
    of_minute = bars.groupby(["symbol", minute], sort=False).ngroup().to_numpy()
    order = np.argsort(of_minute, kind="stable")
    series = pd.Series(of_minute[order])
    profile = np.empty(len(bars))
    profile[order] = shifted(rolling_median(regular[order], series, HISTORY_SESSIONS, FEWEST_SESSIONS), series, 1)
    of_session = bars.groupby(["symbol", "session"], sort=False).ngroup().to_numpy()
    busy = profile + _medians(regular - profile, of_session)
    sigma = _medians(np.abs(regular - busy), of_session) / MEDIAN_OF_ABSOLUTE_NORMAL
    return busy, sigma


def _medians(values: Floats, groups: npt.NDArray[np.integer[Any]]) -> Floats:
    """Return for each value the median of its group, NaN left out."""
    return np.asarray(pd.Series(values).groupby(groups).transform("median"), np.float64)


def _told(bars: pd.DataFrame, places: np.ndarray, usual: Floats, sigmas: Floats, has_news: Flags) -> pd.DataFrame:
    factor = bars["split_factor"].to_numpy(np.float64)[places]
    volumes = bars["volume"].to_numpy(np.float64)[places] * factor
    expected = np.exp(usual[places]) * factor
    return findings(
        bars,
        places,
        RULE,
        severity=np.where(has_news[places], "info", "warning"),
        reasons=[
            f"volume {volume:.10g} is {_times(volume / usually)} the usual {usually:.4g}, {abs(far):.1f} standard "
            f"deviations {'above' if far > 0 else 'below'}" + (", on a day of a large move" if news else "")
            for volume, usually, far, news in zip(volumes, expected, sigmas[places], has_news[places], strict=True)
        ],
        evidence={
            "volume": plain(volumes, 10),
            "expected": plain(expected),
            "ratio": plain(volumes / expected),
            "sigmas": plain(sigmas[places]),
            "large_move": has_news[places].tolist(),
        },
    )


def _times(ratio: float) -> str:
    return f"{ratio:.3g} times" if ratio >= 1 else f"one {1 / ratio:.3g}th of"
