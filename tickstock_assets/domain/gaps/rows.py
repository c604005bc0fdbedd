"""What a gap is as a row."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

type GapClass = Literal["holiday", "half_day", "halt", "no_trade", "provider_hole", "not_yet_published", "removed"]

CLASSES: tuple[GapClass, ...] = get_args(GapClass.__value__)
# What the calendar explains: no bar of a session is missing.
BY_CALENDAR: tuple[GapClass, ...] = ("holiday", "half_day")
COLUMNS = ("symbol", "gap_start", "gap_end", "missing_bars", "class", "evidence")
# Digits of a number in evidence: enough to check it by, few enough that a re-run on another machine says the same.
DIGITS = 6


def gap_rows(rows: Iterable[Mapping[Any, Any]]) -> pd.DataFrame:
    """Return gaps as a frame, in the order of symbol and time.

    Returns:
        symbol, gap_start and gap_end (UTC; start of the first and of the last missing bar), missing_bars, class, evidence
        (a dict of numbers).
    """
    frame = pd.DataFrame(list(rows), columns=list(COLUMNS))
    for name in ("gap_start", "gap_end"):
        frame[name] = pd.to_datetime(frame[name], utc=True).astype("datetime64[us, UTC]")
    return frame.astype({"symbol": "str", "missing_bars": "int64", "class": "str"}).sort_values(
        ["symbol", "gap_start"], kind="stable", ignore_index=True
    )


def number(value: float) -> float | None:
    """Return a number as evidence has it; None where it is not known."""
    if not np.isfinite(value):
        return None
    rounded = float(f"{value:.{DIGITS}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded
