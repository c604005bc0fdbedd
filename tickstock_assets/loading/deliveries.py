"""Landed payloads read back: the newest answer for each day, parsed, in batches of bounded size."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from sqlalchemy import Engine

from tickstock_assets.domain.windows import WHOLE_MARKET, Window, not_covered
from tickstock_assets.loading.coverage import windows_of_symbols
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
        windows: the days that they answer for.
        landed_by: when the newest of their payloads was landed (UTC).
        frame: parsed, with `asked_for`, the symbol that was asked for.
        raw: the same rows as they came, one table a payload.
    """

    windows: list[Window]
    landed_by: datetime
    frame: pd.DataFrame
    raw: list[pa.Table]

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
        stored = ledger.stored(connection, source, symbols) if new else []
    parts = _not_stored(served(entries, windows), stored)
    batch: list[_Part] = []
    possible = _Possible(min(route.history_start for route in provider.routes(dataset)))
    for entry, of_entry in sorted(parts, key=lambda part: (part[0].window.symbol, part[0].window.start)):
        raw = landing.read(folder, entry.file.path, entry.file.sha256)
        batch.append(_chosen(provider.parse(dataset, raw), raw, entry, of_entry, possible))
        if sum(len(part.frame) for part in batch) >= BATCH_ROWS:
            yield _joined(batch)
            batch = []
    if batch:
        yield _joined(batch)


def _not_stored(
    parts: Sequence[tuple[Entry, list[Window]]], stored: Sequence[tuple[Window, datetime]]
) -> list[tuple[Entry, list[Window]]]:
    """Return what of each entry was not yet landed when its symbol's days were stored last."""
    if not stored:
        return list(parts)
    by_symbol: dict[str, list[tuple[Window, datetime]]] = {}
    for window, landed_by in stored:
        by_symbol.setdefault(window.symbol, []).append((window, landed_by))
    left: list[tuple[Entry, list[Window]]] = []
    for entry, windows in parts:
        new: list[Window] = []
        for symbol, of_symbol in windows_of_symbols(windows).items():
            have = [window for window, landed_by in by_symbol.get(symbol, ()) if landed_by >= entry.landed_at]
            new += not_covered(of_symbol, have)
        if new:
            left.append((entry, new))
    return left


def served(entries: Sequence[Entry], windows: Sequence[Window]) -> list[tuple[Entry, list[Window]]]:
    """Return for each entry the parts of `windows` that it is the newest answer to; entries without any are left out."""
    remaining = windows_of_symbols(windows)
    parts: list[tuple[Entry, list[Window]]] = []
    for entry in reversed(entries):
        symbols = list(remaining) if entry.window.symbol == WHOLE_MARKET else [entry.window.symbol]
        of_entry: list[Window] = []
        for symbol in symbols:
            wanted = remaining.get(symbol, [])
            left = not_covered(wanted, [replace(entry.window, symbol=symbol)])
            of_entry += not_covered(wanted, left)
            remaining[symbol] = left
        if of_entry:
            parts.append((entry, of_entry))
    return parts


@dataclass(frozen=True)
class _Part:
    entry: Entry
    windows: list[Window]
    frame: pd.DataFrame
    raw: pa.Table


@dataclass(frozen=True)
class _Possible:
    """From which day on rows can have a date, and which rows without a possible one have come already."""

    first: date
    strays: set[tuple[str, str]] = field(default_factory=set)


def _chosen(frame: pd.DataFrame, raw: pa.Table, entry: Entry, windows: list[Window], possible: _Possible) -> _Part:
    """Return a payload's rows of some windows, and those that belong to none."""
    asked_for = frame["symbol"] if entry.window.symbol == WHOLE_MARKET else pd.Series(entry.window.symbol, frame.index)
    last = entry.landed_at.date()
    is_stray = (~frame["date"].between(pd.Timestamp(possible.first), pd.Timestamp(last))).to_numpy()
    chosen = _within(frame["date"], asked_for, windows)
    chosen |= is_stray & asked_for.isin({window.symbol for window in windows}).to_numpy()
    known = frozenset(possible.strays)
    for place in np.flatnonzero(chosen & is_stray):
        # Equal rows of one payload are so many rows; the same row in another payload is the same once more.
        sent = (str(asked_for.iloc[place]), json.dumps(raw.slice(int(place), 1).to_pylist(), default=str))
        chosen[place] = sent not in known
        possible.strays.add(sent)
    if not chosen.all():
        frame, asked_for, raw = frame[chosen], asked_for[chosen], raw.filter(pa.array(chosen))
    return _Part(entry, windows, frame.assign(asked_for=asked_for.astype("str")), raw)


def _within(dates: pd.Series, symbols: pd.Series, windows: Sequence[Window]) -> npt.NDArray[np.bool_]:
    """Return which rows lie in one of the windows."""
    symbols_of: dict[tuple[date, date], list[str]] = {}
    for window in windows:
        symbols_of.setdefault((window.start, window.end), []).append(window.symbol)
    inside = np.zeros(len(dates), np.bool_)
    for (start, end), of_days in symbols_of.items():
        inside |= (dates.between(pd.Timestamp(start), pd.Timestamp(end)) & symbols.isin(of_days)).to_numpy()
    return inside


def _joined(parts: Sequence[_Part]) -> Delivery:
    return Delivery(
        [window for part in parts for window in part.windows],
        max(part.entry.landed_at for part in parts),
        pd.concat([part.frame for part in parts], ignore_index=True),
        [part.raw for part in parts],
    )
