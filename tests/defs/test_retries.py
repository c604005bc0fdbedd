"""Faults of the moment are tried again, all others fail at once; in real runs."""

from collections import Counter
from collections.abc import Callable, Iterator

import dagster as dg
import psycopg
import pytest
import sqlalchemy.exc
from sqlalchemy import Engine, text

from tickstock_assets.defs import retries
from tickstock_assets.defs.retries import RETRIES, may_succeed_later, pause_seconds, retried
from tickstock_assets.domain.errors import (
    ConfigError,
    DatabaseError,
    NotEntitledError,
    ProviderError,
    TransientDatabaseError,
    TransientProviderError,
)

WHAT_MAY_PASS = [
    TransientProviderError("cut"),
    TransientDatabaseError("away"),
    psycopg.OperationalError("connection lost"),
]
WHAT_STAYS = [
    ProviderError("refused"), NotEntitledError("not in the plan"), DatabaseError("too old"), ConfigError("wrong"),
    KeyError("column"), psycopg.errors.UniqueViolation("twice"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_PAUSE_SECONDS", 0.001)


def run(fail: Callable[[str], None]) -> tuple[bool, int]:
    """Run a plain and a generator asset that begin with `fail`; return whether it succeeded, and how often each began."""
    tries: list[str] = []

    @dg.asset
    @retried
    def plain() -> dg.MaterializeResult[None]:
        tries.append("plain")
        fail("plain")
        return dg.MaterializeResult()

    @dg.multi_asset(specs=[dg.AssetSpec("generated")])
    @retried
    def generator() -> Iterator[dg.MaterializeResult[None]]:
        tries.append("generated")
        fail("generated")
        yield dg.MaterializeResult(asset_key="generated")

    result = dg.materialize([plain, generator], raise_on_error=False, instance=dg.DagsterInstance.ephemeral())
    assert tries.count("plain") == tries.count("generated")
    return result.success, tries.count("plain")


def failing(error: BaseException, times: int) -> Callable[[str], None]:
    """Return what raises at the first tries of each asset."""
    tries: Counter[str] = Counter()

    def fail(asset: str) -> None:
        tries[asset] += 1
        if tries[asset] <= times:
            raise error

    return fail


@pytest.mark.parametrize("error", WHAT_MAY_PASS, ids=repr)
def test_a_fault_of_the_moment_is_tried_again(error: Exception) -> None:
    assert may_succeed_later(error)
    assert run(failing(error, 2)) == (True, 3)


@pytest.mark.parametrize("error", WHAT_MAY_PASS, ids=repr)
def test_one_that_stays_is_given_up(error: Exception) -> None:
    assert run(failing(error, 100)) == (False, 1 + RETRIES)


@pytest.mark.parametrize("error", WHAT_STAYS, ids=repr)
def test_any_other_error_fails_at_once(error: Exception) -> None:
    assert not may_succeed_later(error)
    assert run(failing(error, 100)) == (False, 1)


@pytest.mark.tiers("embedded")
def test_a_connection_that_the_server_ends_is_a_fault_of_the_moment(database: Engine) -> None:
    with pytest.raises(sqlalchemy.exc.OperationalError) as ended, database.connect() as connection:
        connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    assert may_succeed_later(ended.value)


def test_the_pauses_grow_and_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_PAUSE_SECONDS", 20.0)
    for retry, (least, most) in enumerate([(20, 30), (40, 60), (80, 120)]):
        pauses = {pause_seconds(retry) for _ in range(50)}
        assert len(pauses) > 1
        assert least <= min(pauses)
        assert max(pauses) <= most
