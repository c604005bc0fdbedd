"""Alpha Vantage: daily and minute bars, splits, dividends and lists of US stocks; the only module that imports its client.

The client makes the URLs. Its way of asking (no timeout, one try, the key in every exception) is replaced by ours.
"""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import pandas as pd
import pyarrow as pa
from alpha_vantage.fundamentaldata import FundamentalData
from alpha_vantage.timeseries import TimeSeries
from pydantic import SecretStr

from tickstock_assets.domain.errors import NotEntitledError, PermanentProviderError, UnknownSymbolError
from tickstock_assets.domain.sessions import DEFAULT_EXCHANGE, sessions_up_to
from tickstock_assets.providers import alpha_vantage_rows as rows
from tickstock_assets.providers.alpha_vantage_answers import LISTINGS, ROWS, judge
from tickstock_assets.providers.base import BY_SYMBOL, Dataset, Request, Route
from tickstock_assets.providers.http import Patience, Transport
from tickstock_assets.providers.live import LiveProvider
from tickstock_assets.providers.quota import Budget, Quota, Uncounted

BASE_URL = "https://www.alphavantage.co/query"
FREE_BUDGET = Budget(per_minute=5, per_day=25, zone="America/New_York")

FULL_HISTORY_START = date(1999, 11, 1)
MINUTE_HISTORY_START = date(2000, 1, 1)
LISTINGS_START = date(2010, 1, 2)
# What `outputsize=compact` answers, a session that is still open included.
COMPACT_SESSIONS = 100
LONGEST_MONTH = 31
# A large company that has been listed all along.
WELL_KNOWN = "IBM"
# Stands in the client's URLs instead of the key, which it never holds and so cannot tell.
NO_KEY = "-"


class AlphaVantage(LiveProvider):
    """US stocks at alphavantage.co; unadjusted.

    Args:
        key: of the account.
        base_url: where the API is.
        quota: each HTTP request is one call of it.
        budget: what the plan allows; `quota` keeps it.
        premium: whether the plan is a paid one. The free one has the last 100 sessions, and no minutes.
        patience: timeouts and retries.
        clock: the time, UTC.
        sleep: waits before a further try.
    """

    name = "alpha_vantage"

    def __init__(
        self,
        key: SecretStr | str,
        *,
        base_url: str = BASE_URL,
        quota: Quota | None = None,
        budget: Budget = FREE_BUDGET,
        premium: bool = False,
        patience: Patience | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(clock)
        self._key = key if isinstance(key, SecretStr) else SecretStr(key)
        self._base_url = base_url
        self._budget = budget
        self._premium = premium
        self._refused: set[str] = set()
        self._lists: dict[tuple[date, tuple[tuple[str, str], ...]], str] = {}
        self._transport = Transport(
            self.name,
            self._key,
            quota=quota or Uncounted(),
            judge=lambda answer: judge(answer, clock(), budget.zone),
            decode=rows.decoded,
            patience=patience,
            sleep=sleep,
            now=clock,
        )
        self._client = _Client(self._ask)

    def routes(self, dataset: Dataset) -> Sequence[Route]:
        """Return the one way there is: a call answers a symbol's whole series, or a month of its minutes."""
        if dataset is Dataset.DAILY_BARS:
            return [Route(BY_SYMBOL, self._daily_start(), budget=self._budget, seconds_per_call=1.0)]
        if dataset is Dataset.MINUTE_BARS:
            return [Route(BY_SYMBOL, MINUTE_HISTORY_START, LONGEST_MONTH, budget=self._budget, seconds_per_call=2.0)]
        return []

    def fetch(self, request: Request) -> pa.Table:
        """Return the vendor's rows: `timestamp` (US/Eastern), `1. open` to `5. volume` and `symbol`, all text.

        A call answers more than a window: the series that holds it comes whole.
        """
        window = request.window
        # The client puts what it is given into the URL as it stands.
        symbol = quote(window.symbol, safe="")
        if request.dataset is Dataset.DAILY_BARS:
            series, _ = self._client.get_daily(symbol, outputsize="full" if self._premium else "compact")
        elif request.dataset is Dataset.MINUTE_BARS:
            if (window.start.year, window.start.month) != (window.end.year, window.end.month):
                raise PermanentProviderError(f"{window}: expected minutes of one calendar month a call")
            series, _ = self._client.get_intraday(
                symbol,
                interval="1min",
                outputsize="full",
                month=f"{window.start:%Y-%m}",
                # Both default to true.
                extended_hours="false",
                adjusted="false",
            )
        else:
            raise PermanentProviderError(f"{self.name} has no {request.dataset}")
        return rows.bars_payload(window.symbol, series)

    def parse(self, dataset: Dataset, payload: pa.Table) -> pd.DataFrame:
        """Return a payload's bars, row for row; minutes in UTC, at their start."""
        return rows.bars(dataset, payload)

    def symbols(self, wanted: Sequence[str] | None = None) -> pd.DataFrame:
        """Return what is or was listed: symbol, name, exchange, type, active, list_date, delisted_utc."""
        listed = rows.listings(self._listings(state="active"))
        if wanted is None or not set(wanted) <= set(listed["symbol"]):
            # Of a ticker that is in use again, the company that has it now.
            gone = rows.listings(self._listings(state="delisted"))
            listed = pd.concat([listed, gone[~gone["symbol"].isin(listed["symbol"])]], ignore_index=True)
        if wanted is not None:
            listed = listed[listed["symbol"].isin(list(wanted))]
        return listed.sort_values("symbol").reset_index(drop=True)

    def universe(self, on: date) -> list[str]:
        """Return the symbols that were listed on a day, in order; there are lists since 2010."""
        if on < LISTINGS_START:
            raise PermanentProviderError(
                f"{self.name}: expected a day on or after {LISTINGS_START}, the first with a list of symbols, found {on}"
            )
        listed: list[str] = rows.listings(self._listings(state="active", date=on.isoformat()))["symbol"].tolist()
        return listed

    def splits(self, wanted: Sequence[str] | None = None) -> pd.DataFrame:
        """Return the splits of symbols; each is one call."""
        return rows.splits(self._actions("splits", self._client.get_splits, wanted))

    def dividends(self, wanted: Sequence[str] | None = None) -> pd.DataFrame:
        """Return the cash dividends of symbols, with declaration_date, record_date and pay_date; each is one call."""
        return rows.dividends(self._actions("dividends", self._client.get_dividends, wanted))

    def check(self) -> str:
        """Ask for one daily series, in the size that the plan is said to have."""
        self._client.get_daily(WELL_KNOWN, outputsize="full" if self._premium else "compact")
        plan = "premium" if self._premium else "free"
        limits = [
            f"{calls} calls a {span}"
            for calls, span in ((self._budget.per_minute, "minute"), (self._budget.per_day, "day"))
            if calls is not None
        ]
        return (
            f"Alpha Vantage answers; {plan} plan: daily bars since {self._daily_start()}, "
            f"{' and '.join(limits) or 'any number of calls'}"
        )

    def _daily_start(self) -> date:
        if self._premium:
            return FULL_HISTORY_START
        return sessions_up_to(DEFAULT_EXCHANGE, self._clock(), COMPACT_SESSIONS)[0]

    def _actions(
        self, what: str, ask: Callable[[str], tuple[Any, Any]], wanted: Sequence[str] | None
    ) -> dict[str, Sequence[dict[str, Any]]]:
        if wanted is None:
            raise PermanentProviderError(f"{self.name} has {what} by symbol only; name the symbols")
        found = {}
        for symbol in wanted:
            try:
                found[symbol], _ = ask(quote(symbol, safe=""))
            except UnknownSymbolError:
                # It has none of what it does not know; asking for its bars says so by name.
                continue
        return found

    def _listings(self, **fields: str) -> str:
        # The whole list comes with each call, and symbols are looked up a few at a time: a day's calls would go for it.
        day, asked = self._clock().date(), tuple(sorted(fields.items()))
        if (day, asked) not in self._lists:
            answer: str = self._ask({"function": LISTINGS} | fields)
            self._lists = {known: text for known, text in self._lists.items() if known[0] == day}
            self._lists[day, asked] = answer
        return self._lists[day, asked]

    def _ask(self, fields: dict[str, str]) -> Any:
        function, key = fields["function"], self._key.get_secret_value()
        if function in self._refused:
            raise NotEntitledError(
                f"{self.name}: {function} is not in the plan of this key, as it said when asked before"
            )
        try:
            return self._transport.get(self._base_url, fields | {"apikey": key}).body
        except NotEntitledError:
            # A plan has a function or has it not; a refusal for each symbol and month would use up the day's calls.
            self._refused.add(function)
            raise


class _Client(TimeSeries, FundamentalData):  # type: ignore[misc]
    """The vendor's client for functions and parameters; `ask` sends them."""

    def __init__(self, ask: Callable[[dict[str, str]], Any]) -> None:
        super().__init__(key=NO_KEY, output_format="json")
        self._ask = ask

    def _handle_api_call(self, url: str) -> dict[str, Any]:
        fields = dict(parse_qsl(urlsplit(url).query))
        body: dict[str, Any] = self._ask({name: value for name, value in fields.items() if name != "apikey"})
        name = ROWS[fields["function"]]
        # A list would be made a frame by position, which shifts the values of an entry that lacks a field.
        return body | {name: tuple(body[name])} if isinstance(body[name], list) else body
