"""What a backfill is to load: held against what can be had, and what of it is not there yet.

Elsewhere: the requests that it becomes (storage/backfill_requests.py), the runs that those become (defs/).
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import pandas as pd
from sqlalchemy import Connection, Engine

from tickstock_assets.domain.errors import ConfigError, ProviderError
from tickstock_assets.domain.timeframes import Timeframe
from tickstock_assets.domain.windows import Window, merge_neighbours, not_covered, span_of
from tickstock_assets.loading.calendar import session_days
from tickstock_assets.loading.coverage import covered, stored, up_to
from tickstock_assets.loading.lineup import Lineup
from tickstock_assets.loading.load import Loader, Outcome
from tickstock_assets.providers.base import Dataset
from tickstock_assets.storage import bars

DATASETS: Mapping[Timeframe, Dataset] = {"1d": Dataset.DAILY_BARS, "1m": Dataset.MINUTE_BARS}
# What a partition holds of a symbol, as a frequency of pandas.
PERIODS: Mapping[Dataset, str] = {Dataset.DAILY_BARS: "Y", Dataset.MINUTE_BARS: "M"}
# More requests than this become one that spans them: what is landed is not fetched again.
MOST_REQUESTS = 10
SUGGESTED = 3


@dataclass(frozen=True)
class Rectangle:
    """Some symbols over the same days: what one request asks for."""

    symbols: Sequence[str]
    start: date
    end: date


def within(lineup: Lineup, dataset: Dataset, first_partition: date, wanted: tuple[date, date]) -> tuple[date, date]:
    """Return the part of a span of days that the providers can have and that has partitions.

    Raises:
        ConfigError: it ends before it begins, or there is no such part.
    """
    start, end = wanted
    if start > end:
        raise ConfigError(f"--start: expected a day up to --end {end}, found {start}; swap them")
    first, last = lineup.span(dataset)
    first = max(first, first_partition)
    if end < first or start > last:
        who = ", ".join(provider.name for provider in lineup)
        raise ConfigError(
            f"--start and --end: expected days from {first} to {last}, which {who} can have, found {start} to {end}"
        )
    return max(start, first), min(end, last)


def require_sessions(connection: Connection, symbols: Sequence[str], start: date, end: date) -> None:
    """Refuse a span in which nothing is traded.

    Raises:
        ConfigError: no exchange of the symbols has a session in it.
    """
    if not session_days(connection, start, end, symbols):
        raise ConfigError(f"--start and --end: expected a day with a session, found none from {start} to {end}")


def know_symbols(loader: Loader, dataset: Dataset, symbols: Sequence[str]) -> None:
    """See that some symbols are in the database, and splits and dividends of those of which no bars are stored yet.

    Raises:
        ConfigError: the providers have no such symbol.
        ProviderError: they could not be asked.
    """
    with loader.engine.connect() as connection:
        before = set(bars.symbols(connection)["symbol"])
    outcome = Outcome()
    loader.know(symbols, outcome)
    if outcome.unknown:
        symbol, reason = next(iter(outcome.unknown.items()))
        near = difflib.get_close_matches(symbol, sorted(before), n=SUGGESTED)
        meant = f"; did you mean {' or '.join(near)}?" if near else ""
        others = f", and {len(outcome.unknown) - 1} more" if len(outcome.unknown) > 1 else ""
        raise ConfigError(f"Symbols: expected some that a provider has, found {reason}{others}{meant}")
    if not outcome.problems:
        # What is measured on bars is measured on adjusted ones.
        loader.load_actions(without_bars(loader, [dataset], symbols), outcome)
    if outcome.problems:
        raise ProviderError(f"{outcome.problems[0]}; nothing was entered, run it again")


def incomplete(lineup: Lineup, engine: Engine, dataset: Dataset, asked: Rectangle) -> list[Window]:
    """Return the partitions, as windows within what is asked, of which days are not landed, not stored or may still change."""
    wanted = up_to([Window(symbol, asked.start, asked.end) for symbol in asked.symbols], lineup.horizon())
    landed = covered(lineup, engine, dataset, wanted).windows
    in_table = [window for window, _ in stored(lineup, engine, dataset, asked.symbols)]
    missing = [*not_covered(wanted, landed), *not_covered(wanted, in_table)]
    return merge_neighbours(_whole_partitions(window, dataset, asked) for window in missing)


def rectangles(windows: Sequence[Window]) -> list[Rectangle]:
    """Return windows as few rectangles, which may span more than them where they lie all over the place."""
    found = _of_equal_span(windows)
    if len(found) <= MOST_REQUESTS:
        return found
    return [Rectangle(sorted({window.symbol for window in windows}), *span_of(windows))]


def not_stored(lineup: Lineup, engine: Engine, dataset: Dataset, windows: Sequence[Window]) -> list[Window]:
    """Return the parts of windows, as far as anyone's history reaches, with sessions whose bars are not in their table."""
    wanted = up_to(lineup.within_reach(dataset, windows), lineup.horizon())
    in_table = [window for window, _ in stored(lineup, engine, dataset, sorted({window.symbol for window in windows}))]
    with engine.begin() as connection:
        missing = not_covered(wanted, in_table)
        return [one for one in missing if session_days(connection, one.start, one.end, [one.symbol])]


def without_bars(loader: Loader, datasets: Iterable[Dataset], symbols: Sequence[str]) -> list[str]:
    """Return the symbols of which no bar of these datasets is stored yet."""
    windows = [window for one in datasets for window, _ in stored(loader.lineup, loader.engine, one, symbols)]
    known = {window.symbol for window in windows}
    return [symbol for symbol in symbols if symbol not in known]


def _of_equal_span(windows: Iterable[Window]) -> list[Rectangle]:
    by_span: dict[tuple[date, date], set[str]] = {}
    for window in windows:
        by_span.setdefault((window.start, window.end), set()).add(window.symbol)
    return [Rectangle(sorted(symbols), *span) for span, symbols in sorted(by_span.items())]


def _whole_partitions(window: Window, dataset: Dataset, asked: Rectangle) -> Window:
    """Return the partitions that a window touches, as far as they lie within what is asked."""
    first, last = (pd.Period(day, PERIODS[dataset]) for day in (window.start, window.end))
    return Window(window.symbol, max(first.start_time.date(), asked.start), min(last.end_time.date(), asked.end))
