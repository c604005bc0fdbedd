"""Plans worked by hand, and every small plan held against all plans there are."""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import chain, combinations

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickstock_assets.domain.windows import WHOLE_MARKET, Window
from tickstock_assets.loading.planning import Plan, plan
from tickstock_assets.providers.base import Dataset, Request, Route
from tickstock_assets.providers.quota import UNLIMITED, Budget
from tickstock_assets.storage.provider_quota import Remaining

NOW = datetime(2024, 1, 6, 12, tzinfo=UTC)
FREE = Budget(per_minute=5)
LONG_AGO = date(2003, 1, 1)
BY_SYMBOL = Route("by_symbol", LONG_AGO, budget=FREE)
BY_MONTH = Route("by_symbol", LONG_AGO, days_per_call=31, budget=FREE)
GROUPED = Route("grouped_daily", LONG_AGO, whole_market=True, budget=FREE)
FLAT_FILES = Route("flat_files", LONG_AGO, whole_market=True, budget=UNLIMITED, seconds_per_call=2)
# Ten years without any holiday but weekends.
WEEKDAYS = [day.date() for day in pd.bdate_range("2014-01-01", "2024-01-05")]
WEEK = [date(2024, 1, day) for day in (1, 2, 3, 4, 5)]


def symbols(count: int) -> list[str]:
    return [f"S{place:04}" for place in range(count)]


def made(missing: Iterable[Window], routes: Sequence[Route], sessions: Sequence[date] = WEEKDAYS) -> Plan:
    return plan(Dataset.DAILY_BARS, missing, routes, sessions, now=NOW)


def said(planned: Plan) -> list[str]:
    return [f"{request.route} {request.window}" for request in planned.requests]


# --- the cheapest route


def test_one_session_of_a_thousand_symbols_is_one_call_for_the_whole_market() -> None:
    day = date(2024, 1, 5)
    planned = made([Window(symbol, day, day) for symbol in symbols(1000)], [BY_SYMBOL, GROUPED])
    assert planned.calls == {"grouped_daily": 1}
    assert planned.requests == (Request(Dataset.DAILY_BARS, Window(WHOLE_MARKET, day, day), "grouped_daily"),)


def test_ten_years_of_a_hundred_symbols_are_a_call_each() -> None:
    planned = made([Window(symbol, WEEKDAYS[0], WEEKDAYS[-1]) for symbol in symbols(100)], [BY_SYMBOL, GROUPED])
    assert planned.calls == {"by_symbol": 100}
    # Five at once, then 95 in 19 waves.
    assert planned.seconds == pytest.approx(19 * 60.3 + 5 * 0.3)


def test_a_mixture_finds_both() -> None:
    first = [Window("OLD", WEEKDAYS[0], WEEKDAYS[-1]), Window("OLDER", WEEKDAYS[0], WEEKDAYS[-1])]
    recent = [Window(symbol, date(2024, 1, 3), date(2024, 1, 5)) for symbol in symbols(998)]
    assert said(made([*first, *recent], [BY_SYMBOL, GROUPED])) == [
        "grouped_daily * 2024-01-05..2024-01-05",
        "grouped_daily * 2024-01-04..2024-01-04",
        "grouped_daily * 2024-01-03..2024-01-03",
        "by_symbol OLD 2014-01-01..2024-01-02",
        "by_symbol OLDER 2014-01-01..2024-01-02",
    ]


def test_shared_sessions_in_the_middle_are_not_cut_out_where_that_costs_more_calls() -> None:
    # Three symbols miss the week; two others only its Wednesday. By symbol: 5 calls. Wednesday grouped: 1 + 2 * 3.
    missing = [Window(symbol, WEEK[0], WEEK[-1]) for symbol in "ABC"]
    missing += [Window(symbol, WEEK[2], WEEK[2]) for symbol in "DE"]
    assert made(missing, [BY_SYMBOL, GROUPED], WEEK).calls == {"by_symbol": 5}
    # With three more, it is 8 by symbol against 7, and against 5 with the whole week grouped.
    missing += [Window(symbol, WEEK[2], WEEK[2]) for symbol in "FGH"]
    assert made(missing, [BY_SYMBOL, GROUPED], WEEK).calls == {"grouped_daily": 5}


def test_of_equal_calls_the_one_by_symbol_is_taken() -> None:
    assert made([Window("A", WEEK[0], WEEK[0])], [GROUPED, BY_SYMBOL], WEEK).calls == {"by_symbol": 1}


def test_files_without_a_budget_cost_their_seconds_only() -> None:
    # A call by symbol is 12 s of the budget, a file 2 s: six files are as dear as a symbol, so for five days they win.
    assert made([Window("A", WEEK[0], WEEK[-1])], [BY_SYMBOL, FLAT_FILES], WEEK).calls == {"flat_files": 5}
    longer = WEEKDAYS[-7:]
    assert made([Window("A", longer[0], longer[-1])], [BY_SYMBOL, FLAT_FILES], longer).calls == {"by_symbol": 1}


def test_each_stretch_takes_the_cheapest_route_that_reaches_it() -> None:
    recent_files = Route("flat_files", date(2024, 1, 4), whole_market=True, seconds_per_call=2)
    last_two_years = Route("grouped_daily", date(2024, 1, 2), whole_market=True, budget=FREE)
    missing = [Window(symbol, WEEK[0], date(2024, 1, 7)) for symbol in "ABC"]
    assert said(made(missing, [last_two_years, recent_files], WEEK)) == [
        "flat_files * 2024-01-05..2024-01-07",
        "flat_files * 2024-01-04..2024-01-04",
        "grouped_daily * 2024-01-03..2024-01-03",
        "grouped_daily * 2024-01-02..2024-01-02",
    ]


# --- the requests


def test_minutes_are_asked_for_by_calendar_month_newest_first_and_equally_deep() -> None:
    missing = [Window("B", date(2023, 11, 29), date(2024, 1, 5)), Window("A", date(2023, 12, 15), date(2024, 1, 5))]
    assert said(made(missing, [BY_MONTH])) == [
        "by_symbol A 2024-01-01..2024-01-05",
        "by_symbol B 2024-01-01..2024-01-05",
        "by_symbol A 2023-12-15..2023-12-31",
        "by_symbol B 2023-12-01..2023-12-31",
        "by_symbol B 2023-11-29..2023-11-30",
    ]


def test_other_spans_are_counted_from_the_first_session() -> None:
    # From Saturday 30 December: Monday to Wednesday, then Thursday and what is left.
    route = Route("by_symbol", LONG_AGO, days_per_call=3, budget=FREE)
    missing = [Window("A", date(2023, 12, 30), date(2024, 1, 7))]
    assert said(made(missing, [route], WEEK)) == [
        "by_symbol A 2024-01-04..2024-01-06",
        "by_symbol A 2024-01-01..2024-01-03",
    ]


def test_a_session_of_the_whole_market_lasts_to_the_eve_of_the_next() -> None:
    sessions = [date(2024, 1, 12), date(2024, 1, 16)]  # a Friday, and the Tuesday after a holiday
    missing = [Window(symbol, date(2024, 1, 12), date(2024, 1, 16)) for symbol in "ABC"]
    assert said(made(missing, [BY_SYMBOL, GROUPED], sessions)) == [
        "grouped_daily * 2024-01-16..2024-01-16",
        "grouped_daily * 2024-01-12..2024-01-15",
    ]


def test_windows_with_only_a_weekend_between_them_are_one_call_and_a_landed_day_keeps_them_apart() -> None:
    fridays_and_before = Window("A", date(2024, 1, 3), date(2024, 1, 5))
    sessions = [*WEEK, date(2024, 1, 8), date(2024, 1, 9)]
    after_the_weekend = [fridays_and_before, Window("A", date(2024, 1, 8), date(2024, 1, 9))]
    assert said(made(after_the_weekend, [BY_SYMBOL], sessions)) == ["by_symbol A 2024-01-03..2024-01-09"]
    after_monday = [fridays_and_before, Window("A", date(2024, 1, 9), date(2024, 1, 9))]
    assert len(made(after_monday, [BY_SYMBOL], sessions).requests) == 2


def test_days_without_a_session_need_no_request() -> None:
    nothing = made([Window("A", date(2024, 1, 6), date(2024, 1, 7))], [BY_SYMBOL, GROUPED], WEEK)
    assert (nothing.requests, nothing.out_of_reach, nothing.seconds, nothing.rows()) == ((), {}, 0, [])
    assert made([], [BY_SYMBOL]).requests == ()


# --- what a plan does not reach


def test_what_no_route_reaches_is_named_with_the_first_day_that_one_does() -> None:
    free = Route("by_symbol", date(2022, 1, 8), budget=FREE)  # a Saturday
    planned = made([Window(symbol, date(2021, 12, 1), date(2024, 1, 5)) for symbol in "AB"], [free])
    assert said(planned) == ["by_symbol A 2022-01-08..2024-01-05", "by_symbol B 2022-01-08..2024-01-05"]
    reason = "the plan reaches back to 2022-01-08"
    assert planned.out_of_reach == {Window(symbol, date(2021, 12, 1), date(2022, 1, 7)): reason for symbol in "AB"}
    assert planned.reaches_back_to == date(2022, 1, 8)
    assert planned.describe()[-1] == f"out of reach: A, B (2 symbols) 2021-12-01..2022-01-07, as {reason}"


def test_without_a_route_nothing_is_in_reach() -> None:
    planned = made([Window("A", WEEK[0], WEEK[1])], [], WEEK)
    assert planned.requests == ()
    assert planned.out_of_reach == {Window("A", WEEK[0], WEEK[1]): "no route delivers it"}


# --- what it takes


def test_a_plan_says_calls_budgets_times_and_when_a_days_budget_lets_it_go_on() -> None:
    scarce = Budget(per_minute=5, per_day=25, zone="America/New_York")
    route = Route("by_symbol", LONG_AGO, budget=scarce, seconds_per_call=0.5)
    missing = [Window(symbol, WEEK[0], WEEK[-1]) for symbol in symbols(40)]
    planned = plan(Dataset.DAILY_BARS, missing, [route], WEEK, now=NOW, left={scarce: Remaining(3, 20)})
    # It is 07:00 in New York; 20 calls fit into today and 20 into tomorrow: five at once and 15 in three waves.
    assert planned.continues_at == datetime(2024, 1, 7, 5, tzinfo=UTC)
    seconds = 17 * 3600 + 3 * 60.5 + 5 * 0.5
    assert planned.seconds == pytest.approx(seconds)
    row = {"route": "by_symbol", "calls": 40, "budget": "5 a minute (3 left), 25 a day (20 left)", "time": "17:03:04"}
    assert planned.rows() == [row]
    assert planned.describe() == [
        "by_symbol: calls 40, 5 a minute (3 left), 25 a day (20 left), 17:03:04",
        "in all: calls 40, about 17:03:04",
        "the day's budget will not do: continues at 2024-01-07 05:00 UTC",
    ]


def test_routes_that_share_a_budget_share_its_time() -> None:
    missing = [Window("A", WEEKDAYS[0], WEEK[-1])] + [Window(symbol, WEEK[0], WEEK[-1]) for symbol in symbols(20)]
    planned = made(missing, [BY_SYMBOL, GROUPED])
    assert planned.calls == {"by_symbol": 1, "grouped_daily": 5}
    # Five at once, the sixth a minute after the first.
    assert planned.seconds == pytest.approx(60.3 + 0.3)
    assert [cost.seconds for cost in planned.costs] == pytest.approx([60.6 / 6, 60.6 * 5 / 6])


# --- held against all plans there are


ONE_DAY = timedelta(days=1)
FIRST_DAY = date(2024, 1, 24)
DAYS = [FIRST_DAY + place * ONE_DAY for place in range(16)]


@st.composite
def windows(draw: st.DrawFn) -> list[Window]:
    """A few windows anywhere, and often more symbols that all miss the same few days, which is worth a mixture."""
    found = []
    for symbol in draw(st.lists(st.sampled_from("ABCD"), min_size=1, max_size=6)):
        start, end = sorted(draw(st.tuples(st.sampled_from(DAYS), st.sampled_from(DAYS))))
        found.append(Window(symbol, start, end))
    start = draw(st.integers(0, len(DAYS) - 3))
    shared = DAYS[start], DAYS[start + draw(st.integers(0, 2))]
    return found + [Window(symbol, *shared) for symbol in "EFGHIJ"[: draw(st.integers(0, 6))]]


budgets = st.sampled_from([UNLIMITED, FREE, Budget(per_day=25)])
histories = st.sampled_from([LONG_AGO, LONG_AGO, FIRST_DAY + 5 * ONE_DAY, FIRST_DAY + 9 * ONE_DAY])
calendars = st.lists(st.sampled_from(DAYS), min_size=1, max_size=9, unique=True).map(sorted)
whole_routes = st.builds(
    Route, st.just("whole"), histories, whole_market=st.just(value=True), budget=budgets,
    seconds_per_call=st.sampled_from([0.5, 7.0]),
)  # fmt: skip


def symbol_routes(spans: Sequence[int | None]) -> st.SearchStrategy[Route]:
    return st.builds(Route, st.just("by_symbol"), histories, st.sampled_from(spans), budget=budgets)


def call_price(route: Route) -> float:
    share = {UNLIMITED: 0.0, FREE: 12.0, Budget(per_day=25): 3456.0}[route.budget]
    return max(share, route.seconds_per_call)


def missed(missing: Sequence[Window], sessions: Sequence[date]) -> dict[str, set[date]]:
    found: dict[str, set[date]] = {}
    for window in missing:
        found.setdefault(window.symbol, set()).update(day for day in sessions if window.start <= day <= window.end)
    return found


def calls_by_symbol(wanted: set[date], sessions: Sequence[date], span: int | None) -> int:
    """The fewest calls for these sessions and no other."""
    calls, since, last = 0, None, None
    for place, day in enumerate(sessions):
        if day not in wanted:
            continue
        goes_on = since is not None and last == place - 1
        if goes_on and span == 31:
            goes_on = since.month == day.month
        elif goes_on and span is not None:
            goes_on = (day - since).days < span
        if not goes_on:
            calls, since = calls + 1, day
        last = place
    return calls


def least_cost(wanted: dict[str, set[date]], sessions: Sequence[date], single: Route, whole: Route) -> float:
    """The cost of the cheapest of all ways to divide the sessions between the two routes."""
    everything = sorted(set().union(*wanted.values()))
    costs = []
    for chosen in chain.from_iterable(combinations(everything, size) for size in range(len(everything) + 1)):
        rest = set(everything) - set(chosen)
        if all(day >= whole.history_start for day in chosen) and all(day >= single.history_start for day in rest):
            calls = sum(calls_by_symbol(days & rest, sessions, single.days_per_call) for days in wanted.values())
            costs.append(len(chosen) * call_price(whole) + calls * call_price(single))
    return min(costs)


def require_a_right_plan(
    planned: Plan, missing: Sequence[Window], routes: Sequence[Route], sessions: Sequence[date]
) -> None:
    named = {route.name: route for route in routes}
    reach = min(route.history_start for route in routes)
    wanted = missed(missing, sessions)
    served: dict[str, list[date]] = {symbol: [] for symbol in wanted}
    for request in planned.requests:
        window, route = request.window, named[request.route]
        days = [day for day in sessions if window.start <= day <= window.end]
        assert days
        assert window.start >= route.history_start
        if route.whole_market:
            assert (window.symbol, days) == (WHOLE_MARKET, [window.start])
            for symbol in wanted:
                served[symbol] += [day for day in days if day in wanted[symbol]]
        else:
            assert set(days) <= wanted[window.symbol]
            served[window.symbol] += days
            assert route.days_per_call is None or (window.end - window.start).days < route.days_per_call
            assert route.days_per_call != 31 or window.start.month == window.end.month
    for symbol, days in wanted.items():
        assert sorted(served[symbol]) == sorted(day for day in days if day >= reach)
    assert missed(list(planned.out_of_reach), sessions) == {
        symbol: early for symbol, days in wanted.items() if (early := {day for day in days if day < reach})
    }
    ends = [request.window.end for request in planned.requests]
    assert ends == sorted(ends, reverse=True)


@settings(max_examples=300, deadline=None)
@given(missing=windows(), sessions=calendars, single=symbol_routes([None, 31]), whole=whole_routes)
def test_every_missing_session_is_brought_once_at_the_least_cost_there_is(
    missing: list[Window], sessions: list[date], single: Route, whole: Route
) -> None:
    planned = made(missing, [single, whole], sessions)
    require_a_right_plan(planned, missing, [single, whole], sessions)
    reach = min(single.history_start, whole.history_start)
    wanted = {symbol: {day for day in days if day >= reach} for symbol, days in missed(missing, sessions).items()}
    assert planned.cost == pytest.approx(least_cost(wanted, sessions, single, whole))


@settings(max_examples=300, deadline=None)
@given(missing=windows(), sessions=calendars, single=symbol_routes([1, 2, 3, 5, 8, 30]), whole=whole_routes)
def test_with_any_other_span_it_costs_no_more_than_either_route_alone(
    missing: list[Window], sessions: list[date], single: Route, whole: Route
) -> None:
    planned = made(missing, [single, whole], sessions)
    require_a_right_plan(planned, missing, [single, whole], sessions)
    wanted = missed(missing, sessions)
    everything = set().union(*wanted.values())
    if all(day >= single.history_start for day in everything):
        alone = sum(calls_by_symbol(days, sessions, single.days_per_call) for days in wanted.values())
        assert planned.cost <= alone * call_price(single) + 1e-9
    if all(day >= whole.history_start for day in everything):
        assert planned.cost <= len(everything) * call_price(whole) + 1e-9


@settings(max_examples=100, deadline=None)
@given(
    missing=windows(), sessions=calendars, single=symbol_routes([None, 31, 4]), whole=whole_routes, history=histories
)
def test_three_routes_bring_every_missing_session_once(
    missing: list[Window], sessions: list[date], single: Route, whole: Route, history: date
) -> None:
    routes = [single, whole, Route("files", history, whole_market=True, seconds_per_call=2)]
    require_a_right_plan(made(missing, routes, sessions), missing, routes, sessions)
