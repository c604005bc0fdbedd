"""Polygon: its parsers on payloads written after the vendor's documentation, and the provider over real HTTP."""

import io
import json
import logging
import traceback
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from tests.providers.scripted_server import Asked, Reply, ScriptedServer, serving
from tickstock_assets.domain.errors import (
    BadKeyError,
    ContractError,
    NotEntitledError,
    PermanentProviderError,
    QuotaExhaustedError,
    TransientProviderError,
    UnknownSymbolError,
)
from tickstock_assets.domain.windows import Window
from tickstock_assets.providers.base import BAR_COLUMNS, MINUTE_COLUMNS, Dataset, Request
from tickstock_assets.providers.flat_files import FlatFiles
from tickstock_assets.providers.http import Patience
from tickstock_assets.providers.polygon import BASE_URL, Polygon
from tickstock_assets.providers.polygon_parsing import parse
from tickstock_assets.providers.polygon_payloads import bars_table, joined, trades_table
from tickstock_assets.providers.quota import Budget

PAYLOADS = Path(__file__).parent.parent / "data" / "polygon"
KEY = "pk_S3cret-4711"
# A Friday, 17:00 in New York: the session has closed, its bars are not final yet.
NOW = datetime(2026, 3, 6, 22, tzinfo=UTC)
JANUARY = Window("AAPL", date(2020, 1, 2), date(2020, 1, 3))
DAILY = Request(Dataset.DAILY_BARS, JANUARY)
THREE_TRIES = Patience(tries=3, jitter_seconds=0)
QUICK = Patience(read_seconds=1, tries=3, jitter_seconds=0)


def text(name: str) -> bytes:
    return (PAYLOADS / name).read_bytes()


def body(name: str) -> Any:
    return json.loads(text(name))


def reply(content: Any, status: int = 200, **headers: str) -> Reply:
    return Reply(
        json.dumps(content).encode(), status, {name.replace("_", "-"): value for name, value in headers.items()}
    )


def polygon_at(server: ScriptedServer, **options: Any) -> Polygon:
    return Polygon(
        SecretStr(KEY),
        base_url=server.url,
        **{"patience": THREE_TRIES, "clock": lambda: NOW, "sleep": lambda _: None} | options,
    )


def bars(rows: list[dict[str, Any]], dataset: Dataset = Dataset.DAILY_BARS) -> pd.DataFrame:
    return parse(dataset, bars_table(rows, "AAPL"))


def utc(moment: str) -> pd.Timestamp:
    return pd.Timestamp(moment, tz="UTC")


# --- reading what was landed


def test_daily_bars_are_read() -> None:
    frame = parse(Dataset.DAILY_BARS, bars_table(body("aggregates_day.json")["results"], "AAPL"))
    assert frame.dtypes.astype(str).to_dict() == BAR_COLUMNS
    assert frame.to_dict("list") == {
        "symbol": ["AAPL", "AAPL"],
        "date": [pd.Timestamp("2020-01-02"), pd.Timestamp("2020-01-03")],
        "open": [296.24, 297.15],
        "high": [300.6, 300.58],
        "low": [295.19, 296.5],
        "close": [300.35, 297.43],
        "volume": [33870100.0, 36580700.25],
        "vwap": [298.5107, 298.44],
        "trades_count": [280146.0, 308526.0],
    }


def test_minute_bars_bear_the_new_york_day_before_and_after_the_clocks_go_forward() -> None:
    frame = parse(Dataset.MINUTE_BARS, bars_table(body("aggregates_minute.json")["results"], "AAPL"))
    assert frame.dtypes.astype(str).to_dict() == BAR_COLUMNS | MINUTE_COLUMNS
    # 4:00 and 19:59 on Friday in winter time, 4:00 and 9:30 on Monday in summer time.
    assert frame["timestamp"].tolist() == [
        utc("2024-03-08 09:00"),
        utc("2024-03-09 00:59"),
        utc("2024-03-11 08:00"),
        utc("2024-03-11 13:30"),
    ]
    assert frame["date"].dt.strftime("%m-%d").tolist() == ["03-08", "03-08", "03-11", "03-11"]
    assert frame["volume"].tolist() == [1205, 900, 1100, 12.5]
    assert frame[["vwap", "trades_count"]].iloc[3].isna().all()


@pytest.mark.parametrize(
    ("moment", "day"),
    [
        ("2024-11-01 23:59", "2024-11-01"),  # Friday 19:59, summer time
        ("2024-11-04 09:00", "2024-11-04"),  # Monday 4:00, winter time
        ("2024-11-30 00:59", "2024-11-29"),  # the evening of a half day
        ("2024-07-04 03:59", "2024-07-03"),  # a minute before midnight
        ("2024-07-04 04:00", "2024-07-04"),
    ],
)
def test_the_day_of_a_minute_is_the_one_in_new_york(moment: str, day: str) -> None:
    frame = bars([{"t": int(utc(moment).timestamp() * 1000), "c": 1.0}], Dataset.MINUTE_BARS)
    assert frame["timestamp"].tolist() == [utc(moment)]
    assert frame["date"].tolist() == [pd.Timestamp(day)]


def test_the_whole_markets_bars_name_their_tickers_and_a_company_may_be_called_na() -> None:
    frame = parse(Dataset.DAILY_BARS, bars_table(body("grouped_daily.json")["results"]))
    assert frame["symbol"].tolist() == ["KIMO", "NA", "BRK.A"]
    # Stamped at the close, 16:00 in New York, not at midnight.
    assert set(frame["date"]) == {pd.Timestamp("2020-10-14")}
    assert frame["volume"].tolist() == [70, 1000, 312.75]


def test_what_cannot_be_read_is_missing_and_no_row_is_lost() -> None:
    odd: list[dict[str, Any]] = [
        {"t": 1577941200000, "o": 1.5, "h": 2, "l": 1, "c": 1.75, "v": 10, "n": 3},
        {"t": 1577941200000, "o": "n/a", "h": None, "l": True, "c": "1.75", "v": [1], "n": 2.5},
        {"t": "soon", "o": -1.5, "h": 1e300, "v": 2**70},
        {"t": -(2**62), "extra": "kept"},
        {},
    ]
    frame = bars(odd)
    assert len(frame) == 5
    assert frame["date"].isna().tolist() == [False, False, True, True, True]
    assert frame["open"].iloc[:1].tolist() == [1.5]
    assert frame["open"].iloc[2] == -1.5
    assert frame.iloc[1][["open", "high", "low", "volume"]].isna().all()
    assert frame["close"].iloc[:2].tolist() == [1.75, 1.75]
    assert frame["high"].iloc[2] == 1e300
    assert frame["volume"].iloc[2] == 2.0**70
    assert frame["trades_count"].iloc[:2].tolist() == [3, 2.5]
    assert bars_table(odd, "AAPL")["extra"].to_pylist() == [None, None, None, "kept", None]


@pytest.mark.parametrize(
    "stamp",
    [
        253_402_300_800_000,  # the year 10000, which no zone's clocks show
        7_258_118_400_000,  # 2200
        1_577_941_200_000_000,  # microseconds for milliseconds
        -2_208_988_800_001,  # 1899
    ],
)
def test_a_moment_of_another_age_is_missing(stamp: int) -> None:
    for dataset in (Dataset.DAILY_BARS, Dataset.MINUTE_BARS):
        frame = bars([{"t": 1577941200000, "c": 1.0}, {"t": stamp, "c": 2.0}], dataset)
        assert frame["date"].isna().tolist() == [False, True]
        assert frame["close"].tolist() == [1, 2]


def test_a_payload_reads_the_same_after_it_was_landed(tmp_path: Path) -> None:
    for rows in (body("aggregates_minute.json")["results"], [], [{"t": "x", "o": 1}, {"t": 5}], [{"v": None}]):
        table = bars_table(rows, "AAPL")
        pyarrow.parquet.write_table(table, tmp_path / "landed.parquet")
        landed = pyarrow.parquet.read_table(tmp_path / "landed.parquet")
        pd.testing.assert_frame_equal(parse(Dataset.MINUTE_BARS, landed), parse(Dataset.MINUTE_BARS, table))


JSON_SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
JSON_VALUES = st.recursive(
    JSON_SCALARS | st.text(max_size=5) | st.sampled_from(["NaN", "1e5", "-7", "0x10", "1709874000000000000"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
ODD_BARS = st.lists(
    st.dictionaries(st.sampled_from(["T", "o", "h", "v", "vw", "t", "n", "otc", "open"]), JSON_VALUES, max_size=6),
    max_size=6,
)


@settings(deadline=None, max_examples=60)
@example([[{"t": 253402300800000.0}]], "A")
@given(st.lists(ODD_BARS, min_size=1, max_size=3), st.sampled_from(["A", None]))
def test_whatever_the_values_are_they_can_be_landed_and_no_row_is_lost(
    pages: list[list[dict[str, Any]]], ticker: str | None
) -> None:
    sent = [orjson.loads(orjson.dumps(rows)) for rows in pages]
    table = joined([bars_table(rows, ticker) for rows in sent])
    file = io.BytesIO()
    pyarrow.parquet.write_table(table, file)
    frame = parse(Dataset.MINUTE_BARS, pyarrow.parquet.read_table(file))
    assert frame.dtypes.astype(str).to_dict() == BAR_COLUMNS | MINUTE_COLUMNS
    flat = [row for rows in sent for row in rows]
    assert len(frame) == len(flat)
    for name, key in [("open", "o"), ("volume", "v"), ("trades_count", "n")]:
        for found, row in zip(frame[name], flat, strict=True):
            if type(row.get(key)) in (int, float):
                assert found == pytest.approx(float(row[key]), rel=1e-12)
            elif not isinstance(row.get(key), str):
                assert pd.isna(found)


def test_no_rows_are_a_frame_of_the_right_types() -> None:
    assert bars([]).dtypes.astype(str).to_dict() == BAR_COLUMNS
    assert bars([], Dataset.MINUTE_BARS).dtypes.astype(str).to_dict() == BAR_COLUMNS | MINUTE_COLUMNS
    assert len(parse(Dataset.TRADES, trades_table([], "AAPL"))) == 0


def test_flat_file_bars_are_read_from_their_nanoseconds() -> None:
    day = parse(Dataset.DAILY_BARS, pyarrow.csv.read_csv(PAYLOADS / "day_aggs.csv"))
    assert set(day["date"]) == {pd.Timestamp("2024-03-08")}
    assert day["volume"].tolist() == [68538100, 1200.5, 4000]
    assert day["trades_count"].tolist() == [651345, 12, 80]
    assert day["vwap"].isna().all()
    minutes = parse(Dataset.MINUTE_BARS, pyarrow.csv.read_csv(PAYLOADS / "minute_aggs.csv"))
    assert minutes["timestamp"].tolist() == [utc("2024-03-08 09:00"), utc("2024-03-09 00:59")]
    assert set(minutes["date"]) == {pd.Timestamp("2024-03-08")}


def test_a_flat_file_kept_as_text_reads_to_the_same_numbers() -> None:
    typed = pyarrow.csv.read_csv(PAYLOADS / "minute_aggs.csv")
    as_text = typed.cast(pa.schema([(name, pa.string()) for name in typed.column_names]))
    pd.testing.assert_frame_equal(parse(Dataset.MINUTE_BARS, as_text), parse(Dataset.MINUTE_BARS, typed))


def test_trades_are_read_to_the_microsecond_with_their_sequence() -> None:
    frame = parse(Dataset.TRADES, trades_table(body("trades.json")["results"], "AAPL"))
    # 1710165600015577999 ns: cut, not rounded, so that it does not move into the next microsecond.
    assert frame["timestamp"].tolist() == [utc("2024-03-11 14:00:00.015577")] * 2
    assert frame["sequence"].tolist() == [1063, 1064]
    assert frame["date"].tolist() == [pd.Timestamp("2024-03-11")] * 2
    assert frame["price"].tolist() == [171.55, 171.5475]
    assert frame["quantity"].tolist() == [3, 0.25]
    assert frame["trade_id"].tolist() == ["1", "2"]
    assert frame["exchange"].tolist() == ["11", "4"]
    assert frame["conditions"].tolist() == [["12", "41"], None]


def test_pages_whose_columns_differ_in_type_are_joined() -> None:
    pages = [bars_table(rows, "A") for rows in ([{"o": 1, "v": 5}], [{"o": "x"}], [], [{"o": 2.5}])]
    frame = parse(Dataset.DAILY_BARS, joined(pages))
    assert frame["open"].fillna(-1).tolist() == [1, -1, 2.5]
    assert frame["volume"].fillna(-1).tolist() == [5, -1, -1]


def test_a_payload_of_another_kind_is_refused() -> None:
    with pytest.raises(ContractError, match="polygon daily_bars: expected a payload with ticker"):
        parse(Dataset.DAILY_BARS, pa.table({"Close": [1.0]}))


# --- asking over HTTP


def test_unadjusted_daily_bars_are_asked_for_in_one_call_with_the_key_in_a_header() -> None:
    with serving(Reply(text("aggregates_day.json"))) as server:
        table = polygon_at(server).fetch(DAILY)
    assert table["ticker"].to_pylist() == ["AAPL", "AAPL"]
    assert table["close"].to_pylist() == [300.35, 297.43]
    (asked,) = server.asked
    assert asked.path == "/v2/aggs/ticker/AAPL/range/1/day/2020-01-02/2020-01-03"
    assert asked.query == {"adjusted": "false", "sort": "asc", "limit": "50000"}
    assert asked.headers["Authorization"] == f"Bearer {KEY}"


def test_minute_bars_and_the_whole_market_have_their_own_addresses() -> None:
    minutes = Request(Dataset.MINUTE_BARS, Window("AAPL", date(2024, 3, 1), date(2024, 3, 31)))
    market = Request(Dataset.DAILY_BARS, Window("*", date(2020, 10, 14), date(2020, 10, 14)), "grouped_daily")
    with serving(Reply(text("aggregates_minute.json")), Reply(text("grouped_daily.json"))) as server:
        provider = polygon_at(server)
        assert provider.fetch(minutes).num_rows == 4
        assert provider.fetch(market)["ticker"].to_pylist() == ["KIMO", "NA", "BRK.A"]
    assert [asked.path for asked in server.asked] == [
        "/v2/aggs/ticker/AAPL/range/1/minute/2024-03-01/2024-03-31",
        "/v2/aggs/grouped/locale/us/market/stocks/2020-10-14",
    ]
    assert all(asked.query["adjusted"] == "false" for asked in server.asked)


def test_trades_are_asked_for_by_the_new_york_day_and_their_pages_are_joined() -> None:
    last = {"status": "OK", "results": [{"id": "3", "sip_timestamp": 1710165600015578000, "price": 171, "size": 1}]}
    with serving(Reply(text("trades.json")), reply(last)) as server:
        request = Request(Dataset.TRADES, Window("AAPL", date(2024, 3, 11), date(2024, 3, 11)))
        table = polygon_at(server).fetch(request)
    assert table["id"].to_pylist() == ["1", "2", "3"]
    # Midnight of summer time, 4:00 UTC.
    assert server.asked[0].query == {
        "timestamp.gte": "1710129600000000000",
        "timestamp.lt": "1710216000000000000",
        "sort": "timestamp",
        "order": "asc",
        "limit": "50000",
    }
    # The next page is asked of our host, though the vendor names another, and with the key.
    assert (server.asked[1].path, server.asked[1].query) == ("/v3/trades/AAPL", {"cursor": "YWN0aXZl"})
    assert server.asked[1].headers["Authorization"] == f"Bearer {KEY}"


def test_a_ticker_cannot_lead_to_another_address() -> None:
    answer = body("aggregates_day.json") | {"ticker": "../x?a=b/C"}
    with serving(reply(answer)) as server:
        polygon_at(server).fetch(Request(Dataset.DAILY_BARS, Window("../x?a=b/C", date(2020, 1, 2), date(2020, 1, 3))))
    assert server.asked[0].path == "/v2/aggs/ticker/..%2Fx%3Fa%3Db%2FC/range/1/day/2020-01-02/2020-01-03"


def test_an_answer_without_results_is_a_window_without_trading() -> None:
    empty = {"ticker": "AAPL", "queryCount": 0, "resultsCount": 0, "adjusted": False, "status": "OK"}
    with serving(reply(empty)) as server:
        provider = polygon_at(server)
        assert provider.parse(Dataset.DAILY_BARS, provider.fetch(DAILY)).empty


def page(number: int, **more: Any) -> dict[str, Any]:
    row = {"t": 1577941200000 + number * 86_400_000, "o": number, "h": number, "l": number, "c": number, "v": 1}
    return {"ticker": "AAPL", "status": "OK", "resultsCount": 1, "adjusted": False, "results": [row]} | more


def test_two_pages_become_one_table() -> None:
    with serving(reply(page(1, next_url="http://elsewhere/v2/aggs/next?cursor=c")), reply(page(2))) as server:
        assert polygon_at(server).fetch(DAILY)["open"].to_pylist() == [1, 2]


SECOND_PAGES = {
    "truncated JSON": Reply(json.dumps(page(2)).encode()[:-20]),
    "cut connection": Reply(json.dumps(page(2)).encode(), cut_after=30),
    "server error": Reply(b"oops", 500),
    "an error under status 200": reply({"status": "ERROR", "error": "internal"}),
    "no answer in an object": reply({}),
    "another ticker": reply(page(2, ticker="MSFT")),
    "fewer rows than it says": reply(page(2, resultsCount=2)),
    "rows that are none": reply(page(2, results=[None])),
    "silence": Reply(stall=True),
}


@pytest.mark.parametrize("second", SECOND_PAGES.values(), ids=SECOND_PAGES.keys())
def test_a_bad_second_page_is_an_error_and_never_half_a_table(second: Reply) -> None:
    first = reply(page(1, next_url="http://elsewhere/v2/aggs/ticker/AAPL/range/1/day/x/y?cursor=c"))
    with serving(first, second) as server:
        with pytest.raises(TransientProviderError, match="within 3 tries"):
            polygon_at(server, patience=QUICK if second.stall else THREE_TRIES).fetch(DAILY)
        assert server.times_asked(4) == 4


def test_a_bad_second_page_is_asked_for_again() -> None:
    first = reply(page(1, next_url="http://elsewhere/v2/aggs/next?cursor=c"))
    with serving(first, SECOND_PAGES["truncated JSON"], reply(page(2))) as server:
        assert polygon_at(server).fetch(DAILY)["open"].to_pylist() == [1, 2]


def test_pages_that_go_in_circles_are_an_error() -> None:
    again = reply(page(1, next_url="http://elsewhere/v2/aggs/next?cursor=c"))
    with serving(again) as server, pytest.raises(TransientProviderError, match="already read"):
        polygon_at(server).fetch(DAILY)


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({"ticker": "MSFT"}, "expected bars of AAPL, found bars of MSFT"),
        ({"adjusted": True}, "expected unadjusted bars, found adjusted ones"),
        ({"resultsCount": 9}, "expected 9 bars as resultsCount says, found 1"),
        ({"results": {"o": 1}}, "expected a list of bars"),
        ({"status": "ERROR", "error": "boom"}, "expected an answer of status OK, found .*boom"),
    ],
)
def test_an_answer_that_is_not_what_was_asked_is_tried_again_and_then_named(wrong: dict[str, Any], found: str) -> None:
    with serving(reply(page(1, **wrong)), reply(page(1))) as server:
        assert polygon_at(server).fetch(DAILY).num_rows == 1
    with serving(reply(page(1, **wrong))) as server, pytest.raises(TransientProviderError, match=found):
        polygon_at(server).fetch(DAILY)


REFUSED = {
    "unknown key": (401, {"status": "ERROR", "error": "Unknown API Key"}, BadKeyError, "the key is refused"),
    "unknown key as 403": (403, {"status": "ERROR", "error": "Unknown API Key"}, BadKeyError, "the key is refused"),
    "plan": (
        403,
        {"status": "NOT_AUTHORIZED", "message": "Your plan doesn't include this data timeframe."},
        NotEntitledError,
        r"^AAPL 2020-01-02..2020-01-03 \(daily_bars\): .*the plan does not include this",
    ),
    "no such ticker": (
        404,
        {"status": "NOT_FOUND", "message": "Ticker not found."},
        UnknownSymbolError,
        "AAPL is unknown",
    ),
    "bad request": (400, {"status": "ERROR", "error": "from is after to"}, PermanentProviderError, "from is after to"),
}


@pytest.mark.parametrize(("status", "content", "kind", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refusals_are_told_apart_and_not_tried_again(
    status: int, content: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with serving(reply(content, status)) as server, pytest.raises(kind, match=message) as caught:
        polygon_at(server).fetch(DAILY)
    assert type(caught.value) is kind
    assert len(server.asked) == 1


def test_a_rate_limit_is_waited_out_as_long_as_the_vendor_says() -> None:
    waits: list[float] = []
    limited = reply(
        {"status": "ERROR", "error": "You've exceeded the maximum requests per minute"}, 429, Retry_After="33"
    )
    with serving(limited, Reply(text("aggregates_day.json"))) as server:
        assert polygon_at(server, sleep=waits.append).fetch(DAILY).num_rows == 2
    assert waits == [33]
    with serving(reply({}, 429, Retry_After="7200")) as server, pytest.raises(QuotaExhaustedError) as caught:
        polygon_at(server).fetch(DAILY)
    assert caught.value.until == NOW + timedelta(hours=2)


@pytest.mark.parametrize("status", [401, 403, 404, 400, 429, 500, 200])
def test_the_key_is_in_no_error_no_log_and_no_repr(status: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with serving(reply({"status": "ERROR", "error": f"what is {KEY}?"}, status)) as server:
        provider = polygon_at(server)
        try:
            provider.fetch(DAILY)
        except (PermanentProviderError, TransientProviderError) as error:
            told = traceback.format_exc() + repr(error) + repr(error.__context__) + repr(error.__cause__)
        else:
            pytest.fail("expected an error")
    assert caplog.records
    assert KEY not in told + caplog.text + repr(provider)


def test_what_has_no_route_is_refused_in_a_sentence() -> None:
    provider = Polygon(KEY)
    day = Window("*", date(2020, 1, 2), date(2020, 1, 2))
    for request, message in [
        (Request(Dataset.MINUTE_BARS, day, "grouped_daily"), "minute_bars cannot be had by grouped_daily"),
        (Request(Dataset.DAILY_BARS, day, "flat_files"), "expected flat files to be set up"),
        (Request(Dataset.DAILY_BARS, JANUARY, "grouped_daily"), "expected one session of the whole market"),
    ]:
        with pytest.raises(PermanentProviderError, match=message):
            provider.fetch(request)


# --- what the plan and the calendar say


def test_the_new_host_is_the_default() -> None:
    assert BASE_URL == "https://api.massive.com"
    assert repr(Polygon(KEY, base_url="https://api.polygon.io/")) == "Polygon(https://api.polygon.io)"


def test_routes_follow_the_plan(tmp_path: Path) -> None:
    budget = Budget(per_minute=5)
    free = Polygon(KEY, budget=budget, history_years=2, clock=lambda: NOW)
    daily, grouped = free.routes(Dataset.DAILY_BARS)
    (minutes,) = free.routes(Dataset.MINUTE_BARS)
    (trades,) = free.routes(Dataset.TRADES)
    assert (daily.name, daily.days_per_call, daily.whole_market) == ("by_symbol", None, False)
    assert (grouped.name, grouped.days_per_call, grouped.whole_market) == ("grouped_daily", 1, True)
    assert (minutes.days_per_call, trades.days_per_call) == (31, 1)
    # Two years (730 days) before 2026-03-06, and a day.
    assert {route.history_start for route in (daily, grouped, minutes, trades)} == {date(2024, 3, 7)}
    assert {route.budget for route in (daily, grouped, minutes, trades)} == {budget}
    assert free.routes(Dataset.SPLITS) == []
    paid = Polygon(KEY, flat_files=FlatFiles(str(tmp_path)))
    files = paid.routes(Dataset.MINUTE_BARS)[-1]
    assert (files.name, files.whole_market, files.budget.unlimited) == ("flat_files", True, True)
    assert files.history_start == date(2003, 9, 10)


@pytest.mark.parametrize(
    ("moment", "session"),
    [
        ("2026-03-06 22:00", date(2026, 3, 5)),  # Friday 17:00: after-hours trading goes on
        ("2026-03-07 01:30", date(2026, 3, 6)),  # Friday 20:30
        ("2026-03-09 12:00", date(2026, 3, 6)),  # Monday morning
        ("2025-11-28 22:29", date(2025, 11, 26)),  # a half day, 17:29, and Thanksgiving before it
        ("2025-11-28 22:30", date(2025, 11, 28)),
    ],
)
def test_the_horizon_is_the_last_session_whose_bars_are_final(moment: str, session: date) -> None:
    assert Polygon(KEY, clock=lambda: utc(moment).to_pydatetime()).horizon() == session


def test_the_last_three_sessions_can_still_change() -> None:
    # Closed by then: Fri 6, Thu 5, Wed 4 may change; Tue 3 is settled.
    assert Polygon(KEY).settled_until(NOW) == date(2026, 3, 3)


def test_check_says_what_the_plan_allows() -> None:
    with serving(reply(page(1))) as server:
        said = polygon_at(server, budget=Budget(per_minute=5)).check()
    assert said == "polygon: the key is valid, the plan has bars of 2023-03-06 and later; set to 5 calls a minute"
    with serving(reply({"status": "NOT_AUTHORIZED", "message": "upgrade"}, 403)) as server:
        assert "the plan has no bars of 2023-03-06" in polygon_at(server).check()
    assert len(server.asked) == 1
    with serving(reply({"status": "ERROR", "error": "Unknown API Key"}, 401)) as server, pytest.raises(BadKeyError):
        polygon_at(server).check()


# --- reference


def by_path(answers: dict[str, Reply | Callable[[Asked], Reply]]) -> Callable[[Asked], Reply]:
    def answer(asked: Asked) -> Reply:
        found = answers.get(asked.path, reply({"status": "NOT_FOUND", "message": "not found"}, 404))
        return found(asked) if callable(found) else found

    return answer


def listing(asked: Asked) -> Reply:
    """Answer a look-up of one ticker in the vendor's list."""
    name = "tickers.json" if asked.query["active"] == "true" else "ticker_delisted.json"
    rows = [row for row in body(name)["results"] if row["ticker"] == asked.query.get("ticker", row["ticker"])]
    return reply({"status": "OK", "results": rows, "count": len(rows)})


REFERENCE: dict[str, Reply | Callable[[Asked], Reply]] = {
    "/v3/reference/tickers": listing,
    "/v3/reference/tickers/META": Reply(text("ticker_details.json")),
    "/vX/reference/tickers/META/events": Reply(text("ticker_events.json")),
}


def test_a_symbol_has_all_that_the_vendor_knows_and_since_when_it_means_this_company() -> None:
    with serving(by_path(REFERENCE)) as server:
        frame = polygon_at(server).symbols(["META", "NOSUCH"])
    (meta,) = frame.to_dict("records")
    assert meta == {
        "symbol": "META",
        "exchange": "XNYS",
        "name": "Meta Platforms, Inc. Class A Common Stock",
        "market": "stocks",
        "locale": "us",
        "currency_name": "usd",
        "currency_symbol": "USD",
        "type": "CS",
        "cik": "0001326801",
        "composite_figi": "BBG000MM2P62",
        "share_class_figi": "BBG001SQCQC5",
        "active": True,
        "market_cap": 1.63e12,
        "weighted_shares_outstanding": 2521991000.0,
        "list_date": pd.Timestamp("2012-05-18"),
        "ticker_since": pd.Timestamp("2022-06-09"),
        "delisted_utc": pd.NaT,
        "last_updated_utc": utc("2026-03-05 06:06:11.123"),
    }


def test_a_delisted_symbol_is_kept() -> None:
    with serving(by_path(REFERENCE)) as server:
        (row,) = polygon_at(server).symbols(["TWTR"]).to_dict("records")
    assert (row["symbol"], row["active"], row["exchange"]) == ("TWTR", False, "XNYS")
    assert row["delisted_utc"] == utc("2022-10-28 04:00")
    assert pd.isna(row["list_date"])
    assert pd.isna(row["ticker_since"])


def test_the_whole_market_and_many_symbols_come_from_the_list() -> None:
    with serving(by_path(REFERENCE)) as server:
        everything = polygon_at(server).symbols()
        assert everything["symbol"].tolist() == ["META", "SPY"]
        assert set(everything["exchange"]) == {"XNYS"}
        assert server.asked[0].query["limit"] == "1000"
        assert "ticker" not in server.asked[0].query
        before = len(server.asked)
        some = polygon_at(server).symbols(["META", *(f"X{n}" for n in range(20))])
    assert some["last_updated_utc"].tolist() == [utc("2026-03-05 06:06:11.123")]
    asked = [asked.query for asked in server.asked[before:] if asked.path == "/v3/reference/tickers"]
    assert sum(query["active"] == "true" for query in asked) == 1


@pytest.mark.parametrize(
    ("changes", "list_date", "since"),
    [
        ([("2022-06-09", "META"), ("2012-05-18", "FB")], "2012-05-18", "2022-06-09"),
        ([("2012-05-18", "META")], "2012-05-18", None),
        ([("2015-01-05", "META")], "2012-05-18", "2015-01-05"),
        ([("2015-01-05", "META")], None, None),
        ([("2010-01-04", "META"), ("2012-01-03", "FB"), ("2022-06-09", "META")], "2010-01-04", "2022-06-09"),
        ([("2022-06-09", "OTHER")], "2012-05-18", None),
        ([], None, None),
    ],
)
def test_a_ticker_means_its_company_since_the_last_change_into_it(
    changes: list[tuple[str, str]], list_date: str | None, since: str | None
) -> None:
    events = [{"type": "ticker_change", "date": day, "ticker_change": {"ticker": name}} for day, name in changes]
    details = {"status": "OK", "results": {"ticker": "META", "active": True, "list_date": list_date}}
    answers = REFERENCE | {
        "/v3/reference/tickers/META": reply(details),
        "/vX/reference/tickers/META/events": reply({"status": "OK", "results": {"events": events}}),
    }
    with serving(by_path(answers)) as server:
        (found,) = polygon_at(server).symbols(["META"])["ticker_since"]
    assert pd.isna(found) if since is None else found == pd.Timestamp(since)


def test_a_universe_is_the_list_of_a_day_over_all_pages() -> None:
    first = reply(
        {
            "status": "OK",
            "results": [{"ticker": "B"}, {"ticker": "C"}],
            "next_url": "http://h/v3/reference/tickers?cursor=2",
        }
    )
    with serving(first, reply({"status": "OK", "results": [{"ticker": "A"}]})) as server:
        assert polygon_at(server).universe(date(2015, 3, 2)) == ["A", "B", "C"]
    assert server.asked[0].query["date"] == "2015-03-02"
    assert server.asked[0].query["market"] == "stocks"


def test_splits_are_asked_for_many_symbols_at_once() -> None:
    with serving(Reply(text("splits.json"))) as server:
        frame = polygon_at(server).splits(["AAPL", "MSFT"])
    assert frame.to_dict("list") == {
        "symbol": ["AAPL", "AAPL"],
        "execution_date": [pd.Timestamp("2014-06-09"), pd.Timestamp("2020-08-31")],
        "split_from": [1.0, 1.0],
        "split_to": [7.0, 4.0],
    }
    assert server.asked[0].path == "/stocks/v1/splits"
    assert server.asked[0].query == {"limit": "5000", "sort": "execution_date.asc", "ticker.any_of": "AAPL,MSFT"}


def test_all_splits_are_asked_for_without_a_ticker_and_one_symbols_by_its_name() -> None:
    with serving(Reply(text("splits.json"))) as server:
        assert polygon_at(server).splits()["symbol"].tolist() == ["AAPL", "AAPL", "XYZ"]
        assert polygon_at(server).splits(["XYZ"])["split_to"].tolist() == [1.05]
    assert [asked.query.get("ticker") for asked in server.asked] == [None, "XYZ"]


def test_dividends_have_their_dates_and_kind() -> None:
    with serving(Reply(text("dividends.json"))) as server:
        frame = polygon_at(server).dividends(["AAPL"])
    recurring, special = frame.to_dict("records")
    assert recurring == {
        "symbol": "AAPL",
        "ex_dividend_date": pd.Timestamp("2025-08-11"),
        "cash_amount": 0.26,
        "distribution_type": "recurring",
        "currency": "USD",
        "declaration_date": pd.Timestamp("2025-07-31"),
        "record_date": pd.Timestamp("2025-08-11"),
        "pay_date": pd.Timestamp("2025-08-14"),
        "frequency": 4,
    }
    assert (special["distribution_type"], special["cash_amount"], special["frequency"]) == ("special", 1.5, 0)
    assert pd.isna(special["pay_date"])


def test_no_splits_and_no_dividends_are_empty_frames_of_the_right_types() -> None:
    with serving(reply({"status": "OK", "results": []})) as server:
        splits, dividends = polygon_at(server).splits(["SPY"]), polygon_at(server).dividends(["SPY"])
        symbols = polygon_at(server).symbols()
    assert splits.dtypes.astype(str).to_dict() == {
        "symbol": "str",
        "execution_date": "datetime64[us]",
        "split_from": "float64",
        "split_to": "float64",
    }
    assert str(dividends["ex_dividend_date"].dtype) == "datetime64[us]"
    assert str(symbols["ticker_since"].dtype) == "datetime64[us]"


def test_holidays_are_the_days_a_market_is_closed_or_closes_early() -> None:
    with serving(Reply(text("holidays.json"))) as server:
        frame = polygon_at(server).holidays()
    assert frame["date"].tolist() == [pd.Timestamp("2026-11-26")] * 2 + [pd.Timestamp("2026-11-27")]
    assert frame["exchange"].tolist() == ["NASDAQ", "NYSE", "NYSE"]
    assert frame["status"].tolist() == ["closed", "closed", "early-close"]
    assert frame["close"].iloc[2] == utc("2026-11-27 18:00")
    assert frame["close"].iloc[:2].isna().all()
