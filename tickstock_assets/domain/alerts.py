"""What people are alerted of, how often of the same thing, and in which words.

An alert is a kind and a subject, such as a failed check and which one. Some hold until they are well again (a slow database,
a check that did not pass), others have happened (a run that failed). Each receiver is told of one once in its quiet period,
with how often it was seen since; of what is well again, once.

Elsewhere: where alerts are kept (storage/alerts.py), who finds them (defs/alert_sensors.py), who sends them (alerting/).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal

from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.domain.windows import Window, not_covered

type Severity = Literal["warning", "error"]

# What happened before a receiver was set up is no news to it, but for a start that takes its time.
NEWS_BEFORE_RECEIVER = timedelta(hours=1)


class Kind(StrEnum):
    """What an alert is about."""

    RUN_FAILED = "run_failed"
    CHECK_FAILED = "check_failed"
    REQUEST_FAILED = "request_failed"
    GAP_GIVEN_UP = "gap_given_up"
    TICK_FAILED = "tick_failed"
    DATABASE_SLOW = "database_slow"
    DISK_LOW = "disk_low"
    LAG = "lag"

    @property
    def is_state(self) -> bool:
        """Whether it holds until it is well again; the others have happened and stay so."""
        return self not in {Kind.RUN_FAILED, Kind.REQUEST_FAILED, Kind.GAP_GIVEN_UP}


# As long as it takes a person to look, and to be asked again where nobody did; lag and disk move slower.
QUIET_MINUTES: Mapping[Kind, float] = {
    Kind.RUN_FAILED: 30,
    Kind.CHECK_FAILED: 60,
    Kind.REQUEST_FAILED: 60,
    Kind.GAP_GIVEN_UP: 60,
    Kind.TICK_FAILED: 60,
    Kind.DATABASE_SLOW: 60,
    Kind.DISK_LOW: 360,
    Kind.LAG: 1440,
}


@dataclass(frozen=True)
class Condition:
    """Something that is wrong now, and holds until a later look does not find it.

    Attributes:
        kind: one that is a state.
        subject: which of its kind.
        message: one line: what, expected, found, what to do.
        severity: error where work is lost or blocked.
    """

    kind: Kind
    subject: str
    message: str
    severity: Severity = "warning"


@dataclass(frozen=True)
class Occurrence:
    """Something that has happened, once.

    Attributes:
        kind: what.
        subject: which of its kind; the same one is told of once in a quiet period.
        message: one line: what, expected, found, what to do.
        key: by which it is known when it is found again.
        at: when (UTC).
        severity: error where work is lost or blocked.
        run_id: of Dagster's run it happened in, None without one.
        scope: of a check, the windows on which it did not pass; None for all of its asset.
    """

    kind: Kind
    subject: str
    message: str
    key: str
    at: datetime
    severity: Severity = "error"
    run_id: str | None = None
    scope: Sequence[Window] | None = None


@dataclass(frozen=True)
class Alert:
    """An alert as it stands.

    Attributes:
        id: the row's.
        kind: what.
        subject: which of its kind.
        severity: of the newest time.
        message: of the newest time.
        run_id: of the newest time.
        times: how often it was seen, ever.
        first_at: since when it holds, or when it first happened (UTC).
        last_at: when it was last seen (UTC).
        resolved_at: when it was well again (UTC); None while it is not, and of what only happens.
    """

    id: str
    kind: Kind
    subject: str
    severity: Severity
    message: str
    run_id: str | None
    times: int
    first_at: datetime
    last_at: datetime
    resolved_at: datetime | None = None


@dataclass(frozen=True)
class Told:
    """What a receiver was last told of an alert: when (UTC), how often it had been seen, and whether that it is well."""

    at: datetime
    times: int
    as_resolved: bool = False


@dataclass(frozen=True)
class Notice:
    """What a receiver is to be told of an alert now; `repeats` is how often it was seen since it was last told, less one."""

    alert: Alert
    repeats: int
    told_before: datetime | None = None

    @property
    def is_resolved(self) -> bool:
        """Whether it says that all is well again."""
        return self.alert.resolved_at is not None


def notice(alert: Alert, told: Told | None, quiet: timedelta, now: datetime, known_since: datetime) -> Notice | None:
    """Return what a receiver is to be told of an alert now, None when there is nothing or it is not time.

    Args:
        alert: as it stands.
        told: what the receiver was last told of it, None when never.
        quiet: how long it is told nothing more of an alert after it was told of it.
        now: UTC.
        known_since: when the receiver was set up (UTC).
    """
    if alert.resolved_at is not None:
        if told is None or told.as_resolved:
            return None
        return Notice(alert, max(alert.times - told.times, 0), told.at)
    if told is None:
        is_old = not alert.kind.is_state and alert.last_at < known_since - NEWS_BEFORE_RECEIVER
        return None if is_old else Notice(alert, alert.times - 1)
    if alert.times <= told.times or now < told.at + quiet:
        return None
    return Notice(alert, alert.times - told.times - 1, told.at)


def left_of(failed: Sequence[Window] | None, looked_at: Sequence[Window] | None) -> Sequence[Window] | None:
    """Return what remains failed after a later look at a part: whatever was looked at, that look speaks for.

    Args:
        failed: windows on which a check did not pass; None for all there is.
        looked_at: windows of a later evaluation, passed or not; None for all there is.

    Returns:
        Windows, none when nothing remains; None for all there is.
    """
    if looked_at is None:
        return []
    return None if failed is None else not_covered(failed, looked_at)


def line(what: Notice, ui_url: str | None) -> str:
    """Return a notice as one line of text.

    Args:
        what: the notice.
        ui_url: address of the web UI, for a link to the run; None for no link.
    """
    alert = what.alert
    if what.is_resolved and alert.resolved_at is not None:
        lasted = _length(alert.resolved_at - alert.first_at)
        return (
            f"RESOLVED {alert.kind} {alert.subject}: well again after {lasted} (it was: {_on_one_line(alert.message)})"
        )
    parts = [f"{alert.severity.upper()} {alert.kind} {alert.subject}: {_on_one_line(alert.message)}"]
    if what.repeats > 0:
        since = what.told_before or alert.first_at
        parts.append(f"({what.repeats:,} more since {since:%Y-%m-%d %H:%M} UTC)")
    if alert.run_id and ui_url:
        parts.append(f"{ui_url.rstrip('/')}/runs/{alert.run_id}")
    elif alert.run_id:
        parts.append(f"(run {alert.run_id[:8]})")
    return " ".join(parts)


def quiet_periods(text: str | None) -> dict[Kind, timedelta]:
    """Return the quiet period of each kind: its own, or what a text says.

    Args:
        text: minutes for all, such as `30`, or by kind, such as `lag=2880,run_failed=5`; None for each its own.

    Raises:
        ConfigError: it is neither.
    """
    minutes = dict(QUIET_MINUTES)
    for part in (text or "").split(","):
        name, _, number = (word.strip() for word in part.rpartition("="))
        if not number and not name:
            continue
        if (name and name not in list(Kind)) or not _is_minutes(number):
            raise ConfigError(
                "TICKSTOCK_ALERT_QUIET_MINUTES: expected minutes, such as 30, or those of some kinds, such as "
                f"lag=2880,run_failed=5, with kinds of {', '.join(Kind)}, found {part.strip()!r}; correct it"
            )
        minutes |= {Kind(name): float(number)} if name else dict.fromkeys(Kind, float(number))
    return {kind: timedelta(minutes=of_kind) for kind, of_kind in minutes.items()}


def _is_minutes(text: str) -> bool:
    return text.replace(".", "", 1).isdecimal() and len(text) <= 9


def _on_one_line(text: str) -> str:
    return " ".join(text.split())


def _length(span: timedelta) -> str:
    """Return a length of time as a person says it, in whole minutes, hours or days."""
    minutes = span.total_seconds() / 60
    for name, in_minutes in (("day", 1440), ("hour", 60), ("minute", 1)):
        if minutes >= 2 * in_minutes:
            return f"{minutes / in_minutes:.0f} {name}s"
    return f"{span.total_seconds():.0f} seconds"
