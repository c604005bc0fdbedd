"""Asking Polygon: the only module that imports the vendor's REST client, so that its successor `massive` is a change here.

The client builds the URLs; what connects, retries and checks is ours (`http.py`, `polygon_answers.py`), because its own
retries spend the quota, its read timeout is ignored, and a broken page ends its iteration silently.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any, cast
from urllib.parse import quote, urlsplit

import polygon  # type: ignore[import-untyped]
from pydantic import SecretStr

from tickstock_assets.domain.errors import NotEntitledError, TransientProviderError, UnknownSymbolError
from tickstock_assets.domain.windows import Window
from tickstock_assets.providers import polygon_reference
from tickstock_assets.providers.http import Answer, Transport

Record = dict[str, Any]
# One page of results; every page was judged by the transport before it comes out of here.
Pages = Iterator[list[Record]]

# The most that the vendor gives.
ROWS_A_PAGE = 50_000
TICKERS_A_PAGE = 1_000
ACTIONS_A_PAGE = 5_000
# Keeps the URL of a question about many tickers well below what servers accept.
TICKERS_A_QUESTION = 100
# Above this many symbols the list of the whole market is fewer calls than a look-up of each.
PAGES_OF_THE_MARKET = 12


class _RawClient(polygon.RESTClient):  # type: ignore[misc]
    """The vendor's client over our transport; its methods are called raw, so that it hands our `Answer` through."""

    def __init__(self, key: str, base_url: str, transport: Transport) -> None:
        super().__init__(api_key=key, base=base_url, retries=0, trace=False)
        self.client = transport

    def list_actions(self, kind: str, params: Mapping[str, Any]) -> Any:
        """Return the first page of splits or dividends; the client knows only their deprecated addresses."""
        return self._get(f"/stocks/v1/{kind}", params=dict(params), raw=True)

    def next_page(self, url: str) -> Any:
        """Return the page at a `next_url`; only path and query are followed, so the key stays with our host."""
        parts = urlsplit(url)
        return self._get(f"{parts.path}?{parts.query}", raw=True)


class PolygonClient:
    """Questions to the vendor, and its answers as decoded JSON."""

    def __init__(self, key: SecretStr | str, base_url: str, transport: Transport) -> None:
        plain = key.get_secret_value() if isinstance(key, SecretStr) else key
        self._client = _RawClient(plain, base_url, transport)

    def bars(self, window: Window, timespan: str) -> Pages:
        """Yield the pages of a window's unadjusted bars, oldest first; `timespan` is day or minute."""
        return self._pages(
            self._client.list_aggs(
                quote(window.symbol, safe=""),
                1,
                timespan,
                window.start,
                window.end,
                adjusted=False,
                sort="asc",
                limit=ROWS_A_PAGE,
                raw=True,
            )
        )

    def grouped_daily(self, day: date) -> Pages:
        """Yield the unadjusted bars of every ticker on a day."""
        return self._pages(self._client.get_grouped_daily_aggs(day, adjusted=False, raw=True))

    def trades(self, ticker: str, begin_ns: int, end_ns: int) -> Pages:
        """Yield the pages of a ticker's trades, oldest first.

        Args:
            ticker: whose.
            begin_ns: Unix time in nanoseconds, included.
            end_ns: likewise, excluded.
        """
        return self._pages(
            self._client.list_trades(
                quote(ticker, safe=""),
                timestamp_gte=begin_ns,
                timestamp_lt=end_ns,
                sort="timestamp",
                order="asc",
                limit=ROWS_A_PAGE,
                raw=True,
            )
        )

    def listed(self, ticker: str | None = None, *, on: date | None = None, active: bool = True) -> list[Record]:
        """Return the stocks of the vendor's list: one or all, today or on a day, still traded or not."""
        first = self._client.list_tickers(
            ticker=ticker,
            market="stocks",
            date=None if on is None else on.isoformat(),
            active=active,
            limit=TICKERS_A_PAGE,
            raw=True,
        )
        return [record for page in self._pages(first) for record in page]

    def records(self, tickers: Sequence[str]) -> list[Record]:
        """Return all that is known of tickers, delisted ones too, with `ticker_since`; unknown ones are left out."""
        names = sorted(set(tickers))
        listed: dict[str, Record] | None = None
        if len(names) > PAGES_OF_THE_MARKET:
            listed = {str(record.get("ticker")): record for record in self.listed()}
        records = (self._record(name, listed) for name in names)
        return [record for record in records if record]

    def actions(self, kind: str, day_column: str, tickers: Sequence[str] | None) -> list[Record]:
        """Return splits or dividends.

        Args:
            kind: splits or dividends.
            day_column: the date that they are sorted by.
            tickers: whose; None for all.
        """
        params = {"limit": ACTIONS_A_PAGE, "sort": f"{day_column}.asc"}
        if tickers is None:
            return [row for page in self._pages(self._client.list_actions(kind, params)) for row in page]
        names = sorted(set(tickers))
        rows: list[Record] = []
        for at in range(0, len(names), TICKERS_A_QUESTION):
            some = names[at : at + TICKERS_A_QUESTION]
            which = {"ticker": some[0]} if len(some) == 1 else {"ticker.any_of": ",".join(some)}
            for page in self._pages(self._client.list_actions(kind, params | which)):
                rows += [row for row in page if row.get("ticker") in some]
        return rows

    def holidays(self) -> list[Record]:
        """Return the coming market holidays."""
        return cast(list[Record], cast(Answer, self._client.get_market_holidays(raw=True)).body)

    def _pages(self, first: Any) -> Pages:
        answer = cast(Answer, first)
        seen: set[str] = set()
        yield answer.body.get("results") or []
        while next_url := answer.body.get("next_url"):
            if next_url in seen:
                raise TransientProviderError(f"polygon: {answer.url}: expected a further page, found one already read")
            seen.add(next_url)
            answer = cast(Answer, self._client.next_page(next_url))
            yield answer.body.get("results") or []

    def _record(self, ticker: str, listed: Mapping[str, Record] | None) -> Record | None:
        """Return all that is known of a ticker; `listed` is the whole market's list, None to look the ticker up in it."""
        try:
            answer = cast(Answer, self._client.get_ticker_details(quote(ticker, safe=""), raw=True))
        except UnknownSymbolError:
            record = _first_named(self.listed(ticker, active=False), ticker)
        else:
            # Details do not say when the record was last changed; the list does.
            in_list = listed.get(ticker) if listed is not None else _first_named(self.listed(ticker), ticker)
            record = (in_list or {}) | (answer.body.get("results") or {})
        return record | {"ticker_since": self._ticker_since(ticker, record)} if record else None

    def _ticker_since(self, ticker: str, record: Record) -> str | None:
        # A delisted ticker may be another company's by now, so events are asked for by the instrument's own code.
        known_as = ticker if record.get("active") is not False else record.get("composite_figi")
        if not known_as:
            return None
        try:
            answer = cast(Answer, self._client.get_ticker_events(quote(str(known_as), safe=""), raw=True))
        except (UnknownSymbolError, NotEntitledError):
            # Experimental at the vendor: many tickers have no events, and not every plan has them.
            return None
        events = (answer.body.get("results") or {}).get("events") or []
        return polygon_reference.ticker_since(events, ticker, record.get("list_date"))


def _first_named(records: Sequence[Record], ticker: str) -> Record | None:
    return next((record for record in records if record.get("ticker") == ticker), None)
