"""The app that the command of a Celery worker names: `celery --app tickstock_assets.defs.celery_worker worker`.

Importing it reads the settings; nothing but that command does.
"""

from threading import Thread
from typing import Any

from celery.signals import worker_shutting_down
from celery.worker import state
from dagster_celery.tasks import create_execute_job_task, create_resume_job_task

from tickstock_assets.defs.celery_runs import CeleryRuns, say_being_finished
from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.settings import settings

_broker = settings().broker_url
if _broker is None:
    raise ConfigError("TICKSTOCK_BROKER_URL: expected the Redis that hands out runs, found none; set it")

# Made as those who launch runs make theirs.
app = CeleryRuns(_broker.get_secret_value()).celery
execute_job = create_execute_job_task(app)
resume_job = create_resume_job_task(app)


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def keep_the_run(**_: Any) -> None:
    """Say that the run this worker has goes on: from now on it answers nobody, and would count as lost."""
    # A thread, because this is called in the middle of whatever the worker was at, such as talking with Redis.
    Thread(target=say_being_finished, args=(app, [request.id for request in state.active_requests])).start()
