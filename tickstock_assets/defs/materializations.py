"""What the newest materializations and observations of an asset say: of themselves, and when they were."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import cast

import dagster as dg
from dagster import DagsterEventType
from dagster._core.storage.event_log import SqlEventLogStorage
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from sqlalchemy import func, select


def newest_metadata(instance: dg.DagsterInstance, key: dg.AssetKey) -> Mapping[str, dg.MetadataValue]:
    """Return the metadata of an asset's newest materialization; nothing where there is none."""
    event = instance.get_latest_materialization_event(key)
    materialization = event.asset_materialization if event else None
    return materialization.metadata if materialization else {}


def newest_observed(instance: dg.DagsterInstance, key: dg.AssetKey) -> Mapping[str, dg.MetadataValue]:
    """Return the metadata of an asset's newest observation; nothing where there is none."""
    records = instance.fetch_observations(key, limit=1).records
    observation = records[0].asset_observation if records else None
    return observation.metadata if observation else {}


def told_at(instance: dg.DagsterInstance, asset: dg.AssetKey) -> dict[str, datetime]:
    """Return when each partition of an asset was last materialized; asked of the database, as there may be thousands.

    Those that a person has wiped are not.
    """
    materialized = instance.get_materialized_partitions(asset)
    events = SqlEventLogStorageTable.c
    query = (
        select(events.partition, func.max(events.timestamp))
        .where(events.asset_key == asset.to_string())
        .where(events.dagster_event_type == DagsterEventType.ASSET_MATERIALIZATION.value)
        .where(events.partition.is_not(None))
        .group_by(events.partition)
    )
    with cast(SqlEventLogStorage, instance.event_log_storage).index_connection() as connection:
        found = {partition: moment.replace(tzinfo=UTC) for partition, moment in connection.execute(query)}
    return {partition: moment for partition, moment in found.items() if partition in materialized}
