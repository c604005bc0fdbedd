"""The audit trail: who changed what, in which run; append-only. What changed nothing leaves no entry."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, text


@dataclass(frozen=True)
class Run:
    """Who acts, and the UUID that all entries of one run have in common."""

    actor: str
    correlation_id: str


def begin(connection: Connection, run: Run) -> None:
    """Say for the rest of this transaction which run its entries belong to."""
    connection.execute(
        text(
            "SELECT set_config('tickstock.actor', :actor, true), "
            "set_config('tickstock.correlation_id', :correlation_id, true)"
        ),
        {"actor": run.actor, "correlation_id": run.correlation_id},
    )


def record(
    connection: Connection, event_type: str, entity: tuple[str, str], action: str, details: Mapping[str, object]
) -> None:
    """Enter what was done, in the transaction that does it.

    Args:
        connection: open.
        event_type: load, correction, detection, features, reference, quarantine, quarantine_release, quality, backtest,
            removal, retention.
        entity: the table, and what of it: an id, a symbol, or the table's name again where it is many rows.
        action: what was done, as a verb.
        details: particulars, such as counts of rows.
    """
    connection.execute(
        text(
            "INSERT INTO audit_trail (event_type, entity_type, entity_id, action, metadata) "
            "VALUES (:event_type, :entity_type, :entity_id, :action, :details)"
        ),
        {
            "event_type": event_type,
            "entity_type": entity[0],
            "entity_id": entity[1],
            "action": action,
            "details": json.dumps(details, sort_keys=True, default=str),
        },
    )
