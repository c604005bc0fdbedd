"""What only the Community edition can do: compression, policies, continuous aggregates, and what outlives what."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import Engine, text

from tests.storage import tiers as servers
from tests.storage.test_tiers import add_history, add_minutes, add_symbols, change, rows, status
from tickstock_assets.domain.lifecycle import Lifecycle, Lifecycles
from tickstock_assets.storage import compression, continuous_aggregates, migrate, retention, tiers
from tickstock_assets.storage.bulk import merge

ROLLUP = {"ohlcv_5min": 5, "ohlcv_15min": 15, "ohlcv_1h": 60}
COUNTS = (
    "SELECT count(*) FROM ohlcv_5min UNION ALL SELECT count(*) FROM ohlcv_15min UNION ALL SELECT count(*) FROM ohlcv_1h"
)


def policies(engine: Engine, kind: str) -> dict[str, str | None]:
    return {policy.table: policy.interval for policy in status(engine).policies if policy.kind == kind}


def run_policy(engine: Engine, procedure: str, table: str) -> None:
    """Run a policy's job now, in this session."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        job = connection.execute(
            text(
                "SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = :procedure AND hypertable_name = :table"
            ),
            {"procedure": procedure, "table": table},
        ).scalar_one()
        connection.execute(text("CALL run_job(:job)"), {"job": job})


def add_recent_minutes(engine: Engine, days: int) -> None:
    """Minutes of one symbol over the last days, up to this hour."""
    until = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    add_minutes(engine, f"{until - timedelta(days=days):%Y-%m-%d %H:00}", f"{until - timedelta(minutes=1)}", "{AAPL}")


def test_policies_are_those_of_the_settings(community_database: Engine) -> None:
    assert policies(community_database, "compression") == {
        "ohlcv_1min": "90 days", "bar_revisions": "90 days", "ticks": "30 days",
        "ohlcv_daily": "1 year", "bar_features": "1 year",
    }  # fmt: skip
    assert policies(community_database, "retention") == {"ticks": "1 year"}
    assert policies(community_database, "refresh") == dict.fromkeys(ROLLUP)


def test_a_new_retention_leaves_a_day_to_change_it_before_anything_is_dropped(community_database: Engine) -> None:
    migrate.upgrade(community_database, lifecycles=Lifecycles(minute=Lifecycle("7 days", "7 days", "30 days")))
    first_runs = rows(
        community_database,
        """SELECT hypertable_name, initial_start > now() + interval '23 hours' FROM timescaledb_information.jobs
           WHERE proc_name = 'policy_retention' AND hypertable_name IN ('ohlcv_1min', 'ticks') ORDER BY 1""",
    )
    assert first_runs == [("ohlcv_1min", True), ("ticks", True)]


def test_changed_settings_change_the_policies_and_unset_ones_remove_them(community_database: Engine) -> None:
    chosen = Lifecycles(
        minute=Lifecycle("1 day", "7 days", "30 days"),
        daily=Lifecycle("1 year", None, "10 years"),
        tick=Lifecycle("1 day", "2 days", None),
    )
    assert status(community_database, chosen).warnings
    migrate.upgrade(community_database, lifecycles=chosen)
    assert policies(community_database, "compression") == {
        "ohlcv_1min": "7 days",
        "bar_revisions": "7 days",
        "ticks": "2 days",
    }
    assert policies(community_database, "retention") == {"ohlcv_1min": "30 days", "ohlcv_daily": "10 years"}
    # A day short of the retention, so that no refresh reaches minutes that are about to go.
    assert policies(community_database, "refresh") == dict.fromkeys(ROLLUP, "29 days")
    assert status(community_database, chosen).warnings == []
    migrate.upgrade(community_database)
    test_policies_are_those_of_the_settings(community_database)


def test_a_rollup_is_what_its_minutes_say_before_and_after_it_is_refreshed(community_database: Engine) -> None:
    add_symbols(community_database)
    add_minutes(community_database, "2024-01-02 14:30", "2024-01-02 15:29")
    change(
        community_database,
        """UPDATE ohlcv_1min SET volume = 300, vwap = NULL, high = 150, low = 50, trades_count = 1, source = 'sample'
           WHERE symbol = 'AAPL' AND timestamp = '2024-01-02 14:31'""",
    )
    # 14:30 is minute 870 of the day, so opens at 100 + 870 / 100 = 108.70; 14:34 closes at 108.74 + 0.01.
    # The vwap leaves 14:31 out, of which none is known: the mean of 108.70, .72, .73, .74.
    expected = (
        Decimal("108.70"), Decimal(150), Decimal(50), Decimal("108.75"), Decimal(700), None,
        Decimal("108.7225"), 29, "XNYS", "sample",
    )  # fmt: skip
    first = """SELECT open, high, low, close, volume, quote_volume, vwap, trades_count, exchange, source FROM ohlcv_5min
               WHERE symbol = 'AAPL' AND timestamp = '2024-01-02 14:30'"""
    assert rows(community_database, first) == [expected]
    # Of an hour from 14:30 on, hours by the clock are two.
    assert rows(community_database, COUNTS) == [(24,), (8,), (4,)]
    assert [(one.rollup, one.start) for one in continuous_aggregates.refresh(community_database)] == [
        (name, datetime(2023, 12, 28, tzinfo=UTC)) for name in ROLLUP
    ]
    assert rows(community_database, first) == [expected]
    assert rows(community_database, COUNTS) == [(24,), (8,), (4,)]
    assert rows(community_database, "SELECT timeframe, count(*) FROM ohlcv_bars GROUP BY 1 ORDER BY 1") == [
        ("15m", 8), ("1h", 4), ("1m", 120), ("5m", 24),
    ]  # fmt: skip


def test_the_source_of_a_rollup_is_the_one_of_its_minutes_that_ranks_last(community_database: Engine) -> None:
    add_symbols(community_database)
    add_minutes(community_database, "2024-01-02 14:00", "2024-01-02 14:29", "{AAPL}")
    # Ranks: polygon 10, alpha_vantage 20, sample 30, others 50, synthetic 90; of two others the later in the alphabet.
    said = {
        "14:00": "polygon", "14:01": "alpha_vantage", "14:05": "synthetic", "14:09": "zeta", "14:11": "sample",
        "14:12": "alpha_vantage", "14:18": "zeta", "14:19": "beta", "14:20": "beta", "14:21": "zeta", "14:22": "sample",
    }  # fmt: skip
    for minute, source in said.items():
        change(
            community_database,
            "UPDATE ohlcv_1min SET source = :source WHERE timestamp = CAST(:at AS timestamptz)",
            source=source,
            at=f"2024-01-02 {minute}Z",
        )
    expected = {
        "ohlcv_5min": ["alpha_vantage", "synthetic", "sample", "zeta", "zeta", "polygon"],
        "ohlcv_15min": ["synthetic", "zeta"],
        "ohlcv_1h": ["synthetic"],
    }

    def found() -> dict[str, list[str]]:
        return {
            rollup: [
                source for (source,) in rows(community_database, f"SELECT source FROM {rollup} ORDER BY timestamp")
            ]
            for rollup in ROLLUP
        }

    assert found() == expected
    assert [one.rollup for one in continuous_aggregates.refresh(community_database)] == list(ROLLUP)
    assert found() == expected


@pytest.mark.parametrize("rollup", ROLLUP)
def test_names_types_and_comments_are_the_tables(community_database: Engine, rollup: str) -> None:
    described = """SELECT attname, format_type(atttypid, atttypmod), col_description(attrelid, attnum) FROM pg_attribute
                   WHERE attrelid = CAST(:name AS regclass) AND attnum > 0 ORDER BY attnum"""
    view, table = (rows(community_database, described, name=name) for name in (rollup, f"tier.{rollup}_base"))
    assert view == table
    assert len(view) == 13


def test_late_minutes_and_corrections_reach_the_rollups_with_the_next_refresh(community_database: Engine) -> None:
    add_symbols(community_database)
    add_minutes(community_database, "2024-01-02 00:00", "2024-01-02 23:59", "{AAPL}")
    continuous_aggregates.refresh(community_database)
    add_minutes(community_database, "2023-12-20 00:00", "2023-12-20 23:59", "{AAPL}")
    change(community_database, "UPDATE ohlcv_1min SET high = 999 WHERE timestamp = '2024-01-02 10:00'")
    run_policy(community_database, "policy_refresh_continuous_aggregate", "ohlcv_1h")
    assert rows(community_database, "SELECT count(*), max(high) FROM ohlcv_1h") == [(48, Decimal(999))]


def test_rollups_outlive_minutes_that_are_dropped_by_hand(community_database: Engine) -> None:
    add_symbols(community_database)
    add_minutes(community_database, "2024-01-01 00:00", "2024-01-31 23:59", "{AAPL}")
    before = rows(community_database, "SELECT * FROM ohlcv_1h ORDER BY timestamp")
    assert len(before) == 31 * 24
    retention.drop(community_database, "ohlcv_1min", datetime(2024, 1, 20, tzinfo=UTC), tiers.DEFAULT)
    assert rows(community_database, "SELECT min(timestamp) FROM ohlcv_1min") == [(datetime(2024, 1, 18, tzinfo=UTC),)]
    assert rows(community_database, "SELECT * FROM ohlcv_1h ORDER BY timestamp") == before
    # Neither a refresh of everything, nor the policy, nor migrating, nor a late minute before the hole undoes that.
    add_minutes(community_database, "2024-01-02 10:00", "2024-01-02 10:01", "{AAPL}")
    assert {one.start for one in continuous_aggregates.refresh(community_database)} == {
        datetime(2024, 1, 18, tzinfo=UTC)
    }
    run_policy(community_database, "policy_refresh_continuous_aggregate", "ohlcv_1h")
    migrate.upgrade(community_database)
    run_policy(community_database, "policy_refresh_continuous_aggregate", "ohlcv_1h")
    assert rows(community_database, "SELECT * FROM ohlcv_1h ORDER BY timestamp") == before


def test_rollups_outlive_minutes_that_a_new_retention_drops_at_once(community_database: Engine) -> None:
    add_symbols(community_database)
    add_recent_minutes(community_database, days=60)
    before = rows(community_database, "SELECT * FROM ohlcv_1h ORDER BY timestamp")
    assert len(before) == 60 * 24
    migrate.upgrade(community_database, lifecycles=Lifecycles(minute=Lifecycle("7 days", "7 days", "30 days")))
    run_policy(community_database, "policy_retention", "ohlcv_1min")
    ((kept,),) = rows(community_database, "SELECT count(*) FROM ohlcv_1min")
    # 30 days, and what is older of the chunk that the thirtieth lies in.
    assert 30 * 1440 <= kept <= 37 * 1440 + 60
    run_policy(community_database, "policy_refresh_continuous_aggregate", "ohlcv_1h")
    continuous_aggregates.refresh(community_database)
    assert rows(community_database, "SELECT * FROM ohlcv_1h ORDER BY timestamp") == before
    # Once the retention is unset again, no refresh may go back to the beginning.
    migrate.upgrade(community_database)
    assert policies(community_database, "retention") == {"ticks": "1 year"}
    assert None not in policies(community_database, "refresh").values()
    run_policy(community_database, "policy_refresh_continuous_aggregate", "ohlcv_1h")
    continuous_aggregates.refresh(community_database)
    assert rows(community_database, "SELECT * FROM ohlcv_1h ORDER BY timestamp") == before


@pytest.mark.tiers(servers.COMMUNITY)
def test_upgrading_in_place_keeps_rollups_whose_minutes_are_gone(bare_database: Engine) -> None:
    migrate.upgrade(bare_database)
    add_history(bare_database)
    change(
        bare_database,
        """INSERT INTO ohlcv_5min (symbol, timestamp, open, high, low, close, volume, source)
           VALUES ('AAPL', '2019-01-02 15:00', 1, 2, 1, 2, 7, 'sample'), ('AAPL', '2024-01-02 15:00', 1, 2, 1, 2, 7, 'sample')""",
    )
    tiers.create_extension(bare_database)
    migrate.upgrade(bare_database)
    continuous_aggregates.refresh(bare_database)
    said = """SELECT timestamp, volume, source FROM ohlcv_5min
              WHERE timestamp IN ('2019-01-02 15:00', '2024-01-02 15:00') ORDER BY 1"""
    # The one without minutes is as it was; the other is what its five minutes of 100 shares say.
    assert rows(bare_database, said) == [
        (datetime(2019, 1, 2, 15, tzinfo=UTC), Decimal(7), "sample"),
        (datetime(2024, 1, 2, 15, tzinfo=UTC), Decimal(500), "polygon"),
    ]
    migrate.downgrade(bare_database, "0002")
    assert rows(bare_database, said)[0] == (datetime(2019, 1, 2, 15, tzinfo=UTC), Decimal(7), "sample")


def test_minutes_that_are_all_about_to_be_dropped_are_not_refreshed_from(community_database: Engine) -> None:
    add_symbols(community_database)
    add_minutes(community_database, "2024-01-01 00:00", "2024-01-01 23:59", "{AAPL}")
    migrate.upgrade(community_database, lifecycles=Lifecycles(minute=Lifecycle("7 days", "7 days", "30 days")))
    assert continuous_aggregates.refresh(community_database) == []
    assert rows(community_database, COUNTS) == [(288,), (96,), (24,)]


def test_a_rollup_is_not_written_to(community_database: Engine) -> None:
    add_symbols(community_database)
    with pytest.raises(Exception, match="cannot insert into view"):
        change(
            community_database,
            """INSERT INTO ohlcv_5min (symbol, timestamp, open, high, low, close, volume, source)
               VALUES ('AAPL', '2019-01-02 15:00', 1, 2, 1, 2, 7, 'sample')""",
        )


def test_compressing_keeps_every_bar_and_takes_less_space(community_database: Engine) -> None:
    add_symbols(community_database)
    add_minutes(community_database, "2024-01-01 00:00", "2024-01-31 23:59")
    before = rows(community_database, "SELECT * FROM ohlcv_1min ORDER BY symbol, timestamp")
    with community_database.connect() as connection:
        planned = compression.plan(connection, "ohlcv_1min")
    done = compression.compress(community_database, "ohlcv_1min")
    assert (done.chunks, done.before_bytes) == (planned.chunks, planned.before_bytes)
    assert done.chunks == 5
    assert done.after_bytes is not None
    assert done.after_bytes < done.before_bytes / 5
    assert rows(community_database, "SELECT * FROM ohlcv_1min ORDER BY symbol, timestamp") == before
    (table,) = (table for table in status(community_database).hypertables if table.table == "ohlcv_1min")
    assert (table.chunks, table.compressed_chunks) == (5, 5)
    assert table.compression_ratio
    assert table.compression_ratio > 5
    assert compression.compress(community_database, "ohlcv_1min").chunks == 0


@pytest.mark.parametrize("table", ["ohlcv_daily", "ticks", "bar_revisions", "bar_features"])
def test_every_other_table_that_compresses_does_so_without_losing_a_row(community_database: Engine, table: str) -> None:
    add_history(community_database)
    before = rows(community_database, f"SELECT * FROM {table} ORDER BY symbol, 2, 3, 4")
    assert compression.compress(community_database, table).chunks > 1
    assert rows(community_database, f"SELECT * FROM {table} ORDER BY symbol, 2, 3, 4") == before


def test_a_correction_of_a_bar_in_a_compressed_chunk_works_and_keeps_its_revision(community_database: Engine) -> None:
    add_symbols(community_database)
    days = [date(2020, 1, 1) + timedelta(days=n) for n in range(700)]

    def bars(corrected: dict[date, Decimal]) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "symbol": "AAPL", "date": pd.to_datetime(days), "open": Decimal(10), "high": Decimal(20),
                "low": Decimal(5), "close": [corrected.get(day, Decimal(10)) for day in days],
                "volume": Decimal(100), "source": "polygon",
            }
        )  # fmt: skip

    def load(corrected: dict[date, Decimal]) -> Any:
        with community_database.begin() as connection:
            return merge(connection, "ohlcv_daily", bars(corrected))

    assert load({}).inserted == 700
    assert compression.compress(community_database, "ohlcv_daily").chunks > 1
    counts = load({date(2020, 3, 4): Decimal("12.5")})
    assert (counts.inserted, counts.corrected, counts.unchanged) == (0, 1, 699)
    assert rows(community_database, "SELECT close FROM ohlcv_daily WHERE date = '2020-03-04'") == [(Decimal("12.5"),)]
    assert rows(community_database, "SELECT session, close, source FROM bar_revisions") == [
        (date(2020, 3, 4), Decimal(10), "polygon")
    ]
    assert rows(community_database, "SELECT count(*) FROM ohlcv_daily") == [(700,)]
    # The chunk is compressed again by the policy or by hand; nothing is lost by that.
    compression.compress(community_database, "ohlcv_daily")
    assert rows(community_database, "SELECT sum(close) FROM ohlcv_daily") == [(Decimal("7002.5"),)]


def test_more_corrections_than_one_change_may_decompress_all_arrive(community_database: Engine) -> None:
    names = [f"S{number:03d}" for number in range(120)]
    minutes = pd.date_range("2024-01-02 14:30", periods=1_170, freq="min", tz="UTC").as_unit("us")
    frame = pd.DataFrame(
        {
            "symbol": [name for name in names for _ in minutes], "timestamp": list(minutes) * len(names),
            "open": 10.0, "high": 20.0, "low": 5.0, "close": 10.0, "volume": 100.0, "source": "polygon",
        }
    )  # fmt: skip
    ends = frame.groupby("symbol")["timestamp"].transform(lambda moments: moments.isin([moments.min(), moments.max()]))
    with community_database.connect() as connection:
        merge(connection, "symbols", pd.DataFrame({"symbol": names}))
        assert merge(connection, "ohlcv_1min", frame).inserted == len(frame)  # this connection saw the table empty
        connection.commit()
        compression.compress(community_database, "ohlcv_1min")
        counts = merge(connection, "ohlcv_1min", frame.assign(close=frame["close"].where(~ends, 11.0)))
        assert (counts.corrected, counts.unchanged) == (240, len(frame) - 240)
        connection.commit()
        compression.compress(community_database, "ohlcv_1min")
        assert merge(connection, "ohlcv_1min", frame.assign(volume=7.0)).corrected == len(frame)
        connection.commit()
    assert rows(community_database, "SELECT count(*) FROM bar_revisions") == [(240 + len(frame),)]
