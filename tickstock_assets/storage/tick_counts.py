"""What a buffer of ticks counts: how many, how quickly, and how long they waited."""

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from tickstock_assets.storage.tick_store import StoreCounts

RATE_SECONDS = 5
# Segments over which percentiles are taken.
MOST_SEGMENTS = 10_000


@dataclass(frozen=True)
class TickCounts:
    """How a buffer stands. Times in seconds; None before the first flush.

    Attributes:
        acknowledged: ticks taken since it was opened.
        replayed: ticks that an earlier one had left in the spill.
        stored, repeated, quarantined: what became of them; repeated ones were stored before.
        waiting: queue depth: ticks not yet stored or set aside.
        flushes: how often what was buffered was stored.
        per_second: ticks acknowledged a second, over the last five.
        held_back_seconds: how long producers waited for room, in all.
        flush_seconds: of the last segment, from the beginning of its flush to its commit.
        flush_seconds_p99: of 99 in 100 segments at most.
        latency_seconds: of the last segment's oldest tick, from acknowledgement to commit.
        latency_seconds_p50, latency_seconds_p99: of half, and of 99 in 100, of the segments' oldest ticks at most.
    """

    acknowledged: int
    replayed: int
    stored: int
    repeated: int
    quarantined: int
    waiting: int
    flushes: int
    per_second: float
    held_back_seconds: float
    flush_seconds: float | None
    flush_seconds_p99: float | None
    latency_seconds: float | None
    latency_seconds_p50: float | None
    latency_seconds_p99: float | None


@dataclass
class Counter:
    """Where the counts come from; not for several threads at once."""

    taken: int = 0
    flushes: int = 0
    held_back_seconds: float = 0.0
    outcome: StoreCounts = field(default_factory=StoreCounts)
    _latencies: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_SEGMENTS))
    _flush_times: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_SEGMENTS))
    _by_second: dict[int, int] = field(default_factory=dict)

    def acknowledged(self, ticks: int, now: float) -> None:
        """Count ticks that were taken at a moment of the monotonic clock."""
        self.taken += ticks
        second = int(now)
        if second not in self._by_second:
            self._by_second = {s: n for s, n in self._by_second.items() if s >= second - RATE_SECONDS}
        self._by_second[second] = self._by_second.get(second, 0) + ticks

    def stored(self, outcome: StoreCounts, latency_seconds: float, flush_seconds: float) -> None:
        """Count a segment."""
        self.outcome += outcome
        self._latencies.append(latency_seconds)
        self._flush_times.append(flush_seconds)

    def counts(self, now: float, *, waiting: int, replayed: int) -> TickCounts:
        """Return the counts as they stand."""
        last = range(int(now) - RATE_SECONDS, int(now))
        return TickCounts(
            acknowledged=self.taken,
            replayed=replayed,
            stored=self.outcome.stored,
            repeated=self.outcome.repeated,
            quarantined=self.outcome.quarantined,
            waiting=waiting,
            flushes=self.flushes,
            per_second=sum(self._by_second.get(second, 0) for second in last) / RATE_SECONDS,
            held_back_seconds=self.held_back_seconds,
            flush_seconds=self._flush_times[-1] if self._flush_times else None,
            flush_seconds_p99=_percentile(self._flush_times, 99),
            latency_seconds=self._latencies[-1] if self._latencies else None,
            latency_seconds_p50=_percentile(self._latencies, 50),
            latency_seconds_p99=_percentile(self._latencies, 99),
        )


def _percentile(values: deque[float], percent: float) -> float | None:
    return float(np.percentile(list(values), percent)) if values else None
