"""What a year of minutes costs: 20 symbols from a simulated vendor, landed, validated, stored and rolled up.

Says rows a second and the share of each stage, then the peak of memory of a load of one month and of twelve: what is held at
a time is a batch, so twelve take about what one takes. Each load has a process, a database and a folder of its own.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import date
from typing import Any

from load import home, prepare, simulator

SYMBOLS, GOAL = 20, 1.3
YEAR_START, MONTH_START, END = date(2023, 1, 3), date(2023, 12, 1), date(2023, 12, 29)


class Stages:
    """Seconds spent in functions, by the name of a stage; what a stage calls that is one too counts there."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._open: list[float] = []

    def timed(self, stage: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with its time counted."""

        def run(*arguments: Any, **named: Any) -> Any:
            begin = time.perf_counter()
            self._open.append(0.0)
            try:
                return work(*arguments, **named)
            finally:
                took = time.perf_counter() - begin
                self.seconds[stage] += took - self._open.pop()
                if self._open:
                    self._open[-1] += took

        return run


def load(url: str, first: date) -> dict[str, Any]:
    """Load from a day to the end of the year, and return rows, seconds by stage and the peak of memory."""
    from tickstock_assets.loading import attempt, deliveries, storing
    from tickstock_assets.loading.lineup import Lineup
    from tickstock_assets.loading.load import Loader, Order
    from tickstock_assets.providers.base import Dataset
    from tickstock_assets.providers.polygon import Polygon
    from tickstock_assets.storage import rollups

    symbols = [f"S{number:04d}" for number in range(1, SYMBOLS + 1)]
    stages = Stages()
    provider = Polygon("simulated", base_url=url)
    provider.fetch = stages.timed("fetch", provider.fetch)  # type: ignore[method-assign]
    provider.parse = stages.timed("parse", provider.parse)  # type: ignore[method-assign]
    for module, name, stage in (
        (attempt.landing, "land", "land"),
        (deliveries.landing, "read", "land"),
        (storing, "keep_valid_rows", "validate"),
        (storing, "merge", "merge"),
    ):
        setattr(module, name, stages.timed(stage, getattr(module, name)))
    with home() as (folder, engine):
        prepare(engine, symbols)
        begin = time.perf_counter()
        order = Order(symbols, first, END, Dataset.MINUTE_BARS, actions=False)
        outcome = Loader(Lineup([provider]), engine, folder / "landing").load(order)
        assert not outcome.problems, outcome.problems[:3]
        stages.timed("rollup", rollups.roll_up_intraday)(engine)
        stages.timed("rollup", rollups.roll_up_daily)(engine)
        total = time.perf_counter() - begin
        differences = stages.timed("verify", rollups.verify)(engine)
        assert differences.empty, differences.head()
        with engine.connect() as connection:
            n_days = connection.exec_driver_sql("SELECT count(*) FROM ohlcv_daily").scalar_one()
    stages.seconds["rest"] = total - sum(seconds for name, seconds in stages.seconds.items() if name != "verify")
    return {
        "rows": sum(landing.rows for landing in outcome.landings),
        "days": n_days,
        "seconds": total,
        "stages": dict(stages.seconds),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def in_its_own_process(url: str, first: date) -> dict[str, Any]:
    command = [sys.executable, __file__, "--first", first.isoformat(), "--url", url]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=date.fromisoformat, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.first:
        print(json.dumps(load(chosen.url, chosen.first)))
        return
    with simulator(SYMBOLS) as url:
        month, year = (in_its_own_process(url, first) for first in (MONTH_START, YEAR_START))
        rows, seconds = year["rows"], year["seconds"]
        assert year["days"] == SYMBOLS * 250, year["days"]
        shares = {name: round(took / seconds, 3) for name, took in year["stages"].items() if name != "verify"}
        print(f"{rows:,} minutes in {seconds:.1f} s: {rows / seconds:,.0f} rows/s")
        for name, share in sorted(shares.items(), key=lambda item: -item[1]):
            print(f"{name:>9} {share:6.1%} {rows / max(year['stages'][name], 1e-9):12,.0f} rows/s")
        print(f"   verify {year['stages']['verify']:6.1f} s besides")
        for name, one in (("1 month", month), ("12 months", year)):
            print(f"{name:>9}: {one['rows']:9,} rows, peak {one['peak_mb']:,.0f} MB")
        ratio = year["peak_mb"] / month["peak_mb"]
        result = {
            "name": "minutes",
            "rival": "the peak of memory of a load of one month",
            "rows": rows,
            "rows_per_second": round(rows / seconds),
            "shares": shares,
            "peak_mb": {"1": round(month["peak_mb"]), "12": round(year["peak_mb"])},
            "ratio": round(ratio, 2),
            "goal": GOAL,
            "met": ratio <= GOAL,
        }
        print(json.dumps(result))


if __name__ == "__main__":
    main()
