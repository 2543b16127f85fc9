"""Who may become active: every condition alone keeps a version out, and all of them are told at once."""

from typing import Any

import pytest

from rlvr_cpp.adapters.registry.gate import DEFAULT_RULE, Rule, compare_records, decide
from rlvr_cpp.adapters.registry.versions import Transition, Version
from rlvr_cpp.runs.evidence import Decoding
from tests.rlvr_cpp.adapters.registry.shelves import BASE_HASH, CONTRACT, TASKS, adapter_hash, record


def version(number: int, word: str) -> Version:
    history = (
        Transition(sequence=number, when="2026-11-27T09:00:00+00:00", who="me@here", before=None, after="draft"),
    )
    return Version(
        project="demo", number=number, adapter_hash=adapter_hash(word), artifact_id="id", base_model="tiny-cpp", base_hash=BASE_HASH,
        training_method="gspo", history=history,
    )  # fmt: skip


NEW, OLD = version(2, "new"), version(1, "old")


def problems(new, old, incumbent=OLD, rule=DEFAULT_RULE) -> tuple[str, ...]:
    return decide(NEW, incumbent, new, old, rule).problems


def test_a_clearly_better_adapter_may_replace_the_active_one():
    assert problems(record("new", 50), record("old", 40)) == ()


def test_the_same_outcomes_are_not_worse():
    assert problems(record("new", 40), record("old", 40)) == ()


def outcomes(passing) -> dict[str, tuple[bool, ...]]:
    return {f"t{i:02d}": (i in passing,) for i in range(TASKS)}


def test_better_on_average_but_not_beyond_chance_is_not_enough():
    new = record("new", 0, greedy=outcomes({*range(10, 42)}))  # 12 gained, 10 lost
    (problem,) = problems(new, record("old", 30))
    assert problem.startswith("the interval reaches below 0: greedy pass@1 0.500 -> 0.533, +0.033 [-0.1")


def test_delta_allows_a_loss_of_that_size():
    new = record("new", 0, greedy=outcomes({*range(1, 31)}))  # 1 gained, 1 lost
    assert problems(new, record("old", 30)) != ()
    assert problems(new, record("old", 30), rule=Rule(delta=0.1)) == ()


def test_the_first_adapter_has_to_beat_the_base():
    base = record(None, 30)
    assert problems(record("new", 31), base, incumbent=None) == ()
    (problem,) = problems(record("new", 30), base, incumbent=None)
    assert problem.startswith("not better than the base")


OTHER_CONTRACT = {**CONTRACT, "timeout": 3.0}
REFUSED: dict[str, Any] = {
    "too few tasks": ({"rule": Rule(min_tasks=61)}, "fewer than min_tasks 61"),
    "another adapter's evidence": ({"new": record("other", 50)}, "adapter_hash of the evidence is not that of demo@v2"),
    "evidence on another base": ({"new": record("new", 50, model_hash="c" * 64)}, "model_hash of the evidence is not"),
    "held against another adapter": ({"old": record("other", 40)}, "adapter_hash of what it is held against is not that of demo@v1"),
    "held against another base": ({"old": record("old", 40, model_hash="c" * 64)}, "model_hash of what it is held against"),
    "another benchmark": ({"new": record("new", 50, benchmark_hash="d" * 64)}, "benchmark_hash: 'dddd"),
    "another judge": ({"new": record("new", 50, contract=OTHER_CONTRACT)}, "contract timeout: 3.0 and 2.0"),
    "another decoding": ({"new": record("new", 50, decoding=Decoding(temperature=0.5, max_new_tokens=128, samples=0, greedy=True, seed=0))}, "decoding temperature: 0.5 and 1.0"),
    "invalid": ({"new": record("new", 50, status="INVALID", reason="3 tasks")}, "status: INVALID (3 tasks)"),
    "public tests": ({"new": record("new", 50, split="public"), "old": record("old", 40, split="public")}, "split is 'public', not 'hidden'"),
    "a prefix given": ({"new": record("new", 50, prefix_frac=0.5), "old": record("old", 40, prefix_frac=0.5)}, "prefix_frac is 0.5, not 0"),
    "nothing measured": ({"new": record("new", 50, greedy={}), "old": record("old", 40, greedy={})}, "share no outcome"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_condition_that_does_not_hold_is_named(case):
    changed, words = REFUSED[case]
    found = problems(**{"new": record("new", 50), "old": record("old", 40), **changed})
    assert any(words in problem for problem in found), found


def test_all_that_speaks_against_it_is_told_at_once():
    found = problems(record("other", 50, split="public", contract=OTHER_CONTRACT), record("old", 40))
    assert len(found) == 4


def test_the_first_adapter_is_not_held_against_another_adapter():
    (problem,) = problems(record("new", 50), record("old", 40), incumbent=None)
    assert "is not that of no adapter, the base alone" in problem


def sampled(word, rates, greedy):
    rows = {f"t{i:02d}": (True,) * rate + (False,) * (4 - rate) for i, rate in enumerate(rates)}
    return record(
        word,
        greedy,
        samples=rows,
        decoding=Decoding(temperature=1.0, max_new_tokens=128, samples=4, greedy=True, seed=0),
    )


def test_samples_decide_where_both_have_them_and_greedy_must_not_be_worse():
    better, worse = [3] * TASKS, [2] * TASKS
    assert list(compare_records(sampled("new", better, 30), sampled("old", worse, 30))) == ["sampled pass@1", "greedy pass@1"]  # fmt: skip
    assert problems(sampled("new", better, 30), sampled("old", worse, 32)) == ()
    (problem,) = problems(sampled("new", better, 20), sampled("old", worse, 40))
    assert problem.startswith("worse beyond chance: greedy pass@1 0.667 -> 0.333")


def test_unjudged_completions_count_in_no_rate():
    new = record("new", 50, greedy={**outcomes(range(50)), "t00": (None,)})
    compared = compare_records(new, record("old", 40))["greedy pass@1"]
    assert compared.difference.tasks == TASKS - 1
    assert compared.old == pytest.approx(39 / 59)


def test_the_log_gets_numbers_that_can_be_checked():
    evidence = decide(NEW, OLD, record("new", 50), record("old", 40), DEFAULT_RULE).evidence
    assert evidence["new"] == record("new", 50).record_id
    facts = evidence["measured"]["greedy pass@1"]
    assert facts["difference"] == pytest.approx(10 / 60)
    assert facts["low"] <= facts["difference"] <= facts["high"]
    assert facts["tasks"] == TASKS


def test_numbers_of_records_that_cannot_be_compared_are_not_quoted():
    decision = decide(NEW, OLD, record("new", 50, benchmark_hash="d" * 64), record("old", 40), DEFAULT_RULE)
    assert decision.evidence["measured"] == {}


def test_a_record_of_the_wrong_adapter_stays_wrong_whatever_it_says():
    assert problems(record("other", TASKS), record("old", 0)) != ()
