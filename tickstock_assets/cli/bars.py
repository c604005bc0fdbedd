"""`tickstock bars` and `tickstock coverage`: what is stored."""

import sys
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TextIO

import rich.box
import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperCommand

from tickstock_assets.cli.app import JsonOption, app, console, print_json
from tickstock_assets.domain.errors import ConfigError

COLUMNS = ["symbol", "date", "open", "high", "low", "close", "volume", "source"]
MISSING_SHOWN = 5
TABLE_WIDTH = 120  # where there is no terminal to fill
LOADED = ("1m", "1d")
ROLLED_UP = ", and `tickstock rollups run` makes longer bars of minutes"
LAST_DAY, ONE_DAY = date(9999, 12, 30), timedelta(days=1)


class Format(StrEnum):
    """How bars are written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


ENDINGS = {".csv": Format.CSV, ".json": Format.JSON, ".parquet": Format.PARQUET, ".txt": Format.TABLE}


class Adjusted(StrEnum):
    """What bars are adjusted for."""

    NONE = "none"
    SPLITS = "splits"
    ALL = "all"


class Align(StrEnum):
    """Where bars of minutes and hours begin."""

    UTC = "utc"
    SESSION = "session"


class AdjustedMayStandAlone(TyperCommand):
    """A command whose `--adjusted`, with none of its values after it, means splits."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give a bare option its value."""
        kinds = [kind.value for kind in Adjusted]
        given, after_bare = [], []
        for name, after in zip(args, [*args, ""][1:], strict=True):
            is_bare = name == "--adjusted" and after not in kinds
            given.append(f"--adjusted={Adjusted.SPLITS.value}" if is_bare else name)
            after_bare += [after] if is_bare and after and not after.startswith("-") else []
        ctx.allow_extra_args = True
        too_many = super().parse_args(ctx, given)
        if too_many and after_bare:
            # What stands there was meant as its value, since the symbol is another.
            raise ConfigError(f"--adjusted: expected {', '.join(kinds)} or nothing, found {after_bare[0]!r}")
        if too_many:
            ctx.fail(f"Got unexpected extra arguments ({' '.join(too_many)})")
        return too_many


@app.command(cls=AdjustedMayStandAlone)
def bars(
    symbol: Annotated[str, typer.Argument(help="A symbol, such as AAPL.")],
    *,
    timeframe: Annotated[
        str,
        typer.Option(
            help="1m, 5m, 15m, 1h or 1d, which are stored, or any other, made of them: 30m, 4h, 1w, 1M (a month), 1y; or "
            "what people type: minute, 60min, daily, weekly."
        ),
    ] = "1d",
    start: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="First session, or day in UTC.")] = None,
    end: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last session, or day in UTC.")] = None,
    adjusted: Annotated[
        Adjusted,
        typer.Option(
            help="Adjust to the last bar's shares: prices and volume for splits, prices for dividends besides with all; "
            "--adjusted alone means splits."
        ),
    ] = Adjusted.NONE,
    as_of: Annotated[
        str | None, typer.Option(help="What was known at this moment, such as 2024-07-03T16:00; UTC unless it says.")
    ] = None,
    align: Annotated[
        Align,
        typer.Option(help="Begin minutes and hours at midnight UTC, or at the session's open, in regular hours only."),
    ] = Align.UTC,
    fill: Annotated[
        bool,
        typer.Option("--fill", help="Fill missing bars with the last close, within a session; marked, never stored."),
    ] = False,
    forming: Annotated[
        bool,
        typer.Option("--forming", help="Also bars made of what the live feed has brought, marked until they are over."),
    ] = False,
    output_format: Annotated[
        Format | None,
        typer.Option("--format", help="How to write them; else as the file's ending says, or as a table."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file instead of standard output.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the bars of a symbol, as traded unless --adjusted; stored, or made of stored ones."""
    from tickstock_assets.cli.database import reader
    from tickstock_assets.domain.timeframes import bar_length

    first, last = start.date() if start else None, end.date() if end else None
    if first and last and last < first:
        raise ConfigError(f"--end: expected a day on or after --start {first}, found {last}")
    chosen = str(bar_length(timeframe))
    written_as, moment = _format(output_format, output, as_json=as_json), _moment(as_of)
    with reader() as bars_of:
        frame = bars_of.bars_frame(
            [symbol],
            chosen,
            first,
            # The reader's end is the first day that is not wanted any more.
            None if last is None or last >= LAST_DAY else last + ONE_DAY,
            as_of=moment,
            adjusted=adjusted.value,
            columns=COLUMNS[2:],
            align=align.value,
            fill="ffill" if fill else None,
            include_forming=forming,
        )
    if frame.empty:
        # The symbol is known; the reader would have refused it.
        asked = [f"from {first}" if first else "", f"to {last}" if last else "", f"known at {as_of}" if as_of else ""]
        raise ConfigError(
            f"{symbol}: expected {' '.join(['stored bars of', chosen, *filter(None, asked)])}, found none; "
            f"`tickstock coverage {symbol}` says what is stored" + ("" if chosen in LOADED else ROLLED_UP)
        )
    _write(frame, written_as, output)


@app.command()
def coverage(
    symbols: Annotated[list[str] | None, typer.Argument(help="Symbols; all when none is given.")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show which daily and minute bars are stored per symbol and source, and which sessions lack a daily bar."""
    from tickstock_assets.cli.database import engine
    from tickstock_assets.defs.resources import lineup
    from tickstock_assets.storage import bars as stored

    with engine().connect() as connection:
        held = stored.coverage(connection, lineup().horizons(), symbols or None)
        minutes = stored.minutes_held(connection, symbols or None)
        known = stored.symbols(connection)["symbol"].tolist()
    if unknown := sorted(set(symbols or []) - {*held["symbol"], *minutes["symbol"]}):
        raise ConfigError(_nothing_stored(unknown[0], known))
    rows = [
        {
            **row,
            "first": f"{row['first']:%Y-%m-%d}",
            "last": f"{row['last']:%Y-%m-%d}",
            # Of minutes `tickstock gaps` knows: most that are missing were never traded.
            "expected": row.get("expected"),
            "missing": [str(day) for day in row["missing"]] if "missing" in row else None,
        }
        for row in [*held.to_dict("records"), *minutes.to_dict("records")]
    ]
    if as_json:
        print_json(rows)
        return
    if not rows:
        console.print("Nothing is stored yet; `tickstock demo` loads the sample data.")
        return
    console.print(_held(rows))


def _held(rows: list[dict[Any, Any]]) -> Table:
    """Return what is stored as a table; a long source folds, so that the missing days are seen."""
    table = Table(
        title="Stored bars against the calendar", box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    for name in ("symbol", "timeframe", "source", "first", "last"):
        table.add_column(name, no_wrap=name != "source")
    for name in ("bars", "expected"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("missing")
    for row in rows:
        days = row["missing"] or []
        shown = ", ".join(days[:MISSING_SHOWN]) + (" …" if len(days) > MISSING_SHOWN else "")
        texts = [str(row[name]) for name in ("symbol", "timeframe", "source", "first", "last")]
        of_calendar = ["", ""]
        if row["expected"] is not None:
            of_calendar = [f"{row['expected']:,}", f"{len(days)}" + (f": {shown}" if days else "")]
        table.add_row(*texts, f"{row['bars']:,}", *of_calendar)
    return table


def _moment(as_of: str | None) -> datetime | None:
    if as_of is None:
        return None
    try:
        moment = datetime.fromisoformat(as_of)
    except ValueError:
        raise ConfigError(f"--as-of: expected a moment such as 2024-07-03T16:00, found {as_of!r}") from None
    return moment if moment.utcoffset() is not None else moment.replace(tzinfo=UTC)


def _format(given: Format | None, output: Path | None, *, as_json: bool) -> Format:
    if as_json and given not in {None, Format.JSON}:
        raise ConfigError(f"--json: expected no other --format, found {given}; give one of the two")
    if as_json or given:
        return given or Format.JSON
    if output is None:
        return Format.TABLE
    if output.suffix.lower() not in ENDINGS:
        raise ConfigError(
            f"--output {output}: expected a name that ends in one of {', '.join(ENDINGS)}, found another; "
            "say how to write it with --format"
        )
    return ENDINGS[output.suffix.lower()]


def _nothing_stored(symbol: str, known: list[str]) -> str:
    return f"{symbol}: expected a symbol with stored bars, found none; " + (
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
    if "date" in frame:
        days = frame.assign(date=frame["date"].dt.strftime("%Y-%m-%d"))
    else:
        days = frame.assign(timestamp=frame["timestamp"].dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
    if output_format is Format.CSV:
        file.write(days.to_csv(index=False))
    elif output_format is Format.JSON:
        file.write(days.to_json(orient="records", indent=2) + "\n")
    else:
        Console(file=file, width=None if file.isatty() else TABLE_WIDTH).print(_table(days))


def _table(days: "pd.DataFrame") -> Table:  # type: ignore[name-defined] # noqa: F821
    table = Table(*days.columns[:2])
    for name in COLUMNS[2:7]:
        table.add_column(name, justify="right")
    table.add_column("source")
    marks = list(days.columns[len(COLUMNS) :])
    for name in marks:
        table.add_column(name)
    for row in days.itertuples(index=False):
        prices = [f"{price:,.4f}".rstrip("0").rstrip(".") for price in row[2:7]]
        table.add_row(*map(str, row[:2]), *prices, row[7], *("yes" if marked else "" for marked in row[8:]))
    return table
