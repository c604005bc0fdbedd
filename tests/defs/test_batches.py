"""Batches of partitions: how they are cut, what becomes of one that breaks, and what a run says it has cost."""

from collections.abc import Iterator

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickstock_assets.defs.batches import FAILURES_AT_MOST, Batch, Outcome, batches, in_batches
from tickstock_assets.defs.partition_log import Told
from tickstock_assets.defs.partitions import RANGE_END_TAG, RANGE_START_TAG
from tickstock_assets.defs.resources import Database
from tickstock_assets.domain.errors import TransientDatabaseError

SYMBOLS, YEARS = [f"S{number:02}" for number in range(8)], ["2001", "2002", "2003"]
GRID = dg.MultiPartitionsDefinition(
    {"symbol": dg.StaticPartitionsDefinition(SYMBOLS), "year": dg.StaticPartitionsDefinition(YEARS)}
)
ALL = {f"{symbol}|{year}" for symbol in SYMBOLS for year in YEARS}
EVERYTHING = {RANGE_START_TAG: "S00|2001", RANGE_END_TAG: "S07|2003"}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


class Squares:
    """Work that fails where it meets one of some partitions, as a row set that cannot be computed would let it."""

    def __init__(self, broken: set[str], error: Exception | None = None) -> None:
        self.broken = broken
        self.error = error or ValueError("cannot be computed")
        self.calls: list[list[str]] = []

    def __call__(self, batch: Batch) -> Outcome:
        self.calls.append(list(batch.keys))
        if self.broken & set(batch.keys):
            raise self.error
        return Outcome({"rows_written": len(batch.keys) ** 2})


def run(instance: dg.DagsterInstance, work: Squares, size: int = 6) -> dg.ExecuteInProcessResult:
    @dg.asset(partitions_def=GRID, backfill_policy=dg.BackfillPolicy.single_run())
    def squares(context: dg.AssetExecutionContext) -> Told:
        yield from in_batches(context, Database(), work, size=size)

    return dg.materialize([squares], instance=instance, tags=EVERYTHING, raise_on_error=False)


def failure(result: dg.ExecuteInProcessResult) -> str:
    [event] = [one for one in result.all_events if one.is_step_failure]
    said = event.step_failure_data.user_failure_data
    return str(said.description if said else event.step_failure_data.error)


def materialized(instance: dg.DagsterInstance) -> set[str]:
    return set(instance.get_materialized_partitions(dg.AssetKey("squares")))


@given(
    st.lists(st.tuples(st.sampled_from("ABCDE"), st.integers(2000, 2030)), unique=True, max_size=60),
    st.integers(1, 20),
)
def test_batches_have_every_key_once_and_no_more_than_their_size(keys: list[tuple[str, int]], size: int) -> None:
    wanted = [f"{symbol}|{year}" for symbol, year in keys]
    cut = list(batches(wanted, size))
    assert sorted(key for batch in cut for key in batch.keys) == sorted(wanted)
    assert all(1 <= len(batch.keys) <= size for batch in cut)
    # A symbol that fits into a batch is in one, so that its warm-up is read once.
    for symbol in "ABCDE":
        n_keys = sum(key.startswith(symbol) for key in wanted)
        n_batches = sum(any(key.startswith(symbol) for key in batch.keys) for batch in cut)
        assert n_batches <= 1 or n_keys > size


def test_a_run_is_cut_into_batches_of_whole_symbols_and_adds_up_what_they_cost(instance: dg.DagsterInstance) -> None:
    work = Squares(set())
    result = run(instance, work)
    assert result.success
    assert materialized(instance) == ALL
    assert work.calls == [
        [f"{symbol}|{year}" for symbol in pair for year in YEARS]
        for pair in zip(SYMBOLS[::2], SYMBOLS[1::2], strict=True)
    ]
    tags = instance.get_runs()[0].tags
    assert (tags["tickstock/cost_rows_written"], tags["tickstock/cost_of"]) == ("144", result.run_id)
    [last, *_] = instance.fetch_materializations(dg.AssetKey("squares"), limit=1).records
    said = {name: value.value for name, value in last.asset_materialization.metadata.items()}  # type: ignore[union-attr]
    assert (said["rows_written"], said["counts_are_of"]) == (36, "a batch of 6 partitions")


def test_partitions_that_break_are_named_and_all_others_are_done(instance: dg.DagsterInstance) -> None:
    result = run(instance, Squares({"S02|2002", "S05|2003"}))
    assert failure(result) == (
        "2 of 24 partitions failed, the others are stored: S02|2002 (ValueError: cannot be computed), "
        "S05|2003 (ValueError: cannot be computed)"
    )
    assert materialized(instance) == ALL - {"S02|2002", "S05|2003"}


def test_what_breaks_everywhere_is_given_up_after_a_while(instance: dg.DagsterInstance) -> None:
    work = Squares(ALL)
    result = run(instance, work)
    assert not result.success
    assert "cannot be computed" in failure(result)
    assert sum(len(call) == 1 for call in work.calls) == FAILURES_AT_MOST < len(ALL)


def test_a_fault_of_the_moment_is_not_looked_for_among_the_rows(instance: dg.DagsterInstance) -> None:
    work = Squares({"S02|2002"}, TransientDatabaseError("away"))
    assert not run(instance, work).success
    assert work.calls == [
        [f"{symbol}|{year}" for symbol in pair for year in YEARS] for pair in (("S00", "S01"), ("S02", "S03"))
    ]
    assert materialized(instance) == {f"{symbol}|{year}" for symbol in ("S00", "S01") for year in YEARS}
