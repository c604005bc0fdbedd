"""`tickstock db dump` and `tickstock db restore`: the database in a file, and back."""

from pathlib import Path
from typing import Annotated

import rich.progress
import typer

from tickstock_assets.cli.app import console, errors
from tickstock_assets.cli.database import server_url
from tickstock_assets.cli.db import db
from tickstock_assets.settings import settings

BYTES_PER_MB = 1_000_000


def _progress() -> rich.progress.Progress:
    columns = (rich.progress.SpinnerColumn(), rich.progress.BarColumn(), rich.progress.TextColumn("{task.description}"))
    return rich.progress.Progress(*columns, console=errors, disable=not errors.is_terminal)


@db.command()
def dump(
    file: Annotated[
        Path, typer.Argument(help="The file to write; one of that name is replaced when this is complete.")
    ],
) -> None:
    """Write the whole database to a file, as it is at this moment; others may go on working.

    The file is PostgreSQL's custom format, which pg_restore knows too. Beside it FILE.manifest.json says what is in it;
    keep the two together. Dagster's own database and the landed files are not in it. The server is dumped with a pg_dump
    of its version or newer, from PATH, Debian's folders or the wheel.
    """
    from tickstock_assets.storage import backup
    from tickstock_assets.storage.database import database_url

    with _progress() as progress:
        task = progress.add_task("Dumping", total=None)
        made = backup.dump(
            database_url(settings().home_path, server_url()),
            file,
            lambda written, _: progress.update(task, description=f"Dumping: {written / BYTES_PER_MB:,.1f} MB"),
        )
    console.print(
        f"{sum(made.rows.values()):,} rows of {len(made.rows)} tables at revision {made.revision or 'none'} "
        f"in {made.size_bytes / BYTES_PER_MB:,.1f} MB: {file}",
        soft_wrap=True,
    )


@db.command()
def restore(
    file: Annotated[Path, typer.Argument(help="A dump of `tickstock db dump`, with its manifest beside it.")],
    *,
    replace: Annotated[
        bool, typer.Option("--replace", help="Also where there are tables; all that is in them is lost.")
    ] = False,
) -> None:
    """Make the database what a dump says it was, and compare the two: rows of every table, and revision.

    A new database is filled beside the old one and takes its name when it is equal; until then nothing changes, whatever
    happens. No one else may use the database meanwhile, so end `tickstock ui` first. It takes a role that may create
    databases, and with TimescaleDB a superuser and the same version of the extension.
    """
    from tickstock_assets.storage import restore as storage
    from tickstock_assets.storage.database import database_url

    with _progress() as progress:
        task = progress.add_task("Restoring", total=None)
        made = storage.restore(
            database_url(settings().home_path, server_url()),
            file,
            replace=replace,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    console.print(
        f"{sum(made.rows.values()):,} rows of {len(made.rows)} tables at revision {made.revision or 'none'} restored, "
        f"as they were at {made.made_at}",
        soft_wrap=True,
    )
