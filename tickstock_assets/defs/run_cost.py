"""What a run has cost, summed over its steps as tags of the run, by which the web UI's list of runs shows it."""

import dagster as dg

# Whose cost the tags say: a run that is done again begins with the tags of the one before.
COST_OF_TAG = "tickstock/cost_of"
COST_TAG = "tickstock/cost_"


def add_cost(context: dg.AssetExecutionContext, **costs: float) -> None:
    """Add what a step has cost to the tags of its run.

    Args:
        context: of the step's asset.
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
