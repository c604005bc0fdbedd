"""The providers of a load in the order in which they are asked, and what their data is filed under."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.domain.windows import Window
from tickstock_assets.providers.base import Dataset, Provider
from tickstock_assets.providers.quota import Counted
from tickstock_assets.storage.ledger import Source
from tickstock_assets.storage.provider_quota import Remaining


@dataclass(frozen=True)
class Lineup:
    """Providers, best first. The next one serves what one before it failed to deliver or is not entitled to.

    Attributes:
        providers: best first; at least one.
        counters: of those that count their calls, by name.
        budgets: says what is left of a provider's, by name.
        next_on_quota: whether the next one also serves what an exhausted budget leaves over, instead of waiting.
        has_whole_list: whether every symbol that the first has is wanted; of a vendor's, only those somebody asked for.
    """

    providers: Sequence[Provider]
    counters: Mapping[str, Counted] = field(default_factory=dict)
    budgets: Mapping[str, Callable[[], Remaining]] = field(default_factory=dict)
    next_on_quota: bool = False
    has_whole_list: bool = False

    def __iter__(self) -> Iterator[Provider]:
        return iter(self.providers)

    @property
    def first(self) -> Provider:
        """The provider that is asked first."""
        return self.providers[0]

    @property
    def has_day_budget(self) -> bool:
        """Whether any of them may be asked so many times a day only."""
        return any(route.budget.per_day is not None for one in self for route in one.routes(Dataset.DAILY_BARS))

    def horizon(self) -> date:
        """Return the last day that any of them can have data for."""
        return max(provider.horizon() for provider in self.providers)

    def horizons(self) -> dict[str, date]:
        """Return the last day of each, by its name."""
        return {provider.name: provider.horizon() for provider in self.providers}

    def span(self, dataset: Dataset) -> tuple[date, date]:
        """Return the first and the last day that any of them can have a dataset for.

        Raises:
            ConfigError: none has it.
        """
        starts = [route.history_start for provider in self.providers for route in provider.routes(dataset)]
        if not starts:
            who = ", ".join(provider.name for provider in self.providers)
            raise ConfigError(
                f"{dataset.replace('_', ' ')}: expected a provider that has them, found {who}; set a key, see docs/providers.md"
            )
        return min(starts), self.horizon()

    def within_reach(self, dataset: Dataset, windows: Iterable[Window]) -> list[Window]:
        """Return windows without their days before all history; those that have none after it stay, to be refused.

        Raises:
            ConfigError: none has the dataset.
        """
        first, _ = self.span(dataset)
        return [replace(one, start=first) if one.start < first <= one.end else one for one in windows]

    def sources(self, dataset: Dataset) -> list[Source]:
        """Return what the dataset of each is filed under."""
        return [source_of(provider, dataset) for provider in self.providers]

    def remaining(self, provider: Provider) -> Remaining:
        """Return what is left of a provider's budget."""
        ask = self.budgets.get(provider.name)
        return ask() if ask else Remaining(None, None)

    def calls(self, provider: Provider) -> int:
        """Return how many requests a provider has made in this process."""
        counter = self.counters.get(provider.name)
        return counter.calls if counter else 0


def source_of(provider: Provider, dataset: Dataset = Dataset.DAILY_BARS) -> Source:
    """Return what ledger and quarantine file a provider's dataset under, at the version it stands at now."""
    return Source(provider.name, dataset.value, provider.version(dataset))
