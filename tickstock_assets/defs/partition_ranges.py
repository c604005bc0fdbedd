"""The partitions of a run, of which there must be some.

Dagster takes any two keys for a range. One that ends before it begins has no partitions, and a run over it would do nothing
and succeed. So assets with partitions ask here for theirs, and never `context.partition_keys` itself.

Elsewhere: what a key means, and the tags of ranges that go up (partitions.py).
"""

import dagster as dg
from dagster import DagsterInvalidInvocationError

from tickstock_assets.defs.partitions import PARTITION_TAG, RANGE_END_TAG, RANGE_START_TAG


def require_partitions(context: dg.AssetExecutionContext) -> list[str]:
    """Return the partition keys that a run is to make of this asset.

    Raises:
        dg.Failure: the run names none, one that is not there, or a range that ends before it begins; it is not retried.
    """
    tags = context.run.tags
    if not context.has_partition_key and not context.has_partition_key_range:
        raise _mistake(f"{context.asset_key.to_user_string()}: expected partitions, found a run without; choose some")
    found = f"{tags[RANGE_START_TAG]} to {tags.get(RANGE_END_TAG)}" if RANGE_START_TAG in tags else tags[PARTITION_TAG]
    try:
        keys = [str(key) for key in context.partition_keys]
    except DagsterInvalidInvocationError as error:
        said = " ".join(str(error).split())
        raise _mistake(f"Partitions: expected keys that are there, found {found}: {said}") from None
    if not keys:
        raise _mistake(
            f"Partitions: expected a range that goes up, by Dagster's list of symbols and by time, found {found}; "
            "swap its ends"
        )
    return keys


def _mistake(sentence: str) -> dg.Failure:
    return dg.Failure(sentence, allow_retries=False)
