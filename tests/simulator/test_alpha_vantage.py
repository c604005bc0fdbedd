"""Alpha Vantage's wire format: its client and plain HTTP against what its documentation shows."""

import csv
from datetime import date

import pytest
from alpha_vantage.timeseries import TimeSeries

from tests.simulator.client import KEY, ask, get, small_market
from tickstock_assets.simulator import Market, Plan, Simulator, Vendor


@pytest.fixture(scope="module")
def simulator():
    with Simulator(Market()) as it:
        yield it


@pytest.fixture
def client(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> TimeSeries:
    monkeypatch.setattr("alpha_vantage.alphavantage.AlphaVantage._ALPHA_VANTAGE_API_URL", f"{simulator.url}/query?")
    return TimeSeries(KEY)


def test_a_daily_series_is_as_the_documentation_shows_it(simulator: Simulator) -> None:
    body = ask(simulator, "TIME_SERIES_DAILY", symbol="IBM")
    assert body["Meta Data"] == {
        "1. Information": "Daily Prices (open, high, low, close) and Volumes",
        "2. Symbol": "IBM",
        "3. Last Refreshed": "2013-03-01",
        "4. Output Size": "Compact",
        "5. Time Zone": "US/Eastern",
    }
    series = body["Time Series (Daily)"]
    assert next(iter(series)) == "2013-03-01"
    assert list(series) == sorted(series, reverse=True)
    assert series["2013-03-01"] == {
        "1. open": "200.6500", "2. high": "202.9400", "3. low": "199.3600", "4. close": "202.9100", "5. volume": "3308300"
    }  # fmt: skip
    assert len(series) == 100


def test_the_vendors_client_reads_all_days(simulator: Simulator, client: TimeSeries) -> None:
    series, about = client.get_daily("AAPL", outputsize="full")
    expected = simulator.market.daily("AAPL")
    assert about["4. Output Size"] == "Full size"
    days = list(reversed(series.items()))
    assert [day for day, _ in days] == expected["date"].astype(str).tolist()
    for place, name in enumerate(("open", "high", "low", "close", "volume"), 1):
        assert [float(bar[f"{place}. {name}"]) for _, bar in days] == expected[name].tolist()


def test_adjusted_days_have_the_bar_as_traded_and_the_adjusted_close_beside_it(client: TimeSeries) -> None:
    series, _ = client.get_daily_adjusted("AAPL", outputsize="full")
    last, split_day = series["2013-03-01"], series["2005-02-28"]
    assert float(last["5. adjusted close"]) == float(last["4. close"]) == 430.47
    assert (split_day["8. split coefficient"], split_day["7. dividend amount"]) == ("2.0", "0.0000")
    # Three dividends of 2.65 since: each takes its share of the close before.
    assert series["2013-02-07"]["7. dividend amount"] == "2.6500"
    before = {day: float(series[day]["4. close"]) for day in ("2012-08-08", "2012-11-06", "2013-02-06")}
    expected = 1.0
    for close in before.values():
        expected *= 1 - 2.65 / close
    assert float(series["2012-08-08"]["5. adjusted close"]) == pytest.approx(before["2012-08-08"] * expected, rel=1e-12)


def test_minutes_of_a_month_are_in_naive_eastern_time_newest_first(simulator: Simulator, client: TimeSeries) -> None:
    series, about = client.get_intraday(
        "AAPL", interval="1min", month="2012-11", outputsize="full", adjusted="false", extended_hours="false"
    )
    assert about == {
        "1. Information": "Intraday (1min) open, high, low, close prices and volume",
        "2. Symbol": "AAPL",
        "3. Last Refreshed": "2012-11-30 15:59:00",
        "4. Interval": "1min",
        "5. Output Size": "Full size",
        "6. Time Zone": "US/Eastern",
    }
    expected = simulator.market.minutes("AAPL", date(2012, 11, 1), date(2012, 11, 30))
    local = expected["timestamp"].dt.tz_convert("America/New_York").dt.strftime("%Y-%m-%d %H:%M:%S")
    assert list(reversed(series)) == local.tolist()
    # Summer time ended on 2012-11-04; both sides of it open at half past nine.
    assert {"2012-11-02 09:30:00", "2012-11-05 09:30:00"} <= set(series)
    assert [float(bar["4. close"]) for bar in reversed(series.values())] == expected["close"].tolist()


def test_minutes_are_adjusted_and_extended_unless_told_otherwise() -> None:
    with Simulator(small_market(extended_hours=True)) as simulator:

        def minutes(**settings: str) -> dict[str, dict[str, str]]:
            wanted = {"symbol": "S0005", "interval": "1min", "month": "2022-11", "outputsize": "full"}
            found: dict[str, dict[str, str]] = ask(simulator, "TIME_SERIES_INTRADAY", **wanted, **settings)[
                "Time Series (1min)"
            ]
            return found

        default, regular = minutes(), minutes(extended_hours="false", adjusted="false")
        assert len(regular) == 20 * 390 + 210
        assert set(regular) < set(default)
        assert min(moment[11:] for moment in default) < "09:30:00"
        # It splits two for one in December.
        moment = "2022-11-01 09:30:00"
        assert float(default[moment]["1. open"]) == float(regular[moment]["1. open"]) / 2


def test_compact_minutes_are_the_last_hundred(client: TimeSeries) -> None:
    series, _ = client.get_intraday("IBM", interval="1min", month="2012-11")
    assert len(series) == 100
    assert next(iter(series)) == "2012-11-30 15:59:00"


def test_splits_and_dividends(simulator: Simulator) -> None:
    assert ask(simulator, "SPLITS", symbol="AAPL") == {
        "symbol": "AAPL",
        "data": [
            {"effective_date": "2005-02-28", "split_factor": "2.0000"},
            {"effective_date": "2000-06-21", "split_factor": "2.0000"},
        ],
    }
    body = ask(simulator, "DIVIDENDS", symbol="MSFT")
    [special] = [row for row in body["data"] if row["ex_dividend_date"] == "2004-11-15"]
    assert special == {
        "ex_dividend_date": "2004-11-15", "declaration_date": "None", "record_date": "None", "payment_date": "None",
        "amount": "3.0800",
    }  # fmt: skip


def test_the_listing_is_csv_as_of_a_day() -> None:
    with Simulator(small_market(delisted={"S0001": date(2022, 12, 15)})) as simulator:

        def listed(**settings: str) -> dict[str, list[str]]:
            answer = get(simulator, "/query", function="LISTING_STATUS", apikey=KEY, **settings)
            header, *rows = csv.reader(answer.data.decode().splitlines())
            assert header == ["symbol", "name", "exchange", "assetType", "ipoDate", "delistingDate", "status"]
            return {row[0]: row for row in rows}

        assert sorted(listed()) == ["S0002", "S0003", "S0004", "S0005"]
        assert sorted(listed(date="2022-12-15")) == ["S0001", "S0002", "S0003", "S0004", "S0005"]
        assert listed(state="delisted")["S0001"][-2:] == ["2022-12-15", "Delisted"]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"function": "TIME_SERIES_DAILY", "symbol": "NONE"}, "Invalid API call. Please retry or visit"),
        ({"function": "TIME_SERIES_INTRADAY", "symbol": "IBM", "interval": "1min", "month": "May"}, "Invalid API call"),
        ({"function": "TIME_SERIES_INTRADAY", "symbol": "IBM", "interval": "7min"}, "Invalid API call"),
        ({"function": "NOTHING", "symbol": "IBM"}, r"This API function (NOTHING) does not exist."),
    ],
)
def test_mistakes_are_error_messages_in_http_200(
    simulator: Simulator, parameters: dict[str, str], message: str
) -> None:
    assert ask(simulator, **parameters)["Error Message"].startswith(message)


def test_the_client_raises_the_vendors_own_sentence(client: TimeSeries) -> None:
    with pytest.raises(ValueError, match="Invalid API call"):
        client.get_daily("NONE")


def test_the_free_plan_refuses_premium_functions() -> None:
    plan = Plan(premium=False, minutes=False)
    with Simulator(small_market(), {Vendor.ALPHA_VANTAGE: plan}) as simulator:
        for parameters, message in (
            ({"function": "TIME_SERIES_DAILY_ADJUSTED"}, "This is a premium endpoint."),
            ({"function": "TIME_SERIES_INTRADAY", "interval": "1min"}, "This is a premium endpoint."),
            ({"function": "TIME_SERIES_DAILY", "outputsize": "full"}, "outputsize=full parameter value is a premium"),
        ):
            assert message in ask(simulator, symbol="S0001", **parameters)["Information"]
        assert len(ask(simulator, "TIME_SERIES_DAILY", symbol="S0001")["Time Series (Daily)"]) == 62


def test_a_wrong_or_missing_key_is_an_error_message() -> None:
    with Simulator(small_market(), {Vendor.ALPHA_VANTAGE: Plan(keys=frozenset({KEY}))}) as simulator:
        for key in ("wrong", ""):
            body = ask(simulator, "TIME_SERIES_DAILY", symbol="S0001", apikey=key)
            assert body["Error Message"].startswith("the parameter apikey is invalid or missing.")
