"""What happened: every call, every row that was answered wrong, and how often each fault fired."""

import hashlib
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from tickstock_assets.simulator.asks import Ask, Vendor
from tickstock_assets.simulator.bars import Row
from tickstock_assets.simulator.faults import Fault
from tickstock_assets.simulator.plans import Meter


@dataclass(frozen=True)
class Call:
    """One request and what became of it.

    Attributes:
        number: counted from 1 over all vendors.
        time: Unix seconds.
        vendor, route, symbol, window: of the ask; the window is `first..last+offset`.
        status: of HTTP; of a cut connection the one that was announced.
        key: fingerprint of the key, empty without one.
        rows: bars answered.
        faults: which faults it met.
    """

    number: int
    time: float
    vendor: Vendor
    route: str
    symbol: str
    window: str
    status: int
    key: str
    rows: int
    faults: tuple[Fault, ...]


@dataclass(frozen=True)
class WrongRow:
    """One row that an answer had wrong, too much, or not at all.

    Attributes:
        fault: how.
        vendor, route, window: of the answer.
        symbol: the ticker that was asked for.
        timeframe: 1d or 1m.
        start_ms: of the bar, Unix milliseconds.
        sent: the row as answered; None when it was left out.
        true: the row as it should be; None when there should be none.
    """

    fault: Fault
    vendor: Vendor
    route: str
    window: str
    symbol: str
    timeframe: str
    start_ms: int
    sent: Row | None
    true: Row | None


@dataclass
class Record:
    """Everything since the simulator was made.

    Attributes:
        calls, wrong_rows: oldest first.
        fired: how often each fault fired.
        meters: by vendor and fingerprint of the key.
    """

    calls: list[Call] = field(default_factory=list)
    wrong_rows: list[WrongRow] = field(default_factory=list)
    fired: Counter[Fault] = field(default_factory=Counter)
    meters: dict[tuple[Vendor, str], Meter] = field(default_factory=dict)

    def add(self, ask: Ask, status: int, key: str | None, rows: int, faults: tuple[Fault, ...]) -> None:
        """Enter a call."""
        self.fired.update(faults)
        self.calls.append(
            Call(
                number=len(self.calls) + 1,
                time=time.time(),
                vendor=ask.vendor,
                route=ask.route,
                symbol=ask.symbol,
                window=ask.window,
                status=status,
                key=fingerprint(key),
                rows=rows,
                faults=faults,
            )
        )

    def statistics(self) -> dict[str, Any]:
        """Return the counts as JSON has them."""
        return {
            "calls": len(self.calls),
            "by_vendor": dict(Counter(str(call.vendor) for call in self.calls)),
            "by_route": dict(Counter(call.route for call in self.calls)),
            "by_status": {str(status): n for status, n in Counter(call.status for call in self.calls).items()},
            "faults": {str(fault): n for fault, n in self.fired.items()},
            "wrong_rows": len(self.wrong_rows),
            "keys": [
                {
                    "vendor": str(vendor),
                    "key": key,
                    "calls": meter.calls,
                    "refused": meter.refused,
                    "highest_in_a_minute": meter.highest_in_a_minute,
                    "highest_in_a_day": meter.highest_in_a_day,
                }
                for (vendor, key), meter in self.meters.items()
            ],
        }

    def calls_as_json(self, after: int = 0) -> list[dict[str, Any]]:
        """Return the calls after one of a number."""
        return [asdict(call) for call in self.calls[after:]]

    def wrong_rows_as_json(self) -> list[dict[str, Any]]:
        """Return the wrong rows."""
        return [asdict(row) for row in self.wrong_rows]


def fingerprint(key: str | None) -> str:
    """Return eight digits that tell keys apart without telling the key."""
    return hashlib.sha256(key.encode()).hexdigest()[:8] if key else ""
