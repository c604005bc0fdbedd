"""Rounding: one side's values are the other's on a grid, such as cents, whole shares or lots of 100."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tickstock_assets.domain.reconciliation.report import Side
from tickstock_assets.domain.splits import Floats

type Mask = npt.NDArray[np.bool_]

PRICE_UNITS = tuple(10.0**-decimals for decimals in range(7))
VOLUME_UNITS = (1.0, 100.0)
# Rounding is a rule: where it can be the cause of a difference it is, but for a few coincidences of other causes.
SHARE_OF_CLOSE = 0.95
# And it accounts for at least this share of all differences in its fields.
SHARE_OF_ALL = 0.5
# Fewer agree with a rule by chance too often: each has a chance of one half.
FEWEST_ROUNDED = 8
# How far from a grid point float64 arithmetic may leave a value that lies on it, in units of the grid.
_FUZZ, _EPSILONS = 1e-6, 16 * np.finfo(np.float64).eps


@dataclass(frozen=True)
class Grid:
    """One side's values are multiples of `unit`; `truncated` says down, otherwise to the nearest."""

    side: Side
    unit: float
    truncated: bool

    @property
    def decimals(self) -> int:
        """How many decimals the unit has."""
        return max(0, -round(float(np.log10(self.unit))))


@dataclass(frozen=True)
class Ties:
    """Where the unrounded value lies half-way: how many there are, and how many went up, or to an even last digit."""

    count: int
    up: int
    even: int

    def rule(self) -> str:
        """Return what they say of the rule."""
        if self.count == 0:
            return "half (no tie tells which way)"
        to_even, to_up = self.even == self.count, self.up == self.count
        if to_even and to_up:
            return "half-up or half-even"
        return "half-even" if to_even else "half-up" if to_up else "half (ties go either way)"


def relative_difference(left: Floats, right: Floats) -> Floats:
    """Return |left - right| / the larger of both; 0 where both are 0 or missing, 1 where one is missing."""
    return _relative(np.abs(left - right), left, right)


def rounded_difference(left: Floats, right: Floats, ratio: Floats, grid: Grid | None) -> Floats:
    """Return how far left is from right times ratio beyond what the grid's rounding allows, relative."""
    if grid is None:
        return relative_difference(left, right * ratio)
    published, exact = _sides(left, right, ratio, grid.side)
    return _relative(_beyond(exact, published, grid), published, exact)


def fit_grid(left: Floats, right: Floats, ratio: Floats, thresholds: Floats, units: Sequence[float]) -> Grid | None:
    """Return the grid that one side has been rounded to, or None.

    Args:
        left: float64, shape (n_fields, n_bars).
        right: likewise.
        ratio: likewise; left is right times ratio but for the rounding.
        thresholds: float64, shape (n_fields, 1); values not further apart, relative, are no difference.
        units: the grids to try.

    Returns:
        The grid that accounts for most differences, if it accounts for SHARE_OF_CLOSE of the differences of at most a
        unit on the grid, for SHARE_OF_ALL of all, and for FEWEST_ROUNDED.
    """
    differing = relative_difference(left, right * ratio) > thresholds
    needed = max(float(FEWEST_ROUNDED), SHARE_OF_ALL * np.count_nonzero(differing))
    best: Grid | None = None
    sides: tuple[Side, Side] = ("left", "right")
    for rounded_side in sides:
        published, exact = _sides(left, right, ratio, rounded_side)
        slack = (thresholds * np.abs(published))[differing]
        published, exact = published[differing], exact[differing]
        for unit in units:
            # A value off the grid has not been rounded to it, so it says nothing of the rule.
            close = on_grid(published, unit) & (np.abs(exact - published) <= unit + slack)
            for truncated in (False, True):
                grid = Grid(rounded_side, unit, truncated)
                accounted = close & (_beyond(exact, published, grid) <= slack)
                count = np.count_nonzero(accounted)
                if count >= needed and count >= SHARE_OF_CLOSE * np.count_nonzero(close):
                    best, needed = grid, count + 1.0
    return best


def ties(left: Floats, right: Floats, ratio: Floats, grid: Grid) -> Ties:
    """Return the values that lie half-way between two points of the grid before they are rounded."""
    published, exact = _sides(left, right, ratio, grid.side)
    half_units = exact / grid.unit - np.floor(exact / grid.unit)
    on = on_grid(published, grid.unit) & (np.abs(half_units - 0.5) < _FUZZ)
    on &= np.abs(exact - published) < grid.unit
    points = np.rint(published[on] / grid.unit)
    return Ties(
        int(np.count_nonzero(on)), int(np.count_nonzero(published[on] > exact[on])), int(np.sum(points % 2 == 0))
    )


def on_grid(values: Floats, unit: float) -> Mask:
    """Return which values are multiples of a unit, but for float64's own rounding."""
    points = values / unit
    found: Mask = np.abs(points - np.rint(points)) <= np.minimum(np.maximum(_FUZZ, _EPSILONS * np.abs(points)), 0.1)
    return found


def own_unit(values: Floats) -> float:
    """Return the coarsest decimal unit that most prices are multiples of, 0 when there is none.

    Most, not all: a bar that is wrong must not hide the grid.
    """
    for unit in PRICE_UNITS:
        if values.size and np.mean(on_grid(values, unit)) > 0.6:
            return unit
    return 0.0


def _sides(left: Floats, right: Floats, ratio: Floats, rounded_side: Side) -> tuple[Floats, Floats]:
    """Return the rounded side's values, and the other's in its terms."""
    return (left, right * ratio) if rounded_side == "left" else (right, left / ratio)


def _beyond(exact: Floats, published: Floats, grid: Grid) -> Floats:
    """Return how much of exact - published rounding to the grid does not account for.

    That is all of it where the published value is off the grid, and where the exact one is on it: it would stay.
    """
    difference = exact - published
    lowest, highest = (0.0, grid.unit) if grid.truncated else (-grid.unit / 2, grid.unit / 2)
    # A NaN stays one, since maximum passes it on.
    excess = np.maximum(np.maximum(lowest - difference, difference - highest), 0)
    may_be_rounded = on_grid(published, grid.unit) & ~on_grid(exact, grid.unit)
    return np.where(may_be_rounded, excess, np.abs(difference))


def _relative(apart: Floats, one: Floats, other: Floats) -> Floats:
    larger = np.maximum(np.abs(one), np.abs(other))
    relative = np.divide(apart, larger, out=np.zeros_like(apart), where=larger != 0)
    missing = np.isnan(one), np.isnan(other)
    return np.where(missing[0] & missing[1], 0.0, np.where(missing[0] | missing[1], 1.0, relative))
