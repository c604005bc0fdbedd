"""The audit trail: who changed what, append-only. Who, and in which run, the session says once for all its entries."""

import json
from collections.abc import Mapping
from typing import Any

import psycopg
from sqlalchemy import Connection, text

Cursor = psycopg.Cursor[Any]


def begin(connection: Connection, actor: str, correlation_id: str) -> None:
    """Say for the rest of this transaction who acts and which run it belongs to.

    Args:
        connection: open.
        actor: a person, or the part of the program that acts on its own.
        correlation_id: a UUID, the same in every transaction of one run.
    """
    connection.execute(
        text(
            "SELECT set_config('tickstock.actor', :actor, true), "
            "set_config('tickstock.correlation_id', :correlation_id, true)"
        ),
        {"actor": actor, "correlation_id": correlation_id},
    )


def record(
    cursor: Cursor, *, event_type: str, entity_type: str, entity_id: str, action: str, details: Mapping[str, object]
) -> None:
    """Enter what was done, in the transaction that does it; what changed nothing is not entered."""
    cursor.execute(
        "INSERT INTO audit_trail (event_type, entity_type, entity_id, action, metadata) VALUES (%s, %s, %s, %s, %s)",
        [event_type, entity_type, entity_id, action, json.dumps(details, sort_keys=True, default=str)],
    )
