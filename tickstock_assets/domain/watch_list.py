"""Watch lists: CSV text with a symbol a line, and what is wrong with which line. Pure: no file, no clock.

A line is `symbol[,exchange][,start][,timeframe]`. Where the first line has a cell `symbol` it names the columns, which may
then stand in any order, and others among them are left alone.
"""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.domain.exchanges import calendar_of
from tickstock_assets.domain.schemas import SYMBOL_PATTERN
from tickstock_assets.domain.timeframes import Timeframe, timeframe

COLUMNS = ("symbol", "exchange", "start", "timeframe")
LOADED: tuple[Timeframe, ...] = ("1d", "1m")
# A file with more is another kind of file.
MOST_PROBLEMS = 100


@dataclass(frozen=True)
class Wanted:
    """What a line asks for.

    Attributes:
        line: its number, from 1.
        symbol: the instrument.
        exchange: its ISO 10383 code; None where the line has none.
        start: first day of its history; None for as far back as is usual.
        timeframe: of the bars.
    """

    line: int
    symbol: str
    exchange: str | None
    start: date | None
    timeframe: Timeframe


@dataclass
class WatchList:
    """What a file asks for, and by line what is wrong with the others: a sentence each."""

    wanted: list[Wanted] = field(default_factory=list)
    problems: dict[int, str] = field(default_factory=dict)


def read_watch_list(text: str) -> WatchList:
    """Return what a text asks for; lines with a mistake are left out, and of equal lines the first counts."""
    found = WatchList()
    lines = [
        (number, cells)
        for number, line in enumerate(text.splitlines(), start=1)
        if (cells := _cells(line)) and any(cells)
    ]
    if not lines:
        found.problems[1] = "expected a symbol a line, found an empty file; fill it"
        return found
    places = dict(zip(COLUMNS, range(len(COLUMNS)), strict=True))
    header = [cell.lower() for cell in lines[0][1]]
    if "symbol" in header:
        places = {name: header.index(name) for name in COLUMNS if name in header}
        lines = lines[1:]
    first_lines: dict[tuple[str, Timeframe], int] = {}
    for number, cells in lines:
        try:
            one = _wanted(number, {name: cells[place] for name, place in places.items() if place < len(cells)})
        except ConfigError as error:
            found.problems[number] = str(error)
        else:
            before = first_lines.setdefault((one.symbol, one.timeframe), number)
            if before == number:
                found.wanted.append(one)
            else:
                found.problems[number] = f"{one.symbol} {one.timeframe} stands on line {before} already; remove one"
        if len(found.problems) >= MOST_PROBLEMS:
            found.problems[number] += f"; the lines after it are not read, as {MOST_PROBLEMS} have mistakes"
            break
    return found


def _cells(line: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line]), [])]
    except csv.Error:  # a field of more than 100,000 characters: no symbol, and told as such
        return [line[:40]]


def report(problems: Mapping[int, str]) -> Sequence[str]:
    """Return the mistakes in the order of the lines."""
    return [f"line {line}: {problem}" for line, problem in sorted(problems.items())]


def _wanted(line: int, cells: Mapping[str, str]) -> Wanted:
    """Return what the cells of a line say; ConfigError where one is wrong."""
    symbol, exchange, start = (cells.get(name, "") for name in ("symbol", "exchange", "start"))
    if not re.match(SYMBOL_PATTERN, symbol):
        raise ConfigError(f"expected a symbol such as AAPL or BRK.B, found {symbol!r}; correct it")
    if exchange:
        calendar_of(exchange)
    try:
        first = date.fromisoformat(start) if start else None
    except ValueError:
        raise ConfigError(f"{symbol}: expected a start such as 2020-01-31, found {start!r}; correct it") from None
    length = timeframe(cells.get("timeframe") or "1d")
    if length not in LOADED:
        raise ConfigError(
            f"{symbol}: expected timeframe day or minute, found {cells['timeframe']!r}, which is rolled up from minutes"
        )
    return Wanted(line, symbol, exchange or None, first, length)
