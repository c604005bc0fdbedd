"""Bars in no vendor's format: parallel arrays of one ticker, cheap to cut into windows and to encode once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

type Floats = npt.NDArray[np.float64]
type Ints = npt.NDArray[np.int64]
type Row = dict[str, Any]

NEW_YORK = "America/New_York"
PRICES = ("open", "high", "low", "close")
VALUES = (*PRICES, "volume", "vwap", "trades_count")
MILLISECONDS_A_DAY = 86_400_000


def midnights(days: "Sequence[date] | pd.Series[Any]") -> Ints:
    """Return midnight in New York of each day, in Unix milliseconds."""
    moments = pd.DatetimeIndex(pd.Series(days)).tz_localize(NEW_YORK)
    return cast(Ints, moments.as_unit("ms").asi8)


@lru_cache(maxsize=20_000)
def midnight(day: date) -> int:
    """Return midnight in New York of a day, in Unix milliseconds."""
    return int(midnights([day])[0])


@dataclass(frozen=True, eq=False)
class Bars:
    """Bars of one ticker, oldest first.

    Attributes:
        symbol: whose.
        start_ms: start of each bar in Unix milliseconds, shape (n_bars,); of a daily bar midnight in New York.
        columns: open, high, low, close, volume, vwap, trades_count: float64, shape (n_bars,).
        encodings: what vendors' encoders keep of it.
    """

    symbol: str
    start_ms: Ints
    columns: dict[str, Floats]
    encodings: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.start_ms)

    def positions(self, first_ms: int, last_ms: int) -> tuple[int, int]:
        """Return which bars, as a slice, start from one moment to another, both included."""
        first, after = np.searchsorted(self.start_ms, [first_ms, last_ms + 1])
        return int(first), int(after)

    def cut(self, first: int, after: int) -> "Bars":
        """Return the bars of a slice."""
        return Bars(self.symbol, self.start_ms[first:after], {k: v[first:after] for k, v in self.columns.items()})

    def encoding(self, name: str, encode: Callable[["Bars"], Any]) -> Any:
        """Return what an encoder makes of these bars, made once."""
        if name not in self.encodings:
            self.encodings[name] = encode(self)
        return self.encodings[name]

    def rows(self) -> list[Row]:
        """Return a dictionary for each bar: symbol, start_ms and the columns."""
        values = [column.tolist() for column in self.columns.values()]
        return [
            {"symbol": self.symbol, "start_ms": start, **dict(zip(self.columns, row, strict=True))}
            for start, *row in zip(self.start_ms.tolist(), *values, strict=True)
        ]

    def moments(self) -> pd.DatetimeIndex:
        """Return the start of each bar, UTC."""
        return pd.DatetimeIndex(self.start_ms.astype("datetime64[ms]").astype("datetime64[us]")).tz_localize("UTC")

    def days(self) -> pd.DatetimeIndex:
        """Return the day in New York of each bar, as midnight without a zone."""
        return self.moments().tz_convert(NEW_YORK).tz_localize(None).normalize()

    @classmethod
    def from_rows(cls, symbol: str, rows: Sequence[Row]) -> "Bars":
        """Return bars from dictionaries, in their order."""
        start_ms = np.array([row["start_ms"] for row in rows], np.int64)
        return cls(symbol, start_ms, {name: np.array([row[name] for row in rows], np.float64) for name in VALUES})

    @classmethod
    def joined(cls, symbol: str, parts: Sequence["Bars"]) -> "Bars":
        """Return the bars of several parts, one after another."""
        if len(parts) == 1:
            return parts[0]
        start_ms = np.concatenate([np.empty(0, np.int64), *(part.start_ms for part in parts)])
        values = {name: np.concatenate([np.empty(0), *(part.columns[name] for part in parts)]) for name in VALUES}
        return cls(symbol, start_ms, values)
