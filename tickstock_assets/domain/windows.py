"""Windows of history: one symbol, from a first to a last day."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # windows are in the settings' words too, and pandas takes most of a second to import
    import pandas as pd

ONE_DAY = timedelta(days=1)
# As the symbol of a window: every symbol of the market.
WHOLE_MARKET = "*"


@dataclass(frozen=True, order=True)
class Window:
    """The days from `start` to `end`, both included, of one symbol."""

    symbol: str
    start: date
    end: date

    def clipped_to(self, last: date) -> "Window | None":
        """Return the part up to `last`, or None when it begins after that."""
        return None if self.start > last else Window(self.symbol, self.start, min(self.end, last))

    def __str__(self) -> str:
        return f"{self.symbol} {self.start}..{self.end}"


def span_of(windows: Collection[Window]) -> tuple[date, date]:
    """Return the first and the last day of windows, of which there is one at least."""
    return min(window.start for window in windows), max(window.end for window in windows)


def merge_neighbours(windows: Iterable[Window]) -> list[Window]:
    """Return the fewest windows that cover the same days, in order; windows that touch or overlap become one."""
    merged: list[Window] = []
    for window in sorted(windows):
        last = merged[-1] if merged else None
        if last and last.symbol == window.symbol and window.start <= last.end + ONE_DAY:
            merged[-1] = Window(last.symbol, last.start, max(last.end, window.end))
        else:
            merged.append(window)
    return merged


def not_covered(wanted: Iterable[Window], covered: Iterable[Window]) -> list[Window]:
    """Return the parts of `wanted` that no window of `covered` has, as the fewest windows."""
    by_symbol = {symbol: list(group) for symbol, group in groupby(merge_neighbours(covered), lambda w: w.symbol)}
    missing: list[Window] = []
    for window in merge_neighbours(wanted):
        start = window.start
        for have in by_symbol.get(window.symbol, []):
            if have.end < start or have.start > window.end:
                continue
            if have.start > start:
                missing.append(Window(window.symbol, start, have.start - ONE_DAY))
            start = have.end + ONE_DAY
        if start <= window.end:
            missing.append(Window(window.symbol, start, window.end))
    return missing


def rows_inside(frame: "pd.DataFrame", time_column: str, windows: Iterable[Window]) -> "pd.DataFrame":
    """Return the rows whose symbol and time lie in one of the windows; a day lasts from midnight to midnight UTC."""
    days = frame[time_column].dt.tz_localize(None) if frame[time_column].dt.tz is not None else frame[time_column]
    inside = frame["symbol"].isin([])
    # Windows of many symbols mostly share their days, so that each span is looked for once.
    symbols_of: dict[tuple[date, date], list[str]] = {}
    for window in windows:
        symbols_of.setdefault((window.start, window.end), []).append(window.symbol)
    for (start, end), symbols in symbols_of.items():
        within_days = (days >= datetime.combine(start, time())) & (days < datetime.combine(end + ONE_DAY, time()))
        inside |= within_days & frame["symbol"].isin(symbols)
    return frame[inside]
