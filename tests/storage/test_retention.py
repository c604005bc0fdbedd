"""Dropping by age: what goes, what stays, what is written down, and what is warned of."""

from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import Engine

from tests.storage import tiers as servers
from tests.storage.test_tiers import add_minutes, add_symbols, change, rows
from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.domain.lifecycle import Lifecycle, Lifecycles
from tickstock_assets.storage import retention, tiers

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
KEEP_2_YEARS = Lifecycles(daily=Lifecycle("1 year", "1 year", "2 years"), tick=Lifecycle("1 day"))


def add_days(engine: Engine) -> None:
    """A daily bar a month for the last ten years by the clock."""
    add_symbols(engine)
    change(
        engine,
        """INSERT INTO ohlcv_daily (symbol, date, open, high, low, close, volume, source)
           SELECT 'AAPL', d, 10, 11, 9, 10, 100, 'polygon'
           FROM generate_series(current_date - interval '10 years', current_date, '1 month') d""",
    )


def audited(engine: Engine) -> list[tuple[str, str, dict[str, object]]]:
    return rows(  # type: ignore[return-value]
        engine,
        "SELECT action, entity_id, metadata FROM audit_trail WHERE event_type = 'retention' ORDER BY timestamp",
    )


@pytest.mark.tiers(servers.EMBEDDED, servers.APACHE)
def test_the_job_drops_what_is_older_than_the_settings_allow_and_writes_it_down(database: Engine, tier: str) -> None:
    add_days(database)
    cutoff = (datetime.now(UTC) - timedelta(days=730)).date()
    dropped = retention.keep(database, KEEP_2_YEARS)
    assert dropped is not None
    assert [one.table for one in dropped] == ["ohlcv_daily"]
    ((oldest,),) = rows(database, "SELECT min(date) FROM ohlcv_daily")
    # On hypertables a chunk that still holds a day to keep is kept as a whole.
    slack = timedelta(days=366 if tier == servers.APACHE else 2)
    assert cutoff - slack <= oldest <= cutoff + timedelta(days=32)
    entries = audited(database)
    assert {(action, table) for action, table, _ in entries} == {("drop", "ohlcv_daily")}
    if tier == servers.EMBEDDED:
        # 10 years of a bar a month less the last 2, in slices of a year.
        assert sum(int(str(amount["rows"])) for *_, amount in entries) in {96, 97}
        assert len(entries) in {8, 9}
    else:
        assert [amount["chunks"] for *_, amount in entries] == [dropped[0].chunks]


def test_a_second_run_finds_nothing_and_writes_nothing(database: Engine) -> None:
    add_days(database)
    retention.keep(database, KEEP_2_YEARS)
    entries = audited(database)
    assert all(one.is_empty for one in retention.keep(database, KEEP_2_YEARS) or [])
    assert audited(database) == entries


def test_without_a_retention_everything_is_kept(database: Engine) -> None:
    add_days(database)
    retention.keep(database, Lifecycles(tick=Lifecycle("1 day")))
    assert rows(database, "SELECT count(*) FROM ohlcv_daily") == [(121,)]


@pytest.mark.tiers(servers.COMMUNITY)
def test_where_the_servers_policies_do_it_the_job_does_nothing(database: Engine) -> None:
    add_days(database)
    assert retention.keep(database, KEEP_2_YEARS) is None
    assert rows(database, "SELECT count(*) FROM ohlcv_daily") == [(121,)]


def test_an_age_given_by_hand_counts_from_the_newest_row_not_from_the_clock(database: Engine) -> None:
    add_symbols(database)
    add_minutes(database, "2013-02-01 00:00", "2013-03-01 00:00", "{AAPL}")
    with database.connect() as connection:
        assert retention.cutoff(connection, "ohlcv_1min", "7 days") == datetime(2013, 2, 22, tzinfo=UTC)
        assert retention.cutoff(connection, "ohlcv_1min", "2013-02-10") == datetime(2013, 2, 10, tzinfo=UTC)
        with pytest.raises(
            ConfigError, match="expected an age such as '30 days' or a day such as 2024-01-31, found 'x'"
        ):
            retention.cutoff(connection, "ohlcv_1min", "x")
        with pytest.raises(ConfigError, match=r"expected one of ohlcv_1min, .*, found 'patterns'"):
            retention.cutoff(connection, "patterns", "7 days")


def test_what_is_planned_is_what_is_dropped(database: Engine, tier: str) -> None:
    add_symbols(database)
    add_minutes(database, "2024-01-01 00:00", "2024-01-31 23:59", "{AAPL}")
    before = datetime(2024, 1, 20, 10, 30, tzinfo=UTC)
    with database.connect() as connection:
        planned = retention.plan(connection, "ohlcv_1min", before)
    assert retention.drop(database, "ohlcv_1min", before, tiers.DEFAULT) == planned
    ((oldest, left),) = rows(database, "SELECT min(timestamp), count(*) FROM ohlcv_1min")
    if tier == servers.EMBEDDED:
        # 19 days and ten hours of minutes; the half hour stays, as its hour does.
        assert planned.rows == 19 * 1440 + 600
        assert oldest == datetime(2024, 1, 20, 10, tzinfo=UTC)
    else:
        # Chunks of a week begin on Thursdays, as the epoch did; that of 18 January holds the 20th.
        assert planned.chunks == 3
        assert oldest == datetime(2024, 1, 18, tzinfo=UTC)
    assert left == (datetime(2024, 2, 1, tzinfo=UTC) - oldest) / timedelta(minutes=1)


def test_a_load_of_rows_that_retention_would_drop_is_warned_of() -> None:
    said = retention.warning("ohlcv_daily", date(2000, 3, 1), KEEP_2_YEARS, NOW)
    # Two years of 360 days before 15 June 2026.
    assert said == (
        "ohlcv_daily: rows before 2024-06-25 are older than the retention of 2 years and will be dropped soon after they "
        "are stored, found a load from 2000-03-01 on; raise or unset TICKSTOCK_DAILY_RETENTION to keep them"
    )
    assert retention.warning("ohlcv_daily", date(2024, 6, 25), KEEP_2_YEARS, NOW) is None
    assert retention.warning("ohlcv_daily", date(2000, 3, 1), Lifecycles(), NOW) is None
