"""A worker that is told to stop finishes its run, which meanwhile does not count as lost; with a real Redis and worker."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import redis
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG

from tests.defs.simulated import forget_settings
from tests.end_to_end.commands import free_port
from tests.storage.servers import wait_until
from tickstock_assets.defs import celery_runs
from tickstock_assets.defs.celery_runs import CeleryRuns

pytestmark = pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="no redis-server on this machine; .ci/run installs it"
)
PROJECT = Path(__file__).parents[2]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    server = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
    with redis.Redis(port=port) as client:
        wait_until(lambda: answers(client))
    yield f"redis://127.0.0.1:{port}/0"
    server.terminate()
    server.wait(60)


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


@contextmanager
def worker(broker: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [Path(sys.executable).parent / "celery", "--app", "tests.deploy.holding_worker", "worker"]
    options = ["--concurrency", "1", "--queues", "dagster", "--loglevel", "INFO"]
    variables = {**os.environ, "TICKSTOCK_BROKER_URL": broker, "PYTHONPATH": str(PROJECT), "PYTHONWARNINGS": "ignore"}
    with log.open("wb") as out:
        process = subprocess.Popen([*command, *options], env=variables, stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.kill()
        process.wait(60)


@pytest.fixture
def launcher(broker: str) -> Iterator[CeleryRuns]:
    forget_settings()
    made = CeleryRuns(broker)
    yield made
    made.celery.close()
    forget_settings()


def is_found(launcher: CeleryRuns, task: Any) -> bool:
    run = dg.DagsterRun("daily_history", tags={DAGSTER_CELERY_TASK_ID_TAG: task.id})
    return launcher._is_found(run)


def test_a_run_that_a_stopped_worker_finishes_is_not_lost(broker: str, launcher: CeleryRuns, tmp_path: Path) -> None:
    held, log = tmp_path / "held", tmp_path / "worker.log"
    held.touch()
    task = launcher.celery.send_task("hold", [str(held)], queue="dagster")
    assert not is_found(launcher, task)
    with worker(broker, log) as process:
        wait_until(lambda: is_found(launcher, task))
        process.send_signal(signal.SIGTERM)
        # Nobody answers any more, as of a worker that was killed.
        wait_until(lambda: not launcher.celery.control.ping(timeout=1))
        assert is_found(launcher, task)
        held.unlink()
        assert process.wait(60) == 0
    assert task.status == "SUCCESS"
    assert not is_found(launcher, task)


@pytest.mark.filterwarnings("ignore:Call to deprecated setex")
def test_a_worker_that_was_killed_while_it_finished_its_run_has_lost_it_when_its_time_is_over(
    launcher: CeleryRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = launcher.celery.AsyncResult("of-a-lost-worker")
    celery_runs.say_being_finished(launcher.celery, [task.id])
    assert is_found(launcher, task)
    monkeypatch.setattr(celery_runs, "FINISHED_WITHIN_SECONDS", -1.0)
    celery_runs.say_being_finished(launcher.celery, [task.id])
    assert not is_found(launcher, task)
