"""What a reader may be asked, checked: bars of any length, aligned, filled, with those still forming.

Elsewhere: bars as they are stored (bar_requests.py), how the others are made (resampled_bars.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import get_args

from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.domain.resampling import Align
from tickstock_assets.domain.timeframes import BarLength, Timeframe, bar_length
from tickstock_assets.storage.bar_requests import DEFAULT_COLUMNS, VALUES, BarRequest, aware, bounds, symbol_list

ALIGNS: tuple[Align, ...] = get_args(Align.__value__)
OF_A_SESSION = ("timestamp", "session_close")
# Of bars that are stored as they came there is nothing to count.
NOT_MADE: tuple[Timeframe, ...] = ("1m", "1d")


@dataclass(frozen=True)
class Reading:
    """Bars to read, checked; see `MarketReader.bars` for the meaning of each."""

    symbols: tuple[str, ...] | None
    length: BarLength
    start: date | datetime | None
    end: date | datetime | None
    as_of: datetime | None
    columns: tuple[str, ...]
    align: Align = "utc"
    is_filled: bool = False
    has_forming: bool = False

    @property
    def time_column(self) -> str:
        """What places a bar in time: days and longer have a date, the others the moment of their start."""
        return "timestamp" if self.length.is_intraday else "date"

    @property
    def counts_bars(self) -> bool:
        """Whether it is asked how many bars each is made of."""
        return "bars" in self.columns

    @property
    def stored(self) -> BarRequest | None:
        """Return the request that answers it from what is stored as it is, None where bars have to be made."""
        name = self.length.stored
        has_history = name in NOT_MADE or self.as_of is None
        is_as_stored = self.align == "utc" or not self.length.is_intraday
        if (
            name is None
            or not has_history
            or not is_as_stored
            or self.is_filled
            or self.has_forming
            or self.counts_bars
        ):
            return None
        return BarRequest(self.symbols, name, self.start, self.end, self.as_of, self.columns)


def reading(
    symbols: str | Sequence[str] | None,
    timeframe: str,
    *,
    start: date | datetime | None = None,
    end: date | datetime | None = None,
    as_of: datetime | None = None,
    columns: Sequence[str] | None = None,
    align: str = "utc",
    fill: str | None = None,
    include_forming: bool = False,
) -> Reading:
    """Return what is asked for, every part being what it should be.

    Raises:
        ConfigError: one is not; in one sentence.
    """
    length = bar_length(timeframe)
    first, past_last = bounds(start, end)
    if align not in ALIGNS:
        raise ConfigError(f"align: expected one of {', '.join(ALIGNS)}, found {align!r}")
    if align == "utc" and length.is_intraday and not length.divides_a_day:
        raise ConfigError(
            f"timeframe: expected minutes that divide a day, such as 30m or 4h, found {length}; "
            "with align session, any are counted from the open"
        )
    if fill not in {None, "ffill"}:
        raise ConfigError(f"fill: expected ffill or nothing, found {fill!r}")
    if fill and length.unit not in {"minute", "day"}:
        raise ConfigError(f"fill: expected a timeframe of a day at most, found {length}; fill 1d and look at those")
    if include_forming and as_of is not None:
        raise ConfigError(f"as_of: expected none with the bars that are still forming now, found {as_of}")
    return Reading(
        symbol_list(symbols),
        length,
        first,
        past_last,
        None if as_of is None else aware(as_of, "as_of"),
        _columns(columns, length),
        "session" if align == "session" else "utc",
        fill is not None,
        include_forming,
    )


def _columns(columns: Sequence[str] | None, length: BarLength) -> tuple[str, ...]:
    if columns is None:
        return DEFAULT_COLUMNS
    keys = ("symbol", "timestamp") if length.is_intraday else ("symbol", "date", *OF_A_SESSION)
    known = (*keys, *VALUES, *(() if length.stored in NOT_MADE else ("bars",)))
    listed = [columns] if isinstance(columns, str) else list(columns)
    if unknown := [name for name in listed if name not in known]:
        raise ConfigError(f"columns: expected some of {', '.join(known)}, found {unknown[0]!r}")
    return tuple(dict.fromkeys(name for name in listed if name != "symbol"))
