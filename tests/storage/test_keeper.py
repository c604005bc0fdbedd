"""What the keeper relies on: the lock that PostgreSQL's processes inherit, and signals."""

import fcntl
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.storage.servers import WAIT_SECONDS, cluster_of, is_locked, wait_until
from tickstock_assets.domain.errors import DatabaseError
from tickstock_assets.storage import embedded
from tickstock_assets.storage.cluster import require_private, try_lock
from tickstock_assets.storage.keeper import _processes_with_open

on_linux = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at /proc, which only Linux has")


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("shared") / "home"
    yield folder
    embedded.destroy(folder)


@pytest.fixture
def home(shared_home: Path) -> Iterator[Path]:
    """A home whose server is not running."""
    yield shared_home
    embedded.stop(shared_home, force=True)


@on_linux
def test_every_process_of_the_server_holds_the_server_lock(home: Path) -> None:
    with psycopg.connect(embedded.acquire(home).url("postgres")) as connection:
        cluster = cluster_of(home)
        holding = set(_processes_with_open(cluster.server_lock))
        listed = {pid for (pid,) in connection.execute("select pid from pg_stat_activity")}
        assert connection.info.backend_pid in listed
        assert listed < holding
        assert holding - listed >= {cluster.postmaster_pid()}
        assert os.getpid() not in holding


@on_linux
def test_a_busy_backend_left_by_a_killed_postmaster_does_not_prevent_the_restart(home: Path) -> None:
    url = embedded.acquire(home).url("postgres")
    cluster = cluster_of(home)
    former = cluster.postmaster_pid()
    assert former

    def compute() -> None:
        # A computation without a wait in it does not notice that the postmaster is gone.
        with pytest.raises(psycopg.OperationalError), psycopg.connect(url) as connection:
            connection.execute("select count(*) from generate_series(1, 1000000) a, generate_series(1, 1000000) b")

    busy = threading.Thread(target=compute)
    busy.start()
    with psycopg.connect(url, autocommit=True) as connection:
        query = (
            "select count(*) from pg_stat_activity where query like '%%generate_series%%' and pid <> pg_backend_pid()"
        )
        wait_until(lambda: connection.execute(query).fetchone() == (1,))
        os.kill(former, signal.SIGKILL)
    wait_until(lambda: cluster.is_ready() and cluster.postmaster_pid() != former)
    busy.join(WAIT_SECONDS)
    assert not busy.is_alive()


def test_a_keeper_told_to_terminate_stops_the_server(home: Path) -> None:
    embedded.acquire(home)
    cluster = cluster_of(home)
    os.kill(int(cluster.keeper_lock.read_text()), signal.SIGTERM)
    wait_until(lambda: not is_locked(cluster.keeper_lock))
    assert not is_locked(cluster.server_lock)
    assert "database system is shut down" in cluster.log.read_text()


def test_the_server_does_not_see_the_callers_secrets(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYGON_API_KEY", "a secret")
    monkeypatch.setenv("PGPORT", "1")
    with psycopg.connect(embedded.acquire(home).url("postgres"), autocommit=True) as connection:
        connection.execute("create temp table seen (line text)")
        connection.execute("copy seen from program 'env'")
        names = {line.split("=")[0] for (line,) in connection.execute("select line from seen")}
    assert not names & {"POLYGON_API_KEY", "PGPORT", "HOME"}


def test_a_lock_is_refused_while_another_descriptor_has_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first = try_lock(path, fcntl.LOCK_SH)
    second = try_lock(path, fcntl.LOCK_SH)
    assert first is not None
    assert second is not None
    assert try_lock(path, fcntl.LOCK_EX) is None
    os.close(first)
    os.close(second)
    third = try_lock(path, fcntl.LOCK_EX)
    assert third is not None
    os.close(third)


def test_a_folder_that_others_may_enter_is_not_private(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o755)
    with pytest.raises(DatabaseError, match="with mode 0700"):
        require_private(folder, os.geteuid())
    folder.chmod(0o700)
    require_private(folder, os.geteuid())
    with pytest.raises(DatabaseError, match="expected a folder of user id"):
        require_private(folder, os.geteuid() + 1)
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(DatabaseError, match="mode l"):
        require_private(tmp_path / "link", os.geteuid())
