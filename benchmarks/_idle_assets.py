"""Assets that do nothing: as many of them, with as many checks and partitions, as the job that loads daily history has.

What their runs take in the daemon is what Dagster needs to record that many. A sensor starts them, by the same rectangles of
symbols and years as requests become, when the file that IDLE_START names says of which years; see orchestration.py.
"""

import json
import os
from collections.abc import Iterator
from itertools import batched
from pathlib import Path

import dagster as dg

from tickstock_assets import definitions
from tickstock_assets.defs.jobs import DAILY_HISTORY
from tickstock_assets.defs.partitions import DAILY, RANGE_END_TAG, RANGE_START_TAG, SYMBOLS
from tickstock_assets.defs.request_runs import SYMBOLS_A_RUN

PREFIX = "idle_"
POOL = "idle"
# As much as a batch says of its partitions.
METADATA = {f"number_{place}": place for place in range(12)} | {"first_session": "2014-01-02", "of": "a batch"}


def idle(name: str, deps: list[str]) -> dg.AssetsDefinition:
    """Return an asset that says at once that it has made all of its partitions."""

    @dg.asset(
        name=PREFIX + name,
        partitions_def=DAILY,
        backfill_policy=dg.BackfillPolicy.single_run(),
        deps=[PREFIX + one for one in deps],
        pool=POOL if not deps else None,
        code_version="1",
    )
    def asset() -> dg.MaterializeResult[None]:
        return dg.MaterializeResult(metadata=METADATA)

    return asset


def idle_check(asset: str, name: str) -> dg.AssetChecksDefinition:
    """Return a check that passes at once."""

    @dg.asset_check(asset=PREFIX + asset, name=name)
    def check() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True, metadata={"rows_checked": 1, "rows_offending": 0})

    return check


graph = definitions.defs.resolve_asset_graph()
chosen = {key.path[-1] for key in definitions.defs.resolve_job_def(DAILY_HISTORY.name).asset_layer.selected_asset_keys}
parents = {
    name: [key.path[-1] for key in graph.get(dg.AssetKey(name)).parent_keys if key.path[-1] in chosen]
    for name in chosen
}
checks_of = {name: [key.name for key in graph.asset_check_keys if key.asset_key.path[-1] == name] for name in chosen}
IDLE_HISTORY = dg.define_asset_job("idle_history", dg.AssetSelection.all())


@dg.sensor(job=IDLE_HISTORY, minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING)
def begin(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Start the runs when they are asked for."""
    asked = Path(os.environ["IDLE_START"])
    if not asked.exists():
        yield dg.SkipReason("Nobody has asked yet")
        return
    first, last = json.loads(asked.read_text())
    known = context.instance.get_dynamic_partitions(str(SYMBOLS.name))
    for group in batched(known, SYMBOLS_A_RUN):
        tags = {RANGE_START_TAG: f"{group[0]}|{first}", RANGE_END_TAG: f"{group[-1]}|{last}"}
        yield dg.RunRequest(run_key=f"{first} {group[0]}", tags=tags)


defs = dg.Definitions(
    assets=[idle(name, parents[name]) for name in sorted(chosen)],
    asset_checks=[idle_check(name, check) for name, checks in checks_of.items() for check in checks],
    jobs=[IDLE_HISTORY],
    sensors=[begin],
    executor=dg.in_process_executor,
)
