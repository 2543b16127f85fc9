"""A curriculum whose prefixes make its tasks harder is named before the first step."""

import pytest

from rlvr_cpp import Verifier
from rlvr_cpp.policy.openings import Opening
from rlvr_cpp.policy.policy import load_policy
from rlvr_cpp.policy.settings import Sampling
from rlvr_cpp.tasks.task import BUILTIN, load_tasks
from rlvr_cpp.training.guards.prefix import answered_both_ways, prefix_finding
from rlvr_cpp.training.stepcoder.curriculum import cut_at_fraction
from tests.rlvr_cpp.training.decided import CPU, result_with

OK, WRONG, BROKEN = (result_with(status) for status in ("ok", "wrong", "compile_error"))


@pytest.mark.parametrize(
    ("pairs", "named"),
    [
        ([], ()),
        ([(OK, OK)] * 50, ()),
        ([(OK, WRONG)] * 50, ()),
        ([(WRONG, OK)] * 5, ()),  # as often as once in sixteen by chance
        ([(WRONG, OK)] * 6, ("pass 0.00 of 6 tasks with it and 1.00 without",)),
        ([(BROKEN, WRONG)] * 6 + [(OK, OK)] * 6, ("compile 0.50 of 12 tasks with it and 1.00 without",)),
        ([(BROKEN, OK)] * 20 + [(OK, BROKEN)] * 5, ("compile 0.20 of 25", "pass 0.20 of 25")),
        ([(WRONG, OK)] * 10 + [(OK, WRONG)] * 8, ()),
    ],
)
def test_what_is_below_by_more_than_chance_is_named_and_nothing_else(pairs, named):
    finding = prefix_finding(pairs)
    assert (finding is not None) == bool(named)
    if finding is not None:
        assert not finding.fatal
        assert all(words in finding.message for words in named)
        assert finding.message.count(" and 1.00 without") + finding.message.count(" and 0.80 without") == len(named)


def test_a_prefix_that_is_cut_before_it_is_tokenized_is_found_and_one_of_whole_tokens_is_not():
    policy = load_policy("tiny-cpp", CPU)
    texts = {task: task.reference[: cut_at_fraction(task.reference, 0.7)] for task in load_tasks(BUILTIN)}
    texts = dict([(task, text) for task, text in texts.items() if text][::24])
    cut_first = {
        task: Opening(text, tuple(policy.tokenizer(text, add_special_tokens=False)["input_ids"]))
        for task, text in texts.items()
    }
    whole = {task: policy.opening(task, len(text)) for task, text in texts.items()}
    with Verifier(workers=2, timeout=2.0) as verifier:
        found = [
            prefix_finding(answered_both_ways(policy, openings, verifier, Sampling(0, 1.0, 96)))
            for openings in (cut_first, whole)
        ]
    assert found[0] is not None
    assert found[0].name == "prefix_harder"
    assert found[1] is None
