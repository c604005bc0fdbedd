"""How the runs of a backfill request stand, read off Dagster's runs and events.

Elsewhere: which runs those are (request_runs.py), who writes it down (sensors.py).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import cast

import dagster as dg
from dagster import DagsterEventType
from dagster._core.storage.event_log import SqlEventLogStorage
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.tags import RETRY_NUMBER_TAG, RUN_KEY_TAG
from sqlalchemy import func, select

from tickstock_assets.defs.launching import reason_of
from tickstock_assets.defs.lost_retries import is_waited_for
from tickstock_assets.defs.request_runs import (
    ATTEMPT_TAG,
    CONTINUES_AT,
    REQUEST_TAG,
    SHARE_LANDED,
    PlannedRun,
    history_of,
)
from tickstock_assets.storage.backfill_requests import BackfillRequest


@dataclass(frozen=True)
class Ending:
    """How a run ended that did not succeed.

    Attributes:
        reason: a sentence.
        is_cancelled: whether a person stopped it.
        continues_at: when it goes on by itself (UTC), such as when a budget lasts again; None where it does not.
        share_landed: share of its partitions that are landed, 0 to 1; known of loads that a budget held up.
    """

    reason: str
    is_cancelled: bool = False
    continues_at: datetime | None = None
    share_landed: float | None = None


@dataclass(frozen=True)
class RunStanding:
    """How a planned run stands.

    Attributes:
        planned: the run.
        run: Dagster's; None where it is still to be made.
        ending: how it ended, where it did and without success.
        n_made: partitions that each of its assets has made, by the asset's name.
    """

    planned: PlannedRun
    run: dg.DagsterRun | None
    ending: Ending | None
    n_made: Mapping[str, int]

    @property
    def is_to_be_started(self) -> bool:
        """Whether Dagster is still to be asked; a run that was made and never queued is queued by its key.

        One that Dagster made to do another again is its own: it fails it when it was not started in time.
        """
        if self.run is None:
            return True
        return self.run.status == dg.DagsterRunStatus.NOT_STARTED and RETRY_NUMBER_TAG not in self.run.tags

    @property
    def is_cancelled(self) -> bool:
        """Whether a person stopped it, or is about to: its process may take its time to end."""
        is_ending = self.run is not None and self.run.status == dg.DagsterRunStatus.CANCELING
        return is_ending or (self.ending is not None and self.ending.is_cancelled)

    @property
    def has_succeeded(self) -> bool:
        """Whether all is done."""
        return self.run is not None and self.run.is_success

    @property
    def n_finished(self) -> int:
        """Partitions that went through all the assets."""
        return min(self.n_made.values()) if self.n_made else int(self.has_succeeded) * self.planned.n_partitions

    @property
    def share(self) -> float:
        """Share that is done, 0 to 1."""
        if self.has_succeeded:
            return 1.0
        if self.ending and self.ending.share_landed is not None:
            return self.ending.share_landed
        return (
            min(sum(self.n_made.values()) / (len(self.n_made) * self.planned.n_partitions), 1.0) if self.n_made else 0.0
        )


@dataclass(frozen=True)
class Standing:
    """How the runs of an attempt stand."""

    runs: Sequence[RunStanding]

    @cached_property
    def is_cancelled(self) -> bool:
        """Whether a person stopped one of its runs, after which none is started any more; the others go on to their end."""
        return any(one.is_cancelled for one in self.runs)

    @property
    def to_be_started(self) -> list[dg.RunRequest]:
        """Runs that Dagster is still to be asked for."""
        return [] if self.is_cancelled else [one.planned.request for one in self.runs if one.is_to_be_started]

    @property
    def n_left_out(self) -> int:
        """Runs that are not started any more."""
        return sum(one.is_to_be_started for one in self.runs) if self.is_cancelled else 0

    @cached_property
    def endings(self) -> list[Ending]:
        """Of those that ended without success."""
        return [one.ending for one in self.runs if one.ending]

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes of this attempt."""
        is_left_out = self.is_cancelled
        return all(one.has_succeeded or one.ending or (is_left_out and one.is_to_be_started) for one in self.runs)

    @property
    def n_partitions(self) -> int:
        """Partitions that each asset is to make."""
        return sum(one.planned.n_partitions for one in self.runs)

    @property
    def n_finished(self) -> int:
        """Partitions that went through all the assets."""
        return sum(one.n_finished for one in self.runs)

    @property
    def share(self) -> float:
        """Share that is done, 0 to 1."""
        return sum(one.share * one.planned.n_partitions for one in self.runs) / self.n_partitions

    @property
    def continues_at(self) -> datetime | None:
        """When the first of those that a budget held up can go on; None when none was."""
        return min((ending.continues_at for ending in self.endings if ending.continues_at), default=None)


def standing(instance: dg.DagsterInstance, request: BackfillRequest, planned: Sequence[PlannedRun]) -> Standing:
    """Return how the runs of an attempt stand; of one that was done again the last time counts."""
    tags = {REQUEST_TAG: request.id, ATTEMPT_TAG: str(request.attempts)}
    newest: dict[str, dg.DagsterRun] = {}
    for run in instance.get_runs(dg.RunsFilter(tags=tags)):  # newest first
        newest.setdefault(run.tags.get(RUN_KEY_TAG, ""), run)
    made = _partitions_made(instance, newest.values())
    history = history_of(request)
    assets = history.assets if history else ()
    found = []
    for one in planned:
        its_run = newest.get(str(one.request.run_key))
        n_made = made.get(its_run.run_id, {}) if its_run else {}
        found.append(
            RunStanding(one, its_run, ending_of(instance, its_run), {name: n_made.get(name, 0) for name in assets})
        )
    return Standing(found)


def _partitions_made(instance: dg.DagsterInstance, runs: Iterable[dg.DagsterRun]) -> dict[str, dict[str, int]]:
    """Return how many partitions of each asset runs have made, counted by the database: there may be thousands."""
    events = SqlEventLogStorageTable.c
    query = (
        select(events.run_id, events.asset_key, func.count(events.partition.distinct()))
        .where(events.run_id.in_([run.run_id for run in runs]))
        .where(events.dagster_event_type == DagsterEventType.ASSET_MATERIALIZATION.value)
        .group_by(events.run_id, events.asset_key)
    )
    counts: dict[str, dict[str, int]] = {}
    with cast(SqlEventLogStorage, instance.event_log_storage).index_connection() as connection:
        for run_id, asset_key, count in connection.execute(query):
            found = dg.AssetKey.from_db_string(asset_key)
            if found is not None:
                counts.setdefault(run_id, {})[found.to_user_string()] = count
    return counts


def ending_of(instance: dg.DagsterInstance, run: dg.DagsterRun | None) -> Ending | None:
    """Return how a run ended; None when it did not, succeeded, or is to be done again by Dagster."""
    if run is None or not run.is_finished or run.is_success:
        return None
    if is_waited_for(instance, run):
        return None
    if run.status == dg.DagsterRunStatus.CANCELED:
        return Ending(f"run {run.run_id[:8]} was cancelled", is_cancelled=True)
    wanted = {DagsterEventType.STEP_FAILURE, DagsterEventType.ASSET_CHECK_EVALUATION, DagsterEventType.RUN_FAILURE}
    events = [one.dagster_event for one in instance.all_logs(run.run_id, of_type=wanted) if one.dagster_event]
    reason = f"run {run.run_id[:8]}: {reason_of(events)}"
    for event in events:
        said = event.step_failure_data.user_failure_data if event.is_step_failure else None
        if said and CONTINUES_AT in said.metadata:
            continues_at = datetime.fromtimestamp(float(str(said.metadata[CONTINUES_AT].value)), UTC)
            # A watch list has no partitions of which to tell a share.
            share = said.metadata.get(SHARE_LANDED)
            return Ending(reason, continues_at=continues_at, share_landed=float(str(share.value)) if share else None)
    return Ending(reason)
