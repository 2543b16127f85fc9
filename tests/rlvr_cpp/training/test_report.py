"""The ending of a run: what is compared, what is shown, and that odd runs do not break it."""

import math

import pytest

from rlvr_cpp.evaluation.attempts import Attempt, Evaluation
from rlvr_cpp.policy.completers import Kind
from rlvr_cpp.tasks.task import Task
from rlvr_cpp.training.report import by_family, compare, format_p, pick_examples, plot_curve
from rlvr_cpp.verifier.result import VerifyResult

PASS = VerifyResult("ok", True, True, 0, tests_passed=4, tests_total=4)
FAIL = VerifyResult("wrong", True, False, 1, tests_passed=1, tests_total=4)
LOST = VerifyResult("sandbox_error", False, False)
TASKS = [Task(f"t{n}", "int f() {", "x", "f", 4, tags=(("a", "b")[n % 2],)) for n in range(4)]


def evaluation(*greedy: VerifyResult, sampled: tuple[VerifyResult, ...] = ()) -> Evaluation:
    rows: tuple[tuple[Kind, tuple[VerifyResult, ...]], ...] = (("greedy", greedy), ("sampled", sampled))
    return Evaluation(
        tuple(
            Attempt(kind=kind, task_id=TASKS[i % 4].task_id, sample=i // 4, completion="return 1; }", result=result)
            for kind, results in rows
            for i, result in enumerate(results)
        )
    )


def test_a_rise_and_its_p():
    before, after = evaluation(FAIL, FAIL, PASS, FAIL), evaluation(PASS, PASS, PASS, FAIL)
    (row,) = compare(before, after)
    assert (row.before.mean, row.after.mean, row.rise) == (0.25, 0.75, 0.5)
    assert row.p == 0.5  # two gained, none lost


def test_sampled_completions_are_averaged_by_task():
    before = evaluation(FAIL, FAIL, FAIL, FAIL, sampled=(PASS, FAIL, FAIL, FAIL, FAIL, FAIL, FAIL, FAIL))
    after = evaluation(FAIL, FAIL, FAIL, FAIL, sampled=(PASS, PASS, FAIL, FAIL, PASS, FAIL, FAIL, FAIL))
    _, once, twice = compare(before, after)
    assert (once.measure, once.before.mean, once.after.mean) == ("sampled pass@1", 0.125, 0.375)
    assert (twice.measure, twice.before.mean, twice.after.mean) == ("pass@2", 0.25, 0.5)


def test_what_could_not_be_judged_counts_in_no_rate():
    before, after = evaluation(LOST, FAIL, PASS, FAIL), evaluation(PASS, PASS, PASS, LOST)
    assert before.unscorable == 1
    assert before.greedy_pass_at_1().mean == pytest.approx(1 / 3)
    (row,) = compare(before, after)  # two tasks were judged both times, and one of them gained
    assert (row.before.mean, row.after.mean, row.p) == (0.5, 1.0, 1.0)
    assert by_family(TASKS, before, after) == [("a", 1, 1.0, 1.0), ("b", 1, 0.0, 1.0)]


def test_an_evaluation_that_could_not_be_judged_is_no_number():
    lost = evaluation(LOST, LOST, LOST, LOST)
    (row,) = compare(lost, evaluation(PASS, PASS, PASS, PASS))
    assert math.isnan(row.before.mean)
    assert math.isnan(row.rise)


def test_examples_are_those_that_began_to_pass_one_a_family():
    before, after = evaluation(PASS, FAIL, FAIL, FAIL), evaluation(PASS, PASS, PASS, PASS)
    examples = pick_examples(TASKS, before, after, 3)
    assert [example["task_id"] for example in examples] == ["t1", "t2"]
    assert examples[0]["before"]["outcome"] == "1 of 4 hidden tests pass"
    assert examples[0]["after"]["passed"]


def test_without_a_change_there_are_examples_all_the_same():
    same = evaluation(FAIL, FAIL, FAIL, FAIL)
    assert len(pick_examples(TASKS, same, same, 3)) == 2


def test_a_step_without_a_reward_is_a_gap(tmp_path):
    steps = [{"step": n, "reward": None if n == 2 else 0.5, "compile_rate": 1.0, "pass_rate": 0.0} for n in (1, 2, 3)]
    plot_curve(steps, [(0, 0.1), (3, 0.2)], [(0, {"1": 0.1, "2": 0.2}), (3, {"1": 0.2})], tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("p", "text"), [(0.0215, "0.021"), (1.0, "1"), (3.2e-9, "3e-09")])
def test_p_is_short(p, text):
    assert format_p(p) == text
