"""The checks in runs of their own, on rows planted into a real database: what is wrong is found, named and counted."""

from collections.abc import Mapping
from datetime import date

import dagster as dg
import exchange_calendars
import pandas as pd
import pytest
from sqlalchemy import text

from tests.defs.conftest import OpenProject
from tests.defs.simulated import Project, store_equal_bars
from tickstock_assets.definitions import defs
from tickstock_assets.defs.check_runs import CheckOutcome, run_checks
from tickstock_assets.defs.check_scope import SYMBOLS_AT_A_TIME, parts_of, scope_tags
from tickstock_assets.domain.sessions import trading_sessions
from tickstock_assets.domain.windows import Window
from tickstock_assets.storage.bulk import merge

pytestmark = [
    pytest.mark.tiers("embedded"),
    # Dagster's own code calls it.
    pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated"),
]

FIRST, LAST = date(2005, 1, 1), date(2012, 12, 31)
# The Fourth of July, a session in London alone; and a Saturday.
HOLIDAY, SATURDAY = "2012-07-04", "2012-07-07"


@pytest.fixture
def project(open_project: OpenProject) -> Project:
    """Bars of each session of eight years for AAA, BBB and CCC of New York and LLL of London, and their features."""
    project = open_project(0, 100)
    with project.engine.begin() as connection:
        for exchange in ("XNYS", "XLON"):
            merge(connection, "sessions", trading_sessions(exchange, FIRST, LAST))
        connection.execute(
            text("INSERT INTO symbols (symbol, exchange) VALUES ('AAA', 'XNYS'), ('BBB', 'XNYS'), ('CCC', 'XNYS'), "
                 "('LLL', 'XLON')")
        )  # fmt: skip
        store_equal_bars(connection)
        connection.execute(
            text("""
                INSERT INTO bar_features (symbol, timeframe, timestamp, spread, true_range)
                SELECT i.symbol, '1d', s.open, 2, 2 FROM symbols i JOIN sessions s USING (exchange)
            """)
        )
    project.instance.add_dynamic_partitions("symbols", ["AAA", "BBB", "CCC", "LLL"])
    return project


def change(project: Project, *statements: str) -> None:
    with project.engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def evaluate(project: Project, *assets: str, **scope: object) -> Mapping[str, CheckOutcome]:
    """Evaluate the checks of some assets; return what became of each by its name."""
    keys = [key for key in defs.resolve_asset_graph().asset_check_keys if key.asset_key.to_user_string() in assets]
    tags = scope_tags(scope.get("symbols"), scope.get("first"), scope.get("last"))  # type: ignore[arg-type]
    outcomes = run_checks(project.instance, defs.resolve_job_def("checks"), keys, tags, lambda _: None)
    assert len(outcomes) == len(keys) > 0
    return {one.check: one for one in outcomes}


def test_each_rule_finds_what_breaks_it_and_names_symbol_and_year(project: Project) -> None:
    found = evaluate(project, "ohlcv_daily", "bar_features")
    assert {name for name, one in found.items() if not one.passed} == set()
    # Nothing passes over nothing.
    sessions = 3 * sessions_of(project, "XNYS") + sessions_of(project, "XLON")
    for name in ("ohlcv_daily_contract", "ohlcv_daily_complete", "bar_features_contract", "bar_features_complete"):
        assert found[name].metadata["rows_checked"] == sessions, name

    insert = "INSERT INTO ohlcv_daily (symbol, date, open, high, low, close, volume, exchange, source) VALUES "
    change(
        project,
        # London trades on that day, New York does not, and nobody on Saturday.
        f"{insert} ('AAA', '{HOLIDAY}', 10, 11, 9, 10, 1000, 'XNYS', 'alpha_vantage')",
        f"{insert} ('LLL', '{SATURDAY}', 10, 11, 9, 10, 1000, 'XLON', 'alpha_vantage')",
        # 65 of the 252 sessions of 2008 are gone, and their features with them but for one.
        "DELETE FROM ohlcv_daily WHERE symbol = 'BBB' AND date >= '2008-09-30' AND date < '2009-01-01'",
        "DELETE FROM bar_features WHERE symbol = 'BBB' AND timestamp >= '2008-10-01' AND timestamp < '2009-01-01'",
        "UPDATE ohlcv_daily SET source = 'polygon' WHERE symbol = 'CCC' AND date >= '2006-01-01' AND date < '2006-02-01'",
        "UPDATE bar_features SET true_range = 1 WHERE symbol = 'CCC' AND timestamp < '2005-02-01'",
    )  # fmt: skip
    found = evaluate(project, "ohlcv_daily", "bar_features")
    partitions = {name: one.metadata.get("failed_partitions") for name, one in found.items() if not one.passed}
    of_new_york = "SELECT count(*) FROM sessions WHERE exchange = 'XNYS' AND session "
    lost = rows(project, of_new_york + "BETWEEN '2008-09-30' AND '2008-12-31'")
    january = rows(project, of_new_york + "< '2005-02-01'")
    assert partitions == {
        "ohlcv_daily_contract": {"AAA|2012": 1, "LLL|2012": 1},
        "ohlcv_daily_complete": {"BBB|2008": lost},
        "ohlcv_daily_row_count": {"BBB|2008": 1},
        "ohlcv_daily_source": None,
        # On no session there is nothing to compute with.
        "bar_features_complete": {"AAA|2012": 1, "BBB|2008": 1, "LLL|2012": 1},
        "bar_features_contract": {"CCC|2005": january},
        "bar_features_row_count": {"BBB|2008": 1},
    }
    severities = {name: one.severity for name, one in found.items() if not one.passed}
    assert {name for name, severity in severities.items() if severity == "ERROR"} == {
        "ohlcv_daily_contract", "bar_features_complete", "bar_features_contract",
    }  # fmt: skip
    holiday, saturday = found["ohlcv_daily_contract"].metadata["first_offending_rows"]
    assert (holiday["symbol"], holiday["date"][:10], holiday["rule"]) == ("AAA", HOLIDAY, "not_a_session")
    assert (saturday["symbol"], saturday["date"][:10]) == ("LLL", SATURDAY)
    apart = found["bar_features_complete"].metadata["first_offending_rows"]
    assert {(row["symbol"], row["timestamp"][:10], row["found_in"]) for row in apart} == {
        ("AAA", HOLIDAY, "bars"), ("BBB", "2008-09-30", "features"), ("LLL", SATURDAY, "bars"),
    }  # fmt: skip
    # All are counted, 20 are shown.
    assert found["ohlcv_daily_complete"].metadata["sessions_missing"] == lost
    assert len(found["ohlcv_daily_complete"].metadata["first_offending_rows"]) == 20
    [short] = found["ohlcv_daily_row_count"].metadata["first_offending_rows"]
    assert (int(short["rows"]), int(short["sessions"])) == (253 - lost, 253)

    # Asked about others, the checks look at those.
    assert all(
        one.passed for one in evaluate(project, "ohlcv_daily", symbols=["BBB"], last=date(2007, 12, 31)).values()
    )
    of_year = evaluate(project, "ohlcv_daily", symbols=["BBB"], first=date(2008, 1, 1), last=date(2008, 12, 31))
    assert {name for name, one in of_year.items() if not one.passed} == {
        "ohlcv_daily_complete",
        "ohlcv_daily_row_count",
    }


def test_a_detection_that_is_known_before_its_bar_closes_is_found(project: Project) -> None:
    insert = """
        INSERT INTO patterns (id, symbol, timeframe, timestamp, pattern, variant, family, direction, known_at,
                              entry_price, stop_loss)
        SELECT gen_random_uuid(), 'AAA', '1d', open, 'CDLDOJI', :variant, 'candlestick', 'bullish', {known_at}, 10, 9
        FROM sessions WHERE exchange = 'XNYS' AND session = '2010-03-01'
    """
    with project.engine.begin() as connection:
        connection.execute(text(insert.format(known_at="close")), {"variant": ""})
        connection.execute(text(insert.format(known_at="close - interval '1 second'")), {"variant": "early"})
    found = evaluate(project, "patterns")
    early = found["patterns_known_at_close"]
    assert (early.passed, early.severity, early.metadata["rows_checked"]) == (False, "ERROR", 2)
    assert early.metadata["failed_partitions"] == {"AAA|2010": 1}
    assert [row["variant"] for row in early.metadata["first_offending_rows"]] == ["early"]
    assert found["patterns_contract"].passed


def test_bars_and_what_hangs_on_them_are_compared_by_the_same_days_where_a_session_opens_on_the_day_before_in_utc(
    project: Project,
) -> None:
    # Sydney opens at 10:00, in March 23:00 UTC of the day before. Each session has a bar, its features and a detection.
    with project.engine.begin() as connection:
        merge(connection, "sessions", trading_sessions("XASX", date(2012, 3, 1), date(2012, 3, 31)))
        connection.execute(text("INSERT INTO symbols (symbol, exchange) VALUES ('SSS', 'XASX')"))
    of_sydney = "FROM sessions WHERE exchange = 'XASX'"
    change(
        project,
        "INSERT INTO ohlcv_daily (symbol, date, open, high, low, close, volume, exchange, source) "
        f"SELECT 'SSS', session, 10, 11, 9, 10, 1000, exchange, 'alpha_vantage' {of_sydney}",
        "INSERT INTO bar_features (symbol, timeframe, timestamp, spread, true_range) "
        f"SELECT 'SSS', '1d', open, 2, 2 {of_sydney}",
        "INSERT INTO patterns (id, symbol, timeframe, timestamp, pattern, variant, family, direction, known_at, "
        "entry_price, stop_loss) SELECT gen_random_uuid(), 'SSS', '1d', open, 'CDLDOJI', '', 'candlestick', 'bullish', "
        f"close, 10, 9 {of_sydney}",
    )
    # From Tuesday to Thursday.
    week = {"symbols": ["SSS"], "first": date(2012, 3, 6), "last": date(2012, 3, 8)}
    found = evaluate(project, "bar_features", "patterns", **week)
    for name in ("bar_features_complete", "patterns_known_at_close"):
        assert (found[name].passed, found[name].metadata["rows_checked"]) == (True, 3), name
    change(project, "DELETE FROM bar_features WHERE symbol = 'SSS' AND timestamp = '2012-03-07 23:00Z'")
    found = evaluate(project, "bar_features", **week)
    [lost] = found["bar_features_complete"].metadata["first_offending_rows"]
    assert (lost["timestamp"][:16], lost["found_in"]) == ("2012-03-07 23:00", "bars")


def test_a_table_that_lost_rows_since_the_runs_before_is_warned_of_and_one_that_grew_is_not(project: Project) -> None:
    def record(asset: str, counts: list[int]) -> None:
        for count in counts:
            project.instance.report_runless_asset_event(
                dg.AssetMaterialization(dg.AssetKey(asset), metadata={"dagster/row_count": count})
            )

    record("splits", [100, 100, 101, 102, 102, 80])
    record("dividends", [100, 100, 100, 100, 100, 400])
    record("symbols", [100, 100, 80])
    found = evaluate(project, "splits", "dividends", "symbols")
    lost = found["splits_row_count"]
    assert (lost.passed, lost.severity, lost.metadata["rows_offending"]) == (False, "WARN", 1)
    assert [int(row["rows"]) for row in lost.metadata["first_offending_rows"]] == [80]
    assert found["dividends_row_count"].passed
    assert found["dividends_row_count"].metadata["rows_checked"] == 1
    # Two runs before it say nothing, and the check says that.
    assert (found["symbols_row_count"].passed, found["symbols_row_count"].metadata["rows_checked"]) == (True, 0)
    assert "Too few runs" in found["symbols_row_count"].description


def test_a_check_that_cannot_be_evaluated_is_neither_passed_nor_failed_and_says_why(project: Project) -> None:
    change(project, "ALTER TABLE bar_features RENAME TO put_away")
    found = evaluate(project, "bar_features", "ohlcv_daily")
    assert found["bar_features_contract"].passed is None
    assert 'relation "bar_features" does not exist' in found["bar_features_contract"].description
    # The others go on.
    assert found["ohlcv_daily_contract"].passed


def test_the_results_are_recorded_for_the_web_ui(project: Project) -> None:
    change(project, "DELETE FROM ohlcv_daily WHERE symbol = 'BBB' AND date = '2008-09-30'")
    evaluate(project, "ohlcv_daily")
    key = dg.AssetCheckKey(dg.AssetKey("ohlcv_daily"), "ohlcv_daily_complete")
    [recorded] = project.instance.event_log_storage.get_asset_check_execution_history(key, limit=5)
    evaluation = recorded.evaluation
    assert evaluation
    assert (evaluation.passed, evaluation.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert evaluation.metadata["partitions_failed"].value == 1


def test_symbols_are_looked_at_a_part_at_a_time(project: Project) -> None:
    many = [Window(f"S{number:04}", FIRST, LAST) for number in range(2 * SYMBOLS_AT_A_TIME + 1)]
    with project.engine.connect() as connection:
        parts = list(parts_of(connection, many[::-1]))
        assert [len(part) for part in parts] == [SYMBOLS_AT_A_TIME, SYMBOLS_AT_A_TIME, 1]
        assert [window for part in parts for window in part] == many
        # Everything is all symbols that are known.
        [everything] = parts_of(connection, None)
        assert [window.symbol for window in everything] == ["AAA", "BBB", "CCC", "LLL"]


def sessions_of(project: Project, exchange: str) -> int:
    return rows(project, f"SELECT count(*) FROM sessions WHERE exchange = '{exchange}'")


def rows(project: Project, query: str) -> int:
    [[count]] = project.rows(query)
    assert isinstance(count, int)
    assert count
    return count


def test_sessions_per_exchange_come_from_exchange_calendars() -> None:
    # What the fixture plants rests on these two days.
    is_session = {
        (name, day): exchange_calendars.get_calendar(name).is_session(pd.Timestamp(day))
        for name in ("XNYS", "XLON")
        for day in (HOLIDAY, SATURDAY)
    }
    assert is_session == {
        ("XNYS", HOLIDAY): False, ("XLON", HOLIDAY): True, ("XNYS", SATURDAY): False, ("XLON", SATURDAY): False,
    }  # fmt: skip
