"""Windows of history with a moment each, such as when they were landed; of every day the newest moment counts.

Elsewhere: windows without one (windows.py).
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from tickstock_assets.domain.windows import Window, not_covered


class MarkedWindows:
    """Windows, each marked with a moment; they may overlap."""

    def __init__(self, marked: Iterable[tuple[Window, datetime]]) -> None:
        # By symbol, in order and without a day in common, each with the newest moment of its days.
        self._apart: dict[str, list[tuple[Window, datetime]]] = {}
        for window, moment in sorted(marked, key=lambda one: one[1], reverse=True):
            newer = self._apart.setdefault(window.symbol, [])
            for part in not_covered([window], [have for have, _ in _sharing_days(newer, window)]):
                insort(newer, (part, moment))

    def older(self, windows: Iterable[Window], moment: datetime) -> list[Window]:
        """Return the parts of windows that have no mark of a moment or of a later one, as the fewest windows."""
        wanted = list(windows)
        have = [
            marked
            for window in wanted
            for marked, at in _sharing_days(self._apart.get(window.symbol, ()), window)
            if at >= moment
        ]
        return not_covered(wanted, have)


def _sharing_days(apart: Sequence[tuple[Window, datetime]], window: Window) -> Iterator[tuple[Window, datetime]]:
    """Yield those of ordered windows of a symbol that share a day with another; the others are not looked at."""
    for place in range(bisect_left(apart, window.start, key=lambda one: one[0].end), len(apart)):
        if apart[place][0].start > window.end:
            return
        yield apart[place]
