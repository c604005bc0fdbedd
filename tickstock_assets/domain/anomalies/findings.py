"""Findings as a frame: one row a finding, in the same columns from every rule."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

type Floats = npt.NDArray[np.float64]
type Flags = npt.NDArray[np.bool_]

COLUMNS = ["symbol", "timestamp", "rule", "severity", "reason", "evidence"]


def findings(
    bars: pd.DataFrame,
    places: npt.NDArray[np.intp],
    rule: str,
    *,
    severity: Sequence[str] | npt.NDArray[np.str_],
    reasons: Sequence[str],
    evidence: Mapping[str, Sequence[object]],
) -> pd.DataFrame:
    """Return the findings at these places of the bars.

    Args:
        bars: as the package says.
        places: shape (n,), the bar each finding is stamped with.
        rule: its name.
        severity: shape (n,), info, warning or error.
        reasons: n sentences with the values.
        evidence: name to n values that JSON can say.
    """
    at = bars.iloc[places]
    columns = list(evidence.values())
    return pd.DataFrame(
        {
            "symbol": at["symbol"].to_numpy(),
            "timestamp": at["timestamp"].array,
            "rule": rule,
            "severity": list(severity),
            "reason": list(reasons),
            "evidence": pd.Series(
                [dict(zip(evidence, values, strict=True)) for values in zip(*columns, strict=True)], dtype=object
            ),
        },
        columns=COLUMNS,
    )


def plain(values: Floats, digits: int = 4) -> list[float | None]:
    """Return numbers for JSON, rounded to so many significant digits after the first; None for NaN."""
    return [None if np.isnan(value) else float(f"{value:.{digits}g}") for value in values]
