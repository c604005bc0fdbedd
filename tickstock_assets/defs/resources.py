"""What assets are handed: the database, the landing folder and the provider, all from the settings, opened on first use."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from pydantic import PrivateAttr
from sqlalchemy import Connection, Engine

from tickstock_assets.domain.backtest.inputs import BacktestConfig
from tickstock_assets.loading.lineup import Lineup
from tickstock_assets.loading.registry import open_lineup
from tickstock_assets.settings import settings
from tickstock_assets.storage import audit
from tickstock_assets.storage.database import open_database
from tickstock_assets.storage.pool import Limits
from tickstock_assets.storage.retry import in_transaction


@functools.cache
def lineup() -> Lineup:
    """Return the providers that the settings choose."""
    return open_lineup(settings(), engine)


@functools.cache
def engine() -> Engine:
    """Return this process's engine; the first call starts the embedded server where no other is set."""
    chosen = settings()
    server = chosen.database_url
    limits = Limits(chosen.pool_size, chosen.pool_max, statement_timeout_seconds=chosen.statement_timeout_seconds)
    return open_database(chosen.home_path, server.get_secret_value() if server else None, limits=limits)


def backtest_config() -> BacktestConfig:
    """Return the backtest that the settings describe."""
    chosen = settings()
    return BacktestConfig(
        capital=chosen.backtest_capital,
        holding_bars=chosen.backtest_holding_bars,
        commission_bps=chosen.backtest_commission_bps,
        slippage_bps=chosen.backtest_slippage_bps,
        risk_free_rate=chosen.risk_free_rate,
    )


class Database(dg.ConfigurableResource[None]):
    """The market database. It has no configuration of its own, so that no password can show in the web UI.

    What is done through it stands in the audit trail under the id of Dagster's run.
    """

    _run: audit.Run | None = PrivateAttr(default=None)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Remember which run this is; outside of runs there is none."""
        if context.run is not None:
            self._run = audit.Run(f"dagster {context.run.job_name}", context.run.run_id)

    @property
    def run(self) -> audit.Run | None:
        """Whose entries in the audit trail these are."""
        return self._run

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Open a transaction: committed at the end, rolled back on an error."""
        with engine().begin() as connection:
            yield connection

    def in_transaction[T](self, work: Callable[[Connection], T]) -> T:
        """Do `work` in a transaction of its own, and all of it again when a transient error broke it."""
        return in_transaction(engine(), work, self._run)


class MarketData(dg.ConfigurableResource[None]):
    """The providers, and the landing folder their payloads go to."""

    @property
    def lineup(self) -> Lineup:
        """The providers that the settings choose, best first."""
        return lineup()

    @property
    def landing_folder(self) -> Path:
        """Where payloads are landed."""
        return settings().landing_path
