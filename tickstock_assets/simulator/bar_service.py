"""Between market and vendors: the bars that an answer shall have, with the faults of this answer in them."""

from dataclasses import dataclass, field

import numpy as np

from tickstock_assets.simulator.asks import Ask
from tickstock_assets.simulator.bars import Bars, Row, midnight
from tickstock_assets.simulator.corruption import Page
from tickstock_assets.simulator.fault_play import FaultPlay
from tickstock_assets.simulator.faults import MENDED_LATER, OF_ROWS, Fault
from tickstock_assets.simulator.market import Market
from tickstock_assets.simulator.records import Record, WrongRow

type Parts = list[tuple[Bars, int, int]]


@dataclass
class Notes:
    """What the call that is being answered met, for its record."""

    faults: list[Fault] = field(default_factory=list)
    rows: int = 0


class BarService:
    """Decides what becomes of the rows of an answer, and enters it in the record."""

    def __init__(self, market: Market, play: FaultPlay, record: Record) -> None:
        self.market, self.play, self.record = market, play, record
        self.notes = Notes()
        # Bars that were answered rightly once are not missing or different later.
        self._known: set[tuple[str, str | None, int]] = set()
        self._reused_told: set[tuple[str, str | None, int]] = set()
        self._wrong: set[str] = set()

    def answered(self, ask: Ask, parts: Parts, *, descending: bool = False) -> list[Row] | None:
        """Return the rows to answer when a fault is in them, None when the parts are to be answered as they are.

        The symbol of the rows is the one to answer: another than the one asked for when that is the fault.
        """
        self.notes.rows = sum(after - first for _, first, after in parts)
        self._count_irregular(ask, parts)
        faults = sorted(self.play.of_rows(ask), key=OF_ROWS.index)
        rows = self._made_wrong(ask, parts, faults, descending) if faults else None
        self.play.delivered(ask)
        if rows is not None:
            self._wrong.add(ask.identity)
        if any(self.play.faults.chances.get(fault) for fault in MENDED_LATER) and not self.play.muted:
            for bars, first, after in parts:
                self._known |= {(bars.symbol, ask.timeframe, start) for start in bars.start_ms[first:after].tolist()}
        return rows

    def preview(self, ask: Ask, parts: Parts) -> list[Row] | None:
        """Return what `answered` would now return, without any trace in the record."""
        faults = sorted(self.play.drawn_for_rows(ask), key=OF_ROWS.index)
        page = Page(ask, self.play.faults.seed, rows_of(parts), lambda row: self._open(ask, row)) if faults else None
        done = [page.apply(fault) for fault in faults] if page else []
        return page.rows if page and any(done) else None

    def was_wrong(self, ask: Ask) -> bool:
        """Return whether an earlier answer to the same was made wrong."""
        return ask.identity in self._wrong

    def _made_wrong(self, ask: Ask, parts: Parts, faults: list[Fault], descending: bool) -> list[Row] | None:
        if Fault.WRONG_SYMBOL in faults:
            others = self._of_another(ask)
            if others:
                self._enter(ask, Fault.WRONG_SYMBOL, others[0], None)
                return others[::-1] if descending else others
            faults = [fault for fault in faults if fault is not Fault.WRONG_SYMBOL]
        rows = rows_of(parts)
        page = Page(ask, self.play.faults.seed, rows[::-1] if descending else rows, lambda row: self._open(ask, row))
        done = [fault for fault in faults if page.apply(fault)]
        for fault in done:
            self.notes.faults.append(fault)
        for fault, sent, true in page.changes:
            self._enter(ask, fault, sent, true, count=False)
        self.notes.rows = len(page.rows)
        return page.rows if done else None

    def _open(self, ask: Ask, row: Row) -> bool:
        """Return whether a bar may still change: it is recent, and was not answered before."""
        since = self.play.faults.unsettled_from
        recent = since is None or row["start_ms"] >= midnight(since)
        return recent and (row["symbol"], ask.timeframe, row["start_ms"]) not in self._known

    def _of_another(self, ask: Ask) -> list[Row]:
        """Return the rows of the next ticker that has some in the same window."""
        tickers = self.market.tickers
        if ask.symbol not in tickers or not ask.first or not ask.last or not ask.timeframe:
            return []
        at = tickers.index(ask.symbol)
        for ticker in [*tickers[at + 1 :], *tickers[:at]]:
            parts = self.market.window(ticker, ask.timeframe, ask.first, ask.last)
            if parts:
                return rows_of(parts)
        return []

    def _count_irregular(self, ask: Ask, parts: Parts) -> None:
        if self.market.fractional_volume and any((_volumes(part) % 1 != 0).any() for part in parts):
            self.notes.faults.append(Fault.FRACTIONAL_VOLUME)
        if not self.market.previous_holders or self.play.muted:
            return
        former = []
        for bars, first, after in parts:
            since = self.market.first_bar_ms(bars.symbol)
            if len(bars) and bars.start_ms[first] < since:
                former += [row for row in bars.cut(first, after).rows() if row["start_ms"] < since]
        if former:
            self.notes.faults.append(Fault.REUSED_TICKER)
        for row in former:
            name = (row["symbol"], ask.timeframe, row["start_ms"])
            if name not in self._reused_told:
                self._reused_told.add(name)
                self._enter(ask, Fault.REUSED_TICKER, row, None, count=False)

    def _enter(self, ask: Ask, fault: Fault, sent: Row | None, true: Row | None, *, count: bool = True) -> None:
        row = sent or true or {}
        if count:
            self.notes.faults.append(fault)
        self.record.wrong_rows.append(
            WrongRow(
                fault=fault,
                vendor=ask.vendor,
                route=ask.route,
                window=ask.window,
                symbol=ask.symbol or row["symbol"],
                timeframe=str(ask.timeframe),
                start_ms=row["start_ms"],
                sent=sent,
                true=true,
            )
        )


def rows_of(parts: Parts) -> list[Row]:
    """Return the rows of all parts, one after another."""
    return [row for bars, first, after in parts for row in bars.cut(first, after).rows()]


def part_of(parts: Parts, first: int, after: int) -> Parts:
    """Return the bars from one number to before another, counted over all parts."""
    inside = []
    begin = 0
    for bars, i, j in parts:
        start, stop = i + max(first - begin, 0), i + min(after - begin, j - i)
        if start < stop:
            inside.append((bars, start, stop))
        begin += j - i
    return inside


def _volumes(part: tuple[Bars, int, int]) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    bars, first, after = part
    return bars.columns["volume"][first:after]
