"""Symbols as a person names them: typed, in a CSV file, or as all that were listed on a day."""

import csv
import difflib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.domain.schemas import SYMBOL_PATTERN

if TYPE_CHECKING:
    from sqlalchemy import Connection

HEADER = "symbol"


def typed(text: str) -> list[str]:
    """Return the symbols of a text such as AAPL,MSFT, each once, in their order."""
    return _checked([(name.strip(), f"--symbols {text}") for name in text.split(",") if name.strip()], "--symbols")


def in_file(file: Path) -> list[str]:
    """Return the symbols of a CSV file, each once, in their order.

    The file has a header with a column `symbol`; further columns are left alone, as are empty lines.

    Raises:
        ConfigError: it cannot be read, is empty, has no such column, or a line has no possible symbol.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            lines = list(csv.reader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"--file: expected a readable CSV file, found {file} ({_why(error)}); name another") from None
    if not any(lines):
        raise ConfigError(f"{file}: expected a header `{HEADER}` and a symbol a line, found an empty file; fill it")
    header = [name.strip().lower() for name in lines[0]]
    if HEADER not in header:
        close = difflib.get_close_matches(HEADER, header, n=1)
        meant = f"; rename {close[0]!r}" if close else f"; add a first line `{HEADER}`"
        raise ConfigError(f"{file}, line 1: expected a column `{HEADER}`, found {', '.join(lines[0])}{meant}")
    place = header.index(HEADER)
    found = [
        (line[place].strip() if len(line) > place else "", f"{file}, line {number}")
        for number, line in enumerate(lines[1:], start=2)
        if any(cell.strip() for cell in line)
    ]
    return _checked(found, str(file))


def require_known(connection: "Connection", symbols: list[str] | None) -> None:
    """Refuse the first of these symbols that the database does not know.

    Raises:
        ConfigError: there is one.
    """
    from tickstock_assets.storage import bars

    if unknown := sorted(set(symbols or []) - {*bars.symbols(connection)["symbol"]}):
        raise ConfigError(
            f"--symbols: expected known symbols, found {unknown[0]}; `tickstock coverage` lists what is stored"
        )


def _checked(found: list[tuple[str, str]], where: str) -> list[str]:
    if not found:
        raise ConfigError(f"{where}: expected at least one symbol such as AAPL, found none; name some")
    for symbol, place in found:
        if not re.match(SYMBOL_PATTERN, symbol):
            raise ConfigError(f"{place}: expected a symbol such as AAPL or BRK.B, found {symbol!r}; correct it")
    return list(dict.fromkeys(symbol for symbol, _ in found))


def _why(error: OSError | UnicodeDecodeError | csv.Error) -> str:
    if isinstance(error, csv.Error):
        return f"{error}; is a quote left open?"
    return str(error.strerror) if isinstance(error, OSError) else "not UTF-8 text"
