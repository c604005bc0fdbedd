"""The schema's revisions on a real server."""

import subprocess

import pytest
from sqlalchemy import Engine, text

from tickstock_assets.domain.errors import DatabaseError
from tickstock_assets.storage import migrate, placement


def schema_dump(engine: Engine) -> str:
    """What pg_dump says of the schema, without its random markers."""
    binary = placement.binaries(None) / "pg_dump"
    address = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    dump = subprocess.run([binary, "--schema-only", "--no-owner", address], capture_output=True, text=True, check=True)
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


def test_upgrading_twice_changes_nothing(database: Engine) -> None:
    before = schema_dump(database)
    migrate.upgrade(database)
    assert schema_dump(database) == before
    with database.connect() as connection:
        assert migrate.current_revision(connection) == migrate.latest_revision()


def test_every_table_and_column_has_a_comment(database: Engine) -> None:
    with database.connect() as connection:
        missing = connection.execute(
            text("""
                SELECT c.relname || coalesce('.' || a.attname, '') FROM pg_class c
                LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.relname <> 'schema_revision'
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
