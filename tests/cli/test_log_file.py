"""Where --log-file writes: whole files with the mode that a person expects, and pipes and devices as they are."""

import contextlib
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tickstock_assets.cli.log_file import opened_log
from tickstock_assets.domain.errors import ConfigError

SUMMARY = b'{"inserted": 1}'
WRITER = """
import os, sys
from pathlib import Path
from tickstock_assets.cli.log_file import opened_log
with opened_log(Path(sys.argv[1])) as descriptor:
    print("the summary", flush=True)
    os.write(descriptor, b"as JSON")
"""


@pytest.fixture(params=[0o022, 0o007, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def write(path: Path) -> None:
    with opened_log(path) as descriptor:
        os.write(descriptor, SUMMARY)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_has_the_mode_that_the_umask_says(tmp_path: Path, umask: int) -> None:
    write(tmp_path / "load.json")
    assert (tmp_path / "load.json").read_bytes() == SUMMARY
    assert mode(tmp_path / "load.json") == 0o666 & ~umask
    # Which is as it was.
    assert os.umask(umask) == umask


@pytest.mark.parametrize("given", [0o600, 0o640, 0o664])
def test_a_file_that_is_there_keeps_its_mode_and_is_replaced_as_a_whole(tmp_path: Path, given: int) -> None:
    file, link = tmp_path / "load.json", tmp_path / "newest.json"
    file.write_text("a longer summary, of an earlier load")
    file.chmod(given)
    link.symlink_to(file)
    write(link)
    assert link.is_symlink()
    assert (file.read_bytes(), mode(file)) == (SUMMARY, given)


def test_of_a_load_that_breaks_the_earlier_summary_stays(tmp_path: Path) -> None:
    file = tmp_path / "load.json"
    file.write_text("earlier")
    with contextlib.suppress(KeyboardInterrupt), opened_log(file) as descriptor:
        os.write(descriptor, SUMMARY)
        raise KeyboardInterrupt
    assert file.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [file]


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE)
    write(pipe)
    assert reader.communicate(timeout=60)[0] == SUMMARY
    assert pipe.is_fifo()


def test_the_pipe_that_a_shell_opens_for_another_program_is_written_to() -> None:
    read, written = os.pipe()
    write(Path(f"/dev/fd/{written}"))
    os.close(written)
    assert os.read(read, 100) == SUMMARY
    os.close(read)


def test_a_device_takes_it() -> None:
    write(Path("/dev/null"))
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("opened", ["wb", "ab"])
@pytest.mark.parametrize("name", ["/dev/stdout", "itself"])
def test_the_file_that_our_output_goes_to_keeps_what_was_put_out(tmp_path: Path, name: str, opened: str) -> None:
    file = tmp_path / "cron.log"
    path = name if name.startswith("/") else str(file)
    with file.open(opened) as output:
        subprocess.run([sys.executable, "-c", WRITER, path], stdout=output, check=True)
    assert file.read_text() == "the summary\nas JSON"


@pytest.mark.parametrize("name", ["", "missing/load.json", "."])
def test_what_cannot_be_written_is_refused_before_anything_is_done(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="expected a file we can write, found"), opened_log(tmp_path / name):
        pytest.fail("it was opened")
