"""Partitions: symbol by year for daily history, and what a set of partition keys means as windows."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date

import dagster as dg

from tickstock_assets.defs.resources import lineup
from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.domain.windows import Window, merge_neighbours

FIRST_YEAR = 2000
RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"
PARTITION_TAG = "dagster/partition"

SYMBOLS = dg.DynamicPartitionsDefinition(name="symbols")
# Years after the providers' horizon have nothing to load, so they are no partitions.
YEARS = dg.TimeWindowPartitionsDefinition(
    start=str(FIRST_YEAR), end=str(lineup().horizon().year + 1), fmt="%Y", cron_schedule="0 0 1 1 *"
)
DAILY = dg.MultiPartitionsDefinition({"symbol": SYMBOLS, "year": YEARS})


def key(symbol: str, year: int) -> str:
    """Return the partition key of a symbol's year."""
    return f"{symbol}|{year}"


def window_of(partition_key: str) -> Window:
    """Return the days that a partition key stands for."""
    symbol, _, year = str(partition_key).partition("|")
    return Window(symbol, date(int(year), 1, 1), date(int(year), 12, 31))


def windows_of(partition_keys: Iterable[str]) -> list[Window]:
    """Return the fewest windows that partition keys stand for."""
    return merge_neighbours(window_of(partition_key) for partition_key in partition_keys)


def rectangle_tags(symbols: Sequence[str], known: Sequence[str], first_year: int, last_year: int) -> dict[str, str]:
    """Return the tags that make one run do every year of a range of symbols.

    Args:
        symbols: those wanted; they must stand side by side in `known`.
        known: Dagster's own list of the symbols, in its order.
        first_year: included.
        last_year: included.

    Raises:
        ConfigError: a symbol or year is unknown, the years are reversed, or the symbols are not side by side. Dagster
            itself would run nothing, or other symbols as well, and report success.
    """
    if not symbols or (unknown := sorted(set(symbols) - set(known))):
        raise ConfigError(
            f"Symbols: expected some of {', '.join(known) or '(none yet)'}, found {', '.join(unknown) if symbols else 'none'}"
        )
    years = [int(year) for year in YEARS.get_partition_keys()]
    if not years[0] <= first_year <= last_year <= years[-1]:
        raise ConfigError(
            f"Years: expected a range within {years[0]} to {years[-1]}, found {first_year} to {last_year}"
        )
    places = sorted(known.index(symbol) for symbol in symbols)
    if places[-1] - places[0] + 1 != len(set(symbols)):
        raise ConfigError(
            f"Symbols: expected neighbours in Dagster's list, found {', '.join(symbols)}; start one run a symbol"
        )
    return {
        RANGE_START_TAG: key(known[places[0]], first_year),
        RANGE_END_TAG: key(known[places[-1]], last_year),
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
    """Return what a run with these tags works on, or None when it has no partitions, which means everything."""
    if RANGE_START_TAG in tags:
        keys = DAILY.get_partition_keys_in_range(
            dg.PartitionKeyRange(tags[RANGE_START_TAG], tags[RANGE_END_TAG]), dynamic_partitions_store=instance
        )
        return windows_of(keys)
    return windows_of([tags[PARTITION_TAG]]) if PARTITION_TAG in tags else None
