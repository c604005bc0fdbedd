"""A backfill request as Dagster's runs: which it takes, and how those stand.

Elsewhere: the requests themselves (storage/backfill_requests.py), who starts the runs (sensors.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import batched

import dagster as dg
from dagster import DagsterEventType
from dagster._core.storage.tags import RUN_KEY_TAG, WILL_RETRY_TAG

from tickstock_assets.defs.launching import reason_of
from tickstock_assets.defs.partitions import rectangle_tags, side_by_side
from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.storage.backfill_requests import BackfillRequest

# By these tags the web UI finds the runs of a request.
REQUEST_TAG = "tickstock/request"
ATTEMPT_TAG = "tickstock/attempt"
# Metadata of the failure of a run that a budget held up.
CONTINUES_AT = "continues_at"
SHARE_LANDED = "share_landed"

# More in one run would be longer than a person wants to wait for the first of them.
SYMBOLS_A_RUN = 50
UNKNOWN_NAMED = 5


def planned_runs(request: BackfillRequest, known: Sequence[str]) -> list[dg.RunRequest]:
    """Return the runs of an attempt at a request, the same ones whenever it is asked.

    Args:
        request: whose `attempts` counts this one.
        known: Dagster's own list of the symbols, in its order.

    Raises:
        ConfigError: a symbol is unknown, a year is outside of the partitions, or its bars have no partitions.
    """
    if request.timeframe != "1d":
        raise ConfigError(
            f"Request: expected timeframe 1d, the only one with partitions, found {request.timeframe}; "
            "`tickstock load --timeframe` loads the others"
        )
    if unknown := sorted(set(request.symbols) - set(known)):
        named = ", ".join(unknown[:UNKNOWN_NAMED]) + (", ..." if len(unknown) > UNKNOWN_NAMED else "")
        raise ConfigError(
            f"Request: expected symbols that are partitions, found {len(unknown)} that are not: {named}; "
            "`tickstock load --symbols` adds them"
        )
    groups = [part for group in side_by_side(request.symbols, known) for part in batched(group, SYMBOLS_A_RUN)]
    attempt = {REQUEST_TAG: request.id, ATTEMPT_TAG: str(request.attempts)}
    return [
        dg.RunRequest(
            run_key=f"{request.id}/{request.attempts}/{group[0]}",
            tags={**rectangle_tags(group, known, request.start.year, request.end.year), **attempt},
        )
        for group in groups
    ]


@dataclass(frozen=True)
class Ending:
    """How a run ended that did not succeed.

    Attributes:
        reason: a sentence.
        is_cancelled: whether a person stopped it.
        continues_at: when an exhausted budget lets it go on (UTC); None where that was not the reason.
        share_landed: share of its partitions that are landed, 0 to 1; known of those that a budget held up.
    """

    reason: str
    is_cancelled: bool = False
    continues_at: datetime | None = None
    share_landed: float = 0.0


@dataclass(frozen=True)
class Standing:
    """How the runs of an attempt stand.

    Attributes:
        not_started: runs that are still to be started.
        n_under_way: in the queue, at work, or to be retried by Dagster.
        n_succeeded: done.
        endings: of the others.
    """

    not_started: Sequence[dg.RunRequest]
    n_under_way: int
    n_succeeded: int
    endings: Sequence[Ending]

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes of this attempt."""
        return not self.not_started and not self.n_under_way

    @property
    def share(self) -> float:
        """Share that is loaded, 0 to 1."""
        n_runs = len(self.not_started) + self.n_under_way + self.n_succeeded + len(self.endings)
        return (self.n_succeeded + sum(ending.share_landed for ending in self.endings)) / n_runs

    @property
    def continues_at(self) -> datetime | None:
        """When the first of those that a budget held up can go on; None when none was."""
        return min((ending.continues_at for ending in self.endings if ending.continues_at), default=None)


def standing(instance: dg.DagsterInstance, request: BackfillRequest, planned: Sequence[dg.RunRequest]) -> Standing:
    """Return how the runs of an attempt stand; of one that was done again the last time counts."""
    tags = {REQUEST_TAG: request.id, ATTEMPT_TAG: str(request.attempts)}
    newest: dict[str, dg.DagsterRun] = {}
    for run in instance.get_runs(dg.RunsFilter(tags=tags)):  # newest first
        newest.setdefault(run.tags.get(RUN_KEY_TAG, ""), run)
    found = [(one, newest.get(str(one.run_key))) for one in planned]
    # A run that was made and not queued, since the daemon was killed in between, is found and queued by its key.
    not_started = [one for one, run in found if run is None or run.status == dg.DagsterRunStatus.NOT_STARTED]
    started = [run for _, run in found if run is not None and run.status != dg.DagsterRunStatus.NOT_STARTED]
    ended = [run for run in started if run.is_finished and run.tags.get(WILL_RETRY_TAG) != "true"]
    succeeded = [run for run in ended if run.is_success]
    endings = [_ending(instance, run) for run in ended if not run.is_success]
    return Standing(not_started, len(started) - len(ended), len(succeeded), endings)


def _ending(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Ending:
    if run.status == dg.DagsterRunStatus.CANCELED:
        return Ending(f"run {run.run_id[:8]} was cancelled", is_cancelled=True)
    wanted = {DagsterEventType.STEP_FAILURE, DagsterEventType.ASSET_CHECK_EVALUATION}
    events = [one.dagster_event for one in instance.all_logs(run.run_id, of_type=wanted) if one.dagster_event]
    reason = f"run {run.run_id[:8]}: {reason_of(events)}"
    for event in events:
        said = event.step_failure_data.user_failure_data if event.is_step_failure else None
        if said and CONTINUES_AT in said.metadata:
            continues_at = datetime.fromtimestamp(float(str(said.metadata[CONTINUES_AT].value)), UTC)
            return Ending(reason, continues_at=continues_at, share_landed=float(str(said.metadata[SHARE_LANDED].value)))
    return Ending(reason)
