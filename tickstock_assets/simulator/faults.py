"""The ways in which a simulated vendor misbehaves, how often, and whether a second try helps."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum

from tickstock_assets.domain.errors import ConfigError


class Fault(StrEnum):
    """One way to go wrong; the text is what the command and the record call it."""

    # The call fails.
    TOO_MANY_REQUESTS = "429"
    TOO_MANY_REQUESTS_WITH_TIME = "429_retry_after"
    SERVER_ERROR = "5xx"
    SLOW = "slow"
    CUT = "cut"
    TRUNCATED_JSON = "truncated_json"
    ERROR_IN_200 = "error_in_200"
    EXPIRED_KEY = "expired_key"
    # The call succeeds and rows are wrong.
    DUPLICATE_ROWS = "duplicate_rows"
    UNSORTED_ROWS = "unsorted_rows"
    HIGH_BELOW_LOW = "high_below_low"
    ZERO_PRICE = "zero_price"
    NEGATIVE_PRICE = "negative_price"
    WRONG_SYMBOL = "wrong_symbol"
    HOLIDAY_BAR = "holiday_bar"
    MISSING_MINUTES = "missing_minutes"
    LATE_CORRECTION = "late_correction"
    REPLACED_FILE = "replaced_file"
    # What the market is like (arguments of Market); counted when a row of the kind is answered.
    FRACTIONAL_VOLUME = "fractional_volume"
    REUSED_TICKER = "reused_ticker"


# At most one of these a call, the first that is drawn.
FAILURES = (
    Fault.TOO_MANY_REQUESTS,
    Fault.TOO_MANY_REQUESTS_WITH_TIME,
    Fault.SERVER_ERROR,
    Fault.SLOW,
    Fault.CUT,
    Fault.TRUNCATED_JSON,
    Fault.ERROR_IN_200,
)
OF_ROWS = (
    Fault.WRONG_SYMBOL,
    Fault.HIGH_BELOW_LOW,
    Fault.ZERO_PRICE,
    Fault.NEGATIVE_PRICE,
    Fault.HOLIDAY_BAR,
    Fault.DUPLICATE_ROWS,
    Fault.UNSORTED_ROWS,
    Fault.MISSING_MINUTES,
    Fault.LATE_CORRECTION,
    Fault.REPLACED_FILE,
)
OF_THE_MARKET = (Fault.FRACTIONAL_VOLUME, Fault.REUSED_TICKER)
# By their nature mended in the second answer.
MENDED_LATER = (Fault.MISSING_MINUTES, Fault.LATE_CORRECTION, Fault.REPLACED_FILE)


@dataclass(frozen=True)
class Faults:
    """How often which fault occurs; none by default.

    Attributes:
        chances: probability from 0 to 1, a call or a window, by fault.
        seed: of all draws.
        sticky: whether rows of a window are wrong every time it is asked (the same way), or the first time only.
        in_a_row: failures of the same request one after another, at most; the next try then succeeds.
        unsettled_from: first day on which bars may still be missing or be corrected later. A client asks earlier
            windows once and would never learn; None for every day.
        slow_seconds: how long a slow answer takes.
        retry_after_seconds: what a 429 that says so says.
    """

    chances: Mapping[Fault, float] = field(default_factory=dict)
    seed: int = 0
    sticky: bool = False
    in_a_row: int = 2
    unsettled_from: date | None = None
    slow_seconds: float = 0.5
    retry_after_seconds: int = 1

    def __post_init__(self) -> None:
        for fault, chance in self.chances.items():
            if fault in (*OF_THE_MARKET, Fault.EXPIRED_KEY):
                raise ConfigError(
                    f"faults: {fault} has no chance of its own; give it to the market or the plan, or script it"
                )
            if not 0 <= chance <= 1:
                raise ConfigError(f"faults: expected a chance from 0 to 1 for {fault}, found {chance}")

    @classmethod
    def every(cls, chance: float, seed: int = 0, **settings: object) -> "Faults":
        """Return every fault that has a chance, each with the same one."""
        return cls(dict.fromkeys((*FAILURES, *OF_ROWS), chance), seed, **settings)  # type: ignore[arg-type]

    @classmethod
    def parsed(cls, text: str, seed: int = 0) -> "Faults":
        """Return what a text such as `all=0.02,cut=0.1` says.

        Raises:
            ConfigError: a name or a number in it is wrong.
        """
        chances: dict[Fault, float] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, _, number = part.partition("=")
            known = {str(fault): [fault] for fault in (*FAILURES, *OF_ROWS)} | {"all": [*FAILURES, *OF_ROWS]}
            try:
                chance = float(number)
            except ValueError:
                chance = -1.0
            if name not in known or not 0 <= chance <= 1:
                raise ConfigError(
                    f"faults: expected NAME=CHANCE with a chance from 0 to 1 and a name of {', '.join(known)}, "
                    f"found {part!r}"
                )
            chances |= dict.fromkeys(known[name], chance)
        return cls(chances, seed)
