"""What a config pays for: the reward's kind alone decides it, for training and search alike."""

import pytest

from rlvr_cpp import Program, Verifier, VerifyResult
from rlvr_cpp.reward.configured import open_score
from rlvr_cpp.reward.score import Judged
from rlvr_cpp.reward.settings import RewardSettings
from rlvr_cpp.reward.terms import shaped_reward
from rlvr_cpp.reward.tiers import compute_reward
from rlvr_cpp.tasks.task import Task

HALF = VerifyResult("wrong", True, False, 1, tests_passed=1, tests_total=2, warnings=3)
BROKEN = VerifyResult("sandbox_error", False, False, None)
TIERS = [compute_reward(HALF), None]
PAID = {"tiers": TIERS, "binary": [0.0, None], "shaped": [shaped_reward(HALF).value, None]}
PRIMARY = {"tiers": TIERS, "binary": [0.0, None], "shaped": TIERS}


@pytest.fixture(scope="module")
def verifier():
    with Verifier(workers=1) as verifier:
        yield verifier


@pytest.mark.parametrize("kind", PAID)
def test_the_kind_of_the_reward_decides_what_is_paid_and_what_groups_are_judged_by(verifier, kind):
    task = Task("f", "int f() {\n", entry_point="f", test="int main() {}")
    judged = [Judged(task, "", "", Program("int f() { return 1; }\n"), result, "a") for result in (HALF, BROKEN)]
    with open_score(RewardSettings(kind, 0.0, 0.0), verifier, seed=0) as score:
        assert score.paid(judged) == PAID[kind]
        assert [score.primary(result) for result in (HALF, BROKEN)] == PRIMARY[kind]


def test_the_three_kinds_pay_differently():
    assert len({tuple(paid) for paid in PAID.values()}) == 3
