"""The schema's revisions on a real server."""

import subprocess
from itertools import pairwise

import pytest
from sqlalchemy import Engine, text

from tickstock_assets.domain.errors import DatabaseError
from tickstock_assets.storage import migrate, placement


def schema_dump(engine: Engine) -> str:
    """What pg_dump says of the schema, without its random markers.

    Nor with the schema `tier`, which a downgrade takes back and the next upgrade makes again, and with TimescaleDB's
    own, whose chunks it numbers as it goes.
    """
    binary = placement.binaries(None) / "pg_dump"
    address = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    without = ["--exclude-schema=tier", "--exclude-schema=_timescaledb*"]
    dump = subprocess.run(
        [binary, "--schema-only", "--no-owner", *without, address], capture_output=True, text=True, check=True
    )
    return "\n".join(line for line in dump.stdout.splitlines() if not line.startswith(("\\", "--")))


def test_up_down_and_up_again_gives_the_identical_schema(empty_database: Engine) -> None:
    migrate.upgrade(empty_database)
    first = schema_dump(empty_database)
    migrate.downgrade(empty_database, "base")
    with empty_database.connect() as connection:
        left = connection.execute(
            text("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v')")
        ).scalars()
        assert list(left) == ["schema_revision"]
    migrate.upgrade(empty_database)
    assert schema_dump(empty_database) == first


# A row in each table of the first revision, as an existing home has them.
ROWS_OF_0001 = """
    INSERT INTO symbols (symbol) VALUES ('AAPL');
    INSERT INTO sessions (exchange, session, open, close) VALUES ('XNYS', '2024-01-02', '2024-01-02 14:30Z', '2024-01-02 21:00Z');
    INSERT INTO splits (symbol, execution_date, source, split_from, split_to) VALUES ('AAPL', '2024-01-02', 'sample', 1, 4);
    INSERT INTO dividends (symbol, ex_dividend_date, source, cash_amount) VALUES ('AAPL', '2024-01-02', 'sample', 0.24);
    INSERT INTO ohlcv_daily (symbol, date, open, high, low, close, volume, source)
        VALUES ('AAPL', '2024-01-02', 10, 11, 9, 10.12345678, 1000.5, 'sample');
    INSERT INTO bar_features (symbol, timeframe, timestamp, spread, true_range) VALUES ('AAPL', '1d', '2024-01-02 14:30Z', 2, 2);
    INSERT INTO patterns (symbol, timeframe, timestamp, pattern, id, family, direction, known_at)
        VALUES ('AAPL', '1d', '2024-01-02 14:30Z', 'CDLDOJI', gen_random_uuid(), 'candlestick', 'bullish', '2024-01-02 21:00Z');
    INSERT INTO backtest_runs VALUES (gen_random_uuid(), '{}', 'c', '1', '2024-01-02 21:00Z', 'd', 'sample',
                                      '2024-02-01 10:00Z', '2024-02-01 10:01Z');
    INSERT INTO backtest_results (run, scope, timeframe, strategy_name, pattern, start_date, end_date, patterns_detected,
                                  signals, winning, losing, roi, max_drawdown, look_ahead_bias_check)
        SELECT id, 'portfolio', '1d', 'CDLDOJI', 'CDLDOJI', '2024-01-02', '2024-01-02', 1, 1, 1, 0, 0.1, 0, true
        FROM backtest_runs;
    INSERT INTO backtest_trades (run, trade_number, symbol, pattern, direction, detected_at, entry_time, entry_price,
                                 exit_time, exit_price, quantity, costs, dividends, pnl, exit_reason)
        SELECT id, 1, 'AAPL', 'CDLDOJI', 'LONG', '2024-01-02 14:30Z', '2024-01-03 14:30Z', 10, '2024-01-04 21:00Z', 11,
               1, 0, 0, 1, 'time' FROM backtest_runs;
    INSERT INTO load_ledger (id, provider, dataset, symbol, window_start, window_end, source_version, status, error,
                             started_at, finished_at)
        VALUES (gen_random_uuid(), 'sample', 'daily_bars', 'AAPL', '2024-01-02', '2024-01-02', '1', 'failed', 'timeout',
                '2024-02-01 09:00Z', '2024-02-01 09:01Z');
    INSERT INTO quarantined_bars (id, symbol, rule, reason, source, dataset, source_version, row)
        VALUES (gen_random_uuid(), 'AAPL', 'r', 'why', 'sample', 'daily_bars', '1', '{}');
"""
# And one in each table that came later, with the columns that older tables got.
ROWS_SINCE = """
    INSERT INTO ohlcv_1min (symbol, timestamp, open, high, low, close, volume, source)
        VALUES ('AAPL', '2024-01-02 14:30Z', 10, 11, 9, 10, 1, 'polygon');
    INSERT INTO ticks (symbol, timestamp, price, quantity, source) VALUES ('AAPL', '2024-01-02 14:30Z', 10, 1, 'polygon');
    INSERT INTO bar_revisions VALUES ('AAPL', '1d', '2024-01-02 14:30Z', '2024-02-02 10:00Z', '2024-01-02', 10, 11, 9, 10, 1,
                                      NULL, NULL, NULL, 'XNYS', 'sample', '2024-02-01 10:00Z');
    INSERT INTO split_revisions VALUES ('AAPL', '2024-01-02', 'sample', '2024-02-02 10:00Z', 1, 3, '2024-02-01 10:00Z');
    INSERT INTO dividend_revisions (symbol, ex_dividend_date, source, distribution_type, superseded_at, cash_amount, recorded_at)
        VALUES ('AAPL', '2024-01-02', 'sample', 'unknown', '2024-02-02 10:00Z', 0.2, '2024-02-01 10:00Z');
"""
ROWS_SINCE_0003 = """
    INSERT INTO trading_ranges (id, symbol, timeframe, start_time, end_time, known_at, duration_bars, creek_level,
                                ice_level, range_width, strength_score)
        VALUES (gen_random_uuid(), 'AAPL', '1d', '2023-10-02', '2024-01-02', '2024-01-02', 60, 12, 10, 2, 80);
    INSERT INTO patterns (symbol, timeframe, timestamp, pattern, id, family, direction, known_at, trading_range_id,
                          trading_range_version)
        SELECT symbol, timeframe, end_time, 'SPRING', gen_random_uuid(), 'wyckoff', 'bullish', '2024-01-03', id, version
        FROM trading_ranges;
    INSERT INTO campaigns (id, symbol, timeframe, trading_range_id, trading_range_version, started_at)
        SELECT gen_random_uuid(), 'AAPL', '1d', id, version, '2024-01-02' FROM trading_ranges;
    INSERT INTO signals (id, symbol, timeframe, pattern_timestamp, pattern, variant, signal_type, strategy_name, generated_at,
                         entry_price, r_multiple, campaign_id)
        SELECT gen_random_uuid(), p.symbol, p.timeframe, p.timestamp, p.pattern, p.variant, 'LONG', 'CDLDOJI', p.known_at,
               10, 3, c.id
        FROM patterns p, campaigns c;
    INSERT INTO audit_trail (event_type, entity_type, entity_id, action) VALUES ('load', 'ohlcv_daily', 'AAPL', 'merge');
    UPDATE quarantined_bars SET released_at = '2024-02-02', released_by = 'ada', release_reason = 'checked';
"""
# Of these, only what fits the older form may stay when going down.
ROWS_SINCE_0004 = """
    INSERT INTO load_ledger (id, provider, dataset, symbol, window_start, window_end, source_version, status, error,
                             started_at, route, etag, calls)
        VALUES (gen_random_uuid(), 'polygon', 'daily_bars', NULL, '2024-01-02', '2024-01-02', '1', 'failed', 'timeout',
                '2024-02-01 09:00Z', 'flat_files', '"9b2c"', 3);
    INSERT INTO provider_quota (provider, period, period_start, ends_at, used, budget) VALUES
        ('polygon', 'minute', '2024-01-02 14:30Z', '2024-01-02 14:31Z', 1, 5),
        ('polygon', 'retry_after', '2024-01-02 14:30Z', '2024-01-02 14:40Z', 0, NULL),
        ('alpha_vantage', 'day', '2024-01-02 05:00Z', '2024-01-03 05:00Z', 7, 25);
    UPDATE symbols SET ticker_since = '2022-06-09';
    UPDATE quarantined_bars SET superseded_at = '2024-02-03';
"""
ROWS_SINCE_0005 = """
    INSERT INTO sessions (exchange, session, open, close, extended_open, extended_close)
        VALUES ('XLON', '2024-01-02', '2024-01-02 08:00Z', '2024-01-02 16:30Z', '2024-01-02 07:00Z', '2024-01-02 17:15Z');
    INSERT INTO touched_buckets (symbol, timestamp) VALUES ('AAPL', '2024-01-02 14:00Z');
    INSERT INTO data_gaps (id, symbol, timeframe, gap_start, gap_end, missing_bars, class)
        SELECT gen_random_uuid(), 'AAPL', '1m', '2024-01-02 14:00Z', '2024-01-02 14:01Z', n, class
        FROM unnest('{half_day,halt,provider_hole}'::text[]) WITH ORDINALITY AS classes (class, n);
"""
ROWS_SINCE_0006 = """
    INSERT INTO backfill_requests (symbols, timeframe, start_date, end_date, kind)
        VALUES ('{AAPL}', '1m', '2024-01-02', '2024-01-02', 'gaps');
    INSERT INTO data_gaps (id, symbol, timeframe, gap_start, gap_end, missing_bars, class, request_id, given_up_at,
                           given_up_reason)
        SELECT gen_random_uuid(), 'AAPL', '1m', '2024-01-02 15:00Z', '2024-01-02 15:01Z', 4, 'removed', id,
               '2024-02-01', 'nobody has it' FROM backfill_requests WHERE kind = 'gaps';
    INSERT INTO removed_minutes (symbol, removed_from, removed_to, reason)
        VALUES ('AAPL', '2024-01-02 15:00Z', '2024-01-02 15:02Z', 'prints of another');
"""
TABLES_OF_0001 = [
    "symbols", "sessions", "splits", "dividends", "ohlcv_daily", "bar_features", "patterns", "backtest_runs",
    "backtest_results", "backtest_trades", "load_ledger", "quarantined_bars",
]  # fmt: skip


def run(engine: Engine, script: str) -> None:
    with engine.begin() as connection:
        connection.connection.cursor().execute(script)


def columns_of(engine: Engine) -> dict[str, list[str]]:
    with engine.connect() as connection:
        return {
            table: list(
                connection.execute(
                    text(
                        "SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' "
                        "AND table_name = :table ORDER BY ordinal_position"
                    ),
                    {"table": table},
                ).scalars()
            )
            for table in TABLES_OF_0001
        }


def values(engine: Engine, columns: dict[str, list[str]]) -> dict[str, list[str]]:
    """Every row of the tables, in these columns, as text."""
    with engine.connect() as connection:
        return {
            table: [
                str(row) for row in connection.execute(text(f"SELECT {', '.join(map(quoted, names))} FROM {table}"))
            ]
            for table, names in columns.items()
        }


def quoted(name: str) -> str:
    return f'"{name}"'


def test_every_single_step_up_down_and_up_again_gives_the_identical_schema(empty_database: Engine) -> None:
    revisions = ["base", "0001", "0002", "0003", "0004", "0005", "0006"]
    for before, revision in pairwise(revisions):
        below = schema_dump(empty_database) if before != "base" else None
        migrate.upgrade(empty_database, revision)
        first = schema_dump(empty_database)
        migrate.downgrade(empty_database, before)
        if below is not None:
            assert schema_dump(empty_database) == below, f"{revision} down"
        migrate.upgrade(empty_database, revision)
        assert schema_dump(empty_database) == first, f"{revision} up again"
    assert revision == migrate.latest_revision()


def test_an_existing_home_is_upgraded_in_place_and_back_with_every_row_as_it_was(empty_database: Engine) -> None:
    migrate.upgrade(empty_database, "0001")
    run(empty_database, ROWS_OF_0001)
    old_schema, columns = schema_dump(empty_database), columns_of(empty_database)
    rows = values(empty_database, columns)
    assert all(len(held) == 1 for held in rows.values())

    migrate.upgrade(empty_database)
    assert values(empty_database, columns) == rows
    new_schema = schema_dump(empty_database)
    run(empty_database, ROWS_SINCE + ROWS_SINCE_0003 + ROWS_SINCE_0004 + ROWS_SINCE_0005 + ROWS_SINCE_0006)

    migrate.downgrade(empty_database, "0005")
    with empty_database.begin() as connection:
        closed = "SELECT status, error FROM backfill_requests WHERE status <> 'requested'"
        assert connection.execute(text(closed)).all() == [("cancelled", "of a kind that this revision does not know")]
        assert connection.execute(text("SELECT class FROM data_gaps WHERE missing_bars = 4")).scalars().all() == [
            "no_trade"
        ]
        connection.execute(text("DELETE FROM data_gaps WHERE missing_bars = 4"))
    migrate.downgrade(empty_database, "0004")
    with empty_database.begin() as connection:
        connection.execute(text("DELETE FROM sessions WHERE exchange = 'XLON'"))
        assert connection.execute(text("SELECT class FROM data_gaps ORDER BY missing_bars")).scalars().all() == [
            "holiday", "no_trade", "provider_hole",
        ]  # fmt: skip
    migrate.downgrade(empty_database, "0003")
    with empty_database.connect() as connection:
        assert connection.execute(text("SELECT provider, period, used FROM provider_quota")).all() == [
            ("alpha_vantage", "day", 7)
        ]
        assert connection.execute(text("SELECT symbol FROM load_ledger")).scalars().all() == ["AAPL"]
    migrate.upgrade(empty_database)
    with empty_database.connect() as connection:
        assert connection.execute(text("SELECT ends_at::text FROM provider_quota")).scalar_one() == (
            "2024-01-03 05:00:00+00"
        )
        assert connection.execute(text("SELECT route, etag, calls FROM load_ledger")).all() == [("by_symbol", None, 1)]

    migrate.downgrade(empty_database, "0001")
    assert schema_dump(empty_database) == old_schema
    with empty_database.begin() as connection:
        # What was found since stays, but the range it belonged to has gone.
        found = connection.execute(text("DELETE FROM patterns WHERE pattern = 'SPRING' RETURNING trading_range_id"))
        assert found.all() == [(None,)]
    assert values(empty_database, columns) == rows
    migrate.upgrade(empty_database)
    assert values(empty_database, columns) == rows
    assert schema_dump(empty_database) == new_schema


def test_what_retention_dropped_before_is_marked_so_that_no_rollup_is_computed_from_what_is_left(
    empty_database: Engine,
) -> None:
    migrate.upgrade(empty_database, "0004")
    drop = (
        "INSERT INTO audit_trail (event_type, entity_type, entity_id, action, metadata) VALUES ('retention', 'table', "
    )
    run(empty_database, drop + """'ohlcv_1min', 'drop', '{"before": "2024-03-01T09:30:00+00:00", "rows": 7}')""")
    run(empty_database, drop + """'ohlcv_1min', 'drop', '{"before": "2024-02-01T00:00:00+00:00", "rows": 7}')""")
    run(empty_database, drop + """'ohlcv_daily', 'drop', '{"before": "2025-02-01T00:00:00+00:00", "rows": 7}')""")
    migrate.upgrade(empty_database)
    with empty_database.connect() as connection:
        # Rounded up: of an hour that is dropped in part nothing is computed either.
        assert connection.execute(text("SELECT dropped_before::text FROM minutes_dropped")).scalars().all() == [
            "2024-03-01 10:00:00+00"
        ]


def test_what_was_removed_before_stays_away_and_what_there_was_counts_as_asked_for(empty_database: Engine) -> None:
    migrate.upgrade(empty_database, "0005")
    run(empty_database, "INSERT INTO symbols (symbol) VALUES ('AAPL'), ('MSFT')")
    remove = (
        "INSERT INTO audit_trail (event_type, entity_type, entity_id, action, metadata) VALUES ('removal', 'ohlcv_1min', "
        """'AAPL', 'remove', '{"start": "2024-01-02T15:00:00+00:00", "end": "2024-01-02T15:05:00+00:00", "reason": "wrong"}')"""
    )
    run(empty_database, remove)
    run(empty_database, remove)
    migrate.upgrade(empty_database)
    with empty_database.connect() as connection:
        removed = "SELECT symbol, removed_from::text, removed_to::text, reason FROM removed_minutes"
        assert connection.execute(text(removed)).all() == [
            ("AAPL", "2024-01-02 15:00:00+00", "2024-01-02 15:05:00+00", "wrong")
        ]
        asked = "SELECT symbol, timeframe::text, start_date FROM requested_history ORDER BY 1"
        assert connection.execute(text(asked)).all() == [("AAPL", "1d", None), ("MSFT", "1d", None)]


def test_rows_of_an_existing_home_keep_the_moment_at_which_they_were_written(empty_database: Engine) -> None:
    migrate.upgrade(empty_database, "0001")
    run(empty_database, ROWS_OF_0001)
    migrate.upgrade(empty_database)
    with empty_database.connect() as connection:
        stamps = {
            table: connection.execute(text(f"SELECT created_at::text FROM {table}")).scalar_one()
            for table in ("backtest_runs", "backtest_results", "backtest_trades", "load_ledger")
        }
        assert stamps == {
            "backtest_runs": "2024-02-01 10:01:00+00",
            "backtest_results": "2024-02-01 10:01:00+00",
            "backtest_trades": "2024-02-01 10:01:00+00",
            "load_ledger": "2024-02-01 09:00:00+00",
        }
        assert (
            connection.execute(text("SELECT updated_at::text FROM load_ledger")).scalar_one()
            == "2024-02-01 09:01:00+00"
        )
        assert connection.execute(text("SELECT created_at = quarantined_at FROM quarantined_bars")).scalar_one()


def test_upgrading_twice_changes_nothing(database: Engine) -> None:
    before = schema_dump(database)
    migrate.upgrade(database)
    assert schema_dump(database) == before
    with database.connect() as connection:
        assert migrate.current_revision(connection) == migrate.latest_revision()


def test_every_table_view_and_column_has_a_comment(database: Engine) -> None:
    with database.connect() as connection:
        missing = connection.execute(
            text("""
                SELECT c.relname || coalesce('.' || a.attname, '') FROM pg_class c
                LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v')
                  AND c.relname <> 'schema_revision'
                  AND (col_description(c.oid, a.attnum) IS NULL OR obj_description(c.oid) IS NULL)
            """)
        ).scalars()
        assert list(missing) == []


def test_money_is_numeric_and_times_have_a_zone(database: Engine) -> None:
    with database.connect() as connection:
        wrong = connection.execute(
            text("""
                SELECT table_name || '.' || column_name FROM information_schema.columns
                WHERE table_schema = 'public' AND data_type IN ('double precision', 'real', 'timestamp without time zone')
            """)
        ).scalars()
        assert list(wrong) == []


def test_every_symbol_column_refers_to_symbols(database: Engine) -> None:
    with database.connect() as connection:
        free = connection.execute(
            text("""
                SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'symbol'
                WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.relname <> 'symbols'
                  AND NOT EXISTS (SELECT FROM pg_constraint f WHERE f.conrelid = c.oid AND f.contype = 'f'
                                  AND f.confrelid = 'symbols'::regclass AND a.attnum = ANY (f.conkey))
            """)
        ).scalars()
        assert list(free) == []


def test_names_of_indexes_and_checks_follow_the_convention(database: Engine) -> None:
    with database.connect() as connection:
        odd = connection.execute(
            text("""
                SELECT indexname FROM pg_indexes WHERE schemaname = 'public'
                   AND indexname !~ ('^idx_' || tablename) AND indexname !~ '_(pkey|pkc)$'
                UNION ALL
                SELECT conname FROM pg_constraint WHERE contype = 'c' AND conrelid <> 0
                   AND connamespace = 'public'::regnamespace AND conname !~ ('^chk_' || conrelid::regclass)
            """)
        ).scalars()
        assert list(odd) == []


def test_a_database_without_the_schema_is_refused_with_the_remedy(empty_database: Engine) -> None:
    with pytest.raises(DatabaseError, match=r"revision none, expected \d+; run `tickstock db migrate`"):
        migrate.require_latest(empty_database)


def test_an_unknown_revision_is_one_sentence(database: Engine) -> None:
    with pytest.raises(DatabaseError, match="9999"):
        migrate.downgrade(database, "9999")
