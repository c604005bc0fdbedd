"""Both vendors' providers over a running simulator, with short patience, as the tests of loading share them."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tickstock_assets.providers.alpha_vantage import AlphaVantage
from tickstock_assets.providers.flat_files import FlatFiles
from tickstock_assets.providers.http import Patience
from tickstock_assets.providers.polygon import Polygon
from tickstock_assets.providers.quota import Budget, Quota, Uncounted
from tickstock_assets.simulator import Plan, Simulator, Vendor

POLYGON_KEY, ALPHA_VANTAGE_KEY = "polygon-key-9f2c", "alpha-key-51d7"
FILES_KEY, FILES_SECRET = "files-key-77aa", "files-secret-c3d0"
FOR_EVER = 1_000_000
KEYS_KNOWN = {
    Vendor.POLYGON: Plan(keys=frozenset({POLYGON_KEY})),
    Vendor.ALPHA_VANTAGE: Plan(keys=frozenset({ALPHA_VANTAGE_KEY})),
}


@dataclass(frozen=True)
class Address:
    """A simulator that runs in another process."""

    url: str


def both_vendors(simulator: Simulator | Address) -> dict[str, str]:
    """Return the settings with which a command asks both vendors at the simulator."""
    return {
        "TICKSTOCK_POLYGON_URL": simulator.url,
        "TICKSTOCK_POLYGON_API_KEY": POLYGON_KEY,
        "TICKSTOCK_ALPHA_VANTAGE_URL": f"{simulator.url}/query",
        "TICKSTOCK_ALPHA_VANTAGE_API_KEY": ALPHA_VANTAGE_KEY,
    }


def short_sleep(seconds: float) -> None:
    """Wait as asked, but never for long: the simulator's next answer does not depend on it."""
    time.sleep(min(seconds, 0.005))


def at(text: str) -> Callable[[], datetime]:
    """Return a clock that stands at a moment, UTC."""
    moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return lambda: moment


def polygon(
    simulator: Simulator | Address,
    *,
    quota: Quota | None = None,
    budget: Budget | None = None,
    with_files: bool = False,
    clock: Callable[[], datetime] | None = None,
    patience: Patience | None = None,
    key: str = POLYGON_KEY,
) -> Polygon:
    """Return Polygon at the simulator, unlimited unless a budget is named, without flat files unless wanted."""
    files = None
    patience = patience or Patience(first_wait_seconds=0.01, jitter_seconds=0)
    if with_files:
        url = f"{simulator.url}/flatfiles"
        files = FlatFiles(url, FILES_KEY, FILES_SECRET, patience=patience, sleep=short_sleep)
    more: dict[str, Any] = {} if clock is None else {"clock": clock}
    return Polygon(
        key,
        base_url=simulator.url,
        quota=quota or Uncounted(),
        budget=budget or Budget(),
        flat_files=files,
        patience=patience,
        sleep=short_sleep,
        **more,
    )


def alpha_vantage(
    simulator: Simulator | Address,
    *,
    quota: Quota | None = None,
    budget: Budget | None = None,
    premium: bool = True,
    clock: Callable[[], datetime] | None = None,
    key: str = ALPHA_VANTAGE_KEY,
) -> AlphaVantage:
    """Return Alpha Vantage at the simulator, on a paid plan without limits unless told otherwise."""
    more: dict[str, Any] = {} if clock is None else {"clock": clock}
    return AlphaVantage(
        key,
        base_url=f"{simulator.url}/query",
        quota=quota or Uncounted(),
        budget=budget or Budget(),
        premium=premium,
        patience=Patience(first_wait_seconds=0.01, jitter_seconds=0),
        sleep=short_sleep,
        **more,
    )
