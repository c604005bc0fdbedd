"""A plain HTTP client, and a small market to ask about."""

from datetime import date
from typing import Any

import urllib3

from tickstock_assets.simulator import Market, Simulator

KEY = "a-key-for-tests"
START, END = date(2022, 11, 1), date(2023, 1, 31)
# In which the 62 sessions from START to END lie.
DAILY = "/v2/aggs/ticker/{}/range/1/day/2022-11-01/2023-01-31"
MINUTES = "/v2/aggs/ticker/{}/range/1/minute/2022-11-21/2022-11-25"


def small_market(**settings: Any) -> Market:
    """Return invented companies only, over one winter."""
    return Market(generated=settings.pop("generated", 5), start=START, end=END, sample=False, **settings)


def get(simulator: Simulator, path: str, key: str | None = KEY, **parameters: str) -> urllib3.BaseHTTPResponse:
    """Return the answer to one GET without any retry."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with urllib3.PoolManager(retries=False, headers=headers) as pool:
        address = path if path.startswith("http") else simulator.url + path
        return pool.request("GET", address, fields=parameters or None)


def ask(simulator: Simulator, function: str, **parameters: str) -> dict[str, Any]:
    """Return Alpha Vantage's answer."""
    answer = get(simulator, "/query", key=None, function=function, **{"apikey": KEY, **parameters})
    assert answer.status == 200
    body: dict[str, Any] = answer.json()
    return body
