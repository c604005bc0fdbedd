"""What a tier adds to the schema: made, made again, changed by settings, and taken back, with every row kept."""

import re
import subprocess
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from tests.storage import tiers as servers
from tickstock_assets.domain.errors import DatabaseError
from tickstock_assets.domain.lifecycle import Lifecycle, Lifecycles
from tickstock_assets.storage import capability as capabilities
from tickstock_assets.storage import migrate, placement, tiers
from tickstock_assets.storage.capability import Tier, capability, require_supported
from tickstock_assets.storage.tier_status import HYPERTABLES, TierStatus, tier_status

TIERS = {
    servers.EMBEDDED: Tier.PLAIN,
    servers.APACHE: Tier.TIMESCALE_APACHE,
    servers.COMMUNITY: Tier.TIMESCALE_COMMUNITY,
}
CHUNKS = {
    "ohlcv_1min": "7 days", "ohlcv_daily": "1 year", "ticks": "1 day", "bar_revisions": "90 days",
    "bar_features": "1 year", "patterns": "1 year", "backtest_equity": "1 year",
}  # fmt: skip


def rows(engine: Engine, query: str, **parameters: Any) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query), parameters)]


def change(engine: Engine, statement: str, **parameters: Any) -> None:
    with engine.begin() as connection:
        connection.execute(text(statement), parameters)


def status(engine: Engine, chosen: Lifecycles = tiers.DEFAULT) -> TierStatus:
    with engine.connect() as connection:
        return tier_status(connection, chosen, is_embedded=False)


def add_symbols(engine: Engine) -> None:
    change(engine, "INSERT INTO symbols (symbol) VALUES ('AAPL'), ('MSFT')")


def add_minutes(engine: Engine, first: str, last: str, symbols: str = "{AAPL,MSFT}") -> None:
    """A bar a minute; prices rise by a cent a minute from 100 at midnight, so that each bucket can be told."""
    change(
        engine,
        """
        INSERT INTO ohlcv_1min (symbol, timestamp, open, high, low, close, volume, vwap, trades_count, source)
        SELECT s, t, p, p + 0.02, p - 0.02, p + 0.01, 100, p, 7, 'polygon'
        FROM unnest(CAST(:symbols AS text[])) s, generate_series(CAST(:first AS timestamptz), :last, '1 minute') t,
             LATERAL (SELECT 100 + extract(epoch FROM t - date_trunc('day', t)) / 6000 AS p) price
        """,
        symbols=symbols,
        first=first,
        last=last,
    )


def add_history(engine: Engine) -> dict[str, int]:
    """Rows in every table that may become a hypertable, over more than one chunk; return how many each has."""
    add_symbols(engine)
    add_minutes(engine, "2024-01-01 00:00", "2024-01-20 00:00", "{AAPL}")
    for statement in (
        """INSERT INTO ohlcv_daily (symbol, date, open, high, low, close, volume, source)
           SELECT 'AAPL', d, 10, 11, 9, 10, 100, 'polygon' FROM generate_series('2020-01-01'::date, '2024-01-19', '1 day') d""",
        """INSERT INTO ticks (symbol, timestamp, price, quantity, source)
           SELECT s, t, 10, 3, 'polygon' FROM unnest('{AAPL,MSFT}'::text[]) s,
                  generate_series('2024-01-01'::timestamptz, '2024-01-04', '1 hour') t""",
        """INSERT INTO bar_revisions (symbol, timeframe, timestamp, superseded_at, open, high, low, close, volume,
                                      exchange, source, recorded_at)
           SELECT 'AAPL', '1m', t, t + interval '1 year', 10, 11, 9, 10, 100, 'XNYS', 'polygon', t
           FROM generate_series('2023-01-01'::timestamptz, '2024-01-01', '1 month') t""",
        """INSERT INTO bar_features (symbol, timeframe, timestamp, spread, true_range)
           SELECT 'AAPL', '1d', t, 1, 1 FROM generate_series('2022-01-01'::timestamptz, '2024-01-01', '1 month') t""",
        """INSERT INTO patterns (symbol, timeframe, timestamp, pattern, id, family, direction, known_at)
           SELECT 'AAPL', '1d', t, 'CDLDOJI', gen_random_uuid(), 'candlestick', 'bullish', t + interval '1 day'
           FROM generate_series('2022-01-01'::timestamptz, '2024-01-01', '1 month') t""",
        """INSERT INTO signals (id, symbol, timeframe, pattern_timestamp, pattern, variant, signal_type, strategy_name,
                                generated_at, entry_price, r_multiple)
           VALUES (gen_random_uuid(), 'AAPL', '1d', '2022-02-01', 'CDLDOJI', '', 'LONG', 'CDLDOJI', '2022-02-03', 10, 2)""",
    ):
        change(engine, statement)
    return {table: rows(engine, f"SELECT count(*) FROM {table}")[0][0] for table in (*HYPERTABLES, "signals")}


def schema_dump(engine: Engine) -> list[str]:
    """The statements of the schema as pg_dump writes them, sorted and without numbers that are given anew each time."""
    binary = placement.binaries(None) / "pg_dump"
    address = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    command = [binary, "--schema-only", "--no-owner", "--exclude-schema=_timescaledb_*", address]
    dump = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    dump = "\n".join(line for line in dump.splitlines() if not line.startswith(("\\", "--")))
    # Views over continuous aggregates name the numbered tables below them.
    dump = re.sub(r"(_materialized_hypertable_|cagg_watermark\()\d+", r"\1N", dump)
    return sorted(statement.strip() for statement in dump.split(";\n"))


def test_the_tier_is_told_apart(database: Engine, tier: str) -> None:
    with database.connect() as connection:
        assert capability(connection).tier is TIERS[tier]


def test_tables_are_hypertables_with_the_stated_chunks(database: Engine, tier: str) -> None:
    found = {table.table: (table.chunk_interval, table.partitions) for table in status(database).hypertables}
    if tier == servers.EMBEDDED:
        assert found == {}
        return
    partitions = {"ticks": 16}
    # 1 year reads 360 days in some versions, and is the same to both.
    same = {("360 days", None): ("1 year", None)}
    assert {table: same.get(has, has) for table, has in found.items()} == {
        table: (interval, partitions.get(table)) for table, interval in CHUNKS.items()
    }


def test_migrating_after_the_extension_was_installed_upgrades_in_place_and_keeps_every_row(
    bare_database: Engine, tier: str
) -> None:
    migrate.upgrade(bare_database)
    before = add_history(bare_database)
    migrate.upgrade(bare_database)
    assert status(bare_database).hypertables == []
    if tier in servers.TIMESCALEDB:
        tiers.create_extension(bare_database)
        migrate.upgrade(bare_database)
        chunks = {table.table: table.chunks for table in status(bare_database).hypertables}
        # 19 days of minutes lie in 3 to 4 chunks of 7; 4 days of hours in 4 of a day; the revisions in 5 of 90 days.
        assert chunks.keys() == set(HYPERTABLES)
        assert chunks["ohlcv_1min"] in {3, 4}
        assert chunks["ticks"] == 4
    assert {table: rows(bare_database, f"SELECT count(*) FROM {table}")[0][0] for table in before} == before
    assert rows(bare_database, "SELECT sum(close) FROM ohlcv_bars WHERE timeframe = '1d'") == [(Decimal(14800),)]


def test_a_pattern_with_a_signal_cannot_be_removed(database: Engine) -> None:
    add_history(database)
    with pytest.raises(IntegrityError, match="foreign key"):
        change(database, "DELETE FROM patterns WHERE timestamp = '2022-02-01'")
    with pytest.raises(IntegrityError, match="fk_signals_patterns"):
        change(database, "UPDATE signals SET pattern_timestamp = '2022-02-02'")
    change(database, "DELETE FROM patterns WHERE timestamp <> '2022-02-01'")


def test_applying_twice_changes_nothing(database: Engine) -> None:
    before, policies = schema_dump(database), status(database).policies
    migrate.upgrade(database)
    assert schema_dump(database) == before
    assert [(one.table, one.kind, one.interval) for one in status(database).policies] == [
        (one.table, one.kind, one.interval) for one in policies
    ]


def test_up_down_and_up_again_gives_the_same_schema_and_rollups_keep_their_bars(database: Engine) -> None:
    add_history(database)
    change(
        database,
        """INSERT INTO ohlcv_daily (symbol, date, open, high, low, close, volume, source)
           VALUES ('MSFT', '2024-01-02', 1, 1, 1, 1, 1, 'polygon')""",
    )
    before, bars = schema_dump(database), rows(database, "SELECT * FROM ohlcv_bars ORDER BY 1, 2, 3")
    with database.begin() as connection:
        tiers.remove(connection)
    assert rows(database, "SELECT * FROM ohlcv_bars ORDER BY 1, 2, 3") == bars
    assert rows(database, "SELECT relkind FROM pg_class WHERE oid = 'ohlcv_5min'::regclass") == [("r",)]
    migrate.downgrade(database, "0002")
    assert rows(database, "SELECT * FROM ohlcv_bars ORDER BY 1, 2, 3") == bars
    migrate.upgrade(database)
    assert rows(database, "SELECT * FROM ohlcv_bars ORDER BY 1, 2, 3") == bars
    assert schema_dump(database) == before
    migrate.downgrade(database, "base")
    left = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v', 'm')"
    assert rows(database, left) == [("schema_revision",)]
    assert rows(database, "SELECT to_regnamespace('tier')") == [(None,)]
    migrate.upgrade(database)
    assert schema_dump(database) == before


@pytest.mark.tiers(*servers.TIMESCALEDB)
def test_changed_chunk_intervals_and_partitions_count_for_new_chunks(database: Engine) -> None:
    add_symbols(database)
    add_minutes(database, "2024-01-01 00:00", "2024-01-01 23:59", "{AAPL}")
    migrate.upgrade(database, lifecycles=Lifecycles(minute=Lifecycle("1 day"), tick_partitions=4))
    found = {
        table.table: (table.chunk_interval, table.partitions, table.chunks) for table in status(database).hypertables
    }
    assert found["ohlcv_1min"] == ("1 day", None, 1)
    assert found["ticks"][1] == 4
    # The first chunk goes on to cover what it did, up to 4 January; then comes one a day.
    add_minutes(database, "2024-02-01 00:00", "2024-02-03 23:59", "{AAPL}")
    assert {table.table: table.chunks for table in status(database).hypertables}["ohlcv_1min"] == 4


@pytest.mark.parametrize("version", ["2.12.2", "1.7.5", "2.9.0", "2.12.0-dev"])
def test_timescaledb_below_2_13_is_refused_with_the_reason(version: str) -> None:
    with pytest.raises(DatabaseError, match=f"expected 2.13 or newer, found {version}, which cannot name dimensions"):
        require_supported(version)


@pytest.mark.parametrize("version", ["2.13.0", "2.19.3", "2.100.1", "3.0.0"])
def test_timescaledb_from_2_13_on_is_accepted(version: str) -> None:
    require_supported(version)


@pytest.mark.tiers(*servers.TIMESCALEDB)
def test_a_server_with_too_old_an_extension_is_not_migrated(
    empty_database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capabilities, "OLDEST_TIMESCALEDB", (99, 0))
    with pytest.raises(DatabaseError, match=r"TimescaleDB: expected 99\.0 or newer, found 2"):
        migrate.upgrade(empty_database)
    with empty_database.connect() as connection:
        assert migrate.current_revision(connection) is None


def test_what_is_off_is_said_with_what_turns_it_on(database: Engine, tier: str) -> None:
    found = {warning.feature: warning for warning in status(database).warnings}
    assert (
        found.keys()
        == {
            servers.EMBEDDED: {"hypertables", "compression", "continuous aggregates", "retention policies"},
            servers.APACHE: {"compression", "continuous aggregates", "retention policies"},
            servers.COMMUNITY: set(),
        }[tier]
    )
    if tier == servers.APACHE:
        assert "Apache edition" in found["compression"].reason
        assert "Community edition" in found["compression"].remedy
    if tier != servers.COMMUNITY:
        assert "job `retention`" in found["retention policies"].reason


@pytest.mark.tiers(servers.EMBEDDED)
def test_the_embedded_server_is_told_to_use_another_one(database: Engine) -> None:
    with database.connect() as connection:
        warnings = tier_status(connection, tiers.DEFAULT, is_embedded=True).warnings
    assert {warning.remedy.partition(" (")[0] for warning in warnings} == {
        "set TICKSTOCK_DATABASE_URL to a server with TimescaleDB"
    }


@pytest.mark.tiers(servers.EMBEDDED)
def test_creating_an_extension_that_is_not_there_is_one_sentence(database: Engine) -> None:
    with pytest.raises(DatabaseError, match=r"CREATE EXTENSION timescaledb: .*have a superuser"):
        tiers.create_extension(database)


@pytest.mark.tiers(*servers.TIMESCALEDB)
def test_an_extension_that_is_there_but_not_created_is_offered(bare_database: Engine) -> None:
    migrate.upgrade(bare_database)
    assert "run `tickstock db migrate --with-timescaledb`" in status(bare_database).warnings[0].remedy
    tiers.create_extension(bare_database)
    warning = status(bare_database).warnings[0]
    assert (warning.feature, warning.remedy) == ("hypertables", "run `tickstock db migrate`")
