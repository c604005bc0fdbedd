"""`tickstock db`: the database itself."""

from typing import Annotated

import typer
from rich.table import Table

from tickstock_assets.cli.app import JsonOption, app, console, print_json
from tickstock_assets.cli.database import server_url
from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.settings import settings
from tickstock_assets.storage import embedded, migrate
from tickstock_assets.storage.database import database_url, open_engine
from tickstock_assets.storage.database import status as database_status

db = typer.Typer(help="The database: what it is, its schema, its address.", no_args_is_help=True)
app.add_typer(db, name="db")

BYTES_PER_MB = 1_000_000


@db.command()
def status(*, as_json: JsonOption = False) -> None:
    """Say which server this is, what it can do, and what it holds."""
    engine = open_engine(database_url(settings().home_path, server_url()), "tickstock db")
    found = database_status(engine, is_embedded=server_url() is None)
    if as_json:
        print_json(found.as_dict())
        return
    up_to_date = found.revision == found.latest_revision
    advice = "" if up_to_date else f" (latest is {found.latest_revision}: run `tickstock db migrate`)"
    table = Table(show_header=False, box=None)
    table.add_row("Server", f"{found.server}, PostgreSQL {found.version}")
    table.add_row("Tier", found.tier + (f" {found.timescaledb}" if found.timescaledb else ""))
    table.add_row("Schema revision", (found.revision or "none") + advice)
    table.add_row("Size", f"{found.size_bytes / BYTES_PER_MB:,.1f} MB")
    for name, rows in found.rows.items():
        table.add_row(f"  {name}", f"{rows:,} rows")
    console.print(table)


@db.command("migrate")
def migrate_schema(
    revision: Annotated[str, typer.Argument(help="A revision to go up or down to, or `head` for the newest.")] = "head",
    *,
    down: Annotated[bool, typer.Option("--down", help="Go down; tables and their rows are removed.")] = False,
) -> None:
    """Bring the schema up to date (or, with --down, back to an older revision)."""
    if down and revision == "head":
        raise ConfigError("--down: expected the revision to go back to, such as `base`, found none; name it")
    engine = open_engine(database_url(settings().home_path, server_url()), "tickstock db")
    if down:
        migrate.downgrade(engine, revision)
    else:
        migrate.upgrade(engine, revision)
    with engine.connect() as connection:
        console.print(f"Schema revision: {migrate.current_revision(connection) or 'none'}")


@db.command()
def url() -> None:
    """Print the address for psql and other clients; of a server's, without the password."""
    address = database_url(settings().home_path, server_url())
    typer.echo(address.render_as_string(hide_password=True))
    if server_url() is None:
        # Not to standard output, which a shell may hand on to psql.
        typer.echo(
            "The server stops when the last of our processes leaves; keep `tickstock ui` open meanwhile.", err=True
        )


@db.command()
def stop(
    *, force: Annotated[bool, typer.Option("--force", help="Also when other processes still use it.")] = False
) -> None:
    """Stop the embedded server; one that TICKSTOCK_DATABASE_URL names is not ours to stop and is left alone."""
    was_running = embedded.is_running(settings().home_path)
    embedded.stop(settings().home_path, force=force)
    console.print("Stopped." if was_running else "It was not running.")
