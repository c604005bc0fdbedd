"""What a load tells while it works; whoever shows it overrides what he shows."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from tickstock_assets.domain.windows import Window
from tickstock_assets.providers.base import Provider, Request
from tickstock_assets.storage.bulk import MergeCounts

if TYPE_CHECKING:
    from tickstock_assets.loading.planning import Plan


class Observer:
    """Hears of every step and does nothing."""

    def planned(self, provider: Provider, plan: "Plan") -> None:
        """A provider is about to be asked for these."""

    def landed(self, provider: Provider, request: Request, rows: int, calls: int) -> None:
        """A request's answer is on disk and in the ledger."""

    def failed(self, provider: Provider, request: Request, reason: str, calls: int) -> None:
        """A request was not answered."""

    def continues(self, provider: Provider, at: datetime) -> None:
        """A provider's budget is used up until a moment."""

    def stored(
        self, windows: Sequence[Window], counts: MergeCounts, valid: Mapping[str, int], rejected: Mapping[str, int]
    ) -> None:
        """The rows of these windows are in their table, so many of each symbol, and so many others in quarantine."""


class Tee(Observer):
    """Passes on to several others, in their order."""

    def __init__(self, *others: Observer) -> None:
        self._others = others

    def planned(self, provider: Provider, plan: "Plan") -> None:
        """Pass it on."""
        for other in self._others:
            other.planned(provider, plan)

    def landed(self, provider: Provider, request: Request, rows: int, calls: int) -> None:
        """Pass it on."""
        for other in self._others:
            other.landed(provider, request, rows, calls)

    def failed(self, provider: Provider, request: Request, reason: str, calls: int) -> None:
        """Pass it on."""
        for other in self._others:
            other.failed(provider, request, reason, calls)

    def continues(self, provider: Provider, at: datetime) -> None:
        """Pass it on."""
        for other in self._others:
            other.continues(provider, at)

    def stored(
        self, windows: Sequence[Window], counts: MergeCounts, valid: Mapping[str, int], rejected: Mapping[str, int]
    ) -> None:
        """Pass it on."""
        for other in self._others:
            other.stored(windows, counts, valid, rejected)
