"""What a load shows while it works, and what it sums up in the end."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from tickstock_assets.domain.windows import WHOLE_MARKET, Window
from tickstock_assets.loading.load import Order, Outcome
from tickstock_assets.loading.observer import Observer
from tickstock_assets.loading.planning import Plan
from tickstock_assets.providers.base import Dataset, Provider, Request
from tickstock_assets.storage.bulk import MergeCounts

SYMBOLS_SHOWN = 15
PROBLEMS_SHOWN = 10


@dataclass
class Tally:
    """Of one symbol: windows asked for and landed, their rows, the calls that took, which rows were valid or not."""

    symbol: str
    windows: int = 0
    landed: int = 0
    rows: int = 0
    valid: int = 0
    rejected: int = 0
    gaps: int = 0
    calls: int = 0
    failed: int = 0


class LoadProgress(Observer):
    """Counts what a load does per symbol, shows it in a live table, and sums it up."""

    def __init__(self, order: Order, shown_on: Console, *, quiet: bool) -> None:
        self._order = order
        self._tallies = {symbol: Tally(symbol) for symbol in order.symbols}
        self._market = Tally("whole market")
        self._touched: list[Window] = []
        self._counts = MergeCounts()
        self._recent: list[str] = []
        self._doing = "Looking for what is missing"
        self._bar = Progress(
            SpinnerColumn(), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"),
            console=shown_on,
        )  # fmt: skip
        self._task = self._bar.add_task("", total=None)
        self._live = Live(get_renderable=self._render, console=shown_on, refresh_per_second=4, transient=True)
        self._is_live = shown_on.is_terminal and not quiet
        self._began = time.monotonic()

    def __enter__(self) -> "LoadProgress":
        if self._is_live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_live:
            self._live.stop()

    def planned(self, provider: Provider, plan: Plan) -> None:
        """Expect so many windows."""
        for request in plan.requests:
            self._of(request.window.symbol).windows += 1
        done = self._bar.tasks[0].completed
        self._bar.update(self._task, total=done + len(plan.requests))
        self._doing = f"{provider.name}: {plan.describe()[len(plan.rows())]}"

    def landed(self, provider: Provider, request: Request, rows: int, calls: int) -> None:
        """Count a window that came."""
        tally = self._of(request.window.symbol)
        tally.landed += 1
        tally.rows += rows
        tally.calls += calls
        self._note(request, f"{provider.name} {request.window}")

    def failed(self, provider: Provider, request: Request, reason: str, calls: int) -> None:
        """Count a window that did not come."""
        tally = self._of(request.window.symbol)
        tally.failed += 1
        tally.calls += calls
        self._note(request, f"{provider.name} {request.window}: {reason}")

    def continues(self, provider: Provider, at: datetime) -> None:
        """Say how long nothing will come."""
        self._doing = f"{provider.name}: budget used up, continues at {at:%Y-%m-%d %H:%M} UTC"

    def stored(
        self, windows: Sequence[Window], counts: MergeCounts, valid: Mapping[str, int], rejected: Mapping[str, int]
    ) -> None:
        """Count what is in the tables and in quarantine."""
        self._touched += windows
        self._counts += counts
        for symbol, n_rows in valid.items():
            self._tallies[symbol].valid += n_rows
        for symbol, n_rows in rejected.items():
            self._tallies[symbol].rejected += n_rows

    def sleep(self, seconds: float) -> None:
        """Wait, in short naps, so that Ctrl-C is heard."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 1.0))

    def partitions(self) -> list[Window]:
        """Return the windows that were stored."""
        return self._touched

    def recording(self, done: int, total: int) -> None:
        """Say how far recording in Dagster is."""
        self._doing = f"Recording {done:,} of {total:,} partitions"

    def summary(self, outcome: Outcome, *, interrupted: bool) -> dict[str, Any]:
        """Return what became of the load, for a person or a program."""
        for symbol, days in outcome.gaps.items():
            self._tallies[symbol].gaps = len(days)
        tallies = [*self._tallies.values(), *([self._market] if self._market.windows else [])]
        return {
            "dataset": str(self._order.dataset),
            "start": self._order.start,
            "end": self._order.end,
            "seconds": round(time.monotonic() - self._began, 1),
            "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "interrupted": interrupted,
            "continues_at": outcome.continues_at,
            **asdict(self._counts),
            "symbols": [asdict(tally) for tally in tallies],
            "fallbacks": [
                {"window": str(window), "served_by": name}
                for landing in outcome.landings
                for window, name in landing.fallbacks.items()
            ],
            "problems": [*outcome.unknown.values(), *outcome.problems],
            "gaps": {symbol: [str(day) for day in days] for symbol, days in outcome.gaps.items()},
        }

    def print_summary(self, console: Console, summary: dict[str, Any]) -> None:
        """Print it: a table, then what failed, then one line."""
        console.print(self._table([Tally(**row) for row in summary["symbols"]], everything=True))
        for problem in summary["problems"][:PROBLEMS_SHOWN]:
            console.print(f"[red]{problem}[/]", highlight=False)
        if len(summary["problems"]) > PROBLEMS_SHOWN:
            more = len(summary["problems"]) - PROBLEMS_SHOWN
            console.print(f"[red]… and {more:,} more; --log-file has them all[/]")
        if summary["fallbacks"]:
            names = sorted({row["served_by"] for row in summary["fallbacks"]})
            console.print(
                f"[yellow]{len(summary['fallbacks']):,} windows were served by {', '.join(names)} instead.[/]"
            )
        totals = {name: sum(row[name] for row in summary["symbols"]) for name in ("rows", "rejected", "calls")}
        console.print(
            f"{totals['rows']:,} rows landed with {totals['calls']:,} calls in {summary['seconds']:,} s: "
            f"{summary['inserted']:,} inserted, {summary['corrected']:,} corrected, {summary['unchanged']:,} unchanged, "
            f"{totals['rejected']:,} quarantined."
        )
        if self._order.dataset is Dataset.MINUTE_BARS and summary["inserted"] + summary["corrected"]:
            console.print("`tickstock rollups run` makes 5m, 15m, 1h and daily bars of them.")
        if summary["interrupted"]:
            console.print("[yellow]Stopped. What is landed stays; the same command goes on from there.[/]")
        elif summary["continues_at"] is not None:
            console.print(
                f"[yellow]Continues at {summary['continues_at']:%Y-%m-%d %H:%M} UTC: run the same command then.[/]"
            )

    def _of(self, symbol: str) -> Tally:
        return self._market if symbol == WHOLE_MARKET else self._tallies[symbol]

    def _note(self, request: Request, doing: str) -> None:
        symbol = request.window.symbol
        others = [name for name in self._recent if name != symbol]
        self._recent = [*others[1 - SYMBOLS_SHOWN :], symbol]
        self._doing = doing
        self._bar.advance(self._task)

    def _render(self) -> RenderableType:
        self._bar.update(self._task, description=self._doing)
        return Group(self._table([self._of(symbol) for symbol in self._recent]), self._bar)

    def _table(self, tallies: Sequence[Tally], *, everything: bool = False) -> Table:
        table = Table("symbol")
        for name in ("windows", "rows", "valid", "rejected", *(["gaps"] if everything else []), "failed", "calls"):
            table.add_column(name, justify="right")
        for tally in tallies:
            numbers = [tally.rows, tally.valid, tally.rejected, *([tally.gaps] if everything else [])]
            table.add_row(
                tally.symbol,
                f"{tally.landed:,}/{tally.windows:,}",
                *(f"{number:,}" for number in [*numbers, tally.failed, tally.calls]),
            )
        return table
