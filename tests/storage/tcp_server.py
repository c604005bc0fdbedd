"""A PostgreSQL that is reached over the network and wants passwords, as a server of one's own does."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy import URL

from tests.end_to_end.commands import free_port
from tests.storage.servers import wait_until
from tickstock_assets.storage import placement


@dataclass(frozen=True)
class TcpServer:
    """A PostgreSQL on the loopback network that wants passwords."""

    port: int
    log: Path
    password: str = "correct-horse-battery"  # a test's

    def url(self, database: str = "tickstock", user: str = "admin", password: str | None = None) -> str:
        address = URL.create("postgresql", user, password or self.password, "127.0.0.1", self.port, database)
        return address.render_as_string(hide_password=False)

    def execute(self, statement: sql.SQL | sql.Composed) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement)


@contextlib.contextmanager
def running_tcp_server() -> Iterator[TcpServer]:
    """Run such a server for as long as it is used."""
    folder = Path(tempfile.mkdtemp(prefix="tickstock-test-"))
    server = TcpServer(free_port(), folder / "log")
    folder.chmod(0o711)
    account = placement.server_account(folder / "data")
    (folder / "data").mkdir()
    password_file = folder / "password"
    password_file.write_text(server.password)
    if account:  # PostgreSQL refuses to run as root
        for path in (folder / "data", password_file):
            os.chown(path, account.uid, account.gid)
    programs = placement.binaries(account)
    as_account = {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}
    subprocess.run(
        [programs / "initdb", "-D", folder / "data", "--username=admin", "--auth=scram-sha-256", "--no-sync",
         f"--pwfile={password_file}", "--encoding=UTF8", "--no-locale"],
        check=True, capture_output=True, cwd="/", **as_account,
    )  # fmt: skip
    options = {"listen_addresses": "127.0.0.1", "port": server.port, "unix_socket_directories": "", "fsync": "off"}
    with server.log.open("wb") as log:
        process = subprocess.Popen(
            [programs / "postgres", "-D", folder / "data", *(f"--{name}={value}" for name, value in options.items())],
            cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, **as_account,
        )  # fmt: skip
    try:
        wait_until(lambda: "ready to accept connections" in server.log.read_text())
        server.execute(sql.SQL("CREATE DATABASE tickstock"))
        yield server
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
        shutil.rmtree(folder)
