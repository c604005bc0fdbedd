"""`tickstock bars` and `tickstock coverage`: what is stored."""

import sys
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TextIO

import rich.box
import typer
from rich.console import Console
from rich.table import Table

from tickstock_assets.cli.app import JsonOption, app, console, print_json
from tickstock_assets.domain.errors import ConfigError

COLUMNS = ["symbol", "date", "open", "high", "low", "close", "volume", "source"]
MISSING_SHOWN = 5
TABLE_WIDTH = 120  # where there is no terminal to fill
FIRST_DAY, LAST_DAY = date(1, 1, 1), date(9999, 12, 30)


class Format(StrEnum):
    """How bars are written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


@app.command()
def bars(
    symbol: Annotated[str, typer.Argument(help="A symbol, such as AAPL.")],
    *,
    start: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="First session.")] = None,
    end: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last session.")] = None,
    adjusted: Annotated[
        bool, typer.Option("--adjusted", help="Adjust prices and volume for splits, to the last bar's shares.")
    ] = False,
    output_format: Annotated[Format, typer.Option("--format", help="How to write them.")] = Format.TABLE,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file instead of standard output.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the stored daily bars of a symbol, as traded unless --adjusted."""
    from tickstock_assets.cli.database import engine
    from tickstock_assets.domain.adjustments import split_adjust
    from tickstock_assets.domain.windows import Window
    from tickstock_assets.storage import bars as stored

    first, last = start.date() if start else FIRST_DAY, end.date() if end else LAST_DAY
    if last < first:
        raise ConfigError(f"--end: expected a day on or after --start {first}, found {last}")
    with engine().connect() as connection:
        # Adjustment is to the last bar that is stored, so the window is cut afterwards.
        frame = stored.daily_bars(connection, [Window(symbol, first, last)])
        if frame.empty:
            raise ConfigError(_nothing_stored(symbol, stored.symbols(connection)["symbol"].tolist()))
        if adjusted:
            whole = stored.daily_bars(connection, [Window(symbol, FIRST_DAY, LAST_DAY)])
            frame = split_adjust(whole, stored.splits(connection)).loc[lambda rows: rows["date"].isin(frame["date"])]
    _write(frame[COLUMNS].reset_index(drop=True), Format.JSON if as_json else output_format, output)


@app.command()
def coverage(
    symbols: Annotated[list[str] | None, typer.Argument(help="Symbols; all when none is given.")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show what is stored per symbol and timeframe, and which sessions of the XNYS calendar are missing."""
    from tickstock_assets.cli.database import engine
    from tickstock_assets.defs.resources import provider
    from tickstock_assets.storage import bars as stored

    with engine().connect() as connection:
        held = stored.coverage(connection, {provider().name: provider().horizon()}, symbols or None)
        known = stored.symbols(connection)["symbol"].tolist()
    if unknown := sorted(set(symbols or []) - set(held["symbol"])):
        raise ConfigError(_nothing_stored(unknown[0], known))
    rows = [
        {
            **row,
            "first": f"{row['first']:%Y-%m-%d}",
            "last": f"{row['last']:%Y-%m-%d}",
            "missing": [str(day) for day in row["missing"]],
        }
        for row in held.to_dict("records")
    ]
    if as_json:
        print_json(rows)
        return
    if not rows:
        console.print("Nothing is stored yet; `tickstock demo` loads the sample data.")
        return
    table = Table(
        title="Stored bars against the XNYS calendar", box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    for name in ("symbol", "timeframe", "source", "first", "last"):
        table.add_column(name, no_wrap=True)
    for name in ("bars", "expected"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("missing")
    for row in rows:
        days = row["missing"]
        shown = ", ".join(days[:MISSING_SHOWN]) + (" …" if len(days) > MISSING_SHOWN else "")
        texts = [str(row[name]) for name in ("symbol", "timeframe", "source", "first", "last")]
        missing = f"{len(days)}" + (f": {shown}" if days else "")
        table.add_row(*texts, f"{row['bars']:,}", f"{row['expected']:,}", missing)
    console.print(table)


def _nothing_stored(symbol: str, known: list[str]) -> str:
    return f"{symbol}: expected a symbol with stored bars in that range, found none; " + (
        f"known symbols are {', '.join(known[:20])}" if known else "`tickstock demo` loads the sample data"
    )


def _write(frame: "pd.DataFrame", output_format: Format, output: Path | None) -> None:  # type: ignore[name-defined] # noqa: F821
    if output_format is Format.PARQUET and output is None and sys.stdout.isatty():
        raise ConfigError("--format parquet: expected --output FILE or a pipe, found a terminal")
    if output is None:
        _write_to(sys.stdout, frame, output_format)
        return
    try:
        with output.open("w", encoding="utf-8") as file:
            _write_to(file, frame, output_format)
    except OSError as error:
        raise ConfigError(f"--output {output}: expected a file we can write, found {error.strerror}") from None


def _write_to(file: TextIO, frame: "pd.DataFrame", output_format: Format) -> None:  # type: ignore[name-defined] # noqa: F821
    if output_format is Format.PARQUET:
        frame.to_parquet(file.buffer, index=False)
        return
    days = frame.assign(date=frame["date"].dt.strftime("%Y-%m-%d"))
    if output_format is Format.CSV:
        file.write(days.to_csv(index=False))
    elif output_format is Format.JSON:
        file.write(days.to_json(orient="records", indent=2) + "\n")
    else:
        Console(file=file, width=None if file.isatty() else TABLE_WIDTH).print(_table(days))


def _table(days: "pd.DataFrame") -> Table:  # type: ignore[name-defined] # noqa: F821
    table = Table(*COLUMNS[:2])
    for name in COLUMNS[2:7]:
        table.add_column(name, justify="right")
    table.add_column("source")
    for row in days.itertuples(index=False):
        prices = [f"{price:,.4f}".rstrip("0").rstrip(".") for price in row[2:7]]
        table.add_row(*map(str, row[:2]), *prices, row[7])
    return table
