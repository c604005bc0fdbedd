"""Two frames of one symbol, put side by side; how far they are apart under a model of why."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from tickstock_assets.domain.errors import ContractError
from tickstock_assets.domain.reconciliation.report import Residual
from tickstock_assets.domain.reconciliation.rounding import Grid, rounded_difference
from tickstock_assets.domain.splits import Floats, Ints, day_numbers

type Mask = npt.NDArray[np.bool_]

PRICES = ("open", "high", "low", "close")
EXCHANGE_ZONE = "America/New_York"


@dataclass(frozen=True)
class Provided:
    """One provider's bars: time (datetime64, UTC for minutes), day number at the exchange, fields by name."""

    time: npt.NDArray[np.datetime64]
    day: Ints
    fields: Mapping[str, Floats]


@dataclass(frozen=True)
class Pair:
    """The bars that both sides have, oldest first.

    Attributes:
        fields: the n_fields names both sides have, prices before volume.
        time: datetime64, shape (n_bars,); day: day numbers at the exchange, same shape.
        left, right: float64, shape (n_fields, n_bars).
        thresholds: float64, shape (n_fields, 1), relative.
    """

    fields: tuple[str, ...]
    is_daily: bool
    time: npt.NDArray[np.datetime64]
    day: Ints
    left: Floats
    right: Floats
    thresholds: Floats

    @property
    def prices(self) -> slice:
        """The rows that are prices."""
        return slice(0, len(self.fields) - self.has_volume)

    @property
    def volume(self) -> slice:
        """The row that is volume; no row where there is none."""
        return slice(len(self.fields) - self.has_volume, len(self.fields))

    @property
    def has_volume(self) -> bool:
        """Say whether both sides have a volume."""
        return self.fields[-1] == "volume"

    def moment(self, position: int) -> date | datetime:
        """Return the date of a daily bar, the moment in UTC of another."""
        stamp = pd.Timestamp(self.time[position])
        return stamp.date() if self.is_daily else stamp.tz_localize("UTC").to_pydatetime()


@dataclass(frozen=True)
class Model:
    """Why two sides differ: left is right times `ratio`, shape (n_fields, n_bars), then perhaps rounded."""

    ratio: Floats
    price_grid: Grid | None = None
    volume_grid: Grid | None = None

    def times(self, factor: Floats) -> Self:
        """Return the model with its ratio multiplied."""
        return replace(self, ratio=self.ratio * factor)


def residuals(pair: Pair, model: Model) -> Floats:
    """Return how far the sides are apart under a model, shape (n_fields, n_bars), relative; 1 where a value is missing."""
    apart = np.empty_like(pair.left)
    for rows, grid in ((pair.prices, model.price_grid), (pair.volume, model.volume_grid)):
        left, right, ratio = pair.left[rows], pair.right[rows], model.ratio[rows]
        apart[rows] = rounded_difference(left, right, ratio, grid)
    return apart


def above(pair: Pair, model: Model) -> Mask:
    """Return which values are above their threshold under a model."""
    found: Mask = residuals(pair, model) > pair.thresholds
    return found


def summary(pair: Pair, model: Model) -> dict[str, Residual]:
    """Return the residual of every field under a model."""
    apart = residuals(pair, model)
    if apart.shape[1] == 0:
        return dict.fromkeys(pair.fields, Residual(0.0, 0.0, 0.0, 0.0))
    median, p99, most = np.median(apart, axis=1), np.quantile(apart, 0.99, axis=1), apart.max(axis=1)
    share = (apart > pair.thresholds).mean(axis=1)
    return {
        name: Residual(float(median[row]), float(p99[row]), float(most[row]), float(share[row]))
        for row, name in enumerate(pair.fields)
    }


def provided(frame: pd.DataFrame, subject: str) -> Provided:
    """Return a frame's bars, oldest first.

    Raises:
        ContractError: it has neither date nor timestamp, no close, or two bars of one time; a timestamp has no zone.
    """
    key = "timestamp" if "timestamp" in frame else "date"
    lacking = [name for name in ("symbol", key, "close") if name not in frame]
    if lacking:
        raise ContractError(
            f"{subject}: expected symbol, date or timestamp, close, found no {' and no '.join(lacking)}"
        )
    if key == "timestamp":
        time, day = _moments(frame[key], subject)
    else:
        day = day_numbers(frame[key], f"{subject}.date")
        time = day.astype("datetime64[D]").astype("datetime64[us]")
    order = np.argsort(time, kind="stable")
    time, day = time[order], day[order]
    twice = np.flatnonzero(time[1:] == time[:-1])
    if len(twice):
        raise ContractError(f"{subject}: expected one bar a time, found two at {time[int(twice[0])]}")
    names = [name for name in (*PRICES, "volume") if name in frame]
    return Provided(time, day, {name: frame[name].to_numpy(np.float64)[order] for name in names})


def _moments(column: "pd.Series[Any]", subject: str) -> tuple[npt.NDArray[np.datetime64], Ints]:
    """Return the moments in UTC, and the day numbers at the exchange."""
    moments = pd.DatetimeIndex(column)
    if moments.tz is None:
        raise ContractError(f"{subject}.timestamp: expected moments with a time zone, found none")
    local = moments.tz_convert(EXCHANGE_ZONE).tz_localize(None)
    return moments.tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[us]"), day_numbers(
        local.to_numpy(), subject
    )


def paired(left: Provided, right: Provided, is_daily: bool, threshold: float, volume_threshold: float) -> Pair:
    """Return the bars of one time on both sides."""
    time, at_left, at_right = np.intersect1d(left.time, right.time, assume_unique=True, return_indices=True)
    fields = tuple(name for name in (*PRICES, "volume") if name in left.fields and name in right.fields)
    thresholds = [[volume_threshold if name == "volume" else threshold] for name in fields]
    return Pair(
        fields,
        is_daily,
        time,
        left.day[at_left],
        np.stack([left.fields[name][at_left] for name in fields]),
        np.stack([right.fields[name][at_right] for name in fields]),
        np.array(thresholds),
    )
