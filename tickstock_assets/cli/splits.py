"""`tickstock splits`: recording a split that no provider has."""

import getpass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Annotated
from uuid import uuid4

import typer

from tickstock_assets.cli.app import app, console
from tickstock_assets.cli.database import engine
from tickstock_assets.domain.errors import ConfigError

splits = typer.Typer(help="Splits that no provider has recorded.", no_args_is_help=True)
app.add_typer(splits, name="splits")


@splits.callback()
def group() -> None:
    """Splits that no provider has recorded."""


@splits.command()
def add(  # noqa: PLR0917 what a person types
    symbol: Annotated[str, typer.Argument(help="Such as AAPL.")],
    day: Annotated[datetime, typer.Argument(metavar="DATE", formats=["%Y-%m-%d"], help="First session in new shares.")],
    split_from: Annotated[str, typer.Argument(metavar="FROM", help="Old shares, such as 1.")],
    split_to: Annotated[str, typer.Argument(metavar="TO", help="The new shares they became, such as 2.")],
    reason: Annotated[str, typer.Option(help="How you know; it stays in the audit trail.")],
    by: Annotated[str | None, typer.Option(help="Who says so; your user name unless given.")] = None,
) -> None:
    """Record a split, such as one that `tickstock quality` suggests, as source local.

    Bars stay as they are; whatever reads them adjusted counts it from now on. A provider that records one of that day later
    takes its place.
    """
    from tickstock_assets.storage import audit, local_splits
    from tickstock_assets.storage.retry import in_transaction

    if not reason.strip():
        raise ConfigError("--reason: expected how you know of the split, found nothing; say it")
    author = by or getpass.getuser()
    record = partial(
        local_splits.add,
        symbol=symbol,
        day=day.date(),
        split_from=_shares("FROM", split_from),
        split_to=_shares("TO", split_to),
        author=author,
        reason=reason.strip(),
    )
    changed = in_transaction(engine(), record, audit.Run(author, str(uuid4())))
    done = "Recorded" if changed else "Had been recorded"
    console.print(
        f"{done}: {symbol} {day:%Y-%m-%d}, {split_from} into {split_to}. "
        "The next run of the asset quality_findings resolves what was found there."
    )


@splits.command()
def remove(
    symbol: Annotated[str, typer.Argument(help="Such as AAPL.")],
    day: Annotated[datetime, typer.Argument(metavar="DATE", formats=["%Y-%m-%d"], help="As it was recorded.")],
    reason: Annotated[str, typer.Option(help="Why it was none; it stays in the audit trail.")],
    by: Annotated[str | None, typer.Option(help="Who says so; your user name unless given.")] = None,
) -> None:
    """Take back a split that a person has recorded; those of providers stay."""
    from tickstock_assets.storage import audit, local_splits
    from tickstock_assets.storage.retry import in_transaction

    if not reason.strip():
        raise ConfigError("--reason: expected why it was no split, found nothing; say it")
    author = by or getpass.getuser()
    take_back = partial(local_splits.remove, symbol=symbol, day=day.date(), author=author, reason=reason.strip())
    in_transaction(engine(), take_back, audit.Run(author, str(uuid4())))
    console.print(f"Removed: {symbol} {day:%Y-%m-%d}. What reads bars adjusted counts it no more.")


def _shares(name: str, typed: str) -> Decimal:
    try:
        shares = Decimal(typed)
    except InvalidOperation:
        shares = Decimal("NaN")
    if not shares.is_finite():
        raise ConfigError(f"{name}: expected a number of shares such as 2, found {typed!r}; correct it")
    return shares
