"""A dump made a database again.

A restore never touches the database it replaces: a new one is filled and compared with the manifest, and only then the
two change names. Killed at any moment, the old one is there, or the new one is.

Elsewhere: making the dump (backup.py), finding and running pg_restore (client_programs.py).
"""

import subprocess
import time
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy import URL, Connection, text

from tickstock_assets.domain.errors import ConfigError, DatabaseError
from tickstock_assets.storage import migrate, roles
from tickstock_assets.storage.backup import OWN_TABLES, Manifest, Progress, count_rows, read_manifest
from tickstock_assets.storage.capability import capability
from tickstock_assets.storage.client_programs import (
    POLL_SECONDS,
    ClientPrograms,
    cause_of,
    connection_arguments,
    environment,
    programs_for,
)
from tickstock_assets.storage.database import driver, open_engine
from tickstock_assets.storage.pool import MAINTENANCE, libpq_arguments, place

LONGEST_NAME = 63
LEAVE_SECONDS = 5.0


def restore(url: URL, file: Path, *, replace: bool = False, on_progress: Progress = lambda *_: None) -> Manifest:
    """Make a database what a dump says it was, and return the dump's manifest, which it was compared with.

    Args:
        url: the database, which need not be there; as a role that may create databases, a superuser with TimescaleDB.
        file: from `dump`.
        replace: also when the database has tables.
        on_progress: told how many of the dump's entries are restored, and of how many.

    Raises:
        ConfigError: `file` is no dump; or the database has tables and `replace` was not said.
        DatabaseError: the server cannot take it, or what came out is not what went in; the database is as it was.
    """
    manifest = read_manifest(file)
    admin = open_engine(url.set(database="postgres"), "tickstock db restore", MAINTENANCE)
    try:
        with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            target = _Target(connection, url)
            programs = target.require_fit(manifest)
            target.require_free(replace=replace)
            filled = target.new_database()
            try:
                _fill(filled, file, manifest, programs, on_progress)
                if target.is_set_up:
                    roles.grant_database(filled)
                target.swap()
            except BaseException:
                target.abandon()
                raise
    except psycopg.errors.InsufficientPrivilege as error:
        raise _no_administrator(url, error) from None
    except Exception as error:
        if isinstance(cause := getattr(error, "orig", None), psycopg.errors.InsufficientPrivilege):
            raise _no_administrator(url, cause) from None
        raise
    finally:
        admin.dispose()
    return manifest


def _no_administrator(url: URL, error: psycopg.Error) -> DatabaseError:
    return DatabaseError(
        f"{place(url)}: expected a role that may create databases (with TimescaleDB a superuser), found "
        f"{url.username or 'one'} that may not ({error.diag.message_primary}); restore as an administrator"
    )


class _Target:
    """The database that is to be restored, seen from the one beside it, `postgres`."""

    def __init__(self, admin: Connection, url: URL) -> None:
        self.admin = admin
        self.url = url
        self.name = str(url.database)
        self.filling = self.name[: LONGEST_NAME - 10] + "_restoring"
        self.replaced = self.name[: LONGEST_NAME - 9] + "_replaced"
        self.exists = bool(
            admin.execute(text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": self.name}).scalar()
        )
        self.is_set_up, self.tables, self.timescaledb = self._look() if self.exists else (False, 0, None)

    def _look(self) -> tuple[bool, int, str | None]:
        engine = open_engine(self.url, "tickstock db restore")
        try:
            with engine.connect() as connection:
                n_tables = len(connection.execute(text(OWN_TABLES)).all())
                return roles.is_set_up(engine), n_tables, capability(connection).timescaledb
        finally:
            engine.dispose()

    def require_fit(self, manifest: Manifest) -> ClientPrograms:
        """Return the programs to use, if this server can take the dump at all."""
        major = driver(self.admin).info.server_version // 10_000
        if major < manifest.server_major:
            raise DatabaseError(
                f"{place(self.url)}: expected PostgreSQL {manifest.server_major} or newer, as the dump is from one, "
                f"found {major}; restore on a newer server"
            )
        if manifest.timescaledb:
            known = self.admin.execute(
                text("SELECT version FROM pg_available_extension_versions WHERE name = 'timescaledb'")
            ).scalars()
            if manifest.timescaledb not in (versions := sorted(known)):
                raise DatabaseError(
                    f"{place(self.url)}: expected TimescaleDB {manifest.timescaledb}, as the dump is from one, "
                    f"found {', '.join(versions) or 'none'}; restore on a server that has it and update it there"
                )
        elif self.timescaledb and self.tables:
            raise DatabaseError(
                f"{place(self.url)}: expected a dump with TimescaleDB, as the database {self.name} has it, found one "
                "without; restore into a new database and run `tickstock db migrate --with-timescaledb` there"
            )
        return programs_for(major, manifest.pg_dump_major)

    def require_free(self, *, replace: bool) -> None:
        """Raise unless the database may be replaced, and nobody uses it."""
        if self.tables and not replace:
            raise ConfigError(
                f"{self.name}: expected a database without tables, found {self.tables}; "
                "restore into another, or say --replace to lose what is in this one"
            )
        key = {"key": f"tickstock.restore|{self.name}"}
        if not self.admin.execute(text("SELECT pg_try_advisory_lock(hashtextextended(:key, 0))"), key).scalar():
            raise DatabaseError(f"{self.name}: another restore is at work on it; wait for it to end")
        self._require_unused()

    def _require_unused(self) -> None:
        # A session that ended a moment ago may still be listed.
        deadline = time.monotonic() + LEAVE_SECONDS
        while users := self._users():
            if time.monotonic() > deadline:
                found = ", ".join(users)
                raise DatabaseError(f"{self.name}: expected no one to use the database, found {found}; end that first")
            time.sleep(POLL_SECONDS)

    def _users(self) -> list[str]:
        users = self.admin.execute(
            text("""
                SELECT DISTINCT coalesce(nullif(application_name, ''), usename, 'unnamed') FROM pg_stat_activity
                WHERE datname = :name AND backend_type = 'client backend' ORDER BY 1
            """),
            {"name": self.name},
        ).scalars()
        return list(users)

    def new_database(self) -> URL:
        """Return the address of an empty database, to be filled; what a killed restore left is removed."""
        self._run("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.filling)
        if self.exists:
            self._run("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.replaced)
        # Not the server's template, which may hold an extension of another version.
        self._run("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'", self.filling)
        return self.url.set(database=self.filling)

    def swap(self) -> None:
        """Give the new database the name of the old one, in one transaction, and remove the old one."""
        self._require_unused()
        below = driver(self.admin)
        try:
            with below.transaction():
                if self.exists:
                    self._run("ALTER DATABASE {} RENAME TO {}", self.name, self.replaced)
                self._run("ALTER DATABASE {} RENAME TO {}", self.filling, self.name)
        except BaseException as error:
            if self.exists:
                _start_jobs(self.url)  # which TimescaleDB stops for a rename, and leaves so when that is undone
            if isinstance(error, psycopg.errors.ObjectInUse):
                raise DatabaseError(
                    f"{self.name}: expected no one to use the database, found {error.diag.message_detail} End that first"
                ) from None
            raise
        _start_jobs(self.url)
        if self.exists:
            self._run("DROP DATABASE {} WITH (FORCE)", self.replaced)

    def abandon(self) -> None:
        """Remove the new database; the old one is as it was."""
        self._run("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.filling)

    def _run(self, statement: str, *names: str) -> None:
        driver(self.admin).execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def _fill(url: URL, file: Path, manifest: Manifest, programs: ClientPrograms, on_progress: Progress) -> None:
    """Restore into an empty database and compare it with the manifest; TimescaleDB runs no job in it."""
    with psycopg.connect(**libpq_arguments(url), autocommit=True) as connection:
        if manifest.timescaledb:
            version = sql.Literal(manifest.timescaledb)
            connection.execute(sql.SQL("CREATE EXTENSION timescaledb VERSION {}").format(version))
            connection.execute("SELECT timescaledb_pre_restore()")
    _run_pg_restore(programs, url, file, on_progress)
    with psycopg.connect(**libpq_arguments(url), autocommit=True) as connection:
        if manifest.timescaledb:
            # It starts the jobs, of which one may drop what is older than its retention before the rows are counted.
            # What it started waits for the end of its transaction; by then it is stopped.
            with connection.transaction():
                connection.execute("SELECT timescaledb_post_restore()")
                connection.execute("SELECT _timescaledb_functions.stop_background_workers()")
        connection.execute("ANALYZE")
    engine = open_engine(url, "tickstock db restore", MAINTENANCE)
    try:
        with engine.connect() as restored:
            found = (migrate.current_revision(restored), count_rows(restored))
    finally:
        engine.dispose()
    if found != (manifest.revision, manifest.rows):
        odd = sorted(name for name, rows in manifest.rows.items() if found[1].get(name) != rows)
        raise DatabaseError(
            f"{file}: expected revision {manifest.revision} and the rows of its manifest, found revision {found[0]} and "
            f"other rows in {', '.join(odd) or 'no table'}; the database is as it was, restore another dump"
        )


def _start_jobs(url: URL) -> None:
    """Let TimescaleDB, where the database has it, run the jobs that are scheduled in it."""
    with psycopg.connect(**libpq_arguments(url), autocommit=True) as connection:
        if connection.execute("SELECT FROM pg_extension WHERE extname = 'timescaledb'").rowcount:
            connection.execute("SELECT _timescaledb_functions.restart_background_workers()")


def _run_pg_restore(programs: ClientPrograms, url: URL, file: Path, on_progress: Progress) -> None:
    program = programs.folder / "pg_restore"
    listed = subprocess.run([program, "--list", file], capture_output=True, text=True, check=False)  # noqa: S603
    if listed.returncode != 0:
        raise ConfigError(
            f"{file}: expected a dump in PostgreSQL's custom format, found {cause_of(listed.stderr.splitlines())!r}"
        )
    entries = sum(1 for line in listed.stdout.splitlines() if line and not line.startswith(";"))
    # Roles are the server's, which may have others; rights are given afresh.
    how = ["--exit-on-error", "--no-owner", "--no-privileges", "--verbose"]
    command = [program, *how, *connection_arguments(url), file]
    said: list[str] = []
    with subprocess.Popen(  # noqa: S603 PostgreSQL's own program
        [str(part) for part in command],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment(url),
    ) as process:  # fmt: skip
        try:
            for line in process.stderr or ():
                said.append(line.strip())
                on_progress(min(len(said), entries), entries)
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        raise DatabaseError(f"pg_restore: expected it to succeed, found {cause_of(said)!r}; the database is as it was")
