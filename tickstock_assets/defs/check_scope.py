"""What a check looks at: what its run made, what `tickstock check` was asked about, or everything; a part at a time."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from itertools import groupby

import dagster as dg
from sqlalchemy import Connection

from tickstock_assets.defs.partitions import windows_of_run
from tickstock_assets.domain.windows import Window
from tickstock_assets.storage import bars

# Tags of a run of nothing but checks, which has no partitions of its own.
SYMBOLS_TAG, FIRST_TAG, LAST_TAG = "tickstock/check_symbols", "tickstock/check_start", "tickstock/check_end"
# 50 symbols are 175,000 daily bars in 14 years, some 40 MB as a frame.
SYMBOLS_AT_A_TIME = 50
# Wider than any history; sessions and bars bound it.
FIRST_DAY, LAST_DAY = date(1900, 1, 1), date(2199, 12, 31)

Windows = Sequence[Window] | None


def scope_tags(symbols: Sequence[str] | None, first: date | None, last: date | None) -> dict[str, str]:
    """Return the tags of a run whose checks are to look at some symbols and days only; None for all."""
    given = {
        SYMBOLS_TAG: ",".join(symbols) if symbols is not None else None,
        FIRST_TAG: first.isoformat() if first else None,
        LAST_TAG: last.isoformat() if last else None,
    }
    return {tag: value for tag, value in given.items() if value is not None}


def scope_of(context: dg.AssetCheckExecutionContext, connection: Connection) -> Windows:
    """Return what a check is to look at; None for everything."""
    return scope_of_run(context.instance, connection, context.run.tags)


def scope_of_run(instance: dg.DagsterInstance, connection: Connection, tags: Mapping[str, str]) -> Windows:
    """Return what the checks of a run with these tags look at; None for everything."""
    if any(tag in tags for tag in (SYMBOLS_TAG, FIRST_TAG, LAST_TAG)):
        return _asked_for(connection, tags)
    return windows_of_run(instance, tags)


def parts_of(connection: Connection, windows: Windows) -> Iterator[list[Window]]:
    """Return windows a part of the symbols at a time; for everything, all of each symbol."""
    if windows is None:
        windows = [Window(symbol, FIRST_DAY, LAST_DAY) for symbol in bars.symbols(connection)["symbol"]]
    by_symbol = [list(of_symbol) for _, of_symbol in groupby(sorted(windows), key=lambda window: window.symbol)]
    for start in range(0, len(by_symbol), SYMBOLS_AT_A_TIME):
        yield [window for of_symbol in by_symbol[start : start + SYMBOLS_AT_A_TIME] for window in of_symbol]


def _asked_for(connection: Connection, tags: Mapping[str, str]) -> list[Window]:
    symbols = tags[SYMBOLS_TAG].split(",") if SYMBOLS_TAG in tags else bars.symbols(connection)["symbol"]
    first = date.fromisoformat(tags[FIRST_TAG]) if FIRST_TAG in tags else FIRST_DAY
    last = date.fromisoformat(tags[LAST_TAG]) if LAST_TAG in tags else LAST_DAY
    return [Window(str(symbol), first, last) for symbol in symbols]
