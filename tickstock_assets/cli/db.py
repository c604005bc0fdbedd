"""`tickstock db`: the database itself."""

from datetime import datetime
from typing import Annotated

import typer
from rich.table import Table

from tickstock_assets.cli.app import JsonOption, app, console, print_json
from tickstock_assets.cli.database import server_url
from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.settings import settings
from tickstock_assets.storage import embedded, migrate, tiers
from tickstock_assets.storage.capability import capability
from tickstock_assets.storage.database import database_url, open_engine
from tickstock_assets.storage.database import status as database_status
from tickstock_assets.storage.health import health
from tickstock_assets.storage.tier_status import TierStatus, tier_status
from tickstock_assets.storage.tier_status import as_dict as tier_as_dict

db = typer.Typer(help="The database: what it is, its schema, its address.", no_args_is_help=True)
app.add_typer(db, name="db")

BYTES_PER_MB = 1_000_000


@db.command()
def status(*, as_json: JsonOption = False) -> None:
    """Say which server this is, what it can do and what is off, and what it holds."""
    engine = open_engine(database_url(settings().home_path, server_url()), "tickstock db")
    is_embedded = server_url() is None
    found = database_status(engine, is_embedded=is_embedded)
    with engine.connect() as connection:
        made = tier_status(connection, settings().lifecycles, is_embedded=is_embedded)
    state = health(engine, settings().home_path if is_embedded else None, settings().low_disk_gb)
    if as_json:
        print_json({**found.as_dict(), **tier_as_dict(made), "health": state.as_dict()})
        return
    up_to_date = found.revision == found.latest_revision
    advice = "" if up_to_date else f" (latest is {found.latest_revision}: run `tickstock db migrate`)"
    table = Table(show_header=False, box=None)
    table.add_row("Server", f"{found.server}, PostgreSQL {found.version}")
    table.add_row("Tier", found.tier + (f" {found.timescaledb}" if found.timescaledb else ""))
    table.add_row("Schema revision", (found.revision or "none") + advice)
    table.add_row("Health", "; ".join([state.status, *state.warnings]))
    table.add_row("Size", f"{found.size_bytes / BYTES_PER_MB:,.1f} MB")
    for name, rows in found.rows.items():
        table.add_row(f"  {name}", f"{rows:,} rows")
    console.print(table)
    _print_tier(made)


def _print_tier(made: TierStatus) -> None:
    if made.hypertables:
        table = Table("hypertable", "chunks of", title="Hypertables", title_justify="left")
        for name in ("chunks", "compressed", "MB", "ratio"):
            table.add_column(name, justify="right")
        for one in made.hypertables:
            interval = one.chunk_interval + (f" x {one.partitions}" if one.partitions else "")
            ratio = f"{one.compression_ratio:.1f}" if one.compression_ratio else ""
            size = f"{one.size_bytes / BYTES_PER_MB:,.1f}"
            table.add_row(one.table, interval, f"{one.chunks:,}", f"{one.compressed_chunks:,}", size, ratio)
        console.print(table)
    if made.policies:
        table = Table("policy", "table", "at", "every", "last run", "status", title="Policies, times in UTC")
        table.title_justify = "left"
        for policy in made.policies:
            interval = policy.interval or "all"
            table.add_row(
                policy.kind, policy.table, interval, policy.every, _moment(policy.last_run), policy.last_status or ""
            )
        console.print(table)
    for rollup in made.rollups:
        if rollup.continuous:
            until = f"until {_moment(rollup.computed_until)} UTC" if rollup.computed_until else "not yet"
            said = f"continuous aggregate, computed {until}; later bars are made as they are read"
            console.print(f"{rollup.name}: {said}", soft_wrap=True)
    for warning in made.warnings:
        console.print(f"[yellow]off[/] {warning}", soft_wrap=True)


def _moment(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if moment else "never"


@db.command("migrate")
def migrate_schema(
    revision: Annotated[str, typer.Argument(help="A revision to go up or down to, or `head` for the newest.")] = "head",
    *,
    down: Annotated[bool, typer.Option("--down", help="Go down; tables and their rows are removed.")] = False,
    with_timescaledb: Annotated[
        bool, typer.Option("--with-timescaledb", help="Create the extension first; the role must be allowed to.")
    ] = False,
) -> None:
    """Bring the schema up to date (or, with --down, back to an older revision), and make what TimescaleDB allows."""
    if down and revision == "head":
        raise ConfigError("--down: expected the revision to go back to, such as `base`, found none; name it")
    engine = open_engine(database_url(settings().home_path, server_url()), "tickstock db")
    if down:
        migrate.downgrade(engine, revision, settings().lifecycles)
    else:
        if with_timescaledb:
            tiers.create_extension(engine)
        migrate.upgrade(engine, revision, settings().lifecycles)
    with engine.connect() as connection:
        console.print(f"Schema revision: {migrate.current_revision(connection) or 'none'}")
        found = capability(connection)
    console.print(f"Tier: {found.tier}" + (f" {found.timescaledb}" if found.timescaledb else ""))
    if not found.timescaledb and found.available and not down:
        console.print(
            f"TimescaleDB {found.available} is on this server but not in this database: `tickstock db migrate "
            "--with-timescaledb` creates it, or a superuser does with CREATE EXTENSION timescaledb and you migrate again.",
            soft_wrap=True,
        )


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
