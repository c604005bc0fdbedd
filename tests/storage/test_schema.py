"""What the schema refuses and what it lets pass, each bound by hand; its views, its audit trail and its picture."""

import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import URL, Connection, Engine, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from docs import build_schema
from tickstock_assets.storage import embedded, migrate
from tickstock_assets.storage.database import open_engine

RANGE = "00000000-0000-0000-0000-00000000000a"
CAMPAIGN = "00000000-0000-0000-0000-00000000000b"
RUN = "00000000-0000-0000-0000-00000000000c"
ID = "00000000-0000-0000-0000-00000000000d"
OHLC = {"open": 10, "high": 11, "low": 9, "close": 10, "volume": 0}
MORNING = "2024-01-02 14:30Z"
NOON = "2024-01-02 17:00Z"
EVENING = "2024-01-02 21:00Z"

# A row of each table that is right, with the key that the tests refer to.
ROWS: dict[str, dict[str, Any]] = {
    "symbols": {"symbol": "AAPL"},
    "sessions": {"exchange": "XNYS", "session": "2024-01-02", "open": MORNING, "close": EVENING},
    "splits": {
        "symbol": "AAPL", "execution_date": "2024-01-02", "source": "sample", "split_from": 1, "split_to": 4,
    },
    "dividends": {"symbol": "AAPL", "ex_dividend_date": "2024-01-02", "source": "sample", "cash_amount": "0.24"},
    "ohlcv_daily": {"symbol": "AAPL", "date": "2024-01-02", **OHLC, "source": "sample"},
    **{
        table: {"symbol": "AAPL", "timestamp": MORNING, **OHLC, "source": "polygon"}
        for table in ("ohlcv_1min", "ohlcv_5min", "ohlcv_15min", "ohlcv_1h")
    },
    "ticks": {"symbol": "AAPL", "timestamp": MORNING, "price": "10.5", "quantity": "0.5", "source": "polygon"},
    "bar_revisions": {
        "symbol": "AAPL", "timeframe": "1d", "timestamp": MORNING, "superseded_at": EVENING, "session": "2024-01-02",
        **OHLC, "exchange": "XNYS", "source": "sample", "recorded_at": NOON,
    },
    "split_revisions": {
        "symbol": "AAPL", "execution_date": "2024-01-02", "source": "sample", "superseded_at": EVENING,
        "split_from": 1, "split_to": 4, "recorded_at": NOON,
    },
    "dividend_revisions": {
        "symbol": "AAPL", "ex_dividend_date": "2024-01-02", "source": "sample", "distribution_type": "unknown",
        "superseded_at": EVENING, "cash_amount": "0.24", "recorded_at": NOON,
    },
    "stored_windows": {
        "provider": "polygon", "dataset": "daily_bars", "symbol": "AAPL", "window_start": "2024-01-02",
        "window_end": "2024-01-02", "source_version": "1", "stored_at": NOON,
    },
    "bar_features": {"symbol": "AAPL", "timeframe": "1d", "timestamp": MORNING, "spread": 2, "true_range": 2},
    "trading_ranges": {
        "id": RANGE, "symbol": "AAPL", "timeframe": "1d", "start_time": "2023-10-02 13:30Z", "end_time": MORNING,
        "known_at": EVENING, "duration_bars": 60, "creek_level": 12, "ice_level": 10, "range_width": 2,
        "strength_score": 80,
    },
    "patterns": {
        "symbol": "AAPL", "timeframe": "1d", "timestamp": MORNING, "pattern": "SPRING", "id": ID, "family": "wyckoff",
        "direction": "bullish", "known_at": EVENING, "trading_range_id": RANGE, "trading_range_version": 1,
    },
    "campaigns": {
        "id": CAMPAIGN, "symbol": "AAPL", "timeframe": "1d", "trading_range_id": RANGE, "trading_range_version": 1,
        "started_at": EVENING,
    },
    "signals": {
        "id": ID, "symbol": "AAPL", "timeframe": "1d", "pattern_timestamp": MORNING, "pattern": "SPRING", "variant": "",
        "signal_type": "LONG", "strategy_name": "SPRING", "generated_at": EVENING, "entry_price": 10, "r_multiple": 3,
        "campaign_id": CAMPAIGN,
    },
    "backtest_runs": {
        "id": RUN, "config": "{}", "config_hash": "c", "code_version": "1", "data_as_of": EVENING, "data_hash": "d",
        "data_source": "sample", "started_at": EVENING, "finished_at": EVENING,
    },
    "backtest_results": {
        "run": RUN, "scope": "AAPL", "timeframe": "1d", "strategy_name": "SPRING", "pattern": "SPRING",
        "start_date": "2024-01-02", "end_date": "2024-01-02", "patterns_detected": 3, "signals": 2, "winning": 1,
        "losing": 1, "roi": "0.1", "max_drawdown": 0, "look_ahead_bias_check": True,
    },
    "backtest_trades": {
        "run": RUN, "trade_number": 1, "symbol": "AAPL", "pattern": "SPRING", "direction": "LONG",
        "detected_at": MORNING, "entry_time": MORNING, "entry_price": 10, "exit_time": EVENING, "exit_price": 11,
        "quantity": 1, "costs": 0, "dividends": 0, "pnl": 1, "exit_reason": "time",
    },
    "backtest_equity": {"run": RUN, "timestamp": EVENING, "equity": 100, "cash": 100, "exposure": 0, "drawdown": 0},
    "audit_trail": {"event_type": "load", "entity_type": "ohlcv_daily", "entity_id": "AAPL", "action": "merge"},
    "load_ledger": {
        "id": ID, "provider": "polygon", "dataset": "daily_bars", "symbol": "AAPL", "window_start": "2024-01-02",
        "window_end": "2024-01-02", "source_version": "1", "status": "failed", "error": "timeout",
        "started_at": NOON, "finished_at": EVENING,
    },
    "quarantined_bars": {
        "id": ID, "symbol": "AAPL", "rule": "high_is_highest", "reason": "high 1 < low 2", "source": "sample",
        "dataset": "daily_bars", "source_version": "1", "row": "{}",
    },
    "provider_quota": {"provider": "polygon", "period": "minute", "period_start": NOON, "ends_at": EVENING},
    "data_gaps": {
        "id": ID, "symbol": "AAPL", "timeframe": "1d", "gap_start": MORNING, "gap_end": MORNING, "missing_bars": 1,
    },
    "quality_findings": {
        "id": ID, "symbol": "AAPL", "timeframe": "1d", "timestamp": MORNING, "rule": "outlier", "severity": "warning",
        "reason": "return +40%",
    },
    "quality_scores": {"symbol": "AAPL", "timeframe": "1d", "session": "2024-01-02", "score": 99},
    "touched_buckets": {"symbol": "AAPL", "timestamp": "2024-01-02 14:00Z"},
    "minutes_dropped": {"dropped_before": MORNING},
    "backfill_requests": {"symbols": "{AAPL}", "timeframe": "1d", "start_date": "2024-01-02", "end_date": "2024-01-02"},
    "removed_minutes": {"symbol": "AAPL", "removed_from": MORNING, "removed_to": NOON, "reason": "prints of another"},
    "requested_history": {"symbol": "AAPL", "timeframe": "1d"},
    "alerts": {
        "id": ID, "kind": "lag", "subject": "1d bars", "severity": "warning", "message": "expected a, found b",
        "first_at": MORNING, "last_at": MORNING,
    },
    "alert_occurrences": {"occurrence": "run/1", "alert": ID, "occurred_at": MORNING},
    "alert_receivers": {"receiver": "mail ops@example.org"},
    "alert_notices": {"alert": ID, "receiver": "mail ops@example.org", "told_at": NOON, "told_times": 1},
}  # fmt: skip

BAR_TABLES = ("ohlcv_1min", "ohlcv_5min", "ohlcv_15min", "ohlcv_1h", "ohlcv_daily")

# Table, values that break exactly one check, that check without `chk_<table>_`.
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("symbols", {"symbol": "no space"}, "symbol_is_a_partition_key"),
    ("sessions", {"close": MORNING}, "open_before_close"),
    ("sessions", {"extended_open": NOON}, "extended_hours_surround"),
    ("sessions", {"kind": "weekend"}, "kind"),
    ("sessions", {"kind": "closed_by_override", "override_author": "me"}, "override_has_reason"),
    ("splits", {"split_to": 0}, "positive"),
    ("dividends", {"cash_amount": 0}, "positive"),
    *((table, {"low": 0}, "prices_positive") for table in BAR_TABLES),
    *((table, {"high": "9.99999999"}, "high_is_highest") for table in BAR_TABLES),
    *((table, {"low": "10.00000001"}, "low_is_lowest") for table in BAR_TABLES),
    *((table, {"volume": "-0.00000001"}, "volume_not_negative") for table in BAR_TABLES),
    *((table, {"trades_count": -1}, "volume_not_negative") for table in BAR_TABLES),
    ("ticks", {"price": 0}, "price_positive"),
    ("ticks", {"quantity": "-0.00000001"}, "quantity_not_negative"),
    ("ticks", {"side": "BUY"}, "side"),
    ("bar_revisions", {"session": None}, "daily_bars_have_a_session"),
    ("bar_revisions", {"timeframe": "1m"}, "daily_bars_have_a_session"),
    ("bar_features", {"true_range": -1}, "not_negative"),
    ("trading_ranges", {"version": 0}, "version"),
    ("trading_ranges", {"start_time": MORNING}, "end_after_start"),
    ("trading_ranges", {"known_at": "2024-01-02 14:29Z"}, "known_after_end"),
    ("trading_ranges", {"duration_bars": 14}, "duration_bars"),
    ("trading_ranges", {"duration_bars": 101}, "duration_bars"),
    ("trading_ranges", {"creek_level": 10}, "creek_above_ice"),
    ("trading_ranges", {"jump_target": 0}, "jump_target"),
    ("trading_ranges", {"cause_factor": "1.999999"}, "cause_factor"),
    ("trading_ranges", {"cause_factor": "3.000001"}, "cause_factor"),
    ("trading_ranges", {"range_width": 0}, "range_width"),
    ("trading_ranges", {"phase": "F"}, "phase"),
    ("trading_ranges", {"strength_score": "59.99"}, "strength_score"),
    ("trading_ranges", {"strength_score": "100.01"}, "strength_score"),
    ("trading_ranges", {"touch_count_ice": -1}, "touch_counts"),
    ("patterns", {"family": "astrology"}, "family"),
    ("patterns", {"direction": "up"}, "direction"),
    ("patterns", {"confidence_score": "69.99"}, "confidence_score"),
    ("patterns", {"confidence_score": "95.01"}, "confidence_score"),
    ("patterns", {"known_at": MORNING}, "known_after_bar_starts"),
    ("patterns", {"phase": "a"}, "phase"),
    ("patterns", {"trading_range_version": None}, "trading_range_has_version"),
    ("patterns", {"trading_range_id": None}, "trading_range_has_version"),
    ("campaigns", {"trading_range_version": None}, "trading_range_has_version"),
    ("campaigns", {"status": "active"}, "status"),
    ("campaigns", {"total_allocation": "5.000001"}, "total_allocation"),
    ("campaigns", {"total_allocation": "-0.000001"}, "total_allocation"),
    ("campaigns", {"current_risk": -1}, "current_risk"),
    ("campaigns", {"entries": "{}"}, "entries_are_a_list"),
    ("campaigns", {"average_entry": 0}, "average_entry"),
    ("campaigns", {"version": 0}, "version"),
    ("campaigns", {"completed_at": NOON}, "completed_after_started"),
    ("campaigns", {"status": "COMPLETED"}, "completed_has_moment"),
    ("signals", {"variant": None}, "pattern_is_whole_or_absent"),
    ("signals", {"signal_type": "BUY"}, "signal_type"),
    ("signals", {"generated_at": MORNING}, "known_before_generated"),
    ("signals", {"stop_loss": 0}, "prices_positive"),
    ("signals", {"position_size": -1}, "sizes_not_negative"),
    ("signals", {"r_multiple": "1.999999"}, "r_multiple"),
    ("signals", {"r_multiple": None}, "r_multiple"),
    ("signals", {"strength": "100.01"}, "strength"),
    ("signals", {"confidence_score": "69.99"}, "confidence_score"),
    ("signals", {"confidence_score": "95.01"}, "confidence_score"),
    ("signals", {"campaign_allocation": "5.000001"}, "campaign_allocation"),
    ("signals", {"status": "MAYBE"}, "status"),
    ("signals", {"status": "REJECTED"}, "rejected_has_reason"),
    ("signals", {"executed": True}, "executed_has_price"),
    ("signals", {"approval_chain": "{}"}, "approval_chain_is_a_list"),
    ("backtest_runs", {"finished_at": NOON}, "finished_after_started"),
    ("backtest_results", {"winning": 2}, "counts"),
    ("backtest_results", {"win_rate": "1.000001"}, "shares"),
    ("backtest_results", {"max_drawdown": "-0.000001"}, "max_drawdown"),
    ("backtest_trades", {"direction": "long"}, "direction"),
    ("backtest_trades", {"exit_time": MORNING}, "exit_after_entry"),
    ("backtest_trades", {"exit_reason": "whim"}, "exit_reason"),
    ("backtest_trades", {"quantity": 0}, "positive"),
    ("backtest_equity", {"exposure": -1}, "exposure"),
    ("backtest_equity", {"drawdown": "-0.000001"}, "drawdown"),
    ("audit_trail", {"action": ""}, "says_what_and_who"),
    ("load_ledger", {"window_start": "2024-01-03"}, "window"),
    ("load_ledger", {"status": "lost"}, "status"),
    ("load_ledger", {"status": "landed"}, "landed_is_complete"),
    ("load_ledger", {"error": None}, "failed_has_error"),
    ("load_ledger", {"calls": -1}, "calls"),
    ("stored_windows", {"window_start": "2024-01-03"}, "window"),
    ("quarantined_bars", {"released_at": NOON, "released_by": "me"}, "release_is_whole_or_absent"),
    ("provider_quota", {"period": "hour"}, "period"),
    ("provider_quota", {"used": -1}, "not_negative"),
    ("provider_quota", {"ends_at": NOON}, "ends_after_start"),
    ("data_gaps", {"gap_end": "2024-01-01 14:30Z"}, "end_not_before_start"),
    ("data_gaps", {"missing_bars": 0}, "missing_bars"),
    ("data_gaps", {"class": "bad_luck"}, "class"),
    ("data_gaps", {"attempts": -1}, "attempts"),
    ("data_gaps", {"given_up_at": NOON}, "given_up_has_reason"),
    ("data_gaps", {"given_up_reason": "nobody has it"}, "given_up_has_reason"),
    ("quality_findings", {"severity": "fatal"}, "severity"),
    ("quality_scores", {"score": "100.01"}, "score"),
    ("quality_scores", {"score": "-0.01"}, "score"),
    ("touched_buckets", {"timestamp": MORNING}, "timestamp_is_an_hour"),
    ("minutes_dropped", {"only_row": False}, "only_row"),
    ("backfill_requests", {"symbols": "{}"}, "names_symbols"),
    ("backfill_requests", {"symbols": "{AAPL,NULL}"}, "names_symbols"),
    ("backfill_requests", {"start_date": "2024-01-03"}, "range"),
    ("backfill_requests", {"status": "done"}, "status"),
    ("backfill_requests", {"progress": "1.000001"}, "progress"),
    ("backfill_requests", {"status": "failed"}, "failed_has_error"),
    ("backfill_requests", {"attempts": -1}, "attempts"),
    ("backfill_requests", {"started_at": EVENING, "finished_at": NOON}, "finished_after_started"),
    ("backfill_requests", {"kind": "everything"}, "kind"),
    ("removed_minutes", {"removed_to": MORNING}, "stretch"),
    ("requested_history", {"timeframe": "5m"}, "timeframe_is_loaded"),
    ("alerts", {"severity": "info"}, "severity"),
    ("alerts", {"times": 0}, "times"),
    ("alerts", {"first_at": NOON}, "last_not_before_first"),
    ("alert_receivers", {"failures": -1}, "failures"),
    ("alert_notices", {"told_times": 0}, "told_times"),
]

# The bounds themselves, and the exceptions that a rule makes.
ACCEPTED: list[tuple[str, dict[str, Any]]] = [
    *((table, {"open": 11, "close": 9, "quote_volume": 0, "trades_count": 0}) for table in BAR_TABLES),
    ("ticks", {"quantity": 0, "side": "sell"}),
    ("bar_revisions", {"timeframe": "1m", "session": None}),
    *(("trading_ranges", {"duration_bars": bars}) for bars in (15, 100)),
    *(("trading_ranges", {"cause_factor": factor}) for factor in ("2.0", "3.0")),
    *(("trading_ranges", {"strength_score": score}) for score in (60, 100)),
    *(("trading_ranges", {"phase": phase}) for phase in "ABCDE"),
    *(("patterns", {"phase": phase}) for phase in "ABCDE"),
    *(("patterns", {"confidence_score": score}) for score in (70, 95)),
    ("patterns", {"trading_range_id": None, "trading_range_version": None}),
    ("campaigns", {"total_allocation": "5.0"}),
    ("campaigns", {"trading_range_id": None, "trading_range_version": None}),
    ("campaigns", {"status": "COMPLETED", "completed_at": EVENING}),
    ("signals", {"r_multiple": "2.0"}),
    ("signals", {"status": "REJECTED", "rejection_reason": "r_multiple 1.5", "r_multiple": "1.5"}),
    ("signals", {"status": "REJECTED", "rejection_reason": "no target", "r_multiple": None}),
    ("signals", {"pattern_timestamp": None, "pattern": None, "variant": None, "campaign_id": None}),
    ("signals", {"campaign_allocation": "5.0", "strength": 100}),
    *(("signals", {"confidence_score": score}) for score in (70, 95)),
    ("load_ledger", {"symbol": None, "route": "flat_files", "etag": '"9b2c"', "calls": 0}),
    ("quarantined_bars", {"released_at": NOON, "released_by": "me", "release_reason": "checked"}),
    *(("quality_scores", {"score": score}) for score in (0, 100)),
    *(("backfill_requests", {"progress": progress}) for progress in (0, 1)),
    *(
        ("data_gaps", {"class": kind})
        for kind in ("holiday", "no_trade", "provider_hole", "not_yet_published", "removed")
    ),
    ("data_gaps", {"given_up_at": NOON, "given_up_reason": "3 attempts"}),
    *(("backfill_requests", {"kind": kind}) for kind in ("history", "gaps", "trades", "reference")),
    ("requested_history", {"timeframe": "1m", "start_date": "2024-01-02"}),
]


def insert(connection: Connection, table: str, **values: Any) -> None:
    """Insert the table's row of `ROWS` with other values in some columns."""
    row = {**ROWS[table], **values}
    columns = ", ".join(f'"{name}"' for name in row)
    connection.execute(text(f"INSERT INTO {table} ({columns}) VALUES ({', '.join(f':{name}' for name in row)})"), row)


def insert_all_before(connection: Connection, last: str) -> None:
    """Insert the rows of `ROWS` that stand before a table's; what a table refers to stands before it."""
    for table in ROWS:
        if table == last:
            return
        insert(connection, table)


@pytest.fixture(scope="module")
def schema(server: URL) -> Iterator[Engine]:
    """The newest schema, in a database that the tests here share and leave as it was."""
    name = f"test_{uuid.uuid4().hex}"
    admin = create_engine(server.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine = open_engine(server.set(database=name))
    migrate.upgrade(engine)
    yield engine
    engine.dispose()
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture
def connection(schema: Engine) -> Iterator[Connection]:
    with schema.connect() as connection:
        yield connection
        connection.rollback()


# --- bounds


@pytest.mark.parametrize(("table", "values", "check"), REFUSED, ids=lambda value: json.dumps(value).strip('"'))
def test_a_value_past_a_bound_is_refused(
    connection: Connection, table: str, values: dict[str, Any], check: str
) -> None:
    insert_all_before(connection, table)
    with pytest.raises(IntegrityError) as refused:
        insert(connection, table, **values)
    assert isinstance(refused.value.orig, psycopg.errors.CheckViolation)
    assert refused.value.orig.diag.constraint_name == f"chk_{table}_{check}"


@pytest.mark.parametrize(("table", "values"), ACCEPTED, ids=lambda value: json.dumps(value).strip('"'))
def test_the_bound_itself_and_a_rules_exception_pass(
    connection: Connection, table: str, values: dict[str, Any]
) -> None:
    insert_all_before(connection, table)
    insert(connection, table, **values)


def test_every_table_takes_its_ordinary_row_and_none_is_left_out_here(connection: Connection) -> None:
    tables = connection.execute(
        text("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'")
    ).scalars()
    assert set(tables) - {"schema_revision"} <= ROWS.keys()
    insert_all_before(connection, "")
    for table in ROWS:
        assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() >= 1


def test_every_check_of_the_schema_is_tried_here(connection: Connection) -> None:
    checks = connection.execute(
        text("""
            SELECT conname FROM pg_constraint
            WHERE contype = 'c' AND conrelid <> 0 AND connamespace = 'public'::regnamespace
        """)
    ).scalars()
    assert set(checks) - {f"chk_{table}_{check}" for table, _, check in REFUSED} == set()


def test_a_timeframe_that_is_none_is_refused_in_every_table_that_has_one(connection: Connection) -> None:
    insert_all_before(connection, "")
    tables = [table for table, row in ROWS.items() if "timeframe" in row]
    assert len(tables) == 12
    for table in tables:
        with pytest.raises(IntegrityError, match="timeframe_check"), connection.begin_nested():
            insert(connection, table, timeframe="2m")


# --- what refers to what


def test_a_trading_range_under_a_campaign_or_a_pattern_cannot_be_removed(connection: Connection) -> None:
    insert(connection, "symbols")
    insert(connection, "trading_ranges")
    insert(connection, "trading_ranges", version=2)
    insert(connection, "patterns")
    insert(connection, "campaigns", trading_range_version=2)
    for version in (1, 2):
        with pytest.raises(IntegrityError) as refused, connection.begin_nested():
            connection.execute(text("DELETE FROM trading_ranges WHERE version = :version"), {"version": version})
        # PostgreSQL 18 has a class of its own for RESTRICT.
        assert isinstance(refused.value.orig, psycopg.errors.RestrictViolation | psycopg.errors.ForeignKeyViolation)


def test_a_version_of_a_range_that_does_not_exist_cannot_be_referred_to(connection: Connection) -> None:
    insert(connection, "symbols")
    insert(connection, "trading_ranges")
    for table in ("patterns", "campaigns"):
        with pytest.raises(IntegrityError) as refused, connection.begin_nested():
            insert(connection, table, trading_range_version=2)
        assert isinstance(refused.value.orig, psycopg.errors.ForeignKeyViolation)


def test_a_signal_outlives_its_campaign(connection: Connection) -> None:
    insert_all_before(connection, "backtest_runs")
    connection.execute(text("DELETE FROM campaigns"))
    assert connection.execute(text("SELECT symbol, campaign_id FROM signals")).all() == [("AAPL", None)]


def test_deletes_are_as_the_data_model_says(connection: Connection) -> None:
    on_delete = connection.execute(
        text("""
            SELECT conrelid::regclass || ' -> ' || confrelid::regclass, confdeltype::text FROM pg_constraint
            WHERE contype = 'f' AND connamespace = 'public'::regnamespace AND confrelid <> 'symbols'::regclass
        """)
    ).all()
    assert {name: kind for name, kind in on_delete if name != "signals -> patterns"} == {
        "patterns -> trading_ranges": "r",
        "campaigns -> trading_ranges": "r",
        "signals -> campaigns": "n",
        "backtest_results -> backtest_runs": "c",
        "backtest_trades -> backtest_runs": "c",
        "backtest_equity -> backtest_runs": "c",
        "data_gaps -> backfill_requests": "n",
        "alert_occurrences -> alerts": "c",
        "alert_notices -> alerts": "c",
        "alert_notices -> alert_receivers": "c",
    }


def test_keys_of_tables_that_become_hypertables_have_their_time(connection: Connection) -> None:
    times = {
        "ohlcv_1min": "timestamp", "ohlcv_daily": "date", "ticks": "timestamp", "bar_revisions": "timestamp",
        "bar_features": "timestamp", "patterns": "timestamp", "backtest_equity": "timestamp",
    }  # fmt: skip
    unique = connection.execute(
        text("""
            SELECT i.indrelid::regclass::text, array_agg(a.attname::text) FROM pg_index i
            JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
            WHERE i.indisunique AND i.indrelid::regclass::text = ANY (:tables) GROUP BY i.indexrelid, i.indrelid
        """),
        {"tables": list(times)},
    ).all()
    assert {table for table, _ in unique} == times.keys()
    assert [table for table, columns in unique if times[table] not in columns] == []


# --- stamps


def test_findings_and_operations_say_when_they_were_written_and_a_change_when_it_was_made(
    connection: Connection,
) -> None:
    findings = list(ROWS)[list(ROWS).index("trading_ranges") :]
    insert_all_before(connection, "")
    for table in findings:
        stamped = connection.execute(text(f"SELECT created_at IS NOT NULL FROM {table}")).scalars().all()
        assert set(stamped) == {True}, table
    mutable = connection.execute(
        text("SELECT table_name FROM information_schema.columns WHERE column_name = 'updated_at'")
    ).scalars()
    changed = {table for table in mutable if table in ROWS}
    assert changed == {
        "trading_ranges", "patterns", "campaigns", "signals", "load_ledger", "quarantined_bars", "provider_quota",
        "data_gaps", "quality_findings", "touched_buckets", "minutes_dropped",
        "backfill_requests", "requested_history", "alerts", "alert_receivers", "alert_notices",
    }  # fmt: skip
    columns = {
        "provider_quota": "provider",
        "load_ledger": "dataset",
        "touched_buckets": "symbol",
        "minutes_dropped": "only_row",
        "alerts": "kind",
        "alert_receivers": "receiver",
        "alert_notices": "receiver",
    }
    for table in changed:
        column = columns.get(table, "timeframe")
        before = connection.execute(text(f"SELECT updated_at FROM {table}")).scalar_one()
        connection.execute(text(f"UPDATE {table} SET {column} = {column}"))
        assert connection.execute(text(f"SELECT updated_at FROM {table}")).scalar_one() > before, table


@pytest.mark.parametrize(("revisions", "table"), [("split_revisions", "splits"), ("dividend_revisions", "dividends")])
def test_a_revision_has_every_column_of_its_table_and_when_it_ended(
    connection: Connection, revisions: str, table: str
) -> None:
    described = """
        SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attnum = ANY (i.indkey) FROM pg_attribute a
        LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
        WHERE a.attrelid = CAST(:table AS regclass) AND a.attnum > 0
    """
    kept, held = (
        {tuple(row) for row in connection.execute(text(described), {"table": name})} for name in (revisions, table)
    )
    assert kept == held | {("superseded_at", "timestamp with time zone", True, True)}
    # What was recorded when is copied from the old row; a moment of its own would be made up.
    defaults = "SELECT count(*) FROM pg_attrdef WHERE adrelid = CAST(:table AS regclass)"
    assert connection.execute(text(defaults), {"table": revisions}).scalar_one() == 0


def test_market_tables_are_stamped_with_the_moment_of_the_statement(connection: Connection) -> None:
    defaults = connection.execute(
        text("""
            SELECT table_name, column_default FROM information_schema.columns
            WHERE table_schema = 'public' AND column_name = 'recorded_at' AND table_name NOT LIKE '%_revisions'
              AND table_name IN (SELECT relname FROM pg_class WHERE relkind = 'r')
        """)
    ).all()
    assert {table for table, _ in defaults} >= {"ohlcv_1min", "ohlcv_daily", "ticks", "splits", "dividends"}
    assert {default for _, default in defaults} == {"statement_timestamp()"}


def test_the_value_of_a_trade_is_computed(connection: Connection) -> None:
    insert(connection, "symbols")
    insert(connection, "ticks", price="10.12345678", quantity="0.5")
    insert(connection, "ticks", trade_id="1")
    assert connection.execute(text("SELECT quote_quantity::text, exchange, trade_id FROM ticks ORDER BY 3")).all() == [
        ("5.06172839", "", "0"),
        ("5.25000000", "", "1"),
    ]


# --- the audit trail


@pytest.mark.parametrize("role", ["superuser", "ordinary"])
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit_trail SET actor = 'nobody'",
        "UPDATE audit_trail SET actor = 'nobody' WHERE false",
        "DELETE FROM audit_trail",
        "TRUNCATE audit_trail",
        "TRUNCATE symbols, audit_trail CASCADE",
        "INSERT INTO audit_trail SELECT * FROM audit_trail ON CONFLICT (id) DO UPDATE SET actor = 'nobody'",
    ],
)
def test_the_audit_trail_is_append_only_for_whoever_asks(connection: Connection, role: str, change: str) -> None:
    insert(connection, "audit_trail")
    if role == "ordinary":
        # Created in a transaction that is rolled back: roles belong to the whole server.
        name = f"test_{uuid.uuid4().hex}"
        connection.execute(text(f"CREATE ROLE {name}"))
        connection.execute(text(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {name}"))
        connection.execute(text(f"SET LOCAL ROLE {name}"))
    with pytest.raises(DBAPIError, match=r"audit_trail is append-only: (UPDATE|DELETE|TRUNCATE) is refused"):
        connection.execute(text(change))


def test_not_even_a_session_that_replays_a_replica_changes_the_audit_trail(connection: Connection) -> None:
    insert(connection, "audit_trail")
    connection.execute(text("SET LOCAL session_replication_role = replica"))
    with pytest.raises(DBAPIError, match="append-only: DELETE is refused for every role"):
        connection.execute(text("DELETE FROM audit_trail"))


def test_an_entry_of_the_audit_trail_knows_its_run_and_its_actor_from_the_session(connection: Connection) -> None:
    insert(connection, "audit_trail")
    connection.execute(text("SET LOCAL tickstock.actor = 'ada'"))
    connection.execute(text(f"SET LOCAL tickstock.correlation_id = '{RUN}'"))
    insert(connection, "audit_trail")
    # As after a transaction that had them: PostgreSQL leaves an empty text, not nothing.
    connection.execute(text("SET LOCAL tickstock.actor = ''"))
    connection.execute(text("SET LOCAL tickstock.correlation_id = ''"))
    insert(connection, "audit_trail")
    user = connection.execute(text("SELECT current_user")).scalar_one()
    assert connection.execute(text("SELECT actor, correlation_id::text FROM audit_trail ORDER BY timestamp")).all() == [
        (user, None),
        ("ada", RUN),
        (user, None),
    ]


# --- events


def test_events_are_detections_backtests_and_failed_loads(connection: Connection) -> None:
    insert_all_before(connection, "")
    insert(connection, "backtest_results", scope="portfolio")
    landed = {"status": "landed", "rows": 1, "sha256": "s", "path": "p"}
    insert(connection, "load_ledger", id=RUN, source_version="2", **landed)
    rows = connection.execute(
        text(
            "SELECT symbol, timestamp::text, pattern, timeframe, details FROM events ORDER BY details ->> 'kind', symbol"
        )
    ).all()
    evening, morning = "2024-01-02 21:00:00+00", "2024-01-02 14:30:00+00"
    assert [tuple(row[:4]) for row in rows] == [
        ("AAPL", evening, "SPRING", "1d"),
        (None, evening, "SPRING", "1d"),
        ("AAPL", morning, "SPRING", "1d"),
        ("AAPL", evening, None, "1d"),
    ]
    result, _, detection, failure = (row.details for row in rows)
    assert (result["kind"], result["run"], result["roi"]) == ("backtest_result", RUN, 0.1)
    assert (detection["kind"], detection["id"], detection["family"]) == ("detection", ID, "wyckoff")
    assert (failure["kind"], failure["error"], failure["provider"]) == ("load_error", "timeout", "polygon")


def test_writing_to_events_names_the_tables_to_write_to(connection: Connection) -> None:
    insert(connection, "symbols")
    sentence = r"takes no rows: write a detection to patterns, .* to backtest_results, .* to load_ledger"
    with pytest.raises(DBAPIError, match=sentence):
        connection.execute(text("INSERT INTO events (symbol, timestamp, pattern) VALUES ('AAPL', now(), 'SPRING')"))


# --- bars


def test_bars_of_every_timeframe_are_in_one_view_with_their_features(connection: Connection) -> None:
    for table in ("symbols", "sessions", *BAR_TABLES, "bar_features"):
        insert(connection, table)
    # A Saturday, of which the calendar knows nothing.
    insert(connection, "ohlcv_daily", date="2024-01-06")
    insert(connection, "bar_features", timestamp="2024-01-06 00:00Z", spread=3)
    insert(connection, "bar_features", timeframe="5m", spread="1.5", spread_ratio="0.5", volume_ratio=2)
    rows = connection.execute(
        text("""
            SELECT timeframe, timestamp::text, close::int, spread::float8, spread_ratio::float8, volume_ratio::float8, source
            FROM ohlcv_bars WHERE symbol = 'AAPL' ORDER BY timeframe, timestamp
        """)
    ).all()
    morning = "2024-01-02 14:30:00+00"
    assert rows == [
        ("15m", morning, 10, None, None, None, "polygon"),
        ("1d", morning, 10, 2.0, None, None, "sample"),
        ("1d", "2024-01-06 00:00:00+00", 10, 3.0, None, None, "sample"),
        ("1h", morning, 10, None, None, None, "polygon"),
        ("1m", morning, 10, None, None, None, "polygon"),
        ("5m", morning, 10, 1.5, 0.5, 2.0, "polygon"),
    ]


def test_the_columns_of_the_view_are_those_of_a_bar_and_its_features(connection: Connection) -> None:
    columns = connection.execute(
        text(
            "SELECT column_name FROM information_schema.columns WHERE table_name = 'ohlcv_bars' ORDER BY ordinal_position"
        )
    ).scalars()
    assert list(columns) == [
        "symbol", "timeframe", "timestamp", "open", "high", "low", "close", "volume", "quote_volume", "vwap",
        "trades_count", "exchange", "source", "recorded_at", "spread", "spread_ratio", "volume_ratio",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("timeframe", "table", "way"),
    [
        # A minute bar by its primary key.
        ("1m", "1min", r"ohlcv_1min_pkey.*\n\s+Index Cond: .*symbol.* = 'S3'.*timestamp\" >= "),
        # A daily bar by the session that opens in the range.
        ("1d", "daily", r"idx_sessions_open_exchange.*\n\s+Index Cond: \(+open >= (?s:.*)date = s\.session"),
    ],
)
def test_a_query_of_one_timeframe_reads_one_table_by_its_keys(
    connection: Connection, timeframe: str, table: str, way: str
) -> None:
    for statement in (
        "INSERT INTO symbols (symbol) SELECT 'S' || i FROM generate_series(1, 10) i",
        """INSERT INTO sessions (exchange, session, open, close)
           SELECT 'XNYS', '2020-01-01'::date + i, timestamptz '2020-01-01 14:30Z' + i * interval '1 day',
                  timestamptz '2020-01-01 21:00Z' + i * interval '1 day' FROM generate_series(0, 1999) i""",
        """INSERT INTO ohlcv_daily (symbol, date, open, high, low, close, volume, source)
           SELECT symbol, session, 10, 11, 9, 10, 1, 'sample' FROM symbols, sessions""",
        """INSERT INTO ohlcv_1min (symbol, timestamp, open, high, low, close, volume, source)
           SELECT symbol, timestamptz '2022-01-01 00:00Z' + i * interval '1 minute', 10, 11, 9, 10, 1, 'sample'
           FROM symbols, generate_series(0, 1999) i""",
        # An empty table that autovacuum has been to is read whole, rightly.
        """INSERT INTO bar_features (symbol, timeframe, timestamp, spread, true_range)
           SELECT symbol, '1d', open, 2, 2 FROM symbols, sessions""",
        """INSERT INTO bar_features (symbol, timeframe, timestamp, spread, true_range)
           SELECT symbol, '1m', timestamp, 2, 2 FROM ohlcv_1min""",
        "ANALYZE symbols, sessions, ohlcv_daily, ohlcv_1min, bar_features",
    ):
        connection.execute(text(statement))
    query = f"""
        SELECT * FROM ohlcv_bars WHERE symbol = 'S3' AND timeframe = '{timeframe}'
        AND timestamp BETWEEN '2022-01-01 00:30Z' AND '2022-01-02'
    """
    assert len(connection.execute(text(query)).all()) == {"1m": 1411, "1d": 1}[timeframe]
    plan = "\n".join(connection.execute(text("EXPLAIN " + query)).scalars())
    # Whatever TimescaleDB calls its chunks, their indexes have the names of the table's.
    assert set(re.findall(r"ohlcv_(1min|5min|15min|1h|daily)", plan)) == {table}
    assert "Seq Scan" not in plan
    assert re.search(way, plan), plan


def test_the_views_can_be_defined_again(schema: Engine) -> None:
    views = Path(__file__).parents[2] / "sql" / "views"
    names = sorted(path.stem for path in views.glob("*.sql"))
    assert names == ["events", "ohlcv_bars"]
    with schema.connect() as connection:
        before = _definitions(connection, names)
        for name in names:
            connection.connection.cursor().execute((views / f"{name}.sql").read_text(encoding="utf-8"))
        assert _definitions(connection, names) == before
        connection.rollback()


def _definitions(connection: Connection, names: list[str]) -> list[Any]:
    query = "SELECT n, pg_get_viewdef(n::regclass), obj_description(n::regclass) FROM unnest(CAST(:names AS text[])) n"
    return list(connection.execute(text(query), {"names": names}).all())


# --- the picture


def test_the_schema_document_is_what_a_new_database_says(shared_home: Path) -> None:
    # Plain PostgreSQL, as when the document is made: TimescaleDB turns some of the tables into views.
    server = embedded.acquire(shared_home)
    name = f"test_{uuid.uuid4().hex}"
    embedded.ensure_database(server, name)
    engine = open_engine(make_url(server.url(name)))
    migrate.upgrade(engine)
    with engine.connect() as connection:
        described = build_schema.describe(connection)
        columns_listed = build_schema.list_columns(connection)
    engine.dispose()
    assert build_schema.SCHEMA.read_text(encoding="utf-8") == described
    assert build_schema.COLUMNS_LISTED.read_text(encoding="utf-8") == columns_listed
    # Not an empty picture: a key with two columns, a relation that may be absent, and a view.
    assert '    trading_ranges |o--o{ campaigns : "trading_range_id, trading_range_version"' in described
    assert '    symbols ||--o{ ohlcv_1min : "symbol"' in described
    assert "### ohlcv_bars" in described.partition("## Views")[2]
