"""The end of a run whose provider has no calls left for the day: what came counts, the rest is a request."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from tests.defs.conftest import OpenProject
from tests.defs.simulated import FIRST, KEY, LAST, Project
from tickstock_assets.defs.partitions import BY_YEAR, rectangle_tags
from tickstock_assets.defs.unfinished import finished_partitions
from tickstock_assets.domain.errors import TickstockError
from tickstock_assets.domain.windows import Window
from tickstock_assets.loading.fetching import Landing

pytestmark = [
    pytest.mark.tiers("embedded"),
    # Dagster's own code calls it.
    pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated"),
]

NEW_YORK = ZoneInfo("America/New_York")


def next_midnight() -> datetime:
    tomorrow = datetime.now(NEW_YORK).date() + timedelta(days=1)
    return datetime(tomorrow.year, tomorrow.month, tomorrow.day, tzinfo=NEW_YORK).astimezone(UTC)


def everything(project: Project) -> dict[str, str]:
    tickers = project.simulator.market.tickers
    return rectangle_tags(tickers, tickers, FIRST, LAST)


def failure_of(project: Project) -> dg.DagsterEvent:
    (run,) = project.instance.get_runs(limit=1)
    events = [entry.dagster_event for entry in project.instance.all_logs(run.run_id) if entry.dagster_event]
    (failure,) = [event for event in events if event.is_step_failure]
    return failure


def test_a_run_without_calls_left_ends_with_the_moment_at_which_it_goes_on(open_project: OpenProject) -> None:
    project = open_project(companies=30, calls_per_day=25)
    midnight = next_midnight()
    with pytest.raises(TickstockError) as refusal:
        project.run(everything(project))
    said = str(refusal.value)
    assert f"raw_daily_bars: continues at {midnight:%Y-%m-%d %H:%M} UTC: 5 of 30 windows did not come" in said
    assert len(project.asked_for()) == 25
    assert project.rows("SELECT status, count(*) FROM load_ledger GROUP BY status ORDER BY 1") == [
        ("failed", 1),
        ("landed", 25),
    ]

    failure = failure_of(project).step_failure_data
    assert failure.user_failure_data
    metadata = failure.user_failure_data.metadata
    assert metadata["continues_at"].value == midnight.timestamp()
    assert metadata["windows_left"].value == 5
    assert metadata["calls"].value == 25
    assert KEY not in repr(failure)

    # All that the run was to do: what is landed has yet to become bars.
    ((request, *wanted),) = project.rows(
        "SELECT id::text, symbols, timeframe::text, start_date, end_date, status, not_before, requested_by FROM backfill_requests"
    )
    assert wanted == [
        project.simulator.market.tickers, "1d", date(2011, 1, 1), date(2012, 12, 31), "requested", midnight,
        "dagster daily_history",
    ]  # fmt: skip
    assert metadata["request"].value == request

    # The 25 that came are materialized, both years; nothing downstream ran.
    came = set(project.asked_for())
    assert project.materialized("raw_daily_bars") == {
        BY_YEAR.key(symbol, day) for symbol in came for day in (FIRST, LAST)
    }
    assert project.materialized("ohlcv_daily") == set()

    # The same run again makes no call and no second request.
    with pytest.raises(TickstockError, match="continues at"):
        project.run(everything(project))
    assert len(project.asked_for()) == 25
    assert project.rows("SELECT id::text FROM backfill_requests") == [(request,)]


def test_where_the_setting_says_next_the_next_provider_serves_the_rest(open_project: OpenProject) -> None:
    project = open_project(
        companies=3,
        calls_per_day=1,
        TICKSTOCK_PROVIDERS="alpha_vantage,polygon",
        TICKSTOCK_ON_QUOTA="next",
        TICKSTOCK_POLYGON_URL="{simulator}",
        TICKSTOCK_POLYGON_API_KEY=KEY,
        TICKSTOCK_POLYGON_CALLS_PER_MINUTE="0",
    )
    project.run(everything(project))
    assert project.rows("SELECT source, count(DISTINCT symbol) FROM ohlcv_daily GROUP BY source ORDER BY source") == [
        ("alpha_vantage", 1),
        ("polygon", 2),
    ]
    assert project.rows("SELECT count(*) FROM backfill_requests") == [(0,)]
    assert len(project.materialized("patterns")) == 6


def test_what_fails_for_good_does_not_keep_back_the_other_symbols(open_project: OpenProject) -> None:
    project = open_project(companies=2, calls_per_day=25)
    project.instance.add_dynamic_partitions("symbols", ["NONE"])
    with project.engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO symbols (symbol, exchange) VALUES ('NONE', 'XNYS')")
    asked = rectangle_tags(["S0001", "S0002", "NONE"], ["S0001", "S0002", "NONE"], FIRST, FIRST)
    with pytest.raises(TickstockError, match=r"1 of 3 windows did not come, first NONE .*; run it again to fetch only"):
        project.run(asked)
    assert project.materialized("raw_daily_bars") == {"S0001|2011", "S0002|2011"}
    # What came goes on as a request of its own, at once.
    ((request, *wanted),) = project.rows(
        "SELECT id::text, symbols, timeframe::text, start_date, end_date, status, not_before FROM backfill_requests"
    )
    assert wanted == [["S0001", "S0002"], "1d", date(2011, 1, 1), date(2011, 12, 31), "requested", None]
    metadata = failure_of(project).step_failure_data
    assert metadata.user_failure_data.metadata["request"].value == request  # type: ignore[union-attr]
    project.run(rectangle_tags(["S0001", "S0002"], ["S0001", "S0002", "NONE"], FIRST, FIRST))
    assert project.materialized("ohlcv_daily") == {"S0001|2011", "S0002|2011"}
    # All that came is stored by now: nothing is left to go on.
    with project.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM backfill_requests")
    with pytest.raises(TickstockError, match="1 of 1 windows did not come"):
        project.run(asked)
    assert project.rows("SELECT count(*) FROM backfill_requests") == [(0,)]


def test_the_year_in_which_a_plan_begins_is_loaded_from_there(open_project: OpenProject) -> None:
    begins = date(2011, 6, 15)
    project = open_project(
        companies=1,
        calls_per_day=25,
        TICKSTOCK_PROVIDERS="polygon",
        TICKSTOCK_POLYGON_URL="{simulator}",
        TICKSTOCK_POLYGON_API_KEY=KEY,
        TICKSTOCK_POLYGON_CALLS_PER_MINUTE="0",
        TICKSTOCK_POLYGON_HISTORY_YEARS=str((datetime.now(NEW_YORK).date() - begins).days / 365.25),
    )
    project.run(everything(project))
    assert len(project.materialized("patterns")) == 2
    ((first, last),) = project.rows("SELECT min(date), max(date) FROM ohlcv_daily")
    assert (first, last) == (date(2011, 6, 16), date(2012, 12, 31))
    # Nothing is fetched again, and years of which there is nothing are refused.
    calls = len(project.asked_for())
    project.run(everything(project))
    assert len(project.asked_for()) == calls
    with pytest.raises(TickstockError, match="the plan reaches back to 2011-06-1"):
        project.run(rectangle_tags(["S0001"], ["S0001"], date(2010, 1, 1), date(2010, 12, 31)))


def test_a_partition_is_finished_when_no_day_of_it_is_left() -> None:
    landing = Landing(
        failed={
            Window("A", date(2011, 12, 30), date(2012, 1, 2)): "why",
            Window("C", date(2011, 1, 1), date(2011, 1, 1)): "why",
        }
    )
    keys = ["A|2010", "A|2011", "A|2012", "A|2013", "B|2011", "C|2011", "C|2012"]
    assert finished_partitions(keys, landing) == ["A|2010", "A|2013", "B|2011", "C|2012"]
