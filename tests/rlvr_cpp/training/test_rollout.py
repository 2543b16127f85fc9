"""The scorer of a batch: completions come in as they end, rollouts go out in the order of rows."""

import json
import math

import pytest

from rlvr_cpp import Verifier
from rlvr_cpp.policy.openings import Opening
from rlvr_cpp.reward.own import OwnReward
from rlvr_cpp.reward.score import BY_PASSING, Score
from rlvr_cpp.tasks.task import Task
from rlvr_cpp.training.config import GRPOConfig
from rlvr_cpp.training.rollout import Request, RolloutScorer, batch_metrics, mean_reward
from rlvr_cpp.training.stepcoder.curriculum import group_outcomes
from rlvr_cpp.verifier.cases import Case

EOS = 0
TASK = Task(
    task_id="twice",
    prompt="int twice(int x) {\n",
    test="#include <cassert>\nint main() { assert(twice(2) == 4); assert(twice(0) == 0); }",
    entry_point="twice",
    reference="    int y = x;\n    return y + y;\n}\n",
)


SUM = Task(
    task_id="sum",
    prompt="// Reads two numbers, prints their sum.\n#include <cstdio>\nint main() {\n",
    test="",
    entry_point="main",
    cases=(Case("1 2", "3"), Case("2 2", "4")),
    time_limit=1.0,
)


def encode(text: str, ended: bool = True) -> list[int]:
    return [ord(letter) for letter in text] + [EOS] * ended


def decode(ids) -> str:
    return "".join(chr(i) for i in ids if i != EOS)


def requests(*prefixes: str) -> list[Request]:
    return [Request(TASK, Opening(prefix), "1:0:twice") for prefix in prefixes]


@pytest.fixture
def scorer():
    with Verifier(workers=2, timeout=2.0) as verifier:
        yield RolloutScorer(verifier, decode, [EOS], chat=False)


def test_rollouts_come_in_the_order_of_rows_whatever_ended_first(scorer):
    texts = ["    return 2 * x;\n}\n", "    return x;\n}\n", "    return z;\n}\n"]
    scorer.begin(requests("", "", ""))
    for row in (2, 0, 1):
        scorer.submit(row, encode(texts[row]))
    rollouts = scorer.finish()
    assert [rollout.completion for rollout in rollouts] == texts
    assert [rollout.reward for rollout in rollouts] == pytest.approx([1.0, 0.65, 0.0])
    assert scorer.busy_seconds > 0


def test_a_program_of_input_and_output_earns_its_share_of_cases(scorer):
    reads = '    int a, b;\n    if (std::scanf("%d %d", &a, &b) != 2) return 1;\n    std::printf("%d", '
    scorer.begin([Request(SUM, Opening(""), "1:0:sum")] * 3)
    for row, body in enumerate([f"{reads}a + b);\n}}\n", f"{reads}2 * b);\n}}\n", "    std::puts(3)\n}\n"]):
        scorer.submit(row, encode(body))
    assert [rollout.reward for rollout in scorer.finish()] == pytest.approx([1.0, 0.65, 0.0])


def test_a_prefix_stands_before_the_completion_and_is_not_part_of_it(scorer):
    prefix = "    int y = x;\n"
    scorer.begin(requests(prefix))
    scorer.submit(0, encode("    return y + y;\n}\n"))
    (rollout,) = scorer.finish()
    assert rollout.reward == 1.0
    assert rollout.program.code.startswith(TASK.prompt + prefix)
    assert rollout.completion == "    return y + y;\n}\n"
    assert json.loads(rollout.log_line(3))["prefix"] == prefix


def test_a_completion_without_an_end_is_truncated(scorer):
    scorer.begin(requests("", ""))
    scorer.submit(0, encode("    return 2 * x;\n}\n"))
    scorer.submit(1, encode("    return 2 * x;\n}\n", ended=False))
    assert [rollout.truncated for rollout in scorer.finish()] == [False, True]


def test_a_batch_that_was_left_leaves_nothing_to_the_next(scorer):
    scorer.begin(requests("", ""))
    scorer.submit(1, encode("    return 0;\n}\n"))
    scorer.begin(requests(""))
    scorer.submit(0, encode("    return 2 * x;\n}\n"))
    assert [rollout.reward for rollout in scorer.finish()] == [1.0]


def test_a_group_is_dead_once_its_verdicts_are_there_and_say_nothing(scorer):
    scorer.begin(requests(*[""] * 4))
    for row, text in enumerate(("return x;", "return x;", "return 2 * x;", "return x;")):
        scorer.submit(row, encode(f"    {text}\n}}\n"))
    assert not scorer.is_dead([0, 1], GRPOConfig())  # nothing is compiled yet
    scorer.finish()
    assert scorer.is_dead([0, 1], GRPOConfig())
    assert not scorer.is_dead([2, 3], GRPOConfig())
    assert not scorer.is_dead([0, 1], GRPOConfig(zero_variance="keep"))


def test_a_reward_of_ones_own_decides_what_is_paid_and_which_groups_say_nothing():
    def shorter_is_better(completion, result, **_):
        return result.passed - 0.01 * len(completion)

    with Verifier(workers=1, timeout=2.0) as verifier:
        score = Score(None, OwnReward("m:f", shorter_is_better, "").values)
        scorer = RolloutScorer(verifier, decode, [EOS], chat=False, score=score)
        scorer.begin(requests("", ""))
        texts = ["    return 2 * x;\n}\n", "    return 2 * x;   \n}\n"]
        for row, text in enumerate(texts):
            scorer.submit(row, encode(text))
        rollouts = scorer.finish()
    assert [rollout.reward for rollout in rollouts] == [1 - 0.01 * len(text) for text in texts]
    assert [rollout.primary for rollout in rollouts] == [rollout.reward for rollout in rollouts]


def test_a_binary_reward_knows_passes_only():
    with Verifier(workers=2, timeout=2.0) as verifier:
        scorer = RolloutScorer(verifier, decode, [EOS], chat=False, score=BY_PASSING)
        scorer.begin(requests("", ""))
        scorer.submit(0, encode("    return 2 * x;\n}\n"))
        scorer.submit(1, encode("    return x;\n}\n"))
        rollouts = scorer.finish()
    assert [rollout.primary for rollout in rollouts] == [1.0, 0.0]
    assert mean_reward(rollouts) == 0.5


def test_what_a_batch_amounts_to(scorer):
    scorer.begin(requests("", "", "", ""))
    for row, body in enumerate(("2 * x", "x", "z", "x + x")):
        scorer.submit(row, encode(f"    return {body};\n}}\n"))
    rollouts = scorer.finish()
    metrics = batch_metrics(rollouts)
    assert (metrics["compile_rate"], metrics["pass_rate"], metrics["truncated"]) == (0.75, 0.5, 0.0)
    first, second = group_outcomes(rollouts, 2)
    assert (first.compile_rate, first.pass_rate, second.compile_rate) == (1.0, 0.5, 0.5)
    assert first.judged
    assert first.has_reference


def test_a_batch_that_nothing_could_be_said_of_has_no_reward():
    assert math.isnan(mean_reward([]))
