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
