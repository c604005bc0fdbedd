"""What the looks of `tickstock doctor` have in common: findings, and what earlier looks hand on to later ones."""

from dataclasses import dataclass, field
from typing import Literal

import dagster as dg
import psycopg
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from tickstock_assets.domain.errors import DatabaseError, TickstockError
from tickstock_assets.loading.lineup import Lineup
from tickstock_assets.settings import Settings

type Status = Literal["ok", "warning", "failed"]

# What can go wrong around us; a mistake of our own is none of these and shows as what it is.
TROUBLE = (TickstockError, OSError, SQLAlchemyError, psycopg.Error, dg.DagsterError)


@dataclass(frozen=True)
class Finding:
    """What one look found; `remedy` says what to do where it is not ok."""

    check: str
    status: Status
    found: str
    remedy: str = ""


@dataclass
class Patient:
    """What is looked at, and what earlier checks opened for later ones.

    Attributes:
        chosen: the settings.
        offline: whether nobody is to be asked.
        engine: of the database, once it is known to be of use; None until then.
        names: of the providers that are on.
        lineups: a lineup of one for each of them that could be made.
    """

    chosen: Settings
    offline: bool
    engine: Engine | None = None
    names: list[str] = field(default_factory=list)
    lineups: list[Lineup] = field(default_factory=list)

    def opened(self) -> Engine:
        """Return the engine; DatabaseError where there is none."""
        if self.engine is None:
            raise DatabaseError("the database cannot be used")
        return self.engine


def sentence(error: Exception) -> str:
    """Return the first line of what an error says."""
    cause = getattr(error, "orig", None) or error
    return (str(cause).strip().splitlines() or [type(error).__name__])[0]
