"""Telling Dagster of the partitions of a load as its answers land; the load itself is planned over all of them."""

from collections import Counter
from collections.abc import Callable, Sequence

from dagster import DagsterEvent

from tickstock_assets.defs.partition_log import PartitionLog
from tickstock_assets.defs.partitions import window_of, windows_of
from tickstock_assets.domain.windows import WHOLE_MARKET, Window
from tickstock_assets.loading.coverage import common_days, windows_of_symbols
from tickstock_assets.loading.observer import Observer
from tickstock_assets.loading.planning import Plan
from tickstock_assets.providers.base import Provider, Request

SYMBOLS_AT_A_TIME = 25


class LandingLog(Observer):
    """Tells of symbols whose answers are all there, some at a time, after the ledger has been asked whether it has them.

    Answers of the whole market bring a day of every symbol: no partition is finished before the last of them, and all are
    left to the end.

    Attributes:
        events: for the step to yield.
    """

    def __init__(self, log: PartitionLog, not_landed: Callable[[Sequence[Window]], Sequence[Window]]) -> None:
        self.events: list[DagsterEvent] = []
        self._log = log
        self._not_landed = not_landed
        self._keys: dict[str, list[str]] = {}
        for key in log.keys:
            self._keys.setdefault(window_of(key).symbol, []).append(key)
        self._asked_for: Counter[str] = Counter()
        self._ready: list[str] = []
        self._rows = self._calls = 0

    def planned(self, provider: Provider, plan: Plan) -> None:  # noqa: ARG002 an observer hears it
        """Remember how many answers each symbol waits for."""
        self._asked_for = Counter(request.window.symbol for request in plan.requests)

    def landed(self, provider: Provider, request: Request, rows: int, calls: int) -> None:  # noqa: ARG002 the same
        """Tell of some symbols when so many are complete."""
        symbol = request.window.symbol
        self._rows, self._calls = self._rows + rows, self._calls + calls
        self._asked_for[symbol] -= 1
        if WHOLE_MARKET in self._asked_for or self._asked_for[symbol] > 0:
            return
        self._ready.append(symbol)
        if len(self._ready) >= SYMBOLS_AT_A_TIME:
            self._tell()

    def _tell(self) -> None:
        keys = [key for symbol in dict.fromkeys(self._ready) for key in self._keys.get(symbol, ())]
        keys = [key for key in keys if key not in self._log.told]
        missing = windows_of_symbols(self._not_landed(windows_of(keys)))
        found = [(key, window_of(key)) for key in keys]
        finished = [key for key, window in found if not common_days(missing.get(window.symbol, ()), window)]
        of = f"a batch of {len(finished)} partitions"
        metadata = {"rows_in": self._rows, "calls": self._calls, "counts_are_of": of}
        if finished:
            self.events += self._log.tell(finished, metadata)
        self._ready.clear()
        self._rows = self._calls = 0
