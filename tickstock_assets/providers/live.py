"""What the vendors of US stocks have in common that are asked for today's bars too: when those are out, and when final."""

from collections.abc import Callable
from datetime import date, datetime, timedelta

from tickstock_assets.domain.sessions import DEFAULT_EXCHANGE, last_closed_session, settled_session
from tickstock_assets.providers.base import Dataset, Provider

# Trading goes on for four hours after the close, and a day's bars are final only after it; half an hour to be published.
PUBLISHED_AFTER_CLOSE = timedelta(hours=4, minutes=30)


class LiveProvider(Provider):
    """A vendor whose newest bars are those of the last session.

    Args:
        clock: the time, UTC.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock

    def horizon(self) -> date:
        """Return the last session whose bars are published by now."""
        return last_closed_session(DEFAULT_EXCHANGE, self._clock() - PUBLISHED_AFTER_CLOSE)

    def settled_until(self, fetched_at: datetime) -> date:
        """Return the session before the last three that had closed at a moment (UTC)."""
        return settled_session(DEFAULT_EXCHANGE, fetched_at)

    def version(self, dataset: Dataset) -> str:
        """Return the version of how we ask, a change of which makes every window due again.

        What a vendor corrects later is not announced.
        """
        return "1"
