"""What the graph says of itself: owners, tags, units, columns and freshness of each asset."""

from datetime import UTC, date, datetime, timedelta

import dagster as dg
import exchange_calendars
import pytest
from sqlalchemy import Engine, text

from tickstock_assets.definitions import defs
from tickstock_assets.defs import freshness
from tickstock_assets.defs.catalog import CATALOG
from tickstock_assets.defs.columns import column_schema

GRAPH = defs.resolve_asset_graph()
NODES = {key.to_user_string(): GRAPH.get(key) for key in GRAPH.get_all_asset_keys()}


def test_every_asset_is_catalogued_and_nothing_besides() -> None:
    assert CATALOG.keys() == NODES.keys()


def test_every_asset_says_what_it_is_whose_it_is_and_what_it_measures() -> None:
    for name, node in NODES.items():
        assert node.description, name
        assert [owner.startswith("team:") for owner in node.owners] == [True], name
        assert {"domain", "tier", "cadence"} <= node.tags.keys(), name
        assert node.metadata["unit"], name
        assert node.kinds, name


def test_assets_that_are_tables_have_columns_each_with_its_meaning() -> None:
    tables = {name: node.metadata["dagster/table_name"] for name, node in NODES.items() if CATALOG[name].table}
    assert len(tables) == len(NODES) - len(
        {"raw_daily_bars", "raw_minute_bars", "raw_trades", "database", "quality_report"}
    )
    for name, table in tables.items():
        columns = NODES[name].metadata["dagster/column_schema"].columns
        assert columns == column_schema(str(table)).columns
        assert all(column.description for column in columns), name


@pytest.mark.tiers("embedded")
def test_columns_are_the_databases_own(database: Engine) -> None:
    with database.connect() as connection:
        for table in sorted({str(entry.table) for entry in CATALOG.values() if entry.table}):
            rows = connection.execute(
                text("""
                    SELECT column_name, is_nullable = 'YES',
                           col_description(CAST(CAST(:table AS text) AS regclass), ordinal_position)
                    FROM information_schema.columns WHERE table_schema = 'public' AND table_name = :table
                    ORDER BY ordinal_position
                """),
                {"table": table},
            ).all()
            shown = [(one.name, one.constraints.nullable, one.description) for one in column_schema(table).columns]
            assert shown == [tuple(row) for row in rows], table


def test_the_key_of_a_table_is_marked() -> None:
    keys = [column.name for column in column_schema("ohlcv_daily").columns if "primary_key" in column.tags]
    assert keys == ["symbol", "date"]


def test_nothing_of_a_file_that_has_ended_is_ever_stale_and_what_is_scheduled_by_the_hour_can_be() -> None:
    # Without a key, as here, the provider is the sample data, which ends in 2013.
    policies = {name: node.freshness_policy for name, node in NODES.items()}
    hourly = {name for name, entry in CATALOG.items() if entry.cadence == "hourly"}
    assert {name for name, policy in policies.items() if policy is not None} == hourly
    assert "database" in hourly


def test_what_comes_with_the_sessions_may_be_as_old_as_the_longest_time_between_two_closes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Ends:
        def horizon(self) -> date:
            return datetime.now(UTC).date()

    monkeypatch.setattr(freshness, "lineup", Ends)
    closes = exchange_calendars.get_calendar("XNYS").closes
    longest = closes[closes.index >= "2016-01-01"].loc[:"2026-11-20"].diff().max()
    # From one o'clock on Thursday, 24 December 2020, to four on Monday.
    assert longest == timedelta(days=4, hours=3)
    assert freshness.longest_closure(date(2026, 11, 20)) == longest
    assert freshness.freshness_policy("on demand") is None
    weekly = freshness.freshness_policy("weekly")
    assert isinstance(weekly, dg.FreshnessPolicy)
    with_sessions = freshness.freshness_policy("session")
    assert with_sessions == dg.FreshnessPolicy.time_window(longest + timedelta(hours=6))
