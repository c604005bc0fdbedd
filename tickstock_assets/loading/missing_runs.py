"""What is missing, as runs of sessions in arrays: a thousand symbols over ten years are planned in a second.

Elsewhere: which route serves a session (routing.py), windows of days (domain/windows.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from tickstock_assets.domain.windows import Window

type Days = npt.NDArray[np.datetime64]
type Places = npt.NDArray[np.intp]
ONE_DAY = np.timedelta64(1, "D")


@dataclass(frozen=True)
class Runs:
    """Runs of sessions that are missing of a symbol, none next to another; by symbol, then by day.

    Attributes:
        names: of the symbols, in order.
        symbol: place in `names`, per run.
        first, last: places in the calendar, both included.
        start, end: days asked for, both included; beyond the sessions there are only days without one.
    """

    names: Sequence[str]
    symbol: Places
    first: Places
    last: Places
    start: Days
    end: Days

    def before(self, day: np.datetime64, place: int) -> Self:
        """Return the parts before a day, which is not after the session at `place` and after the one before it."""
        kept = self._where(self.first < place)
        return replace(kept, last=np.minimum(kept.last, place - 1), end=np.minimum(kept.end, day - ONE_DAY))

    def since(self, day: np.datetime64, place: int) -> Self:
        """Return the other parts."""
        kept = self._where(self.last >= place)
        return replace(kept, first=np.maximum(kept.first, place), start=np.maximum(kept.start, day))

    def windows(self) -> list[Window]:
        """Return them as windows."""
        names = [self.names[place] for place in self.symbol]
        return [Window(*each) for each in zip(names, self.start.tolist(), self.end.tolist(), strict=True)]

    def _where(self, kept: npt.NDArray[np.bool_]) -> Self:
        arrays = {name: getattr(self, name)[kept] for name in ("symbol", "first", "last", "start", "end")}
        return replace(self, **arrays)


def missing_runs(windows: Sequence[Window], calendar: Days) -> Runs:
    """Return the runs of sessions that windows have, also where they overlap.

    Args:
        windows: of symbols; those without a session have no part in it.
        calendar: sessions, oldest first, each once.
    """
    names, symbol = np.unique(np.array([window.symbol for window in windows], dtype=object), return_inverse=True)
    start = np.array([window.start for window in windows], dtype="datetime64[D]")
    end = np.array([window.end for window in windows], dtype="datetime64[D]")
    first = np.searchsorted(calendar, start, side="left")
    last = np.searchsorted(calendar, end, side="right") - 1
    order = np.lexsort((first, symbol))
    order = order[(first <= last)[order]]
    symbol, first, last, start, end = symbol[order], first[order], last[order], start[order], end[order]
    # On one line for all symbols, each a stretch of its own, the furthest session so far is a running maximum.
    offset = symbol * (len(calendar) + 2)
    reached = np.maximum.accumulate(last + offset)
    opens = np.ones(len(order), dtype=bool)
    opens[1:] = (first + offset)[1:] > reached[:-1] + 1
    at = np.flatnonzero(opens)
    if not len(at):
        return Runs([], symbol, first, last, start, end)
    return Runs(
        names.tolist(),
        symbol[at],
        first[at],
        np.maximum.reduceat(last, at),
        np.minimum.reduceat(start, at),
        np.maximum.reduceat(end, at),
    )
