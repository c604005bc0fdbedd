"""What a backtest is given: its settings, and bars, dividends and detections checked and laid out as arrays.

Elsewhere: what a fill costs (costs.py), which positions are taken (engine.py), equity and ratios (metrics.py).

Every price in here is in the *continuous* basis: the price as traded times the split factor of its bar, as if no
split had ever happened. The factor of a bar counts the splits up to that bar only, so a later split changes nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tickstock_assets.domain.errors import ConfigError, ContractError

type Floats = NDArray[np.float64]
type Ints = NDArray[np.intp]
type Instants = NDArray[np.datetime64]

PRICES = ("open", "high", "low", "close", "split_factor")
BAR_COLUMNS = ("symbol", "date", "timestamp", "session_close", *PRICES)
DIVIDEND_COLUMNS = ("symbol", "ex_dividend_date", "cash_amount")
DETECTION_COLUMNS = ("symbol", "timestamp", "pattern", "variant", "direction", "known_at", "stop_loss")
SIDES = {"bullish": 1.0, "bearish": -1.0}


@dataclass(frozen=True)
class BacktestConfig:
    """The terms on which every strategy of a run trades.

    Attributes:
        capital: what each strategy starts with, in currency.
        holding_bars: after how many bars, the entry bar being the first, a position is left at the close.
        commission_bps, slippage_bps: of each fill's value, in basis points.
        risk_free_rate: per year, as a fraction.
        periods_per_year: sessions in a year, to bring ratios of one session to a year.

    Raises:
        ConfigError: a value is out of its range.
    """

    capital: float = 100_000.0
    holding_bars: int = 5
    commission_bps: float = 1.0
    slippage_bps: float = 2.0
    risk_free_rate: float = 0.02
    periods_per_year: int = 252

    def __post_init__(self) -> None:
        """Refuse values no backtest can mean."""
        wanted = {
            "capital": ("a finite amount above 0", math.isfinite(self.capital) and self.capital > 0),
            "holding_bars": (
                "a whole number of at least 1",
                self.holding_bars == max(1, math.floor(self.holding_bars)),
            ),
            "commission_bps": ("0 or more and less than 10000", 0 <= self.commission_bps < 10_000),
            "slippage_bps": ("0 or more and less than 10000", 0 <= self.slippage_bps < 10_000),
            "risk_free_rate": ("a fraction between -1 and 1", -1 < self.risk_free_rate < 1),
            "periods_per_year": ("at least 1", self.periods_per_year >= 1),
        }
        for name, (expected, met) in wanted.items():
            if not met:
                raise ConfigError(f"{name}: expected {expected}, found {getattr(self, name)}")

    @property
    def commission_rate(self) -> float:
        """Commission as a fraction of a fill's value."""
        return self.commission_bps / 10_000

    @property
    def slippage_rate(self) -> float:
        """Slippage as a fraction of the quoted price."""
        return self.slippage_bps / 10_000


@dataclass(frozen=True)
class Market:
    """The bars of all symbols laid end to end, a symbol's bars oldest first.

    Attributes:
        symbols: names, in the order of the bars; a symbol is known by its place here.
        sessions: the union of all symbols' session dates, ascending. Exchanges that open at different hours share them.
        session_start: of each session, the first timestamp of its bars, UTC.
        instants: the union of all symbols' timestamps, ascending, UTC.
        first_bar, last_bar: of each symbol, shape (n_symbols,), as places in the arrays below.
        symbol, session, instant: of each bar, shape (n_bars,), as places in `symbols`, `sessions` and `instants`.
        timestamp, session_close: of each bar, UTC.
        open, high, low, close: per continuous share. split_factor: continuous shares' price over traded shares' price.
        paid: dividends per continuous share summed up to and including each bar; only differences within a symbol
            mean anything.
    """

    symbols: pd.Index
    sessions: pd.DatetimeIndex
    session_start: pd.DatetimeIndex
    instants: pd.DatetimeIndex
    first_bar: Ints
    last_bar: Ints
    symbol: Ints
    session: Ints
    instant: Ints
    timestamp: pd.DatetimeIndex
    session_close: pd.DatetimeIndex
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    split_factor: Floats
    paid: Floats

    def bar_at_or_after(self, symbol: Ints, instant: Instants) -> Ints:
        """Return each symbol's first bar stamped at or after its instant, or -1 where it has none."""
        return self._first_from(symbol, self.instant, np.searchsorted(_naive(self.instants), instant))

    def bar_on_or_after(self, symbol: Ints, day: Instants) -> Ints:
        """Return each symbol's first bar whose session is on or after its day, or -1 where it has none."""
        return self._first_from(symbol, self.session, np.searchsorted(_naive(self.sessions), day))

    def _first_from(self, symbol: Ints, place_of_bar: Ints, place: Ints) -> Ints:
        # Bars ascend by (symbol, place), so one number per pair finds all of them in a single search.
        width = len(self.instants) + 1
        bar = np.searchsorted(self.symbol * width + place_of_bar, symbol * width + place)
        return np.where(bar <= self.last_bar[symbol], bar, -1)


def lay_out_market(bars: pd.DataFrame, dividends: pd.DataFrame) -> Market:
    """Check bars and dividends, and lay them out as arrays.

    Args:
        bars: BAR_COLUMNS, sorted by symbol and timestamp, prices continuous. A bar's date is that of its session, which
            may open on the day before in UTC.
        dividends: DIVIDEND_COLUMNS, cash per share in the ex-date's own basis. Several on one date add up; one whose
            date has no bar belongs to the symbol's next bar; those of symbols without bars are left aside.

    Raises:
        ContractError: a column is missing or empty, an instant has no time zone, a price is not positive, or bars are
            absent, repeated or out of order.
    """
    _require(bars, "bars", BAR_COLUMNS)
    if bars.empty:
        raise ContractError("bars: expected at least one row, found none")
    timestamp = _instants(bars, "bars", "timestamp")
    symbol, symbols = pd.factorize(bars["symbol"].astype(object))
    dates = pd.DatetimeIndex(pd.to_datetime(bars["date"]))
    instants, instant = np.unique(_naive(timestamp), return_inverse=True)
    sessions, session = np.unique(_naive(dates), return_inverse=True)
    columns = {name: bars[name].to_numpy(np.float64) for name in PRICES}
    for place, n_places in ((instant, len(instants)), (session, len(sessions))):
        _refuse_disorder(bars, symbol * n_places + place)
    _refuse_unpriced(bars, columns)
    starts = np.flatnonzero(np.diff(symbol, prepend=-1))
    market = Market(
        symbols=pd.Index(symbols.tolist()),
        sessions=pd.DatetimeIndex(sessions).as_unit(dates.unit),
        session_start=pd.DatetimeIndex(pd.Series(timestamp).groupby(session).min()),
        instants=pd.DatetimeIndex(instants).tz_localize("UTC").as_unit(timestamp.unit),
        first_bar=starts,
        last_bar=np.append(starts[1:], len(bars)) - 1,
        symbol=symbol,
        session=session,
        instant=instant,
        timestamp=timestamp,
        session_close=_instants(bars, "bars", "session_close"),
        paid=np.zeros(len(bars)),
        **columns,
    )
    market.paid[:] = _dividends_paid(market, dividends)
    return market


def has_own_bar(detections: pd.DataFrame, bars: pd.DataFrame) -> "pd.Series[bool]":
    """Return of each detection whether there is a bar of its symbol and timestamp, on which alone it can be traded."""
    key = ["symbol", "timestamp"]
    found = pd.MultiIndex.from_frame(detections[key]).isin(pd.MultiIndex.from_frame(bars[key]))
    return pd.Series(found, index=detections.index)


def lay_out_detections(detections: pd.DataFrame, market: Market) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Check detections and place them on the market.

    Returns:
        One row per detection, in the given order: strategy and symbol (places), side (1 long, -1 short), timestamp,
        entry_bar (first bar stamped at or after known_at, -1 if there is none yet), stop (continuous, NaN for none).
        And the strategies, sorted: pattern, variant.

    Raises:
        ContractError: a column is missing or empty, an instant has no time zone, a direction is unknown, a detection
            has no bar, or one strategy detects twice on a bar.
    """
    _require(detections, "detections", DETECTION_COLUMNS, may_be_empty=("stop_loss",))
    timestamp = _naive(_instants(detections, "detections", "timestamp"))
    known_at = _naive(_instants(detections, "detections", "known_at"))
    symbol = market.symbols.get_indexer(pd.Index(detections["symbol"].astype(object)))
    own_bar = market.bar_at_or_after(symbol, timestamp)
    side = detections["direction"].astype(object).map(SIDES).to_numpy(np.float64)
    labels = detections[["pattern", "variant"]].astype(object)
    strategy = labels.groupby(["pattern", "variant"]).ngroup().to_numpy(np.intp)
    has_bar = (symbol >= 0) & (own_bar >= 0) & (_naive(market.timestamp)[own_bar] == timestamp)
    placed = pd.DataFrame({"strategy": strategy, "symbol": symbol, "side": side, "timestamp": timestamp})
    _refuse_first(detections, np.isnan(side), f"expected a direction out of {', '.join(SIDES)}")
    _refuse_first(detections, ~has_bar, "expected a bar of that symbol and timestamp, found none")
    repeated = placed.duplicated(["strategy", "symbol", "timestamp"]).to_numpy()
    _refuse_first(detections, repeated, "expected one detection of a strategy per bar, found a second")
    placed["entry_bar"] = market.bar_at_or_after(symbol, known_at)
    placed["stop"] = detections["stop_loss"].to_numpy(np.float64) * market.split_factor[own_bar]
    return placed, labels.drop_duplicates().sort_values(["pattern", "variant"], ignore_index=True)


def _dividends_paid(market: Market, dividends: pd.DataFrame) -> Floats:
    _require(dividends, "dividends", DIVIDEND_COLUMNS)
    symbol = market.symbols.get_indexer(pd.Index(dividends["symbol"].astype(object)))
    ex_date = pd.to_datetime(dividends["ex_dividend_date"]).to_numpy("datetime64[ns]")
    cash = dividends["cash_amount"].to_numpy(np.float64)
    ex_bar = market.bar_on_or_after(symbol, ex_date)
    seen = (symbol >= 0) & (ex_bar >= 0)
    ex_bar, cash = ex_bar[seen], cash[seen]
    per_bar = np.bincount(ex_bar, cash * market.split_factor[ex_bar], minlength=len(market.close))
    return np.cumsum(per_bar)


def _require(frame: pd.DataFrame, subject: str, columns: Sequence[str], may_be_empty: Sequence[str] = ()) -> None:
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise ContractError(f"{subject}: expected the columns {', '.join(columns)}; {', '.join(missing)} missing")
    for name in columns:
        if name not in may_be_empty and frame[name].isna().any():
            raise ContractError(f"{subject}: expected {name} in every row, found {frame[name].isna().sum()} without")


def _instants(frame: pd.DataFrame, subject: str, column: str) -> pd.DatetimeIndex:
    if not isinstance(frame[column].dtype, pd.DatetimeTZDtype):
        raise ContractError(f"{subject}: expected {column} with a time zone, found {frame[column].dtype}")
    return pd.DatetimeIndex(frame[column]).tz_convert("UTC")


def _naive(instants: pd.DatetimeIndex) -> Instants:
    return instants.to_numpy("datetime64[ns]")


def _refuse_disorder(bars: pd.DataFrame, place: Ints) -> None:
    wrong = np.flatnonzero(np.diff(place) <= 0)
    if wrong.size:
        symbol, timestamp = bars["symbol"].iloc[wrong[0] + 1], bars["timestamp"].iloc[wrong[0] + 1]
        raise ContractError(f"bars: expected each symbol's bars once and ascending, {symbol} {timestamp} is not")


def _refuse_unpriced(bars: pd.DataFrame, columns: dict[str, Floats]) -> None:
    for name, values in columns.items():
        wrong = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
        if wrong.size:
            symbol, timestamp = bars["symbol"].iloc[wrong[0]], bars["timestamp"].iloc[wrong[0]]
            raise ContractError(f"{symbol} {timestamp}: expected {name} above 0, found {values[wrong[0]]}")


def _refuse_first(detections: pd.DataFrame, wrong: NDArray[np.bool_], expected: str) -> None:
    if wrong.any():
        row = detections.iloc[int(np.argmax(wrong))]
        raise ContractError(f"{row['symbol']} {row['timestamp']} {row['pattern']} {row['direction']}: {expected}")
