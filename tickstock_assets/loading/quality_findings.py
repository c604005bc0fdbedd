"""Stored bars put before the rules of quality, a period at a time; what is found is entered, what no longer holds resolved.

A period is a year of daily bars or a month of minutes: what is found in it does not depend on what else is examined with
it, and so the cost is that of the periods asked for, however long the history is. Elsewhere: the rules (domain/anomalies).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import batched

import pandas as pd
from sqlalchemy import Connection, Engine

from tickstock_assets.domain.anomalies import RULES, Timeframe, find
from tickstock_assets.domain.windows import ONE_DAY, Window
from tickstock_assets.storage import audit, bars, examined_bars, quality_findings
from tickstock_assets.storage.minutes_dropped import dropped_before
from tickstock_assets.storage.quality_findings import FindingCounts
from tickstock_assets.storage.retry import in_transaction

# What a period is held against before it: two quarters of sessions, or twenty and some of minutes.
WARM_UP: dict[Timeframe, timedelta] = {"1d": timedelta(days=220), "1m": timedelta(days=35)}
# What can still change the findings at its end: the eleven bars after it (`LOOK_AHEAD_BARS`), over the longest weekend.
# So much of the period before is looked at again, when it is known what followed.
LOOK_AHEAD: dict[Timeframe, timedelta] = {"1d": timedelta(days=20), "1m": timedelta(days=5)}
# The bars of so many symbols are held at a time: a year, or a month of minutes.
SYMBOLS_AT_A_TIME: dict[Timeframe, int] = {"1d": 500, "1m": 25}
# The others that a symbol is held against: those examined with it, and these many with the most money traded.
OTHERS = 30
FREQUENCY: dict[Timeframe, str] = {"1d": "Y", "1m": "M"}


@dataclass(frozen=True)
class Period:
    """A year or a month of some symbols, to be examined at once."""

    timeframe: Timeframe
    symbols: tuple[str, ...]
    first: date
    last: date

    @property
    def looked_at(self) -> tuple[datetime, datetime]:
        """From when until before when what is found counts, UTC: the period, and the end of the one before."""
        start = datetime.combine(self.first - LOOK_AHEAD[self.timeframe], datetime.min.time(), UTC)
        # After-hours trading goes on past midnight UTC, and so belongs to the first hours of the next period.
        end = datetime.combine(self.last + ONE_DAY, datetime.min.time(), UTC)
        return start, end


def examine(engine: Engine, windows: Sequence[Window], run: audit.Run | None = None) -> FindingCounts:
    """Examine the stored daily and minute bars of the years and months that windows touch, and enter what is found."""
    total = FindingCounts()
    for period in periods(windows):
        with engine.connect() as connection:
            between = _still_there(connection, period)
            if between is None:
                continue
            found = _found(connection, period, between)
        enter = partial(
            quality_findings.enter,
            found=found,
            rules=RULES,
            timeframe=period.timeframe,
            symbols=period.symbols,
            between=between,
        )
        total += in_transaction(engine, enter, run)
    return total


def _still_there(connection: Connection, period: Period) -> tuple[datetime, datetime] | None:
    """Return from when until before when the bars of a period can be examined, None where there are none.

    What was found in minutes that retention has dropped since stays as it is.
    """
    if not examined_bars.has_bars(connection, period.timeframe, period.symbols, period.first, period.last):
        return None
    start, end = period.looked_at
    dropped = dropped_before(connection) if period.timeframe == "1m" else None
    start = max(start, dropped) if dropped else start
    return (start, end) if start < end else None


def periods(windows: Sequence[Window]) -> Iterator[Period]:
    """Yield the years of daily bars and the months of minutes that windows touch, each with its symbols."""
    for timeframe, frequency in FREQUENCY.items():
        touched: dict[pd.Period, set[str]] = {}
        for window in windows:
            for span in pd.period_range(window.start, window.end, freq=frequency):
                touched.setdefault(span, set()).add(window.symbol)
        for span, symbols in sorted(touched.items()):
            for group in batched(sorted(symbols), SYMBOLS_AT_A_TIME[timeframe]):
                yield Period(timeframe, group, span.start_time.date(), span.end_time.date())


def _found(connection: Connection, period: Period, between: tuple[datetime, datetime]) -> pd.DataFrame:
    """Return the findings of a period's own symbols in the time looked at, with the source of each bar."""
    others = examined_bars.most_traded(connection, period.first, period.last, OTHERS)
    symbols = sorted({*period.symbols, *others})
    read = {"1d": examined_bars.days, "1m": examined_bars.minutes}[period.timeframe]
    first, last = period.first - WARM_UP[period.timeframe], period.last + LOOK_AHEAD[period.timeframe]
    examined = read(connection, symbols, first, last)
    found = find(examined, bars.splits(connection), period.timeframe)
    own = found["symbol"].isin(period.symbols) & (found["timestamp"] >= between[0]) & (found["timestamp"] < between[1])
    return found[own].merge(examined[["symbol", "timestamp", "source"]], on=["symbol", "timestamp"])
