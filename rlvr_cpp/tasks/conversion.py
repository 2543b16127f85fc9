"""From rows of any shape to tasks of ours, with a word on every row that is left out.

A run that trains on a file refuses it for one bad row; whoever prepares a file wants to know all of them at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rlvr_cpp.errors import UserError
from rlvr_cpp.tasks.rows import Placed
from rlvr_cpp.tasks.task import Task, parse_task

SHOWN = 20
"""Rows whose trouble is told in full."""


@dataclass(frozen=True)
class Converted:
    """What became of the rows."""

    tasks: tuple[Task, ...]
    dropped: tuple[str, ...]
    """A sentence for each row that is no task of ours."""
    twins: tuple[str, ...]
    """A sentence for each row that says what an earlier one has said."""

    def report(self) -> Iterator[str]:
        """Lines that tell all of it."""
        total = len(self.tasks) + len(self.dropped) + len(self.twins)
        known, unusable = len(self.twins), len(self.dropped)
        yield f"{len(self.tasks)} of {total} rows are tasks, {known} were there before, {unusable} cannot be used"
        kinds = Counter("cases" if task.cases else "a test" for task in self.tasks)
        yield "judged by " + (", ".join(f"{kind}: {count}" for kind, count in sorted(kinds.items())) or "nothing")
        yield f"with a reference: {sum(task.reference is not None for task in self.tasks)}"
        yield from self.dropped[:SHOWN]
        yield from self.twins[:SHOWN]
        if (hidden := max(0, len(self.dropped) - SHOWN) + max(0, len(self.twins) - SHOWN)) > 0:
            yield f"and {hidden} more"


def convert_rows(rows: Iterable[Placed]) -> Converted:
    """The tasks in the rows, each once. Raises UserError where none is usable."""
    tasks: dict[str, Task] = {}
    said: dict[tuple[object, ...], str] = {}
    dropped: list[str] = []
    twins: list[str] = []
    for where, row in rows:
        try:
            task = parse_task(row, where)
        except UserError as error:
            dropped.append(str(error))
            continue
        twin = said.setdefault((task.prompt, task.test, task.cases), task.task_id)
        if twin != task.task_id or task.task_id in tasks:
            twins.append(f"{where}: {task.task_id!r} is {twin!r} once more")
        else:
            tasks[task.task_id] = task
    if not tasks:
        raise UserError(f"no row can be used: {dropped[0] if dropped else 'there are none'}")
    return Converted(tuple(tasks.values()), tuple(dropped), tuple(twins))


def find_task(tasks: Sequence[Task], name: str | None, source: str) -> Task:
    """The task of this name, or the first one. Raises UserError where there is none."""
    found = next((task for task in tasks if name is None or task.task_id == name), None)
    if found is None:
        raise UserError(f"{source} has no task {name!r}: its first is {tasks[0].task_id!r}")
    return found


def describe_task(task: Task) -> str:
    """How an answer to it is judged, in lines."""
    if task.cases:
        hidden = len(task.hidden_cases or ())
        how = f"compared as {task.checker}" if task.checker_program is None else "compared by a program of its own"
        judged = f"{len(task.cases)} cases, {hidden} hidden, {how if task.interactor is None else 'interactive'}"
    else:
        counts = ["?" if count is None else str(count) for count in (task.tests_declared, task.hidden_tests_declared)]
        judged = f"{counts[0]} tests" + (f", {counts[1]} hidden" if task.hidden_test is not None else "")
    reference = "with a reference" if task.reference is not None else "without a reference"
    return (
        f"{task.task_id}: {task.entry_point}, {task.std}, {judged}, {reference}, tags: {', '.join(task.tags) or 'none'}"
    )
