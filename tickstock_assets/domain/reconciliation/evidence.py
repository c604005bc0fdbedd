"""The causes that were found, each put to its own test, with the numbers it rests on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tickstock_assets.domain.reconciliation.pairing import Model, Pair, residuals, summary
from tickstock_assets.domain.reconciliation.report import Cause, Explanation
from tickstock_assets.domain.reconciliation.rounding import Grid, relative_difference
from tickstock_assets.domain.splits import Floats

type Mask = npt.NDArray[np.bool_]

# Of the values above the threshold that a cause touches, it must bring at least this share below; where other
# differences keep them above, it must take this share of their median difference away.
MARGIN = 0.5
# The second is no evidence for a rule that is exact, only for a factor.
_MAY_STAY_ABOVE: tuple[Cause, ...] = (
    "adjustment_basis",
    "suspected_unrecorded_split",
    "suspected_unrecorded_adjustment",
)


@dataclass(frozen=True)
class Found:
    """A cause with its effect: left / right of shape (n_fields, n_bars), or the rounding of a side."""

    cause: Cause
    sentence: str
    evidence: Mapping[str, object]
    ratio: Floats | None = None
    grid: Grid | None = None


@dataclass(frozen=True)
class Trial:
    """How many values above the threshold a cause touches, without and with it, and their median difference."""

    touched: Mask
    cells_without: int
    cells_with: int
    median_without: float
    median_with: float

    def passes(self, cause: Cause) -> bool:
        """Say whether the residual falls by the margin."""
        if self.cells_without == 0:
            return False
        brought_below = self.cells_with <= (1 - MARGIN) * self.cells_without
        taken_away = self.median_with <= (1 - MARGIN) * self.median_without
        return brought_below or (cause in _MAY_STAY_ABOVE and taken_away)


def model_of(pair: Pair, found: Sequence[Found]) -> Model:
    """Return the model of all causes together."""
    ratio = np.ones_like(pair.left)
    for cause in found:
        ratio = ratio if cause.ratio is None else ratio * cause.ratio
    grids = {cause.cause: cause.grid for cause in found if cause.grid}
    return Model(ratio, grids.get("price_rounding"), grids.get("fractional_volume"))


def borne_out(pair: Pair, found: Sequence[Found]) -> list[Found]:
    """Return the causes that pass their test in the company of the others that do."""
    kept = list(found)
    while True:
        failing = [cause for cause in kept if not tried(pair, kept, cause).passes(cause.cause)]
        if not failing:
            return kept
        # The last first: it was found under the assumption of those before it.
        kept.remove(failing[-1])


def tried(pair: Pair, found: Sequence[Found], cause: Found) -> Trial:
    """Return what a cause does when all others are in force."""
    others = [other for other in found if other is not cause]
    without, with_it = (residuals(pair, model_of(pair, causes)) for causes in (others, found))
    if cause.ratio is not None:
        touched = relative_difference(cause.ratio, np.ones_like(cause.ratio)) > pair.thresholds
    else:
        rows = pair.volume if cause.cause == "fractional_volume" else pair.prices
        touched = np.zeros(pair.left.shape, dtype=bool)
        touched[rows] = (without > pair.thresholds)[rows]
    on = touched & (without > pair.thresholds)
    return Trial(
        touched,
        int(np.count_nonzero(on)),
        int(np.count_nonzero(touched & (with_it > pair.thresholds))),
        float(np.median(without[on])) if on.any() else 0.0,
        float(np.median(with_it[on])) if on.any() else 0.0,
    )


def explanations(pair: Pair, found: Sequence[Found]) -> tuple[Explanation, ...]:
    """Return the report of each cause, in the order in which they are applied."""
    told = []
    before = summary(pair, model_of(pair, []))
    for number, cause in enumerate(found):
        after = summary(pair, model_of(pair, found[: number + 1]))
        trial = tried(pair, found, cause)
        bars = np.flatnonzero(trial.touched.any(axis=0))
        evidence = {
            **cause.evidence,
            "cells_above_without": trial.cells_without,
            "cells_above_with": trial.cells_with,
            "median_residual_without": trial.median_without,
            "median_residual_with": trial.median_with,
        }
        first, last = (pair.moment(int(bars[0])), pair.moment(int(bars[-1]))) if len(bars) else (None, None)
        told.append(Explanation(cause.cause, cause.sentence, evidence, len(bars), first, last, before, after))
        before = after
    return tuple(told)
