"""Polygon, now Massive: bars, trades and reference data of the US stock market, as a provider.

Elsewhere: asking through the vendor's client (`polygon_client.py`), judging answers (`polygon_answers.py`), reading what
was landed (`polygon_parsing.py`).
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow as pa
from pydantic import SecretStr

from tickstock_assets.domain.errors import NotEntitledError, PermanentProviderError
from tickstock_assets.domain.windows import ONE_DAY, WHOLE_MARKET, Window
from tickstock_assets.providers import polygon_parsing, polygon_payloads, polygon_reference
from tickstock_assets.providers.base import BY_SYMBOL, Dataset, Request, Route
from tickstock_assets.providers.flat_files import FlatFiles
from tickstock_assets.providers.http import Patience, Transport
from tickstock_assets.providers.live import LiveProvider
from tickstock_assets.providers.polygon_answers import judge
from tickstock_assets.providers.polygon_client import PolygonClient
from tickstock_assets.providers.quota import UNLIMITED, Budget, Quota

BASE_URL = "https://api.massive.com"
GROUPED_DAILY = "grouped_daily"
FLAT_FILES = "flat_files"
# The first day that the vendor's stock data reaches back to.
FIRST_DAY = date(2003, 9, 10)
EXCHANGE_ZONE = ZoneInfo(polygon_parsing.EXCHANGE_ZONE)
# Days from a session to the eve of the next: six in September 2001, the longest that the vendor's data has.
LONGEST_PAUSE = timedelta(days=6)


class Polygon(LiveProvider):
    """The vendor as a provider.

    Args:
        key: of the REST API.
        base_url: without a slash at the end.
        quota: counts every request against `budget`.
        budget: what the plan allows.
        history_years: how far back the plan reaches; None for all there is.
        flat_files: where the plan includes them.
        patience: timeouts and retries.
        clock: the time, UTC.
        sleep: waits between tries.
    """

    name = "polygon"

    def __init__(
        self,
        key: SecretStr | str,
        *,
        base_url: str = BASE_URL,
        quota: Quota | None = None,
        budget: Budget = UNLIMITED,
        history_years: float | None = None,
        flat_files: FlatFiles | None = None,
        patience: Patience | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        super().__init__(clock)
        self._base_url = base_url.rstrip("/")
        self._budget = budget
        self._history_years = history_years
        self._flat_files = flat_files
        options: dict[str, Any] = {} if sleep is None else {"sleep": sleep}
        transport = Transport(self.name, key, quota=quota, judge=judge, patience=patience, now=clock, **options)
        self._client = PolygonClient(key, self._base_url, transport)

    def __repr__(self) -> str:
        return f"Polygon({self._base_url})"

    def routes(self, dataset: Dataset) -> Sequence[Route]:
        """Return the ways in which it can deliver bars or trades."""
        start = self._history_start()
        by_symbol = functools.partial(Route, BY_SYMBOL, start, budget=self._budget)
        whole_market = functools.partial(Route, history_start=start, days_per_call=1, whole_market=True)
        file = [] if self._flat_files is None else [whole_market(FLAT_FILES, seconds_per_call=2)]
        match dataset:
            case Dataset.DAILY_BARS:
                return [by_symbol(), whole_market(GROUPED_DAILY, budget=self._budget, seconds_per_call=1), *file]
            case Dataset.MINUTE_BARS:
                return [by_symbol(days_per_call=31, seconds_per_call=0.6), *file]
            case Dataset.TRADES:
                return [by_symbol(days_per_call=1, seconds_per_call=5)]
            case _:
                return []

    def etags(self, dataset: Dataset, route: str, days: Sequence[date]) -> Mapping[date, str]:
        """Return the ETag of each day's flat file; nothing on other routes."""
        return {} if route != FLAT_FILES else self._files().etags(dataset, days)

    def fetch(self, request: Request) -> pa.Table:
        """Return the vendor's rows for a request, in its own columns, unadjusted.

        An answer without rows is a window without trading; an unknown ticker looks the same (ask `symbols`).

        Raises:
            TransientProviderError, QuotaExhaustedError, NotEntitledError, PermanentProviderError: see `Provider.fetch`.
        """
        try:
            return self._fetch(request)
        except NotEntitledError as error:
            raise NotEntitledError(f"{request.window} ({request.dataset}): {error}") from None

    def parse(self, dataset: Dataset, payload: pa.Table) -> pd.DataFrame:
        """Return a payload's rows, row for row; REST answers and flat files are told apart by their columns."""
        return polygon_parsing.parse(dataset, payload)

    def symbols(self, wanted: Sequence[str] | None = None) -> pd.DataFrame:
        """Return the tickers asked for, delisted ones too, or every active one; columns as `symbols_frame` says.

        For the whole market only what the list gives is filled: no list_date, market_cap or ticker_since.
        """
        records = self._client.listed() if wanted is None else self._client.records(wanted)
        return polygon_reference.symbols_frame(records)

    def universe(self, on: date) -> list[str]:
        """Return the tickers that were listed on a day, in order."""
        return sorted({str(record["ticker"]) for record in self._client.listed(on=on) if record.get("ticker")})

    def splits(self, wanted: Sequence[str] | None = None) -> pd.DataFrame:
        """Return symbol, execution_date, split_from, split_to; splits that are announced are among them."""
        return polygon_reference.splits_frame(self._client.actions("splits", "execution_date", wanted))

    def dividends(self, wanted: Sequence[str] | None = None) -> pd.DataFrame:
        """Return cash dividends with the columns of the table `dividends`; two kinds may fall on one day."""
        return polygon_reference.dividends_frame(self._client.actions("dividends", "ex_dividend_date", wanted))

    def holidays(self) -> pd.DataFrame:
        """Return the coming days on which a market is closed or closes early; columns as `holidays_frame` says."""
        return polygon_reference.holidays_frame(self._client.holidays())

    def check(self) -> str:
        """Ask for one old bar and return what the plan allows.

        Raises:
            BadKeyError, TransientProviderError, QuotaExhaustedError: the key is refused, the vendor does not answer.
        """
        # A free plan reaches two years back, so a bar of three years ago tells it from a paid one.
        day = self.horizon() - timedelta(days=3 * 365)
        allowed = (
            "any number of calls" if self._budget.per_minute is None else f"{self._budget.per_minute} calls a minute"
        )
        try:
            list(self._client.bars(Window("AAPL", day, day), "day"))
        except NotEntitledError:
            return f"polygon: the key is valid, the plan has no bars of {day}; set to {allowed}"
        return f"polygon: the key is valid, the plan has bars of {day} and later; set to {allowed}"

    def _fetch(self, request: Request) -> pa.Table:
        client, window = self._client, request.window
        match request.dataset, request.route:
            case (Dataset.DAILY_BARS, "by_symbol"):
                return _bars_of(window.symbol, client.bars(window, "day"))
            case (Dataset.MINUTE_BARS, "by_symbol"):
                return _bars_of(window.symbol, client.bars(window, "minute"))
            case (Dataset.TRADES, "by_symbol"):
                begin, end = _midnight_ns(window.start), _midnight_ns(window.end + ONE_DAY)
                pages = client.trades(window.symbol, begin, end)
                return polygon_payloads.joined([polygon_payloads.trades_table(rows, window.symbol) for rows in pages])
            case (Dataset.DAILY_BARS, "grouped_daily"):
                return _bars_of(None, client.grouped_daily(_only_session(window)))
            case (Dataset.DAILY_BARS | Dataset.MINUTE_BARS, "flat_files"):
                return self._files().fetch(request.dataset, _only_session(window))
        raise PermanentProviderError(f"polygon: {request.dataset} cannot be had by {request.route}; see its routes")

    def _files(self) -> FlatFiles:
        if self._flat_files is None:
            raise PermanentProviderError("polygon: expected flat files to be set up, found none; use another route")
        return self._flat_files

    def _history_start(self) -> date:
        if self._history_years is None:
            return FIRST_DAY
        today = self._clock().astimezone(EXCHANGE_ZONE).date()
        # A day less than the plan's years: its oldest day drops out while a load is under way.
        return max(FIRST_DAY, today - timedelta(days=int(self._history_years * 365.25)) + ONE_DAY)


def _bars_of(ticker: str | None, pages: Iterator[list[dict[str, Any]]]) -> pa.Table:
    return polygon_payloads.joined([polygon_payloads.bars_table(rows, ticker) for rows in pages])


def _only_session(window: Window) -> date:
    """Return the session that a window of the whole market begins with; the days without one after it belong to it."""
    if window.symbol != WHOLE_MARKET or window.end - window.start > LONGEST_PAUSE:
        raise PermanentProviderError(
            f"polygon: expected one session of the whole market ({WHOLE_MARKET}), found {window}"
        )
    return window.start


def _midnight_ns(day: date) -> int:
    """Return midnight in New York as Unix time in nanoseconds."""
    return int(datetime.combine(day, time(), EXCHANGE_ZONE).timestamp()) * 1_000_000_000
