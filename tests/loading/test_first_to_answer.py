"""Who is asked for reference data, one after the other, and which error it is where nobody answers."""

from datetime import UTC, datetime

import pytest

from tickstock_assets.domain.errors import (
    BadKeyError,
    NotEntitledError,
    ProviderError,
    QuotaExhaustedError,
    TransientProviderError,
)
from tickstock_assets.loading.lineup import Lineup
from tickstock_assets.loading.reference import first_to_answer
from tickstock_assets.providers.base import Provider
from tickstock_assets.providers.sample import SampleProvider

NOON = datetime(2024, 7, 3, 12, tzinfo=UTC)
CUT, NOT_IN_PLAN = TransientProviderError("cut"), NotEntitledError("not in the plan")
USED_UP, WRONG_KEY = QuotaExhaustedError("used up", NOON), BadKeyError("wrong key")


def asked(*answers: ProviderError | str, next_on_quota: bool = False) -> str:
    """Ask as many providers as there are answers, each of which gives or raises its own."""
    left = list(answers)

    def ask(_: Provider) -> str:
        answer = left.pop(0)
        if isinstance(answer, ProviderError):
            raise answer
        return answer

    return first_to_answer(Lineup([SampleProvider() for _ in answers], next_on_quota=next_on_quota), ask)[1]


def test_who_does_not_answer_is_left_out() -> None:
    assert asked(CUT, NOT_IN_PLAN, "splits") == "splits"


@pytest.mark.parametrize(
    ("refusals", "kind", "said"),
    [
        ([CUT], TransientProviderError, "cut"),
        ([CUT, NOT_IN_PLAN], TransientProviderError, "cut; not in the plan"),
        ([NOT_IN_PLAN, CUT], TransientProviderError, "not in the plan; cut"),
        # Nobody need ask again before something is changed.
        ([NOT_IN_PLAN, NOT_IN_PLAN], ProviderError, "not in the plan; not in the plan"),
        ([CUT, WRONG_KEY], BadKeyError, "wrong key"),
        ([CUT, USED_UP], QuotaExhaustedError, "used up"),
    ],
)
def test_where_nobody_answers_it_is_a_fault_of_the_moment_if_one_of_theirs_is(
    refusals: list[ProviderError], kind: type[ProviderError], said: str
) -> None:
    with pytest.raises(ProviderError) as refused:
        asked(*refusals)
    assert (type(refused.value), str(refused.value)) == (kind, said)


def test_a_used_up_budget_is_told_before_a_fault_of_the_moment() -> None:
    with pytest.raises(QuotaExhaustedError) as refused:
        asked(USED_UP, CUT, next_on_quota=True)
    assert refused.value.until == NOON
