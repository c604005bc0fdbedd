"""What a reconciliation tells: how far two providers' bars are apart, why, and what stays open.

Elsewhere: finding it (the other modules here), showing it (cli/reconcile.py).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any, Literal

type Side = Literal["left", "right"]
type Cause = Literal[
    "adjustment_basis",
    "suspected_unrecorded_split",
    "suspected_unrecorded_adjustment",
    "session_scope",
    "missing_minutes",
    "price_rounding",
    "fractional_volume",
]
type Evidence = Mapping[str, Any]

SUSPICIONS: tuple[Cause, ...] = ("suspected_unrecorded_split", "suspected_unrecorded_adjustment")


@dataclass(frozen=True)
class Residual:
    """How far one field of the matched bars is apart: |left - right| / the larger of the two, without a unit.

    `share_above` is the share of bars above the threshold, 0 to 1. All are 0 when no bar matched.
    """

    median: float
    p99: float
    max: float
    share_above: float


@dataclass(frozen=True)
class Explanation:
    """One cause that the data bear out.

    Attributes:
        cause: what it is.
        sentence: the same for a person.
        evidence: the numbers it rests on. `cells_above_without` and `cells_above_with` count values of matched bars
            above the threshold, among those the cause touches, with all other explanations in force.
        bars: how many matched bars it touches.
        first, last: the first and the last of those, None when there are none.
        before, after: the residual of every field before and after this step.
    """

    cause: Cause
    sentence: str
    evidence: Evidence
    bars: int
    first: date | datetime | None
    last: date | datetime | None
    before: Mapping[str, Residual]
    after: Mapping[str, Residual]

    @property
    def is_suspicion(self) -> bool:
        """Say whether it rests on the bars alone, with nothing recorded that bears it out."""
        return self.cause in SUSPICIONS


@dataclass(frozen=True)
class UnexplainedBar:
    """A matched bar of which a field stays above the threshold; values as the providers gave them."""

    time: date | datetime
    fields: tuple[str, ...]
    left: Mapping[str, float]
    right: Mapping[str, float]
    residual: Mapping[str, float]


@dataclass(frozen=True)
class Reconciliation:
    """Two providers' bars of one symbol compared.

    Attributes:
        symbol, timeframe: of the bars; the timeframe is "1d" or "1m".
        matched, only_left, only_right: numbers of bars, by date or timestamp.
        only_left_outside_sessions, only_right_outside_sessions: of those, the ones outside regular hours or on a day
            that is no session.
        threshold, volume_threshold: the relative difference from which on a price, a volume counts as different.
        before, after: the residual of every field as given, and with all explanations in force.
        explanations: what was borne out, in the order in which it was applied.
        unexplained: the first bars that stay above a threshold.
        unexplained_bars: how many there are.
    """

    symbol: str
    timeframe: str
    matched: int
    only_left: int
    only_right: int
    only_left_outside_sessions: int
    only_right_outside_sessions: int
    threshold: float
    volume_threshold: float
    before: Mapping[str, Residual]
    after: Mapping[str, Residual]
    explanations: tuple[Explanation, ...]
    unexplained: tuple[UnexplainedBar, ...]
    unexplained_bars: int

    @property
    def explained(self) -> bool:
        """Say whether every matched bar is within the thresholds and nothing of that rests on a suspicion."""
        suspected = any(explanation.is_suspicion for explanation in self.explanations)
        return self.matched > 0 and self.unexplained_bars == 0 and not suspected

    def as_dict(self) -> dict[str, Any]:
        """Return it all as plain values, dates as ISO text."""
        plain: dict[str, Any] = _plain({**asdict(self), "explained": self.explained})
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value.isoformat() if isinstance(value, date) else value
