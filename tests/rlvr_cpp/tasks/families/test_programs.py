"""The family of whole programs: tasks of input and output that the gate admits, and that are not shipped."""

import pytest

from rlvr_cpp import Verifier
from rlvr_cpp.tasks.families import FAMILIES, split_exercises
from rlvr_cpp.tasks.families.corpus import corpus_rows
from rlvr_cpp.tasks.families.gate import HIDDEN_TESTS, PUBLIC_TESTS, admit, draft_task
from rlvr_cpp.verifier.cases import Case


@pytest.fixture(scope="module")
def split():
    return split_exercises("programs", seed=0)


def test_it_is_not_shipped_and_its_splits_share_nothing(split):
    assert "programs" not in FAMILIES
    train, held_out = ({exercise.prompt for exercise in part} for part in split)
    assert train.isdisjoint(held_out)
    assert held_out.isdisjoint(row["prompt"] for row in corpus_rows(["programs"], 0, 2000))


def test_a_draft_is_put_to_cases_that_no_constant_passes(split):
    task = draft_task(split[0][0], "train")
    assert (len(task.cases), len(task.hidden_cases), task.test) == (PUBLIC_TESTS, HIDDEN_TESTS, "")
    assert max(map([case.stdout for case in task.cases].count, (case.stdout for case in task.cases))) <= 2
    assert draft_task(split[0][0], "train") == task


def test_cases_say_what_the_words_of_the_prompt_say(split):
    exercise = next(e for e in (*split[0], *split[1]) if e.combination == ("sum", "squares of elements", "odd"))
    text = exercise.check([1, 2, 3], 10)
    assert Case(text, str(exercise.oracle([1, 2, 3]))) == Case("3\n1 2 3\n", "10")


def test_the_gate_admits_programs(split):
    exercise = next(exercise for exercise in split[0] if exercise.habit)
    with Verifier(workers=2, timeout=2.0) as verifier:
        assert admit([(exercise, draft_task(exercise, "train"))], verifier)
