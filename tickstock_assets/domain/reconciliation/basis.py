"""Adjustment bases two sides may be in, from the recorded splits and dividends.

A side is as traded, or adjusted backward from a day for splits, or for splits and dividends in one of the conventions
of domain/dividends.py. Adjusting for dividends needs closes as traded; where neither side has those, they are got back
from the adjusted ones.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from tickstock_assets.domain.dividends import dividend_factors
from tickstock_assets.domain.errors import ContractError
from tickstock_assets.domain.splits import Floats, Ints, day_numbers, factors_at

type Kind = Literal[
    "as traded", "split-adjusted", "split- and dividend-adjusted (wiki)", "split- and dividend-adjusted (crsp)"
]

TRADED: Kind = "as traded"
SPLIT: Kind = "split-adjusted"
WIKI: Kind = "split- and dividend-adjusted (wiki)"
CRSP: Kind = "split- and dividend-adjusted (crsp)"
_WEIGHT: dict[Kind, int] = {TRADED: 0, SPLIT: 1, WIKI: 2, CRSP: 2}


@dataclass(frozen=True)
class SideBasis:
    """What one side is adjusted for, and to which day's share unit (a day number; None as traded)."""

    kind: Kind = TRADED
    as_of: int | None = None

    def __str__(self) -> str:
        return self.kind if self.as_of is None else f"{self.kind} as of {np.datetime64(self.as_of, 'D')}"


@dataclass(frozen=True)
class Basis:
    """Both sides' bases; arrays have shape (n_bars,).

    Attributes:
        prices: left's price over right's price.
        left_shares, right_shares: how many shares of the side's unit one share as traded that day is.
        weight: how much is supposed; the lighter of two that fit alike is the better.
    """

    left: SideBasis
    right: SideBasis
    prices: Floats
    left_shares: Floats
    right_shares: Floats
    weight: float

    @property
    def is_none(self) -> bool:
        """Say whether both sides are as traded."""
        return self.left.kind == self.right.kind == TRADED

    def __str__(self) -> str:
        return f"left {self.left}, right {self.right}"


@dataclass(frozen=True)
class Record:
    """What is recorded of one symbol."""

    symbol: str
    splits: pd.DataFrame
    dividends: pd.DataFrame

    @classmethod
    def of(cls, symbol: str, splits: pd.DataFrame, dividends: pd.DataFrame) -> "Record":
        """Return the symbol's part of splits and dividends.

        Raises:
            ContractError: an amount is not positive, or as `split_factors`.
        """
        own_splits = splits[splits["symbol"] == symbol].reset_index(drop=True)
        own_dividends = dividends[dividends["symbol"] == symbol].reset_index(drop=True)
        cash = own_dividends["cash_amount"].to_numpy(np.float64)
        if not np.all((cash > 0) & np.isfinite(cash)):
            wrong = own_dividends.iloc[int(np.argmin((cash > 0) & np.isfinite(cash)))]
            raise ContractError(
                f"{symbol} {wrong['ex_dividend_date']}: expected a positive cash amount, found {wrong['cash_amount']}"
            )
        record = cls(symbol, own_splits, own_dividends)
        record.shares(np.array([0]))
        return record

    @functools.cached_property
    def split_days(self) -> Ints:
        """Day numbers of the splits, in their order."""
        return np.sort(day_numbers(self.splits["execution_date"], "splits"))

    @functools.cached_property
    def ex_days(self) -> Ints:
        """Day numbers of the dividends, as recorded."""
        return day_numbers(self.dividends["ex_dividend_date"], "dividends.ex_dividend_date")

    def shares(self, day: Ints) -> Floats:
        """Return what one share held since before the first split is on each day."""
        at_split: Floats = self._shares_from_each_split[np.searchsorted(self.split_days, day, side="right")]
        return at_split

    @functools.cached_property
    def _shares_from_each_split(self) -> Floats:
        """Return the shares before the first split and from each on: asked for hundreds of bases, looked up once."""
        from_split = factors_at(np.repeat(self.symbol, len(self.split_days)), self.split_days, self.splits)
        return np.concatenate([[1.0], from_split])


@dataclass(frozen=True)
class Closes:
    """One side's daily closes: day numbers, rising, and prices."""

    day: Ints
    close: Floats


def bases(day: Ints, left: Closes, right: Closes, record: Record) -> list[Basis]:
    """Return all pairs of bases that the record allows, the lightest first, one for each ratio of prices.

    Args:
        day: day number of each bar to be compared, shape (n_bars,); each a day of both closes.
        left: left's closes, as they are.
        right: right's.
        record: the symbol's splits and dividends.
    """
    none = SideBasis()
    ones = np.ones(len(day))
    found = [Basis(none, none, ones, ones, ones, 0.0)]
    for own, other in ((left, right), (right, left)):
        for anchor in _anchors(int(own.day[-1]), record):
            factors = _Factors(own, anchor, record)
            if not factors.possible:
                continue
            anchored = factors.at(anchor, day)
            for basis in _supposable(factors, int(other.day[-1]), record):
                supposed = factors.at(basis, day)
                sides = (anchor, basis, anchored, supposed) if own is left else (basis, anchor, supposed, anchored)
                found.append(_paired(*sides, weight=_weight(anchor, own, record) + _weight(basis, other, record)))
    distinct: dict[bytes, Basis] = {}
    for pairing in sorted(found, key=lambda both: both.weight):
        # A close that is no price says nothing of a dividend.
        if not np.all(pairing.prices > 0):
            continue
        # Adding 0 turns -0 into 0.
        distinct.setdefault((np.round(np.log(pairing.prices), 10) + 0.0).tobytes(), pairing)
    return list(distinct.values())


def _paired(
    left: SideBasis, right: SideBasis, at_left: tuple[Floats, Floats], at_right: tuple[Floats, Floats], weight: float
) -> Basis:
    return Basis(left, right, at_left[0] / at_right[0], at_left[1], at_right[1], weight)


def _weight(basis: SideBasis, closes: Closes, record: Record) -> float:
    usual = basis.as_of in (None, int(closes.day[-1]), _latest(int(closes.day[-1]), record))
    return _WEIGHT[basis.kind] + (0.0 if usual else 0.5)


def _latest(last: int, record: Record) -> int:
    """Return the last day of bars and recorded splits: what a vendor that knows them all adjusts to."""
    return max(last, *record.split_days.tolist()) if len(record.split_days) else last


def _anchors(last: int, record: Record) -> Iterator[SideBasis]:
    """Yield what a side may be that the other is told from."""
    yield SideBasis()
    for as_of in dict.fromkeys((last, _latest(last, record))):
        for kind in (SPLIT, WIKI, CRSP):
            yield SideBasis(kind, as_of)


def _supposable(factors: "_Factors", last: int, record: Record) -> Iterator[SideBasis]:
    """Yield what the other side may be: adjusted from its last bar, from today, or from before any recorded event."""
    yield SideBasis()
    usual = (last, _latest(last, record))
    splits = [int(day) - 1 for day in record.split_days]
    for as_of in dict.fromkeys((*usual, *splits)):
        yield SideBasis(SPLIT, as_of)
    for as_of in dict.fromkeys((*usual, *splits, *(int(day) - 1 for day in record.ex_days if day <= last))):
        yield from (SideBasis(kind, as_of) for kind in (WIKI, CRSP) if kind in factors.dividends)


class _Factors:
    """What prices as traded are multiplied by in each basis, one side being in a supposed one."""

    def __init__(self, closes: Closes, basis: SideBasis, record: Record) -> None:
        self.day, self.record = closes.day, record
        traded = _as_traded(closes, basis, record)
        daily = pd.DataFrame({"symbol": record.symbol, "date": closes.day.astype("datetime64[D]"), "close": traded})
        self.dividends: dict[Kind, Floats] = {}
        for kind, convention in ((WIKI, "wiki"), (CRSP, "crsp")):
            try:
                factor = dividend_factors(daily, record.dividends, record.splits, convention)  # type: ignore[arg-type]
            except ContractError:
                # A dividend above the price it is paid from: the side is not in the supposed basis.
                continue
            self.dividends[kind] = factor
        self.possible = basis.kind in self.dividends or basis.kind in (TRADED, SPLIT)

    def at(self, basis: SideBasis, day: Ints) -> tuple[Floats, Floats]:
        """Return the factor of prices and the part of it that is due to splits, for each day."""
        if basis.as_of is None:
            return np.ones(len(day)), np.ones(len(day))
        until = np.minimum(day, basis.as_of)
        shares = self.record.shares(until) / self.record.shares(np.array([basis.as_of]))
        if basis.kind == SPLIT:
            return shares, shares
        factor = self.dividends[basis.kind]
        # Before the first close nothing is adjusted: no bar is that old.
        at_day, at_basis = (np.searchsorted(self.day, when, side="right") - 1 for when in (until, basis.as_of))
        return shares * factor[np.maximum(at_day, 0)] / factor[max(int(at_basis), 0)], shares


def _as_traded(closes: Closes, basis: SideBasis, record: Record) -> Floats:
    """Return closes as traded from closes in a basis.

    Backward from the last close, whose dividend factor F is 1: with q the adjusted close without its splits and D a
    dividend per share of the close that measures it, P - D = q / F of the session before under crsp, and P = q / F of
    the ex-date under wiki; each then gives the F before it.
    """
    if basis.as_of is None:
        return closes.close
    shares = record.shares(closes.day)
    basis_shares = record.shares(np.array([basis.as_of]))
    unsplit = closes.close / (record.shares(np.minimum(closes.day, basis.as_of)) / basis_shares)
    if basis.kind == SPLIT:
        return unsplit
    position = np.searchsorted(closes.day, record.ex_days, side="left")
    cash = record.dividends["cash_amount"].to_numpy(np.float64) * record.shares(record.ex_days)
    factor, now = np.ones(len(closes.day)), 1.0
    for at in np.unique(position[(position > 0) & (position < len(closes.day))])[::-1]:
        measured = at - 1 if basis.kind == CRSP else at
        paid = float(cash[position == at].sum() / shares[measured])
        price = float(unsplit[measured]) / now
        now *= price / (price + paid)
        factor[:at] = now
    traded: Floats = unsplit / factor
    return traded
