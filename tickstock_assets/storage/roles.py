"""The three roles of a server, each with the rights that its work needs and no more.

    tickstock_owner     owns the schema and migrates it
    tickstock_app       reads and writes rows; appends to audit_trail; changes no table; owns Dagster's own database
    tickstock_reader    reads

Roles belong to the whole server, so no migration makes them: `set_up` does, run by an administrator. What the roles may
do with the tables is SQL, in `sql/roles/`, and is brought up to date by every migration of a database that was set up.

Elsewhere: engines (database.py), revisions (migrate.py).
"""

from collections.abc import Mapping

import psycopg
from psycopg import sql
from sqlalchemy import URL, Connection, Engine, text

from tickstock_assets.domain.errors import DatabaseError
from tickstock_assets.project_files import project_file
from tickstock_assets.storage.pool import libpq_arguments, place

OWNER, APP, READER = "tickstock_owner", "tickstock_app", "tickstock_reader"
ROLES: Mapping[str, str] = {
    OWNER: "owns the tables and migrates them",
    APP: "reads and writes rows, only appends to audit_trail, owns Dagster's own database",
    READER: "reads",
}


def set_up(url: URL, dagster_database: str, passwords: Mapping[str, str]) -> None:
    """Make the roles, hand the schema over to its owner and give the others their rights. Doing it twice changes nothing.

    Args:
        url: the market database, as an administrator: a superuser, or who owns the database and may create roles and
            databases.
        dagster_database: made on the same server when it is not there; it becomes the app role's.
        passwords: by role, in clear; a role without one keeps what it has. They leave this process only as SCRAM verifiers.

    Raises:
        DatabaseError: the role of `url` is no administrator.
    """
    try:
        with _connect(url) as connection:
            _make_roles(connection, passwords)
            _ensure_database(connection, dagster_database)
            with connection.transaction():
                _own_database(connection, str(url.database))
        with _connect(url.set(database=dagster_database)) as connection, connection.transaction():
            _run(connection, "hand_over.sql", APP)
    except psycopg.errors.InsufficientPrivilege as error:
        raise DatabaseError(
            f"{place(url)}: expected an administrator's role, found {url.username or 'one'} that may not do everything "
            f"({error.diag.message_primary}); run this verb as a superuser or as who owns the database and may create "
            "roles and databases"
        ) from None


def refresh_grants(connection: Connection) -> None:
    """Bring rights and ownership up to date with the tables there are, in a database that `set_up` was run on.

    Any other database is left alone.
    """
    owner = connection.execute(
        text("SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = current_schema()")
    ).scalar()
    below = connection.connection.driver_connection
    if owner == OWNER and isinstance(below, psycopg.Connection):
        _run(below, "hand_over.sql", OWNER)
        _run(below, "grants.sql", OWNER)


def grant_database(url: URL) -> None:
    """Do for one more database what `set_up` does for the first, on a server that has the roles."""
    with _connect(url) as connection, connection.transaction():
        _own_database(connection, str(url.database))


def is_set_up(engine: Engine) -> bool:
    """Whether the schema was handed over to its owner's role."""
    with engine.connect() as connection:
        owner = connection.execute(
            text("SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = current_schema()")
        ).scalar()
    return bool(owner == OWNER)


def _connect(url: URL) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(**libpq_arguments(url), autocommit=True, application_name="tickstock db roles")


def _make_roles(connection: psycopg.Connection[tuple[object, ...]], passwords: Mapping[str, str]) -> None:
    for role in ROLES:
        known = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).fetchone() is not None
        if not known:
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
        if role in passwords:
            # Made here, so that neither the server nor its log ever sees the password itself.
            verifier = connection.pgconn.encrypt_password(passwords[role].encode(), role.encode(), b"scram-sha-256")
            connection.execute(
                sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(verifier.decode()))
            )
    is_superuser = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
    if is_superuser != (True,):
        # Only a member may hand something over to a role.
        for role in (OWNER, APP):
            connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(role)))


def _ensure_database(connection: psycopg.Connection[tuple[object, ...]], name: str) -> None:
    """Give the app role Dagster's database: Dagster makes and migrates its tables by itself."""
    names = {"database": sql.Identifier(name), "app": sql.Identifier(APP)}
    known = connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchone() is not None
    verb = "ALTER DATABASE {database} OWNER TO {app}" if known else "CREATE DATABASE {database} OWNER {app}"
    connection.execute(sql.SQL(verb).format(**names))
    connection.execute(sql.SQL("REVOKE ALL ON DATABASE {database} FROM PUBLIC").format(**names))


def _own_database(connection: psycopg.Connection[tuple[object, ...]], name: str) -> None:
    names = {
        "database": sql.Identifier(name), "owner": sql.Identifier(OWNER),
        "app": sql.Identifier(APP), "reader": sql.Identifier(READER),
    }  # fmt: skip
    # `merge` works with temporary tables; a migration may. On TimescaleDB it makes a schema.
    for statement in (
        "REVOKE ALL ON DATABASE {database} FROM PUBLIC, {owner}, {app}, {reader}",
        "GRANT CONNECT ON DATABASE {database} TO {owner}, {app}, {reader}",
        "GRANT TEMPORARY ON DATABASE {database} TO {owner}, {app}",
        "GRANT CREATE ON DATABASE {database} TO {owner}",
    ):
        connection.execute(sql.SQL(statement).format(**names))
    # Not the database itself, which its owner could drop.
    for (schema,) in connection.execute("SELECT current_schema()").fetchall():
        connection.execute(sql.SQL("ALTER SCHEMA {} OWNER TO {owner}").format(sql.Identifier(str(schema)), **names))
    _run(connection, "hand_over.sql", OWNER)
    _run(connection, "grants.sql", OWNER)


def _run(connection: psycopg.Connection[tuple[object, ...]], file: str, owner: str) -> None:
    """Run a file of `sql/roles/` in the open transaction."""
    connection.execute("SELECT set_config('tickstock.new_owner', %s, true)", [owner])
    script = (project_file("sql") / "roles" / file).read_text(encoding="utf-8")
    connection.execute(script.encode())
