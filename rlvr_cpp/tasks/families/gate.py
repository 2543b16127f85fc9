"""The quality gate: no task enters unless its tests tell right from wrong.

The reference passes all tests, public and hidden, and the habit, where there is one, fails both. Every stub (a
completion that does no work) passes fewer than a fifth of the hidden ones. Mutants of the reference are rejected by
the hidden ones, four in five or more; those that do not compile say nothing and are not counted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import Any

from rlvr_cpp.tasks.families.exercise import Exercise, make_cases, make_tests
from rlvr_cpp.tasks.families.mutation import mutants
from rlvr_cpp.tasks.task import Task
from rlvr_cpp.verifier.program import Program
from rlvr_cpp.verifier.result import VerifyResult
from rlvr_cpp.verifier.verifier import Verifier
from rlvr_sandbox import SandboxError

PUBLIC_TESTS, HIDDEN_TESTS = 8, 12
MUTANTS = 8
MIN_MUTANTS = 3  # fewer that compile say too little; a one-line bit trick has no more
MAX_STUB_SHARE = 0.2
MIN_KILL_RATE = 0.8


def draft_task(exercise: Exercise, split: str) -> Task | None:
    """The exercise as a task that no gate has seen; None where its answers vary too little for tests."""
    try:
        tests = _cases(exercise) if exercise.is_program else _tests(exercise)
    except ValueError:
        return None
    return Task(
        task_id=exercise.key.replace(" ", "_"),
        prompt=exercise.prompt,
        entry_point=exercise.entry_point,
        reference=exercise.solution,
        callees=exercise.callees,
        tags=(exercise.family, *(("habit",) if exercise.habit else ())),
        split=split,
        **tests,
    )


def _tests(exercise: Exercise) -> dict[str, Any]:
    public, hidden = make_tests(exercise, PUBLIC_TESTS, "public"), make_tests(exercise, HIDDEN_TESTS, "hidden")
    return {
        "test": public.code,
        "tests_declared": public.count,
        "hidden_test": hidden.code,
        "hidden_tests_declared": hidden.count,
    }


def _cases(exercise: Exercise) -> dict[str, Any]:
    public, hidden = make_cases(exercise, PUBLIC_TESTS, "public"), make_cases(exercise, HIDDEN_TESTS, "hidden")
    return {"test": "", "cases": public, "hidden_cases": hidden}


def admit(drafts: Sequence[tuple[Exercise, Task]], verifier: Verifier) -> list[Task]:
    """The drafts that pass the gate, with what it measured in them."""
    programs = [program for exercise, task in drafts for program in trial_programs(exercise, task)]
    results = iter(verifier.verify_many(programs))
    admitted = []
    for exercise, task in drafts:
        trials = Trials(*(list(islice(results, len(bodies))) for bodies in _bodies(exercise)))
        measured = measure(task, trials)
        if measured is not None:
            admitted.append(measured)
    return admitted


@dataclass(frozen=True)
class Trials:
    """What became of everything that the gate tries on one task."""

    references: list[VerifyResult]
    habits: list[VerifyResult]
    stubs: list[VerifyResult]
    mutants: list[VerifyResult]


def trial_programs(exercise: Exercise, task: Task) -> list[Program]:
    """The programs of the trials: reference and habit with both sets of tests, stubs and mutants with the hidden."""
    references, habits, stubs, edits = _bodies(exercise)
    both = [
        task.program(task.prompt + body, hidden) for body in (*references[:1], *habits[:1]) for hidden in (False, True)
    ]
    return both + [task.program(task.prompt + body, hidden=True) for body in (*stubs, *edits)]


def _bodies(exercise: Exercise) -> tuple[list[str], list[str], list[str], list[str]]:
    habits = [] if exercise.habit is None else [exercise.habit] * 2
    return [exercise.solution] * 2, habits, list(exercise.stubs), _chosen_mutants(exercise)


def _chosen_mutants(exercise: Exercise) -> list[str]:
    edits = mutants(exercise.solution)
    return Random(exercise.key).sample(edits, min(MUTANTS, len(edits)))


def measure(task: Task, trials: Trials) -> Task | None:
    """The task with its measurements, or None where it fails the gate."""
    for result in (*trials.references, *trials.habits, *trials.stubs, *trials.mutants):
        if result.status == "sandbox_error":
            raise SandboxError(f"{task.task_id} could not be judged: {result.stderr}")
    if not all(result.passed for result in trials.references) or any(result.passed for result in trials.habits):
        return None
    killed = [not result.passed for result in trials.mutants if result.compile_ok]
    if len(killed) < MIN_MUTANTS:
        return None
    stub_share = max(result.tests_passed / HIDDEN_TESTS for result in trials.stubs)
    kill_rate = sum(killed) / len(killed)
    if stub_share >= MAX_STUB_SHARE or kill_rate < MIN_KILL_RATE:
        return None
    return dataclasses.replace(task, stub_pass_max=round(stub_share, 4), mutant_kill_rate=round(kill_rate, 4))
