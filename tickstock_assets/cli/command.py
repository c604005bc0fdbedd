"""The verbs together, and how their errors are told."""

import sys

import psycopg
from sqlalchemy.exc import DBAPIError, OperationalError

from tickstock_assets.cli.app import app
from tickstock_assets.domain.errors import TickstockError

# Importing a module registers its verbs.
from tickstock_assets.cli import alerts, backfill, backup, bars, check, db, demo, doctor, export, gaps  # noqa: F401  isort:skip
from tickstock_assets.cli import health, load, metrics, quality, quarantine, reconcile, roles, rollups  # noqa: F401  isort:skip
from tickstock_assets.cli import seed, sessions, simulate, splits, stream, tiers, ui  # noqa: F401  isort:skip

EXIT_USER_ERROR = 2


def run() -> None:
    """Run the command; an error a person can act on is one sentence and exit code 2."""
    try:
        app()
    except TickstockError as error:
        sys.stderr.write(f"tickstock: {error}\n")
        sys.exit(EXIT_USER_ERROR)
    except (DBAPIError, psycopg.errors.InsufficientPrivilege) as error:
        _refused(error)


def _refused(error: DBAPIError | psycopg.Error) -> None:
    """Say in one sentence that the database went away or that its role may not do this; raise any other error."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    said = (str(cause).strip().splitlines() or ["no reason given"])[0]
    if isinstance(cause, psycopg.errors.InsufficientPrivilege):
        sys.stderr.write(
            f"tickstock: the role that TICKSTOCK_DATABASE_URL names may not do this ({said}); tickstock_owner migrates, "
            "tickstock_app writes, an administrator does the rest\n"
        )
    elif isinstance(error, OperationalError):
        sys.stderr.write(f"tickstock: the database went away ({said}); what was finished is kept, run it again\n")
    else:
        raise error
    sys.exit(EXIT_USER_ERROR)
