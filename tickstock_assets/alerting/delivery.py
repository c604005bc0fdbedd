"""Sends what is due to each receiver, and writes down that it did.

All that is due to a receiver goes in one message, a line each. What it took is noted right after it answered: a process that
is killed in the moment between sends the same message again, under the same id, once the lease on the receiver is over;
nothing that was not taken is ever noted as told.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

from pydantic import SecretStr
from sqlalchemy import Engine, make_url

from tickstock_assets.alerting.receivers import Message, Receiver
from tickstock_assets.domain.alerts import Kind, Notice, line, notice
from tickstock_assets.domain.errors import ReceiverError, TransientReceiverError
from tickstock_assets.providers.redaction import Redaction
from tickstock_assets.settings import Settings
from tickstock_assets.storage import alerts
from tickstock_assets.storage.alerts import ReceiverState
from tickstock_assets.storage.retry import in_transaction

LINES_A_MESSAGE = 20
# Longer than all tries of one message take.
LEASE = timedelta(minutes=2)
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=30), timedelta(minutes=10)
NAMESPACE = uuid.UUID("5b0d4c3e-7a0c-4d62-9d0c-6a8f1f0c2b7e")


@dataclass(frozen=True)
class Wording:
    """How alerts are put into words.

    Attributes:
        ui_url: address of the web UI, for links; None for none.
        redact: blacks secrets out.
    """

    ui_url: str | None = None
    redact: Redaction = field(default_factory=Redaction)


@dataclass(frozen=True)
class Outcome:
    """What became of a delivery.

    Attributes:
        told: alerts that were told, by receiver.
        put_off: a sentence for each receiver that is tried again later.
        refusals: a sentence for each receiver that takes nothing until something is changed.
    """

    told: Mapping[str, int]
    put_off: Sequence[str]
    refusals: Sequence[str]


def deliver(
    engine: Engine, receivers: Sequence[Receiver], quiet: Mapping[Kind, timedelta], wording: Wording
) -> Outcome:
    """Send to each receiver what is due to it.

    Args:
        engine: of the database.
        receivers: who.
        quiet: how long a receiver is told nothing more of an alert of a kind.
        wording: how.
    """
    names = [receiver.name for receiver in receivers]
    in_transaction(engine, lambda connection: alerts.know_receivers(connection, names))
    with engine.connect() as connection:
        states = alerts.receivers(connection)
    told: dict[str, int] = {}
    put_off: list[str] = []
    refusals: list[str] = []
    for receiver in receivers:
        state = states[receiver.name]
        if not _due(engine, state, quiet):
            continue
        if not in_transaction(engine, partial(alerts.claim, receiver=receiver.name, lease=LEASE)):
            # One that refuses goes on to be told of while it is left alone: nobody is to take it for well again.
            (refusals if state.is_refusing else put_off).append(_why_later(state))
            continue
        try:
            # Looked up once more: somebody may have sent it before we had the receiver to ourselves.
            told[receiver.name] = _send(engine, receiver, _due(engine, state, quiet), wording)
        except ReceiverError as error:
            (put_off if isinstance(error, TransientReceiverError) else refusals).append(str(error))
            _leave_alone(engine, state, error)
    return Outcome(told, put_off, refusals)


def wording(chosen: Settings) -> Wording:
    """Return how alerts are put into words under some settings, with all their secrets blacked out."""
    secrets = [value for _, value in chosen if isinstance(value, SecretStr)]
    passwords = [make_url(chosen.database_url.get_secret_value()).password] if chosen.database_url else []
    return Wording(chosen.ui_url, Redaction(*secrets, *(password for password in passwords if password)))


def message_of(notices: Sequence[Notice], receiver: str, wording: Wording) -> Message:
    """Return what a receiver is told of some alerts."""
    lines = [wording.redact(line(one, wording.ui_url)) for one in notices]
    first = notices[0].alert
    said = "resolved: " if notices[0].is_resolved else ""
    title = f"TickStock: {said}{first.kind} {first.subject}" + (f" and {len(lines) - 1} more" if lines[1:] else "")
    content = "|".join(f"{one.alert.id}/{one.alert.times}/{one.is_resolved}" for one in notices)
    return Message(str(uuid.uuid5(NAMESPACE, f"{receiver}|{content}")), wording.redact(title), lines)


def _due(engine: Engine, state: ReceiverState, quiet: Mapping[Kind, timedelta]) -> list[Notice]:
    now = datetime.now(UTC)
    with engine.connect() as connection:
        candidates = alerts.untold(connection, state.receiver)
    found = (notice(alert, told, quiet[alert.kind], now, state.known_since) for alert, told in candidates)
    return [one for one in found if one is not None][:LINES_A_MESSAGE]


def _send(engine: Engine, receiver: Receiver, due: Sequence[Notice], wording: Wording) -> int:
    if due:
        receiver.send(message_of(due, receiver.name, wording))
    in_transaction(engine, lambda connection: alerts.delivered(connection, receiver.name, due))
    return len(due)


def _leave_alone(engine: Engine, state: ReceiverState, error: ReceiverError) -> None:
    wait = min(FIRST_WAIT * 2 ** min(state.failures, 10), LONGEST_WAIT)
    if isinstance(error, TransientReceiverError) and error.retry_after_seconds:
        wait = max(wait, timedelta(seconds=min(error.retry_after_seconds, timedelta(days=1).total_seconds())))
    is_refusing = not isinstance(error, TransientReceiverError)
    in_transaction(
        engine,
        lambda connection: alerts.not_delivered(connection, state.receiver, str(error), wait, is_refusing=is_refusing),
    )


def _why_later(state: ReceiverState) -> str:
    if state.not_before is None:
        return f"{state.receiver}: somebody else is sending to it"
    return f"{state.error or f'{state.receiver}: it was being sent to'}; tried again from {state.not_before:%H:%M:%S} UTC on"
