"""Alerts as they are stored: what was seen and how often, what is well again, and what each receiver was told.

Elsewhere: what is due when, and its words (domain/alerts.py), who looks (defs/alert_sensors.py), who sends (alerting/).
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import Connection, RowMapping, text

from tickstock_assets.domain.alerts import Alert, Condition, Kind, Notice, Occurrence, Told
from tickstock_assets.domain.windows import Window

# Whoever looks for what has happened looks back by less than this.
OCCURRENCES_KEPT = timedelta(days=7)
ALERTS_KEPT = timedelta(days=90)

ALERT_COLUMNS = """
    a.id::text AS id, a.kind, a.subject, a.severity, a.message, a.run_id, a.times, a.first_at, a.last_at, a.resolved_at
"""
ENTER_ALERT = text("""
    INSERT INTO alerts AS a (kind, subject, severity, message, run_id, first_at, last_at)
    VALUES (:kind, :subject, :severity, :message, :run_id, :at, :at)
    ON CONFLICT (kind, subject) DO UPDATE SET
        severity = excluded.severity, message = excluded.message, run_id = excluded.run_id, times = a.times + 1,
        first_at = CASE WHEN a.resolved_at IS NULL THEN least(a.first_at, excluded.first_at) ELSE excluded.first_at END,
        last_at = CASE WHEN a.resolved_at IS NULL THEN greatest(a.last_at, excluded.last_at) ELSE excluded.last_at END,
        resolved_at = NULL
    RETURNING id
""")
ENTER_OCCURRENCE = text("""
    INSERT INTO alert_occurrences (occurrence, alert, scope, occurred_at) VALUES (:key, :alert, :scope, :at)
""")
KNOWN = text("SELECT occurrence FROM alert_occurrences WHERE occurrence = ANY (:keys)")
# Two who look at once would count the same thing twice.
LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('alerts', 0))")
WELL_AGAIN = text("""
    UPDATE alerts SET resolved_at = clock_timestamp()
    WHERE resolved_at IS NULL AND kind = :kind AND subject <> ALL (CAST(:subjects AS text[]))
""")
SETTLE = text("UPDATE alert_occurrences SET resolved_at = clock_timestamp() WHERE occurrence = ANY (:keys)")
# Those whose occurrences were all settled.
SETTLED_ALERTS = text("""
    UPDATE alerts a SET resolved_at = clock_timestamp()
    WHERE a.kind = :kind AND a.resolved_at IS NULL
      AND NOT EXISTS (SELECT FROM alert_occurrences o WHERE o.alert = a.id AND o.resolved_at IS NULL)
""")
FORGET_OCCURRENCES = text("""
    DELETE FROM alert_occurrences o USING alerts a
    WHERE a.id = o.alert AND o.created_at < clock_timestamp() - CAST(:age AS interval)
      AND (o.resolved_at IS NOT NULL OR a.kind <> :lasting)
""")
FORGET_ALERTS = text("""
    DELETE FROM alerts WHERE last_at < clock_timestamp() - CAST(:age AS interval)
      AND (resolved_at IS NOT NULL OR kind = ANY (:happened))
""")
# What it was not told yet; which of it is due by now is not for SQL to say.
UNTOLD = text(f"""
    SELECT {ALERT_COLUMNS}, n.told_at, n.told_times, n.as_resolved
    FROM alerts a LEFT JOIN alert_notices n ON n.alert = a.id AND n.receiver = :receiver
    WHERE CASE WHEN a.resolved_at IS NULL THEN a.times > coalesce(n.told_times, 0) ELSE NOT n.as_resolved END
    ORDER BY a.last_at, a.id
""")  # noqa: S608 constants
# Only problems begin a quiet period.
TELL = text("""
    INSERT INTO alert_notices AS n (alert, receiver, told_at, told_times, as_resolved)
    SELECT told.alert, :receiver, clock_timestamp(), told.times, told.resolved
    FROM unnest(CAST(:alerts AS uuid[]), CAST(:times AS integer[]), CAST(:resolved AS boolean[])) AS told (alert, times, resolved)
    JOIN alerts a ON a.id = told.alert
    ON CONFLICT (alert, receiver) DO UPDATE SET
        told_at = CASE WHEN excluded.as_resolved THEN n.told_at ELSE excluded.told_at END,
        told_times = excluded.told_times, as_resolved = excluded.as_resolved
""")
CLAIM = text("""
    UPDATE alert_receivers SET not_before = clock_timestamp() + CAST(:lease AS interval)
    WHERE receiver = :receiver AND (not_before IS NULL OR not_before <= clock_timestamp()) RETURNING receiver
""")
DELIVERED = text("""
    UPDATE alert_receivers SET not_before = NULL, failures = 0, error = NULL, is_refusing = false,
        delivered_at = CASE WHEN :has_sent THEN clock_timestamp() ELSE delivered_at END
    WHERE receiver = :receiver
""")
NOT_DELIVERED = text("""
    UPDATE alert_receivers SET failures = failures + 1, error = :error, is_refusing = :is_refusing,
        not_before = clock_timestamp() + CAST(:wait AS interval)
    WHERE receiver = :receiver
""")


@dataclass(frozen=True)
class ReceiverState:
    """How sending to a receiver goes; times in UTC. One that is refusing takes nothing until something is changed."""

    receiver: str
    known_since: datetime
    not_before: datetime | None
    failures: int
    error: str | None
    is_refusing: bool
    delivered_at: datetime | None


@dataclass(frozen=True)
class OpenOccurrence:
    """An evaluation of a check, `subject`, that did not pass, and on which windows; None for all of its asset."""

    key: str
    subject: str
    scope: Sequence[Window] | None
    at: datetime


# --- what was seen


def count(connection: Connection, occurrences: Sequence[Occurrence]) -> int:
    """Enter what has happened and is not known yet, and return how much that was."""
    if not occurrences:
        return 0
    connection.execute(LOCK)
    known = set(connection.execute(KNOWN, {"keys": [one.key for one in occurrences]}).scalars())
    new = {one.key: one for one in occurrences if one.key not in known}
    for one in sorted(new.values(), key=lambda one: one.at):
        alert = connection.execute(
            ENTER_ALERT,
            {
                "kind": one.kind, "subject": one.subject, "severity": one.severity, "message": one.message,
                "run_id": one.run_id, "at": one.at,
            },
        ).scalar_one()  # fmt: skip
        values = {"key": one.key, "alert": alert, "scope": _as_json(one.scope), "at": one.at}
        connection.execute(ENTER_OCCURRENCE, values)
    return len(new)


def known(connection: Connection, keys: Sequence[str]) -> set[str]:
    """Return which of these occurrences are entered already."""
    return set(connection.execute(KNOWN, {"keys": list(keys)}).scalars())


def hold(connection: Connection, kind: Kind, conditions: Sequence[Condition]) -> None:
    """Make the open alerts of a kind those of some conditions; the others are well again.

    Args:
        connection: open.
        kind: of all conditions; one that was looked at whole.
        conditions: all there are now.
    """
    connection.execute(LOCK)
    now = datetime.now(UTC)
    for one in conditions:
        connection.execute(
            ENTER_ALERT,
            {
                "kind": kind, "subject": one.subject, "severity": one.severity, "message": one.message,
                "run_id": None, "at": now,
            },
        )  # fmt: skip
    connection.execute(WELL_AGAIN, {"kind": kind, "subjects": [one.subject for one in conditions]})


def open_occurrences(connection: Connection, kind: Kind, subjects: Sequence[str]) -> list[OpenOccurrence]:
    """Return what of these subjects is not settled yet."""
    rows = connection.execute(
        text("""
            SELECT o.occurrence AS key, a.subject, o.scope, o.occurred_at AS at
            FROM alert_occurrences o JOIN alerts a ON a.id = o.alert
            WHERE o.resolved_at IS NULL AND a.kind = :kind AND a.subject = ANY (:subjects) ORDER BY 1
        """),
        {"kind": kind, "subjects": list(subjects)},
    )
    return [OpenOccurrence(row.key, row.subject, _windows(row.scope), row.at) for row in rows]


def narrow(connection: Connection, key: str, scope: Sequence[Window]) -> None:
    """Note that of what happened only this is not well again yet."""
    connection.execute(
        text("UPDATE alert_occurrences SET scope = :scope WHERE occurrence = :key"),
        {"key": key, "scope": _as_json(scope)},
    )


def settle(connection: Connection, kind: Kind, keys: Sequence[str]) -> None:
    """Note that what happened is well again; an alert of the kind all of whose occurrences are so, is."""
    if keys:
        connection.execute(SETTLE, {"keys": list(keys)})
        connection.execute(SETTLED_ALERTS, {"kind": kind})


def forget(connection: Connection) -> None:
    """Remove what is settled and old: nobody finds it again."""
    connection.execute(FORGET_OCCURRENCES, {"age": OCCURRENCES_KEPT, "lasting": Kind.CHECK_FAILED})
    connection.execute(FORGET_ALERTS, {"age": ALERTS_KEPT, "happened": [kind for kind in Kind if not kind.is_state]})


def newest(connection: Connection, limit: int, *, only_open: bool = False) -> list[Alert]:
    """Return the alerts that were seen last, newest first."""
    rows = connection.execute(
        text(f"""
            SELECT {ALERT_COLUMNS} FROM alerts a WHERE NOT :only_open OR (a.resolved_at IS NULL AND a.kind = ANY (:states))
            ORDER BY a.last_at DESC, a.kind, a.subject LIMIT :limit
        """),  # noqa: S608 constants
        {"only_open": only_open, "states": [kind for kind in Kind if kind.is_state], "limit": limit},
    )
    return [_alert(row) for row in rows.mappings()]


# --- who was told


def know_receivers(connection: Connection, receivers: Iterable[str]) -> None:
    """Enter receivers that the settings name; those they no longer name stay with what they were told."""
    connection.execute(
        text("INSERT INTO alert_receivers (receiver) SELECT unnest(CAST(:names AS text[])) ON CONFLICT DO NOTHING"),
        {"names": list(receivers)},
    )


def receivers(connection: Connection) -> dict[str, ReceiverState]:
    """Return how sending goes, by receiver."""
    rows = connection.execute(
        text("""
            SELECT receiver, created_at AS known_since, not_before, failures, error, is_refusing, delivered_at
            FROM alert_receivers ORDER BY 1
        """)
    )
    return {row["receiver"]: ReceiverState(**row) for row in rows.mappings()}


def claim(connection: Connection, receiver: str, lease: timedelta) -> bool:
    """Return whether we may send to a receiver now; nobody else may until that is written down, or the lease is over."""
    return connection.execute(CLAIM, {"receiver": receiver, "lease": lease}).scalar() is not None


def untold(connection: Connection, receiver: str) -> list[tuple[Alert, Told | None]]:
    """Return the alerts of which a receiver does not know the newest, with what it was told; oldest first."""
    found: list[tuple[Alert, Told | None]] = []
    for row in connection.execute(UNTOLD, {"receiver": receiver}).mappings():
        told = Told(row["told_at"], row["told_times"], row["as_resolved"]) if row["told_at"] else None
        found.append((_alert(row), told))
    return found


def delivered(connection: Connection, receiver: str, notices: Sequence[Notice]) -> None:
    """Note that a receiver was told of these alerts as they stood then, and may be sent to again."""
    if notices:
        connection.execute(
            TELL,
            {
                "receiver": receiver,
                "alerts": [one.alert.id for one in notices],
                "times": [one.alert.times for one in notices],
                "resolved": [one.is_resolved for one in notices],
            },
        )
    connection.execute(DELIVERED, {"receiver": receiver, "has_sent": bool(notices)})


def not_delivered(connection: Connection, receiver: str, error: str, wait: timedelta, *, is_refusing: bool) -> None:
    """Note why a receiver took nothing, whether it would take it later, and how long it is left alone."""
    values = {"receiver": receiver, "error": error, "wait": wait, "is_refusing": is_refusing}
    connection.execute(NOT_DELIVERED, values)


def _as_json(scope: Sequence[Window] | None) -> str | None:
    return None if scope is None else json.dumps([[one.symbol, str(one.start), str(one.end)] for one in scope])


def _windows(scope: list[list[str]] | None) -> list[Window] | None:
    if scope is None:
        return None
    return [Window(symbol, date.fromisoformat(start), date.fromisoformat(end)) for symbol, start, end in scope]


def _alert(row: RowMapping) -> Alert:
    names = ("id", "subject", "severity", "message", "run_id", "times", "first_at", "last_at", "resolved_at")
    return Alert(kind=Kind(str(row["kind"])), **{name: row[name] for name in names})
