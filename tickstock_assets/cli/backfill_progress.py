"""What became of backfill requests: looked at, followed, and said.

Elsewhere: the verbs (backfill.py).
"""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import rich.box
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from tickstock_assets.cli.app import console, errors, print_json
from tickstock_assets.defs import daemon
from tickstock_assets.defs.partitions import known_symbols
from tickstock_assets.defs.request_runs import planned_runs
from tickstock_assets.defs.request_standing import Standing, standing
from tickstock_assets.defs.resources import engine, lineup
from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.loading.backfills import Rectangle
from tickstock_assets.storage import backfill_requests
from tickstock_assets.storage.backfill_requests import BackfillRequest

LOOK_EVERY_SECONDS = 1.0
ASK_DAEMON_EVERY = 15
ID_SHOWN = 8
SYMBOLS_SHOWN = 2
STYLES = {"succeeded": "green", "failed": "red", "cancelled": "yellow"}


@dataclass(frozen=True)
class Seen:
    """A request and the runs of its last attempt; None where there is none, or no run can be made of it."""

    request: BackfillRequest
    state: Standing | None

    @property
    def n_partitions(self) -> int:
        """Of each asset; 0 where it is not known."""
        return self.state.n_partitions if self.state else 0

    @property
    def n_finished(self) -> int:
        """Partitions that went through all assets."""
        return self.state.n_finished if self.state else 0

    @property
    def share(self) -> float:
        """Share that is done, 0 to 1."""
        is_at_work = self.state is not None and self.request.status == "running"
        return self.state.share if self.state and is_at_work else self.request.progress

    def statuses(self) -> Counter[str]:
        """Return how many runs stand how."""
        runs = self.state.runs if self.state else []
        return Counter(one.run.status.value.lower().replace("_", " ") if one.run else "to be started" for one in runs)

    def reasons(self) -> list[str]:
        """Return why runs ended without success, and why the request did."""
        of_runs = [ending.reason for ending in self.state.endings] if self.state else []
        return of_runs or ([self.request.error] if self.request.error else [])

    def as_json(self) -> dict[str, Any]:
        """Return it for a program."""
        runs = [
            {
                "run_id": one.run.run_id if one.run else None,
                "status": one.run.status.value if one.run else None,
                "symbols": list(one.planned.symbols),
                "partitions": one.planned.n_partitions,
                "partitions_made": dict(one.n_made),
                "reason": one.ending.reason if one.ending else None,
            }
            for one in (self.state.runs if self.state else [])
        ]
        return {
            **asdict(self.request),
            "progress": self.share,
            "partitions": self.n_partitions,
            "partitions_finished": self.n_finished,
            "runs": runs,
        }


def look(instance: dg.DagsterInstance, ids: Sequence[str]) -> list[Seen]:
    """Return requests as they stand."""
    with engine().connect() as connection:
        found = [backfill_requests.find(connection, one) for one in ids]
    known = known_symbols(instance)
    return [Seen(request, _state(instance, request, known)) for request in found if request is not None]


def follow(instance: dg.DagsterInstance, ids: Sequence[str], *, quiet: bool) -> list[Seen]:
    """Show how far requests are until all are closed, and return what became of them."""
    said: set[str] = set()

    def say_once(sentence: str) -> None:
        if sentence not in said:
            said.add(sentence)
            errors.print(sentence, highlight=False, soft_wrap=True)

    bar = Progress(
        SpinnerColumn(), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TextColumn("{task.description}"),
        console=errors, disable=quiet or not errors.is_terminal, transient=True,
    )  # fmt: skip
    with bar:
        task = bar.add_task("", total=1.0)
        n_looks, began = 0, datetime.now(UTC)
        while True:
            seen = look(instance, ids)
            for one in seen:
                for reason in one.reasons():
                    say_once(f"[red]{escape(reason)}[/]")
                if one.request.not_before:
                    say_once(f"[yellow]{_waits(one.request)}[/]")
            if not any(one.request.is_open for one in seen):
                return seen
            if n_looks % ASK_DAEMON_EVERY == 0 and (
                trouble := daemon.why_silent(instance) or daemon.why_idle(instance, began)
            ):
                say_once(f"[yellow]Nothing moves: {escape(trouble)}.[/]")
            n_looks += 1
            bar.update(task, completed=_share(seen), description=_doing(seen))
            time.sleep(LOOK_EVERY_SECONDS)


def say(seen: Sequence[Seen], *, as_json: bool) -> None:
    """Print requests: a table, then how the runs stand and what went wrong."""
    if as_json:
        print_json({"requests": [one.as_json() for one in seen]})
        return
    console.print(table([one.request for one in seen]))
    for one in seen:
        why = f": {one.request.reason}" if one.request.reason else ""
        at = f"{one.request.created_at.astimezone(UTC):%Y-%m-%d %H:%M}"
        console.print(
            f"{one.request.id}, asked for by {one.request.requested_by} at {at} UTC{escape(why)}", highlight=False
        )
        runs = ", ".join(f"{count:,} {status}" for status, count in one.statuses().items())
        if runs:
            console.print(f"{one.n_finished:,} of {one.n_partitions:,} partitions; runs: {runs}")
        if one.request.not_before:
            console.print(f"[yellow]{_waits(one.request)}[/]", soft_wrap=True)
        for reason in one.reasons():
            console.print(f"[red]{escape(reason)}[/]", highlight=False, soft_wrap=True)
    if any(one.request.is_open for one in seen):
        first = next(one.request.id[:ID_SHOWN] for one in seen if one.request.is_open)
        console.print(
            f"`tickstock backfill show {first} --follow` follows it, `tickstock backfill cancel {first}` stops it."
        )


def say_nothing_missing(asked: Rectangle, *, as_json: bool) -> None:
    """Say that all of it is there."""
    if as_json:
        print_json({"requests": [], "nothing_missing": True})
    else:
        console.print(
            f"Nothing missing of {_few(asked.symbols)} from {asked.start} to {asked.end}; nothing was entered."
        )


def table(requests: Iterable[BackfillRequest]) -> Table:
    """Return a table of requests."""
    shown = Table("id", "symbols", "bars", "from", "to", "status", "done", box=rich.box.SIMPLE_HEAD)
    for one in requests:
        style = STYLES.get(one.status)
        shown.add_row(
            one.id[:ID_SHOWN],
            _few(one.symbols),
            one.timeframe if one.kind == "history" else one.kind,
            str(one.start),
            str(one.end),
            f"[{style}]{one.status}[/]" if style else one.status,
            f"{one.progress:.0%}",
        )
    return shown


def _state(instance: dg.DagsterInstance, request: BackfillRequest, known: Sequence[str]) -> Standing | None:
    try:
        return standing(instance, request, planned_runs(request, known)) if request.attempts else None
    except ConfigError:
        return None  # its error says so, or will


def _share(seen: Sequence[Seen]) -> float:
    """Return the share of all requests that is done, each by its symbols and days."""
    sizes = [len(one.request.symbols) * ((one.request.end - one.request.start).days + 1) for one in seen]
    return sum(one.share * size for one, size in zip(seen, sizes, strict=True)) / sum(sizes)


def _doing(seen: Sequence[Seen]) -> str:
    """Return in a few words what is going on."""
    at_work = [one for one in seen if one.request.status == "running"]
    if not at_work:
        waiting = [one.request for one in seen if one.request.not_before]
        return _waits(waiting[0]) if waiting else "to be started by the daemon"
    runs: Counter[str] = Counter()
    for one in at_work:
        runs += one.statuses()
    total, finished = sum(one.n_partitions for one in at_work), sum(one.n_finished for one in at_work)
    stand = ", ".join(f"{count:,} {status}" for status, count in runs.items())
    return f"{finished:,} of {total:,} partitions; runs: {stand}{_budget()}"


def _budget() -> str:
    """Return what is left of the first provider's budget, where it has one that is nearly used up."""
    left = lineup().remaining(lineup().first)
    if left.minute == 0:
        return f"; {lineup().first.name} has no call left this minute"
    return f"; {lineup().first.name} has {left.day:,} calls left today" if left.day is not None else ""


def _waits(request: BackfillRequest) -> str:
    until = f"{request.not_before.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if request.not_before else "it is due"
    return f"Request {request.id[:ID_SHOWN]} waits for a provider's budget until {until}"


def _few(symbols: Sequence[str]) -> str:
    named = ", ".join(symbols[:SYMBOLS_SHOWN])
    return named if len(symbols) <= SYMBOLS_SHOWN else f"{named} and {len(symbols) - SYMBOLS_SHOWN:,} more"
