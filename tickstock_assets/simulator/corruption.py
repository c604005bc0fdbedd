"""Rows of an answer made wrong in known ways. Rows in, wrong rows out; nothing is remembered here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

import pandas as pd

from tickstock_assets.simulator.asks import Ask
from tickstock_assets.simulator.bars import NEW_YORK, Row, midnight
from tickstock_assets.simulator.calendar import sessions_between
from tickstock_assets.simulator.draws import choice, draw
from tickstock_assets.simulator.faults import Fault

MOST_MISSING = 3
SATURDAY = 5
TEN_HOURS = 10 * 3_600_000


@dataclass
class Page:
    """The rows of one answer while they are being made wrong.

    Attributes:
        ask: what was asked.
        seed: of the choices.
        rows: in the order of the answer.
        may_change: whether a row may still be missing or be corrected later.
        changes: fault, row as sent (None when left out), row as it should be (None when there should be none).
        touched: moments and symbols of rows that a fault has taken already.
    """

    ask: Ask
    seed: int
    rows: list[Row]
    may_change: Callable[[Row], bool]
    changes: list[tuple[Fault, Row | None, Row | None]] = field(default_factory=list)
    touched: set[tuple[str, int]] = field(default_factory=set)

    def apply(self, fault: Fault) -> bool:
        """Make the rows wrong in one way; return whether that was possible."""
        return ACTIONS[fault](self, fault)

    def choose(self, fault: Fault, allowed: Callable[[Row], bool] = lambda _row: True) -> int | None:
        """Return the index of a row that no fault has taken yet, and take it."""
        free = [n for n, row in enumerate(self.rows) if _name(row) not in self.touched and allowed(row)]
        if not free:
            return None
        index = free[choice(len(free), self.seed, fault, "row", self.ask.identity)]
        self.touched.add(_name(self.rows[index]))
        return index


def _name(row: Row) -> tuple[str, int]:
    return row["symbol"], row["start_ms"]


def _impossible_price(page: Page, fault: Fault) -> bool:
    index = page.choose(fault)
    if index is None:
        return False
    true = page.rows[index]
    match fault:
        case Fault.HIGH_BELOW_LOW:
            wrong = (
                {"high": true["low"], "low": true["high"]} if true["high"] > true["low"] else {"high": true["low"] / 2}
            )
        case Fault.ZERO_PRICE:
            wrong = {"open": 0.0}
        case _:
            wrong = {"close": -true["close"]}
    return _replace(page, fault, index, true | wrong)


def _other_values(page: Page, fault: Fault) -> bool:
    """Give a bar another close and volume, possible ones, that the next answer corrects."""
    index = page.choose(fault, page.may_change if fault is Fault.LATE_CORRECTION else lambda _row: True)
    if index is None:
        return False
    true = page.rows[index]
    close = true["low"] if true["close"] != true["low"] else true["high"]
    return _replace(page, fault, index, true | {"close": close, "volume": true["volume"] + 100})


def _replace(page: Page, fault: Fault, index: int, wrong: Row) -> bool:
    page.changes.append((fault, wrong, page.rows[index]))
    page.rows[index] = wrong
    return True


def _duplicate(page: Page, fault: Fault) -> bool:
    index = page.choose(fault)
    if index is None:
        return False
    page.rows.insert(index, page.rows[index])
    page.changes.append((fault, page.rows[index], page.rows[index]))
    return True


def _unsorted(page: Page, fault: Fault) -> bool:
    shuffled = sorted(page.rows, key=lambda row: draw(page.seed, fault, page.ask.identity, _name(row)))
    if shuffled == page.rows:
        shuffled = page.rows[::-1]
    if shuffled == page.rows:
        return False
    page.rows[:] = shuffled
    return True


def _missing(page: Page, fault: Fault) -> bool:
    found = False
    for _ in range(MOST_MISSING):
        index = page.choose(fault, page.may_change) if len(page.rows) > 1 else None
        if index is not None:
            page.changes.append((fault, None, page.rows.pop(index)))
            found = True
    return found


def _holiday(page: Page, fault: Fault) -> bool:
    """Add a bar on a day without a session, between the days that the answer has."""
    if not page.rows:
        return False
    moments = sorted(row["start_ms"] for row in page.rows)
    free = days_without_session(_day(moments[0]), _day(moments[-1]))
    if not free:
        return False
    day = free[choice(len(free), page.seed, fault, "day", page.ask.identity)]
    start_ms = midnight(day) + (TEN_HOURS if page.ask.timeframe == "1m" else 0)
    descending = page.rows[0]["start_ms"] > page.rows[-1]["start_ms"]
    at = next(n for n, row in enumerate(page.rows) if (row["start_ms"] > start_ms) != descending)
    invented = page.rows[at] | {"start_ms": start_ms}
    page.rows.insert(at, invented)
    page.touched.add(_name(invented))
    page.changes.append((fault, invented, None))
    return True


def _day(start_ms: int) -> date:
    return pd.Timestamp(start_ms, unit="ms", tz=NEW_YORK).date()


def days_without_session(first: date, last: date) -> Sequence[date]:
    """Return the holidays of the exchange that fall on a weekday, or the weekend days where there are none."""
    sessions = {day.date() for day in sessions_between(first, last)["session"]}
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    free = [day for day in days if day not in sessions]
    return [day for day in free if day.weekday() < SATURDAY] or free


ACTIONS: dict[Fault, Callable[[Page, Fault], bool]] = {
    Fault.HIGH_BELOW_LOW: _impossible_price,
    Fault.ZERO_PRICE: _impossible_price,
    Fault.NEGATIVE_PRICE: _impossible_price,
    Fault.HOLIDAY_BAR: _holiday,
    Fault.DUPLICATE_ROWS: _duplicate,
    Fault.UNSORTED_ROWS: _unsorted,
    Fault.MISSING_MINUTES: _missing,
    Fault.LATE_CORRECTION: _other_values,
    Fault.REPLACED_FILE: _other_values,
}
