"""The generated exercises: deterministic, disjoint splits, and a gate that refuses what it should."""

import dataclasses
from random import Random
from typing import Any

import pytest

from rlvr_cpp import UserError, Verifier
from rlvr_cpp.tasks.families import FAMILIES, split_exercises
from rlvr_cpp.tasks.families.build import build_tasks
from rlvr_cpp.tasks.families.corpus import corpus_rows
from rlvr_cpp.tasks.families.exercise import MAX_SAME_ANSWER, make_tests
from rlvr_cpp.tasks.families.gate import admit, draft_task
from rlvr_cpp.tasks.families.mutation import breakages, mutants
from rlvr_cpp.tasks.task import BUILTIN, load_tasks
from rlvr_cpp.verifier.result import VerifyResult

every_family = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture(scope="module")
def verifier():
    with Verifier(workers=2, timeout=2.0) as verifier:
        yield verifier


def drafts(family: str, count: int, split: str = "train"):
    exercises = split_exercises(family, seed=0)[0 if split == "train" else 1]
    made = [(exercise, task) for exercise in exercises[: 3 * count] if (task := draft_task(exercise, split))]
    return made[:count]


def test_there_are_eight_families():
    assert len(FAMILIES) >= 8


@every_family
def test_combinations_are_unique_and_the_splits_share_none(family):
    train, held_out = split_exercises(family, seed=0)
    keys = [exercise.key for exercise in (*train, *held_out)]
    assert len(set(keys)) == len(keys) >= 100
    assert len(held_out) >= 20


@every_family
def test_the_split_depends_on_the_seed_only(family):
    assert [e.key for e in split_exercises(family, 3)[0]] == [e.key for e in split_exercises(family, 3)[0]]
    assert [e.key for e in split_exercises(family, 3)[1]] != [e.key for e in split_exercises(family, 4)[1]]


@every_family
def test_a_habit_is_not_the_solution(family):
    habits = [e for e in FAMILIES[family]() if e.habit is not None]
    assert habits
    assert all(e.habit != e.solution for e in habits)


@every_family
def test_answers_vary(family):
    exercise, _ = drafts(family, 1)[0]
    rng = Random(0)
    answers = [exercise.oracle(exercise.draw(rng)) for _ in range(200)]
    assert len(set(answers)) >= 12 // MAX_SAME_ANSWER


@every_family
def test_the_gate_measures_a_shipped_task_again(family, verifier):
    task = next(t for t in load_tasks(BUILTIN) if t.tags == (family, "habit"))
    exercise = next(e for e in FAMILIES[family]() if e.key.replace(" ", "_") == task.task_id)
    assert admit([(exercise, draft_task(exercise, task.split))], verifier) == [task]


def test_public_and_hidden_tests_differ():
    exercise, _ = drafts("reductions", 1)[0]
    assert make_tests(exercise, 8, "public") == make_tests(exercise, 8, "public")
    assert make_tests(exercise, 8, "public") != make_tests(exercise, 8, "hidden")


def test_the_gate_refuses_tests_that_a_habit_passes(verifier):
    exercise, task = drafts("bits", 1)[0]
    assert admit([(dataclasses.replace(exercise, habit=exercise.solution), task)], verifier) == []


def test_the_gate_refuses_a_wrong_reference(verifier):
    exercise, task = next((e, t) for e, t in drafts("bits", 10) if e.habit)
    assert admit([(dataclasses.replace(exercise, solution=exercise.habit), task)], verifier) == []


def test_the_gate_refuses_tests_that_a_stub_passes(verifier):
    exercise, task = drafts("bits", 1)[0]
    assert admit([(dataclasses.replace(exercise, stubs=(exercise.solution,)), task)], verifier) == []


def test_the_gate_refuses_tests_that_mutants_pass(verifier):
    exercise, task = drafts("bits", 1)[0]
    weak = dataclasses.replace(task, hidden_test='#include <cstdio>\nint main() { std::printf("PASSED 12/12\\n"); }')
    assert admit([(dataclasses.replace(exercise, stubs=("    return;\n}\n",)), weak)], verifier) == []


def test_more_tasks_than_pass_the_gate_are_refused():
    class RefusesAll:
        def verify_many(self, programs):
            return [VerifyResult("compile_error", False, False) for _ in programs]

    refuses_all: Any = RefusesAll()
    with pytest.raises(UserError, match="'bits' has 0 train tasks that pass the gate"):
        build_tasks(["bits"], 0, train=1, held_out=0, verifier=refuses_all)


@every_family
def test_shipped_tasks_are_what_the_generator_makes(family):
    shipped = [t for t in load_tasks(BUILTIN) if t.tags[0] == family]
    made = {e.key.replace(" ", "_"): e for part in split_exercises(family, 0) for e in part}
    for task in shipped:
        measured: Any = {"stub_pass_max": task.stub_pass_max, "mutant_kill_rate": task.mutant_kill_rate}
        assert dataclasses.replace(draft_task(made[task.task_id], task.split), **measured) == task


def test_the_corpus_never_shows_a_held_out_exercise():
    held_out = {e.prompt for family in FAMILIES for e in split_exercises(family, 0)[1]}
    assert held_out.isdisjoint(row["prompt"] for row in corpus_rows(list(FAMILIES), 0, 3000))


def test_the_corpus_is_the_same_twice():
    families = list(FAMILIES)
    assert list(corpus_rows(families, 0, 50)) == list(corpus_rows(families, 0, 50))
    assert list(corpus_rows(families, 0, 50)) != list(corpus_rows(families, 1, 50))


def test_edits_change_the_code():
    code = "    int r = 0;\n    if (x > r) r = x;\n    return r + 1;\n}\n"
    assert code not in mutants(code) + breakages(code)
    assert "    int r = 0;\n    if (x >= r) r = x;\n    return r + 1;\n}\n" not in mutants(code)
    assert "    int r = 0;\n    if (x > r) r = x;\n    return r - 1;\n}\n" in mutants(code)
