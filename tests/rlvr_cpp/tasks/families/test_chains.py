"""The family of StepCoder's ablation: each line alone decides, and the corpus gets each wrong on its own."""

import json
from statistics import fmean
from typing import Any

import pytest

from rlvr_cpp import Verifier
from rlvr_cpp.tasks.families import FAMILIES, split_exercises
from rlvr_cpp.tasks.families.build import main
from rlvr_cpp.tasks.families.chains import KINDS, LENGTH, TAIL, exercises, is_unforgiving
from rlvr_cpp.tasks.families.corpus import LINE_HABIT_SHARE, corpus_rows
from rlvr_cpp.tasks.families.exercise import Exercise
from rlvr_cpp.tasks.families.gate import admit, draft_task
from rlvr_cpp.tasks.task import BUILTIN, load_tasks
from rlvr_cpp.training.stepcoder.curriculum import cut_at_fraction, cut_points

SAMPLE = 2


@pytest.fixture(scope="module")
def verifier():
    with Verifier(workers=2, timeout=2.0) as verifier:
        yield verifier


@pytest.fixture(scope="module")
def split():
    return split_exercises("chains", seed=0)


@pytest.fixture(scope="module")
def sample(split):
    return [(exercise, draft_task(exercise, "train")) for exercise in split[0][:SAMPLE]]


def with_wrong_lines(exercise: Exercise, places: set[int]) -> str:
    lines = exercise.solution.splitlines(keepends=True)
    return "".join(exercise.line_habits[i] if i in places else line for i, line in enumerate(lines))


def test_it_is_not_shipped():
    assert "chains" not in FAMILIES
    assert all("chains" not in task.tags for task in load_tasks(BUILTIN))


def test_combinations_are_unique_and_the_splits_share_none(split):
    train, held_out = split
    keys = [exercise.key for exercise in (*train, *held_out)]
    assert len(set(keys)) == len(keys)
    assert len({exercise.prompt for exercise in (*train, *held_out)}) == len(keys)


def test_tasks_are_the_same_twice(sample):
    again = {exercise.key: exercise for exercise in exercises()}
    assert [draft_task(again[exercise.key], "train") for exercise, _ in sample] == [task for _, task in sample]


def test_every_line_but_the_last_ones_has_a_habit(split):
    for exercise in split[1]:
        lines = exercise.solution.removesuffix(TAIL).splitlines(keepends=True)
        assert len(lines) == len(exercise.line_habits) == LENGTH
        assert all(line != habit for line, habit in zip(lines, exercise.line_habits, strict=True))


def test_seven_tenths_of_a_solution_mostly_leave_one_decision(split):
    left = []
    for exercise in split[1]:
        cut = cut_at_fraction(exercise.solution, 0.7)
        left.append(sum(cut <= point for point in cut_points(exercise.solution)[:LENGTH]))
    assert set(left) <= {0, 1, 2}
    assert left.count(1) > 0.9 * len(left)


def test_a_chain_that_forgives_a_wrong_line_is_refused():
    triple, round_up, others = KINDS["triple"][0](4), KINDS["round_up"][0](3), KINDS["multiple"][0](5)
    assert is_unforgiving([round_up, triple, others])
    assert not is_unforgiving([others, triple, round_up])  # x is a multiple of 3 already


def test_the_oracle_agrees_with_the_compiled_reference(split, verifier):
    tasks = [draft_task(exercise, "held_out") for exercise in split[1][: 5 * SAMPLE]]
    programs = [task.program(task.prompt + task.reference, hidden) for task in tasks for hidden in (False, True)]
    assert all(result.passed for result in verifier.verify_many(programs))


def test_the_gate_admits_chains(sample, verifier):
    assert admit(sample, verifier)


def test_each_wrong_line_alone_fails_both_sets_of_tests(sample, verifier):
    programs = [
        task.program(task.prompt + with_wrong_lines(exercise, {place}), hidden)
        for exercise, task in sample
        for place in range(LENGTH)
        for hidden in (False, True)
    ]
    assert [(r.compile_ok, r.passed) for r in verifier.verify_many(programs)] == [(True, False)] * len(programs)


def test_the_corpus_never_shows_a_held_out_chain(split):
    held_out = {exercise.prompt for exercise in split[1]}
    assert held_out.isdisjoint(row["prompt"] for row in corpus_rows(["chains"], 0, 3000))


def test_the_corpus_gets_each_line_wrong_on_its_own(split):
    by_prompt = {exercise.prompt: exercise for exercise in split[0]}
    wrong: list[list[Any]] = [[] for _ in range(LENGTH)]
    for row in corpus_rows(["chains"], 0, 2000):
        exercise, lines = by_prompt[row["prompt"]], row["completion"].splitlines(keepends=True)
        for place, habit in enumerate(exercise.line_habits):
            wrong[place].append(lines[place] == habit)
    for place in range(LENGTH):
        assert fmean(wrong[place]) == pytest.approx(LINE_HABIT_SHARE, abs=0.05)
    both = fmean(first and second for first, second in zip(wrong[0], wrong[1], strict=True))
    assert both == pytest.approx(LINE_HABIT_SHARE**2, abs=0.05)
    assert (1 - LINE_HABIT_SHARE) ** LENGTH < 0.01


def test_the_command_writes_the_tasks_and_the_corpus_of_one_family(tmp_path, monkeypatch):
    monkeypatch.setattr("rlvr_cpp.tasks.families.build.BATCH", 1)
    tasks, corpus = tmp_path / "tasks.jsonl", tmp_path / "corpus.jsonl"
    for arguments in (
        ["tasks", "--family", "chains", "--train", "1", "--held-out", "1", "--out", str(tasks)],
        ["corpus", "--family", "chains", "--rows", "5", "--out", str(corpus)],
    ):
        monkeypatch.setattr("sys.argv", ["rlvr-families", *arguments])
        main()
    assert [(task.tags, task.split) for task in load_tasks(tasks)] == [
        (("chains",), "train"),
        (("chains",), "held_out"),
    ]
    assert len([json.loads(line) for line in corpus.read_text().splitlines()]) == 5
