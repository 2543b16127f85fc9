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
    """Judge the references of `all` tasks, of a `sample` or of `none`, and tell which fail or judge themselves.

    Raises UserError where too many do, SandboxError where the machine failed.
    """
    programs = {task.task_id: program for task in tasks if (program := reference_program(task)) is not None}
    known = [task for task in tasks if task.task_id in programs]
    chosen = [] if which == "none" else evenly_spaced(known, SAMPLE if which == "sample" else None)
    results = verifier.verify_many([programs[task.task_id] for task in chosen])
    failed = [(task, result) for task, result in zip(chosen, results, strict=True) if not result.passed]
    for task, result in failed:
        if result.machine_failed:
            raise SandboxError(f"the reference of {task.task_id} could not be judged: {result.stderr}")
    judged = [task.task_id for task, result in zip(chosen, results, strict=True) if result.self_judged]
    if judged:
        told = f"{len(judged)} of {len(chosen)} tasks of {source} are judged by the answer's own operators"
        told += f" or by counts that it could write to: {_listed(judged)}"
        _warn(f"{told}; a test that compares plain values is stronger")
    if not failed:
        return
    told = f"{len(failed)} of {len(chosen)} reference solutions of {source} fail: {_named(failed)}"
    if len(failed) > MOST_FAILING * len(chosen):
        raise UserError(
            f"{told}: no answer to such a task can be right, so correct the tests (`rlvr-verify` shows one), leave "
            "these tasks out, or use tasks.check_references=none"
        )
    _warn(told)


def _warn(told: str) -> None:
    console.print(f"warning: {told}", style="yellow", markup=False, soft_wrap=True)


def _named(failed: Sequence[tuple[Task, VerifyResult]]) -> str:
    return _listed([f"{task.task_id} ({_why(result)})" for task, result in failed])


def _why(result: VerifyResult) -> str:
    return result.stderr if result.status == "sandbox_error" else result.status


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
