"""Partitions told of while a step goes on, held against what Dagster itself tells of the same partitions at its end."""

from collections import Counter
from collections.abc import Iterator

import dagster as dg
import pytest
from dagster import DagsterEventType, EventLogEntry

from tickstock_assets.defs.partition_log import PartitionLog, Told
from tickstock_assets.defs.partitions import RANGE_END_TAG, RANGE_START_TAG

GRID = dg.MultiPartitionsDefinition(
    {"symbol": dg.StaticPartitionsDefinition(["AAA", "BBB"]), "year": dg.StaticPartitionsDefinition(["2001", "2002"])}
)
KEYS = ["AAA|2001", "AAA|2002", "BBB|2001", "BBB|2002"]
SINGLE_RUN = dg.BackfillPolicy.single_run()


@dg.asset(partitions_def=GRID, backfill_policy=SINGLE_RUN, code_version="1")
def source(context: dg.AssetExecutionContext) -> Told:
    yield from _half_by_half(context)


@dg.asset(partitions_def=GRID, backfill_policy=SINGLE_RUN, code_version="3", deps=[source])
def told_of(context: dg.AssetExecutionContext) -> Told:
    """Told of in two halves, the second of which fails when it is asked to."""
    yield from _half_by_half(context)


@dg.asset(partitions_def=GRID, backfill_policy=SINGLE_RUN, code_version="3", deps=[source])
def plain() -> dg.MaterializeResult[None]:
    """Told of by Dagster."""
    return dg.MaterializeResult(metadata={"rows": 2})


@dg.asset(partitions_def=GRID, backfill_policy=SINGLE_RUN, deps=[told_of])
def downstream() -> dg.MaterializeResult[None]:
    return dg.MaterializeResult()


def _half_by_half(context: dg.AssetExecutionContext) -> Told:
    log = PartitionLog(context)
    left = log.left
    for keys in (left[: len(left) // 2], left[len(left) // 2 :]):
        yield from log.tell(keys, {"rows": 2}, {keys[-1]: {"is_last": True}})
        if context.run.tags.get("break") and context.op_execution_context.retry_number == 0:
            raise dg.RetryRequested(max_retries=1)
    yield log.everything_told()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def materialize(instance: dg.DagsterInstance, **tags: str) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [source, told_of, plain, downstream],
        instance=instance,
        tags={RANGE_START_TAG: KEYS[0], RANGE_END_TAG: KEYS[-1], **tags},
    )


def entries(instance: dg.DagsterInstance, asset: str, run_id: str) -> list[EventLogEntry]:
    """Return what is stored of an asset's materializations, in their order."""
    found = instance.all_logs(run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION)
    return [
        one for one in found if one.asset_materialization and one.asset_materialization.asset_key == dg.AssetKey(asset)
    ]


def tags_by_partition(instance: dg.DagsterInstance, asset: str, run_id: str) -> dict[str, dict[str, str]]:
    found = [one.asset_materialization for one in entries(instance, asset, run_id)]
    return {str(one.partition): dict(one.tags or {}) for one in found if one}


def test_partitions_are_told_of_with_the_very_tags_that_dagster_gives_them(instance: dg.DagsterInstance) -> None:
    run = materialize(instance)
    ours, theirs = (tags_by_partition(instance, name, run.run_id) for name in ("told_of", "plain"))
    assert sorted(ours) == KEYS
    assert ours == theirs
    # Among them the version of what they were computed from, and the place of each dimension.
    tags = ours["BBB|2001"]
    assert {"dagster/data_version", "dagster/code_version", "dagster/input_data_version/source"} <= set(tags)
    assert (tags["dagster/partition/symbol"], tags["dagster/partition/year"]) == ("BBB", "2001")


def test_every_partition_is_told_of_once_and_what_is_downstream_goes_on(instance: dg.DagsterInstance) -> None:
    run = materialize(instance)
    for name in ("source", "told_of", "plain", "downstream"):
        counted = Counter(str(one.asset_materialization.partition) for one in entries(instance, name, run.run_id))  # type: ignore[union-attr]
        assert counted == dict.fromkeys(KEYS, 1), name
        assert instance.get_materialized_partitions(dg.AssetKey(name)) == set(KEYS)


def test_metadata_is_of_all_that_are_told_of_at_once_and_of_single_ones(instance: dg.DagsterInstance) -> None:
    run = materialize(instance)
    found = [one.asset_materialization for one in entries(instance, "told_of", run.run_id)]
    said = {str(one.partition): {name: value.value for name, value in one.metadata.items()} for one in found if one}
    assert said == {
        "AAA|2001": {"rows": 2},
        "AAA|2002": {"rows": 2, "is_last": True},
        "BBB|2001": {"rows": 2},
        "BBB|2002": {"rows": 2, "is_last": True},
    }


def test_a_step_that_is_tried_again_tells_only_of_what_it_had_left(instance: dg.DagsterInstance) -> None:
    run = materialize(instance, **{"break": "after the first half"})
    assert run.success
    for name in ("source", "told_of"):
        counted = Counter(str(one.asset_materialization.partition) for one in entries(instance, name, run.run_id))  # type: ignore[union-attr]
        assert counted == dict.fromkeys(KEYS, 1)


def test_a_batch_is_one_write(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "1000")
    written: list[int] = []
    storage = instance.event_log_storage
    write = type(storage).store_event_batch

    def store_event_batch(_: object, events: list[EventLogEntry]) -> None:
        if events[0].dagster_event_type == DagsterEventType.ASSET_MATERIALIZATION:
            written.append(len(events))
        write(storage, events)

    monkeypatch.setattr(type(storage), "store_event_batch", store_event_batch)
    materialize(instance)
    # Two halves of two partitions of each of ours, and all four at once of Dagster's.
    assert sorted(written) == [2, 2, 2, 2, 4, 4]
