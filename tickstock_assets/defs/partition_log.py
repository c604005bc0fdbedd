"""Telling Dagster of a step's partitions while the step goes on, as Dagster itself tells of them when a step has ended.

This is the one module that uses Dagster's own parts for it, and tests/defs/test_partition_log.py says what they must do:
each partition once, with the tags of data version, provenance and dimensions that Dagster gives it, many in one write.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
from dagster import DagsterEvent, DagsterEventType
from dagster._core.definitions.assets.definition.asset_spec import AssetExecutionType
from dagster._core.definitions.source_asset import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION
from dagster._core.events import DagsterEventBatchMetadata, generate_event_batch_id
from dagster._core.execution.context.metadata_logging import AssetMetadataHandle, OutputMetadataAccumulator
from dagster._core.execution.plan.execute_step import _get_output_asset_events

from tickstock_assets.defs.partition_ranges import require_partitions

Metadata = Mapping[str, Any]


class PartitionLog:
    """The partitions of an asset that a step has made, told as they are made.

    Attributes:
        keys: those of the run.
        told: those of which Dagster knows, from the step's earlier attempts in this run too.
    """

    def __init__(self, context: dg.AssetExecutionContext) -> None:
        self._step = context.get_step_execution_context()
        self._asset = context.asset_key
        partitions = context.assets_def.partitions_def
        if not isinstance(partitions, dg.MultiPartitionsDefinition):
            raise TypeError(
                f"{self._asset.to_user_string()}: expected partitions by symbol and period, found {partitions}"
            )
        self._partitions = partitions
        self.keys = require_partitions(context)
        self.told = _told_before(context) if context.op_execution_context.retry_number else set[str]()

    @property
    def left(self) -> list[str]:
        """Those of the run that have not been told of."""
        return [key for key in self.keys if key not in self.told]

    def tell(
        self, keys: Sequence[str], metadata: Metadata, by_partition: Mapping[str, Metadata] | None = None
    ) -> Sequence[DagsterEvent]:
        """Record partitions as materialized, in one write, and return the events for the step to yield.

        Args:
            keys: of the partitions.
            metadata: of all of them.
            by_partition: further metadata of single ones, by key.
        """
        if not keys:
            return []  # Dagster would take none for the asset as a whole
        step, own = self._step, self._step._metadata_accumulator
        # Dagster's `add_asset_metadata` would read every key of the run from the database at each call.
        have = dict(own.per_output_metadata)
        for key, entries in (by_partition or {}).items():
            have[AssetMetadataHandle(asset_key=self._asset, partition_key=key)] = entries
        step._metadata_accumulator = OutputMetadataAccumulator(per_output_metadata=have)
        # Else the version that Dagster has computed for the batch before would count as one that we have given.
        step._data_version_cache.values.pop(self._asset, None)
        try:
            partitions = [self._partitions.get_partition_key_from_str(key) for key in keys]
            found = list(
                _get_output_asset_events(
                    self._asset,
                    partitions,
                    dg.Output(None, metadata=metadata),
                    step.op_def.output_defs[0],
                    {},
                    step,
                    AssetExecutionType.MATERIALIZATION,
                )
            )
        finally:
            step._metadata_accumulator = own
        batch, last = generate_event_batch_id(), len(found) - 1  # type: ignore[no-untyped-call]
        self.told |= set(keys)
        return [
            DagsterEvent.asset_materialization(step, event, DagsterEventBatchMetadata(batch, place == last))
            for place, event in enumerate(found)
            if isinstance(event, dg.AssetMaterialization)
        ]

    def everything_told(self) -> dg.MaterializeResult[None]:
        """Return the end of the step: what is downstream may go on, and no partition is told of once more."""
        return dg.MaterializeResult(metadata={SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION: True})


Told = Iterator[DagsterEvent | dg.MaterializeResult[None]]


def _told_before(context: dg.AssetExecutionContext) -> set[str]:
    events = context.instance.all_logs(context.run.run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION)
    found = [entry.asset_materialization for entry in events]
    return {str(one.partition) for one in found if one is not None and one.asset_key == context.asset_key}
