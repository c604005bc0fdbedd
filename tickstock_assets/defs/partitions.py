"""Partitions: symbols by years, months or days, and what a set of partition keys means as windows.

A key is symbol and period, `AAPL|2012`, `AAPL|2012-01` or `AAPL|2012-01-03`; how the period is written tells its length.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pandas as pd

from tickstock_assets.defs.resources import lineup
from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.domain.windows import Window, merge_neighbours

FIRST_DAY = date(2000, 1, 1)
# Providers whose last day lies further back have a file that has ended; the others have a new session soon.
HAS_ENDED_AFTER = timedelta(days=31)
RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"
PARTITION_TAG = "dagster/partition"
RELOAD = (
    "where files were added, reload the code location in the web UI or start `tickstock ui` again, then ask once more"
)
FREQUENCIES = {"%Y": "Y", "%Y-%m": "M", "%Y-%m-%d": "D"}

SYMBOLS = dg.DynamicPartitionsDefinition(name="symbols")


@dataclass(frozen=True)
class Grid:
    """Symbols by periods.

    Attributes:
        definition: Dagster's, of both.
        periods: Dagster's, of the periods alone.
        name: of the periods, as an error calls them.
    """

    definition: dg.MultiPartitionsDefinition
    periods: dg.TimeWindowPartitionsDefinition
    name: str

    @classmethod
    def of(cls, name: str, dimension: str, first: date, fmt: str, cron: str) -> "Grid":
        """Return the periods since a day, up to the one that the providers' horizon is in."""
        horizon = lineup().horizon()
        if datetime.now(UTC).date() - horizon > HAS_ENDED_AFTER:
            end, end_offset = (pd.Period(horizon, FREQUENCIES[fmt]) + 1).strftime(fmt), 0
        else:
            # Up to now, whenever that is: this process may see the next one begin.
            end, end_offset = None, 1
        periods = dg.TimeWindowPartitionsDefinition(
            start=first.strftime(fmt), end=end, end_offset=end_offset, fmt=fmt, cron_schedule=cron
        )
        return cls(dg.MultiPartitionsDefinition({"symbol": SYMBOLS, dimension: periods}), periods, name)

    def key(self, symbol: str, day: date) -> str:
        """Return the partition key of a symbol's period that a day is in."""
        return f"{symbol}|{day:{self.periods.fmt}}"

    def keys_of(self, windows: Iterable[Window]) -> list[str]:
        """Return the partitions that windows touch, in order."""
        return sorted({key for keys in self.keys_of_each(windows) for key in keys})

    def keys_of_each(self, windows: Iterable[Window]) -> Iterator[list[str]]:
        """Yield for each window the partitions that it touches."""
        known = set(self.periods.get_partition_keys())
        frequency = FREQUENCIES[self.periods.fmt]
        # Windows of many symbols mostly share their days.
        of_span: dict[tuple[date, date], list[str]] = {}
        for window in windows:
            span = (window.start, window.end)
            if span not in of_span:
                touched = pd.period_range(*span, freq=frequency).strftime(self.periods.fmt)
                of_span[span] = [period for period in touched if period in known]
            yield [f"{window.symbol}|{period}" for period in of_span[span]]


BY_YEAR = Grid.of("Years", "year", FIRST_DAY, "%Y", "0 0 1 1 *")
BY_MONTH = Grid.of("Months", "trading_month", FIRST_DAY, "%Y-%m", "0 0 1 * *")
# Trades are kept for a year; a partition for each day since 2000 would be thousands a symbol, and nearly all empty.
BY_DAY = Grid.of("Days", "trading_day", date(lineup().horizon().year - 1, 1, 1), "%Y-%m-%d", "0 0 * * *")
DAILY, MINUTES, TICKS = (grid.definition for grid in (BY_YEAR, BY_MONTH, BY_DAY))
# Who reads bars of a year and the warm-up before it, 400 sessions at most, depends on that year and the two before; the
# first years have none.
WITH_WARM_UP = dg.MultiPartitionMapping(
    {
        "symbol": dg.DimensionPartitionMapping("symbol", dg.IdentityPartitionMapping()),
        "year": dg.DimensionPartitionMapping(
            "year", dg.TimeWindowPartitionMapping(start_offset=-2, allow_nonexistent_upstream_partitions=True)
        ),
    }
)


def window_of(partition_key: str) -> Window:
    """Return the days that a partition key stands for."""
    symbol, _, period = str(partition_key).partition("|")
    days = pd.Period(period)
    return Window(symbol, days.start_time.date(), days.end_time.date())


def windows_of(partition_keys: Iterable[str]) -> list[Window]:
    """Return the fewest windows that partition keys stand for."""
    return merge_neighbours(window_of(partition_key) for partition_key in partition_keys)


def known_symbols(instance: dg.DagsterInstance) -> list[str]:
    """Return Dagster's own list of the symbols, in its order."""
    return list(instance.get_dynamic_partitions(str(SYMBOLS.name)))


def rectangle_tags(
    symbols: Sequence[str], known: Sequence[str], first: date, last: date, grid: Grid = BY_YEAR
) -> dict[str, str]:
    """Return the tags that make one run do every period of a range of symbols.

    Args:
        symbols: those wanted; they must stand side by side in `known`.
        known: Dagster's own list of the symbols, in its order.
        first: a day of the first period.
        last: a day of the last one.
        grid: which partitions.

    Raises:
        ConfigError: a symbol or period is unknown, the days are reversed, or the symbols are not side by side. Dagster
            itself would run nothing, or other symbols as well, and report success.
    """
    if not symbols or (unknown := sorted(set(symbols) - set(known))):
        raise ConfigError(
            f"Symbols: expected some of {', '.join(known) or '(none yet)'}, found {', '.join(unknown) if symbols else 'none'}"
        )
    periods = grid.periods.get_partition_keys()
    wanted = [day.strftime(grid.periods.fmt) for day in (first, last)]
    if not periods[0] <= wanted[0] <= wanted[1] <= periods[-1]:
        # The end of files that have ended was read when this process began.
        newer = f"; {RELOAD}" if grid.periods.end is not None and wanted[1] > periods[-1] else ""
        raise ConfigError(
            f"{grid.name}: expected a range within {periods[0]} to {periods[-1]}, found {wanted[0]} to {wanted[1]}{newer}"
        )
    places = sorted(known.index(symbol) for symbol in symbols)
    if places[-1] - places[0] + 1 != len(set(symbols)):
        raise ConfigError(
            f"Symbols: expected neighbours in Dagster's list, found {', '.join(symbols)}; start one run a symbol"
        )
    return {
        RANGE_START_TAG: grid.key(known[places[0]], first),
        RANGE_END_TAG: grid.key(known[places[-1]], last),
    }


def side_by_side(wanted: Iterable[str], known: Sequence[str]) -> list[list[str]]:
    """Return the known ones of `wanted` in groups that stand side by side in Dagster's list; a run can do a group.

    Args:
        wanted: symbols.
        known: Dagster's own list of the symbols, in its order.
    """
    chosen = set(wanted)
    groups: list[list[str]] = []
    last = -2
    for place, symbol in enumerate(known):
        if symbol in chosen:
            if place == last + 1:
                groups[-1].append(symbol)
            else:
                groups.append([symbol])
            last = place
    return groups


def windows_of_run(instance: dg.DagsterInstance, tags: Mapping[str, str]) -> list[Window] | None:
    """Return what a run with these tags works on, or None when it has no partitions, which means everything.

    Raises:
        ConfigError: the symbols that it goes from and to are none of Dagster's any more, or in another order.
    """
    if RANGE_START_TAG in tags:
        first, last = window_of(tags[RANGE_START_TAG]), window_of(tags[RANGE_END_TAG])
        known = known_symbols(instance)
        places = {symbol: place for place, symbol in enumerate(known)}
        start, end = places.get(first.symbol, len(known)), places.get(last.symbol, -1)
        if end < start:
            raise ConfigError(
                f"{first.symbol}..{last.symbol}: expected both among Dagster's partitions, in this order, found that somebody "
                "has removed or moved one since the run was made; start another"
            )
        symbols = known[start : end + 1]
        return [Window(symbol, first.start, last.end) for symbol in sorted(symbols)]
    return windows_of([tags[PARTITION_TAG]]) if PARTITION_TAG in tags else None
