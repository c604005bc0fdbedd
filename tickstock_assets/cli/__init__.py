"""The `tickstock` command: thin verbs, one module a group. Heavy imports wait until a verb needs them."""

import sys

from sqlalchemy.exc import OperationalError

from tickstock_assets.cli.app import app
from tickstock_assets.domain.errors import TickstockError

# Importing a module registers its verbs.
from tickstock_assets.cli import bars, db, demo, seed, ui  # noqa: F401  isort:skip

EXIT_USER_ERROR = 2


def main() -> None:
    """Run the command; an error a person can act on is one sentence and exit code 2."""
    try:
        app()
    except TickstockError as error:
        sys.stderr.write(f"tickstock: {error}\n")
        sys.exit(EXIT_USER_ERROR)
    except OperationalError as error:
        cause = (str(error.orig).strip().splitlines() or ["no reason given"])[0]
        sys.stderr.write(f"tickstock: the database went away ({cause}); what was finished is kept, run it again\n")
        sys.exit(EXIT_USER_ERROR)
