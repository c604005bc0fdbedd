"""The tests that every provider passes, inherited.

A provider's test file hangs on it with a class and one fixture:

    class TestTheContract(ProviderContract):
        @pytest.fixture
        def case(self) -> Iterator[Case]:
            with serving(vendor) as server:
                yield Case(MyProvider(KEY, base_url=server.url), requests=[...], empty=[...], closes={...}, key=KEY)

The provider in it is real: it talks HTTP to a server on loopback, or reads files. What `Case` expects is written by hand.
"""

import io
import logging
import re
import socket
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tickstock_assets.domain.errors import PermanentProviderError, UnknownSymbolError
from tickstock_assets.domain.windows import WHOLE_MARKET, Window
from tickstock_assets.providers.base import (
    BAR_COLUMNS,
    MINUTE_COLUMNS,
    Dataset,
    Provider,
    Request,
    Route,
)

BARS = (Dataset.DAILY_BARS, Dataset.MINUTE_BARS)
SYMBOL_DTYPES = {"symbol": "str", "exchange": "str", "list_date": "datetime64[us]"}
SPLIT_DTYPES = {"symbol": "str", "execution_date": "datetime64[us]", "split_from": "float64", "split_to": "float64"}
DIVIDEND_DTYPES = {"symbol": "str", "ex_dividend_date": "datetime64[us]", "cash_amount": "float64"}
UNREADABLE = "?"


@dataclass(frozen=True)
class Case:
    """A provider and what is known of it.

    Attributes:
        provider: under test.
        requests: one with rows for each route of bars that it has, at least.
        closes: of the first request's symbol, the close of some days or, of minutes, of some moments (UTC), as traded:
            best on both sides of a split. For every dataset of bars that it has.
        empty: requests of known symbols that have no rows, one for each dataset of bars that has such.
        unknown: a symbol that it does not have.
        tells_unknown: whether asking for bars of that is refused, or answered with no rows.
        listed: a day and what `universe` says of it; None when it has no lists by day.
        key: what must never be shown.
        now: the provider's clock.
    """

    provider: Provider
    requests: Sequence[Request]
    closes: Mapping[Dataset, Mapping[date | datetime, float]]
    empty: Sequence[Request] = ()
    unknown: str = "NOSUCH"
    tells_unknown: bool = True
    listed: tuple[date, Sequence[str]] | None = None
    key: str | None = None
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def symbols(self) -> list[str]:
        return sorted({request.window.symbol for request in self.requests} - {WHOLE_MARKET})

    def first(self, dataset: Dataset) -> Request:
        return next(request for request in self.requests if request.dataset is dataset)

    def route(self, request: Request) -> Route:
        return next(route for route in self.provider.routes(request.dataset) if route.name == request.route)


class ProviderContract:
    """What holds for every provider; inherit it, see above."""

    @pytest.fixture
    def case(self) -> Case:
        raise NotImplementedError("a provider's tests say what they know of it")

    # --- what it says of itself

    def test_it_has_a_name_that_files_and_tables_can_have(self, case: Case) -> None:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", case.provider.name)

    def test_its_routes_can_be_told_apart_and_make_sense(self, case: Case) -> None:
        for dataset in Dataset:
            routes = case.provider.routes(dataset)
            assert len({route.name for route in routes}) == len(routes)
            for route in routes:
                assert route.history_start <= case.provider.horizon()
                assert route.days_per_call is None or route.days_per_call > 0
                assert route.seconds_per_call > 0

    def test_every_route_of_bars_that_it_offers_is_tested_and_no_other(self, case: Case) -> None:
        offered = {(dataset, route.name) for dataset in BARS for route in case.provider.routes(dataset)}
        assert {(request.dataset, request.route) for request in case.requests if request.dataset in BARS} == offered
        assert set(case.closes) == {dataset for dataset, _ in offered}

    def test_a_dataset_without_a_route_is_refused(self, case: Case) -> None:
        for dataset in Dataset:
            if not case.provider.routes(dataset):
                with pytest.raises(PermanentProviderError):
                    case.provider.fetch(Request(dataset, case.requests[0].window))

    def test_a_route_of_the_whole_market_is_asked_for_the_whole_market(self, case: Case) -> None:
        for request in case.requests:
            assert (request.window.symbol == WHOLE_MARKET) == case.route(request).whole_market

    def test_its_horizon_is_not_in_the_future_and_nothing_after_it_is_settled(self, case: Case) -> None:
        horizon = case.provider.horizon()
        assert horizon <= case.now.date()
        assert case.provider.settled_until(case.now) <= horizon

    def test_what_was_settled_a_month_ago_is_settled_now(self, case: Case) -> None:
        a_month_ago = case.now - timedelta(days=30)
        assert case.provider.settled_until(a_month_ago) <= case.provider.settled_until(case.now)

    def test_its_version_stays_while_nothing_changes(self, case: Case) -> None:
        for dataset in BARS:
            version = case.provider.version(dataset)
            assert version
            assert case.provider.version(dataset) == version

    def test_only_files_of_days_have_etags(self, case: Case) -> None:
        for request in case.requests:
            days = [request.window.start, request.window.end]
            etags = case.provider.etags(request.dataset, request.route, days)
            assert etags.keys() <= set(days)
            assert all(etags.values())
            assert case.route(request).whole_market or not etags

    def test_its_check_is_one_line(self, case: Case) -> None:
        assert re.fullmatch(r"[^\n]+", case.provider.check())

    # --- bars

    def test_bars_have_the_projects_columns_and_types_and_a_row_for_each_of_the_vendors(self, case: Case) -> None:
        for request in bar_requests(case):
            payload = case.provider.fetch(request)
            bars = case.provider.parse(request.dataset, payload)
            assert dtypes(bars) == expected_dtypes(request.dataset)
            assert len(bars) == payload.num_rows > 0

    def test_bars_of_the_window_are_among_them_and_are_of_the_symbol(self, case: Case) -> None:
        for request in bar_requests(case):
            window, bars = request.window, fetched(case.provider, request)
            inside = bars["date"].between(pd.Timestamp(window.start), pd.Timestamp(window.end))
            assert inside.any()
            assert window.symbol == WHOLE_MARKET or set(bars["symbol"]) == {window.symbol}

    def test_prices_are_as_traded(self, case: Case) -> None:
        for dataset, closes in case.closes.items():
            request = case.first(dataset)
            bars = fetched(case.provider, request)
            time = "timestamp" if dataset is Dataset.MINUTE_BARS else "date"
            of_symbol = bars[bars["symbol"] == request.window.symbol].set_index(time)["close"]
            assert closes
            assert {moment: of_symbol[pd.Timestamp(moment)] for moment in closes} == closes

    def test_a_minute_belongs_to_the_day_in_new_york_that_it_begins_on(self, case: Case) -> None:
        for request in bar_requests(case):
            if request.dataset is Dataset.MINUTE_BARS:
                bars = fetched(case.provider, request)
                local = bars["timestamp"].dt.tz_convert("America/New_York")
                assert bars["date"].dt.date.tolist() == local.dt.date.tolist()

    def test_a_window_without_rows_gives_none_in_the_same_columns(self, case: Case) -> None:
        for request in case.empty:
            payload = case.provider.fetch(request)
            assert payload.num_rows == 0
            assert payload.schema.names == case.provider.fetch(case.first(request.dataset)).schema.names
            bars = case.provider.parse(request.dataset, payload)
            assert bars.empty
            assert dtypes(bars) == expected_dtypes(request.dataset)

    def test_an_unknown_symbol_is_named(self, case: Case) -> None:
        for request in bar_requests(case):
            if request.window.symbol == WHOLE_MARKET:
                continue
            unknown = Window(case.unknown, request.window.start, request.window.end)
            asked = Request(request.dataset, unknown, request.route)
            if case.tells_unknown:
                with pytest.raises(UnknownSymbolError, match=case.unknown) as error:
                    case.provider.fetch(asked)
                assert "\n" not in str(error.value)
            else:
                assert case.provider.fetch(asked).num_rows == 0

    # --- parsing

    def test_parsing_needs_no_network_and_gives_the_same_twice(
        self, case: Case, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        payloads = [(request, case.provider.fetch(request)) for request in case.requests]

        def refuse(*_: object) -> None:
            raise AssertionError("parsing asked the network")

        monkeypatch.setattr(socket.socket, "connect", refuse)
        for request, payload in payloads:
            before = as_parquet(payload)
            first = case.provider.parse(request.dataset, payload)
            pd.testing.assert_frame_equal(case.provider.parse(request.dataset, payload), first)
            assert as_parquet(payload) == before

    def test_a_payload_that_was_landed_parses_as_the_one_that_was_fetched(self, case: Case) -> None:
        for request in [*case.requests, *case.empty]:
            payload = case.provider.fetch(request)
            landed = pq.read_table(io.BytesIO(as_parquet(payload)))
            assert landed.schema.equals(payload.schema)
            pd.testing.assert_frame_equal(
                case.provider.parse(request.dataset, landed), case.provider.parse(request.dataset, payload)
            )

    def test_payloads_one_after_another_parse_as_each_by_itself(self, case: Case) -> None:
        for request in bar_requests(case):
            payload = case.provider.fetch(request)
            half = payload.num_rows // 2
            for other in (payload, payload.slice(half), unreadable(payload)):
                both = case.provider.parse(request.dataset, pa.concat_tables([payload, other]))
                parts = [case.provider.parse(request.dataset, part) for part in (payload, other)]
                pd.testing.assert_frame_equal(both, pd.concat(parts, ignore_index=True))

    def test_what_cannot_be_read_is_missing_and_its_row_stays(self, case: Case) -> None:
        for request in bar_requests(case):
            payload = case.provider.fetch(request)
            bars = case.provider.parse(request.dataset, unreadable(payload))
            assert len(bars) == payload.num_rows
            assert dtypes(bars) == expected_dtypes(request.dataset)
            assert bars.drop(columns="symbol").isna().all(axis=None)

    # --- reference

    def test_symbols_have_their_columns_and_unknown_ones_are_left_out(self, case: Case) -> None:
        symbols = case.provider.symbols([*case.symbols, case.unknown])
        assert dtypes(symbols).items() >= SYMBOL_DTYPES.items()
        assert sorted(symbols["symbol"]) == case.symbols
        assert symbols["exchange"].notna().all()

    def test_symbols_of_a_day_are_listed_in_order_or_refused(self, case: Case) -> None:
        if case.listed:
            day, listed = case.listed
            assert case.provider.universe(day) == sorted(listed)
        else:
            with pytest.raises(PermanentProviderError, match="no lists of symbols"):
                case.provider.universe(case.now.date())

    def test_splits_have_their_columns_and_are_of_the_symbols_asked_for(self, case: Case) -> None:
        splits = case.provider.splits(case.symbols)
        assert dtypes(splits).items() >= SPLIT_DTYPES.items()
        assert set(splits["symbol"]) <= set(case.symbols)
        assert case.provider.splits([case.unknown]).empty

    def test_dividends_have_their_columns_and_are_of_the_symbols_asked_for(self, case: Case) -> None:
        dividends = case.provider.dividends(case.symbols)
        assert dtypes(dividends).items() >= DIVIDEND_DTYPES.items()
        assert set(dividends["symbol"]) <= set(case.symbols)
        assert case.provider.dividends([case.unknown]).empty

    # --- the key

    def test_its_key_is_never_shown(self, case: Case, caplog: pytest.LogCaptureFixture) -> None:
        shown = [repr(case.provider), str(case.provider), repr(vars(case.provider))]
        with caplog.at_level(logging.DEBUG):
            request = case.requests[0]
            payload = case.provider.fetch(request)
            shown += [str(payload.to_pydict()), str(payload.schema.metadata), case.provider.check()]
            try:
                case.provider.fetch(
                    Request(request.dataset, Window(case.unknown, request.window.start, case.now.date()))
                )
            except PermanentProviderError as error:
                shown += traceback.format_exception(error)
        shown.append(caplog.text)
        assert case.key is None or case.key not in "".join(shown)


def bar_requests(case: Case) -> list[Request]:
    return [request for request in case.requests if request.dataset in BARS]


def fetched(provider: Provider, request: Request) -> pd.DataFrame:
    return provider.parse(request.dataset, provider.fetch(request))


def dtypes(frame: pd.DataFrame) -> dict[str, str]:
    return {str(name): str(dtype) for name, dtype in frame.dtypes.items()}


def expected_dtypes(dataset: Dataset) -> dict[str, str]:
    return BAR_COLUMNS | (MINUTE_COLUMNS if dataset is Dataset.MINUTE_BARS else {})


def as_parquet(payload: pa.Table) -> bytes:
    buffer = pa.BufferOutputStream()
    pq.write_table(payload, buffer, compression="zstd")
    content: bytes = buffer.getvalue().to_pybytes()
    return content


def unreadable(payload: pa.Table) -> pa.Table:
    """Return a payload of the same columns and rows in which no text means anything and no number is there."""
    columns = [
        pa.array([UNREADABLE if pa.types.is_string(column.type) else None] * payload.num_rows, column.type)
        for column in payload.columns
    ]
    return pa.table(columns, schema=payload.schema)
