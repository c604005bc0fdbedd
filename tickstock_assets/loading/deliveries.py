"""Landed payloads read back: the newest answer for each day, parsed, in batches of bounded size."""

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from sqlalchemy import Engine

from tickstock_assets.domain.marked_windows import MarkedWindows
from tickstock_assets.domain.windows import ONE_DAY, WHOLE_MARKET, Window, merge_neighbours, span_of
from tickstock_assets.loading.coverage import common_days, windows_of_symbols
from tickstock_assets.loading.lineup import source_of
from tickstock_assets.providers.base import Dataset, Provider
from tickstock_assets.storage import landing, ledger
from tickstock_assets.storage.ledger import Entry

# What is read, judged and written at a time; memory is bounded by this and by the largest payload.
BATCH_ROWS = 200_000


@dataclass(frozen=True)
class Delivery:
    """Rows of one provider.

    Attributes:
        landed: the days that they answer for, by when the payload with them was landed (UTC).
        frame: parsed, with `asked_for`, the symbol that was asked for.
        raw: the same rows as they came, one table a payload.
    """

    landed: Mapping[datetime, Sequence[Window]]
    frame: pd.DataFrame
    raw: list[pa.Table]

    @property
    def windows(self) -> list[Window]:
        """All days that they answer for."""
        return [window for windows in self.landed.values() for window in windows]

    def as_sent(self, index: Sequence[int]) -> list[dict[str, object]]:
        """Return rows by their place in `frame`, as they came."""
        ends = np.cumsum([table.num_rows for table in self.raw])
        rows: list[dict[str, object]] = []
        for place in index:
            table = int(np.searchsorted(ends, place, side="right"))
            start = int(ends[table - 1]) if table else 0
            rows += self.raw[table].slice(place - start, 1).to_pylist()
        return rows


def deliveries(
    provider: Provider, dataset: Dataset, engine: Engine, folder: Path, windows: Sequence[Window], *, new: bool = False
) -> Iterator[Delivery]:
    """Yield the landed rows of `windows`; where payloads overlap the newest one counts.

    Rows whose date cannot be read, or is one that nobody can have data for, belong to no window. They come once, with a
    payload that has them, so that each reaches the quarantine.

    Args:
        provider: whose.
        dataset: bars of which kind.
        engine: of the database with the ledger.
        folder: where payloads are landed.
        windows: whose bars, and which days.
        new: only of payloads whose rows have not reached their table yet.
    """
    source, symbols = source_of(provider, dataset), {window.symbol for window in windows}
    with engine.begin() as connection:
        entries = ledger.landed(connection, source, symbols)
        stored = ledger.stored(connection, source, symbols, *span_of(windows)) if new and windows else []
    parts = _not_stored(served(entries, windows), MarkedWindows(stored))
    possible = _Possible(min(route.history_start for route in provider.routes(dataset)))
    batch: list[_Payload] = []
    n_rows = 0
    for entry, of_entry in sorted(parts, key=lambda part: (part[0].window.symbol, part[0].window.start)):
        raw = landing.read(folder, entry.file.path, entry.file.sha256)
        batch.append(_Payload(entry, of_entry, raw))
        n_rows += raw.num_rows
        if n_rows >= BATCH_ROWS:
            yield _delivery(provider, dataset, batch, possible)
            batch, n_rows = [], 0
    if batch:
        yield _delivery(provider, dataset, batch, possible)


def _not_stored(parts: Iterable[tuple[Entry, list[Window]]], stored: MarkedWindows) -> list[tuple[Entry, list[Window]]]:
    """Return what of each entry was not yet landed when its symbol's days were stored last."""
    new = [(entry, stored.older(windows, entry.landed_at)) for entry, windows in parts]
    return [(entry, windows) for entry, windows in new if windows]


def served(entries: Sequence[Entry], windows: Sequence[Window]) -> list[tuple[Entry, list[Window]]]:
    """Return for each entry the parts of `windows` that it is the newest answer to; entries without any are left out."""
    # Of each symbol in order and apart, so that what an entry has none of need not be looked at.
    remaining = windows_of_symbols(merge_neighbours(windows))
    parts: list[tuple[Entry, list[Window]]] = []
    for entry in reversed(entries):
        of_entry: list[Window] = []
        for symbol in list(remaining) if entry.window.symbol == WHOLE_MARKET else [entry.window.symbol]:
            of_entry += _take(remaining, symbol, entry.window)
        if of_entry:
            parts.append((entry, of_entry))
        if not remaining:
            break
    return parts


def _take(remaining: dict[str, list[Window]], symbol: str, answer: Window) -> list[Window]:
    """Return what an answer has of what remains of a symbol, and take it off."""
    windows = remaining.get(symbol, [])
    begin = bisect_left(windows, answer.start, key=lambda window: window.end)
    end = bisect_right(windows, answer.end, key=lambda window: window.start)
    touched = windows[begin:end]
    if not touched:
        return []
    left: list[Window] = []
    if touched[0].start < answer.start:
        left.append(Window(symbol, touched[0].start, answer.start - ONE_DAY))
    if touched[-1].end > answer.end:
        left.append(Window(symbol, answer.end + ONE_DAY, touched[-1].end))
    windows[begin:end] = left
    if not windows:
        del remaining[symbol]
    return common_days(touched, answer)


@dataclass(frozen=True)
class _Payload:
    entry: Entry
    windows: list[Window]
    raw: pa.Table


@dataclass(frozen=True)
class _Possible:
    """From which day on rows can have a date, and which rows without a possible one have come already."""

    first: date
    strays: set[tuple[str, str]] = field(default_factory=set)


def _delivery(provider: Provider, dataset: Dataset, payloads: Sequence[_Payload], possible: _Possible) -> Delivery:
    """Return the rows of some payloads that lie in their windows, and those that belong to none."""
    frame = _parsed(provider, dataset, [payload.raw for payload in payloads])
    counts = [payload.raw.num_rows for payload in payloads]
    # Each row's payload, and what is known of that.
    place = np.repeat(np.arange(len(payloads)), counts)
    asked = np.array([payload.entry.window.symbol for payload in payloads], dtype=object)[place]
    asked_for = pd.Series(np.where(asked == WHOLE_MARKET, frame["symbol"], asked), frame.index, dtype="str")
    landed_on = np.array([payload.entry.landed_at.date() for payload in payloads], dtype="datetime64[D]")[place]
    dates = frame["date"].to_numpy("datetime64[D]")
    is_stray = ~((dates >= np.datetime64(possible.first)) & (dates <= landed_on))
    chosen = _within(payloads, place, dates, asked_for)
    chosen |= is_stray & _is_wanted(payloads, place, asked_for)
    ends = np.cumsum(counts)
    known: frozenset[tuple[str, str]] = frozenset()
    last = -1
    for row in np.flatnonzero(chosen & is_stray):
        # Equal rows of one payload are so many rows; the same row in another payload is the same once more.
        if place[row] != last:
            known, last = frozenset(possible.strays), place[row]
        raw = payloads[place[row]].raw
        sent = json.dumps(raw.slice(int(row - ends[place[row]] + raw.num_rows), 1).to_pylist(), default=str)
        chosen[row] = (asked_for[row], sent) not in known
        possible.strays.add((asked_for[row], sent))
    tables = [payload.raw for payload in payloads]
    if not chosen.all():
        masks = np.split(chosen, ends[:-1])
        tables = [raw.filter(pa.array(mask)) for raw, mask in zip(tables, masks, strict=True)]
        frame, asked_for = frame[chosen], asked_for[chosen]
    landed: dict[datetime, list[Window]] = {}
    for payload in payloads:
        landed.setdefault(payload.entry.landed_at, []).extend(payload.windows)
    return Delivery(landed, frame.assign(asked_for=asked_for).reset_index(drop=True), tables)


def _parsed(provider: Provider, dataset: Dataset, tables: Sequence[pa.Table]) -> pd.DataFrame:
    """Return the rows of payloads one after another; those of equal columns are parsed at once, which costs as one."""
    runs = [list(run) for _, run in groupby(tables, lambda table: str(table.schema.remove_metadata()))]
    frames = [
        provider.parse(
            dataset, pa.concat_tables([table.replace_schema_metadata(run[0].schema.metadata) for table in run])
        )
        for run in runs
    ]
    return pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]


def _within(
    payloads: Sequence[_Payload], place: npt.NDArray[np.intp], dates: npt.NDArray[np.datetime64], asked_for: pd.Series
) -> npt.NDArray[np.bool_]:
    """Return which rows lie in a window that their payload is the newest answer for."""
    firsts = np.array([payload.windows[0].start for payload in payloads], dtype="datetime64[D]")
    lasts = np.array([payload.windows[0].end for payload in payloads], dtype="datetime64[D]")
    inside: npt.NDArray[np.bool_] = (dates >= firsts[place]) & (dates <= lasts[place])
    for number, payload in enumerate(payloads):
        if len(payload.windows) == 1 and payload.entry.window.symbol != WHOLE_MARKET:
            continue
        rows = slice(*np.searchsorted(place, [number, number + 1]))
        inside[rows] = False
        symbols_of: dict[tuple[date, date], list[str]] = {}
        for window in payload.windows:
            symbols_of.setdefault((window.start, window.end), []).append(window.symbol)
        for (start, end), symbols in symbols_of.items():
            within_days = (dates[rows] >= np.datetime64(start)) & (dates[rows] <= np.datetime64(end))
            inside[rows] |= within_days & asked_for.iloc[rows].isin(symbols).to_numpy()
    return inside


def _is_wanted(
    payloads: Sequence[_Payload], place: npt.NDArray[np.intp], asked_for: pd.Series
) -> npt.NDArray[np.bool_]:
    """Return which rows are of a symbol that is wanted of their payload."""
    wanted = np.ones(len(asked_for), np.bool_)
    for number, payload in enumerate(payloads):
        if payload.entry.window.symbol == WHOLE_MARKET:
            rows = slice(*np.searchsorted(place, [number, number + 1]))
            wanted[rows] = asked_for.iloc[rows].isin({window.symbol for window in payload.windows}).to_numpy()
    return wanted
