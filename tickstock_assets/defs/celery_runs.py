"""Runs in Celery's workers, on as many machines as wanted; the extra `celery` has what it takes.

Who launches a run puts it into Redis, and a worker that is free takes it. Workers have the definitions loaded, so a run
starts in a fraction of the time that a new process takes. `TICKSTOCK_BROKER_URL` turns it on; docs/production.md.

Elsewhere: the app that a worker's command names (celery_worker.py), runs without Celery (run_launcher.py).
"""

import time
from collections.abc import Iterable
from typing import Any

import dagster as dg
from dagster._core.launcher.base import CheckRunHealthResult
from dagster._serdes import ConfigurableClassData
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG

from tickstock_assets.defs.run_launcher import Looks

QUEUE = "dagster"
# Longer than any run: Redis hands out a second time what was not acknowledged by then.
LONGEST_RUN_SECONDS = 7 * 86_400
# Workers have this long to answer whether they have a run; all are asked, as one may have taken over from another.
ANSWER_SECONDS = 3.0
# So many looks in a row must not find a run: workers that lost Redis are heard of again after half a minute.
LOOKS = 5
# What Celery's record says of a task whose worker was told to stop and finishes it first; it answers nobody any more.
FINISHING = "FINISHING"
# docker-compose.yml kills it after that.
FINISHED_WITHIN_SECONDS = 600.0

CONFIGURATION: dict[str, Any] = {
    # A worker takes a run when it can start it; the default would keep more waiting behind a long one.
    "task_acks_late": True,
    "worker_prefetch_multiplier": 1,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "broker_connection_retry_on_startup": True,
    "broker_transport_options": {"visibility_timeout": LONGEST_RUN_SECONDS, "socket_keepalive": True},
    "result_backend_transport_options": {"visibility_timeout": LONGEST_RUN_SECONDS},
    "result_expires": LONGEST_RUN_SECONDS,
    # What a run prints goes to Dagster's own record of it.
    "worker_redirect_stdouts": False,
}


class CeleryRuns(CeleryRunLauncher):
    """Hands runs to Celery's workers, stops them as a person would, and knows whether they live."""

    celery: Any

    def __init__(self, broker_url: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(
            default_queue=QUEUE,
            broker=broker_url,
            backend=broker_url,
            # Loaded before a worker forks, so that its first run is as quick as the others.
            include=["tickstock_assets.definitions"],
            config_source=CONFIGURATION,
            inst_data=inst_data,
        )
        self._looks = Looks(LOOKS)

    def terminate(self, run_id: str) -> bool:
        """Ask the worker to end a run in good order, as Ctrl-C would; return whether there was something to end."""
        run = self._instance.get_run_by_id(run_id)
        task = run.tags.get(DAGSTER_CELERY_TASK_ID_TAG) if run else None
        if run is None or run.is_finished or task is None:
            return False
        self._instance.report_run_canceling(run)
        # Any other signal would end the worker's process at once, and the run would stay as it was.
        self.celery.control.revoke(task, terminate=True, signal="SIGINT")
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Return whether a worker has a started run."""
        return self._looks.health(run, is_found=self._is_found(run))

    def _is_found(self, run: dg.DagsterRun) -> bool:
        """Return whether a worker says that it has it; Celery's own record would say `STARTED` for ever."""
        task = run.tags.get(DAGSTER_CELERY_TASK_ID_TAG)
        if task is None:
            # Started by `tickstock demo` in its own process, which closes it the next time.
            return True
        answers = self.celery.control.inspect(timeout=ANSWER_SECONDS).query_task(task) or {}
        return any(task in tasks for tasks in answers.values()) or _is_being_finished(self.celery, task)


def say_being_finished(celery: Any, tasks: Iterable[str]) -> None:
    """Note of the tasks of a worker that was told to stop that it finishes them, and until when it can."""
    for task in tasks:
        celery.backend.store_result(task, {"until": time.time() + FINISHED_WITHIN_SECONDS}, FINISHING)


def _is_being_finished(celery: Any, task: str) -> bool:
    noted = celery.backend.get_task_meta(task)
    return bool(noted["status"] == FINISHING and time.time() < noted["result"]["until"])
