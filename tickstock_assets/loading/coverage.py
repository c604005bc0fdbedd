"""Which days of which symbols are landed for good, so that nobody need be asked for them again."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import Engine

from tickstock_assets.domain.errors import ProviderError
from tickstock_assets.domain.windows import ONE_DAY, WHOLE_MARKET, Window, merge_neighbours, span_of
from tickstock_assets.loading.lineup import Lineup, source_of
from tickstock_assets.providers.base import Dataset, Provider
from tickstock_assets.storage import ledger
from tickstock_assets.storage.ledger import Entry

# Days that can still change are asked for again, but not by a load that only goes on where another was stopped.
RECHECK_AFTER = timedelta(hours=1)


@dataclass(frozen=True)
class Coverage:
    """Windows that are landed from any provider and cannot have changed since; they may overlap.

    Attributes:
        windows: of the symbols that were asked about.
        doubts: a sentence for each provider that does not say whether it has replaced files; they count as they are.
    """

    windows: list[Window]
    doubts: list[str]


def covered(lineup: Lineup, engine: Engine, dataset: Dataset, wanted: Sequence[Window]) -> Coverage:
    """Return what is landed of some windows, and perhaps more."""
    symbols = sorted({window.symbol for window in wanted})
    have: list[Window] = []
    doubts: list[str] = []
    for provider in lineup:
        with engine.begin() as connection:
            entries = ledger.landed(connection, source_of(provider, dataset), symbols)
        try:
            entries = _as_published(provider, dataset, entries, wanted)
        except ProviderError as error:
            doubts.append(f"whether {provider.name} has replaced files is not known: {error}")
        for entry in entries:
            last = provider.settled_until(entry.landed_at)
            if datetime.now(UTC) - entry.landed_at < RECHECK_AFTER:
                last = entry.window.end
            if window := entry.window.clipped_to(last):
                have.append(window)
    return Coverage(of_each_symbol(have, wanted), doubts)


def of_each_symbol(landed: Iterable[Window], wanted: Sequence[Window]) -> list[Window]:
    """Return what is landed in the span of some windows, what is of the whole market for each of their symbols.

    That is merged first: a window for each of its days and symbols would be too many to hold.
    """
    if not wanted:
        return []
    first, last = span_of(wanted)
    near = windows_of_symbols(window for window in landed if window.end >= first and window.start <= last)
    market = merge_neighbours(near.pop(WHOLE_MARKET, []))
    own = [window for of_symbol in near.values() for window in of_symbol]
    symbols = sorted({window.symbol for window in wanted})
    return own + [replace(window, symbol=symbol) for symbol in symbols for window in market]


def _as_published(
    provider: Provider, dataset: Dataset, entries: Iterable[Entry], wanted: Sequence[Window]
) -> list[Entry]:
    """Return the entries without those whose file the provider has replaced since."""
    kept: list[Entry] = []
    files: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.etag is None:
            kept.append(entry)
        else:
            files.setdefault(entry.route, []).append(entry)
    if not files or not wanted:
        return kept
    first, last = span_of(wanted)
    for route, of_route in files.items():
        relevant = [entry for entry in of_route if entry.window.end >= first and entry.window.start <= last]
        now = provider.etags(dataset, route, sorted({entry.window.start for entry in relevant})) if relevant else {}
        kept += [entry for entry in relevant if now.get(entry.window.start) == entry.etag]
    return kept


def stored(lineup: Lineup, engine: Engine, dataset: Dataset, symbols: Sequence[str]) -> list[tuple[Window, datetime]]:
    """Return the windows of symbols whose landed bars are in their table, each with when the newest of them was landed."""
    with engine.connect() as connection:
        return [found for source in lineup.sources(dataset) for found in ledger.stored(connection, source, symbols)]


def up_to(windows: Iterable[Window], last: date) -> list[Window]:
    """Return the parts of windows up to a day."""
    return [clipped for window in windows if (clipped := window.clipped_to(last))]


def windows_of_symbols(windows: Iterable[Window]) -> dict[str, list[Window]]:
    """Return windows by their symbol."""
    by_symbol: dict[str, list[Window]] = {}
    for window in windows:
        by_symbol.setdefault(window.symbol, []).append(window)
    return by_symbol


def common_days(windows: Iterable[Window], other: Window) -> list[Window]:
    """Return the parts of windows that lie within another, which may be one of the whole market."""
    return [
        Window(window.symbol, max(window.start, other.start), min(window.end, other.end))
        for window in windows
        if other.symbol in {window.symbol, WHOLE_MARKET} and window.start <= other.end and other.start <= window.end
    ]


def by_year(window: Window) -> list[Window]:
    """Return the calendar years of a window, newest first."""
    return [
        Window(window.symbol, max(window.start, date(year, 1, 1)), min(window.end, date(year + 1, 1, 1) - ONE_DAY))
        for year in range(window.end.year, window.start.year - 1, -1)
    ]
