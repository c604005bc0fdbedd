"""Fetching what is missing: each answer is landed and entered in the ledger at once, before the next is asked for."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine

from tickstock_assets.domain.errors import ProviderError, QuotaExhaustedError, TransientProviderError
from tickstock_assets.domain.windows import Window, merge_neighbours, not_covered
from tickstock_assets.loading.attempt import Attempt, Fetcher, plan_for
from tickstock_assets.loading.coverage import common_days, covered, up_to, windows_of_symbols
from tickstock_assets.loading.lineup import Lineup
from tickstock_assets.loading.observer import Observer
from tickstock_assets.loading.planning import Plan
from tickstock_assets.providers.base import Dataset, Request
from tickstock_assets.storage import audit


@dataclass
class Landing:
    """What a load fetched.

    Attributes:
        fetched: windows that were landed now, in the order in which they came.
        already_landed: how many landed windows serve the rest.
        rows: in what was landed now.
        bytes: of its files.
        calls: requests made, by provider.
        failed: the windows that nobody delivered, with the reason.
        transient: parts of them that a provider may well deliver when it is asked again.
        fallbacks: the windows that another than the first provider delivered, with its name.
        continues_at: when an exhausted budget lets it go on (UTC); None when none held it up.
        plans: what was planned, with the provider's name.
        doubts: what a provider did not say, so that landed files count as they are, and routes left out: a sentence each.
    """

    fetched: list[Window] = field(default_factory=list)
    already_landed: int = 0
    rows: int = 0
    bytes: int = 0
    calls: dict[str, int] = field(default_factory=dict)
    failed: dict[Window, str] = field(default_factory=dict)
    transient: list[Window] = field(default_factory=list)
    fallbacks: dict[Window, str] = field(default_factory=dict)
    continues_at: datetime | None = None
    plans: list[tuple[str, Plan]] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)

    def raise_for_failures(self) -> None:
        """Raise when a window did not come, naming the first; what did come stays landed.

        Raises:
            QuotaExhaustedError: it goes on when the budget does.
            TransientProviderError: some of it may come when it is asked for again.
            ProviderError: it was refused.
        """
        if not self.failed:
            return
        window, reason = next(iter(self.failed.items()))
        message = f"{len(self.failed)} of {len(self.failed) + len(self.fetched)} windows did not come, first {window}: {reason}"
        if self.continues_at is not None:
            at = f"{self.continues_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
            raise QuotaExhaustedError(f"continues at {at}: {message}", self.continues_at)
        raise (TransientProviderError if self.transient else ProviderError)(
            f"{message}; run it again to fetch only those"
        )


def land_missing(
    lineup: Lineup,
    engine: Engine,
    folder: Path,
    windows: Sequence[Window],
    dataset: Dataset = Dataset.DAILY_BARS,
    *,
    recheck: Iterable[Window] = (),
    observer: Observer | None = None,
    on_landed: Callable[[Request, int], None] | None = None,
    run: audit.Run | None = None,
) -> Landing:
    """Fetch the parts of `windows` that are not landed yet, and land each answer at once.

    Days whose data could still change when they were landed are fetched again. What a provider does not deliver is
    entered in the ledger with the reason, left to the next in the lineup where the reason allows it, and the others go on.

    Args:
        lineup: whom to ask, best first.
        engine: of the database with the ledger.
        folder: where payloads go.
        windows: whose bars, and which days; days after the horizon are left out.
        dataset: bars of which kind.
        recheck: windows to be fetched also where they are landed.
        observer: hears of every step.
        on_landed: is called after each answer that is landed, with its request and number of rows.
        run: under whose name it stands in the audit trail.
    """
    wanted = up_to(windows, lineup.horizon())
    if not wanted:
        return Landing()
    coverage = covered(lineup, engine, dataset, wanted)
    have = coverage.windows
    missing = not_covered(wanted, not_covered(have, up_to(recheck, lineup.horizon())))
    of_symbol = windows_of_symbols(wanted)
    in_use = [one for one in have if common_days(of_symbol.get(one.symbol, ()), one)]
    result = Landing(already_landed=len(in_use), doubts=coverage.doubts)
    fetcher = Fetcher(lineup, engine, folder, dataset, observer or Observer(), run, on_landed)
    attempts: list[Attempt] = []
    for provider in lineup:
        if not missing:
            break
        calls = lineup.calls(provider)
        attempt = Attempt(fetcher, provider)
        attempts.append(attempt)
        attempt.deliver(merge_neighbours(up_to(missing, provider.horizon())))
        result.calls[provider.name] = lineup.calls(provider) - calls
        missing = merge_neighbours(attempt.for_the_next)
    _sum_up(result, attempts)
    return result


def plan_missing(
    lineup: Lineup, engine: Engine, windows: Sequence[Window], dataset: Dataset = Dataset.DAILY_BARS
) -> tuple[str, Plan]:
    """Return what the first provider would be asked for, and its name; nobody is asked."""
    wanted = up_to(windows, lineup.horizon())
    missing = not_covered(wanted, covered(lineup, engine, dataset, wanted).windows)
    return lineup.first.name, plan_for(lineup, engine, lineup.first, dataset, windows=missing)


def _sum_up(result: Landing, attempts: Sequence[Attempt]) -> None:
    for attempt in attempts:
        name = attempt.provider.name
        result.fetched += [request.window for request in attempt.requests]
        result.rows += attempt.rows
        result.bytes += attempt.bytes
        result.doubts += attempt.doubts
        result.plans += [(name, made) for made in attempt.plans]
    for attempt in attempts[1:]:
        result.fallbacks |= dict.fromkeys(attempt.delivered, attempt.provider.name)
    result.failed = _not_delivered(attempts)
    failed = windows_of_symbols(result.failed)
    met = [window for attempt in attempts for window in attempt.transient]
    result.transient = [part for window in met for part in common_days(failed.get(window.symbol, ()), window)]
    result.continues_at = min((one.continues_at for one in attempts if one.continues_at), default=None)


def _not_delivered(attempts: Sequence[Attempt]) -> dict[Window, str]:
    """Return the windows that nobody delivered, each with the reasons of all who were asked for it."""
    delivered: dict[str, list[Window]] = {}
    for attempt in attempts:
        for window in attempt.delivered:
            delivered.setdefault(window.symbol, []).append(window)
    failed: dict[str, dict[Window, list[str]]] = {}
    for attempt in reversed(attempts):
        for window, reason in attempt.refused.items():
            of_symbol = failed.setdefault(window.symbol, {})
            # The next provider was asked for it by windows of its own, which stand for it already.
            for stands in [one for one in of_symbol if common_days([one], window)]:
                if reason not in of_symbol[stands]:
                    of_symbol[stands].insert(0, reason)
            for part in not_covered([window], [*delivered.get(window.symbol, []), *of_symbol]):
                of_symbol[part] = [reason]
    return {window: "; ".join(failed[symbol][window]) for symbol in sorted(failed) for window in sorted(failed[symbol])}
