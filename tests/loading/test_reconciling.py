"""Two providers' landed bars put side by side: what is compared, what explains it, what is entered and resolved."""

from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import Engine, text

from tests.loading.simulated import alpha_vantage, at, polygon
from tests.storage import tiers
from tickstock_assets.domain.sessions import trading_sessions
from tickstock_assets.domain.windows import Window
from tickstock_assets.loading.fetching import land_missing
from tickstock_assets.loading.lineup import Lineup
from tickstock_assets.loading.reconciling import (
    Comparison,
    Reconciled,
    Recorded,
    _minutes,
    compare,
    reconcile_landed,
)
from tickstock_assets.loading.storing import store
from tickstock_assets.providers.base import Dataset, Provider
from tickstock_assets.providers.csv_folder import CsvFolder
from tickstock_assets.simulator import Market, Simulator
from tickstock_assets.storage.bulk import merge
from tickstock_assets.storage.quality_findings import FindingCounts

pytestmark = pytest.mark.tiers(tiers.EMBEDDED)

FIRST, LAST = date(2022, 10, 3), date(2022, 12, 30)
SPAN = [Window("S0001", FIRST, LAST)]
# From FIRST to LAST: 21 sessions in October, 21 in November, 21 in December 2022.
SESSIONS = 63
NOW = at("2023-03-01")
BARS = ["date", "open", "high", "low", "close", "volume"]


@pytest.fixture(scope="module")
def market() -> Market:
    return Market(40, date(2022, 9, 1), date(2023, 1, 31), sample=False, extended_hours=True)


@pytest.fixture(scope="module")
def simulator(market: Market) -> Iterator[Simulator]:
    with Simulator(market) as running:
        yield running


@pytest.fixture
def known(database: Engine, market: Market) -> Engine:
    """A database that knows the instruments and the sessions."""
    with database.begin() as connection:
        connection.execute(
            text("INSERT INTO symbols (symbol, exchange) SELECT unnest(CAST(:names AS text[])), 'XNYS'"),
            {"names": market.tickers},
        )
        merge(connection, "sessions", trading_sessions("XNYS", date(2022, 1, 1), date(2023, 12, 31)))
    return database


def in_folder(folder: Path, bars: pd.DataFrame, name: str = "S0001") -> CsvFolder:
    """Write bars as a person would, and return the provider that reads them."""
    folder.mkdir(exist_ok=True)
    bars[BARS].assign(date=bars["date"].dt.strftime("%Y-%m-%d")).to_csv(folder / f"{name}.csv", index=False)
    return CsvFolder(folder)


def daily(market: Market, symbol: str = "S0001") -> pd.DataFrame:
    bars = market.daily(symbol)
    return bars[bars["date"].between(pd.Timestamp(FIRST), pd.Timestamp(LAST))].reset_index(drop=True)


def land(
    engine: Engine,
    folder: Path,
    *providers: Provider,
    windows: Sequence[Window] = tuple(SPAN),
    dataset: Dataset = Dataset.DAILY_BARS,
) -> None:
    for provider in providers:
        land_missing(Lineup([provider]), engine, folder, windows, dataset).raise_for_failures()


def compared(
    engine: Engine, folder: Path, left: Provider, right: Provider, dataset: Dataset = Dataset.DAILY_BARS
) -> Comparison:
    [found] = compare(engine, folder, (left, right), SPAN, dataset)
    return found


def causes(comparison: Comparison) -> list[str]:
    return [explanation.cause for explanation in comparison.report.explanations]


def findings(engine: Engine) -> list[Any]:
    with engine.connect() as connection:
        return list(
            connection.execute(
                text("SELECT id::text, symbol, timestamp, rule, severity, source, reason, evidence, resolved_at, created_at "
                     "FROM quality_findings ORDER BY symbol, timestamp, rule")
            )
        )  # fmt: skip


# --- what is compared


def test_two_vendors_of_the_same_market_do_not_differ_and_nobody_is_asked_again(
    known: Engine, tmp_path: Path, simulator: Simulator
) -> None:
    left, right = polygon(simulator, clock=NOW), alpha_vantage(simulator, clock=NOW)
    land(known, tmp_path, left, right)
    n_calls = len(simulator.record.calls)
    found = compared(known, tmp_path, left, right)
    assert (found.left, found.right, causes(found)) == ("polygon", "alpha_vantage", [])
    assert (found.report.matched, found.report.explained) == (SESSIONS, True)
    assert (found.report.only_left, found.report.only_right) == (0, 0)
    assert len(simulator.record.calls) == n_calls


def test_only_days_that_both_have_landed_are_compared(known: Engine, tmp_path: Path, simulator: Simulator) -> None:
    left, right = polygon(simulator, clock=NOW), alpha_vantage(simulator, clock=NOW)
    land(known, tmp_path, left, windows=[Window("S0001", FIRST, date(2022, 11, 30))])
    assert list(compare(known, tmp_path, (left, right), SPAN)) == []
    land(known, tmp_path, right, windows=[Window("S0001", date(2022, 11, 1), LAST)])
    report = compared(known, tmp_path, left, right).report
    # November's 21 sessions.
    assert (report.matched, report.only_left, report.only_right) == (21, 0, 0)


def test_days_that_came_with_the_whole_market_count_as_landed(
    known: Engine, tmp_path: Path, simulator: Simulator, market: Market
) -> None:
    left, right = polygon(simulator, clock=NOW), in_folder(tmp_path / "bars", daily(market))
    week = [Window(symbol, date(2022, 11, 7), date(2022, 11, 11)) for symbol in market.tickers]
    land(known, tmp_path, left, windows=week)
    assert simulator.record.calls[-1].route == "grouped_daily"
    land(known, tmp_path, right)
    assert compared(known, tmp_path, left, right).report.matched == 5


def test_rows_that_break_the_contract_are_left_out(
    known: Engine, tmp_path: Path, simulator: Simulator, market: Market
) -> None:
    bars = daily(market)
    bars.loc[3, "high"] = bars.loc[3, "low"] / 2
    bars = pd.concat([bars, bars.iloc[[5]], bars.iloc[[7]].assign(close=bars.loc[7, "low"])])
    left, right = polygon(simulator, clock=NOW), in_folder(tmp_path / "bars", bars)
    land(known, tmp_path, left, right)
    report = compared(known, tmp_path, left, right).report
    # High below low, and two rows of a day that contradict each other; of two equal ones the first stays.
    assert (report.matched, report.only_left, report.explained) == (SESSIONS - 2, 2, True)


# --- what explains it


def test_whole_shares_against_fractions_are_explained(known: Engine, tmp_path: Path, simulator: Simulator) -> None:
    fractions = Market(1, date(2022, 9, 1), date(2023, 1, 31), sample=False, fractional_volume=0.4)
    with Simulator(fractions) as other:
        left, right = polygon(other, clock=NOW), alpha_vantage(simulator, clock=NOW)
        land(known, tmp_path, left, right)
        found = compared(known, tmp_path, left, right)
    assert (causes(found), found.report.explained) == (["fractional_volume"], True)
    assert found.report.before["volume"].share_above > 0
    assert found.report.after["volume"].share_above == 0


def test_adjusted_prices_are_explained_by_the_recorded_split(
    known: Engine, tmp_path: Path, simulator: Simulator, market: Market
) -> None:
    day = pd.Timestamp("2022-11-15")
    with known.begin() as connection:
        connection.execute(
            text("INSERT INTO splits (symbol, execution_date, split_from, split_to, source) "
                 "VALUES ('S0001', '2022-11-15', 1, 4, 'polygon')")
        )  # fmt: skip
    bars = daily(market)
    before = bars["date"] < day
    bars.loc[before, ["open", "high", "low", "close"]] /= 4
    bars["volume"] = bars["volume"].astype(float).where(~before, bars["volume"] * 4)
    left, right = polygon(simulator, clock=NOW), in_folder(tmp_path / "bars", bars)
    land(known, tmp_path, left, right)
    found = compared(known, tmp_path, left, right)
    assert (causes(found), found.report.explained) == (["adjustment_basis"], True)
    # Left is four times right before it: (4 - 1) / 4 apart.
    assert found.report.before["close"].max == pytest.approx(0.75, abs=1e-6)
    assert found.report.after["close"].max < 1e-6


@pytest.mark.parametrize("are_stored", [True, False], ids=["stored", "landed"])
def test_daily_bars_with_extended_hours_are_explained_by_minute_bars(
    known: Engine, tmp_path: Path, simulator: Simulator, market: Market, are_stored: bool
) -> None:
    minutes = market.minutes("S0001", FIRST, LAST)
    whole_days = minutes.groupby("date").agg(
        {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    )
    left, right = polygon(simulator, clock=NOW), in_folder(tmp_path / "bars", whole_days.reset_index())
    land(known, tmp_path, left, right)
    assert not compared(known, tmp_path, left, right).report.explained
    land(known, tmp_path, left, dataset=Dataset.MINUTE_BARS)
    if are_stored:
        store(Lineup([left]), known, tmp_path, SPAN, Dataset.MINUTE_BARS)
        with known.begin() as connection:
            connection.execute(text("DELETE FROM load_ledger WHERE dataset = 'minute_bars'"))
    found = compared(known, tmp_path, left, right)
    assert (causes(found), found.report.explained) == (["session_scope"], True)


def test_stored_minutes_of_two_sources_are_nobodys_whole_day(
    known: Engine, tmp_path: Path, simulator: Simulator, market: Market
) -> None:
    left, right = polygon(simulator, clock=NOW), in_folder(tmp_path / "bars", daily(market))
    land(known, tmp_path, left, dataset=Dataset.MINUTE_BARS)
    store(Lineup([left]), known, tmp_path, SPAN, Dataset.MINUTE_BARS)
    with known.begin() as connection:
        connection.execute(text("DELETE FROM load_ledger WHERE dataset = 'minute_bars'"))
        recorded = Recorded.of(connection, FIRST, LAST)
    assert set(_minutes(known, tmp_path, (left, right), SPAN, recorded)) == {"left"}
    with known.begin() as connection:
        connection.execute(text("UPDATE ohlcv_1min SET source = 'csv_folder' WHERE timestamp < '2022-10-04'"))
    assert _minutes(known, tmp_path, (left, right), SPAN, recorded) == {}


def test_minute_bars_outside_the_sessions_are_counted_apart(
    known: Engine, tmp_path: Path, simulator: Simulator, market: Market
) -> None:
    left, right = polygon(simulator, clock=NOW), alpha_vantage(simulator, clock=NOW)
    land(known, tmp_path, left, right, dataset=Dataset.MINUTE_BARS)
    report = compared(known, tmp_path, left, right, Dataset.MINUTE_BARS).report
    n_minutes = len(market.minutes("S0001", FIRST, LAST))
    assert (report.timeframe, report.explained, report.only_right) == ("1m", True, 0)
    assert report.only_left == report.only_left_outside_sessions == n_minutes - report.matched > 0


# --- what is entered


def test_an_unexplained_bar_is_a_finding_until_it_is_not_found_any_more(
    known: Engine, tmp_path: Path, simulator: Simulator, market: Market
) -> None:
    right_bars = daily(market)
    wrong_bars = right_bars.copy()
    wrong_bars.loc[10, "close"] = wrong_bars.loc[10, "low"]
    day, close, low = (right_bars.loc[10, name] for name in ("date", "close", "low"))
    vendor = polygon(simulator, clock=NOW)

    def run(bars: pd.DataFrame) -> Reconciled:
        folder = in_folder(tmp_path / "bars", bars)
        land(known, tmp_path, vendor, folder)
        return reconcile_landed(Lineup([vendor, folder]), known, tmp_path)

    assert run(wrong_bars).findings == FindingCounts(inserted=1)
    [finding] = findings(known)
    opened = trading_sessions("XNYS", day.date(), day.date())["open"].iloc[0]
    assert finding[1:6] == ("S0001", opened, "provider_disagreement", "warning", None)
    assert finding.reason == f"close is {close:.10g} at polygon, {low:.10g} at csv_folder"
    evidence = finding.evidence["polygon and csv_folder"]["close"]
    assert (evidence["polygon"], evidence["csv_folder"]) == (close, low)
    assert evidence["relative_difference"] == pytest.approx((close - low) / close)
    assert finding.resolved_at is None

    assert run(wrong_bars).findings == FindingCounts(unchanged=1)
    assert findings(known) == [finding]

    assert run(right_bars).findings == FindingCounts(resolved=1)
    [resolved] = findings(known)
    assert resolved.resolved_at is not None
    assert run(right_bars).findings == FindingCounts()
    assert findings(known) == [resolved]

    assert run(wrong_bars).findings == FindingCounts(changed=1)
    [again] = findings(known)
    assert (again.id, again.created_at, again.resolved_at) == (finding.id, finding.created_at, None)
    with known.connect() as connection:
        actions = connection.execute(text("SELECT count(*) FROM audit_trail WHERE event_type = 'quality'")).scalar_one()
    assert actions == 3  # what changed nothing leaves no entry


def test_a_bar_on_which_several_pairs_disagree_is_one_finding(
    known: Engine, tmp_path: Path, simulator: Simulator, market: Market
) -> None:
    bars = daily(market)
    bars.loc[10, "volume"] *= 3
    lineup = [polygon(simulator, clock=NOW), alpha_vantage(simulator, clock=NOW), in_folder(tmp_path / "bars", bars)]
    land(known, tmp_path, *lineup)
    found = reconcile_landed(Lineup(lineup), known, tmp_path)
    assert found.findings == FindingCounts(inserted=1)
    assert [(one.left, one.right, one.report.unexplained_bars) for one in found.comparisons] == [
        ("polygon", "alpha_vantage", 0),
        ("polygon", "csv_folder", 1),
        ("alpha_vantage", "csv_folder", 1),
    ]
    [finding] = findings(known)
    assert set(finding.evidence) == {"polygon and csv_folder", "alpha_vantage and csv_folder"}


def test_more_unexplained_bars_than_are_shown_are_all_entered(
    known: Engine, tmp_path: Path, simulator: Simulator, market: Market
) -> None:
    bars = daily(market)
    # By another factor each day, so that nothing explains them.
    bars["volume"] = [volume * (2 + place % 7 + place / 100) for place, volume in enumerate(bars["volume"])]
    vendor, folder = polygon(simulator, clock=NOW), in_folder(tmp_path / "bars", bars)
    land(known, tmp_path, vendor, folder)
    found = reconcile_landed(Lineup([vendor, folder]), known, tmp_path)
    assert found.findings == FindingCounts(inserted=SESSIONS)
    assert found.comparisons[0].report.unexplained == ()


def test_a_split_that_is_only_suspected_is_a_finding_of_its_own(
    known: Engine, tmp_path: Path, simulator: Simulator, market: Market
) -> None:
    bars = daily(market)
    before = bars["date"] < pd.Timestamp("2022-11-15")
    bars.loc[before, ["open", "high", "low", "close"]] /= 2
    bars.loc[before, "volume"] *= 2
    vendor, folder = polygon(simulator, clock=NOW), in_folder(tmp_path / "bars", bars)
    land(known, tmp_path, vendor, folder)
    reconcile_landed(Lineup([vendor, folder]), known, tmp_path)
    [finding] = findings(known)
    assert finding.rule == "suspected_unrecorded_split"
    # The last bar before it, on the 14th; trading opens at 9:30 in New York, in winter 14:30 UTC.
    assert f"{finding.timestamp:%Y-%m-%d %H:%M}" == "2022-11-14 14:30"
    assert "(left is polygon, right is csv_folder)" in finding.reason


def test_one_provider_alone_is_compared_with_nobody(known: Engine, tmp_path: Path, simulator: Simulator) -> None:
    vendor = polygon(simulator, clock=NOW)
    land(known, tmp_path, vendor)
    assert reconcile_landed(Lineup([vendor]), known, tmp_path) == Reconciled()
    assert reconcile_landed(Lineup([vendor, alpha_vantage(simulator, clock=NOW)]), known, tmp_path) == Reconciled()
