"""Two frames in, the report out."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from tickstock_assets.domain.errors import ConfigError, ContractError
from tickstock_assets.domain.reconciliation import causes
from tickstock_assets.domain.reconciliation.basis import Basis, Closes, Record, bases
from tickstock_assets.domain.reconciliation.evidence import Found, borne_out, explanations, model_of
from tickstock_assets.domain.reconciliation.minutes import Scope, in_session, minute_bars, missing_minutes, scope
from tickstock_assets.domain.reconciliation.pairing import (
    Model,
    Pair,
    Provided,
    above,
    paired,
    provided,
    residuals,
    summary,
)
from tickstock_assets.domain.reconciliation.prices import best_hypothesis
from tickstock_assets.domain.reconciliation.report import Reconciliation, Side, UnexplainedBar
from tickstock_assets.domain.reconciliation.volume import best_volume
from tickstock_assets.domain.splits import day_numbers

BARS_SHOWN = 20


def reconcile(
    left: pd.DataFrame,
    right: pd.DataFrame,
    *,
    splits: pd.DataFrame,
    dividends: pd.DataFrame,
    sessions: pd.DataFrame,
    minutes: Mapping[Side, pd.DataFrame] | None = None,
    threshold: float = 1e-6,
    volume_threshold: float = 1e-6,
    bars_shown: int | None = BARS_SHOWN,
) -> Reconciliation:
    """Compare two providers' bars of one symbol and explain how they differ.

    A cause is accepted only when it lowers the residual of what it touches by evidence.MARGIN. Prices and volumes are
    float64 inside; differences below 1e-9 cannot be judged.

    Args:
        left: symbol, date or timestamp (with a time zone), close and, where both have them, open, high, low in
            the currency of the symbol, volume in shares; in any order and in any adjustment basis.
        right: likewise.
        splits: as in `split_factors`; those of other symbols are left aside.
        dividends: as in `dividend_factors`; likewise.
        sessions: session, open and close (UTC) of the exchange, covering the bars.
        minutes: for daily bars, the minute bars of one or both sides as traded: timestamp (with a time zone), open,
            high, low, close, volume. Without them nothing is said of session scope and missing minutes.
        threshold: the relative difference above which a price counts as different; 0 or more.
        volume_threshold: likewise for volume.
        bars_shown: how many of the unexplained bars the report has at most; None for all.

    Raises:
        ConfigError: a threshold is not a number from 0 to below 1.
        ContractError: a frame is empty, lacks a column, has several symbols or two bars of one time; one has dates and
            the other timestamps; a split or a dividend is not positive.
    """
    for name, value in (("threshold", threshold), ("volume_threshold", volume_threshold)):
        if not 0 <= value < 1:
            raise ConfigError(f"{name}: expected a relative difference from 0 to below 1, such as 1e-6, found {value}")
    symbol = _symbol(left, right)
    is_daily = "timestamp" not in left
    if is_daily == ("timestamp" in right):
        raise ContractError(f"{symbol}: expected daily bars or minute bars on both sides, found one of each")
    sides = provided(left, "left"), provided(right, "right")
    pair = paired(*sides, is_daily, threshold, volume_threshold)
    record = Record.of(symbol, splits, dividends)
    minutes = {side: minute_bars(frame, sessions, f"{side} minutes") for side, frame in (minutes or {}).items()}
    found = _causes(pair, sides, record, sessions, minutes) if len(pair.day) else []
    model = model_of(pair, found)
    apart = above(pair, model).any(axis=0)
    only = [np.setdiff1d(one.time, other.time) for one, other in (sides, sides[::-1])]
    return Reconciliation(
        symbol=symbol,
        timeframe="1d" if is_daily else "1m",
        matched=len(pair.day),
        only_left=len(only[0]),
        only_right=len(only[1]),
        only_left_outside_sessions=_outside(sides[0], only[0], sessions, is_daily),
        only_right_outside_sessions=_outside(sides[1], only[1], sessions, is_daily),
        threshold=threshold,
        volume_threshold=volume_threshold,
        before=summary(pair, model_of(pair, [])),
        after=summary(pair, model),
        explanations=explanations(pair, found),
        unexplained=_unexplained(pair, model, bars_shown),
        unexplained_bars=int(np.count_nonzero(apart)),
    )


def _causes(
    pair: Pair,
    sides: tuple[Provided, Provided],
    record: Record,
    sessions: pd.DataFrame,
    minutes: Mapping[Side, pd.DataFrame],
) -> list[Found]:
    """Return the causes that the data bear out, in the order in which they are applied."""
    if not above(pair, model_of(pair, [])).any():
        return []
    scopes = _scopes(pair, minutes) if pair.is_daily else {}
    prices = best_hypothesis(pair, _bases(pair, sides, record, sessions), scopes)
    volume = best_volume(pair, prices, scopes)
    found = [*causes.basis_and_steps(pair, prices, volume), *causes.scopes(pair, prices, volume, scopes)]
    if pair.is_daily and len(minutes) == 2:
        lacking = missing_minutes(pair, minutes["left"], minutes["right"])
        found += causes.missing(pair, found, volume, lacking)
    found += causes.rounding(pair, model_of(pair, found).ratio)
    return borne_out(pair, found)


def _scopes(pair: Pair, minutes: Mapping[Side, pd.DataFrame]) -> dict[Side, Scope]:
    """Return what extended hours make of each side's bars; from its own minutes if those have any, else the other's."""
    known: dict[Side, Scope] = {side: scope(pair, bars) for side, bars in minutes.items()}
    extended = [side for side in known if known[side].extended_minutes.any()]
    if not extended:
        return {}
    sides: tuple[Side, Side] = ("left", "right")
    return {side: known[side if side in extended else extended[0]] for side in sides}


def _bases(pair: Pair, sides: tuple[Provided, Provided], record: Record, sessions: pd.DataFrame) -> list[Basis]:
    """Return the bases to try, one factor a bar."""
    day, of_bar = np.unique(pair.day, return_inverse=True)
    left, right = (_closes(side, sessions, pair.is_daily) for side in sides)
    return [
        replace(
            basis,
            prices=basis.prices[of_bar],
            left_shares=basis.left_shares[of_bar],
            right_shares=basis.right_shares[of_bar],
        )
        for basis in bases(day, left, right, record)
    ]


def _closes(side: Provided, sessions: pd.DataFrame, is_daily: bool) -> Closes:
    """Return a side's daily closes; of minutes the last of regular hours, or of the day where it has none of those."""
    if is_daily:
        return Closes(side.day, side.fields["close"])
    regular = in_session(pd.DatetimeIndex(side.time).tz_localize("UTC"), side.day, sessions)
    order = np.lexsort((side.time, regular, side.day))
    last = np.append(np.flatnonzero(np.diff(side.day[order])), len(order) - 1)
    return Closes(side.day[order][last], side.fields["close"][order][last])


def _symbol(left: pd.DataFrame, right: pd.DataFrame) -> str:
    names: set[str] = set()
    for subject, frame in (("left", left), ("right", right)):
        if frame.empty or "symbol" not in frame:
            raise ContractError(f"{subject}: expected bars of one symbol, found none")
        names |= set(frame["symbol"])
    if len(names) != 1:
        raise ContractError(f"left and right: expected bars of one symbol, found {', '.join(sorted(map(str, names)))}")
    return names.pop()


def _outside(side: Provided, time: npt.NDArray[np.datetime64], sessions: pd.DataFrame, is_daily: bool) -> int:
    """Return how many of the times lie outside regular hours, or on no session's day."""
    at = np.isin(side.time, time)
    if is_daily:
        inside = np.isin(side.day[at], day_numbers(sessions["session"], "sessions.session"))
    else:
        inside = in_session(pd.DatetimeIndex(side.time[at]).tz_localize("UTC"), side.day[at], sessions)
    return int(np.count_nonzero(~inside))


def _unexplained(pair: Pair, model: Model, at_most: int | None) -> tuple[UnexplainedBar, ...]:
    """Return the first bars that stay above a threshold."""
    apart, over = residuals(pair, model), above(pair, model)
    shown = []
    for at in np.flatnonzero(over.any(axis=0))[:at_most].tolist():
        left, right, residual = (
            dict(zip(pair.fields, values[:, at].tolist(), strict=True)) for values in (pair.left, pair.right, apart)
        )
        fields = tuple(name for name, is_over in zip(pair.fields, over[:, at], strict=True) if is_over)
        shown.append(UnexplainedBar(pair.moment(at), fields, left, right, residual))
    return tuple(shown)
