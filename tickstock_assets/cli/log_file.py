"""Where a summary is written that a person asked for with --log-file: a file of his own, a pipe or a device.

Elsewhere: files that only we may read (storage/whole_file.py).
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.storage.whole_file import whole_file

STANDARD_OUTPUT, STANDARD_ERROR = 1, 2


@contextlib.contextmanager
def opened_log(path: Path) -> Iterator[int]:
    """Yield a descriptor to write to; a file appears complete or not at all, a pipe or a device is written as it is.

    A file that is there keeps its mode, a new one has what the umask says.

    Raises:
        ConfigError: it is not one we can write to.
    """
    if _is_written_in_place(path):
        with _opened(path) as descriptor:
            yield descriptor
        return
    with whole_file(path) as descriptor:
        os.fchmod(descriptor, _mode(path))
        yield descriptor


def _is_written_in_place(path: Path) -> bool:
    """Return whether it is a pipe or a device, or the file that our output goes to, which is not to be replaced."""
    try:
        found = path.stat()
        if stat.S_ISREG(found.st_mode):
            return any(os.path.samestat(found, os.fstat(one)) for one in (STANDARD_OUTPUT, STANDARD_ERROR))
    except OSError:  # none yet, or none that we can see: opening it tells
        return False
    return not stat.S_ISDIR(found.st_mode)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOCTTY)
    except OSError as error:
        raise ConfigError(f"{path}: expected a file we can write, found {error.strerror}; name another") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _mode(path: Path) -> int:
    if path.exists():
        return stat.S_IMODE(path.stat().st_mode)
    # It is only told when it is set.
    umask = os.umask(0o077)
    os.umask(umask)
    return 0o666 & ~umask
