"""Alpha Vantage's series: text for numbers, naive times of New York, newest first."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from tickstock_assets.simulator.bars import NEW_YORK, PRICES, Bars, Row
from tickstock_assets.simulator.companies import Company

FIELDS = tuple(f"{place}. {name}" for place, name in enumerate((*PRICES, "volume"), 1))


def number(value: float) -> str:
    """Return a price as the vendor writes it: four decimals, more when it has more."""
    short = f"{value:.4f}"
    return short if float(short) == value else repr(value)


def shares(value: float) -> str:
    """Return a volume: whole where it is."""
    return str(int(value)) if value == int(value) else repr(value)


def daily_payload(rows: Sequence[Row], *, full: bool) -> dict[str, Any]:
    """Return TIME_SERIES_DAILY; rows oldest first."""
    series = {day: bar(row) for day, row in zip(_days(rows), rows, strict=True)}
    return _payload("Daily Prices (open, high, low, close) and Volumes", "Time Series (Daily)", rows, series, full=full)


def daily_adjusted_payload(rows: Sequence[Row], company: Company, daily: Bars, *, full: bool) -> dict[str, Any]:
    """Return TIME_SERIES_DAILY_ADJUSTED: as traded, with the close adjusted for splits and dividends beside it."""
    factors = adjustment_factors(company, daily)
    splits = {str(split.execution_date): split.split_to / split.split_from for split in company.splits}
    cash = {str(dividend.ex_dividend_date): dividend.cash_amount for dividend in company.dividends}
    series = {}
    for day, row in zip(_days(rows), rows, strict=True):
        prices = bar(row)
        series[day] = {
            **{name: prices[name] for name in FIELDS[:4]},
            "5. adjusted close": repr(row["close"] * factors.get(day, 1.0)),
            "6. volume": prices["5. volume"],
            "7. dividend amount": number(cash.get(day, 0.0)),
            "8. split coefficient": f"{splits.get(day, 1.0):.1f}",
        }
    return _payload("Daily Time Series with Splits and Dividend Events", "Time Series (Daily)", rows, series, full=full)


def adjustment_factors(company: Company, daily: Bars) -> dict[str, float]:
    """Return by day what a close is multiplied with: after it, splits and dividends in proportion to the close before."""
    days = [str(day.date()) for day in daily.days()]
    splits = {str(split.execution_date): split.split_from / split.split_to for split in company.splits}
    cash = {str(dividend.ex_dividend_date): dividend.cash_amount for dividend in company.dividends}
    factor, factors = 1.0, {}
    closes = daily.columns["close"].tolist()
    for place in range(len(days) - 1, -1, -1):
        factors[days[place]] = factor
        if place:
            # The dividend is in new shares where both fall on one day, the close before in old ones.
            split = splits.get(days[place], 1.0)
            factor *= split * (1 - cash.get(days[place], 0.0) / (closes[place - 1] * split))
    return factors


def intraday_payload(rows: Sequence[Row], *, full: bool) -> dict[str, Any]:
    """Return TIME_SERIES_INTRADAY of single minutes; rows oldest first."""
    moments = _moments(rows).strftime("%Y-%m-%d %H:%M:%S").tolist()
    series = {moment: bar(row) for moment, row in zip(moments, rows, strict=True)}
    information = "Intraday (1min) open, high, low, close prices and volume"
    return _payload(information, "Time Series (1min)", rows, series, full=full, interval="1min")


def bar(row: Row) -> dict[str, str]:
    """Return one bar."""
    texts = [*(number(row[name]) for name in PRICES), shares(row["volume"])]
    return dict(zip(FIELDS, texts, strict=True))


def _payload(
    information: str, name: str, rows: Sequence[Row], series: dict[str, Any], *, full: bool, interval: str | None = None
) -> dict[str, Any]:
    about = [information, rows[0]["symbol"] if rows else "", max(series, default="")]
    titles = ["Information", "Symbol", "Last Refreshed"]
    if interval:
        titles.append("Interval")
        about.append(interval)
    titles += ["Output Size", "Time Zone"]
    about += ["Full size" if full else "Compact", "US/Eastern"]
    meta = {f"{place}. {title}": text for place, (title, text) in enumerate(zip(titles, about, strict=True), 1)}
    return {"Meta Data": meta, name: dict(reversed(series.items()))}


def _moments(rows: Sequence[Row]) -> pd.DatetimeIndex:
    return pd.to_datetime([row["start_ms"] for row in rows], unit="ms", utc=True).tz_convert(NEW_YORK)


def _days(rows: Sequence[Row]) -> list[str]:
    texts: list[str] = _moments(rows).strftime("%Y-%m-%d").tolist()
    return texts
