"""The single assembly of everything Dagster sees; loads without secrets, network or database."""

import dagster as dg

from tickstock_assets.defs.assets import backtests, bars, features, operations, patterns, raw, reconciliation, reference
from tickstock_assets.defs.checks import CHECKS
from tickstock_assets.defs.io_managers import TableIOManager
from tickstock_assets.defs.jobs import JOBS, RETENTION
from tickstock_assets.defs.resources import Database, MarketData
from tickstock_assets.defs.schedules import SCHEDULES
from tickstock_assets.defs.sensors import SENSORS

database = Database()

defs = dg.Definitions(
    assets=dg.load_assets_from_modules(
        [operations, reference, raw, bars, features, patterns, backtests, reconciliation]
    ),
    asset_checks=CHECKS,
    jobs=[*JOBS, RETENTION],
    schedules=SCHEDULES,
    sensors=SENSORS,
    resources={
        "database": database,
        "market_data": MarketData(),
        "io_manager": TableIOManager(database=database),
    },
    # Steps of a run take milliseconds; a process for each would cost a second and more to import.
    executor=dg.in_process_executor,
)
