"""Dagster's queue of runs, with as many at work at once as the settings say: dagster.yaml takes no variable there."""

from collections.abc import Mapping
from typing import Any, Self

from dagster._core.run_coordinator.queued_run_coordinator import QueuedRunCoordinator
from dagster._serdes import ConfigurableClassData

from tickstock_assets.settings import settings


class RunQueue(QueuedRunCoordinator):
    """Dagster's own queue, bounded by TICKSTOCK_MAX_CONCURRENT_RUNS."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> Self:
        """Make the queue; the rest of its configuration stands in dagster.yaml."""
        most = {"max_concurrent_runs": settings().max_concurrent_runs}
        return super().from_config_value(inst_data, {**config_value, **most})
