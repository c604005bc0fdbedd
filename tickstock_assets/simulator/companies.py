"""A listed company: what reference data says of it, its daily bars, splits and dividends."""

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from tickstock_assets.simulator.bars import Bars, midnights


@dataclass(frozen=True)
class Split:
    """`split_from` old shares become `split_to` new ones at the open of a day."""

    execution_date: date
    split_from: float
    split_to: float


@dataclass(frozen=True)
class Dividend:
    """Cash a share, in the shares of that day."""

    ex_dividend_date: date
    cash_amount: float


@dataclass(frozen=True)
class Company:
    """One company under its ticker.

    Attributes:
        ticker: its present one.
        name: its name.
        exchange: ISO 10383 code of the primary listing.
        list_date: first day under this ticker, None when it was listed before the market begins.
        delisted: last day of trading, None while it is listed.
        make_daily: returns date, open, high, low, close, volume, as traded; called once, when first needed.
        splits, dividends: oldest first.
    """

    ticker: str
    name: str
    exchange: str
    list_date: date | None
    make_daily: Callable[[], pd.DataFrame]
    delisted: date | None = None
    splits: tuple[Split, ...] = ()
    dividends: tuple[Dividend, ...] = ()

    @functools.cached_property
    def daily(self) -> Bars:
        """The daily bars as traded."""
        frame = self.make_daily()
        if self.delisted:
            frame = frame[frame["date"] <= pd.Timestamp(self.delisted)]
        if self.list_date:
            frame = frame[frame["date"] >= pd.Timestamp(self.list_date)]
        values = {name: frame[name].to_numpy(np.float64) for name in ("open", "high", "low", "close", "volume")}
        typical = np.rint((values["high"] + values["low"] + values["close"]) / 3 * 1e4) / 1e4
        values["vwap"] = np.clip(typical, values["low"], values["high"])
        values["trades_count"] = np.minimum(np.ceil(values["volume"]), 1 + np.floor(values["volume"] / 150))
        return Bars(self.ticker, midnights(frame["date"]), values)

    def number(self, what: str, below: int) -> int:
        """Return an invented number that belongs to this company for good."""
        digest = hashlib.blake2b(f"{self.name}|{what}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") % below

    @property
    def cik(self) -> str:
        """Its number at the Securities and Exchange Commission; invented."""
        return f"{self.number('cik', 10**10):010d}"

    @property
    def figi(self) -> str:
        """Its FIGI; invented, but of the right form."""
        return f"BBG{self.number('figi', 16**9):09X}"

    @property
    def shares_outstanding(self) -> int:
        """How many shares there are; invented."""
        return 1_000_000 * (50 + self.number("shares", 950))

    def listed_on(self, day: date) -> bool:
        """Return whether it trades on a day."""
        return (self.list_date or date.min) <= day <= (self.delisted or date.max)


def split_factors(days: pd.DatetimeIndex, splits: tuple[Split, ...]) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """Return for each day what a price is multiplied with to be in the shares of today."""
    factor = np.ones(len(days))
    for split in splits:
        factor[days < pd.Timestamp(split.execution_date)] *= split.split_from / split.split_to
    return factor


def split_adjusted(bars: Bars, splits: tuple[Split, ...]) -> Bars:
    """Return bars in the shares of today, as the vendors do it: prices to four decimals, volume in whole shares."""
    if not splits:
        return bars
    factor = split_factors(bars.days(), splits)
    values = {
        name: column if name == "trades_count" else np.round(column * factor, 4)
        for name, column in bars.columns.items()
    }
    values["volume"] = np.round(bars.columns["volume"] / factor)
    return Bars(bars.symbol, bars.start_ms, values)
