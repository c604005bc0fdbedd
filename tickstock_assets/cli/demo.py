"""`tickstock demo`: the whole graph on the sample data, and what came of it."""

import fcntl
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.table import Table

from tickstock_assets.cli.app import JsonOption, app, console, print_json
from tickstock_assets.cli.progress import steps
from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.settings import settings

BEST_SHOWN = 10
ENOUGH_TRADES = 30
PATTERNS_SHOWN = 15
# Back from the last day: the month that it is in and, as that may have begun just now, the one before.
A_MONTH = timedelta(days=28)
JOBS = ("reference", "daily_history", "minute_history", "gaps", "quality", "weekly_report", "backtest")


@app.command()
def demo(*, as_json: JsonOption = False) -> None:
    """Load the sample data and compute everything from it, as Dagster runs that `tickstock ui` shows.

    Five US stocks, 2000 to 2013: bars are landed, validated and stored, features and patterns computed, every pattern
    backtested; and minutes made up for the last month, rolled up to days that equal the real ones. Doing it twice changes
    nothing.
    """
    # Whatever keys there are: the demo asks nobody.
    settings().providers = "sample"
    home = settings().home_path
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{home}: expected a folder we can write, found {error.strerror}; set TICKSTOCK_HOME to another"
        ) from None
    with _only_one(home):
        run = _materialize(home, quiet=as_json)
        summary = _summary(run)
    if as_json:
        print_json(summary)
    else:
        _print(summary)


@contextmanager
def _only_one(home: Path) -> Iterator[None]:
    with (home / "demo.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{home}: another `tickstock demo` is at work there; wait for it to end") from None
        yield


def _materialize(home: Path, *, quiet: bool) -> str:
    """Materialize everything and return the id of the backtest."""
    with steps(quiet) as progress:
        task = progress.add_task("Starting PostgreSQL and Dagster", total=None)
        # A million objects come to stay; looking through them for garbage while they do takes a sixth of the time.
        gc.disable()
        from tickstock_assets.definitions import defs
        from tickstock_assets.defs import launching
        from tickstock_assets.defs.assets.backtests import last_backtest
        from tickstock_assets.defs.partitions import BY_MONTH, FIRST_DAY, known_symbols, rectangle_tags, side_by_side
        from tickstock_assets.defs.resources import engine, lineup

        gc.freeze()
        gc.enable()
        with launching.open_instance(home) as instance:
            engine()
            launching.close_interrupted_runs(instance)
            jobs = {name: defs.resolve_job_def(name) for name in JOBS}
            progress.update(task, total=sum(len(job.graph.node_defs) for job in jobs.values()))

            def on_step(step: str) -> None:
                progress.update(task, advance=1, description=step)

            launching.run_job(instance, jobs["reference"], {}, on_step)
            wanted = lineup().first.symbols()["symbol"].tolist()
            known = known_symbols(instance)
            last = lineup().horizon()
            groups = side_by_side(wanted, known)
            years = [rectangle_tags(group, known, FIRST_DAY, last) for group in groups]
            months = [rectangle_tags(group, known, last - A_MONTH, last, BY_MONTH) for group in groups]
            for tags in years:
                launching.run_job(instance, jobs["daily_history"], tags, on_step)
            for tags in months:
                launching.run_job(instance, jobs["minute_history"], tags, on_step)
            launching.run_job(instance, jobs["gaps"], {}, on_step)
            for tags in years:
                launching.run_job(instance, jobs["quality"], tags, on_step)
            launching.run_job(instance, jobs["weekly_report"], {}, on_step)
            launching.run_job(instance, jobs["backtest"], {}, on_step)
            progress.update(task, description="Done")
            return last_backtest(instance)


def _summary(run: str) -> dict[str, Any]:
    from tickstock_assets.cli.database import engine
    from tickstock_assets.defs.resources import lineup
    from tickstock_assets.providers.base import Dataset
    from tickstock_assets.storage import bars as stored
    from tickstock_assets.storage import minutes

    with engine().connect() as connection:
        held = stored.coverage(connection, lineup().horizons())
        held["n_missing"] = held["missing"].map(len)
        rejected = stored.quarantined(connection, lineup().sources(Dataset.DAILY_BARS))
        detections = stored.patterns(connection, "1d")
        results = stored.backtest_results(connection, run)
        n_minutes = int(minutes.sources_of_minutes(connection, None)["bars"].sum())
    portfolio = results[results["scope"] == "portfolio"]
    return {
        "bars": [
            {
                "symbol": row.symbol,
                "first": f"{row.first:%Y-%m-%d}",
                "last": f"{row.last:%Y-%m-%d}",
                "bars": row.bars,
                "quarantined": int((rejected["symbol"] == row.symbol).sum()),
                "missing": row.n_missing,
            }
            for row in held[held["source"] == lineup().first.name].itertuples()
        ],
        "quarantined": len(rejected),
        "minutes": n_minutes,
        "detections": detections.groupby(["pattern", "variant"]).size().reset_index(name="count").to_dict("records"),
        "backtest": portfolio.sort_values(["sharpe", "strategy_name"], ascending=[False, True]).to_dict("records"),
    }


def _print(summary: dict[str, Any]) -> None:
    console.print(_bars_table(summary))
    detections = sorted(summary["detections"], key=lambda row: -row["count"])
    table = Table(
        "pattern", title=f"{sum(row['count'] for row in detections):,} detections of {len(detections)} patterns"
    )
    table.add_column("detections", justify="right")
    for row in detections[:PATTERNS_SHOWN]:
        table.add_row(f"{row['pattern']} {row['variant']}".strip(), f"{row['count']:,}")
    if len(detections) > PATTERNS_SHOWN:
        rest = detections[PATTERNS_SHOWN:]
        table.add_row(f"… {len(rest)} more", f"{sum(row['count'] for row in rest):,}", style="dim")
    console.print(table)
    console.print(_backtest_table(summary["backtest"]))
    total = sum(row["bars"] for row in summary["bars"])
    console.print(
        f"\n[bold]{total:,} bars stored over {len(summary['bars'])} symbols, {summary['quarantined']:,} quarantined.[/]"
    )
    console.print(f"{summary['minutes']:,} made-up minutes add up to the days of the last month.")
    console.print(
        "Next: [bold]tickstock ui[/] shows the graph, or `make ui` in a checkout; `tickstock bars AAPL --adjusted` the bars."
    )


def _bars_table(summary: dict[str, Any]) -> Table:
    table = Table("symbol", "first", "last", title="Daily bars")
    for name in ("bars", "quarantined", "missing"):
        table.add_column(name, justify="right")
    for row in summary["bars"]:
        table.add_row(
            row["symbol"],
            row["first"],
            row["last"],
            f"{row['bars']:,}",
            f"{row['quarantined']:,}",
            f"{row['missing']:,}",
        )
    return table


def _backtest_table(results: list[dict[str, Any]]) -> Table:
    ranked = [row for row in results if row["signals"] >= ENOUGH_TRADES and row["sharpe"] == row["sharpe"]]
    table = Table(
        "strategy",
        title=f"Backtest of {len(results)} strategies on all symbols: the {BEST_SHOWN} best by Sharpe "
        f"of those with {ENOUGH_TRADES} trades or more",
    )
    for name in ("trades", "win rate", "ROI", "Sharpe", "max drawdown"):
        table.add_column(name, justify="right")
    for row in ranked[:BEST_SHOWN]:
        table.add_row(
            row["strategy_name"],
            f"{row['signals']:,}",
            f"{row['win_rate']:.1%}",
            f"{row['roi']:+.1%}",
            f"{row['sharpe']:.2f}",
            f"{row['max_drawdown']:.1%}",
        )
    return table
