"""Reference solutions that fail their own tests, found before anything is trained on them.

A file whose references fail has tests, or a shape, that no right answer passes either: every reward from it is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

from rlvr_cpp.errors import UserError
from rlvr_cpp.runs.console import console
from rlvr_cpp.tasks.choice import evenly_spaced
from rlvr_cpp.tasks.completion import read_completion
from rlvr_cpp.tasks.task import Task
from rlvr_cpp.verifier.program import Program
from rlvr_cpp.verifier.result import VerifyResult
from rlvr_cpp.verifier.verifier import Verifier
from rlvr_sandbox import SandboxError

SAMPLE = 24
MOST_FAILING = 0.1
"""The largest share of references that may fail. A data set has slips; one that fails more is read wrongly."""
SHOWN = 5


def reference_program(task: Task, hidden: bool = False) -> Program | None:
    """The task's reference as an answer to it; None where there is none."""
    if task.reference is None:
        return None
    return task.program(read_completion(task, task.reference).code, hidden)


def check_references(tasks: Sequence[Task], which: str, verifier: Verifier, source: str) -> None:
    """Judge the references of `all` tasks, of a `sample` or of `none`, and tell which fail.

    Raises UserError where too many do, SandboxError where the machine failed.
    """
    programs = {task.task_id: program for task in tasks if (program := reference_program(task)) is not None}
    known = [task for task in tasks if task.task_id in programs]
    chosen = [] if which == "none" else evenly_spaced(known, SAMPLE if which == "sample" else None)
    results = verifier.verify_many([programs[task.task_id] for task in chosen])
    failed = [(task, result) for task, result in zip(chosen, results, strict=True) if not result.passed]
    for task, result in failed:
        if result.status == "sandbox_error":
            raise SandboxError(f"the reference of {task.task_id} could not be judged: {result.stderr}")
    if not failed:
        return
    told = f"{len(failed)} of {len(chosen)} reference solutions of {source} fail: {_named(failed)}"
    if len(failed) > MOST_FAILING * len(chosen):
        raise UserError(
            f"{told}: no answer to such a task can be right, so correct the tests (`rlvr-verify` shows one), leave "
            "these tasks out, or use tasks.check_references=none"
        )
    console.print(f"warning: {told}", style="yellow", markup=False, soft_wrap=True)


def _named(failed: Sequence[tuple[Task, VerifyResult]]) -> str:
    named = ", ".join(f"{task.task_id} ({result.status})" for task, result in failed[:SHOWN])
    return named + (f" and {len(failed) - SHOWN} more" if len(failed) > SHOWN else "")
