"""Which requests bring what is missing, by the cheapest routes, and how long they will take. Pure: no I/O, no clock.

Elsewhere: which route serves which session (routing.py), durations (estimates.py), making the requests (attempt.py).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property

import numpy as np
import pandas as pd

from tickstock_assets.domain.windows import WHOLE_MARKET, Window, span_of
from tickstock_assets.loading.estimates import estimate, price, spoken
from tickstock_assets.loading.missing_runs import Days, Runs, missing_runs
from tickstock_assets.loading.routing import WHOLE, Calls, cheapest_calls
from tickstock_assets.providers.base import Dataset, Request, Route
from tickstock_assets.providers.quota import Budget
from tickstock_assets.storage.provider_quota import Remaining

NAMED_SYMBOLS = 3
NO_CALLS = Calls(*(np.empty(0, dtype) for dtype in (np.intp, np.intp, "datetime64[D]", "datetime64[D]")))


@dataclass(frozen=True)
class RouteCost:
    """What is asked for on one route.

    Attributes:
        route: which.
        calls: requests; a vendor that pages, and each retry, take more.
        left: what is left of its budget before.
        seconds: its share of the time that all calls of its budget take.
    """

    route: Route
    calls: int
    left: Remaining
    seconds: float

    def row(self) -> dict[str, str | int]:
        """Return it for a table: route, calls, budget, time."""
        budget = self.route.budget
        limits = [
            f"{limit:,} a {period} ({left:,} left)"
            for limit, period, left in (
                (budget.per_minute, "minute", self.left.minute),
                (budget.per_day, "day", self.left.day),
            )
            if limit is not None
        ]
        return {
            "route": self.route.name,
            "calls": self.calls,
            "budget": ", ".join(limits) or "no limit",
            "time": spoken(self.seconds),
        }


@dataclass(frozen=True)
class Plan:
    """What to ask for, in this order, and what that takes.

    The newest days come first and, of the same days, the symbols in their order: a load that is stopped has every symbol
    complete from some day up to now, which is what can be worked with, and what a plan refuses is met last.

    Attributes:
        requests: one call each.
        costs: per route that is used.
        out_of_reach: windows that no route's history has, and why.
        reaches_back_to: first day that some route has; None without routes.
        seconds: estimated time until all are answered, one after another.
        continues_at: when a day's budget lets the rest be asked for (UTC); None when it will do.
    """

    requests: tuple[Request, ...]
    costs: tuple[RouteCost, ...]
    out_of_reach: Mapping[Window, str]
    reaches_back_to: date | None
    seconds: float
    continues_at: datetime | None

    @cached_property
    def calls(self) -> dict[str, int]:
        """Return the calls per route that is used."""
        return {cost.route.name: cost.calls for cost in self.costs}

    @property
    def cost(self) -> float:
        """Return what is minimised: each call's time, or its share of a minute's or day's budget, in seconds."""
        return sum(cost.calls * price(cost.route.budget, cost.route.seconds_per_call) for cost in self.costs)

    def rows(self) -> list[dict[str, str | int]]:
        """Return a row per route for a table: route, calls, budget, time."""
        return [cost.row() for cost in self.costs]

    def describe(self) -> list[str]:
        """Return the plan in sentences."""
        said = [f"{row['route']}: calls {row['calls']:,}, {row['budget']}, {row['time']}" for row in self.rows()]
        said.append(f"in all: calls {len(self.requests):,}, about {spoken(self.seconds)}")
        if self.continues_at:
            said.append(f"the day's budget will not do: continues at {self.continues_at:%Y-%m-%d %H:%M} UTC")
        if self.out_of_reach:
            symbols = sorted({window.symbol for window in self.out_of_reach})
            named = ", ".join(symbols[:NAMED_SYMBOLS]) + (", ..." if len(symbols) > NAMED_SYMBOLS else "")
            start, end = span_of(self.out_of_reach)
            reach = _reach(self.reaches_back_to)
            said.append(f"out of reach: {named} ({len(symbols):,} symbols) {start}..{end}, as {reach}")
        return said


def plan(
    dataset: Dataset,
    missing: Iterable[Window],
    routes: Sequence[Route],
    sessions: Iterable[date] | pd.DatetimeIndex | pd.Series,
    *,
    now: datetime,
    left: Mapping[Budget, Remaining] | None = None,
) -> Plan:
    """Return the requests that bring every missing session at the least cost.

    Args:
        dataset: what is missing.
        missing: days of symbols; those without a session in them need no request and get none.
        routes: of one provider, for this dataset.
        sessions: every session from the first to the last day of the windows, at least; of the exchange of all symbols.
        now: with a time zone, for the estimates.
        left: what is left of each budget; one that is not in it is untouched.

    Returns:
        A plan whose requests have each missing session of each symbol exactly once, if some route reaches it. A request
        by symbol lies within missing windows; one of the whole market lasts to the eve of the next session.
    """
    calendar: Days = np.unique(pd.DatetimeIndex(pd.to_datetime(list(sessions))).to_numpy().astype("datetime64[D]"))
    runs = missing_runs(list(missing), calendar)
    reach = min((route.history_start for route in routes), default=None)
    within_reach, beyond = _by_reach(runs, calendar, reach)
    calls = cheapest_calls(within_reach, calendar, routes) if len(within_reach.first) else NO_CALLS
    costs, continues_at = _costs(calls, routes, left or {}, now)
    return Plan(
        requests=_requests(calls, dataset, runs.names, routes),
        costs=costs,
        out_of_reach=dict.fromkeys(beyond.windows(), _reach(reach)),
        reaches_back_to=reach,
        seconds=sum(cost.seconds for cost in costs),
        continues_at=continues_at,
    )


def _by_reach(runs: Runs, calendar: Days, reach: date | None) -> tuple[Runs, Runs]:
    """Return what some route's history has, and what none has."""
    day = np.datetime64(reach, "D") if reach else np.datetime64("9999-12-31")
    place = int(np.searchsorted(calendar, day))
    return runs.since(day, place), runs.before(day, place)


def _reach(first_day: date | None) -> str:
    return f"the plan reaches back to {first_day}" if first_day else "no route delivers it"


def _costs(
    calls: Calls, routes: Sequence[Route], left: Mapping[Budget, Remaining], now: datetime
) -> tuple[tuple[RouteCost, ...], datetime | None]:
    """Return what each route that is used takes, and when the first day's budget that will not do is renewed."""
    per_route = calls.per_route(len(routes)).tolist()
    used = [(route, n_calls) for route, n_calls in zip(routes, per_route, strict=True) if n_calls]
    costs: list[RouteCost] = []
    continue_at: list[datetime] = []
    for route, n_calls in used:
        budget = route.budget
        of_budget = [(other, n_others) for other, n_others in used if other.budget == budget]
        together = sum(n_others for _, n_others in of_budget)
        mean_seconds = sum(other.seconds_per_call * n_others for other, n_others in of_budget) / together
        left_of_it = left.get(budget) or Remaining(budget.per_minute, budget.per_day)
        needed = estimate(together, mean_seconds, budget, left_of_it, now)
        costs.append(RouteCost(route, n_calls, left_of_it, needed.seconds * n_calls / together))
        continue_at += [needed.continues_at] if needed.continues_at else []
    return tuple(costs), min(continue_at, default=None)


def _requests(calls: Calls, dataset: Dataset, names: Sequence[str], routes: Sequence[Route]) -> tuple[Request, ...]:
    """Return the calls as requests, the newest days first, then the whole market, then by symbol."""
    order = np.lexsort((calls.symbol, -calls.end.astype(np.int64)))
    columns = (array[order].tolist() for array in (calls.symbol, calls.start, calls.end, calls.route))
    return tuple(
        Request(dataset, Window(WHOLE_MARKET if symbol == WHOLE else names[symbol], start, end), routes[route].name)
        for symbol, start, end, route in zip(*columns, strict=True)
    )
