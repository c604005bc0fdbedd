"""Whether Dagster's daemon would take up a request, and if not, why.

Elsewhere: what it does with one (sensors.py).
"""

from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.scheduler.instigation import InstigatorStatus, InstigatorType
from dagster._daemon.types import DaemonHeartbeat

from tickstock_assets.defs.request_runs import SENSOR

# It gives a sign every 30 seconds, later where a sensor of it takes its time.
SILENT_AFTER = timedelta(minutes=2)
NEEDED = ("SENSOR", "QUEUED_RUN_COORDINATOR")
START = "start it with `tickstock ui`"


def why_silent(instance: dg.DagsterInstance) -> str | None:
    """Return in a sentence why no daemon is at work here; None when one is."""
    signs: dict[str, DaemonHeartbeat] = dict(instance.get_daemon_heartbeats())
    last = min((signs[name].timestamp if name in signs else 0.0 for name in NEEDED), default=0.0)
    if last == 0.0:
        return f"expected Dagster's daemon to be running, found that it never has; {START}"
    at = datetime.fromtimestamp(last, UTC)
    if datetime.now(UTC) - at > SILENT_AFTER:
        return f"expected Dagster's daemon to be running, found its last sign at {at:%Y-%m-%d %H:%M:%S} UTC; {START}"
    return None


def why_idle(instance: dg.DagsterInstance, since: datetime) -> str | None:
    """Return in a sentence why a daemon that runs has not taken up requests since a moment; None when it does."""
    states = instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
    state = next((one for one in states if one.instigator_name == SENSOR), None)
    if state and state.status is InstigatorStatus.STOPPED:
        return f"the sensor {SENSOR} is switched off; switch it on in the web UI, under Automation"
    tick = (
        next(iter(instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)), None) if state else None
    )
    at = datetime.fromtimestamp(tick.timestamp, UTC) if tick else None
    if tick and at and tick.is_failure:
        said = tick.error.message.strip().splitlines()[0] if tick.error and tick.error.message else "no reason given"
        return f"the sensor {SENSOR} failed at {at:%H:%M:%S} UTC: {said}"
    if datetime.now(UTC) - max(at or since, since) > SILENT_AFTER:
        return (
            f"the sensor {SENSOR} is not asked since {at or since:%Y-%m-%d %H:%M:%S} UTC; the web UI says under Deployment "
            "whether the code could be loaded"
        )
    return None
