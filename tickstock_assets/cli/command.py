"""The verbs together, and how their errors are told."""

import errno
import getpass
import os
import sys

import psycopg
from sqlalchemy.exc import DBAPIError

from tickstock_assets.cli.app import app
from tickstock_assets.domain.errors import TickstockError

# Importing a module registers its verbs.
from tickstock_assets.cli import alerts, backfill, backup, bars, check, db, demo, doctor, export, gaps  # noqa: F401  isort:skip
from tickstock_assets.cli import health, load, metrics, quality, quarantine, reconcile, roles, rollups  # noqa: F401  isort:skip
from tickstock_assets.cli import seed, sessions, simulate, splits, stream, tiers, ui  # noqa: F401  isort:skip

EXIT_USER_ERROR = 2
NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
NO_ACCESS = {errno.EACCES, errno.EPERM, errno.EROFS}


def run() -> None:
    """Run the command; an error a person can act on is one sentence and exit code 2."""
    try:
        app()
    except TickstockError as error:
        sys.stderr.write(f"tickstock: {error}\n")
        sys.exit(EXIT_USER_ERROR)
    except (DBAPIError, psycopg.Error, OSError) as error:
        sentence = _of_files(error) if isinstance(error, OSError) else _of_database(error)
        if sentence is None:
            raise
        sys.stderr.write(f"tickstock: {sentence}\n")
        sys.exit(EXIT_USER_ERROR)


def _of_database(error: DBAPIError | psycopg.Error) -> str | None:
    """Return what a person can do about an error of the database; None where it is a mistake of ours."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    said = (str(cause).strip().splitlines() or ["no reason given"])[0]
    match cause:
        case psycopg.errors.InsufficientPrivilege():
            return (
                f"the role that TICKSTOCK_DATABASE_URL names may not do this ({said}); tickstock_owner migrates, "
                "tickstock_app writes, an administrator does the rest"
            )
        case psycopg.errors.QueryCanceled():
            return (
                f"the database gave a statement up ({said}); what was finished is kept; ask for less at a time, or raise "
                "TICKSTOCK_STATEMENT_TIMEOUT_SECONDS, and run it again"
            )
        case psycopg.errors.DiskFull():
            return f"the database's server has no room ({said}); what was finished is kept; make room, run it again"
        case psycopg.OperationalError():
            return f"the database went away ({said}); what was finished is kept, run it again"
    return None


def _of_files(error: OSError) -> str | None:
    """Return what a person can do about a file; None where it is a mistake of ours."""
    name = error.filename or "a file"
    if error.errno in NO_ROOM:
        return f"{name}: expected room to write, found {error.strerror}; make room, run it again"
    if error.errno in NO_ACCESS:
        return (
            f"{name}: expected a file that we may use, found {error.strerror}; give {_user()} the right to it, or set "
            "TICKSTOCK_HOME to another folder"
        )
    return None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # of a number without a name
        return f"user {os.getuid()}"
