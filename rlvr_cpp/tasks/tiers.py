"""How strongly the tests of a task are kept from an answer, known before there is one.

Tests that share the process of what they judge can be written to: such a task pays a full pass or nothing, and a run
that is given some says so. `tasks.min_tier` leaves them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from rlvr_cpp.errors import UserError
from rlvr_cpp.runs.console import console
from rlvr_cpp.tasks.shapes import FILES, INTERACTIVE, OWN_CHECKER
from rlvr_cpp.tasks.task import Task
from rlvr_cpp.verifier.status import IN_PROCESS, Tier
from rlvr_cpp.verifier.tiers.observer.planner import why_in_process
from rlvr_cpp.verifier.tiers.oracle import split

STRENGTH: tuple[Tier, ...] = ("none", "marker", "observer", "oracle", "cases")
"""The weakest first, as far as they can be told of a task; `marker` is any tier in the candidate's process."""
SHOWN = 5
"""Tasks that a remark names."""
NEEDED = {OWN_CHECKER: "checker_program", INTERACTIVE: "interactor", FILES: "standard input"}
"""Without which nobody here can judge a task that has the tag: a field, or what no field can give."""


@lru_cache(maxsize=8192)
def tier_of(task: Task, hidden: bool = False) -> tuple[Tier, str]:
    """The tier of a task's public or hidden tests, and why it is in the answer's process if it is.

    That is what texts say, in some milliseconds; what only a compiler finds is told by the first result.
    """
    program = task.program("", hidden)
    if program.cases:
        return "cases", ""
    if program.test is None:
        return "none", ""
    if split(program.test, program.declaration, "", program.reference) is not None:
        return "oracle", ""
    why = why_in_process(program)
    return ("marker", why) if why else ("observer", "")


def with_a_judge(tasks: Sequence[Task], where: object) -> list[Task]:
    """The tasks that can be judged here; how many others are left out is told. Raises UserError where there are none.

    Where many outputs are right, comparing them with one of them would call right answers wrong.
    """
    missing = {
        task.task_id: field
        for task in tasks
        for tag, field in NEEDED.items()
        if tag in task.tags and getattr(task, field, None) is None
    }
    if not missing:
        return list(tasks)
    count = f"{len(missing)} of {len(tasks)} tasks are" if len(missing) < len(tasks) else "every task is"
    named = ", ".join(f"{name} has no {field}" for name, field in list(missing.items())[:SHOWN])
    sentence = f"{where}: {count} judged by what is not there ({named}): a checker or interactor is a program in C++"
    if len(missing) == len(tasks):
        raise UserError(sentence)
    console.print(f"{sentence}, they are left out", markup=False, soft_wrap=True)
    return [task for task in tasks if task.task_id not in missing]


def strong_enough(tasks: Sequence[Task], least: str, where: object) -> list[Task]:
    """The tasks whose tier is `least` or stronger. Raises UserError where there are none."""
    floor = STRENGTH.index(least)
    kept = [task for task in tasks if floor <= 1 or STRENGTH.index(tier_of(task)[0]) >= floor]
    if not kept:
        reason = next(iter(tier_of(task)[1] for task in tasks), "") or "its tests are judged otherwise"
        raise UserError(f"{where} has no task of tasks.min_tier {least!r}: the first one is weaker, {reason}")
    return kept


def tier_remarks(tasks: Sequence[Task]) -> list[str]:
    """What has to be said about tasks whose tests share a process with the answers."""
    shared = [(task, why) for task in tasks for tier, why in [tier_of(task)] if tier in IN_PROCESS]
    if not shared:
        return []
    named = ", ".join(f"{task.task_id} ({why})" for task, why in shared[:SHOWN])
    more = f" and {len(shared) - SHOWN} more" if len(shared) > SHOWN else ""
    return [
        f"{len(shared)} of {len(tasks)} tasks ({len(shared) / len(tasks):.0%}) have tests that share the answer's "
        f"process and pay a full pass or nothing: {named}{more}; tasks.min_tier=observer leaves them out"
    ]
