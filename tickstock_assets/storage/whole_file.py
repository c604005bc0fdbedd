"""Files and folders that appear complete or not at all, whenever the process that writes them is killed.

Elsewhere: landed payloads, which are named by their content (landing.py).
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tickstock_assets.domain.errors import ConfigError

# Of a folder that is being filled; ours alone, as folders of that name are removed when nobody holds them.
FOLDER_SUFFIX = ".tickstock.part"


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[int]:
    """Yield a descriptor to write to; what was written takes the place of `path` when the block ends without an error.

    Only we may read it. On Linux it has no name until then, so that nothing is left of it even after `kill -9`.

    Raises:
        ConfigError: the folder is not one we can write to.
    """
    _require_name(path, "file")
    path = path.resolve()  # a link is followed, and stays
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        if path.exists() and not path.is_file():
            raise FileExistsError(0, "a folder" if path.is_dir() else "a device")
        descriptor, is_named = _open_without_name(path.parent), False
        if descriptor is None:
            descriptor, is_named = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), True
    except OSError as error:
        raise ConfigError(f"{path}: expected a file we can write, found {error.strerror}; name another") from None
    try:
        yield descriptor
        os.fsync(descriptor)
        if not is_named:
            part.unlink(missing_ok=True)
            # Any descriptor will do; without one Python would link the name in /proc instead of the file behind it.
            os.link(f"/proc/self/fd/{descriptor}", part, src_dir_fd=descriptor)
        part.replace(path)
    finally:
        os.close(descriptor)
        part.unlink(missing_ok=True)


def _open_without_name(folder: Path) -> int | None:
    if not hasattr(os, "O_TMPFILE"):
        return None
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600)
    except OSError:  # a file system that cannot; what else is wrong shows when the named one is opened
        return None


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a hidden folder beside `path` to fill; it becomes `path` when the block ends without an error.

    What a killed process left in the parent folder is removed by the next one.

    Raises:
        ConfigError: `path` is there and not an empty folder, its parent is not one we can write to, or the disk is full.
    """
    _require_name(path, "folder")
    part = path.with_name(f".{path.name}.{os.getpid()}{FOLDER_SUFFIX}")
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise FileExistsError(0, "something there already")
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path.parent)
        lock = _make_locked(part)
    except OSError as error:
        raise ConfigError(f"{path}: expected a new folder we can make, found {error.strerror}; name another") from None
    try:
        yield part
        part.replace(path)
    except OSError as error:
        found = os.strerror(error.errno) if error.errno else str(error)
        raise ConfigError(f"{path}: expected a folder we can write, found {found}; name another") from None
    finally:
        os.close(lock)
        shutil.rmtree(part, ignore_errors=True)


def _require_name(path: Path, kind: str) -> None:
    if not path.name:  # of an empty text, of `.` and of `/`
        raise ConfigError(f"{str(path)!r}: expected the name of a {kind}, found none; name one")


def _make_locked(folder: Path) -> int:
    """Make a folder and return the descriptor that holds its lock."""
    while True:
        folder.mkdir()
        lock = os.open(folder, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return lock
        os.close(lock)  # another process took it for abandoned before we had the lock


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(f".*{FOLDER_SUFFIX}"):
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:  # gone, or not ours to remove
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:  # another process is at work in it
            continue
        finally:
            os.close(lock)
