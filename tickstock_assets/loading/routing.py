"""Which route serves which session at the least cost, and the calls that this makes.

Exact for routes whose calls span any number of days or a calendar month: session by session, the next day of a symbol is
free on the route that its last came by, a new symbol or month costs a call, and one call of a route of the whole market
serves all. Going once over the sessions, as Viterbi's algorithm does, finds the least sum. For other spans the sum is only
near, so what comes out is held against each route alone, and the cheapest is taken.

Elsewhere: what is missing (missing_runs.py), durations (estimates.py), the requests themselves (planning.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from tickstock_assets.loading.estimates import price
from tickstock_assets.loading.missing_runs import ONE_DAY, Days, Places, Runs
from tickstock_assets.providers.base import Route

type Costs = npt.NDArray[np.float64]
CALENDAR_MONTH_DAYS = 31
WHOLE = -1
ONE_MONTH = np.timedelta64(1, "M")
NO_LIMIT = np.iinfo(np.int32).max


@dataclass(frozen=True)
class Calls:
    """Calls in arrays, in no order.

    Attributes:
        route: place of its route.
        symbol: place of its symbol, WHOLE for the whole market.
        start, end: days asked for, both included.
    """

    route: Places
    symbol: Places
    start: Days
    end: Days

    def per_route(self, n_routes: int) -> npt.NDArray[np.intp]:
        """Return how many there are of each route."""
        return np.bincount(self.route, minlength=n_routes)

    def where(self, kept: npt.NDArray[np.bool_]) -> Self:
        """Return some of them."""
        return type(self)(self.route[kept], self.symbol[kept], self.start[kept], self.end[kept])


def joined(parts: Sequence[Calls]) -> Calls:
    """Return the calls of all parts."""
    columns = zip(*((part.route, part.symbol, part.start, part.end) for part in parts), strict=True)
    return Calls(*map(np.concatenate, columns))


def cheapest_calls(runs: Runs, calendar: Days, routes: Sequence[Route]) -> Calls:
    """Return the calls that bring every session of the runs once, at the least cost.

    Args:
        runs: each session of which some route reaches.
        calendar: all sessions, oldest first.
        routes: where two cost the same, by symbol before the whole market, and the first before the second.
    """
    prices = np.array([price(route.budget, route.seconds_per_call) for route in routes])
    reached = calendar >= np.array([[route.history_start] for route in routes], dtype="datetime64[D]")
    is_missing = _symbols_missing(runs, len(calendar)) > 0
    alone = [np.full(len(calendar), place) for place in range(len(routes)) if reached[place, is_missing].all()]
    choices = [_least_cost(runs, calendar, routes, prices, reached), *alone]
    made = [_calls(runs, calendar, routes, choice) for choice in choices]
    return min(made, key=lambda calls: float(prices @ calls.per_route(len(routes))))


def _symbols_missing(runs: Runs, n_sessions: int) -> npt.NDArray[np.intp]:
    begin, end = (np.bincount(places, minlength=n_sessions + 1) for places in (runs.first, runs.last + 1))
    return np.cumsum(begin - end)[:n_sessions]


def _least_cost(
    runs: Runs, calendar: Days, routes: Sequence[Route], prices: Costs, reached: npt.NDArray[np.bool_]
) -> Places:
    """Return the place of the route for each session."""
    fresh, going_on = _session_calls(runs, calendar, routes)
    needed = fresh.any(axis=0)
    # A session that nobody misses costs nothing, though it may lie beyond every route's reach.
    unreached = np.where(reached | ~needed, 0.0, np.inf)
    fresh, going_on = (calls * prices[:, np.newaxis] + unreached for calls in (fresh, going_on))

    by_preference = np.array(sorted(range(len(routes)), key=lambda place: (routes[place].whole_market, place)))
    came_from = np.zeros(fresh.shape, dtype=np.intp)
    total = np.zeros(len(routes))
    for session in range(len(calendar)):
        best = by_preference[np.argmin(total[by_preference])]
        stay, change = total + going_on[:, session], total[best] + fresh[:, session]
        stays = stay <= change
        came_from[:, session] = np.where(stays, np.arange(len(routes)), best)
        total = np.where(stays, stay, change)
    chosen = np.empty(len(calendar), dtype=np.intp)
    at = by_preference[np.argmin(total[by_preference])]
    for session in reversed(range(len(calendar))):
        chosen[session] = at
        at = came_from[at, session]
    return chosen


def _session_calls(runs: Runs, calendar: Days, routes: Sequence[Route]) -> tuple[Costs, Costs]:
    """Return the calls that each session takes, by route: where a route comes into use, and where it goes on with it."""
    n_sessions = len(calendar)
    symbols = _symbols_missing(runs, n_sessions)
    new_symbols = np.bincount(runs.first, minlength=n_sessions)
    days_since_last = np.diff(calendar, prepend=calendar[:1]).astype(np.int64)
    fresh, going_on = np.empty((2, len(routes), n_sessions))
    for place, route in enumerate(routes):
        fresh[place] = going_on[place] = (symbols > 0) if route.whole_market else symbols
        if not route.whole_market:
            span = route.days_per_call
            share = np.zeros(n_sessions) if span is None else np.minimum(days_since_last / span, 1)
            if span == CALENDAR_MONTH_DAYS:
                share = _month_begins(calendar).astype(np.float64)
            going_on[place] = new_symbols + share * (symbols - new_symbols)
    return fresh, going_on


def _month_begins(calendar: Days) -> npt.NDArray[np.bool_]:
    months = calendar.astype("datetime64[M]")
    return np.concatenate([[True], months[1:] != months[:-1]])


def _calls(runs: Runs, calendar: Days, routes: Sequence[Route], chosen: Places) -> Calls:
    """Return the calls of all routes when each session is served by the route chosen for it."""
    whole = _whole_market_calls(runs, calendar, routes, chosen)
    single = _split(_calls_by_symbol(runs, calendar, routes, chosen), calendar, routes)
    return joined([whole, single])


def _whole_market_calls(runs: Runs, calendar: Days, routes: Sequence[Route], chosen: Places) -> Calls:
    serves_all = np.array([route.whole_market for route in routes])
    sessions = np.flatnonzero(serves_all[chosen] & (_symbols_missing(runs, len(calendar)) > 0))
    # To the eve of the next session; after the last known one there is none in the days asked for.
    eves = np.append(calendar[1:] - ONE_DAY, max(calendar[-1], runs.end.max()))
    return Calls(chosen[sessions], np.full(len(sessions), WHOLE), calendar[sessions], eves[sessions])


def _calls_by_symbol(runs: Runs, calendar: Days, routes: Sequence[Route], chosen: Places) -> Calls:
    """Return a call per run and stretch of sessions that one route serves, or month of it; some may still be too long."""
    serves_all = np.array([route.whole_market for route in routes])
    monthly = np.array([route.days_per_call == CALENDAR_MONTH_DAYS for route in routes])
    history = np.array([route.history_start for route in routes], dtype="datetime64[D]")
    begins = _month_begins(calendar) & monthly[chosen]
    begins[0] = True
    begins[1:] |= chosen[1:] != chosen[:-1]
    stretch, opening = np.cumsum(begins) - 1, np.flatnonzero(begins)
    closing = np.append(opening[1:] - 1, len(calendar) - 1)
    route = chosen[opening]
    month = calendar[opening].astype("datetime64[M]")
    earliest = np.where(monthly[route], np.maximum(month.astype("datetime64[D]"), history[route]), history[route])
    latest = np.where(
        monthly[route], (month + ONE_MONTH).astype("datetime64[D]") - ONE_DAY, np.datetime64("9999-12-31")
    )
    eve = np.minimum(np.append(calendar[opening[1:]] - ONE_DAY, calendar[-1]), latest)
    # After a call by symbol the next goes on with the next day; one of the whole market lasts until this session.
    after = calendar[opening].copy()
    after[1:] = np.where(serves_all[route[:-1]], after[1:], eve[:-1] + ONE_DAY)

    n_stretches = stretch[runs.last] - stretch[runs.first] + 1
    run = np.repeat(np.arange(len(runs.first)), n_stretches)
    at = np.arange(len(run)) - np.repeat(np.cumsum(n_stretches) - n_stretches, n_stretches) + stretch[runs.first][run]
    run, at = (array[~serves_all[route[at]]] for array in (run, at))
    is_first, is_last = runs.first[run] >= opening[at], runs.last[run] <= closing[at]
    start = np.maximum(np.where(is_first, runs.start[run], after[at]), earliest[at])
    end = np.minimum(np.where(is_last, runs.end[run], eve[at]), latest[at])
    return Calls(route[at], runs.symbol[run], start, end)


def _split(calls: Calls, calendar: Days, routes: Sequence[Route]) -> Calls:
    """Return the fewest calls none of which spans more days than its route allows; a longer one begins at a session."""
    most = np.array([route.days_per_call or NO_LIMIT for route in routes], dtype=np.int64)[calls.route]
    is_long = (calls.end - calls.start).astype(np.int64) >= most
    parts = [calls.where(~is_long)]
    rest, most = calls.where(is_long), most[is_long]
    sessions = np.append(calendar, np.datetime64("9999-12-31"))
    start = sessions[np.searchsorted(calendar, rest.start)]
    while len(start):
        end = np.minimum(start + (most - 1).astype("timedelta64[D]"), rest.end)
        parts.append(Calls(rest.route, rest.symbol, start, end))
        start = sessions[np.searchsorted(calendar, end, side="right")]
        goes_on = start <= rest.end
        rest, most, start = rest.where(goes_on), most[goes_on], start[goes_on]
    return joined(parts)
