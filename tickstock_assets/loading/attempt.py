"""What one provider is asked for, route by route, and how that ends."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path

from sqlalchemy import Engine

from tickstock_assets.domain.errors import (
    BadKeyError,
    NotEntitledError,
    ProviderError,
    QuotaExhaustedError,
    TransientProviderError,
)
from tickstock_assets.domain.windows import ONE_DAY, WHOLE_MARKET, Window, span_of
from tickstock_assets.loading.calendar import session_days
from tickstock_assets.loading.coverage import by_year, common_days, windows_of_symbols
from tickstock_assets.loading.lineup import Lineup, source_of
from tickstock_assets.loading.observer import Observer
from tickstock_assets.loading.planning import Plan, plan
from tickstock_assets.providers.base import Dataset, Provider, Request, Route
from tickstock_assets.storage import audit, landing, ledger
from tickstock_assets.storage.landing import LandedFile
from tickstock_assets.storage.ledger import Fetched
from tickstock_assets.storage.retry import in_transaction

LONG_DAYS = 366


@dataclass(frozen=True)
class Fetcher:
    """Where answers go, and who hears of it."""

    lineup: Lineup
    engine: Engine
    folder: Path
    dataset: Dataset
    observer: Observer
    run: audit.Run | None
    on_landed: Callable[[Request, int], None] | None = None

    def land(self, provider: Provider, request: Request) -> LandedFile:
        """Fetch one request and make its answer durable; return the file that it is in.

        Raises:
            ProviderError: it did not come; the ledger says why.
        """
        started_at, calls = datetime.now(UTC), self.lineup.calls(provider)
        source = source_of(provider, self.dataset)
        try:
            payload = provider.fetch(request)
        except ProviderError as error:
            how = Fetched(started_at, request.route, calls=self.lineup.calls(provider) - calls)
            self._enter(partial(ledger.record_failed, source=source, window=request.window, error=str(error), how=how))
            self.observer.failed(provider, request, str(error), how.calls)
            raise
        etag = (payload.schema.metadata or {}).get(b"etag")
        how = Fetched(started_at, request.route, etag.decode() if etag else None, self.lineup.calls(provider) - calls)
        file = landing.land(self.folder, provider.name, self.dataset.value, request.window, payload)
        self._enter(partial(ledger.record_landed, source=source, window=request.window, file=file, how=how))
        self.observer.landed(provider, request, payload.num_rows, how.calls)
        if self.on_landed is not None:
            self.on_landed(request, payload.num_rows)
        return file

    def _enter(self, entry: "partial[None]") -> None:
        in_transaction(self.engine, entry, self.run)


def plan_for(
    lineup: Lineup,
    engine: Engine,
    provider: Provider,
    dataset: Dataset,
    *,
    windows: Sequence[Window],
    routes: Sequence[Route] | None = None,
) -> Plan:
    """Return the cheapest way to ask a provider for windows, on some of its routes or on all."""
    routes = provider.routes(dataset) if routes is None else routes
    sessions: Sequence[date] = []
    if windows:
        first, last = span_of(windows)
        with engine.connect() as connection:
            sessions = session_days(connection, first, last, {window.symbol for window in windows})
    left = {route.budget: lineup.remaining(provider) for route in routes if not route.budget.unlimited}
    return plan(dataset, windows, routes, sessions, now=datetime.now(UTC), left=left)


class Attempt:
    """What one provider is asked for, and how that ends.

    Attributes:
        provider: who is asked.
        requests: that were answered and landed.
        rows: in the answers.
        bytes: of the files that they are in.
        delivered: the windows that came.
        refused: the others, with the reason.
        transient: those of them that may well come when asked for again.
        for_the_next: those of them that another provider may serve.
        continues_at: when the provider's exhausted budget lets it go on (UTC); None while it lasts.
        plans: one a pass over its routes.
        doubts: a sentence for each route that refused its key while others of the provider went on.
    """

    def __init__(self, fetcher: Fetcher, provider: Provider) -> None:
        self.provider = provider
        self.requests: list[Request] = []
        self.rows = 0
        self.bytes = 0
        self.delivered: list[Window] = []
        self.refused: dict[Window, str] = {}
        self.for_the_next: list[Window] = []
        self.continues_at: datetime | None = None
        self.plans: list[Plan] = []
        self.transient: list[Window] = []
        self.doubts: list[str] = []
        self._fetcher = fetcher
        self._routes: list[Route] = []
        self._todo: dict[str, list[Window]] = {}
        self._queue: deque[Request] = deque()
        self._for_other_routes: list[Window] = []
        # Never all of them: the last route keeps what it is asked for, and refuses it.
        self._broken_routes: set[str] = set()
        # Those of them that are not in the plan or refused the key, with the reason.
        self._left_routes: dict[str, str] = {}
        # Last day that the plan refused while it gave the days after it: nobody's older days need be asked for.
        self._refused_up_to: tuple[date, str] | None = None

    def deliver(self, windows: Sequence[Window]) -> None:
        """Ask for windows; what one route fails to bring is asked for on the others."""
        dataset = self._fetcher.dataset
        self._routes = list(self.provider.routes(dataset))
        if not self._routes:
            self._refuse(windows, f"{self.provider.name} has no {dataset.replace('_', ' ')}")
            return
        self._todo = windows_of_symbols(windows)
        while self._todo:
            made = self._plan()
            for window, reason in made.out_of_reach.items():
                self._refuse([window], reason)
            self._queue = deque(made.requests)
            while self._queue:
                self._ask(self._queue.popleft())
            self._routes = [route for route in self._routes if route.name not in self._broken_routes]
            self._todo, self._for_other_routes = windows_of_symbols(self._for_other_routes), []

    def _plan(self) -> Plan:
        todo = [window for of_symbol in self._todo.values() for window in of_symbol]
        fetcher = self._fetcher
        made = plan_for(
            fetcher.lineup, fetcher.engine, self.provider, fetcher.dataset, windows=todo, routes=self._routes
        )
        self.plans.append(made)
        self._fetcher.observer.planned(self.provider, made)
        return made

    def _ask(self, request: Request) -> None:
        within_reach = self._within_reach(request)
        if within_reach is None:
            return
        request = within_reach
        concerned = self._concerned(request.window)
        try:
            self._land(request)
        except QuotaExhaustedError as error:
            self.continues_at = error.until
            self._fetcher.observer.continues(self.provider, error.until)
            self._stop(concerned, str(error), leave=self._fetcher.lineup.next_on_quota)
        except BadKeyError as error:
            if self._has_other_routes(request):
                self.doubts.append(f"{self.provider.name} is asked on other routes than {request.route}: {error}")
                self._leave_route(request, str(error))
            else:
                self._stop(concerned, str(error), leave=False)
        except NotEntitledError as error:
            if _is_long(request.window):
                self._newest_years_first(request)
            else:
                self._not_entitled(request, str(error))
        except TransientProviderError as error:
            if not self._has_other_routes(request):
                self.transient += concerned
                self._refuse(concerned, str(error))
            else:
                self._for_other_routes += concerned
                self._broken_routes.add(request.route)
        except ProviderError as error:
            self._refuse(concerned, str(error), leave=False)

    def _land(self, request: Request) -> None:
        file = self._fetcher.land(self.provider, request)
        self.rows += file.rows
        self.bytes += (self._fetcher.folder / file.path).stat().st_size
        self.requests.append(request)
        self.delivered += self._concerned(request.window)

    def _stop(self, concerned: Sequence[Window], reason: str, *, leave: bool) -> None:
        """Ask for nothing more: no other request would fare better."""
        rest = [window for request in self._queue for window in self._concerned(request.window)]
        self._queue.clear()
        self._refuse([*concerned, *rest, *self._for_other_routes], reason, leave=leave)
        self._for_other_routes = []

    def _not_entitled(self, request: Request, reason: str) -> None:
        """Go on with the other routes: one may be in the plan while another is not."""
        if self._has_other_routes(request):
            self._leave_route(request, reason)
            return
        reason = "; ".join([*self._left_routes.values(), reason])
        if request.window.symbol == WHOLE_MARKET:
            # The newest days were asked for first, so the days that are left would be refused one by one.
            self._refuse(self._rest_of_route(request), reason)
        else:
            self._refuse(self._concerned(request.window), reason)

    def _has_other_routes(self, request: Request) -> bool:
        return any(route.name not in {request.route, *self._broken_routes} for route in self._routes)

    def _leave_route(self, request: Request, reason: str) -> None:
        """Ask for a request, and for what is left of its route, on the other routes."""
        self._left_routes[request.route] = reason
        self._for_other_routes += self._rest_of_route(request)
        self._broken_routes.add(request.route)

    def _rest_of_route(self, request: Request) -> list[Window]:
        """Take what is left of a request's route off the queue; return what that and the request were to deliver."""
        left = [self._within_reach(one) for one in self._queue if one.route == request.route]
        self._queue = deque(one for one in self._queue if one.route != request.route)
        return [part for one in (request, *left) if one is not None for part in self._concerned(one.window)]

    def _newest_years_first(self, request: Request) -> None:
        """Find how far back the plan reaches: a call over all years was refused, yet it may give the last ones."""
        years = by_year(request.window)
        for place, year in enumerate(years):
            try:
                self._land(replace(request, window=year))
            except NotEntitledError as error:
                if place:
                    # It gave later days: this is how far back the plan reaches, on every route.
                    self._refused_up_to = (year.end, str(error))
                    refused = Window(year.symbol, request.window.start, year.end)
                    self._refuse(self._concerned(refused), str(error))
                else:
                    self._not_entitled(request, str(error))
                return
            except ProviderError:
                # Whatever it is, it is told by the usual way when these years are asked for once more.
                self._queue.extendleft(replace(request, window=left) for left in reversed(years[place:]))
                return

    def _concerned(self, asked: Window) -> list[Window]:
        """Return the parts of what is to be delivered that an answer brings."""
        if asked.symbol != WHOLE_MARKET:
            return common_days(self._todo.get(asked.symbol, ()), asked)
        return [part for of_symbol in self._todo.values() for part in common_days(of_symbol, asked)]

    def _within_reach(self, request: Request) -> Request | None:
        """Return a request without the days that the plan is known to refuse."""
        if self._refused_up_to is None or request.window.symbol == WHOLE_MARKET:
            return request
        day, reason = self._refused_up_to
        if refused := request.window.clipped_to(day):
            self._refuse(self._concerned(refused), reason)
        if request.window.end <= day:
            return None
        return replace(request, window=replace(request.window, start=max(request.window.start, day + ONE_DAY)))

    def _refuse(self, windows: Sequence[Window], reason: str, *, leave: bool = True) -> None:
        self.refused |= dict.fromkeys(windows, reason)
        if leave:
            self.for_the_next += windows


def _is_long(window: Window) -> bool:
    return window.symbol != WHOLE_MARKET and (window.end - window.start).days >= LONG_DAYS
