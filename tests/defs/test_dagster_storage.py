"""Dagster's storage on a server that is killed, and on one that is stopped for a while."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import create_engine, text

from tests.defs.simulated import forget_settings
from tests.storage.servers import postmaster_pid
from tickstock_assets.defs import launching
from tickstock_assets.defs.partitions import PARTITION_TAG, RANGE_END_TAG, RANGE_START_TAG
from tickstock_assets.project_files import project_file
from tickstock_assets.storage import embedded

AWAY_SECONDS = 4.0


@pytest.fixture
def instance(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """Dagster's instance as its daemon has it: a connection for each statement."""
    monkeypatch.setenv("TICKSTOCK_HOME", str(home))
    monkeypatch.setenv("DAGSTER_HOME", str(launching.prepare_dagster_home(home)))
    forget_settings()
    with dg.DagsterInstance.get() as instance:
        yield instance
    forget_settings()


def test_a_server_that_was_killed_is_waited_for(instance: dg.DagsterInstance, home: Path) -> None:
    assert instance.get_runs() == []
    for _ in range(3):
        os.kill(postmaster_pid(home), signal.SIGKILL)
        assert instance.get_runs() == []


def test_the_file_that_names_the_storage_is_never_seen_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = project_file("dagster.yaml").read_text()
    contents = [shipped, shipped + "# edited\n" * 10_000]
    own, seen, is_over = Path("dagster.yaml"), set(), threading.Event()
    own.write_text(shipped)
    file = launching.prepare_dagster_home(tmp_path / "home") / "dagster.yaml"

    def read() -> None:
        while not is_over.is_set():
            seen.add(file.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(300):
        own.write_text(contents[number % 2])
        launching.prepare_dagster_home(tmp_path / "home")
    is_over.set()
    reader.join()
    assert seen == set(contents)
    assert [path.name for path in file.parent.iterdir()] == ["dagster.yaml"]


def test_dagster_s_times_are_utc_whatever_the_server_is_set_to(instance: dg.DagsterInstance) -> None:
    with instance.run_storage.connect() as connection:  # type: ignore[attr-defined]
        connection.execute(text("ALTER DATABASE dagster SET timezone = 'America/New_York'"))
    run = instance.create_run_for_job(job_def=nothing, status=dg.DagsterRunStatus.STARTED)
    instance.report_run_failed(run)
    now = datetime.now(UTC)
    lately = dg.RunsFilter(updated_after=now - timedelta(minutes=5), updated_before=now + timedelta(minutes=5))
    assert [one.run_id for one in instance.get_runs(lately)] == [run.run_id]
    with instance.run_storage.connect() as connection:  # type: ignore[attr-defined]
        connection.execute(text("ALTER DATABASE dagster RESET timezone"))


def test_an_event_is_written_although_the_server_is_away_when_it_comes(
    instance: dg.DagsterInstance, home: Path
) -> None:
    asset = dg.AssetKey("an_asset")
    instance.get_latest_materialization_event(asset)
    embedded.stop(home, force=True)

    def start_again() -> None:
        time.sleep(AWAY_SECONDS)
        embedded.acquire(home)

    starting = threading.Thread(target=start_again)
    starting.start()
    began = time.monotonic()
    instance.report_runless_asset_event(dg.AssetMaterialization(asset))
    starting.join()
    assert time.monotonic() - began >= AWAY_SECONDS
    assert instance.get_latest_materialization_event(asset) is not None


def test_what_is_wrong_for_good_is_told_at_once(instance: dg.DagsterInstance, home: Path) -> None:
    url = embedded.acquire(home).url("no_such_database").replace("postgresql:", "postgresql+psycopg2:")
    assert instance.get_runs() == []
    engine = create_engine(url)
    with pytest.raises(Exception, match="does not exist"):
        engine.connect()
    engine.dispose()


@dg.job
def nothing() -> None:
    """A job without a step."""


def test_a_run_over_a_range_is_not_taken_for_the_partition_that_its_backfill_begins_with(
    instance: dg.DagsterInstance,
) -> None:
    # As Dagster makes the second run of a backfill of a job over two years.
    of_range = {RANGE_START_TAG: "AAA|2002", RANGE_END_TAG: "CCC|2002", "dagster/backfill": "abcdefgh"}
    of_first = {f"{PARTITION_TAG}/symbol": "AAA", f"{PARTITION_TAG}/year": "2001"}
    run = instance.create_run_for_job(nothing, tags={**of_range, **of_first})
    for found in (run, instance.get_run_by_id(run.run_id)):
        assert found is not None
        assert of_range.items() <= found.tags.items()
        assert not of_first.keys() & found.tags.keys()
    assert instance.get_runs(dg.RunsFilter(tags=of_first)) == []


def test_a_run_of_one_partition_keeps_its_tags(instance: dg.DagsterInstance) -> None:
    tags = {PARTITION_TAG: "AAA|2001", f"{PARTITION_TAG}/symbol": "AAA", f"{PARTITION_TAG}/year": "2001"}
    run = instance.create_run_for_job(nothing, tags=tags)
    (found,) = instance.get_runs(dg.RunsFilter(tags=tags))
    assert found.run_id == run.run_id


LETTERS = dg.StaticPartitionsDefinition(list("abcdef"))


def lettered(name: str) -> dg.AssetsDefinition:
    @dg.asset(name=name, partitions_def=LETTERS, backfill_policy=dg.BackfillPolicy.single_run())
    def asset() -> None: ...

    return asset


@dg.asset_check(asset="first_lettered")
def passes() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@pytest.mark.parametrize("batch_size", ["0", "4", "1000"])
def test_what_a_run_intends_to_make_is_known_however_it_is_written(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, batch_size: str
) -> None:
    # At 0 Dagster stores each by itself, in a way that we have not touched.
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", batch_size)
    assets = [lettered("first_lettered"), lettered("second_lettered")]
    defs = dg.Definitions(assets, asset_checks=[passes], jobs=[dg.define_asset_job("letters", "*")])
    range_tags = {RANGE_START_TAG: "b", RANGE_END_TAG: "e"}
    run = instance.create_run_for_job(defs.resolve_job_def("letters"), tags=range_tags)
    keys = [dg.AssetKey("first_lettered"), dg.AssetKey("second_lettered")]
    planned = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
    said = sorted((str(one.dagster_event.asset_key), str(one.dagster_event.partition)) for one in planned)  # type: ignore[union-attr]
    assert said == sorted((str(key), letter) for key in keys for letter in "bcde")
    assert len(instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED)) == 1
    for key in keys:
        assert instance.get_latest_planned_materialization_info(key, "c").run_id == run.run_id  # type: ignore[union-attr]
        (record,) = instance.get_asset_records([key])
        assert record.asset_entry.last_run_id == run.run_id
    assert set(instance.get_asset_keys()) == set(keys)
