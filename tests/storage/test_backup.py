"""Dumps and restores of real databases, on every tier: nothing lost, nothing half done."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from sqlalchemy import URL, Engine, create_engine, make_url, text

from tests.conftest import Demo, tickstock
from tests.storage import tiers
from tests.storage.servers import wait_until
from tickstock_assets.domain.errors import ConfigError, DatabaseError
from tickstock_assets.storage import backup, embedded, migrate
from tickstock_assets.storage.client_programs import connection_arguments, programs_for
from tickstock_assets.storage.database import open_engine
from tickstock_assets.storage.restore import restore

ROWS = """
    INSERT INTO symbols (symbol, name) VALUES ('AAPL', 'Apple "the" \\ fruit'), ('O:X', NULL);
    INSERT INTO ohlcv_daily (symbol, date, open, high, low, close, volume, exchange, source)
        SELECT 'AAPL', day::date, 10.12345678, 12, 9, 11, 1000.5, 'XNYS', 'sample'
        FROM generate_series('2019-11-01'::timestamp, '2021-02-01', '1 day') day;
    INSERT INTO ohlcv_1min (symbol, timestamp, open, high, low, close, volume, exchange, source)
        SELECT 'O:X', moment, 10, 12, 9, 11, 5, 'XNYS', 'sample'
        FROM generate_series('2024-01-02 14:30Z'::timestamptz, '2024-01-20', '1 hour') moment;
    INSERT INTO audit_trail (event_type, entity_type, entity_id, action, metadata)
        VALUES ('load', 'ohlcv_daily', 'AAPL', 'merge', '{"rows": 459}');
"""
# Made last, so that pg_dump locks it last.
TABLE_THAT_IS_NOT_COUNTED = "CREATE SCHEMA aside; CREATE TABLE aside.held ()"
# Ticks of two days that are long past their retention of a year, and its job due long ago. Nothing is compressed, as
# TimescaleDB's two jobs may end in a deadlock when both want the same chunk, and the retention would try again in hours.
TICKS_THAT_ARE_DUE = """
    INSERT INTO symbols (symbol) VALUES ('AAPL');
    INSERT INTO ticks (symbol, timestamp, price, quantity, source)
        SELECT 'AAPL', moment, 10, 1, 'sample'
        FROM generate_series('2020-01-02 14:30Z'::timestamptz, '2020-01-03 14:29Z', '1 minute') moment;
    SELECT alter_job(job_id, initial_start => '2020-01-01 00:00Z', next_start => '2020-01-01 00:00Z')
        FROM timescaledb_information.jobs WHERE proc_name = 'policy_retention' AND hypertable_name = 'ticks';
    SELECT alter_job(job_id, scheduled => false)
        FROM timescaledb_information.jobs WHERE proc_name = 'policy_compression' AND hypertable_name = 'ticks';
"""
SCHEDULERS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'TimescaleDB Background Worker Scheduler'
"""


def contents(engine: Engine) -> dict[str, tuple[int, str]]:
    """Return how many rows every table has, and one checksum over all of them as text."""
    with engine.connect() as connection:
        return {
            table: tuple(
                connection.execute(
                    text(f"SELECT count(*), md5(coalesce(string_agg(t::text, E'\\n' ORDER BY t::text), '')) FROM \"{table}\" t")
                ).one()
            )
            for table in connection.execute(text(backup.OWN_TABLES)).scalars().all()
        }  # fmt: skip


def databases(engine: Engine) -> set[str]:
    """Return the names of this database and of what a restore makes beside it."""
    with engine.connect() as connection:
        named = connection.execute(
            text("SELECT datname FROM pg_database WHERE starts_with(datname, current_database())")
        )
        return set(named.scalars())


def schedulers(engine: Engine) -> int:
    """Return how many processes there are that start TimescaleDB's jobs in this database."""
    with engine.connect() as connection:
        return int(connection.execute(text(SCHEDULERS)).scalar_one())


def address(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def waits_for_a_lock(engine: Engine, application: str) -> bool:
    with engine.connect() as connection:
        return bool(
            connection.execute(
                text("""
                    SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
                                   AND application_name = :application AND wait_event_type = 'Lock')
                """),
                {"application": application},
            ).scalar()
        )


@pytest.fixture
def filled(database: Engine) -> Engine:
    with database.begin() as connection:
        connection.exec_driver_sql(ROWS)
    return database


@pytest.fixture
def elsewhere(server: URL) -> Iterator[URL]:
    """A database that is not there yet."""
    url = server.set(database=f"elsewhere_{uuid.uuid4().hex}")
    yield url
    admin = create_engine(server.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {url.database} WITH (FORCE)"))
    admin.dispose()


def test_what_is_restored_is_what_was_dumped(filled: Engine, elsewhere: URL, tmp_path: Path) -> None:
    before = contents(filled)
    assert before["ohlcv_daily"][0] == 459
    made = backup.dump(filled.url, tmp_path / "market.dump")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["market.dump", "market.dump.manifest.json"]
    assert (tmp_path / "market.dump").stat().st_mode & 0o077 == 0
    assert made.rows["ohlcv_daily"] == 459
    assert restore(elsewhere, tmp_path / "market.dump") == made
    restored = open_engine(elsewhere)
    assert contents(restored) == before
    with restored.begin() as connection:  # and goes on working, into old chunks and new ones
        for day in ("2019-11-30", "2025-01-02"):
            connection.exec_driver_sql(
                "INSERT INTO ohlcv_daily (symbol, date, open, high, low, close, volume, exchange, source) "
                f"VALUES ('O:X', '{day}', 1, 1, 1, 1, 1, 'XNYS', 'sample')"
            )
    restored.dispose()
    assert contents(filled) == before


def test_a_database_with_tables_is_replaced_only_when_that_is_said(filled: Engine, tmp_path: Path) -> None:
    file = tmp_path / "market.dump"
    backup.dump(filled.url, file)
    before = contents(filled)
    with filled.begin() as connection:
        connection.execute(text("DELETE FROM ohlcv_daily"))
        connection.execute(text("INSERT INTO symbols (symbol) VALUES ('LATER')"))
    filled.dispose()
    with pytest.raises(ConfigError, match=r"expected a database without tables, found .*--replace"):
        restore(filled.url, file)
    assert contents(filled)["ohlcv_daily"][0] == 0
    filled.dispose()
    there = databases(filled)
    filled.dispose()
    restore(filled.url, file, replace=True)
    assert contents(filled) == before
    assert databases(filled) == there


def test_an_empty_database_is_restored_into_without_a_word(filled: Engine, elsewhere: URL, tmp_path: Path) -> None:
    with filled.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"CREATE DATABASE {elsewhere.database}"))
    backup.dump(filled.url, tmp_path / "market.dump")
    restore(elsewhere, tmp_path / "market.dump")
    restored = open_engine(elsewhere)
    assert contents(restored) == contents(filled)
    restored.dispose()


def test_a_database_in_use_is_not_taken_away(filled: Engine, tmp_path: Path) -> None:
    backup.dump(filled.url, tmp_path / "market.dump")
    user = open_engine(filled.url, "a notebook")
    filled.dispose()
    with user.connect(), pytest.raises(DatabaseError, match="expected no one to use the database, found a notebook"):
        restore(filled.url, tmp_path / "market.dump", replace=True)
    user.dispose()


def test_a_restore_that_is_broken_off_leaves_the_database_as_it_was(filled: Engine, tmp_path: Path) -> None:
    backup.dump(filled.url, tmp_path / "market.dump")
    before, there = contents(filled), databases(filled)
    filled.dispose()

    def break_off(done: int, _: int | None) -> None:
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore(filled.url, tmp_path / "market.dump", replace=True, on_progress=break_off)
    assert (contents(filled), databases(filled)) == (before, there)


def test_a_dump_that_does_not_hold_what_its_manifest_says_is_found_out(filled: Engine, tmp_path: Path) -> None:
    file = tmp_path / "market.dump"
    backup.dump(filled.url, file)
    beside = backup.manifest_path(file)
    said = json.loads(beside.read_text())
    said["rows"]["ohlcv_daily"] += 1
    beside.write_text(json.dumps(said))
    before = contents(filled)
    filled.dispose()
    with pytest.raises(DatabaseError, match="other rows in ohlcv_daily; the database is as it was"):
        restore(filled.url, file, replace=True)
    assert contents(filled) == before


def test_a_file_that_is_no_dump_is_refused_in_a_sentence(filled: Engine, tmp_path: Path) -> None:
    file = tmp_path / "market.dump"
    with pytest.raises(ConfigError, match=r"market\.dump: expected a dump of `tickstock db dump` and its manifest"):
        restore(filled.url, file, replace=True)
    file.write_text("a shopping list")
    with pytest.raises(
        ConfigError, match="found No such file or directory; name the dump and keep both files together"
    ):
        restore(filled.url, file, replace=True)
    beside = backup.manifest_path(file)
    beside.write_text("{}")
    with pytest.raises(ConfigError, match="expected the manifest of a dump, found something else"):
        restore(filled.url, file, replace=True)
    made = backup.dump(filled.url, file)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="the file is damaged or of another dump"):
        restore(filled.url, file, replace=True)
    assert made.rows == {name: rows for name, (rows, _) in contents(filled).items()} | {
        name: rows for name, rows in made.rows.items() if name not in contents(filled)
    }


def test_a_file_that_cannot_be_written_is_named(filled: Engine, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere/market\.dump: expected a file we can write, found No such file"):
        backup.dump(filled.url, tmp_path / "nowhere" / "market.dump")
    with pytest.raises(ConfigError, match="expected a file we can write, found a folder"):
        backup.dump(filled.url, tmp_path)


def test_a_dump_of_timescaledb_wants_a_server_that_has_it(filled: Engine, home: Path, tmp_path: Path) -> None:
    made = backup.dump(filled.url, tmp_path / "market.dump")
    plain = make_url(embedded.acquire(home).url("tickstock"))
    if made.timescaledb is None:
        restore(plain, tmp_path / "market.dump")
    else:
        with pytest.raises(
            DatabaseError, match=f"expected TimescaleDB {made.timescaledb}, as the dump is from one, found none"
        ):
            restore(plain, tmp_path / "market.dump")


def test_no_pg_dump_of_the_servers_version_is_a_sentence() -> None:
    with pytest.raises(DatabaseError, match=r"expected version 99 for this server, found .*18"):
        programs_for(99)
    with pytest.raises(DatabaseError, match="expected version 18 for this server"):
        programs_for(16, archive_major=18)  # whose pg_restore such a server does not understand


def test_the_password_is_no_argument() -> None:
    url = make_url("postgresql://me:open sesame@db.example.org:5433/market?password=again&sslmode=require")
    shown = " ".join(connection_arguments(url))
    assert "sesame" not in shown
    assert "again" not in shown
    assert all(
        part in shown for part in ("host=db.example.org", "port=5433", "user=me", "dbname=market", "sslmode=require")
    )


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda how: how.name)
def test_a_dump_that_is_killed_in_the_middle_leaves_nothing(
    filled: Engine, tmp_path: Path, how: signal.Signals
) -> None:
    file = tmp_path / "market.dump"
    # A shell that runs tests in the background has its children ignore Ctrl-C.
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "from pathlib import Path; from sqlalchemy import make_url; from tickstock_assets.storage import backup; "
    code += "backup.dump(make_url(sys.argv[1]), Path(sys.argv[2]))"
    with filled.begin() as connection:
        connection.execute(text(TABLE_THAT_IS_NOT_COUNTED))
    with psycopg.connect(address(filled.url)) as other:
        other.execute("LOCK TABLE aside.held")  # which pg_dump has to wait for
        process = subprocess.Popen(
            [sys.executable, "-c", code, filled.url.render_as_string(hide_password=False), str(file)],
            stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        wait_until(lambda: waits_for_a_lock(filled, "pg_dump"))
        [child] = psutil.Process(process.pid).children()
        assert not filled.url.password or filled.url.password not in " ".join(child.cmdline())
        os.kill(process.pid, how)
        process.wait(timeout=120)
        other.rollback()
    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.tiers("embedded")
@pytest.mark.parametrize("failing", [1, 2], ids=["the manifest", "the dump"])
def test_a_disk_that_fails_at_the_end_of_a_dump_leaves_the_older_one_restorable(
    filled: Engine, elsewhere: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    file = tmp_path / "market.dump"
    made, before = backup.dump(filled.url, file), contents(filled)
    with filled.begin() as connection:
        connection.execute(text("DELETE FROM ohlcv_daily"))
    fsync, calls = os.fsync, []

    def fail(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        backup.dump(filled.url, file)
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["market.dump", "market.dump.manifest.json"]
    assert restore(elsewhere, file) == made
    restored = open_engine(elsewhere)
    assert contents(restored) == before
    restored.dispose()


# Each in place of the call with which it would go on; what a kill leaves cannot be tidied up by the killed.
REPLACEMENTS = ["market.dump.manifest.json.coming", "market.dump", "market.dump.manifest.json"]
DUMP_UNTIL = """
import os, sys
from pathlib import Path
from sqlalchemy import make_url
from tickstock_assets.storage import backup
replace = Path.replace
def replace_or_die(path, target):
    return os._exit(9) if Path(target).name == sys.argv[3] else replace(path, target)
Path.replace = replace_or_die
backup.dump(make_url(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.tiers("embedded")
@pytest.mark.parametrize(
    ("last", "older"), [*((last, True) for last in REPLACEMENTS), (REPLACEMENTS[1], False), (REPLACEMENTS[2], False)]
)
def test_whoever_is_killed_between_the_two_files_leaves_a_dump_that_can_be_restored(
    filled: Engine, tmp_path: Path, last: str, *, older: bool
) -> None:
    file = tmp_path / "market.dump"
    if older:
        backup.dump(filled.url, file)
    with filled.begin() as connection:
        connection.execute(text("DELETE FROM ohlcv_daily"))
    command = [sys.executable, "-c", DUMP_UNTIL, address(filled.url), str(file)]
    assert subprocess.run([*command, last], cwd=Path(__file__).parents[2], check=False).returncode == 9
    if last == REPLACEMENTS[-1]:
        assert backup.read_manifest(file).rows["ohlcv_daily"] == 0
    elif older:
        assert backup.read_manifest(file).rows["ohlcv_daily"] == 459
    else:
        assert not file.exists()
    # The next one, killed a little sooner, finds what the first left.
    assert subprocess.run([*command, REPLACEMENTS[1]], cwd=Path(__file__).parents[2], check=False).returncode == 9
    assert file.exists() == (older or last == REPLACEMENTS[-1])
    if file.exists():
        assert backup.read_manifest(file).sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    made = backup.dump(filled.url, file)
    assert backup.read_manifest(file) == made
    assert sorted(path.name for path in tmp_path.glob("market*")) == ["market.dump", "market.dump.manifest.json"]


def test_rows_that_go_during_a_dump_are_in_it_and_in_its_manifest(
    filled: Engine, tier: str, elsewhere: URL, tmp_path: Path
) -> None:
    has_chunks = tier in tiers.TIMESCALEDB
    removal = "SELECT tier.drop_chunks_before('ohlcv_daily', '2022-01-01')" if has_chunks else "TRUNCATE ohlcv_daily"
    before = contents(filled)

    def remove() -> None:
        with psycopg.connect(address(filled.url), autocommit=True, application_name="removal") as connection:
            connection.execute(removal)

    with filled.begin() as connection:
        connection.execute(text(TABLE_THAT_IS_NOT_COUNTED))
    removing = threading.Thread(target=remove)
    with psycopg.connect(address(filled.url)) as other:
        other.execute("LOCK TABLE aside.held")

        def remove_as_soon_as_pg_dump_is_done(*_: object) -> None:
            if removing.ident is None and waits_for_a_lock(filled, "pg_dump"):
                removing.start()
                wait_until(lambda: waits_for_a_lock(filled, "removal"))
                other.rollback()

        made = backup.dump(filled.url, tmp_path / "market.dump", remove_as_soon_as_pg_dump_is_done)
    removing.join()
    assert contents(filled)["ohlcv_daily"][0] == 0
    assert made.rows["ohlcv_daily"] == 459
    restore(elsewhere, tmp_path / "market.dump")
    restored = open_engine(elsewhere)
    assert contents(restored) == before
    restored.dispose()


def test_rows_that_a_retention_is_about_to_drop_are_restored_and_only_then_dropped(
    community_database: Engine, elsewhere: URL, tmp_path: Path
) -> None:
    with community_database.begin() as connection:
        connection.exec_driver_sql(TICKS_THAT_ARE_DUE)
    made = backup.dump(community_database.url, tmp_path / "market.dump")
    assert made.rows["ticks"] == 1440
    assert restore(elsewhere, tmp_path / "market.dump") == made  # which compared the rows
    restored = open_engine(elsewhere)

    def chunks_of_ticks() -> int:  # as the catalog has them, since a lock on one could be in the job's way
        with restored.connect() as connection:
            chunks = "SELECT count(*) FROM timescaledb_information.chunks WHERE hypertable_name = 'ticks'"
            return int(connection.execute(text(chunks)).scalar_one())

    wait_until(lambda: chunks_of_ticks() == 0)
    restored.dispose()


@pytest.mark.tiers(*tiers.TIMESCALEDB)
def test_jobs_of_a_restored_database_run(filled: Engine, elsewhere: URL, tmp_path: Path) -> None:
    backup.dump(filled.url, tmp_path / "market.dump")
    restore(elsewhere, tmp_path / "market.dump")
    restored = open_engine(elsewhere)
    wait_until(lambda: schedulers(restored) == 1)
    restored.dispose()


@pytest.mark.tiers(*tiers.TIMESCALEDB)
def test_a_database_that_could_not_be_replaced_has_its_jobs_run_again(filled: Engine, tmp_path: Path) -> None:
    backup.dump(filled.url, tmp_path / "market.dump")
    before, there = contents(filled), databases(filled)
    with filled.begin() as connection:
        connection.execute(text("SELECT _timescaledb_functions.start_background_workers()"))
    wait_until(lambda: schedulers(filled) == 1)
    filled.dispose()
    with (
        psycopg.connect(address(filled.url), autocommit=True, replication="database"),  # no ordinary session
        pytest.raises(DatabaseError, match=r"expected no one to use the database, found .*1 other session"),
    ):
        restore(filled.url, tmp_path / "market.dump", replace=True)
    wait_until(lambda: schedulers(filled) == 1)
    assert (contents(filled), databases(filled)) == (before, there)


def test_the_demos_database_moves_to_another_home(
    demo: Demo, demo_database: Engine, home: Path, tmp_path: Path
) -> None:
    file = str(tmp_path / "demo.dump")
    said = tickstock("db", "dump", file, home=demo.home)
    assert (said.returncode, said.stderr) == (0, "")
    assert " rows of " in said.stdout
    embedded.acquire(home)
    said = tickstock("db", "restore", file, home=home)
    assert (said.returncode, said.stderr) == (0, "")
    moved = open_engine(make_url(embedded.acquire(home).url("tickstock")))
    assert contents(moved) == contents(demo_database)
    moved.dispose()
    said = tickstock("db", "restore", file, home=home)
    assert said.returncode == 2
    assert said.stderr.startswith("tickstock: tickstock: expected a database without tables")
    assert (
        tickstock("coverage", "AAPL", "--json", home=home).stdout
        == tickstock("coverage", "AAPL", "--json", home=demo.home).stdout
    )


@pytest.mark.tiers("embedded")
def test_a_dump_never_takes_the_place_of_a_device_nor_of_another_dumps_manifest(filled: Engine, tmp_path: Path) -> None:
    device = tmp_path / "device"
    os.mkfifo(device)
    with pytest.raises(ConfigError, match="expected a file we can write, found a device"):
        backup.dump(filled.url, device)
    with pytest.raises(ConfigError, match="found that of a dump's manifest"):
        backup.dump(filled.url, tmp_path / "market.dump.manifest.json")
    real, link = tmp_path / "real.dump", tmp_path / "link.dump"
    real.touch()
    link.symlink_to(real)
    backup.dump(filled.url, link)
    assert link.is_symlink()
    assert real.stat().st_size > 0


@pytest.mark.tiers("embedded")
@pytest.mark.parametrize("field", ["server_version", "pg_dump_major", "rows", "size_bytes", "made_at"])
def test_a_manifest_without_a_value_is_refused(filled: Engine, tmp_path: Path, field: str) -> None:
    file = tmp_path / "market.dump"
    backup.dump(filled.url, file)
    manifest = json.loads(backup.manifest_path(file).read_text())
    backup.manifest_path(file).write_text(json.dumps({**manifest, field: None}))
    with pytest.raises(ConfigError, match="expected the manifest of a dump, found something else"):
        restore(filled.url, file, replace=True)


@pytest.mark.tiers(*tiers.TIMESCALEDB)
def test_a_dump_without_timescaledb_does_not_take_it_from_a_database(
    filled: Engine, bare_database: Engine, tmp_path: Path
) -> None:
    migrate.upgrade(bare_database)
    file = tmp_path / "plain.dump"
    backup.dump(bare_database.url, file)
    with pytest.raises(DatabaseError, match=r"expected a dump with TimescaleDB, as the database .* has it, found one"):
        restore(filled.url, file, replace=True)
