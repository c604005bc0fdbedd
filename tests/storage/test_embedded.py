"""The embedded server under real processes and real kills; nothing here is simulated.

Tests share one cluster and find it stopped, or have a home of their own; they end only processes of these.
Waiting is by polling, with bounds so generous that only a server which never comes, or never goes, reaches them.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import psycopg2  # type: ignore[import-untyped]
import pytest
import sqlalchemy

from tests.storage.servers import (
    Holder,
    cluster_of,
    fetch_one,
    is_locked,
    keeper_pid,
    kill_keeper,
    postmaster_pid,
    wait_until,
    wait_until_stopped,
)
from tickstock_assets.domain.errors import DatabaseError
from tickstock_assets.storage import embedded, placement

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to hand the server to another user")


Start = Callable[..., Holder]


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("shared") / "home"
    embedded.acquire(folder)
    embedded.stop(folder)
    yield folder
    embedded.destroy(folder)


@pytest.fixture
def home(shared_home: Path) -> Iterator[Path]:
    """A home whose server was created before and is not running."""
    yield shared_home
    embedded.stop(shared_home, force=True)


@pytest.fixture
def new_home(tmp_path: Path) -> Iterator[Path]:
    """A home that does not exist yet."""
    folder = tmp_path / "home"
    yield folder
    embedded.destroy(folder)


@pytest.fixture
def reachable_home() -> Iterator[Path]:
    """A home that any user can reach, unlike those under pytest's own folder."""
    parent = Path(tempfile.mkdtemp(prefix="tickstock-test-"))
    parent.chmod(0o755)
    yield parent / "home"
    embedded.destroy(parent / "home")
    shutil.rmtree(parent)


@pytest.fixture
def start(home: Path) -> Iterator[Start]:
    """Start holders of `home`, or of another one; those left are killed at the end."""
    started: list[Holder] = []

    def start_one(at: Path = home, **options: object) -> Holder:
        started.append(Holder(at, **options))  # type: ignore[arg-type]
        return started[-1]

    yield start_one
    for holder in started:
        holder.kill()


def test_the_first_use_creates_and_starts_a_server_of_version_18(new_home: Path, start: Start) -> None:
    assert not embedded.is_running(new_home)
    assert not new_home.exists()  # asking does not create anything
    url = start(new_home).wait_until_ready()
    assert embedded.is_running(new_home)
    assert str(fetch_one(url, "show server_version")).startswith("18.")


def test_the_server_is_durable_private_and_on_utc(home: Path, start: Start) -> None:
    url = start().wait_until_ready()
    expected = {
        "fsync": "on",
        "synchronous_commit": "on",
        "data_checksums": "on",
        "listen_addresses": "",
        "TimeZone": "UTC",
        "server_encoding": "UTF8",
        "max_connections": "200",
    }
    assert {name: fetch_one(url, f"show {name}") for name in expected} == expected
    assert fetch_one(url, "select current_user::text") == "tickstock"
    assert stat.S_IMODE(cluster_of(home).sockets.stat().st_mode) == 0o700
    assert stat.S_IMODE(cluster_of(home).data.stat().st_mode) == 0o700


def test_a_setting_made_by_alter_system_survives_a_restart(new_home: Path, start: Start) -> None:
    holder = start(new_home)
    with psycopg.connect(holder.wait_until_ready(), autocommit=True) as connection:
        connection.execute("alter system set work_mem = '5MB'")
    holder.leave()
    wait_until_stopped(new_home)
    assert fetch_one(start(new_home).wait_until_ready(), "show work_mem") == "5MB"


def test_two_processes_share_one_server_until_the_last_has_left(home: Path, start: Start) -> None:
    first, second = start(), start()
    url = first.wait_until_ready()
    assert second.wait_until_ready() == url
    postmaster = postmaster_pid(home)
    first.leave()
    assert fetch_one(url, "select 1") == 1
    assert postmaster_pid(home) == postmaster
    second.leave()
    wait_until_stopped(home)


def test_ten_processes_that_start_at_once_get_the_same_server(home: Path, start: Start) -> None:
    holders = [start() for _ in range(10)]
    assert len({holder.wait_until_ready() for holder in holders}) == 1
    for holder in holders:
        holder.kill()
    wait_until_stopped(home)


def test_the_server_stops_when_its_last_holder_is_killed(home: Path, start: Start) -> None:
    holder = start()
    holder.wait_until_ready()
    holder.kill()
    wait_until_stopped(home)


def test_a_forked_child_keeps_its_parents_hold(home: Path, start: Start) -> None:
    holder = start(then="import os, time\nif not os.fork():\n    print(os.getpid(), flush=True)\n    time.sleep(3600)")
    url = holder.wait_until_ready()
    assert holder.process.stdout is not None
    child = int(holder.process.stdout.readline())
    try:
        holder.process.kill()
        holder.process.wait()
        assert is_locked(cluster_of(home).holders_lock)
        assert fetch_one(url, "select 1") == 1
    finally:
        os.kill(child, signal.SIGKILL)
    wait_until_stopped(home)


def test_a_program_started_by_a_holder_does_not_keep_the_server(home: Path, start: Start) -> None:
    then = "import subprocess\nprint(subprocess.Popen(['sleep', '3600'], close_fds=False, stdout=2).pid, flush=True)"
    holder = start(then=then)
    holder.wait_until_ready()
    assert holder.process.stdout is not None
    sleeper = int(holder.process.stdout.readline())
    try:
        holder.process.kill()
        holder.process.wait()
        wait_until_stopped(home)
    finally:
        os.kill(sleeper, signal.SIGKILL)


def test_a_killed_keeper_is_replaced_at_the_next_use_and_the_server_stays(home: Path, start: Start) -> None:
    start().wait_until_ready()
    postmaster, former = postmaster_pid(home), keeper_pid(home)
    kill_keeper(home)
    start().wait_until_ready()
    assert keeper_pid(home) != former
    assert postmaster_pid(home) == postmaster


def test_a_holder_that_leaves_after_its_keeper_was_killed_leaves_no_server_behind(home: Path, start: Start) -> None:
    holder = start()
    holder.wait_until_ready()
    kill_keeper(home)
    holder.leave()
    wait_until_stopped(home)


def test_a_server_that_lost_keeper_and_holders_is_found_by_the_next_use(home: Path, start: Start) -> None:
    holder = start()
    holder.wait_until_ready()
    postmaster = postmaster_pid(home)
    kill_keeper(home)
    holder.kill()
    newcomer = start()
    newcomer.wait_until_ready()
    assert postmaster_pid(home) == postmaster
    newcomer.leave()
    wait_until_stopped(home)


def test_a_killed_postmaster_comes_back_with_what_was_committed(home: Path, start: Start) -> None:
    url = start().wait_until_ready()
    with psycopg.connect(url) as connection:
        connection.execute("create table kept as select 42 as answer")
    former = postmaster_pid(home)
    os.kill(former, signal.SIGKILL)
    wait_until(lambda: embedded.is_running(home) and postmaster_pid(home) != former)
    assert fetch_one(url, "select answer from kept") == 42


def test_keeper_and_postmaster_killed_together_are_revived_by_their_holder(home: Path) -> None:
    url = embedded.acquire(home).url("postgres")
    former = postmaster_pid(home)
    kill_keeper(home)
    os.kill(former, signal.SIGKILL)
    assert embedded.acquire(home).url("postgres") == url
    assert fetch_one(url, "select 1") == 1
    assert postmaster_pid(home) != former


def test_a_kill_during_initdb_leaves_no_half_cluster(new_home: Path, start: Start) -> None:
    holder = start(new_home)
    # initdb writes PG_VERSION early and goes on for most of a second.
    wait_until(
        lambda: placement.find_cluster(new_home) and (cluster_of(new_home).folder / "data.new" / "PG_VERSION").exists()
    )
    holder.kill()  # first, as it would replace the keeper at once
    kill_keeper(new_home)
    assert not cluster_of(new_home).data.exists()
    assert fetch_one(start(new_home).wait_until_ready(), "select 1") == 1
    assert not (cluster_of(new_home).folder / "data.new").exists()


def test_a_stale_process_id_that_is_now_a_strangers_does_not_prevent_the_start(home: Path, start: Start) -> None:
    holder = start()
    holder.wait_until_ready()
    cluster = cluster_of(home)
    owner = cluster.data.stat()
    os.kill(keeper_pid(home), signal.SIGSTOP)  # so that nobody starts the server again
    pid_file, socket_file = cluster.data / "postmaster.pid", Path(f"{cluster.socket}.lock")
    stale = {path: path.read_text().splitlines() for path in (pid_file, socket_file)}
    os.kill(postmaster_pid(home), signal.SIGKILL)
    os.kill(keeper_pid(home), signal.SIGKILL)
    holder.kill()
    wait_until(lambda: not is_locked(cluster.server_lock))
    user = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    with subprocess.Popen(["sleep", "3600"], **user) as stranger:  # type: ignore[call-overload]
        try:
            for path, lines in stale.items():
                path.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
            assert fetch_one(start().wait_until_ready(), "select 1") == 1
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_home_deeper_than_a_socket_path_may_be(tmp_path: Path, start: Start) -> None:
    home = tmp_path / ("deep" * 30) / "home"
    try:
        url = start(home).wait_until_ready()
        assert fetch_one(url, "select 1") == 1
    finally:
        embedded.destroy(home)


def test_a_deep_home_in_reach_of_the_server_has_its_socket_elsewhere(reachable_home: Path, start: Start) -> None:
    home = reachable_home / ("deep" * 30)
    try:
        url = start(home).wait_until_ready()
        sockets = cluster_of(home).sockets
        assert fetch_one(url, "select 1") == 1
        assert sockets.parent == Path("/tmp")
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    finally:
        embedded.destroy(home)
    assert not sockets.exists()


def test_a_socket_folder_of_somebody_else_is_refused(reachable_home: Path) -> None:
    home = reachable_home / ("deep" * 30)
    sockets = placement.place_cluster(home).sockets
    sockets.mkdir()
    sockets.chmod(0o777)
    try:
        with pytest.raises(DatabaseError, match=r"expected a folder of user id \d+ with mode 0700"):
            embedded.acquire(home)
    finally:
        embedded.destroy(home)


@pytest.mark.parametrize("name", ["space & 100% ünï+cödé", "comma, it's"])
def test_a_home_with_an_awkward_name(reachable_home: Path, start: Start, name: str) -> None:
    home = reachable_home / name
    try:
        assert fetch_one(start(home).wait_until_ready(), "select 1") == 1
    finally:
        embedded.destroy(home)


def test_psycopg_psycopg2_and_sqlalchemy_accept_the_url(reachable_home: Path) -> None:
    server = embedded.acquire(reachable_home / "with space & 100%")
    name = "odd name/%?"
    try:
        embedded.ensure_database(server, name)
        url = server.url(name)
        assert fetch_one(url, "select current_database()::text") == name
        with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
            cursor.execute("select current_database()")
            assert cursor.fetchone() == (name,)
        for driver in ("psycopg", "psycopg2"):
            engine = sqlalchemy.create_engine(
                sqlalchemy.make_url(server.url("postgres")).set(drivername=f"postgresql+{driver}")
            )
            with engine.connect() as connection:
                assert connection.scalar(sqlalchemy.text("select 1")) == 1
            engine.dispose()
    finally:
        embedded.destroy(reachable_home / "with space & 100%")


@as_root
def test_root_keeps_the_cluster_in_the_home_when_the_servers_user_can_reach_it(
    reachable_home: Path, start: Start
) -> None:
    start(reachable_home).wait_until_ready()
    cluster = cluster_of(reachable_home)
    assert cluster.folder == reachable_home / "postgres"
    assert cluster.data.stat().st_uid != 0
    assert cluster.folder.stat().st_uid == 0


@as_root
def test_root_keeps_the_cluster_elsewhere_rather_than_open_a_closed_folder(tmp_path: Path, start: Start) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    home = closed / "home"
    try:
        assert fetch_one(start(home).wait_until_ready(), "select 1") == 1
        cluster = cluster_of(home)
        assert cluster.folder.parent == placement.SYSTEM_FOLDER
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
        assert closed.stat().st_uid == 0
    finally:
        embedded.destroy(home)
    assert not cluster.folder.exists()


@as_root
def test_root_copies_programs_that_the_servers_user_cannot_reach(tmp_path: Path, home: Path, start: Start) -> None:
    site = tmp_path / "closed"
    site.mkdir(mode=0o700)
    installed = placement.binaries(None).parent
    shutil.copytree(installed, site / placement.PACKAGE / installed.name, symlinks=True)
    libraries = f"{placement.PACKAGE}.libs"
    shutil.copytree(installed.parent.parent / libraries, site / libraries)
    (site / placement.PACKAGE / "__init__.py").touch()
    there_before = set(placement.SYSTEM_FOLDER.glob(f"{placement.PACKAGE}-*"))
    try:
        start(path=(site,)).wait_until_ready()
        program = Path(f"/proc/{postmaster_pid(home)}/exe").readlink()
        assert program.is_relative_to(placement.SYSTEM_FOLDER)
        assert program.stat().st_uid == 0
        assert stat.S_IMODE(site.stat().st_mode) == 0o700
    finally:
        embedded.destroy(home)
        for copied in set(placement.SYSTEM_FOLDER.glob(f"{placement.PACKAGE}-*")) - there_before:
            shutil.rmtree(copied)


@as_root
def test_a_restrictive_umask_does_not_lock_the_server_out(reachable_home: Path) -> None:
    former = os.umask(0o077)
    try:
        assert fetch_one(embedded.acquire(reachable_home).url("postgres"), "select 1") == 1
    finally:
        os.umask(former)


@as_root
def test_a_home_of_another_user_is_refused_in_one_sentence(reachable_home: Path) -> None:
    placement.place_cluster(reachable_home)
    account = placement.server_account(reachable_home / "postgres" / "data")
    assert account is not None
    # The child cannot use the virtual environment of root, so the rule is asked for in a fork.
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(BaseException):
            os.setgroups([])
            os.setgid(account.gid)
            os.setuid(account.uid)
            try:
                embedded.acquire(reachable_home)
            except DatabaseError as error:
                status = 0 if "Permission denied" in str(error) else 2
        os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_file_in_place_of_the_home_is_one_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("not a folder")
    with pytest.raises(
        DatabaseError, match=r"expected a folder we can write and lock files in, found .*; set TICKSTOCK_HOME"
    ):
        embedded.acquire(tmp_path / "home")


def test_a_cluster_of_another_version_is_reported_with_postgresqls_own_words(new_home: Path) -> None:
    url = embedded.acquire(new_home).url("postgres")
    assert fetch_one(url, "select 1") == 1
    embedded.stop(new_home)
    (cluster_of(new_home).data / "PG_VERSION").write_text("12\n")
    with pytest.raises(DatabaseError, match=r"FATAL: .*database files are incompatible with server") as raised:
        embedded.acquire(new_home)
    assert str(cluster_of(new_home).log) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_folder_in_the_way_of_the_cluster_is_reported(new_home: Path) -> None:
    data = placement.place_cluster(new_home).data
    data.mkdir(mode=0o700)
    (data / "precious").touch()
    with pytest.raises(DatabaseError, match="expected a cluster or nothing, found other files"):
        embedded.acquire(new_home)
    assert (data / "precious").exists()


def test_a_recorded_cluster_that_is_gone_is_not_silently_made_anew(new_home: Path) -> None:
    (new_home / "postgres").mkdir(parents=True)
    (new_home / "postgres" / "location").write_text(f"{new_home}/elsewhere\n")
    with pytest.raises(DatabaseError, match="found no folder; restore it"):
        embedded.acquire(new_home)


def test_stop_refuses_while_others_use_the_server_and_names_them(home: Path, start: Start) -> None:
    url = start().wait_until_ready()
    with psycopg.connect(f"{url}&application_name=webserver"):
        with pytest.raises(DatabaseError, match="expected no other process to use it, found webserver"):
            embedded.stop(home)
        assert embedded.is_running(home)
        embedded.stop(home, force=True)
    assert not is_locked(cluster_of(home).server_lock)


def test_stop_by_its_only_holder_needs_no_force(home: Path) -> None:
    embedded.acquire(home)
    embedded.stop(home)
    assert not is_locked(cluster_of(home).server_lock)
    embedded.stop(home)  # and again changes nothing


def test_stop_also_ends_a_server_whose_keeper_was_killed(home: Path, start: Start) -> None:
    holder = start()
    holder.wait_until_ready()
    kill_keeper(home)
    holder.kill()
    assert embedded.is_running(home)
    embedded.stop(home)
    assert not is_locked(cluster_of(home).server_lock)


def test_a_server_stopped_by_force_comes_back_at_the_next_use(home: Path) -> None:
    embedded.acquire(home)
    embedded.stop(home, force=True)
    assert fetch_one(embedded.acquire(home).url("postgres"), "select 1") == 1


def test_destroy_removes_all_files(new_home: Path) -> None:
    embedded.acquire(new_home)
    cluster = cluster_of(new_home)
    embedded.destroy(new_home)
    assert not cluster.folder.exists()
    assert not cluster.sockets.exists()
    assert not list(new_home.iterdir())
    embedded.destroy(new_home)  # and again changes nothing


def test_a_server_whose_folder_is_deleted_ends(new_home: Path, start: Start) -> None:
    start(new_home).wait_until_ready()
    cluster, postmaster, keeper = cluster_of(new_home), postmaster_pid(new_home), keeper_pid(new_home)
    lock = os.open(cluster.server_lock, os.O_RDWR)
    shutil.rmtree(cluster.folder, ignore_errors=True)
    assert postmaster != keeper
    try:
        wait_until(lambda: _is_free(lock))
    finally:
        os.close(lock)
    shutil.rmtree(cluster.folder, ignore_errors=True)  # what the server wrote while it went


def _is_free(descriptor: int) -> bool:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def test_many_threads_may_ask_for_the_same_database(home: Path) -> None:
    server = embedded.acquire(home)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: embedded.ensure_database(server, "wanted"), range(8)))
    assert fetch_one(server.url("wanted"), "select current_database()::text") == "wanted"


def test_release_gives_the_server_up_before_the_process_ends(home: Path) -> None:
    embedded.acquire(home)
    embedded.release(home)
    wait_until_stopped(home)
