"""Which share unit, session scope and rounding make two sides' volumes agree best, given why their prices differ."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from tickstock_assets.domain.reconciliation.levels import step_factors
from tickstock_assets.domain.reconciliation.minutes import Scope
from tickstock_assets.domain.reconciliation.pairing import Model, Pair, above
from tickstock_assets.domain.reconciliation.prices import PriceHypothesis, WideSide
from tickstock_assets.domain.reconciliation.report import Side
from tickstock_assets.domain.reconciliation.rounding import VOLUME_UNITS, Grid, fit_grid
from tickstock_assets.domain.splits import Floats

# In bars: volume that is not in the basis of its own prices is supposed only when that accounts for more.
_COST_OF_DEPARTING = 0.1


@dataclass(frozen=True)
class VolumeHypothesis:
    """Why volumes differ; arrays of shape (n_bars,).

    Attributes:
        left_shares, right_shares: how many shares of the side's unit one share as traded that day is.
        follows_prices: the sides' volumes are adjusted for the splits their prices are adjusted for.
        with_steps: unrecorded splits that move the prices move the volumes too.
        wide: the side whose volume holds extended hours, if any.
        grid: the side that is rounded, if any.
    """

    left_shares: Floats
    right_shares: Floats
    follows_prices: bool
    with_steps: bool
    wide: WideSide | None
    grid: Grid | None
    cost: float


@dataclass(frozen=True)
class _Supposed:
    """What one hypothesis takes for true."""

    wide: WideSide | None
    left_adjusted: bool
    right_adjusted: bool
    with_steps: bool


def best_volume(pair: Pair, prices: PriceHypothesis, scopes: Mapping[Side, Scope]) -> VolumeHypothesis:
    """Return the hypothesis of the least cost."""
    tried = [
        _judged(pair, prices, scopes, _Supposed(wide, *adjusted, with_steps))
        for wide in _wide_sides(prices, scopes)
        for adjusted in ((True, True), (False, False), (True, False), (False, True))
        for with_steps in ((True, False) if prices.steps else (True,))
    ]
    return min(tried, key=lambda hypothesis: hypothesis.cost)


def _wide_sides(prices: PriceHypothesis, scopes: Mapping[Side, Scope]) -> Iterable[WideSide | None]:
    """Yield the scopes to try, that of the prices first."""
    sides: list[Side | None] = [prices.wide.side if prices.wide else None, None]
    sides += [side for side, scope in scopes.items() if np.any(scope.extended_minutes)]
    for side in dict.fromkeys(sides):
        yield WideSide(side, ("volume",)) if side else None


def _judged(pair: Pair, prices: PriceHypothesis, scopes: Mapping[Side, Scope], supposed: _Supposed) -> VolumeHypothesis:
    ones, wide = np.ones(len(pair.day)), supposed.wide
    left_shares = prices.basis.left_shares if supposed.left_adjusted else ones
    right_shares = prices.basis.right_shares if supposed.right_adjusted else ones
    stepped = 1 / step_factors(prices.steps, len(pair.day)) if supposed.with_steps else ones
    ratio = wide.ratio(pair, scopes) if wide else np.ones_like(pair.left)
    ratio = ratio * right_shares / left_shares * stepped
    row = pair.volume
    grid = fit_grid(pair.left[row], pair.right[row], ratio[row], pair.thresholds[row], VOLUME_UNITS)
    bars_apart = np.count_nonzero(above(pair, Model(ratio, None, grid))[row])
    departures = (not supposed.left_adjusted) + (not supposed.right_adjusted) + (not supposed.with_steps)
    departures += (wide.side if wide else None) != (prices.wide.side if prices.wide else None)
    cost = bars_apart + _COST_OF_DEPARTING * departures
    follows = supposed.left_adjusted and supposed.right_adjusted
    return VolumeHypothesis(left_shares, right_shares, follows, supposed.with_steps, wide, grid, cost)
