"""The single assembly of everything Dagster sees; loads without secrets, network or database."""

from collections.abc import Sequence
from typing import cast

import dagster as dg

from tickstock_assets.defs.assets import (
    backtests,
    bars,
    features,
    gaps,
    operations,
    patterns,
    quality,
    raw,
    reconciliation,
    reference,
    reports,
    rollups,
    ticks,
)
from tickstock_assets.defs.catalog import catalogued
from tickstock_assets.defs.checks import CHECKS
from tickstock_assets.defs.gap_checks import GAP_CHECKS
from tickstock_assets.defs.gap_healing import HEALING
from tickstock_assets.defs.io_managers import TableIOManager
from tickstock_assets.defs.jobs import DAGSTER_CLEANUP, JOBS, RETENTION
from tickstock_assets.defs.minute_checks import MINUTE_CHECKS
from tickstock_assets.defs.open_requests import OPEN_REQUESTS
from tickstock_assets.defs.quality_checks import QUALITY_CHECKS
from tickstock_assets.defs.resources import Database, MarketData
from tickstock_assets.defs.row_count_checks import ROW_COUNT_CHECKS
from tickstock_assets.defs.schedules import SCHEDULES
from tickstock_assets.defs.sensors import SENSORS
from tickstock_assets.defs.watch_lists import WATCH_LIST

database = Database()

defs = dg.Definitions(
    assets=dg.map_asset_specs(
        catalogued,
        # They are all of that kind; what else a module could have is not here.
        cast(
            "Sequence[dg.AssetsDefinition]",
            dg.load_assets_from_modules(
                [
                    operations,
                    reference,
                    raw,
                    bars,
                    ticks,
                    rollups,
                    features,
                    patterns,
                    backtests,
                    reconciliation,
                    quality,
                    gaps,
                    reports,
                ]
            ),
        ),
    ),
    asset_checks=[*CHECKS, *MINUTE_CHECKS, *QUALITY_CHECKS, *GAP_CHECKS, *ROW_COUNT_CHECKS],
    jobs=[*JOBS, RETENTION, DAGSTER_CLEANUP, HEALING, WATCH_LIST, OPEN_REQUESTS],
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
