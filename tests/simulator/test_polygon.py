"""Polygon's wire format: the vendor's client and plain HTTP against what the vendor's documentation shows."""

import json
from datetime import date

import pandas as pd
import pytest
from polygon import RESTClient
from polygon.exceptions import BadResponse

from tests.simulator.client import DAILY, KEY, MINUTES, get, small_market
from tickstock_assets.simulator import Market, Plan, Simulator, Vendor

AAPL_SPLIT = date(2005, 2, 28)


@pytest.fixture(scope="module")
def simulator():
    with Simulator(Market(generated=3, start=date(2022, 11, 1), end=date(2023, 1, 31)), today=date(2023, 2, 1)) as it:
        yield it


@pytest.fixture
def client(simulator: Simulator) -> RESTClient:
    return RESTClient(KEY, base=simulator.url, retries=0)


# Aggregates ----------------------------------------------------------------------------------------------------------


def test_a_daily_bar_is_as_the_documentation_shows_it(simulator: Simulator) -> None:
    body = get(simulator, "/v2/aggs/ticker/AAPL/range/1/day/2012-05-18/2012-05-18", adjusted="false").json()
    assert body.pop("request_id")
    [bar] = body.pop("results")
    assert body == {
        "ticker": "AAPL", "queryCount": 1, "resultsCount": 1, "adjusted": False, "status": "OK", "count": 1
    }  # fmt: skip
    # Midnight in New York of 2012-05-18 is 04:00 UTC, in Unix milliseconds.
    assert bar.pop("t") == 1337313600000
    assert set(bar) == {"v", "vw", "o", "c", "h", "l", "n"}
    assert (bar["o"], bar["h"], bar["l"], bar["c"], bar["v"]) == (533.96, 543.41, 522.18, 530.38, 26153300)
    assert bar["l"] <= bar["vw"] <= bar["h"]
    assert bar["n"] > 0


def test_the_vendors_client_reads_all_days_as_they_were_traded(simulator: Simulator, client: RESTClient) -> None:
    found = list(client.list_aggs("MSFT", 1, "day", "2000-01-01", "2013-12-31", adjusted=False, limit=50_000))
    expected = simulator.market.daily("MSFT")
    for name in ("open", "high", "low", "close", "volume"):
        assert [getattr(bar, name) for bar in found] == expected[name].tolist()
    days = pd.to_datetime([bar.timestamp for bar in found], unit="ms", utc=True).tz_convert("America/New_York")
    assert days.strftime("%Y-%m-%d %H:%M").tolist() == (expected["date"].astype(str) + " 00:00").tolist()


def test_whoever_forgets_adjusted_false_gets_other_prices_before_a_split(client: RESTClient) -> None:
    def close_and_volume(**settings: bool) -> tuple[float, float]:
        [bar] = client.get_aggs("AAPL", 1, "day", "2005-02-25", "2005-02-25", **settings)
        return bar.close, bar.volume

    assert close_and_volume(adjusted=False) == (88.99, 16348400)
    # The split of 2005-02-28 was two for one.
    assert close_and_volume() == close_and_volume(adjusted=True) == (44.495, 32696800)


def test_minutes_come_in_pages_that_the_client_follows(simulator: Simulator, client: RESTClient) -> None:
    before = len(simulator.record.calls)
    found = list(client.list_aggs("S0001", 1, "minute", "2022-11-21", "2022-11-25", adjusted=False, limit=500))
    expected = simulator.market.minutes("S0001", date(2022, 11, 21), date(2022, 11, 25))
    # Three whole sessions, Thanksgiving, a half day.
    assert len(found) == 3 * 390 + 210
    assert len(simulator.record.calls) - before == 3
    assert [bar.close for bar in found] == expected["close"].tolist()
    assert [bar.timestamp * 1_000_000 for bar in found] == expected["timestamp"].astype("int64").mul(1_000).tolist()
    # 2022-11-21 09:30 in New York, winter time.
    assert pd.Timestamp(found[0].timestamp, unit="ms") == pd.Timestamp("2022-11-21 14:30")


def test_the_key_is_not_in_the_address_of_the_next_page(simulator: Simulator) -> None:
    answer = get(simulator, MINUTES.format("S0001"), key=None, apiKey=KEY, limit="10")
    assert answer.json()["resultsCount"] == 10
    assert KEY.encode() not in answer.data
    assert get(simulator, answer.json()["next_url"], key=None).status == 401
    assert get(simulator, answer.json()["next_url"]).json()["resultsCount"] == 10


def test_descending_pages_are_the_ascending_ones_backwards(client: RESTClient) -> None:
    def closes(sort: str) -> list[float]:
        return [
            bar.close for bar in client.list_aggs("S0001", 1, "day", "2022-11-01", "2023-01-31", sort=sort, limit=7)
        ]

    assert len(closes("asc")) == 62
    assert closes("desc") == closes("asc")[::-1]


def test_bounds_may_be_milliseconds(simulator: Simulator) -> None:
    # 14:30 and 14:31 UTC on 2022-11-21.
    path = "/v2/aggs/ticker/S0001/range/1/minute/1669041000000/1669041060000"
    assert [bar["t"] for bar in get(simulator, path).json()["results"]] == [1669041000000, 1669041060000]


def test_an_unknown_ticker_and_a_window_without_sessions_have_no_results(simulator: Simulator) -> None:
    for path in (DAILY.format("NONE"), "/v2/aggs/ticker/AAPL/range/1/day/2012-05-19/2012-05-20"):
        answer = get(simulator, path)
        body = answer.json()
        assert (answer.status, body["status"], body["queryCount"], body["resultsCount"]) == (200, "OK", 0, 0)
        assert "results" not in body


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("/v2/aggs/ticker/AAPL/range/1/day/yesterday/2012-05-18", "Could not parse the time parameter: 'from'"),
        ("/v2/aggs/ticker/AAPL/range/1/day/2012-05-18/2012-05-17", "'to' cannot be a time that occurs before 'from'"),
        ("/v2/aggs/ticker/AAPL/range/5/minute/2012-05-18/2012-05-18", "the simulator serves 1/minute and 1/day only"),
        ("/v2/aggs/ticker/AAPL/range/1/day/2012-05-18/2012-05-18?limit=50001", "from 1 to 50000"),
        ("/v2/aggs/ticker/AAPL/range/1/day/2012-05-18/2012-05-18?cursor=nonsense", "invalid cursor"),
    ],
)
def test_a_request_without_sense_is_refused(simulator: Simulator, path: str, complaint: str) -> None:
    answer = get(simulator, path)
    assert (answer.status, answer.json()["status"]) == (400, "ERROR")
    assert complaint in answer.json()["error"]


def test_grouped_daily_has_everyone_who_traded(client: RESTClient) -> None:
    found = {bar.ticker: bar for bar in client.get_grouped_daily_aggs("2012-05-18", adjusted=False)}
    # Facebook's first day: 38.00 was the low.
    assert sorted(found) == ["AAPL", "FB", "GOOG", "IBM", "MSFT"]
    assert (found["FB"].open, found["FB"].low, found["FB"].volume) == (42.05, 38, 573576400)
    assert "FB" not in {bar.ticker for bar in client.get_grouped_daily_aggs("2012-05-17")}
    assert client.get_grouped_daily_aggs("2012-05-19") == []
    [earlier] = [bar for bar in client.get_grouped_daily_aggs("2005-02-25") if bar.ticker == "AAPL"]
    assert earlier.close == 44.495


# Trades --------------------------------------------------------------------------------------------------------------


def test_trades_make_up_the_minute_bars(simulator: Simulator, client: RESTClient) -> None:
    trades = list(client.list_trades("S0001", timestamp="2022-11-25", order="asc", limit=300))
    frame = pd.DataFrame([vars(trade) for trade in trades])
    frame["minute"] = pd.to_datetime(frame["sip_timestamp"], utc=True).dt.floor("min")
    bars = frame.groupby("minute").agg(
        open=("price", "first"),
        high=("price", "max"),
        low=("price", "min"),
        close=("price", "last"),
        volume=("size", "sum"),
    )
    expected = simulator.market.minutes("S0001", date(2022, 11, 25), date(2022, 11, 25)).set_index("timestamp")
    assert len(trades) == 4 * 210
    for name in bars:
        assert bars[name].tolist() == expected[name].tolist()
    assert frame["sip_timestamp"].is_monotonic_increasing
    assert frame["sequence_number"].is_unique
    assert len(str(trades[0].sip_timestamp)) == len("1669386601350140017")
    newest = next(iter(client.list_trades("S0001", timestamp="2022-11-25")))
    assert newest.sip_timestamp == frame["sip_timestamp"].max()


# Reference -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/stocks/v1/splits", "/v3/reference/splits"])
def test_splits_newest_first(simulator: Simulator, path: str) -> None:
    rows = get(simulator, path, ticker="AAPL").json()["results"]
    found = [(row["ticker"], row["execution_date"], row["split_from"], row["split_to"]) for row in rows]
    assert found == [("AAPL", "2005-02-28", 1, 2), ("AAPL", "2000-06-21", 1, 2)]
    # A price of 1999 is a quarter of itself in today's shares.
    assert [row.get("historical_adjustment_factor") for row in rows] == (
        [0.5, 0.25] if path.startswith("/stocks") else [None, None]
    )


def test_the_vendors_client_pages_through_dividends(client: RESTClient) -> None:
    found = list(client.list_dividends("IBM", limit=10, ex_dividend_date_gte="2010-01-01", order="asc"))
    assert (found[0].ex_dividend_date, found[0].cash_amount, found[0].dividend_type) == ("2010-02-08", 0.55, "CD")
    assert len(found) == 13
    assert {dividend.currency for dividend in found} == {"USD"}


def test_dividends_at_the_present_address_say_what_they_are_in_todays_shares(simulator: Simulator) -> None:
    [row] = get(simulator, "/stocks/v1/dividends", **{"ticker": "MSFT", "ex_dividend_date.lte": "2003-02-28"}).json()[
        "results"
    ]
    assert (row["ex_dividend_date"], row["cash_amount"], row["split_adjusted_cash_amount"]) == (
        "2003-02-19",
        0.08,
        0.08,
    )
    assert row["distribution_type"] == "recurring"


def test_tickers_are_listed_as_of_a_day_and_searched(client: RESTClient) -> None:
    assert [found.ticker for found in client.list_tickers(search="apple")] == ["AAPL"]
    before = [found.ticker for found in client.list_tickers(date="2012-05-17", limit=2)]
    after = [found.ticker for found in client.list_tickers(date="2012-05-18", limit=2)]
    assert set(after) - set(before) == {"FB"}
    assert after == sorted(after)
    assert [found.ticker for found in client.list_tickers("IBM", market="stocks", active=True)] == ["IBM"]


def test_details_have_what_the_table_of_symbols_wants(simulator: Simulator, client: RESTClient) -> None:
    details = get(simulator, "/v3/reference/tickers/FB").json()["results"]
    wanted = {
        "ticker", "name", "primary_exchange", "market", "locale", "currency_name", "currency_symbol", "type", "active",
        "cik", "composite_figi", "share_class_figi", "market_cap", "weighted_shares_outstanding", "list_date",
        "last_updated_utc",
    }  # fmt: skip
    assert wanted <= set(details)
    found = client.get_ticker_details("FB")
    assert (found.name, found.primary_exchange, found.list_date) == ("Facebook, Inc. Class A", "XNAS", "2012-05-18")
    with pytest.raises(BadResponse, match="NOT_FOUND"):
        client.get_ticker_details("NONE")


def test_a_delisted_company_is_inactive_and_known_on_earlier_days() -> None:
    market = small_market(delisted={"S0001": date(2022, 12, 15)})
    with Simulator(market, today=date(2023, 2, 1)) as simulator:
        client = RESTClient(KEY, base=simulator.url, retries=0)
        [gone] = client.list_tickers(active=False)
        assert (gone.ticker, gone.active, gone.delisted_utc) == ("S0001", False, "2022-12-15T00:00:00Z")
        assert client.get_ticker_details("S0001", date="2022-12-15").ticker == "S0001"
        with pytest.raises(BadResponse, match="NOT_FOUND"):
            client.get_ticker_details("S0001")


def test_a_reused_ticker_serves_another_company_before_its_change() -> None:
    market = small_market(reused=["S0002"])
    with Simulator(market) as simulator:
        client = RESTClient(KEY, base=simulator.url, retries=0)
        events = client.get_ticker_events("S0002")
        own = market.daily("S0002")
        assert [(event["type"], event["date"]) for event in events.events] == [
            ("ticker_change", str(own["date"].iloc[0].date()))
        ]
        served = list(client.list_aggs("S0002", 1, "day", "2022-11-01", "2023-01-31"))
        assert len(served) == 62
        assert [bar.close for bar in served][-len(own) :] == own["close"].tolist()
        assert {row.fault.value for row in simulator.record.wrong_rows} == {"reused_ticker"}
        assert len(simulator.record.wrong_rows) == 62 - len(own)
        assert client.get_ticker_details("S0002", date="2022-11-01").name == "Former S0002 Holdings Ltd."


def test_holidays_and_half_days_of_the_next_year(client: RESTClient) -> None:
    # From the exchange's own calendar for 2023.
    upcoming = client.get_market_holidays()
    closed = [day.date for day in upcoming if day.exchange == "NYSE" and day.status == "closed" and day.date < "2024"]
    assert closed == [
        "2023-02-20", "2023-04-07", "2023-05-29", "2023-06-19", "2023-07-04", "2023-09-04", "2023-11-23", "2023-12-25"
    ]  # fmt: skip
    [early] = [day for day in upcoming if day.exchange == "NASDAQ" and day.date == "2023-11-24"]
    assert (early.status, early.open, early.close) == (
        "early-close", "2023-11-24T14:30:00.000Z", "2023-11-24T18:00:00.000Z"
    )  # fmt: skip
    assert client.get_market_status().market in {"open", "closed"}


# Keys and plans ------------------------------------------------------------------------------------------------------


def test_a_wrong_key_is_refused_in_header_and_query() -> None:
    with Simulator(small_market(), {Vendor.POLYGON: Plan(keys=frozenset({KEY}))}) as simulator:
        for answer in (
            get(simulator, DAILY.format("S0001"), key="wrong"),
            get(simulator, DAILY.format("S0001"), key=None, apiKey="wrong"),
            get(simulator, DAILY.format("S0001"), key=None),
        ):
            assert answer.status == 401
            assert (answer.json()["status"], answer.json()["error"]) == ("ERROR", "Unknown API Key")
        assert get(simulator, DAILY.format("S0001")).status == 200


def test_a_plan_refuses_what_it_does_not_include() -> None:
    plan = Plan(history_start=date(2022, 12, 1), history_end=date(2022, 12, 30), minutes=False, trades=False)
    with Simulator(small_market(), {Vendor.POLYGON: plan}) as simulator:
        grouped = "/v2/aggs/grouped/locale/us/market/stocks/"
        for path, message in (
            (DAILY.format("S0001"), "Your plan doesn't include this data timeframe."),
            (f"{grouped}2022-11-30", "Your plan doesn't include this data timeframe."),
            (f"{grouped}2023-01-03", "Your plan doesn't include this data timeframe."),
            (MINUTES.format("S0001"), "You are not entitled to this data."),
            ("/v3/trades/S0001?timestamp=2022-12-01", "You are not entitled to this data."),
        ):
            answer = get(simulator, path)
            assert (answer.status, answer.json()["status"]) == (403, "NOT_AUTHORIZED")
            assert answer.json()["message"].startswith(message)
        assert get(simulator, f"{grouped}2022-12-01").json()["resultsCount"] == 5


def test_a_delayed_plan_says_so() -> None:
    with Simulator(small_market(), {Vendor.POLYGON: Plan(delayed=True)}) as simulator:
        assert json.loads(get(simulator, DAILY.format("S0001")).data)["status"] == "DELAYED"
