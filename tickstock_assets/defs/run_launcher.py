"""Dagster's way of starting runs, and of telling that one's process is lost, which its own launcher cannot.

A run is a child of the code server that was asked to start it, and ends with it (parent_watch.py). So a run is alive as long
as that server answers and knows it; else it is lost, as after a power failure, and would be `STARTED` for ever.
"""

from typing import Any

import dagster as dg
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher.base import CheckRunHealthResult, RunLauncher, WorkerStatus
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import ConfigurableClassData, deserialize_value

from tickstock_assets.settings import settings

ANSWER_SECONDS = 10
# A server that does not answer once may be busy; the looks are `poll_interval_seconds` of dagster.yaml apart.
LOOKS = 2


class Looks:
    """What looks at runs have found; a run is lost when so many in a row did not find it."""

    def __init__(self, number: int = LOOKS) -> None:
        self._number = number
        self._missed: dict[str, int] = {}

    def health(self, run: dg.DagsterRun, *, is_found: bool) -> CheckRunHealthResult:
        """Count one more look at a run, and return how it is."""
        missed = 0 if is_found else self._missed.get(run.run_id, 0) + 1
        if 0 < missed < self._number:
            self._missed[run.run_id] = missed
        else:
            self._missed.pop(run.run_id, None)
        if missed < self._number:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(
            WorkerStatus.NOT_FOUND, "The process of this run is lost; what it finished is kept."
        )


class WatchedRunLauncher(DefaultRunLauncher):
    """Starts runs as Dagster's own launcher does, and knows whether they live."""

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(inst_data)
        self._looks = Looks()

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Any) -> RunLauncher:  # type: ignore[override]  # noqa: ARG003
        """Make it; or, where the settings name a broker, the launcher of runs in Celery's workers."""
        broker = settings().broker_url
        if broker is None:
            return cls(inst_data)
        from tickstock_assets.defs.celery_runs import CeleryRuns  # noqa: PLC0415 an extra, and not needed otherwise

        return CeleryRuns(broker.get_secret_value(), inst_data)

    @property
    def supports_check_run_worker_health(self) -> bool:
        """That it can tell."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Return whether the process of a started run lives."""
        return self._looks.health(run, is_found=self._is_found(run))

    def _is_found(self, run: dg.DagsterRun) -> bool:
        client = self._get_grpc_client_for_termination(run.run_id)  # type: ignore[no-untyped-call]
        if client is None:
            # It has ended, or was started by `tickstock demo` in its own process, which closes it the next time.
            return True
        try:
            answer = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run.run_id), timeout=ANSWER_SECONDS)
        except DagsterUserCodeUnreachableError:
            return False
        return deserialize_value(answer, CanCancelExecutionResult).can_cancel
