"""A year with planted defects through the loader and the detectors: what share of each class is found, and rightly.

The planter (`planted_year.py`) imports nothing of the package, and no threshold was chosen on this seed. Precision and
recall of every class are printed; `pytest -s` shows them.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from sqlalchemy import Engine, make_url, text

from tests.end_to_end.planted_year import RATES, YEAR, Planted, planted_year
from tests.storage import tiers
from tickstock_assets.domain.windows import Window
from tickstock_assets.loading.gap_finding import Reach, find_gaps
from tickstock_assets.loading.lineup import Lineup
from tickstock_assets.loading.load import Loader, Order
from tickstock_assets.loading.quality_findings import examine
from tickstock_assets.providers.base import (
    BAR_COLUMNS,
    BY_SYMBOL,
    MINUTE_COLUMNS,
    Dataset,
    Provider,
    Request,
    Route,
)
from tickstock_assets.storage import embedded
from tickstock_assets.storage.database import open_engine
from tickstock_assets.storage.migrate import upgrade

pytestmark = pytest.mark.tiers(tiers.EMBEDDED)

SEED = int(os.environ.get("TICKSTOCK_TEST_SEED") or 20_241_121)
FIRST, LAST = date(YEAR, 1, 1), date(YEAR, 12, 31)
AT_LEAST = 0.95
CLOSED = {"not_a_session", "outside_hours"}


class PlantedVendor(Provider):
    """Delivers the planted year."""

    name = "planted"

    def __init__(self, planted: Planted) -> None:
        self._bars = {Dataset.DAILY_BARS: planted.daily, Dataset.MINUTE_BARS: planted.minutes}
        self._splits = planted.splits

    def routes(self, dataset: Dataset) -> Sequence[Route]:
        return [Route(BY_SYMBOL, FIRST, seconds_per_call=0.01)] if dataset in self._bars else []

    def horizon(self) -> date:
        return LAST

    def settled_until(self, fetched_at: datetime) -> date:  # noqa: ARG002 the contract's
        return LAST

    def version(self, dataset: Dataset) -> str:  # noqa: ARG002 the contract's
        return "1"

    def fetch(self, request: Request) -> pa.Table:
        bars, window = self._bars[request.dataset], request.window
        days = bars["date"].between(pd.Timestamp(window.start), pd.Timestamp(window.end))
        return pa.Table.from_pandas(bars[(bars["symbol"] == window.symbol) & days], preserve_index=False)

    def parse(self, dataset: Dataset, payload: pa.Table) -> pd.DataFrame:
        types = BAR_COLUMNS | (MINUTE_COLUMNS if dataset is Dataset.MINUTE_BARS else {})
        frame: pd.DataFrame = payload.to_pandas()
        return frame[list(types)].astype(types)

    def symbols(self, wanted: Sequence[str] | None = None) -> pd.DataFrame:
        names = sorted(RATES if wanted is None else set(RATES) & set(wanted))
        return pd.DataFrame(
            {
                "symbol": pd.Series(names, dtype="str"),
                "exchange": pd.Series(["XNYS"] * len(names), dtype="str"),
                "list_date": pd.Series([pd.NaT] * len(names), dtype="datetime64[us]"),
            }
        )

    def splits(self, wanted: Sequence[str] | None = None) -> pd.DataFrame:
        splits = self._splits.astype(
            {
                "symbol": "str",
                "execution_date": "datetime64[us]",
                **dict.fromkeys(["split_from", "split_to"], "float64"),
            }
        )
        return splits if wanted is None else splits[splits["symbol"].isin(list(wanted))]

    def dividends(self, wanted: Sequence[str] | None = None) -> pd.DataFrame:  # noqa: ARG002 the contract's
        types = {"symbol": "str", "ex_dividend_date": "datetime64[us]", "cash_amount": "float64"}
        return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in types.items()})

    def check(self) -> str:
        return "an invented year"


@dataclass(frozen=True)
class Examined:
    """What was planted, and what the tables say after load and examination; days are at midnight UTC."""

    planted: Planted
    gaps: pd.DataFrame
    findings: pd.DataFrame
    rejected: pd.DataFrame


@pytest.fixture(scope="module")
def examined(module_home: Path) -> Iterator[Examined]:
    planted = planted_year(SEED)
    server = embedded.acquire(module_home)
    embedded.ensure_database(server, "tickstock")
    engine = open_engine(make_url(server.url("tickstock")))
    try:
        upgrade(engine)
        loader = Loader(Lineup([PlantedVendor(planted)], has_whole_list=True), engine, module_home / "landing")
        for dataset in (Dataset.DAILY_BARS, Dataset.MINUTE_BARS):
            outcome = loader.load(Order(list(RATES), FIRST, LAST, dataset))
            assert outcome.problems == []
        windows = [Window(symbol, FIRST, LAST) for symbol in RATES]
        find_gaps(engine, windows, "1m", Reach(LAST, LAST))
        examine(engine, windows)
        yield Examined(
            planted,
            rows(engine, "SELECT symbol, timeframe::text, gap_start AS start, gap_end AS end, class FROM data_gaps"),
            rows(
                engine,
                """
                SELECT f.symbol, f.timeframe::text, f.timestamp, s.session, f.rule, f.evidence, f.severity
                FROM quality_findings f LEFT JOIN sessions s ON s.open <= f.timestamp AND f.timestamp < s.close
                WHERE f.resolved_at IS NULL
                """,
            ),
            rows(engine, 'SELECT symbol, timeframe::text, rule, "row" FROM quarantined_bars'),
        )
    finally:
        engine.dispose()


def rows(engine: Engine, statement: str) -> pd.DataFrame:
    with engine.connect() as connection:
        result = connection.execute(text(statement))
        return pd.DataFrame(result.mappings().all(), columns=list(result.keys()))


def shares(kind: str, n_planted: int, n_recalled: int, n_said: int, n_right: int) -> tuple[float, float]:
    """Return precision and recall, and print them."""
    precision, recall = n_right / max(n_said, 1), n_recalled / n_planted
    print(  # noqa: T201 what the test is for
        f"{kind:<14} planted {n_planted:>4}, found {n_recalled:>4}, recall {recall:6.3f}; "
        f"said {n_said:>4}, rightly {n_right:>4}, precision {precision:6.3f}"
    )
    return precision, recall


def overlaps(events: pd.DataFrame, others: pd.DataFrame) -> pd.Series:
    """Return for each event whether one of the others, of its symbol, overlaps it."""
    events = events.reset_index(drop=True)
    pairs = events.reset_index(names="place").merge(others, on="symbol", suffixes=("", "_other"))
    hit = pairs[(pairs["start"] <= pairs["end_other"]) & (pairs["start_other"] <= pairs["end"])]
    return pd.Series(events.index.isin(hit["place"]))


def of_class(found: Examined, timeframe: str, name: str) -> pd.DataFrame:
    gaps = found.gaps[(found.gaps["timeframe"] == timeframe) & (found.gaps["class"] == name)]
    return gaps[["symbol", "start", "end"]].reset_index(drop=True)


def said(found: Examined, timeframe: str, rule: str) -> pd.DataFrame:
    """Return the findings of a rule; of daily bars the day at midnight UTC."""
    wanted = found.findings[(found.findings["timeframe"] == timeframe) & (found.findings["rule"] == rule)]
    moments = pd.to_datetime(wanted["session"] if timeframe == "1d" else wanted["timestamp"], utc=True)
    return pd.DataFrame({"symbol": wanted["symbol"], "start": moments, "end": moments}).reset_index(drop=True)


def measured(kind: str, planted: pd.DataFrame, found: pd.DataFrame) -> tuple[float, float]:
    recalled, right = overlaps(planted, found), overlaps(found, planted)
    return shares(kind, len(planted), int(recalled.sum()), len(found), int(right.sum()))


def test_holes_are_told_from_minutes_without_a_trade(examined: Examined) -> None:
    precision, recall = measured("hole", examined.planted.of("hole"), of_class(examined, "1m", "provider_hole"))
    assert min(precision, recall) >= AT_LEAST


def test_halts_are_told_from_holes(examined: Examined) -> None:
    precision, recall = measured("halt", examined.planted.of("halt"), of_class(examined, "1m", "halt"))
    assert min(precision, recall) >= 0.9


def test_bars_on_holidays_are_set_aside_and_no_others(examined: Examined) -> None:
    events, rejected = examined.planted.of("holiday_bar"), examined.rejected
    precision, recall = shares(
        "holiday bar", len(events), len(rejected), len(rejected), int(rejected["rule"].isin(CLOSED).sum())
    )
    assert min(precision, recall) >= AT_LEAST
    assert len(rejected) == len(events)


def test_unrecorded_splits_are_found_and_recorded_ones_are_none(examined: Examined) -> None:
    precision, recall = measured("split", examined.planted.of("split"), said(examined, "1d", "unrecorded_split"))
    assert min(precision, recall) >= AT_LEAST
    assert {
        (one["split_from"], one["split_to"])
        for one in examined.findings.loc[examined.findings["rule"] == "unrecorded_split", "evidence"]
    } == {(1, 2)}


@pytest.mark.parametrize(
    ("kind", "timeframe", "rule"),
    [
        ("spike", "1m", "price_spike"),
        ("daily_spike", "1d", "price_spike"),
        ("stale", "1m", "stale_run"),
        ("daily_stale", "1d", "stale_run"),
        ("volume", "1d", "volume_outlier"),
    ],
)
def test_what_looks_odd_is_found(examined: Examined, kind: str, timeframe: str, rule: str) -> None:
    precision, recall = measured(kind, examined.planted.of(kind), said(examined, timeframe, rule))
    assert min(precision, recall) >= 0.9
