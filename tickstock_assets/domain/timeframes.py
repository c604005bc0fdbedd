"""Timeframes: the five lengths of a bar, and what people type for them.

Every door that takes a timeframe hands its text to `timeframe`. Elsewhere: which table holds which (storage/).
"""

import re
from datetime import timedelta
from typing import Literal, get_args

from tickstock_assets.domain.errors import ConfigError

type Timeframe = Literal["1m", "5m", "15m", "1h", "1d"]

TIMEFRAMES: tuple[Timeframe, ...] = get_args(Timeframe.__value__)
LENGTHS: dict[Timeframe, timedelta] = {
    "1m": timedelta(minutes=1),
    "5m": timedelta(minutes=5),
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "1d": timedelta(days=1),
}

_MINUTES: dict[int, Timeframe] = {1: "1m", 5: "5m", 15: "15m", 60: "1h"}
_ALIASES: dict[str, Timeframe] = {
    **{f"{n}{unit}": name for n, name in _MINUTES.items() for unit in ("m", "min", "mins", "minute", "minutes")},
    **{f"{unit}{n}": name for n, name in _MINUTES.items() for unit in ("m", "min")},
    **dict.fromkeys(("m", "min", "minute", "minutes", "minutely"), "1m"),
    **dict.fromkeys(("h", "hour", "hours", "hourly", "h1", "1h", "1hr", "1hour"), "1h"),
    **dict.fromkeys(("d", "day", "days", "daily", "d1", "1d", "1day", "24h", "eod"), "1d"),
}


def timeframe(text: str) -> Timeframe:
    """Return the timeframe that a text means.

    Args:
        text: `1m 5m 15m 1h 1d`, or what people type for them, such as `minute`, `1min`, `60 min`, `hourly`, `1-day`,
            `Daily`; in any case, with or without blanks, hyphens and underscores.

    Raises:
        ConfigError: it means none of them; nor does `1M`, which elsewhere is a month.
    """
    letters = re.sub(r"[\s_-]", "", str(text))
    found = None if letters in {"M", "1M"} else _ALIASES.get(letters.lower())
    if found is None:
        raise ConfigError(
            f"timeframe: expected one of {', '.join(TIMEFRAMES)} or an alias such as minute, 5min, hourly or daily, "
            f"found {text!r}"
        )
    return found
