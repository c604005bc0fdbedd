"""Invented minute bars that add up to given daily bars, to the last digit.

For a day whose open, high, low, close and volume are known, a walk through its minutes is made up that starts at the
open, ends at the close, touches the high and the low and trades the volume. The walk depends on symbol and day only:
whoever asks for a week gets the same minutes as whoever asks for the year. Random numbers are a hash of symbol, day and
minute, and only operations that IEEE 754 defines exactly follow, so it is the same on every machine and version of NumPy.

Elsewhere: sessions (sessions.py), who serves or stores the bars (simulator/, providers/).
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tickstock_assets.domain.errors import ContractError

type Floats = npt.NDArray[np.float64]
type Ints = npt.NDArray[np.int64]
type Hashes = npt.NDArray[np.uint64]

COLUMNS = ("timestamp", "date", "open", "high", "low", "close", "volume", "vwap", "trades_count")
# A minute trades when there are that many shares for it; a thinner day has fewer minutes.
SHARES_A_MINUTE = 4
# Beyond it the shares of a day times the weight of a minute do not fit into 64 bits.
MOST_SHARES = 5_000_000_000_000
MOST_DECIMALS = 8
# Standard deviation of a step, which is uniform over 16 bits.
_STEP_DEVIATION = 65536 / 12**0.5
_LANE_BITS = 16


def minute_bars(symbol: str, daily: pd.DataFrame, sessions: pd.DataFrame) -> pd.DataFrame:
    """Return minute bars of one symbol whose aggregate over each session is its daily bar exactly.

    Args:
        symbol: it only chooses the walk.
        daily: date (datetime64, midnight without a zone), open, high, low, close (quote currency per share, positive,
            low <= open, close <= high), volume (shares, not negative, at most 5e12); one row a day, in any order.
        sessions: session (datetime64, midnight without a zone), open, close (UTC), as `trading_sessions` gives them;
            other days than those of `daily` are ignored.

    Returns:
        timestamp (UTC, start of the minute), date, open, high, low, close, volume, vwap, trades_count (float64), in
        order. Prices are on a grid of 0.01, or finer where the day's own prices are. Volumes are whole shares; the
        fraction of a fractional day is in its first bar. A minute without a trade has no bar: a day of fewer than
        four shares a minute has fewer bars, and only a day without volume has one bar with none.

    Raises:
        ContractError: a day is no session or is listed twice, or its bar is not possible.
    """
    days = _Days.of(symbol, daily.sort_values("date", kind="stable"), sessions)
    minute, day, first = _traded_minutes(days)
    # One hash of 64 bits a bar, in lanes of 16: step, weight of the volume, upper and lower shadow.
    noise = _mixed(days.seed[day] + minute.astype(np.uint64))
    bars = _prices(days, day, first, noise) | _volumes(days, minute, day, first, _lane(noise, 1))
    middle = (bars["open"] + bars["high"] + bars["low"] + bars["close"]) / 4
    finer = days.scale[day] * 100
    vwap = np.clip(np.rint(middle * finer) / finer, bars["low"], bars["high"])
    return pd.DataFrame(
        {
            "timestamp": ((days.open_minute[day] + minute) * 60_000_000).view("datetime64[us]"),
            "date": days.date[day],
            **bars,
            "vwap": vwap,
        }
    )[list(COLUMNS)].assign(timestamp=lambda frame: frame["timestamp"].dt.tz_localize("UTC"))


@dataclass(frozen=True)
class _Days:
    """The daily bars as arrays of shape (n_days,), with what follows from them."""

    date: npt.NDArray[np.datetime64]
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    # Minutes since 1970 of the session's open; its length in minutes; how many of them trade.
    open_minute: Ints
    minutes: Ints
    bars: Ints
    # One over the price grid: 100 for cents.
    scale: Floats
    seed: Hashes

    @classmethod
    def of(cls, symbol: str, daily: pd.DataFrame, sessions: pd.DataFrame) -> "_Days":
        prices = {name: daily[name].to_numpy(np.float64) for name in ("open", "high", "low", "close")}
        volume = daily["volume"].to_numpy(np.float64)
        date = daily["date"].to_numpy().astype("datetime64[us]")
        _refuse_impossible(symbol, date, prices, volume)
        at = pd.DatetimeIndex(sessions["session"]).get_indexer(pd.DatetimeIndex(date))
        if (at < 0).any():
            day = np.datetime_as_string(date[int(np.argmax(at < 0))], "D")
            raise ContractError(f"{symbol} {day}: expected a session to make minutes for, found none in the calendar")
        opens, closes = (_minute_number(sessions[name])[at] for name in ("open", "close"))
        day_number = date.astype("datetime64[D]").astype(np.int64).astype(np.uint64)
        return cls(
            date=date,
            **prices,
            volume=volume,
            open_minute=opens,
            minutes=closes - opens,
            bars=np.clip(np.floor(volume).astype(np.int64) // SHARES_A_MINUTE, 1, closes - opens),
            scale=_price_scale(prices),
            seed=_mixed(_mixed(day_number) ^ _symbol_seed(symbol)),
        )


def _refuse_impossible(
    symbol: str, date: npt.NDArray[np.datetime64], prices: dict[str, Floats], volume: Floats
) -> None:
    """Raise when a day comes twice or a bar breaks low <= open, close <= high, 0 < low, 0 <= volume."""
    twice = np.flatnonzero(date[1:] == date[:-1])
    if len(twice):
        raise ContractError(f"{symbol} {np.datetime_as_string(date[twice[0]], 'D')}: expected one bar a day, found two")
    low, high = prices["low"], prices["high"]
    fine = (low > 0) & (low <= high) & np.isfinite(high) & (volume >= 0) & (volume <= MOST_SHARES)
    for name in ("open", "close"):
        fine &= (low <= prices[name]) & (prices[name] <= high)
    if not fine.all():
        wrong = int(np.argmin(fine))
        found = ", ".join(f"{name} {values[wrong]:g}" for name, values in {**prices, "volume": volume}.items())
        raise ContractError(
            f"{symbol} {np.datetime_as_string(date[wrong], 'D')}: expected 0 < low <= open, close <= high and "
            f"a volume from 0 to {MOST_SHARES:g}, found {found}"
        )


def _minute_number(moments: "pd.Series[Any]") -> Ints:
    minutes: Ints = (
        moments.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy().astype("datetime64[m]").astype(np.int64)
    )
    return minutes


def _price_scale(prices: dict[str, Floats]) -> Floats:
    """Return for each day the lowest power of ten, 100 or more, on whose grid all its prices lie."""
    scale = np.full(len(prices["open"]), 10.0**MOST_DECIMALS)
    for decimals in range(MOST_DECIMALS - 1, 1, -1):
        power = 10.0**decimals
        on_grid = [np.rint(values * power) / power == values for values in prices.values()]
        scale = np.where(np.logical_and.reduce(on_grid), power, scale)
    return scale


def _traded_minutes(days: _Days) -> tuple[Ints, Ints, Ints]:
    """Return for each bar its minute within the session and its day's index, and for each day its first bar's index."""
    day = np.repeat(np.arange(len(days.bars)), days.bars)
    first = np.concatenate([[0], np.cumsum(days.bars)[:-1]]).astype(np.int64)
    minute = np.arange(len(day)) - first[day]
    thin = np.flatnonzero(days.bars < days.minutes)
    for index in thin:
        # Rare in real markets. The minutes with the lowest hashes trade.
        lottery = _mixed(~days.seed[index] + np.arange(days.minutes[index], dtype=np.uint64))
        drawn = np.argsort(lottery, kind="stable")[: days.bars[index]]
        minute[first[index] : first[index] + days.bars[index]] = np.sort(drawn)
    return minute, day, first


def _prices(days: _Days, day: Ints, first: Ints, noise: Hashes) -> dict[str, Floats]:
    """Return open, high, low and close of each bar."""
    if not len(day):
        return {name: np.empty(0) for name in ("open", "high", "low", "close")}
    last = first + days.bars - 1
    low, high, scale = days.low[day], days.high[day], days.scale[day]
    walk = _walk(days, day, first, _lane(noise, 0))
    highest, lowest = _first_where(walk, np.maximum, day, first), _first_where(walk, np.minimum, day, first)
    close = np.clip(np.rint(_folded(walk, days, day, first) * scale) / scale, low, high)
    close[last] = days.close
    open_ = np.roll(close, 1)
    open_[first] = days.open
    shadow = (high - low) * (0.03 / 2**_LANE_BITS)
    top, bottom = np.maximum(open_, close), np.minimum(open_, close)
    bar_high = np.clip(np.rint((top + shadow * _lane(noise, 2)) * scale) / scale, top, high)
    bar_low = np.clip(np.rint((bottom - shadow * _lane(noise, 3)) * scale) / scale, low, bottom)
    bar_high[highest], bar_low[lowest] = days.high, days.low
    return {"open": open_, "high": bar_high, "low": bar_low, "close": close}


def _walk(days: _Days, day: Ints, first: Ints, lane: Ints) -> Floats:
    """Return a random walk of closes from the day's open to its close (a bridge), not yet within high and low."""
    step = lane - 2 ** (_LANE_BITS - 1)
    total = np.cumsum(step)
    walked = total - (total[first] - step[first])[day]
    done = (np.arange(len(day)) - first[day] + 1) / days.bars[day]
    # Bars of wide ranges wander wider.
    unit = (days.high - days.low) / (_STEP_DEVIATION * np.sqrt(days.bars.astype(np.float64)))
    at_the_end = walked[first + days.bars - 1][day]
    drift = days.open[day] + (days.close - days.open)[day] * done
    walk: Floats = drift + unit[day] * (walked - at_the_end * done)
    return walk


def _folded(walk: Floats, days: _Days, day: Ints, first: Ints) -> Floats:
    """Return the walk with its parts above and below open and close stretched so that they just reach high and low."""
    upper, lower = np.maximum(days.open, days.close), np.minimum(days.open, days.close)
    above = np.maximum.reduceat(walk, first) - upper
    below = lower - np.minimum.reduceat(walk, first)
    stretch_up = np.divide(days.high - upper, above, out=np.zeros_like(above), where=above > 0)[day]
    stretch_down = np.divide(lower - days.low, below, out=np.zeros_like(below), where=below > 0)[day]
    up = upper[day] + (walk - upper[day]) * stretch_up
    down = lower[day] - (lower[day] - walk) * stretch_down
    folded: Floats = np.where(walk > upper[day], up, np.where(walk < lower[day], down, walk))
    return folded


def _first_where(walk: Floats, extreme: np.ufunc, day: Ints, first: Ints) -> Ints:
    """Return for each day the index of the first bar whose close is the day's highest or lowest."""
    is_extreme = walk == extreme.reduceat(walk, first)[day]
    found: Ints = np.minimum.reduceat(np.where(is_extreme, np.arange(len(walk)), len(walk)), first)
    return found


def _volumes(days: _Days, minute: Ints, day: Ints, first: Ints, lane: Ints) -> dict[str, Floats]:
    """Return volume and trades_count of each bar: one share each, the rest by weights, heavier near open and close."""
    if not len(day):
        return {"volume": np.empty(0), "trades_count": np.empty(0)}
    whole = np.floor(days.volume).astype(np.int64)
    length = days.minutes[day] - 1
    from_noon = np.abs(2 * minute - length)
    weight = (16 + 48 * from_noon * from_noon // (length * length + 1)) * (1 + (lane >> 10))
    total = np.cumsum(weight)
    so_far = total - (total[first] - weight[first])[day]
    rest = np.maximum(whole - days.bars, 0)
    shares_so_far = rest[day] * so_far // so_far[first + days.bars - 1][day]
    shares = 1 + np.diff(shares_so_far, prepend=0)
    shares[first] = 1 + shares_so_far[first]
    volume = shares.astype(np.float64)
    # Exact: all terms are multiples of the last place of the day's volume.
    volume[first] = days.volume - (np.maximum(whole, days.bars) - shares[first])
    volume[first] = np.where(whole < 1, days.volume, volume[first])
    trades = 1 + (shares - 1) // (64 + (lane & 127))
    return {"volume": volume, "trades_count": np.where(volume > 0, trades, 0).astype(np.float64)}


def _symbol_seed(symbol: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(symbol.encode(), digest_size=8).digest(), "little"))


def _lane(noise: Hashes, number: int) -> Ints:
    """Return one of the four 16-bit numbers in each hash."""
    return (noise >> np.uint64(_LANE_BITS * number) & np.uint64(2**_LANE_BITS - 1)).astype(np.int64)


def _mixed(counter: Hashes) -> Hashes:
    """Return a well-mixed hash of each 64-bit counter.

    Source:
        S. Vigna's splitmix64, after G. Steele, D. Lea and C. Flood, Fast splittable pseudorandom number generators, 2014.
    """
    mixed = (counter + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
