"""What the newest materialization of an asset says of itself."""

from collections.abc import Mapping

import dagster as dg


def newest_metadata(instance: dg.DagsterInstance, key: dg.AssetKey) -> Mapping[str, dg.MetadataValue]:
    """Return the metadata of an asset's newest materialization; nothing where there is none."""
    event = instance.get_latest_materialization_event(key)
    materialization = event.asset_materialization if event else None
    return materialization.metadata if materialization else {}
