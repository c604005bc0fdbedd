"""Timeframes: the five lengths of a bar that are stored, any other that bars are read in, and what people type for them.

Every door that takes the timeframe of stored bars hands its text to `timeframe`, a reader's to `bar_length`. Elsewhere:
which table holds which (storage/), how longer bars are made of shorter ones (resampling.py).
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, get_args

from tickstock_assets.domain.errors import ConfigError

type Timeframe = Literal["1m", "5m", "15m", "1h", "1d"]
type Unit = Literal["minute", "day", "week", "month"]

TIMEFRAMES: tuple[Timeframe, ...] = get_args(Timeframe.__value__)
LENGTHS: dict[Timeframe, timedelta] = {
    "1m": timedelta(minutes=1),
    "5m": timedelta(minutes=5),
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "1d": timedelta(days=1),
}
MINUTES_A_DAY, MONTHS_A_YEAR = 24 * 60, 12
LONGEST_YEARS = 100

# What is typed for a unit, in lower case, and how many of our units it is; `M` alone has a case.
_UNITS: dict[str, tuple[Unit, int]] = {
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes", "minutely"), ("minute", 1)),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours", "hourly"), ("minute", 60)),
    **dict.fromkeys(("d", "day", "days", "daily", "eod"), ("day", 1)),
    **dict.fromkeys(("w", "wk", "wks", "week", "weeks", "weekly"), ("week", 1)),
    **dict.fromkeys(("mo", "mon", "mth", "month", "months", "monthly"), ("month", 1)),
    **dict.fromkeys(("q", "quarter", "quarters", "quarterly"), ("month", 3)),
    **dict.fromkeys(("y", "yr", "yrs", "year", "years", "yearly", "annual", "annually"), ("month", MONTHS_A_YEAR)),
}
_TYPED = re.compile(r"(?P<count>[0-9]{0,5})(?P<unit>[A-Za-z]+)|(?P<first>[A-Za-z]+)(?P<second>[0-9]{1,5})", re.ASCII)


@dataclass(frozen=True)
class BarLength:
    """How long a bar is: minutes of the clock, one session, ISO weeks, or calendar months.

    Attributes:
        count: so many units; 1 where the unit is a day.
        unit: an hour is 60 minutes and a year 12 months.
    """

    count: int
    unit: Unit

    @property
    def is_intraday(self) -> bool:
        """Whether it is measured by the clock and not in sessions."""
        return self.unit == "minute"

    @property
    def stored(self) -> Timeframe | None:
        """Return its name where such bars are stored."""
        return next((name for name in TIMEFRAMES if name == str(self)), None)

    @property
    def divides_a_day(self) -> bool:
        """Whether bars of this length begin at the same times every day; those of sessions and longer do not count."""
        return self.is_intraday and MINUTES_A_DAY % self.count == 0

    def __str__(self) -> str:
        if self.unit == "minute":
            return f"{self.count // 60}h" if self.count % 60 == 0 else f"{self.count}m"
        if self.unit == "month":
            return f"{self.count // MONTHS_A_YEAR}y" if self.count % MONTHS_A_YEAR == 0 else f"{self.count}M"
        return f"{self.count}{self.unit[0]}"


def timeframe(text: str) -> Timeframe:
    """Return the stored timeframe that a text means.

    Args:
        text: `1m 5m 15m 1h 1d`, or what people type for them, such as `minute`, `1min`, `60 min`, `hourly`, `1-day`,
            `Daily`; in any case, with or without blanks, hyphens and underscores.

    Raises:
        ConfigError: it means none of them; nor does `1M`, which is a month.
    """
    found = _length(text)
    stored = found.stored if found else None
    if stored is None:
        raise ConfigError(
            f"timeframe: expected one of {', '.join(TIMEFRAMES)} or an alias such as minute, 5min, hourly or daily, "
            f"found {text!r}"
        )
    return stored


def bar_length(text: str) -> BarLength:
    """Return the length of a bar that a text means.

    Args:
        text: a number and a unit, such as `2m`, `30min`, `4 hours`, `1d`, `weekly`, `1w`, `month`, `1mo`, `3M`, `1y`; in
            any case but for `M`, a month, and `m`, a minute; with or without blanks, hyphens and underscores.

    Raises:
        ConfigError: it means none: no such unit, a day or more in minutes, several days, or months in a number that
            neither divides a year nor makes whole ones.
    """
    found = _length(text)
    if found is None:
        raise ConfigError(
            f"timeframe: expected a number and a unit such as {', '.join(TIMEFRAMES)}, 30m, 4h, 1w, 1M (a month) or 1y, "
            f"found {text!r}"
        )
    if found.is_intraday and found.count > MINUTES_A_DAY:
        raise ConfigError(f"timeframe: expected less than a day in minutes or hours, found {text!r}; ask for 1d or 1w")
    if found.unit == "day" and found.count > 1:
        raise ConfigError(f"timeframe: expected one day, found {text!r}; ask for 1d or 1w")
    if found.unit in {"week", "month"} and found.count > LONGEST_YEARS * MONTHS_A_YEAR:
        raise ConfigError(
            f"timeframe: expected at most {LONGEST_YEARS * MONTHS_A_YEAR} weeks or months, found {text!r}"
        )
    if found.unit == "month" and MONTHS_A_YEAR % found.count and found.count % MONTHS_A_YEAR:
        raise ConfigError(
            f"timeframe: expected 1, 2, 3, 4, 6 or 12 months, or whole years, found {text!r}; M is a month and m a minute"
        )
    return found


def _length(text: str) -> BarLength | None:
    """Return what a text means, also where such bars are not made; None where it means nothing."""
    # Not at the beginning: what stands there is a minus.
    typed = _TYPED.fullmatch(re.sub(r"(?<!^)[\s_-]", "", str(text).strip()))
    if typed is None:
        return None
    name, count = typed["unit"] or typed["first"], int(typed["count"] or typed["second"] or 1)
    is_month = name == "M" and not typed["second"]
    known = _UNITS["month"] if is_month else _UNITS.get(name.lower())
    if known is None or count < 1:
        return None
    unit, factor = known
    is_day = unit == "minute" and count * factor == MINUTES_A_DAY  # 24h is what people type for a day
    return BarLength(1, "day") if is_day else BarLength(count * factor, unit)
