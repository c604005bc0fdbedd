"""Polygon's reference answers as frames: tickers, renames, splits, dividends, holidays. Pure.

Elsewhere: asking (`polygon.py`).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from tickstock_assets.domain.exchanges import ALWAYS_OPEN, DEFAULT_EXCHANGE

Record = Mapping[str, Any]

# US stock exchanges keep the same sessions, so they share one calendar.
CALENDAR_OF = dict.fromkeys(["XNAS", "XNYS", "ARCX", "XASE", "BATS", "IEXG"], DEFAULT_EXCHANGE)

_TEXT = ["name", "market", "locale", "currency_name", "currency_symbol", "type", "cik", "composite_figi"]
TEXT_COLUMNS = [*_TEXT, "share_class_figi"]
NUMBER_COLUMNS = ["market_cap", "weighted_shares_outstanding"]
MOMENT_COLUMNS = ["delisted_utc", "last_updated_utc"]
DIVIDEND_DATES = ["declaration_date", "record_date", "pay_date"]


def symbols_frame(records: Sequence[Record]) -> pd.DataFrame:
    """Return tickers as rows of the table `symbols`, and `ticker_since`.

    Args:
        records: ticker records of the vendor; each may also have `ticker_since`, a date as text.

    Returns:
        symbol, exchange (code of its calendar), the text columns, active (True, False or None), market_cap (currency),
        weighted_shares_outstanding (shares), list_date and ticker_since (datetime64), delisted_utc and
        last_updated_utc (UTC). ticker_since is NaT where the symbol was this instrument's ever since it was listed.
    """
    frame = pd.DataFrame({"symbol": _texts(records, "ticker"), "exchange": [_calendar(record) for record in records]})
    frame["exchange"] = frame["exchange"].astype("str")
    for name in TEXT_COLUMNS:
        frame[name] = _texts(records, name)
    frame["currency_symbol"] = frame["currency_symbol"].fillna(_iso_code(frame["currency_name"]))
    frame["active"] = pd.Series([record.get("active") for record in records], dtype="boolean")
    for name in NUMBER_COLUMNS:
        frame[name] = _numbers(records, name)
    for name in ("list_date", "ticker_since"):
        frame[name] = _dates(records, name)
    for name in MOMENT_COLUMNS:
        frame[name] = _moments(records, name)
    return frame.drop_duplicates("symbol").sort_values("symbol", ignore_index=True)


def ticker_since(events: Iterable[Record], ticker: str, list_date: str | None) -> str | None:
    """Return the day from which on a ticker means its present company; None when it always has.

    Args:
        events: of the vendor's ticker events; only changes of the ticker count.
        ticker: the present one.
        list_date: when the company was listed, as YYYY-MM-DD.
    """
    changes = sorted(
        (str(event["date"]), event["ticker_change"].get("ticker"))
        for event in events
        if event.get("date") and isinstance(event.get("ticker_change"), Mapping)
    )
    into_present = [day for day, name in changes if name == ticker]
    if not into_present:
        return None
    since = into_present[-1]
    had_another = any(day < since and name != ticker for day, name in changes)
    return since if had_another or (list_date is not None and since > list_date) else None


def splits_frame(records: Sequence[Record]) -> pd.DataFrame:
    """Return symbol, execution_date, split_from, split_to."""
    frame = pd.DataFrame(
        {
            "symbol": _texts(records, "ticker"),
            "execution_date": _dates(records, "execution_date"),
            "split_from": _numbers(records, "split_from"),
            "split_to": _numbers(records, "split_to"),
        }
    )
    return frame.sort_values(["symbol", "execution_date"], ignore_index=True)


def dividends_frame(records: Sequence[Record]) -> pd.DataFrame:
    """Return symbol, ex_dividend_date, cash_amount (not adjusted for splits) and the other columns of `dividends`."""
    frame = pd.DataFrame(
        {
            "symbol": _texts(records, "ticker"),
            "ex_dividend_date": _dates(records, "ex_dividend_date"),
            "cash_amount": _numbers(records, "cash_amount"),
            "distribution_type": _texts(records, "distribution_type").fillna("unknown"),
            "currency": _texts(records, "currency"),
            **{name: _dates(records, name) for name in DIVIDEND_DATES},
            "frequency": _numbers(records, "frequency").astype("Int64"),
        }
    )
    return frame.sort_values(["symbol", "ex_dividend_date", "distribution_type"], ignore_index=True)


def holidays_frame(records: Sequence[Record]) -> pd.DataFrame:
    """Return exchange, date (datetime64), name, status (closed, early-close), open and close (UTC; NaT when closed)."""
    frame = pd.DataFrame({"exchange": _texts(records, "exchange"), "date": _dates(records, "date")})
    for name in ("name", "status"):
        frame[name] = _texts(records, name)
    for name in ("open", "close"):
        frame[name] = _moments(records, name)
    return frame.sort_values(["date", "exchange"], ignore_index=True)


def _calendar(record: Record) -> str:
    if record.get("market") == "crypto":
        return ALWAYS_OPEN
    exchange = record.get("primary_exchange")
    if exchange is None or (record.get("locale") == "us" and record.get("market") in ("stocks", "otc")):
        return DEFAULT_EXCHANGE
    return CALENDAR_OF.get(exchange, str(exchange))


def _iso_code(names: pd.Series) -> pd.Series:
    """Return the ISO 4217 code where the vendor gives it, in small letters, as the currency's name."""
    return names.where(names.str.fullmatch("[a-z]{3}").fillna(value=False).astype(bool)).str.upper()


def _texts(records: Sequence[Record], name: str) -> pd.Series:
    values = [None if record.get(name) is None else str(record[name]) for record in records]
    return pd.Series(values, dtype="str")


def _numbers(records: Sequence[Record], name: str) -> pd.Series:
    values = pd.Series([record.get(name) for record in records], dtype=object)
    return pd.to_numeric(values, errors="coerce").astype("float64")


def _dates(records: Sequence[Record], name: str) -> pd.Series:
    return pd.to_datetime(_texts(records, name).str[:10], format="%Y-%m-%d", errors="coerce").astype("datetime64[us]")


def _moments(records: Sequence[Record], name: str) -> pd.Series:
    parsed = pd.to_datetime(_texts(records, name), format="ISO8601", utc=True, errors="coerce")
    return parsed.astype("datetime64[us, UTC]")
