"""`tickstock export`: tables as Parquet."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import rich.progress
import typer

from tickstock_assets.cli.app import JsonOption, app, console, errors, print_json
from tickstock_assets.domain.errors import ConfigError


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="A new folder; it is there when all of it is.")],
    *,
    symbols: Annotated[
        list[str] | None, typer.Option("--symbols", help="Only these, separated by commas; else all.")
    ] = None,
    tables: Annotated[
        list[str] | None, typer.Option("--tables", help="Only these, separated by commas; else all.")
    ] = None,
    start: Annotated[
        datetime | None,
        typer.Option("--from", formats=["%Y-%m-%d"], help="First day, of tables with a time in their key."),
    ] = None,
    end: Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day, UTC.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write tables to a folder of Parquet files, by symbol and year, for pandas, DuckDB, Spark and the like.

    The layout is Hive's: FOLDER/table=ohlcv_daily/symbol=AAPL/year=2012/part-0.parquet. Prices are exact decimals, times
    are in UTC, and all tables are of one moment. A role that only reads will do.

    Read it with: pandas.read_parquet("FOLDER/table=ohlcv_daily")
    """
    if start and end and end < start:
        raise ConfigError(f"--to: expected a day on or after --from {start:%Y-%m-%d}, found {end:%Y-%m-%d}")
    from tickstock_assets.cli.database import engine
    from tickstock_assets.storage import export as storage

    selection = storage.Selection(
        symbols=_names("--symbols", symbols),
        tables=_names("--tables", tables),
        start=start.date() if start else None,
        end=end.date() if end else None,
    )
    columns = (rich.progress.SpinnerColumn(), rich.progress.TextColumn("{task.description}"))
    with rich.progress.Progress(*columns, console=errors, disable=as_json or not errors.is_terminal) as progress:
        task = progress.add_task("Reading", total=None)
        written = storage.export(
            engine(), folder, selection,
            lambda table, rows: progress.update(task, description=f"{table}: {rows:,} rows"),
        )  # fmt: skip
    if as_json:
        print_json({"folder": str(folder), "rows": written.rows})
        return
    total = sum(written.rows.values())
    console.print(f"{total:,} rows of {len(written.rows)} tables written to {folder}", soft_wrap=True)


def _names(option: str, given: list[str] | None) -> list[str] | None:
    if given is None:
        return None
    names = [name.strip() for text in given for name in text.split(",") if name.strip()]
    if not names:
        raise ConfigError(f"{option}: expected names, separated by commas, found none; leave it out for all")
    return names
