"""What Dagster shows of the project, as one text to read: assets with their checks, jobs, schedules, sensors.

A change of it is a change that users see. When it is meant, `UPDATE_SNAPSHOT=1 pytest tests/defs/test_snapshot.py` writes
the text anew, and the difference is read with the rest of the change.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg

from tickstock_assets.definitions import defs

SNAPSHOT = Path(__file__).parent / "snapshot.txt"
SHOWN_TAGS = ("domain", "tier", "cadence")


def described() -> str:
    """Return the text for the definitions as they are."""
    return "\n".join([*assets(), "", *jobs(), "", *schedules(), "", *sensors()]) + "\n"


def assets() -> Iterator[str]:
    graph = defs.resolve_asset_graph()
    for key in sorted(graph.get_all_asset_keys()):
        node = graph.get(key)
        tags = " ".join(node.tags.get(name, "none") for name in SHOWN_TAGS)
        kinds = ", ".join(sorted(node.kinds))
        yield f"asset {key.to_user_string()}: {node.group_name}, {kinds}, {', '.join(node.owners)}, {tags}, {partitions(node)}"
        for check in sorted(graph.asset_check_keys & node.check_keys, key=lambda check: check.name):
            yield f"  check {check.name}{', blocking' if graph.get(check).blocking else ''}"


def partitions(node: object) -> str:
    definition = node.partitions_def  # type: ignore[attr-defined]
    if definition is None:
        return "no partitions"
    assert isinstance(definition, dg.MultiPartitionsDefinition)
    return " x ".join(dimension.name for dimension in definition.partitions_defs)


def jobs() -> Iterator[str]:
    for job in sorted(defs.resolve_all_job_defs(), key=lambda job: job.name):
        if job.name != "__ASSET_JOB":
            yield f"job {job.name}: {len(job.graph.node_defs)} steps"


def schedules() -> Iterator[str]:
    for schedule in sorted(defs.get_repository_def().schedule_defs, key=lambda schedule: schedule.name):
        when = f"{schedule.cron_schedule} {schedule.execution_timezone}"
        yield f"schedule {schedule.name}: {schedule.job_name}, {when}, {schedule.default_status.value.lower()}"


def sensors() -> Iterator[str]:
    for sensor in sorted(defs.get_repository_def().sensor_defs, key=lambda sensor: sensor.name):
        targets = ", ".join(target.job_name for target in sensor.targets) or "no job"
        every = f"every {sensor.minimum_interval_seconds} s"
        yield f"sensor {sensor.name}: {targets}, {every}, {sensor.default_status.value.lower()}"


def test_what_users_see_is_what_was_meant() -> None:
    found = described()
    if os.environ.get("UPDATE_SNAPSHOT") == "1":
        SNAPSHOT.write_text(found, encoding="utf-8")
    assert found == SNAPSHOT.read_text(encoding="utf-8")
