"""Which launcher and which queue the settings choose, and when a run counts as lost."""

from collections.abc import Iterator

import dagster as dg
import pytest
import yaml
from dagster._core.launcher.base import WorkerStatus
from dagster._serdes import ConfigurableClassData

from tests.defs.simulated import forget_settings
from tickstock_assets.defs import celery_runs
from tickstock_assets.defs.celery_runs import CeleryRuns
from tickstock_assets.defs.run_launcher import Looks, WatchedRunLauncher
from tickstock_assets.defs.run_queue import RunQueue
from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.project_files import project_file
from tickstock_assets.settings import settings

NOTHING = ConfigurableClassData("tickstock_assets.defs.run_launcher", "WatchedRunLauncher", "{}")


@pytest.fixture(autouse=True)
def own_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    forget_settings()
    yield monkeypatch
    forget_settings()


def test_without_a_broker_runs_start_beside_their_code() -> None:
    assert type(WatchedRunLauncher.from_config_value(NOTHING, {})) is WatchedRunLauncher


def test_with_a_broker_runs_are_handed_to_its_workers(own_settings: pytest.MonkeyPatch) -> None:
    own_settings.setenv("TICKSTOCK_BROKER_URL", "redis://:secret@db.example.org:6379/3")
    launcher = WatchedRunLauncher.from_config_value(NOTHING, {})
    assert isinstance(launcher, CeleryRuns)
    assert launcher.celery.conf.broker_url == "redis://:secret@db.example.org:6379/3"
    # By this class Dagster makes it anew in other processes.
    assert launcher.inst_data == NOTHING


@pytest.mark.parametrize("address", ["amqp://guest:secret@localhost", "localhost:6379", "redis://"])
def test_a_broker_that_is_no_redis_is_refused_without_its_password(
    own_settings: pytest.MonkeyPatch, address: str
) -> None:
    own_settings.setenv("TICKSTOCK_BROKER_URL", address)
    with pytest.raises(ConfigError, match=r"TICKSTOCK_BROKER_URL: expected redis://.* correct it") as refused:
        settings()
    assert "secret" not in str(refused.value)


def test_as_many_runs_are_at_work_as_the_settings_say(own_settings: pytest.MonkeyPatch) -> None:
    own_settings.setenv("TICKSTOCK_MAX_CONCURRENT_RUNS", "7")
    queue = RunQueue.from_config_value(NOTHING, {"dequeue_interval_seconds": 1})
    assert queue.get_run_queue_config().max_concurrent_runs == 7
    assert queue.dequeue_interval_seconds == 1


def test_a_run_is_lost_when_two_looks_in_a_row_did_not_find_it() -> None:
    looks, one, other = Looks(), dg.DagsterRun("a", run_id="1"), dg.DagsterRun("a", run_id="2")
    found = [looks.health(one, is_found=is_found).status for is_found in (True, False, True, False)]
    assert found == [WorkerStatus.RUNNING] * 4
    assert looks.health(other, is_found=False).status == WorkerStatus.RUNNING
    assert looks.health(one, is_found=False).status == WorkerStatus.NOT_FOUND
    # Started again, it is a run like any other.
    assert looks.health(one, is_found=False).status == WorkerStatus.RUNNING


def test_workers_are_waited_for_longer_than_they_take_to_find_the_broker_again() -> None:
    looks, run = Looks(celery_runs.LOOKS), dg.DagsterRun("a", run_id="1")
    found = [looks.health(run, is_found=False).status for _ in range(5)]
    assert found == [WorkerStatus.RUNNING] * 4 + [WorkerStatus.NOT_FOUND]
    # Looks are at least so far apart, and kombu's retries at most 30 s.
    production = yaml.safe_load(project_file("deploy/dagster.production.yaml").read_text())
    apart = production["run_monitoring"]["poll_interval_seconds"] + celery_runs.ANSWER_SECONDS
    assert (celery_runs.LOOKS - 1) * apart > 30
