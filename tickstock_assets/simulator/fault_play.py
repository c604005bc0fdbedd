"""Decides, call by call, which faults occur: those that a test scripted first, then those that are drawn."""

from collections import Counter
from dataclasses import dataclass

from tickstock_assets.simulator.asks import Ask, Vendor
from tickstock_assets.simulator.draws import draw
from tickstock_assets.simulator.faults import FAILURES, MENDED_LATER, OF_ROWS, Fault, Faults


@dataclass
class Scripted:
    """A fault that a test ordered: for the next calls that match, after some that do not count.

    Attributes:
        fault: what shall happen.
        vendor, route, symbol: None for any.
        page: number of the page within a paginated answer, from 1; None for any.
        skip: matching calls that go well before.
        times: matching calls that then do not.
    """

    fault: Fault
    vendor: Vendor | None = None
    route: str | None = None
    symbol: str | None = None
    page: int | None = None
    skip: int = 0
    times: int = 1

    def takes(self, ask: Ask) -> bool:
        """Return whether this call is one of those, and count it."""
        fits = (
            self.times > 0
            and self.vendor in (None, ask.vendor)
            and self.route in (None, ask.route)
            and self.symbol in (None, ask.symbol)
            and self.page in (None, ask.page)
        )
        if fits and self.skip > 0:
            self.skip -= 1
            return False
        self.times -= fits
        return fits


class FaultPlay:
    """The state of the faults: what was asked how often, and what is scripted."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.scripts: list[Scripted] = []
        # While an answer is made that will not arrive whole, its rows are none of anyone's business.
        self.muted = False
        self._asked: Counter[str] = Counter()
        self._delivered: Counter[str] = Counter()
        self._failed_in_a_row: Counter[str] = Counter()

    def failure(self, ask: Ask) -> Fault | None:
        """Return the fault with which this call fails, None when it does not."""
        for script in self.scripts:
            if script.fault in (*FAILURES, Fault.EXPIRED_KEY) and script.takes(ask):
                return script.fault
        self._asked[ask.identity] += 1
        if self._failed_in_a_row[ask.identity] < self.faults.in_a_row:
            for fault in FAILURES:
                chance = self.faults.chances.get(fault, 0)
                if chance and possible(fault, ask) and self._drawn(fault, ask, self._asked[ask.identity]) < chance:
                    # Slow is no failure: the answer comes.
                    self._failed_in_a_row[ask.identity] += fault is not Fault.SLOW
                    return fault
        self._failed_in_a_row[ask.identity] = 0
        return None

    def of_rows(self, ask: Ask) -> list[Fault]:
        """Return the faults that the rows of an answer shall have; scripts are used up."""
        if self.muted:
            return []
        return [*self._scripted(ask, OF_ROWS), *self.drawn_for_rows(ask)]

    def drawn_for_rows(self, ask: Ask) -> list[Fault]:
        """Return the drawn ones among them; the same until the answer is delivered."""
        delivered = self._delivered[ask.identity]
        drawn = []
        for fault in OF_ROWS:
            again = delivered and (fault in MENDED_LATER or not self.faults.sticky)
            chance = self.faults.chances.get(fault, 0)
            if chance and not again and possible(fault, ask) and self._drawn(fault, ask, 0) < chance:
                drawn.append(fault)
        return drawn

    def delivered(self, ask: Ask) -> None:
        """Remember that an answer arrived whole: whoever asks again may get a clean one."""
        if not self.muted:
            self._delivered[ask.identity] += 1

    def version(self, ask: Ask) -> int:
        """Return how often an answer was delivered."""
        return self._delivered[ask.identity]

    def _scripted(self, ask: Ask, among: tuple[Fault, ...]) -> list[Fault]:
        found = [script.fault for script in self.scripts if script.fault in among and script.takes(ask)]
        self.scripts = [script for script in self.scripts if script.times > 0]
        return found

    def _drawn(self, fault: Fault, ask: Ask, attempt: int) -> float:
        return draw(self.faults.seed, fault, ask.identity, attempt)


def possible(fault: Fault, ask: Ask) -> bool:
    """Return whether an answer to this can have the fault at all."""
    of_files = ask.vendor is Vendor.FLAT_FILES
    # The market's day has bars of many symbols, of which none is wrong as such.
    of_one_symbol = bool(ask.symbol)
    match fault:
        case Fault.TOO_MANY_REQUESTS | Fault.TOO_MANY_REQUESTS_WITH_TIME | Fault.ERROR_IN_200:
            return not of_files
        case Fault.TRUNCATED_JSON:
            return not of_files and ask.route != "LISTING_STATUS"
        case Fault.REPLACED_FILE:
            return of_files
        case Fault.WRONG_SYMBOL | Fault.HOLIDAY_BAR:
            return of_one_symbol
        case _:
            # A JSON object has each key once.
            never = fault is Fault.DUPLICATE_ROWS and ask.vendor is Vendor.ALPHA_VANTAGE
            return not never and (fault is not Fault.MISSING_MINUTES or ask.timeframe == "1m")
