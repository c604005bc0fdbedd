"""Running jobs in this process on the shared Dagster instance, so that the web UI shows them like any other run."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from dagster import DagsterEventType, DagsterInstance
from dagster._core.execution.plan.objects import StepFailureData

from tickstock_assets.domain.errors import ConfigError, TickstockError
from tickstock_assets.project_files import project_file

STATEMENT_TIMEOUT_MS = 60_000
# By this tag the web UI finds the runs of a job, on its page and on the timeline; `workspace.yaml` names the location.
REPOSITORY_TAGS = {".dagster/repository": "__repository__@tickstock_assets"}
IN_PROCESS_TAG = "tickstock/in_process"


def prepare_dagster_home(home: Path) -> Path:
    """Return a DAGSTER_HOME inside our home folder, with the project's `dagster.yaml` in it.

    The file of the folder we were started in wins if it is for this project, so that an edited one always counts. It is put in
    place at once: Dagster takes half a file for one without settings, and would keep its records in SQLite from then on.
    """
    folder = home / "dagster"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{folder}: expected a folder we can write, found {error.strerror}; set TICKSTOCK_HOME to another"
        ) from None
    own = Path("dagster.yaml")
    is_ours = own.exists() and "tickstock_assets" in own.read_text(encoding="utf-8")
    wanted = (own if is_ours else project_file("dagster.yaml")).read_bytes()
    file, new = folder / "dagster.yaml", folder / f"dagster.yaml.{os.getpid()}.new"
    if not file.exists() or file.read_bytes() != wanted:
        new.write_bytes(wanted)
        new.replace(file)
    return folder


def dagster_environment(home: Path) -> dict[str, str]:
    """Return the environment in which Dagster's own processes find the same instance and database as we do."""
    return {
        **os.environ,
        "DAGSTER_HOME": str(prepare_dagster_home(home)),
        "TICKSTOCK_HOME": str(home),
        # Events of many partitions are written together: a third of the time a partition takes.
        "DAGSTER_EVENT_BATCH_SIZE": os.environ.get("DAGSTER_EVENT_BATCH_SIZE", "1000"),
        # On a busy machine the process of a run takes more than the usual minute to say that it has started.
        "DAGSTER_GRPC_TIMEOUT_SECONDS": os.environ.get("DAGSTER_GRPC_TIMEOUT_SECONDS", "180"),
    }


@contextmanager
def open_instance(home: Path) -> Iterator[DagsterInstance]:
    """Open the shared Dagster instance."""
    os.environ.update(dagster_environment(home))
    with DagsterInstance.get() as instance:
        # Dagster's way of keeping connections open; else it opens one for each of a run's thousand statements.
        instance.optimize_for_webserver(statement_timeout=STATEMENT_TIMEOUT_MS, pool_recycle=3600, max_overflow=20)
        yield instance


def close_interrupted_runs(instance: DagsterInstance) -> int:
    """Mark runs as failed whose process was killed, and return how many; the caller knows that none is still alive."""
    interrupted = instance.get_runs(
        dg.RunsFilter(
            tags={IN_PROCESS_TAG: "true"}, statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.NOT_STARTED]
        )
    )
    for run in interrupted:
        if run.parent_run_id:
            continue  # re-executed from the web UI with our tags, in a process of the daemon's
        instance.report_run_failed(run, "The process of this run was killed; what it had finished is kept.")
    return len(interrupted)


def run_job(
    instance: DagsterInstance, job: dg.JobDefinition, tags: Mapping[str, str], on_step: Callable[[str], None]
) -> None:
    """Run a job here and now, and tell of each step as it ends.

    Raises:
        TickstockError: a step failed, or a hard check did not pass, which keeps some partitions from what is downstream
            and lets the others go on; the sentence names it.
    """

    @dg.success_hook(name="tell_progress")
    def tell_progress(context: dg.HookContext) -> None:
        on_step(context.step_key)

    result = job.with_hooks({tell_progress}).execute_in_process(
        instance=instance,
        # A killed run is taken up by the next call, so the daemon is not to retry it meanwhile.
        tags={**tags, **REPOSITORY_TAGS, IN_PROCESS_TAG: "true", "dagster/max_retries": "0"},
        # The instance keeps the events; on the console they would bury the progress bar.
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        raise_on_error=False,
    )
    run = result.run_id[:8]
    if not result.success:
        raise TickstockError(
            f"Run {run} of {job.name} failed: {reason_of(result.all_events)}; `tickstock ui` shows the run"
        )
    hard = [check for check in result.get_asset_check_evaluations() if _is_hard(check)]
    if hard:
        raise TickstockError(
            f"Run {run} of {job.name} went on without what a check holds back: {_said(hard[0])}; `tickstock ui` shows the run"
        )


def reason_of(events: Sequence[dg.DagsterEvent]) -> str:
    """Return in a sentence why a run failed, from its events."""
    for event in events:
        if event.event_type == DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            if check.blocking and _is_hard(check):
                return _said(check)
        if event.event_type == DagsterEventType.STEP_FAILURE:
            return f"{event.step_key}: {_reason_of_step(event.step_failure_data)}"
    for event in events:
        # Its process was killed, or its code could not be loaded: no step has failed.
        if event.event_type == DagsterEventType.RUN_FAILURE:
            error = event.job_failure_data.error if event.event_specific_data else None
            return (error.message if error else event.message or "no reason given").strip().splitlines()[0]
    return "no step says why"


def _is_hard(check: dg.AssetCheckEvaluation) -> bool:
    return not check.passed and check.severity == dg.AssetCheckSeverity.ERROR


def _said(check: dg.AssetCheckEvaluation) -> str:
    numbers = {name: value.value for name, value in check.metadata.items()}
    found = ", ".join(f"{name} {value}" for name, value in numbers.items() if isinstance(value, int | float))
    return f"check {check.check_name} did not pass: {found}"


def _reason_of_step(failure: StepFailureData) -> str:
    said = failure.user_failure_data
    if said and said.description:
        return said.description
    error = failure.error
    while error and error.cause:
        error = error.cause
    return error.message.strip().splitlines()[0] if error and error.message else "no reason given"
