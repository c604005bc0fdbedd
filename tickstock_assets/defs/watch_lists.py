"""Watch lists: CSV files dropped into TICKSTOCK_WATCH_FOLDER, whose symbols are entered and whose history is requested.

A file is read when it has stood unchanged from one tick to the next, so none is read that is half written. What it says is
done in a run, whose key is the file's name and content: the same content is never taken twice, and a changed file is. The
run of a file with mistakes takes the other lines, writes `<name>.errors.txt` beside it and fails with the mistakes by line.

A run that a provider gave nothing is followed by another: after a budget as often as it takes, after a fault of the moment a
few times, after a refusal not at all. The last one's failure is alerted like any other, as it does not say when it goes on.

Elsewhere: what a line is (domain/watch_list.py), what is done for it (loading/watched.py).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
from dagster import DagsterEventType

from tickstock_assets.defs.assets.raw import POOL
from tickstock_assets.defs.lost_retries import is_waited_for
from tickstock_assets.defs.partitions import FIRST_DAY, SYMBOLS
from tickstock_assets.defs.request_runs import CONTINUES_AT
from tickstock_assets.defs.resources import Database, MarketData, engine
from tickstock_assets.defs.retries import retried
from tickstock_assets.defs.run_cost import counted
from tickstock_assets.defs.run_records import ended_at
from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.domain.watch_list import WatchList, read_watch_list, report
from tickstock_assets.loading.load import Loader
from tickstock_assets.loading.watched import TRY_AGAIN_AFTER, Watched, take
from tickstock_assets.settings import settings

FILE_TAG, CONTENT_TAG = "tickstock/watch_list", "tickstock/watch_list_sha256"
# Of a run that found another content than it was started for, or none.
MISSED_TAG = "tickstock/watch_list_missed"
# Metadata of a failure: how many runs in a row have met a fault of the moment.
N_FAULTS = "faults_in_a_row"
# How many runs in a row, of those before one, met a fault of the moment, or ended without saying why.
FAULTS_TAG = "tickstock/watch_list_faults"
# What a tick starts; the other files are taken by the next ones. A larger file is no list of symbols.
RUNS_A_TICK, LARGEST_BYTES = 20, 10_000_000
MISTAKES_TOLD = 5
# In a row, that meet a fault of the moment or end without saying why.
MOST_ATTEMPTS = 3
# Of a content that was taken once Dagster makes no run of the same name again.
TAKEN_ANEW = "mend that, then rename the file, which has it taken anew"


@dataclass
class Seen:
    """A file as the last tick saw it; with its content's checksum once it has stood still.

    Attributes:
        size: bytes.
        changed_ns: when it was last written to.
        sha256: of the content that was taken, or None; of a file that is too large, what stands for it.
        attempt: at taking it, from 1; there are several where a provider gave nothing in one.
        is_over: whether no run is to be waited for any more.
    """

    size: int
    changed_ns: int
    sha256: str | None = None
    attempt: int = 1
    is_over: bool = False


@dataclass(frozen=True)
class _Next:
    """The run that follows another: when, and how many in a row have met a fault by then."""

    continues_at: datetime
    n_faults: int


@dg.op(pool=POOL)
@retried
def take_watch_list(context: dg.OpExecutionContext, market_data: MarketData, database: Database) -> None:
    """Enter the symbols of the run's file and request the history that nobody has asked for yet."""
    name, sha256 = context.run.tags.get(FILE_TAG, ""), context.run.tags.get(CONTENT_TAG, "")
    file = _folder() / Path(name).name
    if not file.is_file() or _checksum(file) != sha256:
        context.log.info("%s has changed since or is gone; each content has a run of its own", file)
        context.instance.add_run_tags(context.run_id, {MISSED_TAG: "true"})
        return
    _require_a_list(context, file)
    content = file.read_bytes()
    listed = _read(content)
    partitions = str(SYMBOLS.name)
    with counted(context, market_data.lineup):
        result = take(
            Loader(market_data.lineup, engine(), market_data.landing_folder, run=database.run),
            listed.wanted,
            f"watch list {name}",
            FIRST_DAY,
            lambda symbols: context.instance.add_dynamic_partitions(partitions, list(symbols)),
        )
    mistakes = report(listed.problems | result.problems)
    _write_down(context, file.with_name(f"{file.name}.errors.txt"), mistakes)
    metadata = {
        "lines": len(listed.wanted) + len(listed.problems),
        "symbols_new": len(result.new),
        "requests": len(result.requests),
        "asked_for_before": result.n_asked_before,
        "mistakes": dg.MetadataValue.md("\n".join(f"- {mistake}" for mistake in mistakes) or "none"),
    }
    _require_all_taken(name, mistakes, result, metadata, _faults_before(context.run))
    context.add_output_metadata(metadata)


# The resources stand here for the reason that gap_healing.py has.
@dg.job(
    executor_def=dg.in_process_executor,
    name="watch_list",
    resource_defs={"database": Database(), "market_data": MarketData(), "io_manager": dg.mem_io_manager},
)
def WATCH_LIST() -> None:  # noqa: N802 a constant like the other jobs
    """Take a file of TICKSTOCK_WATCH_FOLDER: its symbols, and requests for their history; started by its sensor."""
    take_watch_list()


@dg.sensor(
    job=WATCH_LIST,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Takes the CSV files of TICKSTOCK_WATCH_FOLDER, each content once.",
)
def watch_lists(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Start a run for each file that has stood still since the last tick and was not taken as it is.

    The cursor holds what the last tick saw. One that is lost, or a tick that is killed, asks for the same runs again, and by
    their keys Dagster makes none twice.
    """
    if settings().watch_folder is None:
        return dg.SkipReason("TICKSTOCK_WATCH_FOLDER is not set")
    before = {name: Seen(**seen) for name, seen in json.loads(context.cursor or "{}").items()}
    files = _files()
    now: dict[str, Seen] = {}
    wanted: list[dg.RunRequest] = []
    unreadable: dict[str, str] = {}
    for file in files:
        seen = before.get(file.name)
        if seen is not None and len(wanted) >= RUNS_A_TICK:
            now[file.name] = seen
            continue
        try:
            now[file.name], run = _decided(context.instance, file, seen)
        except FileNotFoundError:
            continue  # taken away since the folder was listed
        except OSError as error:
            unreadable[file.name] = f"{file}: expected a list that can be read, found: {error.strerror}"
            context.log.warning("%s; let Dagster's processes read it", unreadable[file.name])
            now |= {file.name: seen} if seen is not None else {}
            continue
        wanted += [run] if run else []
    n_waiting = sum(seen.sha256 is None for name, seen in now.items() if name not in unreadable)
    n_at_work = sum(seen.sha256 is not None and not seen.is_over for seen in now.values())
    said = f"{len(files)} files: {n_waiting} to stand still, {n_at_work} at work, the others are taken as they are"
    said = "; ".join([said, *list(unreadable.values())[:MISTAKES_TOLD]])
    cursor = json.dumps({name: asdict(seen) for name, seen in now.items()})
    return dg.SensorResult(run_requests=wanted, cursor=cursor, skip_reason=None if wanted else dg.SkipReason(said))


def _folder() -> Path:
    folder = (settings().watch_folder or Path()).expanduser()
    if not folder.is_dir():
        raise ConfigError(f"TICKSTOCK_WATCH_FOLDER: expected a folder, found {folder}, which is none; make it")
    return folder


def _files() -> list[Path]:
    """Return the lists, in the order of their names."""
    found = sorted(file for file in _folder().iterdir() if file.suffix.lower() == ".csv" and file.name[0] != ".")
    return [file for file in found if file.is_file()]


def _decided(instance: dg.DagsterInstance, file: Path, before: Seen | None) -> tuple[Seen, dg.RunRequest | None]:
    """Return what is known of a file now, and the run that is wanted of it."""
    stat = file.stat()
    if before is None or (before.size, before.changed_ns) != (stat.st_size, stat.st_mtime_ns):
        return Seen(stat.st_size, stat.st_mtime_ns), None
    if before.sha256 is None:
        before.sha256 = _checksum(file)
        return before, _run_of(file, before)
    if before.is_over:
        return before, None
    return _followed(instance, file, before)


def _followed(instance: dg.DagsterInstance, file: Path, seen: Seen) -> tuple[Seen, dg.RunRequest | None]:
    """Look at the last run of a file's content: one that a provider gave nothing is followed by another in time."""
    tags = {FILE_TAG: file.name, CONTENT_TAG: str(seen.sha256)}
    runs = instance.get_runs(dg.RunsFilter(tags=tags), limit=1)
    n_faults = _faults_before(runs[0]) if runs else 0
    if not runs or runs[0].status == dg.DagsterRunStatus.NOT_STARTED:
        return seen, _run_of(file, seen, n_faults)
    if not runs[0].is_finished or is_waited_for(instance, runs[0]):
        return seen, None
    if MISSED_TAG in runs[0].tags:
        seen.attempt += 1
        return seen, _run_of(file, seen, n_faults)
    found = _next_after(instance, runs[0])
    if found is None:
        seen.is_over = True
        return seen, None
    if datetime.now(UTC) < found.continues_at:
        return seen, None
    seen.attempt += 1
    return seen, _run_of(file, seen, found.n_faults)


def _checksum(file: Path) -> str:
    """Return what tells a file's content from others; one that is too large is not read."""
    size = file.stat().st_size
    return f"{size} bytes" if size > LARGEST_BYTES else hashlib.sha256(file.read_bytes()).hexdigest()


def _run_of(file: Path, seen: Seen, n_faults: int = 0) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=f"{file.name}/{seen.sha256}/{seen.attempt}",
        tags={FILE_TAG: file.name, CONTENT_TAG: str(seen.sha256), FAULTS_TAG: str(n_faults)},
    )


def _faults_before(run: dg.DagsterRun) -> int:
    return int(run.tags.get(FAULTS_TAG, "0"))


def _next_after(instance: dg.DagsterInstance, run: dg.DagsterRun) -> _Next | None:
    """Return the run that is to follow one that a provider gave nothing, or whose end nobody explains; None of others."""
    if run.status != dg.DagsterRunStatus.FAILURE:
        return None
    for one in instance.all_logs(run.run_id, of_type=DagsterEventType.STEP_FAILURE):
        event = one.dagster_event
        said = event.step_failure_data.user_failure_data if event and event.is_step_failure else None
        if said and CONTINUES_AT in said.metadata:
            continues_at = datetime.fromtimestamp(float(str(said.metadata[CONTINUES_AT].value)), UTC)
            return _Next(continues_at, int(str(said.metadata[N_FAULTS].value)) if N_FAULTS in said.metadata else 0)
        if said and "mistakes" in said.metadata:
            return None
    ended, n_faults = ended_at(instance, run), _faults_before(run) + 1
    return None if n_faults >= MOST_ATTEMPTS or ended is None else _Next(ended + TRY_AGAIN_AFTER, n_faults)


def _read(content: bytes) -> WatchList:
    try:
        return read_watch_list(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        return WatchList(problems={line: "expected UTF-8 text, found other bytes; save it as UTF-8"})


def _require_a_list(context: dg.OpExecutionContext, file: Path) -> None:
    size = file.stat().st_size
    if size > LARGEST_BYTES:
        said = f"{file}: expected a list of symbols of at most {LARGEST_BYTES:,} bytes, found {size:,}; split it"
        _write_down(context, file.with_name(f"{file.name}.errors.txt"), [said])
        raise dg.Failure(said, metadata={"mistakes": said}, allow_retries=False)


def _write_down(context: dg.OpExecutionContext, file: Path, mistakes: Sequence[str]) -> None:
    """Write the mistakes beside the list, or take away those of an earlier content; the run has them in any case."""
    try:
        if mistakes:
            file.write_text("\n".join(mistakes) + "\n", encoding="utf-8")
        else:
            file.unlink(missing_ok=True)
    except OSError as error:
        context.log.warning("%s could not be written: %s", file, error.strerror)


def _require_all_taken(
    name: str, mistakes: Sequence[str], result: Watched, metadata: Mapping[str, Any], faults_before: int
) -> None:
    """Raise dg.Failure where lines have mistakes, or a provider gave nothing of them; where it goes on, with the moment."""
    if not mistakes and not result.left:
        return
    said: list[str] = []
    goes_on: dict[str, Any] = {}
    n_faults = faults_before + 1 if result.met_a_fault else 0
    if mistakes:
        told = "; ".join(mistakes[:MISTAKES_TOLD]) + ("; ..." if len(mistakes) > MISTAKES_TOLD else "")
        said.append(f"{len(mistakes)} lines have mistakes, the others are taken; see {name}.errors.txt: {told}")
    why = next(iter(result.left.values()), None)
    if why and result.continues_at is not None and n_faults < MOST_ATTEMPTS:
        said.append(f"{len(result.left)} lines wait until {result.continues_at:%Y-%m-%d %H:%M} UTC: {why}")
        goes_on = {CONTINUES_AT: dg.MetadataValue.timestamp(result.continues_at), N_FAULTS: n_faults}
    elif why:
        times = f" in {n_faults} attempts" if n_faults else ""
        said.append(f"{len(result.left)} lines are not taken{times}: {why}; {TAKEN_ANEW}")
    raise dg.Failure(f"{name}: {'; '.join(said)}", metadata={**metadata, **goes_on}, allow_retries=False)
