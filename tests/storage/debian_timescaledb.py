"""A TimescaleDB server of the Apache edition, set up for the tests from packages of the Debian distribution.

Debian 12 has no TimescaleDB, and the one of Debian 13 needs a newer C library. So the packages of Debian 13 are unpacked
into a folder of their own below the user's cache, once for all checkouts, and the server runs in it by chroot. That needs
root, but neither mounts nor user namespaces, so a plain container will do. No package's script is run.

    with running_server(make_root(print)) as url: ...
"""

import contextlib
import fcntl
import hashlib
import os
import platform
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
from sqlalchemy import URL

SUITE = "trixie"
POSTGRES_MAJOR = 17
# Beside the extension and the server that it depends on: the shell of initdb, C.UTF-8, setpriv.
PACKAGES = (f"postgresql-{POSTGRES_MAJOR}-timescaledb", "coreutils", "dash", "libc-bin", "util-linux")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# Raise it when the way a root is made changes; then everybody's is made anew.
RECIPE = 1
# The account `nobody` of Debian; nothing in the root belongs to it but its clusters.
UID = GID = 65534
PROGRAMS = f"/usr/lib/postgresql/{POSTGRES_MAJOR}/bin"
DOWNLOAD_SECONDS = 900
START_SECONDS = 60
STOP_SECONDS = 60
ATTEMPTS = 3

# Its rows are thrown away, so nothing is made durable. The license stands in the package: it has no other code.
SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
shared_preload_libraries = 'timescaledb'
timescaledb.telemetry_level = off
timescaledb.max_background_workers = 16
max_worker_processes = 32
max_connections = 100
max_locks_per_transaction = 256
shared_buffers = 256MB
dynamic_shared_memory_type = mmap
fsync = off
full_page_writes = off
max_wal_size = 2GB
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
"""


class UnavailableError(Exception):
    """This machine cannot have the server; the message says why."""


@dataclass(frozen=True)
class Root:
    """The folder with the unpacked packages, in which clusters come and go."""

    folder: Path

    @property
    def clusters(self) -> Path:
        """The folder with one folder for each session."""
        return self.folder / "srv"

    def description(self) -> str:
        """Return the versions of both programs."""
        control = self.folder / f"usr/share/postgresql/{POSTGRES_MAJOR}/extension/timescaledb.control"
        version = re.search(r"default_version = '(.+)'", control.read_text())
        assert version, control
        server = _run(["chroot", self.folder, f"{PROGRAMS}/postgres", "--version"])
        return f"TimescaleDB {version[1]} on PostgreSQL {server.split()[2]}"

    def command(self, program: str, *arguments: str) -> list[str]:
        """Return the command that runs a program of PostgreSQL here, unprivileged and ended when its parent dies."""
        return [
            "chroot", f"--userspec={UID}:{GID}", str(self.folder), "/usr/bin/setpriv", "--pdeathsig", "INT",
            f"{PROGRAMS}/{program}", *arguments,
        ]  # fmt: skip


def obstacle() -> str | None:
    """Return why a server cannot be set up here, or None when it can be tried."""
    try:
        system = platform.freedesktop_os_release()["ID"]
    except (OSError, KeyError):
        system = platform.system()
    if system != "debian":
        return f"it is set up on Debian only, this is {system}"
    return None if os.geteuid() == 0 else "only root can set it up"


def make_root(say: Callable[[str], object]) -> Root:
    """Return the root of the user's cache; make it when it is not there yet, which `say` is told.

    Raises:
        UnavailableError: not root on Debian, or the packages cannot be had.
    """
    if reason := obstacle():
        raise UnavailableError(reason)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tickstock-tests"
    recipe = hashlib.sha256(repr((RECIPE, PACKAGES, platform.machine())).encode()).hexdigest()[:8]
    root = cache / f"{SUITE}-{recipe}"
    if not root.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / "lock") as lock:
            if not root.exists():  # another session may just have made it
                say(f"Setting up TimescaleDB from packages of Debian {SUITE} in {cache} (once; about half a minute)")
                for leftover in cache.glob("building-*"):
                    shutil.rmtree(leftover)
                building = Path(tempfile.mkdtemp(prefix="building-", dir=cache))
                _unpack(building, lock)
                building.rename(root)
    return Root(root)


@contextlib.contextmanager
def running_server(root: Root) -> Iterator[URL]:
    """Run a new server until the end of the block, or of this process however it ends; give a superuser's address."""
    with _session_folder(root) as (folder, lock):
        password = secrets.token_hex(16)
        inside = f"/srv/{folder.name}"
        _create_cluster(root, folder, inside, password)
        process, port = _start(root, folder, inside, password, lock)
        try:
            yield URL.create("postgresql", "postgres", password, "127.0.0.1", port, "postgres")
        finally:
            process.send_signal(signal.SIGINT)  # ends its sessions as well
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _run(command: list[str | Path], keep_open: tuple[int, ...] = ()) -> str:
    """Return what a command prints; the last line of its complaint becomes the error."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, cwd="/",
            pass_fds=keep_open, env=environment, timeout=DOWNLOAD_SECONDS,
        )  # fmt: skip
    except FileNotFoundError:
        raise UnavailableError(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"{command[0]} did not end within {DOWNLOAD_SECONDS} s") from None
    if done.returncode:
        complaint = re.findall(r"^(?:E: |Err:)?.*\S.*$", done.stderr, re.MULTILINE)
        raise UnavailableError(f"{command[0]} failed: {complaint[-1] if complaint else done.returncode}")
    return done.stdout


def _unpack(folder: Path, lock: int) -> None:
    """Download the packages, check Debian's signature and unpack them; the lock stays held should we be killed."""
    mirror = _mirror()
    if mirror is None or shutil.which("mmdebstrap") is None:
        _run(["apt-get", "update", "--quiet"])
        _run(["apt-get", "install", "--quiet", "--yes", "--no-install-recommends", "mmdebstrap"])
        mirror = _mirror()
    if mirror is None:
        raise UnavailableError("apt's sources name no mirror of Debian")
    _run(
        [
            "mmdebstrap", "--quiet", "--variant=extract", "--mode=chrootless", *_proxies(),
            f"--include={','.join(PACKAGES)}", SUITE, folder, f"deb [signed-by={KEYRING}] {mirror} {SUITE} main",
        ],
        keep_open=(lock,),
    )  # fmt: skip
    # What the packages' scripts would have done, as far as a server needs it.
    for name in ("bin", "sbin", "lib", "lib64"):
        if (folder / "usr" / name).is_dir() and not (folder / name).exists():
            (folder / name).symlink_to(f"usr/{name}")
    (folder / "etc/passwd").write_text(f"nobody:x:{UID}:{GID}:nobody:/nonexistent:/usr/sbin/nologin\n")
    (folder / "etc/group").write_text(f"nogroup:x:{GID}:\n")
    for path in (folder, folder / "srv"):
        path.mkdir(exist_ok=True)
        path.chmod(0o755)


def _mirror() -> str | None:
    """Return the address from which this machine has Debian itself, or None before apt has looked there."""
    form = "$(ORIGIN) $(LABEL) $(COMPONENT) $(REPO_URI)"
    for line in _run(["apt-get", "indextargets", "--format", form, "Created-By: Packages"]).splitlines():
        match line.split():  # the label of security updates is another, but they do not have all packages
            case ["Debian", "Debian", "main", address]:
                return address
    return None


def _proxies() -> list[str]:
    """Return the proxies that apt is told to use, as options of mmdebstrap, which does not read them itself."""
    settings = _run(["apt-config", "dump", "--no-empty", "--format", "%f %v%n", "Acquire"])
    return [
        f'--aptopt={name} "{value}"'
        for name, value in re.findall(r"^(Acquire::https?::Proxy) (\S+)$", settings, re.MULTILINE | re.IGNORECASE)
    ]


@contextlib.contextmanager
def _session_folder(root: Root) -> Iterator[tuple[Path, int]]:
    """Give a new folder for a cluster and the lock that says it is in use; remove those of killed sessions."""
    with _locked(root.clusters / "lock"):
        for old in root.clusters.glob("session-*"):
            with (old / "lock").open("a") as lock, contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(old)
        folder = Path(tempfile.mkdtemp(prefix="session-", dir=root.clusters))
        held = (folder / "lock").open("w")
        fcntl.flock(held, fcntl.LOCK_EX)
    with held:
        try:
            yield folder, held.fileno()
        finally:
            shutil.rmtree(folder)


def _create_cluster(root: Root, folder: Path, inside: str, password: str) -> None:
    os.chown(folder, UID, GID)
    (folder / "password").write_text(password)
    os.chown(folder / "password", UID, GID)
    options = ["--username=postgres", "--auth=scram-sha-256", f"--pwfile={inside}/password", "--no-sync"]
    _run([*root.command("initdb", "-D", f"{inside}/pg", *options, "--encoding=UTF8", "--locale=C.UTF-8")])
    with (folder / "pg/postgresql.conf").open("a") as file:
        file.write(SETTINGS)


def _start(root: Root, folder: Path, inside: str, password: str, lock: int) -> tuple[subprocess.Popen[bytes], int]:
    """Start the server on a free port; another program may be quicker to take it, hence the attempts."""
    for _ in range(ATTEMPTS):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                root.command("postgres", "-D", f"{inside}/pg", "-p", str(port)),
                # A session of its own: Ctrl-C is for pytest, which still drops databases then.
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", pass_fds=(lock,), start_new_session=True,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
            )  # fmt: skip
        if _is_ready(process, port, password):
            return process, port
        said = (folder / "log").read_text(errors="replace")
        if "Address already in use" not in said:
            break
    raise UnavailableError(f"the server in {root.folder} does not start; remove that folder to make it anew\n{said}")


def _is_ready(process: subprocess.Popen[bytes], port: int, password: str) -> bool:
    """Wait until the server accepts connections; False when it ended or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None:
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(
                host="127.0.0.1", port=port, user="postgres", password=password, dbname="postgres"
            ).close()  # its own password proves that it is ours that answers
            return True
        if time.monotonic() > deadline:
            process.kill()
            process.wait()
            break
        time.sleep(0.05)
    return False
