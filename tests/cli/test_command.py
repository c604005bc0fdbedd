"""How errors are told: one sentence that says what to do, where a person can do something."""

import errno
import os
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError

from tickstock_assets.cli import command
from tickstock_assets.domain.errors import ConfigError


def sqlalchemy_error(cause: psycopg.Error) -> DBAPIError:
    kind = OperationalError if isinstance(cause, psycopg.OperationalError) else ProgrammingError
    return kind("SELECT 1", {}, cause)


TIMEOUT = psycopg.errors.QueryCanceled("canceling statement due to statement timeout")
FULL = psycopg.errors.DiskFull("could not extend file: No space left on device\nHINT: Check free disk space.")
GONE = psycopg.OperationalError("server closed the connection unexpectedly")

TOLD = {
    "a mistake": (ConfigError("--end: expected a day"), "--end: expected a day"),
    "a timeout": (sqlalchemy_error(TIMEOUT), "or raise TICKSTOCK_STATEMENT_TIMEOUT_SECONDS, and run it again"),
    "a timeout of the driver": (TIMEOUT, "ask for less at a time"),
    "a full server": (sqlalchemy_error(FULL), "no room (could not extend file: No space left on device); what was fin"),
    "a server that is gone": (sqlalchemy_error(GONE), "the database went away (server closed the connection unexp"),
    "a server that is gone, of the driver": (GONE, "what was finished is kept, run it again"),
    "a full disk": (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "a file: expected room to write, found No space"),
    "no right to a file": (
        PermissionError(errno.EACCES, "Permission denied", "/srv/x"),
        "/srv/x: expected a file that we may use, found Permission denied; give ",
    ),
}


@pytest.mark.parametrize(("error", "sentence"), TOLD.values(), ids=TOLD.keys())
def test_what_a_person_can_act_on_is_one_sentence(
    error: Exception, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(command, "app", fail)
    with pytest.raises(SystemExit) as ended:
        command.run()
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith("tickstock: ")
    assert said.count("\n") == 1
    assert sentence in said


@pytest.mark.parametrize(
    "error",
    [
        sqlalchemy_error(psycopg.errors.UndefinedTable('relation "nothing" does not exist')),
        psycopg.errors.SyntaxError("syntax error"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/srv/x"),
        ValueError("no such thing"),
    ],
)
def test_a_mistake_of_ours_is_not_hidden(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(command, "app", fail)
    with pytest.raises(type(error)):
        command.run()


def test_a_disk_that_is_really_full_is_told() -> None:
    with pytest.raises(OSError, match="No space left") as full:
        Path("/dev/full").write_text("x")
    assert str(command._of_files(full.value)).startswith(
        "a file: expected room to write, found No space left on device"
    )
