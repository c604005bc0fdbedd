"""The five companies of the vendored sample data, read anew: the providers' reader is what is under test."""

import functools
from fractions import Fraction
from pathlib import Path
from typing import Any

import pandas as pd

from tickstock_assets.simulator.companies import Company, Dividend, Split

FILE = Path(__file__).parent.parent / "sample_data" / "stocks.csv.gz"
NAMES = {
    "AAPL": ("Apple Inc.", "XNAS"),
    "FB": ("Facebook, Inc. Class A", "XNAS"),
    "GOOG": ("Google Inc. Class A", "XNAS"),
    "IBM": ("International Business Machines Corporation", "XNYS"),
    "MSFT": ("Microsoft Corporation", "XNAS"),
}
# Adjusted closes are rounded.
ROUNDING = 1e-6
# A dividend never is a fifth of the price; a split always moves it more.
LEAST_SPLIT = 0.2


def sample_companies() -> list[Company]:
    """Return AAPL, FB, GOOG, IBM and MSFT from 2000-03-01 to 2013-03-01."""
    begin = _file()["date"].min()
    companies = []
    for ticker, bars in _file().groupby("ticker"):
        name, exchange = NAMES[str(ticker)]
        splits, dividends = _actions(bars)
        listed = bars["date"].iloc[0]
        companies.append(
            Company(
                ticker=str(ticker),
                name=name,
                exchange=exchange,
                list_date=listed.date() if listed > begin else None,
                make_daily=functools.partial(_bars, str(ticker)),
                splits=splits,
                dividends=dividends,
            )
        )
    return companies


@functools.cache
def _file() -> pd.DataFrame:
    frame: pd.DataFrame = pd.read_csv(FILE, parse_dates=["Date"])
    names = {column: column.lower().replace("adj close", "adjusted_close") for column in frame.columns}
    return frame.rename(columns=names | {"Ticker": "ticker"}).sort_values(["ticker", "date"])


def _bars(ticker: str) -> pd.DataFrame:
    frame = _file()
    return frame[frame["ticker"] == ticker]


def _actions(bars: pd.DataFrame) -> tuple[tuple[Split, ...], tuple[Dividend, ...]]:
    """Return what the steps of adjusted close / close say: times split, times 1 + dividend / close of that day."""
    factor = bars["adjusted_close"] / bars["close"]
    steps: pd.Series[Any] = (factor / factor.shift()).iloc[1:]
    splits, dividends = [], []
    for day, close, step in zip(bars["date"].iloc[1:].dt.date, bars["close"].iloc[1:], steps, strict=True):
        if abs(step - 1) <= ROUNDING:
            continue
        if abs(step - 1) > LEAST_SPLIT:
            ratio = Fraction(step).limit_denominator(20)
            splits.append(Split(day, ratio.denominator, ratio.numerator))
        else:
            dividends.append(Dividend(day, round((step - 1) * float(close), 6)))
    return tuple(splits), tuple(dividends)
