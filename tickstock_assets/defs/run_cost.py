"""What a run has cost, summed over its steps as tags of the run, by which the web UI's list of runs shows it."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import dagster as dg

from tickstock_assets.loading.lineup import Lineup

type Context = dg.AssetExecutionContext | dg.OpExecutionContext

# Whose cost the tags say: a run that is done again begins with the tags of the one before.
COST_OF_TAG = "tickstock/cost_of"
COST_TAG = "tickstock/cost_"


def add_cost(context: Context, **costs: float) -> None:
    """Add what a step has cost to the tags of its run.

    Args:
        context: of the step.
        costs: by name: api_calls, bytes_landed, rows_landed, rows_written, seconds.
    """
    run = context.instance.get_run_by_id(context.run.run_id)
    if run is None:
        return
    before = run.tags if run.tags.get(COST_OF_TAG) == run.run_id else {}
    names = [COST_TAG + name for name in costs]
    sums = [float(before.get(name, 0)) + cost for name, cost in zip(names, costs.values(), strict=True)]
    said = {
        name: f"{cost:.15g}" if cost == int(cost) else f"{cost:.3f}" for name, cost in zip(names, sums, strict=True)
    }
    context.instance.add_run_tags(run.run_id, {COST_OF_TAG: run.run_id, **said})


@contextmanager
def counted(context: Context, providers: Lineup) -> Iterator[None]:
    """Add the calls to providers that are made within, and its seconds, to the cost of the run, however it ends."""
    began, before = perf_counter(), _calls(providers)
    try:
        yield
    finally:
        add_cost(context, api_calls=_calls(providers) - before, seconds=round(perf_counter() - began, 3))


def _calls(providers: Lineup) -> int:
    return sum(providers.calls(one) for one in providers)
