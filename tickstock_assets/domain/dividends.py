"""Cash dividends: what a price before one is multiplied by, to compare with a price after it.

Elsewhere: splits (splits.py), applying the factors (adjustments.py), dividends as cash (backtest/).
"""

from datetime import date
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from tickstock_assets.domain.errors import ConfigError, ContractError
from tickstock_assets.domain.splits import Floats, Ints, basis_days, day_numbers, factors_at, symbol_day_keys

type Convention = Literal["crsp", "wiki"]

CONVENTIONS: tuple[str, ...] = get_args(Convention.__value__)

# Days before and after all others.
_NEVER, _NEVER_YET = np.iinfo(np.int64).min, np.iinfo(np.int64).max


def dividend_factors(
    bars: pd.DataFrame,
    dividends: pd.DataFrame,
    splits: pd.DataFrame,
    convention: Convention = "crsp",
    as_of: date | None = None,
    *,
    closes: pd.DataFrame | None = None,
) -> Floats:
    """Return, for every bar, the product of the steps of the dividends after it and up to as_of.

    The step of a dividend D is
        crsp    1 - D / close of the last session before its ex-date: as if reinvested at that close less D;
        wiki    1 / (1 + D / close of its ex-date): as if reinvested at that close.
    D counts per share of its ex-date and a close per share of its own day; a split between the two is allowed for. An
    ex-date that is no stored session belongs to the next one. Dividends of one session add up to one step. With no bar
    before it, a dividend changes nothing. Under wiki, one whose close is not stored yet or is after as_of has no step.

    Args:
        bars: symbol, date and, where `closes` is not given, close as traded; in any order.
        dividends: symbol, ex_dividend_date, cash_amount in the currency of the prices; in any order.
        splits: as in `split_factors`.
        convention: which close measures a dividend.
        as_of: the day; dividends after it are ignored, also for bars after it. By default each symbol's last bar.
        closes: symbol, date, close as traded, one row per symbol and session; by default the bars. To be given where
            the bars are a part of the history, or several a day.

    Returns:
        float64, shape (n_bars,), above 0 and at most 1: what the split-adjusted price is to be multiplied by.

    Raises:
        ConfigError: there is no such convention.
        ContractError: an amount, or a close that measures one, is not positive; D is not below the previous close
            (crsp); a day has two closes; a date or a split is refused by `split_factors`.

    Source:
        crsp: Yahoo's help page "What is the adjusted close?", which names this multiplier the standard of the Center
        for Research in Security Prices. CRSP's Data Description Guide itself defines the total return, (close + D) /
        previous close - 1, which is the return of the wiki series.
        wiki: the columns close, ex-dividend, split_ratio and adj_close of the Quandl WIKI Prices.
    """
    if convention not in CONVENTIONS:
        raise ConfigError(f"convention: expected one of {', '.join(CONVENTIONS)}, found {convention}")
    day = day_numbers(bars["date"], "bars.date")
    code, payers = pd.factorize(dividends["symbol"])
    bar_code = pd.Index(payers).get_indexer(pd.Index(bars["symbol"]))
    last_day = np.full(len(payers), _NEVER)
    # All bars of a symbol have the same basis.
    last_day[bar_code[bar_code >= 0]] = basis_days(bars["symbol"], day, as_of)[bar_code >= 0]
    closes = bars if closes is None else closes
    paid = _measured(dividends, code, closes[closes["symbol"].isin(payers)], splits, convention)
    counted = paid[(paid[["ex_day", "close_day"]].max(axis=1) <= last_day[code]).to_numpy()]
    return _product_after(symbol_day_keys(bar_code, day), bar_code, _steps(counted, convention))


def _measured(
    dividends: pd.DataFrame,
    code: npt.NDArray[np.intp],
    closes: pd.DataFrame,
    splits: pd.DataFrame,
    convention: Convention,
) -> pd.DataFrame:
    """Return for every dividend its symbol, code, ex_day and the close that measures it: position, close_day, close.

    And `share`: D / close in one share unit, NaN where the close is no price. Without a close close_day is _NEVER_YET.
    """
    ex_day = day_numbers(dividends["ex_dividend_date"], "dividends.ex_dividend_date")
    cash = _positive_cash(dividends)
    days = day_numbers(closes["date"], "closes.date")
    codes = pd.Index(dividends["symbol"].unique()).get_indexer(pd.Index(closes["symbol"]))
    key = symbol_day_keys(codes, days)
    order = np.argsort(key, kind="stable")
    _refuse_second_closes(closes.iloc[order], key[order])
    position = np.searchsorted(key[order], symbol_day_keys(code, ex_day), side="left")
    if convention == "crsp":
        position -= 1
    # Position -1 and the one past the end read the padding, which belongs to no symbol.
    row = np.append(order, -1)[position]
    stored = np.append(codes, -1)[row] == code
    close, close_day = np.append(closes["close"].to_numpy(np.float64), np.nan)[row], np.append(days, 0)[row]
    price = np.where(np.isfinite(close) & (close > 0), close, np.nan)
    # In the share unit before the first split.
    cash_then, price_then = (
        value * factors_at(dividends["symbol"], day, splits) for value, day in ((cash, ex_day), (price, close_day))
    )
    return pd.DataFrame(
        {
            "symbol": dividends["symbol"].to_numpy(),
            "code": code,
            "ex_day": ex_day,
            "position": position,
            "close_day": np.where(stored, close_day, _NEVER_YET),
            "close": close,
            "share": cash_then / price_then,
        }
    )


def _steps(paid: pd.DataFrame, convention: Convention) -> pd.DataFrame:
    """Return one row per symbol and session that paid, in their order: code, ex_day and factor."""
    unpriced = paid[paid["share"].isna()]
    if len(unpriced):
        row = unpriced.iloc[0]
        raise ContractError(
            f"{row['symbol']} {_as_date(row['close_day'])}: expected a positive close to measure the dividend of "
            f"{_as_date(row['ex_day'])} by, found {row['close']:g}"
        )
    # The same close measures all that is paid between two sessions; closes are in the order of symbol and day.
    sessions = paid.groupby("position").agg(
        symbol=("symbol", "first"), code=("code", "first"), ex_day=("ex_day", "min"), share=("share", "sum")
    )
    if convention == "wiki":
        return sessions.assign(factor=1 / (1 + sessions["share"]))
    too_large = sessions[sessions["share"] >= 1]
    if len(too_large):
        row = too_large.iloc[0]
        raise ContractError(
            f"{row['symbol']} {_as_date(row['ex_day'])}: expected a dividend below the previous close, "
            f"found {row['share']:.4g} times that; check its amount and the splits"
        )
    return sessions.assign(factor=1 - sessions["share"])


def _product_after(bar_key: Ints, bar_code: npt.NDArray[np.intp], steps: pd.DataFrame) -> Floats:
    """Return for every bar the product of its symbol's steps with a later ex-date."""
    code = steps["code"].to_numpy(np.int64)
    backward = steps["factor"].iloc[::-1].groupby(code[::-1]).cumprod()
    position = np.searchsorted(symbol_day_keys(code, steps["ex_day"].to_numpy(np.int64)), bar_key, side="right")
    # The padding is for bars after all steps; no bar has its code.
    found = np.append(code, _NEVER)[position] == bar_code
    return np.where(found, np.append(backward.iloc[::-1].to_numpy(np.float64), 1.0)[position], 1.0)


def _positive_cash(dividends: pd.DataFrame) -> Floats:
    """Return cash_amount, all positive and finite."""
    cash: Floats = dividends["cash_amount"].to_numpy(np.float64)
    wrong = ~((cash > 0) & np.isfinite(cash))
    if wrong.any():
        dividend = dividends.iloc[int(np.argmax(wrong))]
        raise ContractError(
            f"{dividend['symbol']} {dividend['ex_dividend_date']}: expected a positive cash amount, "
            f"found {dividend['cash_amount']}"
        )
    return cash


def _refuse_second_closes(closes: pd.DataFrame, keys: Ints) -> None:
    """Raise when two neighbours of the sorted closes have the same symbol and day."""
    twice = np.flatnonzero(keys[1:] == keys[:-1])
    if len(twice):
        row = closes.iloc[int(twice[0])]
        raise ContractError(
            f"{row['symbol']} {row['date']}: expected one close a day to measure dividends by, found two; "
            "give the daily closes"
        )


def _as_date(day: int) -> np.datetime64:
    return np.datetime64(int(day), "D")
