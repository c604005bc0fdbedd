"""The project in this process, with simulated vendors: its database, Dagster's own instance on it, and passing days."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import dagster as dg
from sqlalchemy import Connection, Engine, text

from tickstock_assets.definitions import defs
from tickstock_assets.defs import launching, resources
from tickstock_assets.defs.partitions import SYMBOLS
from tickstock_assets.domain.sessions import trading_sessions
from tickstock_assets.settings import settings
from tickstock_assets.simulator import Market, Simulator, Vendor
from tickstock_assets.storage.bulk import merge

KEY = "a-key-for-tests"
# Within the years that are partitions where no key is set, as in this process when it imported them.
FIRST, LAST = date(2011, 1, 3), date(2012, 12, 31)
DAY_SECONDS = 86_400.0


def market(companies: int) -> Market:
    """Return invented companies only, S0001 and so on, over the years 2011 and 2012."""
    return Market(generated=companies, start=FIRST, end=LAST, sample=False)


def environment(simulator: Simulator, calls_per_day: int) -> dict[str, str]:
    """Return the settings under which Alpha Vantage is asked first, with a budget by day."""
    return {
        "TICKSTOCK_PROVIDERS": "alpha_vantage",
        "TICKSTOCK_ALPHA_VANTAGE_URL": f"{simulator.url}/query",
        "TICKSTOCK_ALPHA_VANTAGE_API_KEY": KEY,
        "TICKSTOCK_ALPHA_VANTAGE_PREMIUM": "true",
        "TICKSTOCK_ALPHA_VANTAGE_CALLS_PER_MINUTE": "0",
        "TICKSTOCK_ALPHA_VANTAGE_CALLS_PER_DAY": str(calls_per_day),
    }


def forget_settings() -> None:
    """Let the next use read the settings anew; no connection of the old ones stays open."""
    if resources.engine.cache_info().currsize:
        resources.engine().dispose()
    for cached in (resources.lineup, resources.engine, settings):
        cached.cache_clear()


def know(
    engine: Engine, instance: dg.DagsterInstance, symbols: Sequence[str], first: date = FIRST, last: date = LAST
) -> None:
    """Enter instruments and sessions, as the reference assets would."""
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO symbols (symbol, exchange) SELECT unnest(CAST(:symbols AS text[])), 'XNYS'"),
            {"symbols": list(symbols)},
        )
        merge(connection, "sessions", trading_sessions("XNYS", first, last))
        # Who loads them says so.
        connection.execute(text("INSERT INTO requested_history (symbol, timeframe) SELECT symbol, '1d' FROM symbols"))
    instance.add_dynamic_partitions(str(SYMBOLS.name), list(symbols))


def store_equal_bars(connection: Connection) -> None:
    """Store a daily bar of every symbol and session, all of them equal."""
    connection.execute(
        text("""
            INSERT INTO ohlcv_daily (symbol, date, open, high, low, close, volume, exchange, source)
            SELECT i.symbol, s.session, 10, 11, 9, 10, 1000, i.exchange, 'alpha_vantage'
            FROM symbols i JOIN sessions s USING (exchange)
        """)
    )


@dataclass
class Project:
    """What a test looks at and changes."""

    simulator: Simulator
    engine: Engine
    instance: dg.DagsterInstance

    def run(self, tags: Mapping[str, str], job: str = "daily_history") -> None:
        """Run the job in which history is built, here and now; TickstockError when it fails."""
        launching.run_job(self.instance, defs.resolve_job_def(job), tags, lambda _: None)

    def asked_for(self) -> list[str]:
        """Return the symbols that the vendor was asked for, in the order of the calls."""
        return [call.symbol for call in self.simulator.record.calls]

    def a_day_passes(self) -> None:
        """Let the vendor's day end: for the vendor, for what we count, and for the requests that wait for it."""
        meter = self.simulator.usage(Vendor.ALPHA_VANTAGE, KEY)
        clock = meter.clock
        meter.clock = lambda: clock() + DAY_SECONDS
        with self.engine.begin() as connection:
            connection.execute(
                text("UPDATE provider_quota SET period_start = period_start - interval '1 day', "
                     "ends_at = ends_at - interval '1 day'")
            )  # fmt: skip
            connection.execute(text("UPDATE backfill_requests SET not_before = not_before - interval '1 day'"))

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """Return what the database answers."""
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query))]

    def materialized(self, asset: str) -> set[str]:
        """Return the partitions of an asset that Dagster holds for materialized."""
        return set(self.instance.get_materialized_partitions(dg.AssetKey(asset)))
