"""What Dagster has recorded that people are to be told of: runs that failed, checks that did not pass, ticks that fail.

Both are read in the order in which they were written, some at a time, from a position that the sensor's cursor keeps. What
was written in the last minute is read once more: of two who write at once, the later number may be there first. Whoever enters
it knows it by its key, so that nothing counts twice, also when a tick is killed or the cursor is lost.

Elsewhere: what the database says (state_alerts.py), the sensors (alert_sensors.py).
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster import AssetCheckEvaluation, DagsterEventType
from dagster._core.event_api import EventLogRecord, EventRecordsFilter
from dagster._core.scheduler.instigation import InstigatorStatus, InstigatorTick, TickStatus
from sqlalchemy import Connection

from tickstock_assets.defs.check_scope import scope_of_run
from tickstock_assets.defs.partitions import windows_of
from tickstock_assets.defs.request_runs import REQUEST_TAG
from tickstock_assets.defs.request_standing import ending_of
from tickstock_assets.domain.alerts import Condition, Kind, Occurrence, left_of
from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.domain.windows import Window
from tickstock_assets.storage import alerts

# A daemon that was away so long comes back to what is no news any more.
LOOKS_BACK = timedelta(days=1)
READ_AGAIN = timedelta(minutes=1)
RUNS_A_TICK, EVALUATIONS_A_TICK = 100, 500
ASSETS_NAMED = 3
OPEN_THE_RUN = "open the run for its log"
ENDED = {TickStatus.SUCCESS, TickStatus.SKIPPED, TickStatus.FAILURE}
# The newest may be under way, and one before it have been killed.
TICKS_READ = 5


@dataclass(frozen=True)
class Position:
    """Up to where Dagster's records were read: a moment (ISO) of runs, a number of evaluations."""

    runs_since: str | None = None
    evaluations_after: int | None = None

    @classmethod
    def read(cls, cursor: str | None) -> "Position":
        """Return what a sensor's cursor says."""
        return cls(**json.loads(cursor)) if cursor else cls()

    def or_later(self, other: "Position") -> "Position":
        """Return of each what is further on."""
        numbers = [one.evaluations_after for one in (self, other) if one.evaluations_after is not None]
        return Position(max(self.runs_since, other.runs_since, key=_moment), max(numbers, default=None))

    def as_cursor(self) -> str:
        """Return it for a sensor's cursor."""
        return json.dumps(asdict(self))


# --- runs


def count_failed_runs(instance: dg.DagsterInstance, connection: Connection, position: Position) -> Position:
    """Enter the runs that have failed since, and return up to where was read.

    Left out is what heals by itself: a run that Dagster starts again, one that waits for a budget, and the runs of
    requests, which are alerted when the request fails.
    """
    now = datetime.now(UTC)
    since = max(_moment(position.runs_since), now - LOOKS_BACK)
    failed = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=since)
    records = instance.get_run_records(failed, limit=RUNS_A_TICK, order_by="update_timestamp", ascending=True)
    keys = [f"run/{record.dagster_run.run_id}" for record in records]
    known = alerts.known(connection, keys)
    new = [record for record, key in zip(records, keys, strict=True) if key not in known]
    found = [_failed_run(instance, record) for record in new if REQUEST_TAG not in record.dagster_run.tags]
    alerts.count(connection, [one for one in found if one is not None])
    until = records[-1].update_timestamp.replace(tzinfo=UTC) if len(records) == RUNS_A_TICK else now - READ_AGAIN
    return replace(position, runs_since=max(until, since).isoformat())


def _failed_run(instance: dg.DagsterInstance, record: dg.RunRecord) -> Occurrence | None:
    run, ending = record.dagster_run, ending_of(instance, record.dagster_run)
    if ending is None or ending.continues_at is not None:
        return None
    at = (
        datetime.fromtimestamp(record.end_time, UTC) if record.end_time else record.update_timestamp.replace(tzinfo=UTC)
    )
    return Occurrence(
        Kind.RUN_FAILED,
        _name_of(run),
        f"expected the run to succeed, found {ending.reason}; {OPEN_THE_RUN}",
        key=f"run/{run.run_id}",
        at=at,
        run_id=run.run_id,
    )


def _name_of(run: dg.DagsterRun) -> str:
    """Return the job, or the first assets of a run that was clicked together."""
    if not run.job_name.startswith("__ASSET_JOB"):
        return run.job_name
    names = sorted(key.to_user_string() for key in run.asset_selection or [])
    return ", ".join(names[:ASSETS_NAMED]) + (f" and {len(names) - ASSETS_NAMED} more" if names[ASSETS_NAMED:] else "")


def _moment(text: str | None) -> datetime:
    return datetime.fromisoformat(text) if text else datetime.fromtimestamp(0, UTC)


# --- checks


def count_failed_checks(
    instance: dg.DagsterInstance,
    connection: Connection,
    position: Position,
    *,
    with_warnings: bool,
    unpartitioned: Collection[dg.AssetKey],
) -> Position:
    """Enter the checks that have not passed since, settle what has passed, and return up to where was read.

    An evaluation speaks for all that it has looked at: what did not pass there before is settled, or is in it again.

    Args:
        instance: Dagster's.
        connection: open.
        position: up to where was read before.
        with_warnings: also of checks that only warn.
        unpartitioned: the assets without partitions, whose checks look at all of them in every run.
    """
    after = position.evaluations_after
    back_to = None if after is not None else (datetime.now(UTC) - LOOKS_BACK).timestamp()
    wanted = EventRecordsFilter(DagsterEventType.ASSET_CHECK_EVALUATION, after_cursor=after, after_timestamp=back_to)
    records = instance.event_log_storage.get_event_records(wanted, limit=EVALUATIONS_A_TICK, ascending=True)
    if not records:
        return position
    evaluations = [_Evaluation.of(record) for record in records]
    scopes = _Scopes(instance, connection, [one.run_id for one in evaluations], unpartitioned)
    for one in evaluations:
        if not one.what.passed and (with_warnings or one.what.severity is dg.AssetCheckSeverity.ERROR):
            alerts.count(connection, [one.as_occurrence(scopes.failed(one))])
    _settle(connection, evaluations, scopes.looked_at)
    newest = _read_up_to(evaluations, is_all=len(records) < EVALUATIONS_A_TICK)
    return position if newest is None else replace(position, evaluations_after=newest)


@dataclass(frozen=True)
class _Evaluation:
    storage_id: int
    run_id: str
    at: datetime
    what: AssetCheckEvaluation

    @classmethod
    def of(cls, record: EventLogRecord) -> "_Evaluation":
        entry = record.event_log_entry
        at = datetime.fromtimestamp(entry.timestamp, UTC)
        return cls(record.storage_id, entry.run_id, at, entry.get_dagster_event().asset_check_evaluation_data)

    @property
    def subject(self) -> str:
        return f"{self.what.asset_key.to_user_string()}:{self.what.check_name}"

    @property
    def key(self) -> str:
        return f"check/{self.run_id}/{self.storage_id}"

    def as_occurrence(self, scope: Sequence[Window] | None) -> Occurrence:
        numbers = {name: value.value for name, value in self.what.metadata.items()}
        said = ", ".join(f"{name} {value}" for name, value in numbers.items() if isinstance(value, int | float | str))
        found = "; ".join(part for part in (self.what.description, said) if part) or "no particulars"
        is_error = self.what.severity is dg.AssetCheckSeverity.ERROR
        return Occurrence(
            Kind.CHECK_FAILED,
            self.subject,
            f"expected the check to pass, found {found}; look at its offending rows, mend or load them again",
            key=self.key,
            at=self.at,
            severity="error" if is_error else "warning",
            run_id=self.run_id or None,
            scope=scope,
        )


class _Scopes:
    """What evaluations have looked at, by their assets and by the tags of their runs, which are read at once."""

    def __init__(
        self,
        instance: dg.DagsterInstance,
        connection: Connection,
        run_ids: Sequence[str],
        unpartitioned: Collection[dg.AssetKey],
    ) -> None:
        self._instance, self._connection, self._unpartitioned = instance, connection, unpartitioned
        runs = instance.get_runs(dg.RunsFilter(run_ids=sorted(set(run_ids) - {""})))
        self._tags: Mapping[str, Mapping[str, str]] = {run.run_id: run.tags for run in runs}

    def looked_at(self, one: _Evaluation) -> Sequence[Window] | None:
        """Return the windows an evaluation is of; None for all of its asset."""
        if one.what.partition is not None:
            return windows_of([one.what.partition])
        # Such an asset stands in runs of other assets' partitions too.
        if one.what.asset_key in self._unpartitioned:
            return None
        try:
            return scope_of_run(self._instance, self._connection, self._tags.get(one.run_id, {}))
        except ConfigError:
            return []  # of symbols that are no partitions any more

    def failed(self, one: _Evaluation) -> Sequence[Window] | None:
        """Return the windows that did not pass: those it names, where it names all of them."""
        named, number = (one.what.metadata.get(name) for name in ("failed_partitions", "partitions_failed"))
        partitions = named.value if named else None
        if isinstance(partitions, Mapping) and number and len(partitions) == number.value:
            return windows_of(partitions)
        return self.looked_at(one)


def _settle(
    connection: Connection,
    evaluations: Sequence[_Evaluation],
    looked_at: Callable[[_Evaluation], Sequence[Window] | None],
) -> None:
    """Take what each evaluation has looked at from what did not pass before it."""
    still_open = alerts.open_occurrences(connection, Kind.CHECK_FAILED, sorted({one.subject for one in evaluations}))
    settled: list[str] = []
    for occurrence in still_open:
        remains = occurrence.scope
        for later in evaluations:
            if later.subject == occurrence.subject and later.at > occurrence.at and later.key != occurrence.key:
                remains = left_of(remains, looked_at(later))
        if remains is not None and not remains:
            settled.append(occurrence.key)
        elif remains is not None and remains != occurrence.scope:
            alerts.narrow(connection, occurrence.key, remains)
    alerts.settle(connection, Kind.CHECK_FAILED, settled)


def _read_up_to(evaluations: Sequence[_Evaluation], *, is_all: bool) -> int | None:
    """Return the number that the next look begins after; None to begin where this one did."""
    if not is_all:
        return evaluations[-1].storage_id
    old = [one.storage_id for one in evaluations if one.at < datetime.now(UTC) - READ_AGAIN]
    return max(old, default=None)


# --- ticks


def failing_ticks(instance: dg.DagsterInstance) -> list[Condition]:
    """Return the sensors and schedules that are on and whose last tick failed."""
    return [
        Condition(
            Kind.TICK_FAILED,
            name,
            f"expected its ticks to succeed, found {_error_of(tick)}; see its page in the web UI under Automation",
            "error",
        )
        for name, tick in last_ticks(instance).items()
        if tick.status is TickStatus.FAILURE
    ]


def last_ticks(instance: dg.DagsterInstance) -> dict[str, InstigatorTick]:
    """Return the last tick that has ended of each sensor and schedule that is on, by its name."""
    states = instance.all_instigator_state()
    running = {one.selector_id: one.instigator_name for one in states if one.status is not InstigatorStatus.STOPPED}
    if not running:
        return {}
    ticks = instance.get_batch_ticks(sorted(running), limit=TICKS_READ)  # newest first
    ended = {running[selector]: [one for one in some if one.status in ENDED] for selector, some in ticks.items()}
    return {name: some[0] for name, some in ended.items() if some}


def _error_of(tick: InstigatorTick) -> str:
    error = tick.error
    while error and error.cause:
        error = error.cause
    return error.message.strip().splitlines()[0] if error and error.message.strip() else "no reason given"
