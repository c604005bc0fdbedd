"""Faults fire as ordered or as drawn, are counted, and what they changed is on record exactly."""

import gzip
import json
from datetime import date
from typing import Any

import pytest
import urllib3

from tests.simulator.client import DAILY, KEY, MINUTES, ask, get, small_market
from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.simulator import Fault, Faults, Plan, Simulator, Vendor
from tickstock_assets.simulator.faults import FAILURES, OF_ROWS

NAMES = {"o": "open", "h": "high", "l": "low", "c": "close", "v": "volume"}
PATH = DAILY.format("S0001")


@pytest.fixture
def simulator():
    with Simulator(small_market(), faults=Faults(slow_seconds=0.01)) as it:
        yield it


def bars(simulator: Simulator, path: str = PATH) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = get(simulator, path, adjusted="false").json()["results"]
    return found


def truth(simulator: Simulator, symbol: str = "S0001") -> list[tuple[float, ...]]:
    frame = simulator.market.daily(symbol)
    return list(zip(*(frame[name].tolist() for name in NAMES.values()), strict=True))


def values(rows: list[dict[str, Any]]) -> list[tuple[float, ...]]:
    return [tuple(row[name] for name in NAMES) for row in rows]


# Calls that fail -----------------------------------------------------------------------------------------------------


def test_too_many_requests_with_and_without_a_time(simulator: Simulator) -> None:
    simulator.script(Fault.TOO_MANY_REQUESTS)
    simulator.script(Fault.TOO_MANY_REQUESTS_WITH_TIME)
    first, second, third = (get(simulator, PATH) for _ in range(3))
    assert [answer.status for answer in (first, second, third)] == [429, 429, 200]
    assert first.json()["status"] == "ERROR"
    assert "exceeded the maximum requests per minute" in first.json()["error"]
    assert (first.headers.get("retry-after"), second.headers.get("retry-after")) == (None, "1")
    assert [call.faults for call in simulator.record.calls] == [("429",), ("429_retry_after",), ()]
    assert simulator.record.fired == {"429": 1, "429_retry_after": 1}


def test_a_server_error_is_no_json(simulator: Simulator) -> None:
    simulator.script(Fault.SERVER_ERROR)
    answer = get(simulator, PATH)
    assert answer.status == 503
    with pytest.raises(json.JSONDecodeError):
        answer.json()


def test_a_cut_connection_announces_more_than_it_sends(simulator: Simulator) -> None:
    simulator.script(Fault.CUT)
    with pytest.raises(urllib3.exceptions.ProtocolError, match="IncompleteRead"):
        get(simulator, PATH)
    assert values(bars(simulator)) == truth(simulator)


def test_a_truncated_answer_is_valid_http_also_on_the_second_page(simulator: Simulator) -> None:
    simulator.script(Fault.TRUNCATED_JSON, page=2)
    first = get(simulator, PATH, limit="40").json()
    second = get(simulator, first["next_url"])
    assert second.status == 200
    assert int(second.headers["content-length"]) == len(second.data)
    with pytest.raises(json.JSONDecodeError):
        second.json()
    assert len(get(simulator, first["next_url"]).json()["results"]) == 22


def test_an_error_may_be_http_200_at_both_vendors(simulator: Simulator) -> None:
    simulator.script(Fault.ERROR_IN_200, times=2)
    answer = get(simulator, PATH)
    assert (answer.status, answer.json()["status"]) == (200, "ERROR")
    assert "spreading out your free API requests" in ask(simulator, "TIME_SERIES_DAILY", symbol="S0001")["Information"]


def test_a_slow_answer_is_right_and_counted(simulator: Simulator) -> None:
    simulator.script(Fault.SLOW)
    assert values(bars(simulator)) == truth(simulator)
    assert simulator.record.fired == {"slow": 1}


def test_a_script_waits_for_its_call(simulator: Simulator) -> None:
    simulator.script(Fault.SERVER_ERROR, vendor=Vendor.POLYGON, route="aggregates_day", symbol="S0002", skip=1, times=2)
    other = DAILY.format("S0002")
    statuses = [get(simulator, path).status for path in (other, PATH, MINUTES.format("S0002"), other, other, other)]
    assert statuses == [200, 200, 200, 503, 503, 200]


def test_a_key_expires_half_way_and_can_be_renewed() -> None:
    with Simulator(small_market(), {Vendor.POLYGON: Plan(expires_after=2)}) as simulator:
        assert [get(simulator, PATH).status for _ in range(4)] == [200, 200, 401, 401]
        assert simulator.record.fired == {"expired_key": 2}
        simulator.renew_key(Vendor.POLYGON)
        assert get(simulator, PATH).status == 200


# Rows that are wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Fault.HIGH_BELOW_LOW, Fault.ZERO_PRICE, Fault.NEGATIVE_PRICE])
def test_an_impossible_price_is_in_one_row_of_one_answer_and_on_record(simulator: Simulator, fault: Fault) -> None:
    simulator.script(fault)
    sent, true = bars(simulator), truth(simulator)
    [at] = [n for n, row in enumerate(values(sent)) if row != true[n]]
    row = sent[at]
    assert row["h"] < row["l"] or row["o"] == 0 or row["c"] < 0
    [wrong] = simulator.record.wrong_rows
    assert (wrong.fault, wrong.symbol, wrong.timeframe, wrong.start_ms) == (fault, "S0001", "1d", row["t"])
    assert wrong.sent is not None
    assert wrong.true is not None
    assert tuple(wrong.sent[name] for name in NAMES.values()) == values(sent)[at]
    assert tuple(wrong.true[name] for name in NAMES.values()) == true[at]
    assert values(bars(simulator)) == true


def test_duplicate_and_unsorted_rows_are_the_same_rows(simulator: Simulator) -> None:
    simulator.script(Fault.DUPLICATE_ROWS)
    sent = values(bars(simulator))
    assert len(sent) == 63
    assert sorted(set(sent)) == sorted(truth(simulator))
    simulator.script(Fault.UNSORTED_ROWS)
    sent = values(bars(simulator))
    assert sent != truth(simulator)
    assert sorted(sent) == sorted(truth(simulator))


def test_unsorted_rows_of_alpha_vantage_are_keys_out_of_order(simulator: Simulator) -> None:
    simulator.script(Fault.UNSORTED_ROWS)
    series = list(ask(simulator, "TIME_SERIES_DAILY", symbol="S0001")["Time Series (Daily)"])
    assert series != sorted(series, reverse=True)
    assert len(series) == 62


def test_an_answer_for_the_wrong_symbol_says_whose_it_is(simulator: Simulator) -> None:
    simulator.script(Fault.WRONG_SYMBOL, times=2)
    body = get(simulator, PATH).json()
    assert body["ticker"] == "S0002"
    assert values(body["results"]) == truth(simulator, "S0002")
    assert ask(simulator, "TIME_SERIES_DAILY", symbol="S0001")["Meta Data"]["2. Symbol"] == "S0002"
    assert get(simulator, PATH).json()["ticker"] == "S0001"


def test_a_holiday_bar_is_on_a_weekday_without_a_session(simulator: Simulator) -> None:
    simulator.script(Fault.HOLIDAY_BAR)
    sent = bars(simulator)
    [extra] = {row["t"] for row in sent} - {row["t"] for row in bars(simulator)}
    # Thanksgiving, Christmas and New Year observed, Martin Luther King's day: midnight in New York.
    assert extra in {1669266000000, 1672030800000, 1672635600000, 1673845200000}
    assert [row["t"] for row in sent] == sorted(row["t"] for row in sent)
    [wrong] = simulator.record.wrong_rows
    assert (wrong.start_ms, wrong.true) == (extra, None)


def test_missing_minutes_are_there_the_next_time(simulator: Simulator) -> None:
    simulator.script(Fault.MISSING_MINUTES)
    path = MINUTES.format("S0001")
    first, second = bars(simulator, path), bars(simulator, path)
    missing = {row["t"] for row in second} - {row["t"] for row in first}
    assert len(missing) == 3
    assert {wrong.start_ms for wrong in simulator.record.wrong_rows} == missing
    assert all(wrong.sent is None for wrong in simulator.record.wrong_rows)


def test_a_late_correction_is_a_possible_bar_with_another_close_and_volume(simulator: Simulator) -> None:
    simulator.script(Fault.LATE_CORRECTION)
    first, second = values(bars(simulator)), values(bars(simulator))
    [(sent, true)] = [(a, b) for a, b in zip(first, second, strict=True) if a != b]
    assert second == truth(simulator)
    assert sent[:3] == true[:3]
    assert sent[2] <= sent[3] <= sent[1]
    assert sent[3] != true[3]
    assert sent[4] == true[4] + 100


def test_a_row_that_did_not_arrive_was_not_wrong(simulator: Simulator) -> None:
    simulator.script(Fault.TRUNCATED_JSON)
    simulator.script(Fault.ZERO_PRICE)
    get(simulator, PATH)
    assert simulator.record.wrong_rows == []
    assert any(row["o"] == 0 for row in bars(simulator))


def test_several_faults_take_different_rows(simulator: Simulator) -> None:
    faults = [Fault.HIGH_BELOW_LOW, Fault.ZERO_PRICE, Fault.NEGATIVE_PRICE, Fault.HOLIDAY_BAR, Fault.DUPLICATE_ROWS]
    for fault in faults:
        simulator.script(fault)
    assert len(bars(simulator)) == 64
    assert sorted(simulator.record.fired) == sorted(faults)
    assert len({wrong.start_ms for wrong in simulator.record.wrong_rows}) == len(faults)


# Chances -------------------------------------------------------------------------------------------------------------


def test_the_second_ask_is_clean_or_wrong_in_the_same_way() -> None:
    for sticky in (False, True):
        faults = Faults({Fault.ZERO_PRICE: 1.0, Fault.LATE_CORRECTION: 1.0}, sticky=sticky)
        with Simulator(small_market(), faults=faults) as simulator:
            first, second = bars(simulator), bars(simulator)
            assert [row["t"] for row in first if row["o"] == 0] != []
            zero = [row["t"] for row in second if row["o"] == 0]
            assert zero == ([row["t"] for row in first if row["o"] == 0] if sticky else [])
            # What is late is there in the end, either way.
            assert simulator.record.fired[Fault.LATE_CORRECTION] == 1


def test_bars_before_the_unsettled_days_never_change_later() -> None:
    chances = {Fault.LATE_CORRECTION: 1.0, Fault.MISSING_MINUTES: 1.0}
    with Simulator(small_market(), faults=Faults(chances, unsettled_from=date(2023, 1, 30))) as simulator:
        for symbol in ("S0001", "S0002", "S0003"):
            bars(simulator, DAILY.format(symbol))
            bars(simulator, MINUTES.format(symbol))
        # Midnight of 2023-01-30 in New York; the minutes that were asked for are of November.
        assert [wrong.fault for wrong in simulator.record.wrong_rows] == ["late_correction"] * 3
        assert all(wrong.start_ms >= 1675054800000 for wrong in simulator.record.wrong_rows)


def test_a_bar_that_was_answered_once_is_not_corrected_through_another_window() -> None:
    with Simulator(small_market(), faults=Faults({Fault.LATE_CORRECTION: 1.0})) as simulator:
        bars(simulator)
        shorter = PATH.replace("2022-11-01", "2022-12-01")
        known = {row["t"]: row for row in bars(simulator)}
        assert all(known[row["t"]] == row for row in bars(simulator, shorter))
        assert simulator.record.fired[Fault.LATE_CORRECTION] == 1


def test_failures_end_after_as_many_in_a_row_as_are_allowed() -> None:
    chances = dict.fromkeys((Fault.SERVER_ERROR, Fault.TOO_MANY_REQUESTS), 1.0)
    with Simulator(small_market(), faults=Faults(chances, in_a_row=3)) as simulator:
        assert [get(simulator, PATH).status for _ in range(5)] == [429, 429, 429, 200, 429]


def test_every_fault_fires_and_the_same_seed_gives_the_same_faults() -> None:
    def play(seed: int) -> list[tuple[str, ...]]:
        market = small_market(generated=12, reused=["S0002"], fractional_volume=0.1)
        faults = Faults.every(0.12, seed, slow_seconds=0.001)
        with Simulator(market, faults=faults) as simulator, urllib3.PoolManager(retries=False) as pool:

            def call(path: str) -> None:
                try:
                    pool.request("GET", simulator.url + path)
                except urllib3.exceptions.ProtocolError:
                    assert simulator.record.calls[-1].faults[-1] == Fault.CUT

            for number in range(1, 13):
                for month in ("2022-11", "2022-12", "2023-01"):
                    window = f"{month}-01/{month}-28"
                    call(f"/v2/aggs/ticker/S{number:04}/range/1/day/{window}?apiKey={KEY}")
                    call(f"/v2/aggs/ticker/S{number:04}/range/1/minute/{window}?apiKey={KEY}&limit=50000")
                call(f"/query?function=TIME_SERIES_DAILY&symbol=S{number:04}&apikey={KEY}")
            for day in range(1, 31):
                call(f"/flatfiles/us_stocks_sip/day_aggs_v1/2022/11/2022-11-{day:02}.csv.gz")
            drawn = {*FAILURES, *OF_ROWS, Fault.FRACTIONAL_VOLUME, Fault.REUSED_TICKER}
            assert drawn - set(simulator.record.fired) == set()
            return [call.faults for call in simulator.record.calls]

    assert play(7) == play(7)


def test_a_fault_free_flat_file_says_the_same_as_grouped_daily(simulator: Simulator) -> None:
    content = get(simulator, "/flatfiles/us_stocks_sip/day_aggs_v1/2022/12/2022-12-01.csv.gz", key=None).data
    _, *lines = gzip.decompress(content).decode().splitlines()
    grouped = get(simulator, "/v2/aggs/grouped/locale/us/market/stocks/2022-12-01", adjusted="false").json()["results"]
    assert [tuple(line.split(",")[:2]) for line in lines] == [(row["T"], str(row["v"])) for row in grouped]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("cut", "expected NAME=CHANCE .* found 'cut'"),
        ("cut=2", "found 'cut=2'"),
        ("typo=0.1", "a name of 429, .*found 'typo=0.1'"),
        ("reused_ticker=0.5", "found 'reused_ticker=0.5'"),
    ],
)
def test_a_typo_in_faults_is_one_sentence(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        Faults.parsed(text)


def test_faults_are_read_from_text() -> None:
    found = Faults.parsed("all=0.02, cut=0.1,", seed=3)
    assert (found.chances[Fault.CUT], found.chances[Fault.SLOW], found.seed) == (0.1, 0.02, 3)
    assert set(found.chances) == {*FAILURES, *OF_ROWS}
    with pytest.raises(ConfigError, match="reused_ticker has no chance of its own"):
        Faults({Fault.REUSED_TICKER: 0.1})
    with pytest.raises(ConfigError, match="expected a chance from 0 to 1 for cut, found 2"):
        Faults({Fault.CUT: 2})
