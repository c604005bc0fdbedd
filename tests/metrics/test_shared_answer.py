"""A storm of questions costs one answer, and one that hangs holds nobody up."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tickstock_assets.metrics.shared_answer import SharedAnswer


def test_however_many_ask_it_is_made_once() -> None:
    made: list[int] = []
    go = threading.Event()

    def make() -> int:
        go.wait(30)
        made.append(1)
        return len(made)

    shared = SharedAnswer(make, keep_seconds=3600, wait_seconds=30)
    with ThreadPoolExecutor(50) as pool:
        asked = [pool.submit(shared.get) for _ in range(50)]
        go.set()
        assert {one.result(30) for one in asked} == {1}
    assert shared.get() == 1


def test_it_is_made_anew_when_it_is_old() -> None:
    made: list[int] = []

    def make() -> int:
        made.append(1)
        return len(made)

    # A tenth of a second is long enough to hand it over, and over when the next asks who waits for that.
    shared = SharedAnswer(make, keep_seconds=0.1, wait_seconds=30)
    assert shared.get() == 1
    threading.Event().wait(0.15)
    assert shared.get() == 2


def test_nobody_waits_for_one_that_hangs_nor_joins_it() -> None:
    go, n_made = threading.Event(), []

    def make() -> str:
        n_made.append(1)
        go.wait(30)
        return "late"

    shared = SharedAnswer(make, keep_seconds=3600, wait_seconds=0.05)
    assert [shared.get() for _ in range(3)] == [None, None, None]
    assert len(n_made) == 1
    go.set()
    patient = threading.Event()
    while shared.get() is None:
        patient.wait(0.01)
    assert shared.get() == "late"
    assert len(n_made) == 1


def test_a_maker_that_raises_gives_nothing_is_logged_and_may_do_better_the_next_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answers: list[int | None] = [None, 7]

    def make() -> int:
        answer = answers.pop(0)
        if answer is None:
            raise ValueError("not yet")
        return answer

    shared = SharedAnswer(make, keep_seconds=3600, wait_seconds=30)
    with caplog.at_level(logging.ERROR):
        assert shared.get() is None
    assert "ValueError: not yet" in caplog.text
    assert shared.get() == 7
