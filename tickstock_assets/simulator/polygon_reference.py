"""Polygon's reference data: tickers on a day, details, ticker events, market status and holidays."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import exchange_calendars
import pandas as pd
from starlette.requests import Request

from tickstock_assets.domain.sessions import DEFAULT_EXCHANGE
from tickstock_assets.simulator.asks import Answer, Ask, Endpoint, json_answer
from tickstock_assets.simulator.bars import NEW_YORK
from tickstock_assets.simulator.calendar import sessions_between
from tickstock_assets.simulator.companies import Company
from tickstock_assets.simulator.market import Market
from tickstock_assets.simulator.polygon_api import (
    day_of,
    limit_of,
    listing,
    not_found,
    paged,
    request_id,
    selected,
)

DEFAULT_TICKERS, MOST_TICKERS = 100, 1_000
DAYS_OF_HOLIDAYS = 365
UPDATED = "2026-01-02T00:00:00Z"
SATURDAY = 5


class PolygonReference:
    """Answers what is known of companies and of the exchange."""

    def __init__(self, market: Market, today: Callable[[], date]) -> None:
        self.market, self.today = market, today

    def endpoints(self) -> list[Endpoint]:
        """Return the addresses served."""
        return [
            Endpoint("/v3/reference/tickers", lambda request: listing(request, "tickers"), self.tickers),
            Endpoint("/v3/reference/tickers/{ticker}", lambda request: listing(request, "details"), self.details),
            Endpoint("/vX/reference/tickers/{ticker}/events", lambda request: listing(request, "events"), self.events),
            Endpoint("/v1/marketstatus/upcoming", lambda request: plain(request, "holidays"), self.holidays),
            Endpoint("/v1/marketstatus/now", lambda request: plain(request, "market_status"), self.status),
        ]

    def tickers(self, ask: Ask) -> Answer:
        """Answer the companies that were listed, or no longer, on a day."""
        limit = limit_of(ask, DEFAULT_TICKERS, MOST_TICKERS)
        day = day_of(ask.parameters["date"], "date") if "date" in ask.parameters else self.today()
        wanted = ask.flag("active", default=True)
        rows = [
            summary(company, active=wanted)
            for company in self._known_on(day)
            if company.listed_on(day) == wanted and _asked_for(company, ask)
        ]
        rows.sort(key=lambda row: row["ticker"], reverse=ask.parameters.get("order", "asc") == "desc")
        return paged(ask, rows, limit, count=0)

    def details(self, ask: Ask) -> Answer:
        """Answer everything known of one company that is listed today, or was on `date`."""
        day = day_of(ask.parameters["date"], "date") if "date" in ask.parameters else self.today()
        found = [c for c in self._known_on(day) if c.ticker == ask.symbol and c.listed_on(day)]
        if not found:
            raise not_found("Ticker not found.")
        return json_answer({"request_id": request_id(), "results": full(found[0]), "status": "OK"})

    def events(self, ask: Ask) -> Answer:
        """Answer when a company got its tickers; by ticker or FIGI."""
        companies = self.market.companies.values()
        found = [company for company in companies if ask.symbol in (company.ticker, company.figi)]
        if not found:
            raise not_found("Ticker not found.")
        company = found[0]
        first = company.list_date or pd.Timestamp(int(company.daily.start_ms[0]), unit="ms", tz=NEW_YORK).date()
        events = [{"type": "ticker_change", "date": str(first), "ticker_change": {"ticker": company.ticker}}]
        results = {"name": company.name, "composite_figi": company.figi, "cik": company.cik, "events": events}
        return json_answer({"results": results, "status": "OK", "request_id": request_id()})

    def holidays(self, _ask: Ask) -> Answer:
        """Answer the holidays and half days of the next year."""
        today = self.today()
        return json_answer(upcoming(today, today + timedelta(days=DAYS_OF_HOLIDAYS)))

    def status(self, _ask: Ask) -> Answer:
        """Answer whether the market is open now."""
        now = datetime.now(UTC)
        sessions = sessions_between(now.date(), now.date())
        is_open = bool(((sessions["open"] <= now) & (now < sessions["close"])).any())
        market = "open" if is_open else "closed"
        return json_answer(
            {
                "afterHours": False,
                "currencies": {"crypto": "open", "fx": "open"},
                "earlyHours": False,
                "exchanges": {"nasdaq": market, "nyse": market, "otc": market},
                "market": market,
                "serverTime": pd.Timestamp(now).tz_convert(NEW_YORK).isoformat(timespec="seconds"),
            }
        )

    def _known_on(self, day: date) -> list[Company]:
        """Return the companies of the market, with the earlier holder of a ticker in place of the later one."""
        companies = []
        for ticker, company in self.market.companies.items():
            former = self.market.previous_holders.get(ticker)
            companies.append(former if former and not company.listed_on(day) and former.listed_on(day) else company)
        return companies


def plain(request: Request, route: str) -> Ask:
    """Return the ask of an address without parameters."""
    return replace(listing(request, route), symbol="")


def summary(company: Company, *, active: bool) -> dict[str, Any]:
    """Return a company as lists of tickers have it."""
    row: dict[str, Any] = {
        "ticker": company.ticker,
        "name": company.name,
        "market": "stocks",
        "locale": "us",
        "primary_exchange": company.exchange,
        "type": "CS",
        "active": active,
        "currency_name": "usd",
        "cik": company.cik,
        "composite_figi": company.figi,
        "share_class_figi": company.figi[:-1] + "0",
        "last_updated_utc": UPDATED,
    }
    if not active and company.delisted:
        row["delisted_utc"] = f"{company.delisted}T00:00:00Z"
    return row


def full(company: Company) -> dict[str, Any]:
    """Return a company as its details have it."""
    shares = company.shares_outstanding
    row = summary(company, active=True) | {
        "currency_symbol": "USD",
        "description": f"{company.name} is part of a simulated market.",
        "homepage_url": "https://example.com",
        "market_cap": shares * float(company.daily.columns["close"][-1]),
        "phone_number": "000-000-0000",
        "address": {"address1": "1 EXAMPLE STREET", "city": "NEW YORK", "state": "NY", "postal_code": "10005"},
        "round_lot": 100,
        "share_class_shares_outstanding": shares,
        "sic_code": "3571",
        "sic_description": "ELECTRONIC COMPUTERS",
        "ticker_root": company.ticker,
        "total_employees": 100 + company.number("employees", 100_000),
        "weighted_shares_outstanding": shares,
    }
    if company.list_date:
        row["list_date"] = str(company.list_date)
    return row


def _asked_for(company: Company, ask: Ask) -> bool:
    """Return whether a company fits the filters: ticker and its bounds, search, type, market, exchange."""
    wanted = ask.parameters
    search = wanted.get("search", "").lower()
    return (
        selected(company.ticker, ask, "ticker")
        and (search in company.ticker.lower() or search in company.name.lower())
        and wanted.get("type", "CS") == "CS"
        and wanted.get("market", "stocks") == "stocks"
        and wanted.get("exchange", company.exchange) == company.exchange
    )


def upcoming(first: date, last: date) -> list[dict[str, str]]:
    """Return holidays and half days of two exchanges between two days, as the vendor lists them."""
    sessions = sessions_between(first, last).set_index("session")
    calendar = exchange_calendars.get_calendar(DEFAULT_EXCHANGE)
    names = calendar.regular_holidays.holidays(pd.Timestamp(first), pd.Timestamp(last), return_name=True)
    rows: list[dict[str, str]] = []
    for number in range((last - first).days + 1):
        day = pd.Timestamp(first) + pd.Timedelta(days=number)
        if (day in sessions.index and sessions.loc[day, "kind"] == "regular") or day.weekday() >= SATURDAY:
            continue
        for exchange in ("NYSE", "NASDAQ"):
            row = {"date": str(day.date()), "exchange": exchange, "name": str(names.get(day, "Market holiday"))}
            if day in sessions.index:
                moments = {name: _utc_text(sessions.loc[day, name]) for name in ("close", "open")}
                row |= {"name": "Early close", "status": "early-close", **moments}
            else:
                row["status"] = "closed"
            rows.append(row)
    return rows


def _utc_text(moment: Any) -> str:
    return str(pd.Timestamp(moment).strftime("%Y-%m-%dT%H:%M:%S.000Z"))
