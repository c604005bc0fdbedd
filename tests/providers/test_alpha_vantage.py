"""Alpha Vantage over real HTTP on loopback, with payloads written by hand from its documentation."""

import contextlib
import json
import logging
import re
import traceback
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from tests.providers.contract import Case, ProviderContract
from tests.providers.scripted_server import Asked, Reply, ScriptedServer, serving
from tickstock_assets.domain.errors import (
    BadKeyError,
    NotEntitledError,
    PermanentProviderError,
    QuotaExhaustedError,
    TransientProviderError,
    UnknownSymbolError,
)
from tickstock_assets.domain.windows import Window
from tickstock_assets.providers import alpha_vantage_rows as rows
from tickstock_assets.providers.alpha_vantage import AlphaVantage
from tickstock_assets.providers.base import BY_SYMBOL, Dataset, Request
from tickstock_assets.providers.http import Patience
from tickstock_assets.providers.quota import Budget

PAYLOADS = Path(__file__).parent.parent / "data" / "alpha_vantage"
KEY = "Q7R1SECRETKEY9ZX"
NOW = datetime(2024, 11, 6, 12, 0, tzinfo=UTC)
HASTE = Patience(tries=3, first_wait_seconds=0, jitter_seconds=0)

DAILY = Request(Dataset.DAILY_BARS, Window("AAPL", date(2020, 8, 28), date(2020, 8, 31)))
MARCH = Request(Dataset.MINUTE_BARS, Window("AAPL", date(2024, 3, 1), date(2024, 3, 31)))
NOVEMBER = Request(Dataset.MINUTE_BARS, Window("AAPL", date(2024, 11, 1), date(2024, 11, 30)))
# A company that is listed and has not traded yet.
NEWCO = Window("NEWCO", date(2024, 11, 1), date(2024, 11, 4))

NOTICES: dict[str, dict[str, str]] = json.loads((PAYLOADS / "notices.json").read_text())


def content(name: str) -> bytes:
    return (PAYLOADS / name).read_bytes()


def notice(name: str) -> Reply:
    return Reply(json.dumps(NOTICES[name]).replace("APIKEY", KEY).encode())


def vendor(asked: Asked) -> Reply:
    """Answer as the documentation says: AAPL has rows, NEWCO none, and others are not known."""
    query = asked.query
    function, symbol = query["function"], query.get("symbol")
    if query.get("apikey") != KEY:
        return notice("bad key")
    if function == "LISTING_STATUS":
        return Reply(content(f"listing_{query['state']}.csv"))
    name = {
        "TIME_SERIES_DAILY": f"daily_{query.get('outputsize')}.json",
        "TIME_SERIES_INTRADAY": f"intraday_{query.get('month')}.json",
        "SPLITS": "splits.json",
        "DIVIDENDS": "dividends.json",
    }[function]
    if symbol in {"AAPL", "IBM"}:
        return Reply(content(name).replace(b'"AAPL"', f'"{symbol}"'.encode()))
    if symbol == "NEWCO":
        body = json.loads(content(name)) | {"symbol": symbol}
        body.get("Meta Data", {})["2. Symbol"] = symbol
        return Reply(
            json.dumps(
                {key: value if key in {"Meta Data", "symbol"} else type(value)() for key, value in body.items()}
            ).encode()
        )
    return Reply(b"{}") if function in {"SPLITS", "DIVIDENDS"} else notice("unknown symbol")


def provider_at(server: ScriptedServer, **options: Any) -> AlphaVantage:
    terms: dict[str, Any] = {"premium": True, "patience": HASTE, "clock": lambda: NOW, "sleep": lambda _: None}
    return AlphaVantage(SecretStr(KEY), base_url=f"{server.url}/query", **terms | options)


@pytest.fixture
def provider() -> Iterator[AlphaVantage]:
    with serving(vendor) as server:
        yield provider_at(server)


class TestTheContract(ProviderContract):
    @pytest.fixture
    def case(self, provider: AlphaVantage) -> Case:
        return Case(
            provider,
            requests=[DAILY, MARCH, NOVEMBER],
            closes={
                # Four for one on the 31st.
                Dataset.DAILY_BARS: {date(2020, 8, 28): 499.23, date(2020, 8, 31): 129.04},
                # Clocks go forward on 10 March: half past nine is 14:30 UTC before it, 13:30 after it.
                Dataset.MINUTE_BARS: {
                    datetime(2024, 3, 8, 14, 30, tzinfo=UTC): 169.35,
                    datetime(2024, 3, 8, 20, 59, tzinfo=UTC): 170.73,
                    datetime(2024, 3, 11, 13, 30, tzinfo=UTC): 172.90,
                },
            },
            empty=[Request(dataset, NEWCO) for dataset in (Dataset.DAILY_BARS, Dataset.MINUTE_BARS)],
            listed=(date(2024, 11, 1), ["AAPL", "IBM", "META", "NEWCO"]),
            key=KEY,
            now=NOW,
        )


# --- asking


def test_minutes_are_asked_for_by_month_as_traded_and_in_regular_hours_only() -> None:
    with serving(vendor) as server:
        provider_at(server).fetch(MARCH)
        assert [asked.path for asked in server.asked] == ["/query"]
        assert server.asked[0].query == {
            "function": "TIME_SERIES_INTRADAY",
            "symbol": "AAPL",
            "interval": "1min",
            "outputsize": "full",
            "month": "2024-03",
            "extended_hours": "false",
            "adjusted": "false",
            "apikey": KEY,
        }


@pytest.mark.parametrize(("premium", "size"), [(True, "full"), (False, "compact")])
def test_daily_bars_are_asked_for_in_the_size_of_the_plan(premium: bool, size: str) -> None:
    with serving(vendor) as server:
        payload = provider_at(server, premium=premium).fetch(DAILY)
        assert payload.num_rows == 4
        assert server.asked[0].query == {
            "function": "TIME_SERIES_DAILY",
            "symbol": "AAPL",
            "outputsize": size,
            "apikey": KEY,
        }


@pytest.mark.parametrize("symbol", ["BRK.B", "A&B", "X:Y/Z", "C#D", "E F+G"])
def test_a_symbol_arrives_as_it_is_whatever_is_in_it(symbol: str) -> None:
    with serving(notice("unknown symbol")) as server, pytest.raises(UnknownSymbolError):
        provider_at(server).fetch(Request(Dataset.DAILY_BARS, Window(symbol, date(2024, 1, 2), date(2024, 1, 3))))
    assert [asked.query["symbol"] for asked in server.asked] == [symbol]


def test_a_window_over_two_months_of_minutes_is_refused_without_a_call() -> None:
    with serving(vendor) as server, pytest.raises(PermanentProviderError, match="one calendar month a call"):
        provider_at(server).fetch(Request(Dataset.MINUTE_BARS, Window("AAPL", date(2024, 3, 31), date(2024, 4, 1))))
    assert server.asked == []


def test_every_try_is_a_call_of_the_quota_and_a_notice_is_told_to_it() -> None:
    class Counted:
        def __init__(self) -> None:
            self.calls, self.blocks = 0, list[datetime]()

        @contextlib.contextmanager
        def call(self) -> Iterator[None]:
            self.calls += 1
            yield

        def blocked(self, until: datetime) -> None:
            self.blocks.append(until)

    quota, slept = Counted(), list[float]()
    with serving(notice("too fast"), notice("too many a minute"), vendor) as server:
        provider = provider_at(server, quota=quota, sleep=slept.append)
        assert provider.fetch(DAILY).num_rows == 4
        assert quota.calls == len(server.asked) == 3
    assert [(until - NOW).total_seconds() for until in quota.blocks] == slept == [2, 60]


# --- what comes with HTTP 200 in place of rows


@pytest.mark.parametrize(
    ("name", "error", "tries"),
    [
        ("too fast", TransientProviderError, 3),
        ("too many a minute", TransientProviderError, 3),
        ("too many a day", QuotaExhaustedError, 1),
        ("premium endpoint", NotEntitledError, 1),
        ("premium parameter", NotEntitledError, 1),
        ("bad key", BadKeyError, 1),
        ("unknown symbol", UnknownSymbolError, 1),
        ("unknown function", PermanentProviderError, 1),
        ("something new", TransientProviderError, 3),
    ],
)
def test_a_notice_is_no_data_but_one_sentence_of_its_kind_without_the_key(
    name: str, error: type[Exception], tries: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), serving(notice(name)) as server:
        with pytest.raises(error) as raised:
            provider_at(server).fetch(DAILY)
        assert len(server.asked) == tries
    assert type(raised.value) is error
    assert "\n" not in str(raised.value)
    assert KEY not in "".join(traceback.format_exception(raised.value)) + caplog.text


def test_what_the_plan_does_not_have_is_asked_for_once_and_the_rest_goes_on() -> None:
    def without_minutes(asked: Asked) -> Reply:
        return notice("premium endpoint") if asked.query["function"] == "TIME_SERIES_INTRADAY" else vendor(asked)

    with serving(without_minutes) as server:
        provider = provider_at(server)
        with pytest.raises(NotEntitledError, match="TIME_SERIES_INTRADAY AAPL 2024-03"):
            provider.fetch(MARCH)
        with pytest.raises(NotEntitledError, match="as it said when asked before"):
            provider.fetch(NOVEMBER)
        assert provider.fetch(DAILY).num_rows == 4
        assert len(server.asked) == 2


def test_every_notice_of_the_file_is_tested() -> None:
    marks = test_a_notice_is_no_data_but_one_sentence_of_its_kind_without_the_key.pytestmark  # type: ignore[attr-defined]
    assert {name for name, *_ in marks[0].args[1]} == set(NOTICES)


@pytest.mark.parametrize(
    ("now", "until"),
    [
        # Midnight in New York is 4:00 UTC in summer and 5:00 in winter.
        (datetime(2024, 7, 3, 12, 0, tzinfo=UTC), datetime(2024, 7, 4, 4, 0, tzinfo=UTC)),
        (datetime(2024, 7, 4, 3, 59, tzinfo=UTC), datetime(2024, 7, 4, 4, 0, tzinfo=UTC)),
        (datetime(2024, 12, 31, 5, 0, tzinfo=UTC), datetime(2025, 1, 1, 5, 0, tzinfo=UTC)),
        # The day on which the clocks go back.
        (datetime(2024, 11, 3, 4, 30, tzinfo=UTC), datetime(2024, 11, 4, 5, 0, tzinfo=UTC)),
    ],
)
def test_an_exhausted_day_ends_at_midnight_in_new_york(now: datetime, until: datetime) -> None:
    with serving(notice("too many a day")) as server, pytest.raises(QuotaExhaustedError) as raised:
        provider_at(server, clock=lambda: now).fetch(DAILY)
    assert raised.value.until == until


def changed(old: str, new: str, name: str = "daily_full.json") -> Reply:
    text = content(name).decode()
    assert old in text
    return Reply(text.replace(old, new).encode())


@pytest.mark.parametrize(
    ("reply", "complaint"),
    [
        (changed('"AAPL"', '"MSFT"'), "asked for AAPL, got the rows of MSFT"),
        (
            changed("Time Series (Daily)", "Weekly Time Series"),
            "expected 'Time Series (Daily)' in the answer, found Meta Data, Weekly Time Series",
        ),
        (changed("Full size", "Compact"), "expected the full series, found a compact one"),
        (changed('"Meta Data"', '"Data"'), "got the rows of None"),
        (Reply(b"{}"), "expected 'Time Series (Daily)' in the answer, found nothing"),
        (Reply(b'{"Time Series (Daily)": []}'), "expected 'Time Series (Daily)' in the answer"),
        (Reply(b"<html>Bad gateway</html>"), "expected a JSON object with 'Time Series (Daily)'"),
        (Reply(b""), "expected a JSON object"),
        (Reply(content("daily_full.json")[:-20]), "the answer is broken or cut short"),
        (Reply(content("daily_full.json"), cut_after=300), "IncompleteRead"),
    ],
)
def test_an_answer_that_is_not_the_rows_asked_for_is_asked_for_again(reply: Reply, complaint: str) -> None:
    with serving(reply, vendor) as server:
        assert provider_at(server).fetch(DAILY).num_rows == 4
    with serving(reply) as server:
        with pytest.raises(TransientProviderError, match=re.escape(complaint)):
            provider_at(server).fetch(DAILY)
        assert len(server.asked) == 3


def test_times_of_another_zone_are_refused() -> None:
    reply = changed("US/Eastern", "Europe/London", "intraday_2024-03.json")
    with (
        serving(reply) as server,
        pytest.raises(PermanentProviderError, match="expected times of US/Eastern, found Europe"),
    ):
        provider_at(server).fetch(MARCH)


# --- rows


def test_the_same_moment_twice_is_landed_twice() -> None:
    reply = changed("2024-11-01 15:59:00", "2024-11-04 09:30:00", "intraday_2024-11.json")
    with serving(reply) as server:
        payload = provider_at(server).fetch(NOVEMBER)
    assert payload["timestamp"].to_pylist() == ["2024-11-04 09:30:00"] * 2
    assert payload["4. close"].to_pylist() == ["221.2500", "222.9100"]


def test_rows_are_landed_as_they_were_sent(provider: AlphaVantage) -> None:
    assert provider.fetch(NOVEMBER).to_pylist()[1] == {
        "timestamp": "2024-11-01 15:59:00",
        "1. open": "222.9000",
        "2. high": "222.9900",
        "3. low": "222.8400",
        "4. close": "222.9100",
        "5. volume": "901456.5",
        "symbol": "AAPL",
    }


def minutes(*stamps: str) -> pd.DataFrame:
    entry = {"1. open": "1", "2. high": "2", "3. low": "0.5", "4. close": "1.5", "5. volume": "10"}
    series = rows.decoded(json.dumps(dict.fromkeys(stamps, entry)).encode())
    assert isinstance(series, rows.JsonObject)
    return rows.bars(Dataset.MINUTE_BARS, rows.bars_payload("AAPL", series))


def test_eastern_times_become_utc_on_both_sides_of_both_clock_changes() -> None:
    found = minutes("2024-03-08 09:30:00", "2024-03-11 09:30:00", "2024-11-01 09:30:00", "2024-11-04 09:30:00")
    # New York is five hours behind in winter and four in summer.
    assert found["timestamp"].dt.strftime("%Y-%m-%d %H:%M").tolist() == [
        "2024-03-08 14:30", "2024-03-11 13:30", "2024-11-01 13:30", "2024-11-04 14:30",
    ]  # fmt: skip


def test_a_time_that_no_clock_showed_or_that_all_showed_twice_is_missing_and_its_row_stays() -> None:
    found = minutes("2024-03-10 02:30:00", "2024-11-03 01:30:00", "2024-11-03 00:30:00")
    assert found["timestamp"].isna().tolist() == [True, True, False]
    assert found["date"].dt.strftime("%m-%d").tolist() == ["03-10", "11-03", "11-03"]
    assert found["close"].tolist() == [1.5] * 3


def test_an_entry_that_lacks_a_field_or_is_none_is_a_row_with_what_it_has() -> None:
    series = rows.decoded(b'{"2024-11-04": {"1. open": 7, "4. close": null}, "2024-11-01": "closed"}')
    assert isinstance(series, rows.JsonObject)
    found = rows.bars(Dataset.DAILY_BARS, rows.bars_payload("AAPL", series))
    assert found["date"].dt.date.tolist() == [date(2024, 11, 4), date(2024, 11, 1)]
    assert found["open"].iloc[0] == 7
    assert found[["high", "low", "close", "volume"]].isna().all(axis=None)


STAMPS = st.text(max_size=20) | st.datetimes().map(lambda moment: moment.isoformat(" ", "seconds"))


@settings(deadline=None, max_examples=60)
@example([("9999-12-31 23:59:00", "1")])
@given(st.lists(st.tuples(STAMPS, st.text(max_size=12) | st.none()), max_size=8))
def test_no_text_breaks_parsing_or_loses_a_row(entries: list[tuple[str, str | None]]) -> None:
    payload = pa.table(
        {
            "timestamp": [stamp for stamp, _ in entries],
            **{field: [value for _, value in entries] for field in rows.BAR_FIELDS},
            "symbol": ["AAPL"] * len(entries),
        },
        schema=rows.PAYLOAD,
    )
    for dataset in (Dataset.DAILY_BARS, Dataset.MINUTE_BARS):
        assert len(rows.bars(dataset, payload)) == len(entries)


# --- reference


def test_splits_are_old_and_new_shares(provider: AlphaVantage) -> None:
    splits = provider.splits(["AAPL", "NEWCO", "NOSUCH"])
    assert [tuple(row) for row in splits.itertuples(index=False)] == [
        ("AAPL", pd.Timestamp(2020, 8, 31), 1, 4),
        ("AAPL", pd.Timestamp(2014, 6, 9), 1, 7),
        ("AAPL", pd.Timestamp(2005, 2, 28), 1, 2),
    ]


@pytest.mark.parametrize(
    ("factor", "split_from", "split_to"),
    [
        ("2.0000", 1, 2), ("1.5000", 2, 3), ("0.3333", 3, 1), ("0.1000", 10, 1), ("0.0667", 15, 1),
        ("0.6667", 3, 2), ("1.0500", 20, 21), ("0.0010", 1000, 1), ("20", 1, 20),
        # No split's ratio: shares of another company given out.
        ("1.2810", 1, 1.281),
        # Too small to tell.
        ("0.0013", 1, 0.0013),
    ],
)  # fmt: skip
def test_a_rounded_split_factor_gives_the_ratio_that_was_announced(
    factor: str, split_from: float, split_to: float
) -> None:
    found = rows.splits({"A": [{"effective_date": "2024-01-02", "split_factor": factor}]}).iloc[0]
    assert (found["split_from"], found["split_to"]) == (split_from, split_to)


@pytest.mark.parametrize("factor", ["", "None", "four", None, "1/0", "nan", "inf"])
def test_a_split_factor_that_cannot_be_read_is_missing(factor: str | None) -> None:
    found = rows.splits({"A": [{"effective_date": "2024-01-02", "split_factor": factor}]})
    assert found[["split_from", "split_to"]].isna().all(axis=None)


def test_dividends_have_their_days_and_none_is_none(provider: AlphaVantage) -> None:
    known, old = provider.dividends(["AAPL"]).to_dict("records")
    assert known == {
        "symbol": "AAPL",
        "ex_dividend_date": pd.Timestamp(2020, 8, 7),
        "cash_amount": 0.82,
        "declaration_date": pd.Timestamp(2020, 7, 30),
        "record_date": pd.Timestamp(2020, 8, 10),
        "pay_date": pd.Timestamp(2020, 8, 13),
    }
    assert (old["ex_dividend_date"], old["cash_amount"]) == (pd.Timestamp(1995, 11, 21), 0.12)
    assert old["declaration_date"] is old["record_date"] is old["pay_date"] is pd.NaT


def test_an_action_that_lacks_a_field_does_not_shift_the_others() -> None:
    body = {
        "symbol": "AAPL",
        "data": [
            {"ex_dividend_date": "2020-08-07", "amount": "0.82"},
            {"amount": "0.1", "ex_dividend_date": "2020-05-08"},
        ],
    }
    with serving(Reply(json.dumps(body).encode())) as server:
        dividends = provider_at(server).dividends(["AAPL"])
    assert dividends["cash_amount"].tolist() == [0.82, 0.1]
    assert dividends["ex_dividend_date"].dt.strftime("%m-%d").tolist() == ["08-07", "05-08"]


def test_actions_of_everybody_are_refused(provider: AlphaVantage) -> None:
    with pytest.raises(PermanentProviderError, match="has splits by symbol only; name the symbols"):
        provider.splits()


def test_listings_know_the_living_and_the_dead_and_who_has_a_ticker_now(provider: AlphaVantage) -> None:
    symbols = provider.symbols().set_index("symbol")
    assert symbols.index.tolist() == ["AAPL", "IBM", "META", "NEWCO", "TWX"]
    assert symbols.loc["META", "name"] == "Meta Platforms Inc - Class A"
    assert symbols["active"].tolist() == [True, True, True, True, False]
    assert symbols.loc["TWX", "delisted_utc"] == pd.Timestamp("2018-06-15", tz="UTC")
    assert symbols.loc["TWX", "name"] == "Time Warner Inc"
    assert symbols.loc["IBM", "list_date"] == pd.Timestamp(1962, 1, 2)
    assert symbols.loc["NEWCO", ["name", "list_date", "delisted_utc"]].isna().all()
    assert symbols["exchange"].unique().tolist() == ["XNYS"]


def test_the_dead_are_asked_for_only_when_somebody_is_not_among_the_living() -> None:
    with serving(vendor) as server:
        provider_at(server).symbols(["AAPL", "IBM"])
        assert [asked.query["state"] for asked in server.asked] == ["active"]
        assert provider_at(server).symbols(["AAPL", "TWX"])["symbol"].tolist() == ["AAPL", "TWX"]


def test_a_universe_is_asked_for_by_day_and_there_is_none_before_2010() -> None:
    with serving(vendor) as server:
        provider_at(server).universe(date(2014, 7, 10))
        assert server.asked[0].query["date"] == "2014-07-10"
        with pytest.raises(
            PermanentProviderError, match="on or after 2010-01-02, the first with a list of symbols, found 2010-01-01"
        ):
            provider_at(server).universe(date(2010, 1, 1))
        assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (content("listing_active.csv")[:-20], "is cut short, its last line is"),
        (b"{}", "expected a list of symbols with the header symbol,name"),
        (b"<html>", "expected a list of symbols with the header symbol,name"),
        (b"", "expected a list of symbols with the header symbol,name"),
    ],
)
def test_a_list_of_symbols_that_is_none_or_cut_short_is_asked_for_again(body: bytes, complaint: str) -> None:
    with serving(Reply(body)) as server:
        with pytest.raises(TransientProviderError, match=complaint):
            provider_at(server).universe(date(2024, 1, 2))
        assert len(server.asked) == 3


def test_a_listing_without_the_last_line_end_is_whole() -> None:
    with serving(Reply(content("listing_active.csv").rstrip())) as server:
        assert len(provider_at(server).universe(date(2024, 1, 2))) == 4


# --- the plan


def test_the_free_plan_reaches_back_a_hundred_sessions_the_open_one_included(provider: AlphaVantage) -> None:
    with serving(vendor) as server:
        (route,) = provider_at(server, premium=False).routes(Dataset.DAILY_BARS)
    # 2024-11-05 is the last session that has opened. By hand: 2 sessions in November from the 1st to the 4th and the
    # 5th itself are 3, October 23, September 20, August 22, July 22 make 90, so ten of June: from the 14th on
    # (the 19th was a holiday).
    assert route.history_start == date(2024, 6, 14)
    assert route.days_per_call is None
    (full,) = provider.routes(Dataset.DAILY_BARS)
    assert full.history_start == date(1999, 11, 1)


def test_routes_know_the_budget_and_minutes_come_by_month(provider: AlphaVantage) -> None:
    (route,) = provider.routes(Dataset.MINUTE_BARS)
    assert (route.name, route.days_per_call, route.whole_market) == (BY_SYMBOL, 31, False)
    assert route.budget == Budget(per_minute=5, per_day=25, zone="America/New_York")


def test_the_horizon_is_the_last_closed_session_and_three_are_not_settled(provider: AlphaVantage) -> None:
    assert provider.horizon() == date(2024, 11, 5)
    assert provider.settled_until(NOW) == date(2024, 10, 31)


def test_a_session_counts_when_trading_after_hours_is_over_and_its_bars_are_published() -> None:
    # Closed at 21:00 UTC, after hours until 1:00.
    published = datetime(2024, 11, 6, 1, 30, tzinfo=UTC)
    with serving(vendor) as server:
        assert provider_at(server, clock=lambda: published).horizon() == date(2024, 11, 5)
        assert provider_at(server, clock=lambda: published - timedelta(minutes=1)).horizon() == date(2024, 11, 4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"premium": False}, "free plan: daily bars since 2024-06-14, 5 calls a minute and 25 calls a day"),
        ({"budget": Budget(per_minute=75)}, "premium plan: daily bars since 1999-11-01, 75 calls a minute"),
        ({"budget": Budget()}, "premium plan: daily bars since 1999-11-01, any number of calls"),
    ],
)
def test_the_check_says_what_the_plan_allows(options: dict[str, Any], said: str) -> None:
    with serving(vendor) as server:
        assert provider_at(server, **options).check() == f"Alpha Vantage answers; {said}"
        assert len(server.asked) == 1


def test_the_check_of_a_wrong_key_is_one_sentence() -> None:
    with serving(vendor) as server, pytest.raises(BadKeyError, match="expected a valid key, found one that is refused"):
        AlphaVantage("WRONG0KEY0", base_url=f"{server.url}/query", patience=HASTE).check()
