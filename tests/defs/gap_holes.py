"""A loaded year with holes in it, a vendor that lacks some days, and the sensors and runs that fill them, in this process."""

import contextlib
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
from dagster._core.storage.tags import RUN_KEY_TAG
from sqlalchemy import event

from tests.defs.simulated import KEY, Project
from tickstock_assets.defs import resources
from tickstock_assets.defs.gap_sensor import heal_gaps
from tickstock_assets.defs.sensors import due_requests
from tickstock_assets.domain.errors import TickstockError
from tickstock_assets.domain.windows import Window
from tickstock_assets.loading.gap_finding import Reach, find_gaps
from tickstock_assets.loading.landed_days import Landed
from tickstock_assets.loading.load import Loader, Order
from tickstock_assets.providers.base import Dataset
from tickstock_assets.settings import settings
from tickstock_assets.simulator import Market
from tickstock_assets.simulator.bars import Bars, midnight

type Hole = tuple[str, date]

# Asked by symbol and window, so that it shows in the simulator's record what was asked for.
POLYGON: Mapping[str, str] = {
    "TICKSTOCK_PROVIDERS": "polygon",
    "TICKSTOCK_POLYGON_URL": "{simulator}",
    "TICKSTOCK_POLYGON_API_KEY": KEY,
    "TICKSTOCK_POLYGON_CALLS_PER_MINUTE": "0",
}
YEAR = date(2012, 1, 3), date(2012, 12, 31)


def load(
    project: Project, symbols: Iterable[str], first: date, last: date, dataset: Dataset = Dataset.DAILY_BARS
) -> None:
    """Load as the command does."""
    loader = Loader(resources.lineup(), project.engine, settings().landing_path)
    outcome = loader.load(Order(list(symbols), first, last, dataset, actions=False))
    assert not outcome.problems


def look(project: Project, symbols: Iterable[str], first: date, last: date, timeframe: Any = "1d") -> None:
    """Look for gaps, as the job does of what was stored lately."""
    windows = [Window(symbol, first, last) for symbol in symbols]
    landed = Landed(resources.lineup(), settings().landing_path)
    find_gaps(project.engine, windows, timeframe, Reach.of(resources.lineup()), landed=landed)


def punch(project: Project, holes: Iterable[Hole]) -> None:
    """Let daily bars be gone as if they had never come: no revision tells of them."""
    with project.engine.begin() as connection:
        for symbol, day in holes:
            deleted = connection.exec_driver_sql(
                "DELETE FROM ohlcv_daily WHERE symbol = %s AND date = %s", (symbol, day)
            )
            assert deleted.rowcount == 1, (symbol, day)


def let_lack(market: Market, holes: Iterable[Hole]) -> None:
    """Let the vendors have no bars of some days any more."""
    lacking: dict[str, list[int]] = {}
    for symbol, day in holes:
        lacking.setdefault(symbol, []).append(midnight(day))
    complete = market._listed_series

    def listed(ticker: str, **which: bool) -> Bars:
        bars = complete(ticker, **which)
        kept = ~np.isin(bars.start_ms, lacking.get(ticker, []))
        return bars if kept.all() else Bars(ticker, bars.start_ms[kept], {k: v[kept] for k, v in bars.columns.items()})

    market._listed_series = listed  # type: ignore[assignment]
    market._month_of_minutes.cache_clear()


def tick(sensor: dg.SensorDefinition, project: Project) -> dg.SensorResult | dg.SkipReason:
    """Let a sensor decide once."""
    with dg.build_sensor_context(instance=project.instance) as context:
        result = sensor(context)
    assert isinstance(result, dg.SensorResult | dg.SkipReason)
    return result


class KilledError(BaseException):
    """Ends a tick as a signal would: nothing catches it."""


def killed_at_statement(number: int, project: Project, sensor: dg.SensorDefinition, cursor: str | None = None) -> bool:
    """Let a sensor tick and be killed before a statement of a number, and return whether it came so far."""
    seen = 0

    def kill(*_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == number:
            raise KilledError

    event.listen(project.engine, "before_cursor_execute", kill)
    try:
        with dg.build_sensor_context(instance=project.instance, cursor=cursor) as context:
            sensor(context)
    except KilledError:
        return True
    finally:
        event.remove(project.engine, "before_cursor_execute", kill)
    return False


def as_the_daemon_does(project: Project, rounds: int = 1) -> list[dg.RunRequest]:
    """Let the sensors tick and do the runs that they want; return those."""
    done: list[dg.RunRequest] = []
    for _ in range(rounds):
        tick(heal_gaps, project)
        while wanted := list(getattr(tick(due_requests, project), "run_requests", None) or []):
            for one in wanted:
                # A failure shows in the request.
                with contextlib.suppress(TickstockError):
                    project.run({**one.tags, RUN_KEY_TAG: str(one.run_key)}, str(one.job_name))
            done += wanted
    return done


def hours_pass(project: Project, hours: int = 24) -> None:
    """Let the attempts be so much older."""
    with project.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE data_gaps SET attempted_at = attempted_at - interval '{hours} hours'")
        connection.exec_driver_sql(
            f"UPDATE backfill_requests SET started_at = started_at - interval '{hours} hours', "
            f"finished_at = finished_at - interval '{hours} hours', created_at = created_at - interval '{hours} hours'"
        )


def stored(project: Project) -> pd.DataFrame:
    """Return symbol, date, close of all daily bars."""
    rows = project.rows("SELECT symbol, date::text, close::float8 FROM ohlcv_daily ORDER BY 1, 2")
    return pd.DataFrame(rows, columns=["symbol", "date", "close"])


def expected(
    market: Market, symbols: Iterable[str], first: date, last: date, without: Iterable[Hole] = ()
) -> pd.DataFrame:
    """Return the same, by the market itself."""
    lacking = {(symbol, str(day)) for symbol, day in without}
    bars = pd.concat([market.daily(symbol) for symbol in symbols])
    bars = bars[(bars["date"] >= pd.Timestamp(first)) & (bars["date"] <= pd.Timestamp(last))]
    bars = bars.assign(date=bars["date"].dt.strftime("%Y-%m-%d"))[["symbol", "date", "close"]]
    kept = [key not in lacking for key in zip(bars["symbol"], bars["date"], strict=True)]
    return bars[kept].sort_values(["symbol", "date"], ignore_index=True)
