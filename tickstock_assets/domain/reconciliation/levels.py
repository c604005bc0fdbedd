"""Constant ratios that nothing recorded accounts for: the trace of a split or dividend that is not in the record."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from tickstock_assets.domain.splits import Floats

# A ratio that holds for fewer bars is no level. Bars that agree without any need no such number.
FEWEST_BARS = 5
# A level, and a step between two, must exceed this many standard deviations of what varies around it.
SIGMAS = 8.0
# Splits are ratios of small whole numbers; a spin-off or a dividend is not, but by a rare chance.
LARGEST_SHARES = 20
_SIGMA_OF_MEDIAN_DEVIATION = 1.4826


@dataclass(frozen=True)
class Step:
    """A change of left / right that no record accounts for.

    Attributes:
        position: the first bar after it; None when the ratio holds up to the last bar.
        ratio: left / right before it over left / right after it.
        fraction: the same as shares for a share, None when it is no ratio of small whole numbers.
    """

    position: int | None
    ratio: float
    fraction: Fraction | None


def steps(log_ratio: Floats, tolerance: Floats) -> list[Step]:
    """Return where left / right steps from one constant to another, oldest first.

    Args:
        log_ratio: natural logarithm of left / right, shape (n_bars,); NaN where it is not known.
        tolerance: how far rounding alone may move it, same shape, positive.
    """
    known = np.flatnonzero(np.isfinite(log_ratio))
    if len(known) < FEWEST_BARS:
        return []
    runs = _runs(log_ratio[known], tolerance[known])
    found = []
    for (_, level, within), (begin, next_level, next_within) in zip(runs, [*runs[1:], (-1, 0.0, 0.0)], strict=True):
        slack = max(within, next_within)
        if abs(level - next_level) > slack:
            position = None if begin < 0 else int(known[begin])
            found.append(_step(position, level - next_level, slack))
    return found


def step_factors(found: list[Step], n_bars: int) -> Floats:
    """Return left / right that the steps make up, shape (n_bars,)."""
    factor = np.ones(n_bars)
    for step in found:
        factor[: n_bars if step.position is None else step.position] *= step.ratio
    return factor


def _runs(ratio: Floats, tolerance: Floats) -> list[tuple[int, float, float]]:
    """Return the runs of a constant: first bar, level (0 for none), and how far another must be to differ from it."""
    change = np.abs(np.diff(ratio))
    usual = SIGMAS * _SIGMA_OF_MEDIAN_DEVIATION * float(np.median(change))
    cuts = np.flatnonzero(change > np.maximum(tolerance[1:] + tolerance[:-1], usual)) + 1
    runs: list[tuple[int, float, float]] = []
    for part in np.split(np.arange(len(ratio)), cuts):
        level = float(np.median(ratio[part]))
        spread = _SIGMA_OF_MEDIAN_DEVIATION * float(np.median(np.abs(ratio[part] - level)))
        within = max(float(np.median(tolerance[part])), SIGMAS * spread)
        if len(part) < FEWEST_BARS and abs(level) > float(np.median(tolerance[part])):
            continue
        level = level if abs(level) > within else 0.0
        if not runs or abs(runs[-1][1] - level) > max(within, runs[-1][2]):
            runs.append((int(part[0]), level, within))
    return runs


def _step(position: int | None, log_step: float, slack: float) -> Step:
    ratio = float(np.exp(log_step))
    shares = (
        Fraction(ratio).limit_denominator(LARGEST_SHARES)
        if ratio >= 1
        else 1 / Fraction(1 / ratio).limit_denominator(LARGEST_SHARES)
    )
    if shares != 1 and abs(float(shares) / ratio - 1) <= slack:
        return Step(position, float(shares), shares)
    return Step(position, ratio, None)
