"""A load from beginning to end: instruments, sessions, what is missing, tables, corporate actions."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import partial
from itertools import batched
from pathlib import Path

import pandas as pd
from sqlalchemy import Connection, Engine

from tickstock_assets.domain.errors import ProviderError, QuotaExhaustedError, TransientProviderError
from tickstock_assets.domain.timeframes import Timeframe
from tickstock_assets.domain.windows import Window
from tickstock_assets.loading.calendar import know_sessions
from tickstock_assets.loading.coverage import common_days, windows_of_symbols
from tickstock_assets.loading.fetching import Landing, land_missing
from tickstock_assets.loading.gaps import missing_sessions
from tickstock_assets.loading.lineup import Lineup
from tickstock_assets.loading.observer import Observer
from tickstock_assets.loading.reference import actions_due, first_to_answer, store_actions, store_symbols
from tickstock_assets.loading.storing import store
from tickstock_assets.providers.base import Dataset, Provider, Request
from tickstock_assets.storage import audit, bars, requested_history
from tickstock_assets.storage.retry import in_transaction

# Landed rows go on to their table at these strides, so that there is something to look at while a long load works.
STORE_AFTER_ROWS = 100_000
STORE_AFTER_SECONDS = 20.0
SYMBOLS_AT_A_TIME = 10
TIMEFRAMES: Mapping[Dataset, Timeframe] = {Dataset.DAILY_BARS: "1d", Dataset.MINUTE_BARS: "1m"}


@dataclass(frozen=True)
class Order:
    """What is to be loaded.

    Attributes:
        symbols: whose bars.
        start: first day.
        end: last day.
        dataset: bars of which kind.
        recheck: fetch again also where it is landed, and minutes too that a person removed.
        gaps: fetch again where sessions are without a bar.
        actions: also load splits and dividends.
    """

    symbols: Sequence[str]
    start: date
    end: date
    dataset: Dataset = Dataset.DAILY_BARS
    recheck: bool = False
    gaps: bool = False
    actions: bool = True

    def windows(self, symbols: Iterable[str] | None = None) -> list[Window]:
        """Return the days of each symbol."""
        return [Window(symbol, self.start, self.end) for symbol in (self.symbols if symbols is None else symbols)]


@dataclass
class Outcome:
    """What became of an order.

    Attributes:
        landings: one a time that providers were asked; several where a budget was waited for.
        unknown: the symbols that no provider has, with the reason.
        problems: what else failed: a sentence each.
        gaps: by symbol, the sessions that have no bar.
        continues_at: when it goes on (UTC), where it was not to wait for an exhausted budget.
        may_pass: whether any of what was noted may well succeed when it is tried again; of bars the landings say so.
    """

    landings: list[Landing] = field(default_factory=list)
    unknown: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    gaps: dict[str, list[date]] = field(default_factory=dict)
    continues_at: datetime | None = None
    may_pass: bool = False

    def note(self, problem: str, error: ProviderError) -> None:
        """Note what failed, and when it goes on where only a budget held it up."""
        self.problems.append(problem)
        self.may_pass |= isinstance(error, TransientProviderError)
        if isinstance(error, QuotaExhaustedError):
            self.continues_at = error.until


@dataclass(frozen=True)
class Loader:
    """Whom to ask, where to put it, who hears of it.

    Attributes:
        lineup: providers, best first.
        engine: of the database.
        folder: where payloads are landed.
        observer: hears of every step.
        run: under whose name it stands in the audit trail.
        sleep: waits so many seconds for a budget; None where it is not to wait.
    """

    lineup: Lineup
    engine: Engine
    folder: Path
    observer: Observer = field(default_factory=Observer)
    run: audit.Run | None = None
    sleep: Callable[[float], None] | None = None

    def load(self, order: Order) -> Outcome:
        """Do it, as far as it can be done; what fails is in the outcome."""
        outcome = Outcome()
        symbols = self.know(order.symbols, outcome)
        if not symbols:
            return outcome

        def begin(connection: Connection) -> None:
            know_sessions(connection, order.start, order.end)
            if (length := TIMEFRAMES.get(order.dataset)) is not None:
                requested_history.note(connection, symbols, length, order.start)

        in_transaction(self.engine, begin, self.run)
        windows = order.windows(symbols)
        bring = partial(self._store, order.dataset, removed_too=order.recheck)
        storing = _StoreAsItComes(windows, bring)
        try:
            self._fetch(order, windows, storing, outcome)
        finally:
            # Also when it is stopped: what has come is brought to where it can be used.
            bring(windows)
        if order.actions:
            self.load_actions(symbols, outcome)
        outcome.gaps = missing_sessions(self.engine, order.dataset, windows, self.lineup.horizon())
        return outcome

    def know(self, symbols: Sequence[str], outcome: Outcome) -> list[str]:
        """Return the symbols that can be loaded; those new to the database are asked for and entered."""
        with self.engine.connect() as connection:
            known = set(bars.symbols(connection)["symbol"])
        new = [symbol for symbol in symbols if symbol not in known]
        # A few at a time: each group is kept, whatever happens to the next.
        for group in batched(new, SYMBOLS_AT_A_TIME):
            try:
                provider, listed = self._asked(lambda one, group=group: one.symbols(group))  # type: ignore[misc]
            except ProviderError as error:
                outcome.note(f"{', '.join(group)}: {error}", error)
                continue
            valid = in_transaction(self.engine, partial(self._enter, provider=provider, listed=listed), self.run)
            known |= valid
            unknown = [symbol for symbol in group if symbol not in valid]
            outcome.unknown |= {symbol: f"{symbol}: {provider.name} has no such symbol" for symbol in unknown}
        return [symbol for symbol in symbols if symbol in known]

    def _enter(self, connection: Connection, provider: Provider, listed: pd.DataFrame) -> set[str]:
        """Enter instruments, of which nobody else need have history loaded: who asks for them is at it."""
        valid = store_symbols(connection, provider, listed)
        requested_history.note(connection, sorted(valid), "1d", self.lineup.horizon())
        return valid

    def _fetch(self, order: Order, windows: Sequence[Window], storing: "_StoreAsItComes", outcome: Outcome) -> None:
        recheck = list(windows) if order.recheck else []
        if order.gaps and not order.recheck:
            found = missing_sessions(self.engine, order.dataset, windows, self.lineup.horizon())
            recheck = [Window(symbol, day, day) for symbol, days in found.items() for day in days]
        while True:
            landing = land_missing(
                self.lineup,
                self.engine,
                self.folder,
                windows,
                order.dataset,
                recheck=recheck,
                observer=self.observer,
                on_landed=storing.landed,
                run=self.run,
            )
            outcome.landings.append(landing)
            outcome.problems += [doubt for doubt in landing.doubts if doubt not in outcome.problems]
            recheck = []
            if landing.continues_at is None or not landing.failed or self.sleep is None:
                outcome.continues_at = landing.continues_at if landing.failed else outcome.continues_at
                outcome.problems += [f"{window}: {reason}" for window, reason in landing.failed.items()]
                return
            storing.store()
            self._sleep_until(landing.continues_at)

    def _store(self, dataset: Dataset, windows: Sequence[Window], *, removed_too: bool) -> None:
        """Bring what has come of windows to its table."""
        store(
            self.lineup, self.engine, self.folder, windows, dataset,
            new=True, removed_too=removed_too, observer=self.observer, run=self.run,
        )  # fmt: skip

    def _asked[T](self, ask: Callable[[Provider], T]) -> tuple[Provider, T]:
        """Return the first answer, after an exhausted budget where it is to be waited for."""
        while True:
            try:
                return first_to_answer(self.lineup, ask)
            except QuotaExhaustedError as error:
                if self.sleep is None:
                    raise
                self.observer.continues(self.lineup.first, error.until)
                self._sleep_until(error.until)

    def _sleep_until(self, moment: datetime) -> None:
        if self.sleep is not None:
            self.sleep(max(0.0, (moment - datetime.now(UTC)).total_seconds()))

    def load_actions(self, symbols: Sequence[str], outcome: Outcome) -> None:
        """Bring splits and dividends of symbols whose own nobody was asked for within the last day."""
        due = actions_due(self.engine, self.lineup, symbols)
        try:
            for group in batched(due, 5 if self.lineup.has_day_budget else 100):
                provider, (splits, dividends) = self._asked(
                    lambda one, group=group: (one.splits(group), one.dividends(group))  # type: ignore[misc]
                )
                storing = partial(store_actions, provider=provider, splits=splits, dividends=dividends, wanted=group)
                in_transaction(self.engine, storing, self.run)
        except ProviderError as error:
            outcome.note(f"splits and dividends: {error}", error)


class _StoreAsItComes:
    """Brings landed rows to their table at strides."""

    def __init__(self, windows: Sequence[Window], bring: Callable[[Sequence[Window]], None]) -> None:
        self._windows = windows_of_symbols(windows)
        self._bring = bring
        self._pending: list[Window] = []
        self._rows = 0
        self._since = time.monotonic()

    def landed(self, request: Request, rows: int) -> None:
        """Note what has come, and bring what has gathered to its table when that is enough."""
        of_symbol = self._windows.get(request.window.symbol)
        asked = [of_symbol] if of_symbol is not None else self._windows.values()
        self._pending += [part for windows in asked for part in common_days(windows, request.window)]
        self._rows += rows
        if self._rows >= STORE_AFTER_ROWS or time.monotonic() - self._since >= STORE_AFTER_SECONDS:
            self.store()

    def store(self) -> None:
        """Bring what has gathered to its table."""
        if self._pending:
            self._bring(self._pending)
        self._pending, self._rows, self._since = [], 0, time.monotonic()
