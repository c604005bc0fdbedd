"""Running checks alone, in this process, on what is stored; the web UI shows the run and its results like any other."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster import DagsterEventType

from tickstock_assets.defs.launching import IN_PROCESS_TAG, REPOSITORY_TAGS, reason_of


@dataclass(frozen=True)
class CheckOutcome:
    """What became of one check.

    Attributes:
        asset: whose check it is.
        check: its name.
        passed: None where it could not be evaluated.
        severity: of its failure, WARN or ERROR.
        description: the check's own sentence on what it found; why, where it could not be evaluated.
        metadata: as it stands in the web UI: plain values, and tables as a list of rows.
    """

    asset: str
    check: str
    passed: bool | None
    severity: str
    description: str
    metadata: Mapping[str, Any]


def run_checks(
    instance: dg.DagsterInstance,
    job: dg.JobDefinition,
    wanted: Sequence[dg.AssetCheckKey],
    tags: Mapping[str, str],
    on_step: Callable[[str], None],
) -> list[CheckOutcome]:
    """Evaluate checks, all of them whatever the others say, and tell of each step as it ends.

    Args:
        instance: where the results are recorded.
        job: the one of all checks.
        wanted: some of its checks.
        tags: of the run, such as `scope_tags`.
        on_step: is told the name of each step.
    """

    @dg.success_hook(name="tell_passed")
    def tell_success(context: dg.HookContext) -> None:
        on_step(context.step_key)

    @dg.failure_hook(name="tell_failed")
    def tell_failure(context: dg.HookContext) -> None:
        on_step(context.step_key)

    together = _with_those_of_the_same_step(job, wanted)
    subset = job.get_subset(asset_selection=set(), asset_check_selection=together)
    result = subset.with_hooks({tell_success, tell_failure}).execute_in_process(
        instance=instance,
        tags={**tags, **REPOSITORY_TAGS, IN_PROCESS_TAG: "true", "dagster/max_retries": "0"},
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        raise_on_error=False,
    )
    evaluated = {one.asset_check_key: one for one in result.get_asset_check_evaluations()}
    why_not = _reasons(result)
    return [
        _outcome(evaluated[key]) if key in evaluated else _not_evaluated(key, why_not.get(_step_of(subset, key)))
        for key in wanted
    ]


def _with_those_of_the_same_step(job: dg.JobDefinition, wanted: Sequence[dg.AssetCheckKey]) -> set[dg.AssetCheckKey]:
    """Return the checks with those that are evaluated together with them."""
    together = set(wanted)
    for definition in job.asset_layer.asset_graph.assets_defs:
        if together & set(definition.check_keys):
            together |= set(definition.check_keys)
    return together


def _step_of(job: dg.JobDefinition, key: dg.AssetCheckKey) -> str:
    definition = next(one for one in job.asset_layer.asset_graph.assets_defs if key in one.check_keys)
    return definition.node_def.name


def _reasons(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    """Return why steps failed, by their name."""
    failures = [event for event in result.all_events if event.event_type == DagsterEventType.STEP_FAILURE]
    return {str(event.step_key): reason_of([event]) for event in failures}


def _outcome(evaluation: dg.AssetCheckEvaluation) -> CheckOutcome:
    return CheckOutcome(
        asset=evaluation.asset_key.to_user_string(),
        check=evaluation.check_name,
        passed=evaluation.passed,
        severity=evaluation.severity.value,
        description=evaluation.description or "",
        metadata={name: _plain(value) for name, value in evaluation.metadata.items()},
    )


def _not_evaluated(key: dg.AssetCheckKey, reason: str | None) -> CheckOutcome:
    return CheckOutcome(
        key.asset_key.to_user_string(), key.name, None, dg.AssetCheckSeverity.ERROR.value, reason or "not evaluated", {}
    )


def _plain(value: dg.MetadataValue[Any]) -> object:
    if isinstance(value, dg.TableMetadataValue):
        return [dict(record.data) for record in value.records]
    return value.value
