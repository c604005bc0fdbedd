"""`tickstock db roles`: who may do what on a server."""

import rich.box
from rich.table import Table

from tickstock_assets.cli.app import console
from tickstock_assets.cli.database import server_url
from tickstock_assets.cli.db import db
from tickstock_assets.settings import settings


@db.command("roles")
def make_roles() -> None:
    """Make the server's three roles and give each the rights its work needs: owner, app and reader.

    tickstock_owner migrates, tickstock_app reads and writes, tickstock_reader only reads; everybody else loses access.
    Run it once as an administrator, with TICKSTOCK_DATABASE_URL naming a superuser or the database's owner; again to
    change a password. Doing it twice changes nothing, and `tickstock db migrate` keeps the rights up to date.

    Passwords come from TICKSTOCK_OWNER_PASSWORD, TICKSTOCK_APP_PASSWORD and TICKSTOCK_READER_PASSWORD and from nowhere
    else; a role without one keeps the password it has. Then give each program the address of the role it needs:
    postgresql://tickstock_app:...@host/tickstock
    """
    from tickstock_assets.storage import roles
    from tickstock_assets.storage.database import database_url, open_engine, require_two_databases

    chosen = settings()
    given = {
        roles.OWNER: chosen.owner_password,
        roles.APP: chosen.app_password,
        roles.READER: chosen.reader_password,
    }
    require_two_databases(server_url(), chosen.dagster_database)
    url = database_url(chosen.home_path, server_url())
    open_engine(url, "tickstock db roles").dispose()
    passwords = {role: password.get_secret_value() for role, password in given.items() if password}
    roles.set_up(url, chosen.dagster_database, passwords)
    table = Table("role", "what it does", "password", box=rich.box.SIMPLE_HEAD)
    for role, purpose in roles.ROLES.items():
        table.add_row(role, purpose, "set" if role in passwords else "as it was")
    console.print(table)
