"""What a person asks `tickstock backfill` for: checked, made known, and entered as requests.

Elsewhere: the verbs (backfill.py), what became of requests (backfill_progress.py).
"""

import getpass
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
from rich.table import Table
from sqlalchemy import Connection

from tickstock_assets.cli import symbol_lists
from tickstock_assets.cli.app import console, errors, print_json
from tickstock_assets.defs.partitions import FIRST_DAY, SYMBOLS, known_symbols
from tickstock_assets.defs.request_runs import planned_runs
from tickstock_assets.defs.resources import engine, lineup
from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.domain.timeframes import Timeframe, timeframe
from tickstock_assets.domain.windows import Window
from tickstock_assets.loading import backfills
from tickstock_assets.loading.backfills import Rectangle
from tickstock_assets.loading.calendar import know_sessions
from tickstock_assets.loading.fetching import plan_missing
from tickstock_assets.loading.load import Loader
from tickstock_assets.providers.base import Dataset
from tickstock_assets.settings import settings
from tickstock_assets.storage import audit, backfill_requests, requested_history
from tickstock_assets.storage.backfill_requests import BackfillRequest
from tickstock_assets.storage.retry import in_transaction

MINUTE_YEARS = 2
REASON = "tickstock backfill"


@dataclass(frozen=True)
class Order:
    """Bars of some symbols over some days, which lie within what the providers have."""

    asked: Rectangle
    timeframe: Timeframe

    @property
    def dataset(self) -> Dataset:
        """What providers call it."""
        return backfills.DATASETS[self.timeframe]

    def know(self, instance: dg.DagsterInstance) -> None:
        """See that the symbols are known to the database and to Dagster, and the sessions to the database.

        Raises:
            ConfigError: no provider has one of the symbols.
            ProviderError: they could not be asked.
        """
        run = audit.Run(REASON, str(uuid4()))
        loader = Loader(lineup(), engine(), settings().landing_path, run=run)
        with errors.status("Asking for symbols that are new"):
            backfills.know_symbols(loader, self.dataset, self.asked.symbols)
        in_transaction(engine(), partial(know_sessions, first=self.asked.start, last=self.asked.end), run)
        instance.add_dynamic_partitions(str(SYMBOLS.name), list(self.asked.symbols))

    def missing(self) -> list[Rectangle]:
        """Return those of the partitions that are not loaded as a whole."""
        windows = backfills.incomplete(lineup(), engine(), self.dataset, self.asked)
        return backfills.rectangles(windows) if windows else []

    def enter(self, wanted: Sequence[Rectangle]) -> list[str]:
        """Enter requests, all or none, and return their ids; of one that is open already the id."""

        def enter_all(connection: Connection) -> list[str]:
            ids = []
            for one in wanted:
                ids.append(
                    backfill_requests.enter(connection, one.symbols, self.timeframe, one.start, one.end, reason=REASON)
                )
                # Or the sensor that looks for new symbols would ask for all there is of them.
                requested_history.note(connection, one.symbols, self.timeframe, one.start)
            return ids

        return in_transaction(engine(), enter_all, audit.Run(getpass.getuser(), str(uuid4())))


def order(symbols: str | None, file: Path | None, timeframe_text: str, start: date | None, end: date | None) -> Order:
    """Return what is asked for, as far as it can be had and has partitions.

    Raises:
        ConfigError: symbols, timeframe or days cannot be, or there is no session to be loaded.
    """
    chosen = timeframe(timeframe_text)
    if chosen not in backfills.DATASETS:
        raise ConfigError(
            f"--timeframe: expected day or minute, found {timeframe_text!r}; others are rolled up from minutes"
        )
    names = _symbols(symbols, file)
    dataset = backfills.DATASETS[chosen]
    first_possible, horizon = lineup().span(dataset)
    last = end or horizon
    two_years_before = date(last.year - MINUTE_YEARS, last.month, min(last.day, 28))
    default = max(first_possible, two_years_before if dataset is Dataset.MINUTE_BARS else FIRST_DAY)
    wanted = (start or default, last)
    span = backfills.within(lineup(), dataset, FIRST_DAY, wanted)
    if span != wanted:
        errors.print(f"[yellow]Of {wanted[0]} to {wanted[1]}, only {span[0]} to {span[1]} can be had.[/]")
    with engine().connect() as connection:
        backfills.require_sessions(connection, names, *span)
    return Order(Rectangle(names, *span), chosen)


def show_plan(instance: dg.DagsterInstance, asked: Order, wanted: Sequence[Rectangle], *, as_json: bool) -> None:
    """Say what would be entered, which runs that makes, and what the first provider would be asked for."""
    known = known_symbols(instance)
    known += [symbol for symbol in asked.asked.symbols if symbol not in known]
    rows: list[dict[str, Any]] = []
    for one in wanted:
        planned = planned_runs(_not_entered(one, asked.timeframe), known)
        partitions = sum(each.n_partitions for each in planned)
        rows.append({**vars(one), "timeframe": asked.timeframe, "runs": len(planned), "partitions": partitions})
    windows = [Window(symbol, one.start, one.end) for one in wanted for symbol in one.symbols]
    provider, made = plan_missing(lineup(), engine(), windows, asked.dataset)
    if as_json:
        plan = {"provider": provider, "routes": made.rows(), "seconds": made.seconds, "continues_at": made.continues_at}
        print_json({"requests": rows, "plan": plan})
        return
    table = Table("symbols", "bars", "from", "to", "runs", "partitions", title="Nothing is entered yet")
    for row in rows:
        cells = [f"{len(row['symbols']):,}", row["timeframe"], row["start"], row["end"], row["runs"], row["partitions"]]
        table.add_row(*map(str, cells))
    console.print(table)
    for sentence in made.describe():
        console.print(f"{provider}: {sentence}")


def _symbols(symbols: str | None, file: Path | None) -> list[str]:
    if symbols is not None and file is None:
        return symbol_lists.typed(symbols)
    if file is not None and symbols is None:
        return symbol_lists.in_file(file)
    found = "both" if symbols else "none"
    raise ConfigError(f"Symbols: expected --symbols AAPL,MSFT or --file symbols.csv, found {found}; name one")


def _not_entered(one: Rectangle, chosen: Timeframe) -> BackfillRequest:
    return BackfillRequest(
        id="", symbols=one.symbols, timeframe=chosen, start=one.start, end=one.end, kind="history", status="requested",
        attempts=0, progress=0.0, requested_by="", reason=None, not_before=None, error=None, created_at=datetime.now(UTC),
    )  # fmt: skip
