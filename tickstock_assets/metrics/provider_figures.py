"""Metrics of providers: what is left of their budgets, and how far stored bars are behind what they can have."""

import math
from collections.abc import Iterator
from datetime import UTC, datetime

from prometheus_client.core import GaugeMetricFamily, Metric
from sqlalchemy import Connection

from tickstock_assets.defs.state_alerts import lags
from tickstock_assets.loading.lineup import Lineup
from tickstock_assets.providers.base import Dataset, Provider

# What bars of a timeframe are filed under.
DATASETS = {"1d": Dataset.DAILY_BARS, "1m": Dataset.MINUTE_BARS}


def of_lag(connection: Connection, lineup: Lineup) -> Iterator[Metric]:
    """Yield how far the bars of each dataset are behind the providers' horizon."""
    labels = ["dataset", "timeframe"]
    seconds = GaugeMetricFamily(
        "tickstock_lag_seconds",
        "From the close of the newest stored session to that of the last one that a provider can have.",
        labels=labels,
    )
    sessions = GaugeMetricFamily("tickstock_lag_sessions", "The same in sessions of the exchange.", labels=labels)
    newest = GaugeMetricFamily(
        "tickstock_newest_session_timestamp_seconds", "Close of the newest stored session.", labels=labels
    )
    horizon = GaugeMetricFamily(
        "tickstock_horizon_timestamp_seconds",
        "Close of the last session that a provider can have data of.",
        labels=labels,
    )
    for one in lags(connection, lineup.horizon()):
        of_one = [DATASETS[one.timeframe].value, one.timeframe]
        seconds.add_metric(of_one, one.seconds)
        sessions.add_metric(of_one, one.sessions)
        newest.add_metric(of_one, one.newest_close.timestamp())
        horizon.add_metric(of_one, one.horizon_close.timestamp())
    yield from (seconds, sessions, newest, horizon)


def of_quota(lineup: Lineup) -> Iterator[Metric]:
    """Yield what is left of each provider's budget, by the routes that are counted against it."""
    labels = ["provider", "route", "period"]
    left = GaugeMetricFamily(
        "tickstock_provider_calls_left", "Calls left of the budget, +Inf where there is no limit.", labels=labels
    )
    allowed = GaugeMetricFamily(
        "tickstock_provider_calls_allowed", "Calls that the plan allows, +Inf where there is no limit.", labels=labels
    )
    blocked = GaugeMetricFamily(
        "tickstock_provider_blocked_seconds",
        "Seconds for which the vendor wants no call (its Retry-After).",
        labels=["provider"],
    )
    for provider in lineup:
        remaining = lineup.remaining(provider)
        for route, (per_minute, per_day) in _budgets(provider).items():
            for period, limit, number in (("minute", per_minute, remaining.minute), ("day", per_day, remaining.day)):
                left.add_metric([provider.name, route, period], _or_infinite(None if limit is None else number))
                allowed.add_metric([provider.name, route, period], _or_infinite(limit))
        until = remaining.blocked_until
        seconds = max((until - datetime.now(UTC)).total_seconds(), 0.0) if until else 0.0
        blocked.add_metric([provider.name], seconds)
    yield from (left, allowed, blocked)


def _budgets(provider: Provider) -> dict[str, tuple[int | None, int | None]]:
    """Return what a plan allows a minute and a day, by route."""
    return {
        route.name: (route.budget.per_minute, route.budget.per_day)
        for dataset in Dataset
        for route in provider.routes(dataset)
    }


def _or_infinite(number: int | None) -> float:
    return math.inf if number is None else number
