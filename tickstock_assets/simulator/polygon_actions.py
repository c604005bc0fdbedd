"""Polygon's splits and dividends, at their present addresses and at the deprecated ones."""

import hashlib
from collections.abc import Callable
from typing import Any

from starlette.requests import Request

from tickstock_assets.simulator.asks import Answer, Ask, Endpoint, Refused
from tickstock_assets.simulator.companies import Company
from tickstock_assets.simulator.market import Market
from tickstock_assets.simulator.polygon_api import error, limit_of, listing, paged, selected

DEFAULT_ROWS, MOST_ROWS = 100, 5_000
DEFAULT_OLD_ROWS, MOST_OLD_ROWS = 10, 1_000
QUARTERLY = 4


class PolygonActions:
    """Answers splits and dividends."""

    def __init__(self, market: Market) -> None:
        self.market = market

    def endpoints(self) -> list[Endpoint]:
        """Return the addresses served."""
        return [
            Endpoint("/stocks/v1/splits", _ask("splits"), self.splits),
            Endpoint("/stocks/v1/dividends", _ask("dividends"), self.dividends),
            Endpoint("/v3/reference/splits", _ask("splits_old"), self.splits_old),
            Endpoint("/v3/reference/dividends", _ask("dividends_old"), self.dividends_old),
        ]

    def splits(self, ask: Ask) -> Answer:
        """Answer splits, newest first."""
        rows = [row for company in self._companies(ask) for row in splits_of(company)]
        return self._page(ask, rows, "execution_date", old=False)

    def dividends(self, ask: Ask) -> Answer:
        """Answer dividends, newest first."""
        rows = [row for company in self._companies(ask) for row in dividends_of(company)]
        return self._page(ask, rows, "ex_dividend_date", old=False)

    def splits_old(self, ask: Ask) -> Answer:
        """Answer splits as the deprecated address does."""
        wanted = ("execution_date", "id", "split_from", "split_to", "ticker")
        rows = [{k: row[k] for k in wanted} for company in self._companies(ask) for row in splits_of(company)]
        return self._page(ask, rows, "execution_date", old=True)

    def dividends_old(self, ask: Ask) -> Answer:
        """Answer dividends as the deprecated address does."""
        wanted = ("cash_amount", "currency", "declaration_date", "ex_dividend_date", "frequency", "id", "pay_date",
                  "record_date", "ticker")  # fmt: skip
        rows = [
            {**{k: row[k] for k in wanted}, "dividend_type": "CD"}
            for company in self._companies(ask)
            for row in dividends_of(company)
        ]
        return self._page(ask, rows, "ex_dividend_date", old=True)

    def _companies(self, ask: Ask) -> list[Company]:
        return [company for company in self.market.companies.values() if selected(company.ticker, ask, "ticker")]

    def _page(self, ask: Ask, rows: list[dict[str, Any]], day: str, *, old: bool) -> Answer:
        rows = [row for row in rows if selected(row[day], ask, day)]
        field, descending = _order(ask, day, old=old)
        if rows and field not in rows[0]:
            raise Refused(error(400, f"'sort' must be a field of the results, found '{field}'"))
        rows.sort(key=lambda row: (row[field], row["ticker"]), reverse=descending)
        limit = limit_of(ask, *((DEFAULT_OLD_ROWS, MOST_OLD_ROWS) if old else (DEFAULT_ROWS, MOST_ROWS)))
        return paged(ask, rows, limit)


def _ask(route: str) -> Callable[[Request], Ask]:
    return lambda request: listing(request, route)


def _order(ask: Ask, day: str, *, old: bool) -> tuple[str, bool]:
    """Return field and direction: `sort=field.desc` at the present addresses, `sort` and `order` at the old ones."""
    if old:
        return ask.parameters.get("sort", day), ask.parameters.get("order", "desc") == "desc"
    field, _, direction = ask.parameters.get("sort", f"{day}.desc").split(",")[0].partition(".")
    return field, direction == "desc"


def splits_of(company: Company) -> list[dict[str, Any]]:
    """Return a company's splits; the factor takes a price of the time before to today's shares."""
    rows: list[dict[str, Any]] = []
    factor = 1.0
    for split in reversed(company.splits):
        factor *= split.split_from / split.split_to
        rows.append(
            {
                "id": _identifier(company, "split", split.execution_date),
                "ticker": company.ticker,
                "execution_date": str(split.execution_date),
                "split_from": split.split_from,
                "split_to": split.split_to,
                "adjustment_type": "forward_split" if split.split_to > split.split_from else "reverse_split",
                "historical_adjustment_factor": factor,
            }
        )
    return rows


def dividends_of(company: Company) -> list[dict[str, Any]]:
    """Return a company's dividends, in the shares of their day; only the ex-dividend date and the cash are known."""
    rows = []
    for dividend in company.dividends:
        later = [split for split in company.splits if split.execution_date > dividend.ex_dividend_date]
        adjusted = dividend.cash_amount
        for split in later:
            adjusted *= split.split_from / split.split_to
        day = str(dividend.ex_dividend_date)
        rows.append(
            {
                "id": _identifier(company, "dividend", dividend.ex_dividend_date),
                "ticker": company.ticker,
                "cash_amount": dividend.cash_amount,
                "split_adjusted_cash_amount": adjusted,
                "currency": "USD",
                "declaration_date": None,
                "ex_dividend_date": day,
                "record_date": None,
                "pay_date": None,
                "frequency": QUARTERLY,
                "distribution_type": "recurring",
            }
        )
    return rows


def _identifier(company: Company, what: str, day: object) -> str:
    return "E" + hashlib.sha256(f"{company.name}|{what}|{day}".encode()).hexdigest()
