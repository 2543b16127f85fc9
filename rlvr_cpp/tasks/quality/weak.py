"""Tasks whose tests say too little: an answer that does no work passes them all.

Trying that takes a dozen small programs a task. A run tries a sample of the tasks that it is handed; `rlvr-tasks check`
tries all, and what it finds stands in the task from then on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from rlvr_cpp.runs.console import progress_bar
from rlvr_cpp.tasks.choice import evenly_spaced
from rlvr_cpp.tasks.quality.degenerate import degenerate_answers
from rlvr_cpp.tasks.task import Task
from rlvr_cpp.verifier.cpp.loops import counts_what_an_answer_repeats
from rlvr_cpp.verifier.result import VerifyResult
from rlvr_cpp.verifier.verifier import Verifier
from rlvr_sandbox import SandboxError

REPEATS = "an item that is counted twice"
"""What is let through by a harness that counts in a loop over the answer, or in what the answer calls back."""
SAMPLE = 12
SHOWN = 5
"""Tasks that a remark names."""


def check_tasks(tasks: Sequence[Task], verifier: Verifier) -> list[Task]:
    """The tasks with what their tests, public or hidden, let through; empty where they are good.

    That is each answer without work that passes, and `REPEATS`. Those whose answers cannot be made from a signature
    keep what they had. Raises SandboxError where the machine failed.
    """
    ways = [degenerate_answers(task) for task in tasks]
    programs = [
        task.program(code, hidden)
        for task, answers in zip(tasks, ways, strict=True)
        for code in answers.values()
        for hidden in _tests(task)
    ]
    with progress_bar("answers without work", len(programs)) as advance:
        results = iter(verifier.verify_many(programs, advance))
    return [_checked(task, answers, results) for task, answers in zip(tasks, ways, strict=True)]


def _checked(task: Task, answers: Mapping[str, str], results: Iterator[VerifyResult]) -> Task:
    passing = []
    for name in answers:
        tried = list(islice(results, len(_tests(task))))
        for result in tried:
            if result.machine_failed:
                raise SandboxError(f"{task.task_id} could not be checked: {result.stderr}")
        passing += [name] if any(result.passed for result in tried) else []
    counts = any(test is not None and counts_what_an_answer_repeats(test) for test in (task.test, task.hidden_test))
    if counts:
        passing.append(REPEATS)
    return dataclasses.replace(task, weak=tuple(passing)) if answers or counts else task


def _tests(task: Task) -> tuple[bool, ...]:
    """The public tests, and the hidden ones where there are any."""
    return (False, True) if task.has_hidden else (False,)


def is_known(task: Task) -> bool:
    """It was checked, or admitted by the gate of the families, whose stubs are answers of this kind."""
    return task.weak is not None or task.stub_pass_max is not None


def try_unknown(tasks: Sequence[Task], which: str, verifier: Verifier) -> list[Task]:
    """The tasks, `all` or a `sample` or `none` of those that nothing is known of checked. Raises SandboxError."""
    unknown = [task for task in tasks if not is_known(task) and degenerate_answers(task)]
    chosen = [] if which == "none" else evenly_spaced(unknown, SAMPLE if which == "sample" else None)
    checked = {task.task_id: task for task in check_tasks(chosen, verifier)} if chosen else {}
    return [checked.get(task.task_id, task) for task in tasks]


def weak_remarks(tasks: Sequence[Task]) -> list[str]:
    """What has to be said about tasks before a policy is paid by their tests."""
    weak = [task for task in tasks if task.weak]
    tried = sum(map(is_known, tasks))
    unknown = sum(not is_known(task) and bool(degenerate_answers(task)) for task in tasks)
    remarks, hint = [], "rlvr-tasks check FILE --out FILE"
    if weak:
        named = ", ".join(f"{task.task_id} ({task.weak[0]})" for task in weak[:SHOWN] if task.weak)
        more = f" and {len(weak) - SHOWN} more" if len(weak) > SHOWN else ""
        remarks.append(
            f"{len(weak)} of {tried} tasks that were tried are weak, their tests let through what is no answer: "
            f"{named}{more}"
        )
    if unknown:
        remarks.append(f"{unknown} of {len(tasks)} tasks were never tried with answers without work: {hint}")
    return remarks
