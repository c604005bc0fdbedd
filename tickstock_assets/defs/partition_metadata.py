"""Metadata of single partitions in a run of many."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster._core.execution.context.metadata_logging import (
    AssetMetadataHandle,
    OutputMetadataAccumulator,
    OutputMetadataHandle,
)
from dagster._core.execution.context.system import StepExecutionContext


def add_partition_metadata(
    step: StepExecutionContext, asset_key: dg.AssetKey, metadata: Mapping[str, Mapping[str, Any]]
) -> None:
    """Attach metadata to the materialization of each partition.

    Dagster's public `add_asset_metadata` reads every partition key of the run from its database at each call, which is
    quadratic: 20 ms a partition with 70 of them. This hands over all of them at once, in the same place.

    Args:
        step: of the asset that is being computed.
        asset_key: which of the step's assets.
        metadata: by partition key.
    """
    have = step._metadata_accumulator.per_output_metadata
    added: dict[OutputMetadataHandle | AssetMetadataHandle, Mapping[str, Any]] = {}
    for partition, entries in metadata.items():
        handle = AssetMetadataHandle(asset_key=asset_key, partition_key=partition)
        added[handle] = {**have.get(handle, {}), **entries}
    step._metadata_accumulator = OutputMetadataAccumulator(per_output_metadata={**have, **added})
