"""What Prometheus and health checks are answered: collected when they ask, at most every few seconds, and never for long.

Each group of metrics is collected for itself. One that cannot be is left out and counted, and the others are there: also of a
database that is gone it is told that it is.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import dagster as dg
import psycopg
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from tickstock_assets.defs.launching import open_instance
from tickstock_assets.domain.errors import DatabaseError, TickstockError
from tickstock_assets.loading.lineup import Lineup
from tickstock_assets.loading.registry import open_lineup
from tickstock_assets.metrics import dagster_figures, database_figures, provider_figures
from tickstock_assets.metrics.shared_answer import SharedAnswer
from tickstock_assets.settings import Settings
from tickstock_assets.storage.database import database_url, open_engine
from tickstock_assets.storage.health import NOT_TOLD, Disk, Health, disk_of, health
from tickstock_assets.storage.pool import Limits

KEEP_SECONDS = 5.0
# Together less than the ten seconds that Prometheus waits.
WAIT_SECONDS, HEALTH_SECONDS = 5.0, 4.0
# A connection to collect with and one to ask how the database is; the server gives up what takes long.
LIMITS = Limits(kept=2, most=4, wait_seconds=3.0, statement_timeout_seconds=5)
APPLICATION = "tickstock metrics"
# What can go wrong around us; a mistake of our own is none of these.
TROUBLE = (TickstockError, OSError, SQLAlchemyError, psycopg.Error, dg.DagsterError)
NO_ANSWER = "the database: expected an answer within {:g} s, found none; is it running?"

type Group = tuple[str, Callable[[], Iterator[Metric]]]


@dataclass(frozen=True, eq=False)
class _Collected:
    """Has `collect`, as a registry wants it."""

    families: Sequence[Metric]

    def collect(self) -> Iterator[Metric]:
        return iter(self.families)


class Exporter:
    """Collects metrics of the project that the settings name; opens what it needs when it is first asked.

    Args:
        chosen: the settings.
        keep_seconds: how long an answer is as good as new.
        wait_seconds: how long metrics are waited for.
        health_seconds: how long it is waited for how the database is.
    """

    def __init__(
        self,
        chosen: Settings,
        keep_seconds: float = KEEP_SECONDS,
        wait_seconds: float = WAIT_SECONDS,
        health_seconds: float = HEALTH_SECONDS,
    ) -> None:
        self._chosen = chosen
        self._server = chosen.database_url.get_secret_value() if chosen.database_url else None
        self._engine: Engine | None = None
        self._lineup: Lineup | None = None
        self._instance: dg.DagsterInstance | None = None
        self._opened = ExitStack()
        self._errors: Counter[str] = Counter()
        self._opening = threading.Lock()
        self._health_seconds = health_seconds
        self._text = SharedAnswer(self.collect, keep_seconds, wait_seconds)
        self._health = SharedAnswer(self._look, keep_seconds, health_seconds)

    def metrics(self) -> bytes:
        """Return all metrics in Prometheus' text format; where that takes too long, how the database is."""
        text = self._text.get()
        if text is not None:
            return text
        found = self.health()
        self._errors["collection" if found.reachable else "database"] += 1
        return _as_text([*database_figures.of_health(found, self._disk()), self._error_counts()])

    def health(self) -> Health:
        """Return how the database is."""
        return self._health.get() or self._unreachable(NO_ANSWER.format(self._health_seconds))

    def close(self) -> None:
        """Let go of what was opened."""
        self._opened.close()
        if self._engine is not None:
            self._engine.dispose()

    # --- in the thread that collects

    def _look(self) -> Health:
        home = self._chosen.home_path if self._server is None else None
        try:
            engine = self._open_engine()
        except DatabaseError as error:
            return self._unreachable(str(error))
        found = health(engine, home, self._chosen.low_disk_gb)
        if not found.reachable:
            # An embedded server that was killed is revived, and perhaps at another address, when it is opened anew.
            self._engine = None
            engine.dispose()
        return found

    def collect(self) -> bytes:
        """Collect all metrics that can be, here and now, however long it takes; in Prometheus' text format."""
        return _as_text(self.families())

    def families(self) -> list[Metric]:
        """Collect all metrics that can be, here and now."""
        found = self._look()
        families = list(database_figures.of_health(found, self._disk()))
        if found.reachable:
            for name, collect in self._groups():
                try:
                    families += collect()
                except TROUBLE:
                    self._errors[name] += 1
        else:
            self._errors["database"] += 1
        return [*families, self._error_counts()]

    def _groups(self) -> Sequence[Group]:
        def of_database(figures: Callable[[Connection], Iterator[Metric]]) -> Callable[[], Iterator[Metric]]:
            def collect() -> Iterator[Metric]:
                with self._open_engine().connect() as connection:
                    return iter(list(figures(connection)))

            return collect

        return [
            ("connections", of_database(database_figures.of_connections)),
            ("tables", of_database(database_figures.of_tables)),
            ("quality", of_database(database_figures.of_quality)),
            ("work", of_database(database_figures.of_work)),
            ("alerts", of_database(database_figures.of_alerts)),
            ("lag", of_database(lambda connection: provider_figures.of_lag(connection, self._open_lineup()))),
            ("quota", lambda: provider_figures.of_quota(self._open_lineup())),
            ("runs", lambda: dagster_figures.of_runs(self._open_instance())),
            ("ticks", lambda: dagster_figures.of_ticks(self._open_instance())),
        ]

    def _open_engine(self) -> Engine:
        with self._opening:
            if self._engine is None:
                self._engine = open_engine(database_url(self._chosen.home_path, self._server), APPLICATION, LIMITS)
            return self._engine

    def _open_lineup(self) -> Lineup:
        if self._lineup is None:
            self._lineup = open_lineup(self._chosen, self._open_engine)
        return self._lineup

    def _open_instance(self) -> dg.DagsterInstance:
        if self._instance is None:
            self._instance = self._opened.enter_context(open_instance(self._chosen.home_path))
        return self._instance

    def _error_counts(self) -> Metric:
        counts = CounterMetricFamily(
            "tickstock_collection_errors", "Collections that failed, by group of metrics.", labels=["group"]
        )
        for group in ("database", "collection", *(name for name, _ in self._groups())):
            counts.add_metric([group], self._errors[group])
        return counts

    def _disk(self) -> Disk:
        return disk_of(self._chosen.home_path, self._chosen.low_disk_gb)

    def _unreachable(self, reason: str) -> Health:
        shown = self._disk() if self._server is None else Disk(reason=NOT_TOLD)
        return Health(
            reachable=False, status="unreachable", latency_ms=None, warnings=[], reason=reason, disk=shown, pool=None,
            tier=None, timescaledb=None,
        )  # fmt: skip


def _as_text(families: Sequence[Metric]) -> bytes:
    registry = CollectorRegistry()
    registry.register(_Collected(families))
    return generate_latest(registry)
