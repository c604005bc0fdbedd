"""Which adjustment basis and session scope make two sides' prices agree best, with the least supposed.

Rounding hides the last digits, extended hours move every price, and a split that is not recorded leaves a step, so no
cause can be judged before the others: whole hypotheses are compared. The cost of one is the number of bars it leaves
apart plus a price for all that it supposes. What wins must still pass its own test (evidence.py).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from tickstock_assets.domain.reconciliation.basis import Basis
from tickstock_assets.domain.reconciliation.levels import Step, step_factors, steps
from tickstock_assets.domain.reconciliation.minutes import Scope
from tickstock_assets.domain.reconciliation.pairing import PRICES, Model, Pair, above
from tickstock_assets.domain.reconciliation.report import Side
from tickstock_assets.domain.reconciliation.rounding import PRICE_UNITS, Grid, fit_grid, own_unit
from tickstock_assets.domain.splits import Floats, Ints

# In bars. An unrecorded split must account for more bars than this; what is recorded is all but free. Rounding has a
# cost because it hides that a basis is nearly right only, and finds a bad price near by chance.
COST_OF_A_STEP, COST_OF_ROUNDING, COST_OF_A_SUPPOSITION = 3.0, 1.0, 0.1
# Where other differences leave no bar equal, a basis must take this share of the typical difference away, as many
# standard errors from none, on as many bars.
SHARE_TAKEN_AWAY, STANDARD_ERRORS, FEWEST_TOUCHED = 0.75, 6.0, 20
# Bases are ranked by a quick look before the best are looked at closely; a logarithm of prices apart by more is no
# more apart.
_LOOKED_AT, _FAR = 8, 0.2


@dataclass(frozen=True)
class WideSide:
    """One side's daily bars hold extended hours in some fields."""

    side: Side
    fields: tuple[str, ...]

    def ratio(self, pair: Pair, scopes: Mapping[Side, Scope]) -> Floats:
        """Return left / right that follows, shape (n_fields, n_bars)."""
        widening = scopes[self.side].widening
        ratio = widening if self.side == "left" else 1 / widening
        return np.where(np.isin(pair.fields, self.fields)[:, None], ratio, 1.0)


@dataclass(frozen=True)
class PriceHypothesis:
    """Why prices differ, what it leaves, and the next best basis."""

    basis: Basis
    wide: WideSide | None
    steps: list[Step]
    grid: Grid | None
    cost: float
    rival: str | None = field(default=None)
    rival_cost: float | None = field(default=None)


def best_hypothesis(pair: Pair, found: list[Basis], scopes: Mapping[Side, Scope]) -> PriceHypothesis:
    """Return the hypothesis of the least cost.

    Args:
        pair: the bars.
        found: bases to try, the lightest first, arrays of shape (n_bars,).
        scopes: of each side that has minute bars or whose bars may be widened by the other's.
    """
    tolerance = _rounding_tolerance(pair)
    tried: list[PriceHypothesis] = []
    for wide in _wide_sides(pair, scopes):
        ratio = wide.ratio(pair, scopes) if wide else np.ones_like(pair.left)
        log_ratio = _log_ratio(pair, ratio)
        tried += [_judged(pair, basis, wide, ratio, tolerance) for basis in _promising(log_ratio, pair.day, found)]
    best = min(tried, key=lambda hypothesis: hypothesis.cost)
    if best.basis.is_none and best.wide is None and not best.steps:
        noisy = _basis_under_noise(_log_ratio(pair, np.ones_like(pair.left)), found)
        if noisy:
            best = _judged(pair, noisy, None, np.ones_like(pair.left), tolerance)
    others = [hypothesis for hypothesis in tried if str(hypothesis.basis) != str(best.basis)]
    rival = min(others, key=lambda hypothesis: hypothesis.cost, default=None)
    return best if rival is None else replace(best, rival=str(rival.basis), rival_cost=rival.cost)


def _wide_sides(pair: Pair, scopes: Mapping[Side, Scope]) -> Iterable[WideSide | None]:
    """Yield the scopes to try: the vendor may take open and close from the auctions, whatever its high and low are."""
    yield None
    everything = tuple(name for name in PRICES if name in pair.fields)
    extremes = tuple(name for name in ("high", "low") if name in pair.fields)
    for side, scope in scopes.items():
        if np.any(scope.extended_minutes):
            yield from (WideSide(side, fields) for fields in dict.fromkeys((everything, extremes)) if fields)


def _judged(pair: Pair, basis: Basis, wide: WideSide | None, wide_ratio: Floats, tolerance: Floats) -> PriceHypothesis:
    """Return the hypothesis of a basis and a scope, with the steps and the rounding they leave, and its cost."""
    ratio = wide_ratio * basis.prices
    found = steps(_log_ratio(pair, ratio), tolerance)
    ratio = ratio * step_factors(found, len(pair.day))
    prices = pair.prices
    grid = fit_grid(pair.left[prices], pair.right[prices], ratio[prices], pair.thresholds[prices], PRICE_UNITS)
    bars_apart = float(above(pair, Model(ratio, grid))[prices].mean(axis=0).sum())
    supposed = basis.weight + (wide is not None)
    cost = bars_apart + COST_OF_A_STEP * len(found) + COST_OF_ROUNDING * (grid is not None)
    cost += COST_OF_A_SUPPOSITION * supposed
    return PriceHypothesis(basis, wide, found, grid, cost)


def _log_ratio(pair: Pair, ratio: Floats) -> Floats:
    """Return the logarithm of left / (right x ratio), the median of each bar's prices; NaN where it has none."""
    left, right = pair.left[pair.prices], pair.right[pair.prices]
    valid = np.all((left > 0) & (right > 0) & np.isfinite(left) & np.isfinite(right), axis=0)
    log_ratio = np.full(len(pair.day), np.nan)
    apart = np.log(left[:, valid] / (right[:, valid] * ratio[pair.prices][:, valid]))
    log_ratio[valid] = np.median(apart, axis=0)
    return log_ratio


def _rounding_tolerance(pair: Pair) -> Floats:
    """Return how far rounding of both sides may move the ratio of prices, relative, shape (n_bars,)."""
    tolerance = np.full(len(pair.day), float(pair.thresholds[0, 0]))
    for side in (pair.left[pair.prices], pair.right[pair.prices]):
        price = np.median(side, axis=0)
        tolerance += np.where(price > 0, own_unit(side) / np.where(price > 0, price, 1.0), 0.0)
    return tolerance


def _promising(log_ratio: Floats, day: Ints, found: list[Basis]) -> list[Basis]:
    """Return the bases worth a closer look: none at all, those that leave the least, those that leave the fewest steps."""
    # A basis is constant within a day, so of minute bars the first of each is enough to rank by.
    first = np.unique(day, return_index=True)[1]
    first = first[np.isfinite(log_ratio[first])]
    if len(found) <= 1 or not len(first):
        return found[:1]
    level, stepping = np.empty(len(found)), np.empty(len(found))
    for number, basis in enumerate(found):
        left_over = log_ratio[first] - np.log(basis.prices[first])
        level[number] = np.minimum(np.abs(left_over), _FAR).sum()
        stepping[number] = np.minimum(np.abs(np.diff(left_over, append=0.0)), _FAR).sum()
    # Stable: of those that leave the same, the lighter ones are kept.
    chosen = {0, *(int(n) for by in (level, stepping) for n in np.argsort(by, kind="stable")[:_LOOKED_AT])}
    return [found[number] for number in sorted(chosen)]


def _basis_under_noise(log_ratio: Floats, found: list[Basis]) -> Basis | None:
    """Return a basis that takes most of the typical difference away although no bar becomes equal, or None.

    Only bases that a vendor publishes today: among all days they might be adjusted to, one would fit by chance.
    """
    best, least = None, np.inf
    for basis in found[1:]:
        shift = np.log(basis.prices)
        on = (np.abs(shift) > 0) & np.isfinite(log_ratio)
        if basis.weight != int(basis.weight) or np.count_nonzero(on) < FEWEST_TOUCHED:
            continue
        before, after = np.abs(log_ratio[on]), np.abs(log_ratio[on] - shift[on])
        taken = before - after
        error = float(np.std(taken, ddof=1)) / np.sqrt(len(taken))
        is_much = after.mean() <= (1 - SHARE_TAKEN_AWAY) * before.mean()
        total = float(np.abs(log_ratio - shift)[np.isfinite(log_ratio)].sum())
        if is_much and taken.mean() > STANDARD_ERRORS * error and total < least:
            best, least = basis, total
    return best
