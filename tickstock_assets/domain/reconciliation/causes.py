"""The causes behind a hypothesis, in words and numbers, in the order in which they are applied."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from tickstock_assets.domain.reconciliation.evidence import Found, model_of
from tickstock_assets.domain.reconciliation.levels import Step
from tickstock_assets.domain.reconciliation.minutes import MissingMinutes, Scope
from tickstock_assets.domain.reconciliation.pairing import Model, Pair, above
from tickstock_assets.domain.reconciliation.prices import PriceHypothesis, WideSide
from tickstock_assets.domain.reconciliation.report import Cause, Side
from tickstock_assets.domain.reconciliation.rounding import PRICE_UNITS, VOLUME_UNITS, Grid, fit_grid, ties
from tickstock_assets.domain.reconciliation.volume import VolumeHypothesis
from tickstock_assets.domain.splits import Floats


def basis_and_steps(pair: Pair, prices: PriceHypothesis, volume: VolumeHypothesis) -> list[Found]:
    """Return the adjustment basis and the suspected events, oldest first."""
    found = [] if prices.basis.is_none else [_basis(pair, prices, volume)]
    return found + [_step(pair, step, volume) for step in prices.steps]


def scopes(pair: Pair, prices: PriceHypothesis, volume: VolumeHypothesis, known: Mapping[Side, Scope]) -> list[Found]:
    """Return the sides whose bars hold extended hours."""
    fields: dict[Side, tuple[str, ...]] = {}
    for wide in (prices.wide, volume.wide):
        if wide:
            fields[wide.side] = fields.get(wide.side, ()) + wide.fields
    found = []
    for side, names in fields.items():
        sentence = (
            f"{side.capitalize()}'s {', '.join(names)} hold trades outside regular hours, the other side's do not"
        )
        evidence = {"side": side, "fields": names, "extended_minutes": int(known[side].extended_minutes.sum())}
        ratio = WideSide(side, names).ratio(pair, known)
        found.append(Found("session_scope", sentence, evidence, ratio=ratio))
    return found


def missing(pair: Pair, found: Sequence[Found], volume: VolumeHypothesis, minutes: MissingMinutes) -> list[Found]:
    """Return the missing minutes of the bars which those bring within the thresholds in every field."""
    model = model_of(pair, found)
    ratio = minutes.prices.copy()
    if pair.has_volume:
        # Shares are missing from a volume of regular hours; what widens left's comes after that.
        narrow = [cause for cause in found if (cause.cause, cause.evidence.get("side")) != ("session_scope", "left")]
        expected = (pair.right * model_of(pair, narrow).ratio)[-1] * volume.left_shares
        shares = np.divide(minutes.shares, expected, out=np.zeros_like(expected), where=expected > 0)
        # More than all of a day's volume cannot be missing.
        ratio[-1] = np.where(shares > -1, 1 + shares, 1.0)
    without = Model(model.ratio, *grids(pair, model.ratio * ratio))
    accounted = above(pair, without).any(axis=0) & ~above(pair, without.times(ratio)).any(axis=0)
    accounted &= (minutes.left > 0) | (minutes.right > 0)
    if not accounted.any():
        return []
    lacking = {side: int(at[accounted].sum()) for side, at in (("left", minutes.left), ("right", minutes.right))}
    evidence = {
        "sessions": int(np.count_nonzero(accounted)),
        "sessions_with_missing_minutes": int(np.count_nonzero((minutes.left > 0) | (minutes.right > 0))),
        "minutes_missing_left": lacking["left"],
        "minutes_missing_right": lacking["right"],
    }
    sentence = (
        f"In {evidence['sessions']} sessions the difference is what {lacking['left']} minutes that left lacks and "
        f"{lacking['right']} that right lacks hold"
    )
    return [Found("missing_minutes", sentence, evidence, ratio=np.where(accounted, ratio, 1.0))]


def grids(pair: Pair, ratio: Floats) -> tuple[Grid | None, Grid | None]:
    """Return the rounding of prices and of volume that a ratio leaves."""
    price, volume = (
        fit_grid(pair.left[rows], pair.right[rows], ratio[rows], pair.thresholds[rows], units)
        if len(pair.fields[rows])
        else None
        for rows, units in ((pair.prices, PRICE_UNITS), (pair.volume, VOLUME_UNITS))
    )
    return price, volume


def rounding(pair: Pair, ratio: Floats) -> list[Found]:
    """Return the roundings that a ratio leaves, prices before volume."""
    price, volume = grids(pair, ratio)
    found = []
    if price:
        rule, evidence = _rule(pair, ratio, pair.prices, price)
        sentence = (
            f"{price.side.capitalize()}'s prices are the other side's rounded to {price.decimals} decimals, {rule}"
        )
        found.append(Found("price_rounding", sentence, {**evidence, "decimals": price.decimals}, grid=price))
    if volume:
        rule, evidence = _rule(pair, ratio, pair.volume, volume)
        unit = "whole shares" if volume.unit == 1 else f"lots of {volume.unit:g}"
        sentence = f"{volume.side.capitalize()}'s volume is the other side's in {unit}, {rule}"
        found.append(Found("fractional_volume", sentence, {**evidence, "unit": volume.unit}, grid=volume))
    return found


def _rule(pair: Pair, ratio: Floats, rows: slice, grid: Grid) -> tuple[str, dict[str, object]]:
    """Return the rule of rounding in words, and the evidence for it."""
    at = ties(pair.left[rows], pair.right[rows], ratio[rows], grid)
    rule = "truncated" if grid.truncated else at.rule()
    return rule, {"side": grid.side, "rule": rule, "ties": at.count, "ties_up": at.up, "ties_to_even": at.even}


def _basis(pair: Pair, prices: PriceHypothesis, volume: VolumeHypothesis) -> Found:
    basis = prices.basis
    ratio = np.broadcast_to(basis.prices, pair.left.shape).copy()
    ratio[pair.volume] = volume.right_shares / volume.left_shares
    evidence = {
        "left": basis.left.kind,
        "left_as_of": _iso(basis.left.as_of),
        "right": basis.right.kind,
        "right_as_of": _iso(basis.right.as_of),
        "volume_follows_splits": volume.follows_prices,
        "cost_in_bars": prices.cost,
        "next_best": prices.rival,
        "next_best_cost_in_bars": prices.rival_cost,
    }
    sentence = f"Left is {basis.left}, right is {basis.right}"
    if not volume.follows_prices and pair.has_volume:
        sentence += "; volume is not adjusted for the splits the prices are adjusted for"
    return Found("adjustment_basis", sentence, evidence, ratio=ratio)


def _step(pair: Pair, step: Step, volume: VolumeHypothesis) -> Found:
    """Return a suspected event; the side whose own close jumps there is the one that is not adjusted for it."""
    end = len(pair.day) if step.position is None else step.position
    ratio = np.ones_like(pair.left)
    ratio[pair.prices, :end] = step.ratio
    if volume.with_steps:
        ratio[pair.volume, :end] = 1 / step.ratio
    cause: Cause = "suspected_unrecorded_split" if step.fraction else "suspected_unrecorded_adjustment"
    evidence: dict[str, object] = {"ratio": step.ratio, "bars_before": end}
    what = "dividend or other adjustment"
    if step.fraction:
        larger = max(step.fraction, 1 / step.fraction)
        evidence |= {"shares": larger.numerator, "for_shares": larger.denominator}
        what = f"split in the ratio of {larger.numerator} to {larger.denominator}"
    if step.position is None:
        evidence["date"] = None
        sentence = f"Up to the last bar left is {step.ratio:.6g} times right: a {what} after it that is not recorded"
        return Found(cause, sentence, evidence, ratio=ratio)
    close = pair.fields.index("close")
    jumps = {
        side: float(at[close, end - 1] / at[close, end]) for side, at in (("left", pair.left), ("right", pair.right))
    }
    day = np.datetime64(int(pair.day[end]), "D")
    evidence |= {"date": str(day), "close_before_over_after_left": jumps["left"]}
    evidence["close_before_over_after_right"] = jumps["right"]
    sentence = f"Before {day} left / right is {step.ratio:.6g} times what it is from then on: a {what} is not recorded"
    return Found(cause, sentence, evidence, ratio=ratio)


def _iso(day: int | None) -> str | None:
    return None if day is None else pd.Timestamp(np.datetime64(day, "D")).date().isoformat()
