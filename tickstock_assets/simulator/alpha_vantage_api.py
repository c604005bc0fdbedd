"""Alpha Vantage: one address whose answers, also its errors, are HTTP 200.

Elsewhere: the series (alpha_vantage_series.py).

Source: the vendor's documentation, and messages that its users have published.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import date

import pandas as pd
from starlette.requests import Request

from tickstock_assets.simulator.alpha_vantage_series import (
    daily_adjusted_payload,
    daily_payload,
    intraday_payload,
    number,
)
from tickstock_assets.simulator.asks import Answer, Ask, Endpoint, Reason, Refused, Vendor, json_answer
from tickstock_assets.simulator.bar_service import BarService, Parts, part_of, rows_of
from tickstock_assets.simulator.bars import Row
from tickstock_assets.simulator.companies import Company
from tickstock_assets.simulator.plans import Plan

THANKS = "Thank you for using Alpha Vantage!"
PREMIUM = "https://www.alphavantage.co/premium/"
COMPACT = 100
LISTING_HEADER = "symbol,name,exchange,assetType,ipoDate,delistingDate,status"
EXCHANGES = {"XNAS": "NASDAQ", "XNYS": "NYSE", "ARCX": "NYSE ARCA"}
BEGIN = date(1999, 11, 1)
FAR = date(2100, 1, 1)


def key_of(request: Request) -> str | None:
    """Return the key of a request."""
    return request.query_params.get("apikey")


def said(kind: str, message: str) -> Answer:
    """Return a message under one of the keys Note, Information and Error Message."""
    return json_answer({kind: message})


def refusal(reason: Reason, key: str | None) -> Answer:
    """Return what is said instead of an answer; the vendor repeats the key in it."""
    match reason:
        case Reason.UNKNOWN_KEY:
            return said(
                "Error Message",
                "the parameter apikey is invalid or missing. Please claim your free API key on "
                "(https://www.alphavantage.co/support/#api-key). It should take less than 20 seconds.",
            )
        case Reason.DAY_BUDGET:
            return said(
                "Information",
                f"We have detected your API key as {key} and our standard API rate limit is 25 requests per day. Please "
                f"subscribe to any of the premium plans at {PREMIUM} to instantly remove all daily rate limits.",
            )
        case Reason.MINUTE_BUDGET:
            return said(
                "Note",
                f"{THANKS} Our standard API call frequency is 5 calls per minute and 500 calls per day. Please visit "
                f"{PREMIUM} if you would like to target a higher API call frequency.",
            )
        case Reason.ERROR_IN_200:
            return said(
                "Information",
                f"{THANKS} Please consider spreading out your free API requests more sparingly (1 request per second). "
                f"You may subscribe to any of the premium plans at {PREMIUM} to lift the free key rate limit "
                "(25 requests per day), raise the per-second burst limit, and instantly unlock all premium endpoints",
            )
        case Reason.TOO_MANY_REQUESTS:
            return Answer(429, b"Too Many Requests", "text/plain")
        case Reason.SERVER_ERROR:
            return Answer(503, b"<html><body><h1>503 Service Unavailable</h1></body></html>", "text/html")


def premium_endpoint() -> Refused:
    """Return the refusal of a function that the plan does not include."""
    return Refused(
        said(
            "Information",
            f"{THANKS} This is a premium endpoint. You may subscribe to any of the premium plans at {PREMIUM} to "
            "instantly unlock all premium endpoints",
        )
    )


def premium_output(function: str) -> Refused:
    """Return the refusal of the full history."""
    return Refused(
        said(
            "Information",
            f"{THANKS} The outputsize=full parameter value is a premium feature for the {function} endpoint. You may "
            f"subscribe to any of the premium plans at {PREMIUM} to instantly unlock all premium features",
        )
    )


def invalid(function: str) -> Refused:
    """Return what is said of an unknown symbol, a wrong parameter or an unknown function."""
    return Refused(
        said(
            "Error Message",
            "Invalid API call. Please retry or visit the documentation (https://www.alphavantage.co/documentation/) "
            f"for {function}.",
        )
    )


class AlphaVantage:
    """Answers the functions that the project uses."""

    def __init__(self, service: BarService, plan: Plan) -> None:
        self.service, self.market, self.plan = service, service.market, plan
        self._functions: dict[str, Callable[[Ask], Answer]] = {
            "TIME_SERIES_DAILY": self.daily,
            "TIME_SERIES_DAILY_ADJUSTED": self.daily,
            "TIME_SERIES_INTRADAY": self.intraday,
            "SPLITS": self.splits,
            "DIVIDENDS": self.dividends,
            "LISTING_STATUS": self.listing_status,
        }

    def endpoints(self) -> list[Endpoint]:
        """Return the address served."""
        return [Endpoint("/query", self.ask, lambda ask: self._functions[ask.route](ask))]

    def ask(self, request: Request) -> Ask:
        """Read what is asked."""
        parameters = {name: value for name, value in request.query_params.items() if name != "apikey"}
        function = parameters.get("function", "")
        ask = Ask(Vendor.ALPHA_VANTAGE, function, symbol=parameters.get("symbol", ""), parameters=parameters)
        if function not in self._functions:
            raise Refused(said("Error Message", f"This API function ({function}) does not exist."))
        if function == "LISTING_STATUS":
            return ask
        if ask.symbol not in self.market.companies:
            raise invalid(function)
        if function == "TIME_SERIES_INTRADAY":
            return self._intraday_ask(ask)
        return replace(ask, first=BEGIN, last=FAR, timeframe="1d") if function.startswith("TIME_SERIES") else ask

    def daily(self, ask: Ask) -> Answer:
        """Answer daily bars as traded: the last hundred, or all of them."""
        full = ask.parameters.get("outputsize", "compact") == "full"
        if ask.route == "TIME_SERIES_DAILY_ADJUSTED" and not self.plan.premium:
            raise premium_endpoint()
        if full and not self.plan.premium:
            raise premium_output(ask.route)
        parts = self.market.window(ask.symbol, "1d", BEGIN, FAR)
        if not full:
            parts = [(bars, max(first, after - COMPACT), after) for bars, first, after in parts]
        rows = self._rows(ask, parts)
        if ask.route == "TIME_SERIES_DAILY":
            return json_answer(daily_payload(rows, full=full))
        return json_answer(
            daily_adjusted_payload(rows, self._company(ask), self.market.daily_series(ask.symbol), full=full)
        )

    def intraday(self, ask: Ask) -> Answer:
        """Answer the minute bars of a month, or the last ones; adjusted and with extended hours unless told not to."""
        if not self.plan.minutes:
            raise premium_endpoint()
        assert ask.first is not None  # noqa: S101 set by _intraday_ask
        assert ask.last is not None  # noqa: S101
        full = ask.parameters.get("outputsize", "compact") == "full"
        adjusted = ask.flag("adjusted", default=True)
        parts = self.market.window(ask.symbol, "1m", ask.first, ask.last, adjusted=adjusted)
        if not ask.flag("extended_hours", default=True):
            parts = self.market.regular_hours(parts)
        if not full:
            parts = _last(parts, COMPACT)
        return json_answer(intraday_payload(self._rows(ask, parts), full=full))

    def splits(self, ask: Ask) -> Answer:
        """Answer splits, newest first."""
        rows = [
            {"effective_date": str(split.execution_date), "split_factor": f"{split.split_to / split.split_from:.4f}"}
            for split in reversed(self._company(ask).splits)
        ]
        return json_answer({"symbol": ask.symbol, "data": rows})

    def dividends(self, ask: Ask) -> Answer:
        """Answer dividends, newest first; what is not known is the word None."""
        rows = [
            {
                "ex_dividend_date": str(dividend.ex_dividend_date),
                "declaration_date": "None",
                "record_date": "None",
                "payment_date": "None",
                "amount": number(dividend.cash_amount),
            }
            for dividend in reversed(self._company(ask).dividends)
        ]
        return json_answer({"symbol": ask.symbol, "data": rows})

    def listing_status(self, ask: Ask) -> Answer:
        """Answer all companies that are listed, or no longer, on a day, as CSV."""
        try:
            day = date.fromisoformat(ask.parameters.get("date", str(FAR)))
        except ValueError:
            raise invalid(ask.route) from None
        active = ask.parameters.get("state", "active") == "active"
        lines = [LISTING_HEADER]
        for ticker in self.market.tickers:
            company = self.market.companies[ticker]
            if company.listed_on(day) == active:
                name = company.name.replace(",", "")
                fields = (ticker, name, EXCHANGES[company.exchange], "Stock", company.list_date or BEGIN)
                ended = "null" if active else company.delisted
                lines.append(",".join(map(str, (*fields, ended, "Active" if active else "Delisted"))))
        return Answer(200, ("\r\n".join(lines) + "\r\n").encode(), "application/x-download")

    def _company(self, ask: Ask) -> Company:
        return self.market.company(ask.symbol)

    def _rows(self, ask: Ask, parts: Parts) -> list[Row]:
        rows = self.service.answered(ask, parts)
        return rows_of(parts) if rows is None else rows

    def _intraday_ask(self, ask: Ask) -> Ask:
        month = ask.parameters.get("month", "")
        if ask.parameters.get("interval") != "1min":
            raise invalid(ask.route)
        try:
            period = pd.Period(date.fromisoformat(f"{month}-01"), freq="M") if month else self._last_month(ask)
        except ValueError:
            raise invalid(ask.route) from None
        return replace(ask, first=period.start_time.date(), last=period.end_time.date(), timeframe="1m")

    def _last_month(self, ask: Ask) -> pd.Period:
        return self.market.daily_series(ask.symbol).days()[-1].to_period("M")


def _last(parts: Parts, count: int) -> Parts:
    """Return the last bars over all parts."""
    total = sum(after - first for _, first, after in parts)
    return part_of(parts, total - count, total)
