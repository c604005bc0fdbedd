"""A split is no event: around each, everything is as on a copy of the data in which it never happened.

The copies are files of their own, read by the real provider and taken through the real kernels. In one variant the bars
before the split are restated in the shares after it (half the price, twice the volume), in the other the bars from the
split on are restated in the shares before it. Every factor is a power of two, which float64 carries without rounding, so
features, detections and fills are equal to the last bit.
"""

import csv
import gzip
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest

from tests.end_to_end import oracle
from tickstock_assets.domain.adjustments import to_continuous
from tickstock_assets.domain.backtest.engine import BacktestConfig, BacktestReport, run_backtest
from tickstock_assets.domain.features import compute_features
from tickstock_assets.domain.patterns.registry import detect
from tickstock_assets.domain.sessions import DEFAULT_EXCHANGE, trading_sessions
from tickstock_assets.domain.windows import Window
from tickstock_assets.providers.base import Dataset, Request
from tickstock_assets.providers.sample import SampleProvider

SPLIT_SYMBOLS = ("AAPL", "MSFT")
Side = Literal["before", "after"]
# Which of oracle.SPLITS never happened: each alone, and all of them.
UNDONE = {"AAPL 2000-06-21": (0,), "AAPL 2005-02-28": (1,), "MSFT 2003-02-18": (2,), "all three": (0, 1, 2)}
PER_SHARE = ("spread", "true_range", "atr_14")
UNIT_FREE = ("spread_ratio", "volume_ratio", "log_return")


@dataclass(frozen=True)
class Outcome:
    """Everything that is computed from one file."""

    bars: pd.DataFrame
    splits: pd.DataFrame
    features: pd.DataFrame
    detections: pd.DataFrame
    report: BacktestReport


def compute(file: Path, splits: pd.DataFrame | None = None) -> Outcome:
    """Take a file of AAPL and MSFT from the provider to the backtest; with the provider's splits unless others are given."""
    provider = SampleProvider(file)
    splits = provider.splits() if splits is None else splits
    horizon = provider.horizon()
    asked = [Request(Dataset.DAILY_BARS, Window(symbol, date(2000, 1, 1), horizon)) for symbol in SPLIT_SYMBOLS]
    parsed = [provider.parse(request.dataset, provider.fetch(request)) for request in asked]
    bars = pd.concat(parsed, ignore_index=True)
    schedule = trading_sessions(DEFAULT_EXCHANGE, provider.history_start, horizon)
    times = schedule.rename(columns={"session": "date", "open": "timestamp", "close": "session_close"})
    stamped = bars.merge(times[["date", "timestamp", "session_close"]], on="date", validate="many_to_one")
    continuous = to_continuous(stamped.sort_values(["symbol", "date"], ignore_index=True), splits)
    found = detect(continuous)
    report = run_backtest(continuous, found, provider.dividends(), BacktestConfig())
    return Outcome(continuous, splits, compute_features(continuous), found, report)


def restated(side: Side, undone: tuple[int, ...]) -> list[dict[str, str]]:
    """Return the file's rows of the two symbols as if some splits had never happened; Adj Close never knew of them."""
    rows = [row for row in oracle.file_rows() if row["Ticker"] in SPLIT_SYMBOLS]
    for row in rows:
        shares = _shares_restated(row["Ticker"], date.fromisoformat(row["Date"]), side, undone)
        for name in ("Open", "High", "Low", "Close"):
            row[name] = str(Decimal(row[name]) / shares)
        row["Volume"] = str(Decimal(row["Volume"]) * shares)
    return rows


def _shares_restated(symbol: str, day: date, side: Side, undone: tuple[int, ...]) -> Decimal:
    """Return how many shares of the restated file one share of that day is."""
    shares = Decimal(1)
    for of_symbol, on in (oracle.SPLITS[number] for number in undone):
        if of_symbol != symbol:
            continue
        if side == "before" and day < on:
            shares *= oracle.RATIO
        if side == "after" and day >= on:
            shares /= oracle.RATIO
    return shares


def write(file: Path, rows: list[dict[str, str]]) -> Path:
    with gzip.open(file, "wt", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return file


@pytest.fixture(scope="module")
def as_it_was(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return compute(write(tmp_path_factory.mktemp("splits") / "bars.csv.gz", restated("before", ())))


@pytest.fixture(scope="module", params=[(side, name) for side in ("before", "after") for name in UNDONE], ids=" ".join)
def copy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, pd.DataFrame]:
    """What a copy without the splits gives, and how many of its shares one share of the original is, bar by bar."""
    side, name = request.param
    undone = UNDONE[name]
    outcome = compute(write(tmp_path_factory.mktemp("splits") / "bars.csv.gz", restated(side, undone)))
    kept = [split for number, split in enumerate(oracle.SPLITS) if number not in undone]
    found = zip(outcome.splits["symbol"], outcome.splits["execution_date"].dt.date, strict=True)
    # The copy knows nothing of them any more, and the ones left alone are still there.
    assert sorted(found) == sorted(kept)
    shares = outcome.bars[["symbol", "timestamp"]].assign(
        shares=[
            float(_shares_restated(symbol, day.date(), side, undone))
            for symbol, day in zip(outcome.bars["symbol"], outcome.bars["date"], strict=True)
        ]
    )
    return outcome, shares


def shares_at(rows: pd.DataFrame, shares: pd.DataFrame, time_column: str = "timestamp") -> pd.Series:
    """Return how many shares of the copy one share of the original is, on the bar of each row."""
    placed = rows[["symbol", time_column]].merge(
        shares, how="left", left_on=["symbol", time_column], right_on=["symbol", "timestamp"], validate="many_to_one"
    )
    assert not placed["shares"].isna().any()
    return pd.Series(placed["shares"].to_numpy(), rows.index)


def assert_same(found: pd.Series, expected: pd.Series) -> None:
    np.testing.assert_array_equal(found.to_numpy(), expected.to_numpy(), err_msg=str(expected.name))


def assert_same_money(found: pd.Series, expected: pd.Series) -> None:
    """Hold amounts equal to a billionth of a unit: dividends are summed up, and sums in other shares round otherwise."""
    np.testing.assert_allclose(found.to_numpy(), expected.to_numpy(), rtol=1e-12, atol=1e-9, err_msg=str(expected.name))


def test_no_feature_differs_from_those_without_the_split(
    as_it_was: Outcome, copy: tuple[Outcome, pd.DataFrame]
) -> None:
    without, shares = copy
    assert len(without.features) == len(as_it_was.features) == 2 * 3270
    for name in ("symbol", "timestamp", *UNIT_FREE):
        assert_same(without.features[name], as_it_was.features[name])
    # Where one share of the original is two of the copy, it costs twice as much.
    factor = shares_at(without.features, shares)
    assert set(factor) <= {0.25, 0.5, 1.0, 2.0, 4.0}
    assert len(set(factor)) > 1
    for name in PER_SHARE:
        assert_same(without.features[name] * factor, as_it_was.features[name])


def test_no_detection_differs_from_those_without_the_split(
    as_it_was: Outcome, copy: tuple[Outcome, pd.DataFrame]
) -> None:
    without, shares = copy
    assert len(without.detections) == len(as_it_was.detections)
    for name in ("symbol", "timestamp", "pattern", "variant", "family", "direction", "known_at", "metadata"):
        assert_same(without.detections[name], as_it_was.detections[name])
    factor = shares_at(without.detections, shares)
    for name in ("entry_price", "stop_loss"):
        assert_same(without.detections[name] * factor, as_it_was.detections[name])


def test_no_trade_and_no_result_differs_from_those_without_the_split(
    as_it_was: Outcome, copy: tuple[Outcome, pd.DataFrame]
) -> None:
    without, shares = copy
    expected, found = as_it_was.report.trades, without.report.trades
    assert len(found) == len(expected)
    keys = (
        "symbol",
        "pattern",
        "variant",
        "direction",
        "detection_timestamp",
        "entry_time",
        "exit_time",
        "exit_reason",
    )
    for name in keys:
        assert_same(found[name], expected[name])
    for name in ("costs", "dividends", "pnl", "r_multiple"):
        assert_same_money(found[name], expected[name])
    factor = shares_at(found, shares, "entry_time")
    assert_same(found["entry_price"] * factor, expected["entry_price"])
    assert_same(found["exit_price"] * factor, expected["exit_price"])
    assert_same_money(found["quantity"] / factor, expected["quantity"])
    pd.testing.assert_frame_equal(without.report.results, as_it_was.report.results, rtol=1e-9, atol=1e-12)
    pd.testing.assert_frame_equal(without.report.equity, as_it_was.report.equity, rtol=1e-12)


@pytest.mark.parametrize(("symbol", "on"), oracle.SPLITS)
def test_there_is_something_to_compare_around_every_split(as_it_was: Outcome, symbol: str, on: date) -> None:
    own = as_it_was.bars.loc[as_it_was.bars["symbol"] == symbol].reset_index(drop=True)
    first = int(own.index[own["date"] == pd.Timestamp(on)][0])
    near = own["timestamp"].iloc[first - 3 : first + 4]
    found = as_it_was.detections[as_it_was.detections["symbol"] == symbol]
    assert found["timestamp"].isin(near).sum() > 5
    trades = as_it_was.report.trades[as_it_was.report.trades["symbol"] == symbol]
    split_open = own["timestamp"].iloc[first]
    held_over = trades[(trades["entry_time"] < split_open) & (trades["exit_time"] > split_open)]
    assert len(held_over) >= 2
    # Each of them is settled by what the price did, and by no halving of it.
    assert (held_over["exit_price"] / held_over["entry_price"]).between(0.75, 1.33).all()


def test_without_adjustment_the_splits_would_be_crashes(as_it_was: Outcome, tmp_path: Path) -> None:
    file = write(tmp_path / "bars.csv.gz", restated("before", ()))
    ignorant = compute(file, splits=as_it_was.splits.head(0))
    split_days = ignorant.features.merge(
        as_it_was.splits.assign(day=as_it_was.splits["execution_date"].dt.date), on="symbol"
    )
    crashes = split_days.loc[split_days["timestamp"].dt.date == split_days["day"], "log_return"]
    assert len(crashes) == 3
    assert (crashes < -0.55).all()
    assert len(ignorant.detections) != len(as_it_was.detections)
