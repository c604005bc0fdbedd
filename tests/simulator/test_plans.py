"""Budgets are kept over any rolling minute and over the day, counted by key, and told in each vendor's way."""

import pytest

from tests.simulator.client import DAILY, KEY, ask, get, small_market
from tickstock_assets.simulator import Plan, Simulator, Vendor
from tickstock_assets.simulator.asks import Reason
from tickstock_assets.simulator.plans import Meter


class Clock:
    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_no_sixty_seconds_have_more_calls_than_allowed() -> None:
    clock = Clock()
    meter = Meter(Plan(per_minute=2), clock)
    found = []
    for second in (0, 30, 59, 60, 61, 90):
        clock.now = 1_000_000.0 + second
        found.append(meter.count())
    # At 59 two calls are in the minute; at 60 the first is no longer; at 61 those of 30 and 60 are.
    assert found == [None, None, Reason.MINUTE_BUDGET, None, Reason.MINUTE_BUDGET, None]
    assert (meter.calls, meter.refused) == (6, 2)
    # From 30 to 61, refused calls too: 30, 59, 60, 61.
    assert meter.highest_in_a_minute == 4


def test_a_days_budget_is_new_at_midnight_utc() -> None:
    clock = Clock(86_400 * 100 + 86_399.0)
    meter = Meter(Plan(per_day=1), clock)
    assert [meter.count(), meter.count()] == [None, Reason.DAY_BUDGET]
    clock.now += 1
    assert [meter.count(), meter.count()] == [None, Reason.DAY_BUDGET]
    assert meter.highest_in_a_day == 2


def test_minutes_and_days_may_be_shorter() -> None:
    clock = Clock(1_000.0)
    meter = Meter(Plan(per_minute=1, per_day=2, minute_seconds=2, day_seconds=10), clock)
    found = []
    for second in (0, 1, 2, 4, 10):
        clock.now = 1_000.0 + second
        found.append(meter.count())
    assert found == [None, Reason.MINUTE_BUDGET, None, Reason.DAY_BUDGET, None]


def test_polygon_says_429_and_counts_each_key_by_itself() -> None:
    with Simulator(small_market(), {Vendor.POLYGON: Plan(per_minute=2)}) as simulator:
        assert [get(simulator, DAILY.format("S0001")).status for _ in range(3)] == [200, 200, 429]
        assert get(simulator, DAILY.format("S0001"), key="another").status == 200
        usage = simulator.usage(Vendor.POLYGON, KEY)
        assert (usage.calls, usage.refused, usage.highest_in_a_minute) == (3, 1, 3)
        assert simulator.usage(Vendor.POLYGON, "never used").calls == 0


@pytest.mark.parametrize(
    ("plan", "kind", "message"),
    [
        (Plan(per_day=1), "Information", "our standard API rate limit is 25 requests per day"),
        (Plan(per_minute=1), "Note", "Our standard API call frequency is 5 calls per minute"),
    ],
)
def test_alpha_vantage_says_it_in_http_200(plan: Plan, kind: str, message: str) -> None:
    with Simulator(small_market(), {Vendor.ALPHA_VANTAGE: plan}) as simulator:
        assert "Time Series (Daily)" in ask(simulator, "TIME_SERIES_DAILY", symbol="S0001")
        body = ask(simulator, "TIME_SERIES_DAILY", symbol="S0001")
        assert message in body[kind]
        # The vendor repeats the key in what it says of the day; a client must not pass that on.
        assert (KEY in body[kind]) == (kind == "Information")


def test_calls_and_counts_can_be_read_over_http_without_the_key() -> None:
    with Simulator(small_market()) as simulator:
        get(simulator, DAILY.format("S0001"))
        get(simulator, DAILY.format("NONE"))
        get(simulator, "/v3/reference/tickers/NONE")
        calls = get(simulator, "/simulator/calls").json()
        assert [(call["route"], call["symbol"], call["status"], call["rows"]) for call in calls] == [
            ("aggregates_day", "S0001", 200, 62), ("aggregates_day", "NONE", 200, 0), ("details", "NONE", 404, 0)
        ]  # fmt: skip
        assert calls[0]["window"] == "2022-11-01..2023-01-31+0"
        assert [call["number"] for call in get(simulator, "/simulator/calls", after="2").json()] == [3]
        statistics = get(simulator, "/simulator/stats")
        assert statistics.json()["by_status"] == {"200": 2, "404": 1}
        assert [(key["vendor"], key["calls"]) for key in statistics.json()["keys"]] == [("polygon", 3)]
        assert get(simulator, "/simulator/wrong_rows").json() == []
        assert KEY not in statistics.data.decode() + json_of(calls)


def json_of(value: object) -> str:
    return repr(value)


def test_a_mistake_of_the_simulator_itself_is_no_500_of_a_vendor(monkeypatch: pytest.MonkeyPatch) -> None:
    simulator = Simulator(small_market())
    monkeypatch.setattr(simulator.market, "window", lambda *_args, **_settings: 1 / 0)
    with pytest.raises(RuntimeError, match="the simulator crashed"), simulator:
        assert get(simulator, DAILY.format("S0001")).status == 500
