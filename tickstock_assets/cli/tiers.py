"""`tickstock db compress`, `refresh` and `drop-chunks`: what policies do by themselves, done now; a dry run unless --yes."""

from typing import Annotated

import typer

from tickstock_assets.cli.app import console
from tickstock_assets.cli.database import engine
from tickstock_assets.cli.db import db
from tickstock_assets.domain.errors import ConfigError, DatabaseError
from tickstock_assets.settings import settings
from tickstock_assets.storage.capability import Capability, Tier

YesOption = Annotated[bool, typer.Option("--yes", help="Do it; without, only what would be done is printed.")]
DRY_RUN = "Nothing was done: add --yes to do it."
BYTES_PER_MB = 1_000_000


@db.command()
def compress(
    table: Annotated[str | None, typer.Argument(help="A hypertable, such as `ohlcv_1min`.")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Every table that can be compressed.")] = False,
    yes: YesOption = False,
) -> None:
    """Compress all chunks of a table now; TimescaleDB Community."""
    from tickstock_assets.storage import compression
    from tickstock_assets.storage.capability import capability

    if (table is None) == (not every):
        raise ConfigError("compress: expected a table or --all, found " + ("both" if every else "neither"))
    opened = engine()
    with opened.connect() as connection:
        _require_community(capability(connection), "compress", "chunks are compressed")
        tables = compression.compressible(connection) if table is None else [table]
        plans = [compression.plan(connection, name) for name in tables]
    for plan in plans:
        done = compression.compress(opened, plan.table) if yes and plan.chunks else plan
        size = f"{done.before_bytes / BYTES_PER_MB:,.1f} MB"
        if done.after_bytes is not None:
            size += f" to {done.after_bytes / BYTES_PER_MB:,.1f} MB"
        console.print(f"{done.table}: {done.chunks:,} chunks {'compressed' if yes else 'to compress'}, {size}")
    if not yes:
        console.print(DRY_RUN)


@db.command()
def refresh(*, yes: YesOption = False) -> None:
    """Compute the rollups of minute bars now, as far back as their minutes reach; TimescaleDB Community."""
    from tickstock_assets.storage import continuous_aggregates, tiers
    from tickstock_assets.storage.capability import capability

    opened = engine()
    with opened.connect() as connection:
        _require_community(capability(connection), "refresh", "rollups are continuous aggregates")
        if not continuous_aggregates.exist(connection):
            raise DatabaseError("refresh: expected continuous aggregates, found none; run `tickstock db migrate`")
        todo = continuous_aggregates.planned(connection)
    if yes:
        todo = continuous_aggregates.refresh(opened)
        with opened.begin() as connection:
            # How far back policies reach is counted from now: set anew, they reach back to the first minute again.
            tiers.set_rollup_policies(connection, settings().lifecycles)
    for one in todo:
        said = "refreshed" if yes else "to refresh"
        console.print(f"{one.rollup}: {said} from {one.start:%Y-%m-%d %H:%M} to {one.end:%Y-%m-%d %H:%M} UTC")
    if not todo:
        console.print("There are no minute bars to make rollups of.")
    elif not yes:
        console.print(DRY_RUN)


@db.command("drop-chunks")
def drop_chunks(
    table: Annotated[str, typer.Argument(help="ohlcv_1min, ohlcv_daily, ticks, bar_revisions or bar_features.")],
    *,
    older_than: Annotated[
        str, typer.Option(help="An age such as '30 days', counted from the table's newest row, or a day: 2024-01-31.")
    ],
    yes: YesOption = False,
) -> None:
    """Drop old chunks of a table, or old rows where tables have no chunks; rollups of dropped minutes stay."""
    from tickstock_assets.storage import retention

    opened = engine()
    with opened.connect() as connection:
        before = retention.cutoff(connection, table, older_than)
        if before is None:
            console.print(f"{table} is empty: there is nothing to drop.")
            return
        planned = retention.plan(connection, table, before)
    if yes:
        planned = retention.drop(opened, table, before, settings().lifecycles)
    console.print(f"{'Dropped' if yes else 'To drop'}: {planned}", soft_wrap=True)
    if not yes:
        console.print(DRY_RUN)


def _require_community(found: Capability, verb: str, done: str) -> None:
    if found.tier is Tier.TIMESCALE_COMMUNITY:
        return
    if found.tier is Tier.TIMESCALE_APACHE:
        remedy = "run a server with the Community edition (timescaledb.license = timescale)"
    elif found.available:
        remedy = "run `tickstock db migrate --with-timescaledb` if its edition is Community"
    else:
        remedy = "set TICKSTOCK_DATABASE_URL to a server with TimescaleDB Community"
    raise DatabaseError(f"{verb}: {done} on TimescaleDB Community only, found {found.tier}; {remedy}")
