"""What orchestration costs: `tickstock demo` against the same steps called directly, each a whole process on a new home.

Both start the embedded server, create the schema, land, validate, store, measure, detect and backtest. Only the demo
also loads Dagster, records runs, materializations and check results, and draws plots.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

PAIRS = 3
GOAL = 2.5


def call_directly(home: Path) -> int:
    """Do what the demo does without Dagster, and return how many bars are stored."""
    from tickstock_assets.domain.adjustments import to_continuous
    from tickstock_assets.domain.backtest.engine import run_backtest
    from tickstock_assets.domain.backtest.inputs import BacktestConfig
    from tickstock_assets.domain.features import compute_features
    from tickstock_assets.domain.patterns.registry import detect
    from tickstock_assets.domain.sessions import DEFAULT_EXCHANGE, trading_sessions
    from tickstock_assets.domain.windows import Window
    from tickstock_assets.loading.fetching import land_missing
    from tickstock_assets.loading.lineup import Lineup
    from tickstock_assets.loading.storing import store
    from tickstock_assets.providers.sample import SampleProvider
    from tickstock_assets.storage import backtests, bars
    from tickstock_assets.storage.bulk import merge
    from tickstock_assets.storage.database import open_database
    from tickstock_assets.storage.findings import as_pattern_rows

    started_at, provider, engine, landing = (
        datetime.now(UTC),
        SampleProvider(),
        open_database(home, None),
        home / "landing",
    )
    windows = [Window(symbol, provider.history_start, provider.horizon()) for symbol in provider.symbols()["symbol"]]
    with engine.begin() as connection:
        merge(connection, "symbols", provider.symbols())
        merge(connection, "sessions", trading_sessions(DEFAULT_EXCHANGE, provider.history_start, provider.horizon()))
        merge(connection, "splits", provider.splits().assign(source=provider.name))
        dividends = provider.dividends().assign(source=provider.name, distribution_type="unknown")
        merge(connection, "dividends", dividends)
    lineup = Lineup([provider])
    land_missing(lineup, engine, landing, windows).raise_for_failures()
    stored = store(lineup, engine, landing, windows).counts.inserted
    with engine.begin() as connection:
        held, splits = bars.daily_bars(connection), bars.splits(connection)
        continuous = to_continuous(held, splits)
        features = compute_features(continuous).assign(timeframe="1d")
        merge(connection, "bar_features", features)
        found = as_pattern_rows(detect(continuous), features, "1d")
        merge(connection, "patterns", found)
        inputs = backtests.BacktestInputs(
            BacktestConfig(), held, {"patterns": found, "splits": splits, "dividends": dividends}
        )
        report = run_backtest(continuous, found, bars.dividends(connection), inputs.config)
        backtests.save_backtest(connection, inputs, report, started_at)
    return stored


def timed(command: list[str]) -> float:
    """Return the seconds of a command on a home of its own."""
    home = Path(tempfile.mkdtemp(prefix="tickstock-bench-"))
    environment = {**os.environ, "TICKSTOCK_HOME": str(home)}
    try:
        begin = time.perf_counter()
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - begin
    finally:
        from tickstock_assets.storage import embedded

        embedded.destroy(home)
        shutil.rmtree(home, ignore_errors=True)


def main() -> None:
    demo = [str(Path(sys.executable).parent / "tickstock"), "demo", "--json"]
    direct = [sys.executable, __file__, "--direct"]
    pairs = [(timed(demo), timed(direct)) for _ in range(PAIRS)]
    for seconds_demo, seconds_direct in pairs:
        print(
            f"demo {seconds_demo:6.2f} s   direct {seconds_direct:6.2f} s   ratio {seconds_demo / seconds_direct:.2f}"
        )
    ratio = statistics.median(a / b for a, b in pairs)
    result = {"name": "demo", "rival": "the same steps called directly", "ratio": round(ratio, 2), "goal": GOAL}
    print(json.dumps({**result, "met": ratio <= GOAL}))


if __name__ == "__main__":
    if sys.argv[1:] == ["--direct"]:
        assert call_directly(Path(os.environ["TICKSTOCK_HOME"]).resolve()) == 12_154
    else:
        main()
