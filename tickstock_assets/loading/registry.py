"""The providers there are: each is registered here by one function that makes it from the settings.

Only that function imports it: vendors' clients take half a second, and most processes ask no vendor.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from sqlalchemy import Engine

from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.loading.lineup import Lineup
from tickstock_assets.providers.base import Provider
from tickstock_assets.providers.http import Patience
from tickstock_assets.providers.quota import Budget, Counted, Quota
from tickstock_assets.settings import Settings
from tickstock_assets.storage.provider_quota import Remaining, StoredQuota

# As each calls itself.
POLYGON, ALPHA_VANTAGE, CSV_FOLDER, SAMPLE = "polygon", "alpha_vantage", "csv_folder", "sample"


class Counting(Protocol):
    """Makes the quota of a provider."""

    @property
    def patience(self) -> Patience | None:
        """How long vendors are waited for; None for their own."""
        ...

    def __call__(self, provider: str, budget: Budget) -> Quota:
        """Return what counts a provider's calls against its budget."""
        ...


def _sample(chosen: Settings, _: Counting) -> Provider:
    from tickstock_assets.providers.sample import SampleProvider  # noqa: PLC0415

    return SampleProvider(chosen.sample_file)


def _csv_folder(chosen: Settings, _: Counting) -> Provider:
    from tickstock_assets.providers.csv_folder import CsvFolder  # noqa: PLC0415

    if chosen.csv_folder is None:
        raise ConfigError(
            "TICKSTOCK_CSV_FOLDER: expected a folder of SYMBOL.csv files for csv_folder, found it unset; set it"
        )
    return CsvFolder(chosen.csv_folder)


def _polygon(chosen: Settings, counting: Counting) -> Provider:
    from tickstock_assets.providers.flat_files import FlatFiles  # noqa: PLC0415
    from tickstock_assets.providers.polygon import Polygon  # noqa: PLC0415

    if chosen.polygon_api_key is None:
        raise _no_key("TICKSTOCK_POLYGON_API_KEY", POLYGON)
    budget = Budget(per_minute=chosen.polygon_calls_per_minute or None)
    flat_files = None
    if chosen.flat_files_url is not None:
        flat_files = FlatFiles(
            chosen.flat_files_url,
            chosen.flat_files_access_key or "",
            chosen.flat_files_secret_key or "",
            patience=counting.patience,
        )
    return Polygon(
        chosen.polygon_api_key,
        base_url=chosen.polygon_url,
        quota=counting(POLYGON, budget),
        budget=budget,
        history_years=chosen.polygon_history_years or None,
        flat_files=flat_files,
        patience=counting.patience,
    )


def _alpha_vantage(chosen: Settings, counting: Counting) -> Provider:
    from tickstock_assets.providers.alpha_vantage import AlphaVantage  # noqa: PLC0415

    if chosen.alpha_vantage_api_key is None:
        raise _no_key("TICKSTOCK_ALPHA_VANTAGE_API_KEY", ALPHA_VANTAGE)
    budget = Budget(
        chosen.alpha_vantage_calls_per_minute or None, chosen.alpha_vantage_calls_per_day or None, "America/New_York"
    )
    return AlphaVantage(
        chosen.alpha_vantage_api_key,
        base_url=chosen.alpha_vantage_url,
        quota=counting(ALPHA_VANTAGE, budget),
        budget=budget,
        premium=chosen.alpha_vantage_premium,
        patience=counting.patience,
    )


@dataclass(frozen=True)
class Registration:
    """How a provider comes to be.

    Attributes:
        make: it, from the settings.
        is_configured: whether the settings have what it needs, so that it is asked without being named.
        has_whole_list: whether every symbol that it has is wanted; of a vendor's, only those that somebody asked for.
    """

    make: Callable[[Settings, Counting], Provider]
    is_configured: Callable[[Settings], bool]
    has_whole_list: bool = False


# In the order in which they are asked where the settings name no other.
REGISTRY: Mapping[str, Registration] = {
    POLYGON: Registration(_polygon, lambda chosen: chosen.polygon_api_key is not None),
    ALPHA_VANTAGE: Registration(_alpha_vantage, lambda chosen: chosen.alpha_vantage_api_key is not None),
    CSV_FOLDER: Registration(_csv_folder, lambda chosen: chosen.csv_folder is not None, has_whole_list=True),
    SAMPLE: Registration(_sample, lambda _: False, has_whole_list=True),
}


def open_lineup(chosen: Settings, engine: Callable[[], Engine], patience: Patience | None = None) -> Lineup:
    """Return the providers that the settings choose, best first.

    Args:
        chosen: the settings.
        engine: opens the database in which calls are counted; only when a provider with a budget is first asked.
        patience: how long vendors are waited for, and how often they are asked again; None for their own.

    Raises:
        ConfigError: a provider is unknown, or lacks its key.
    """
    counting = _CountedInDatabase(engine, patience)
    wanted = names(chosen)
    providers = [REGISTRY[name].make(chosen, counting) for name in wanted]
    return Lineup(
        providers,
        counting.counters,
        counting.budgets,
        next_on_quota=chosen.on_quota == "next",
        has_whole_list=REGISTRY[wanted[0]].has_whole_list,
    )


def names(chosen: Settings) -> list[str]:
    """Return the names of the providers that the settings choose, best first.

    Raises:
        ConfigError: one is unknown or stands twice.
    """
    if chosen.providers is None:
        return [name for name, one in REGISTRY.items() if one.is_configured(chosen)] or [SAMPLE]
    wanted = [name.strip() for name in chosen.providers.split(",")]
    if (unknown := set(wanted) - set(REGISTRY)) or len(set(wanted)) < len(wanted):
        found = ", ".join(sorted(unknown)) if unknown else f"{chosen.providers}, with one twice"
        raise ConfigError(f"TICKSTOCK_PROVIDERS: expected some of {', '.join(REGISTRY)}, each once, found {found}")
    return wanted


def _no_key(variable: str, provider: str) -> ConfigError:
    return ConfigError(
        f"{variable}: expected the key of {provider}, which TICKSTOCK_PROVIDERS names, found it unset; set it"
    )


@dataclass(frozen=True)
class _CountedInDatabase:
    """Makes stored quotas, and remembers them by the names of their providers."""

    engine: Callable[[], Engine]
    patience: Patience | None
    counters: dict[str, Counted] = field(default_factory=dict)
    budgets: dict[str, Callable[[], Remaining]] = field(default_factory=dict)

    def __call__(self, provider: str, budget: Budget) -> Quota:
        """Return what counts a provider's calls."""
        opened = _Opened(provider, budget, self.engine)
        self.counters[provider], self.budgets[provider] = Counted(opened), opened.remaining
        return self.counters[provider]


class _Opened:
    """A stored quota whose database is opened with the first call: loading the definitions needs none."""

    def __init__(self, provider: str, budget: Budget, engine: Callable[[], Engine]) -> None:
        self._provider, self._budget, self._engine = provider, budget, engine
        self._quota: StoredQuota | None = None

    def _stored(self) -> StoredQuota:
        if self._quota is None:
            budget = self._budget
            self._quota = StoredQuota(self._engine(), self._provider, budget.per_minute, budget.per_day, budget.zone)
        return self._quota

    def call(self) -> AbstractContextManager[None]:
        """Take a place."""
        return self._stored().call()

    def remaining(self) -> Remaining:
        """Return what is left of the budget."""
        return self._stored().remaining()

    def blocked(self, until: datetime) -> None:
        """Remember what the vendor asked for."""
        self._stored().blocked(until)
