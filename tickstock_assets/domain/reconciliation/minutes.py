"""What minute bars say about daily ones: extended hours that are in them, minutes that are not.

Minute bars are taken as traded, whatever basis the daily bars are in: only their ratios and sums are used.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tickstock_assets.domain.errors import ContractError
from tickstock_assets.domain.reconciliation.pairing import EXCHANGE_ZONE, Pair
from tickstock_assets.domain.reconciliation.rounding import relative_difference
from tickstock_assets.domain.splits import Floats, Ints, day_numbers

type Mask = npt.NDArray[np.bool_]

_RULES = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}


@dataclass(frozen=True)
class Scope:
    """Two bars of each day, from one side's minutes.

    Attributes:
        widening: all hours / regular session, shape (n_fields, n_bars); 1 where that is not known.
        extended_minutes: minute bars outside regular hours, shape (n_bars,).
    """

    widening: Floats
    extended_minutes: Ints


@dataclass(frozen=True)
class MissingMinutes:
    """What a daily bar lacks when its side lacks minutes.

    Attributes:
        prices: left / right that follows, shape (n_fields, n_bars); the row of volume is 1.
        shares: what left's volume has more than right's, in shares as traded, shape (n_bars,).
        left, right: minutes that only the other side has, shape (n_bars,).
    """

    prices: Floats
    shares: Floats
    left: Ints
    right: Ints


def minute_bars(frame: pd.DataFrame, sessions: pd.DataFrame, subject: str) -> pd.DataFrame:
    """Return minute bars with their day number at the exchange and is_regular, oldest first.

    Raises:
        ContractError: a column is missing, a timestamp has no zone or stands twice.
    """
    lacking = [name for name in ("timestamp", *_RULES) if name not in frame]
    if lacking:
        raise ContractError(f"{subject}: expected minute bars, found no {' and no '.join(lacking)}")
    moments = pd.DatetimeIndex(frame["timestamp"])
    if moments.tz is None:
        raise ContractError(f"{subject}.timestamp: expected moments with a time zone, found none")
    utc = moments.tz_convert("UTC")
    if utc.has_duplicates:
        raise ContractError(f"{subject}: expected one bar a minute, found two at {utc[utc.duplicated()][0]}")
    day = day_numbers(moments.tz_convert(EXCHANGE_ZONE).tz_localize(None).to_numpy(), subject)
    bars = (
        frame[list(_RULES)].astype("float64").assign(timestamp=utc, day=day, is_regular=in_session(utc, day, sessions))
    )
    return bars.sort_values("timestamp", ignore_index=True)


def in_session(moments: pd.DatetimeIndex, day: Ints, sessions: pd.DataFrame) -> Mask:
    """Return which moments lie from the open of their day's session to before its close."""
    known = pd.Index(day_numbers(sessions["session"], "sessions.session"))
    at = known.get_indexer(pd.Index(day))
    opened, closed = (
        pd.DatetimeIndex(sessions[name]).tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[us]")
        for name in ("open", "close")
    )
    moment = moments.tz_localize(None).to_numpy().astype("datetime64[us]")
    inside: Mask = (at >= 0) & (moment >= opened[at]) & (moment < closed[at]) if len(known) else at >= 0
    return inside


def scope(pair: Pair, minutes: pd.DataFrame) -> Scope:
    """Return what extended hours make of each daily bar."""
    regular = _daily(pair, minutes[minutes["is_regular"]])
    widening = _daily(pair, minutes) / regular
    extended = minutes.loc[~minutes["is_regular"], "day"].value_counts().reindex(pair.day, fill_value=0)
    return Scope(np.where(np.isfinite(widening), widening, 1.0), extended.to_numpy().astype(np.int64))


def missing_minutes(pair: Pair, left: pd.DataFrame, right: pd.DataFrame) -> MissingMinutes:
    """Return what minutes that one side lacks make of each daily bar.

    Minutes of both sides have right's values, so that sides which differ in those are not explained. Extended hours
    count on days on which both sides have some: otherwise they are a matter of scope.
    """
    extended = np.intersect1d(left.loc[~left["is_regular"], "day"], right.loc[~right["is_regular"], "day"])
    held = set(pair.day.tolist()) & set(left["day"]) & set(right["day"])
    counted = [
        side[side["day"].isin(held) & (side["is_regular"] | side["day"].isin(extended))] for side in (left, right)
    ]
    only_left = counted[0][~counted[0]["timestamp"].isin(counted[1]["timestamp"])]
    lacks = ~counted[1]["timestamp"].isin(counted[0]["timestamp"])
    only_right, common = counted[1][lacks], counted[1][~lacks]
    at_left, at_right = (
        _daily(pair, pd.concat([common, own]).sort_values("timestamp")) for own in (only_left, only_right)
    )
    ratio = np.where(np.isfinite(at_left / at_right), at_left / at_right, 1.0)
    ratio[pair.volume] = 1.0
    return MissingMinutes(
        ratio,
        _per_day(pair, only_left.groupby("day")["volume"].sum())
        - _per_day(pair, only_right.groupby("day")["volume"].sum()),
        _per_day(pair, only_right.groupby("day").size()).astype(np.int64),
        _per_day(pair, only_left.groupby("day").size()).astype(np.int64),
    )


def touched(ratio: Floats, thresholds: Floats) -> Mask:
    """Return which values a ratio changes by more than the threshold."""
    found: Mask = relative_difference(ratio, np.ones_like(ratio)) > thresholds
    return found


def _daily(pair: Pair, minutes: pd.DataFrame) -> Floats:
    """Return the daily bars of minutes in order, shape (n_fields, n_bars); NaN without minutes."""
    rolled = minutes.groupby("day").agg({name: _RULES[name] for name in pair.fields}).reindex(pair.day)
    return rolled[list(pair.fields)].to_numpy(np.float64).T


def _per_day(pair: Pair, counted: "pd.Series[Any]") -> Floats:
    return counted.reindex(pair.day, fill_value=0).to_numpy(np.float64)
