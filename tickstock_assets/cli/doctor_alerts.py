"""What `tickstock doctor` looks at of alerts: who is told, and whether the last message was taken. It sends none."""

from collections.abc import Iterator

from tickstock_assets.alerting.addresses import OFF, receivers
from tickstock_assets.cli.doctor_findings import Finding, Patient
from tickstock_assets.storage import alerts


def who_is_told(patient: Patient) -> Iterator[Finding]:
    """Yield a finding for each receiver, or that there is none."""
    names = [receiver.name for receiver in receivers(patient.chosen)]
    if not names:
        yield Finding("alerts", "ok", OFF)
        return
    with patient.opened().connect() as connection:
        states = alerts.receivers(connection)
    for name in names:
        state, check = states.get(name), f"alerts to {name}"
        if state is None or (state.error is None and state.delivered_at is None):
            yield Finding(check, "ok", "no message was sent yet; `tickstock alerts test` sends one")
        elif state.error is not None:
            found = f"{state.error} ({state.failures} tries since the last that was taken)"
            yield Finding(check, "failed", found, "then `tickstock alerts test`; what was not told is sent again")
        else:
            yield Finding(check, "ok", f"took the last message, at {state.delivered_at:%Y-%m-%d %H:%M} UTC")
