"""Tasks of this library as a task set of Prime Intellect's verifiers: `taskset = { id = "rlvr-cpp-tasks" }`.

Lay this file where Python finds it. docs/frameworks.md says how prime-rl is started on it.
"""

from __future__ import annotations

from collections.abc import Iterable

import verifiers.v1 as vf

from rlvr_cpp.reward.rows import row_of
from rlvr_cpp.reward.verifiers import compiler_reward
from rlvr_cpp.tasks.task import BUILTIN, load_tasks

__all__ = ["CppTasks"]

REQUEST = (
    "Complete this C++ so that it does what its comment says. Answer with one ```cpp code block.\n\n"
    "```cpp\n{prompt}\n```"
)


class CppData(vf.TaskData):
    """The tests, in the fields that `compiler_reward` reads."""

    test: str | None = None
    cases: str | None = None
    tests_declared: int | None = None
    checker: str = "tokens"
    declaration: str | None = None
    entry_point: str = ""
    std: str = "c++17"


class CppTask(vf.Task[CppData]):
    """One task, paid by the compiler."""

    @vf.reward
    async def compiler(self, trace: vf.Trace) -> float:
        """The tiers of `compute_reward`; an error on the trace where nothing could be judged."""
        return await compiler_reward(self.data, trace)


class CppConfig(vf.TasksetConfig):
    """Which tasks."""

    source: str = str(BUILTIN)
    split: str = "train"


class CppTasks(vf.Taskset[CppTask, CppConfig]):
    """The tasks of one split of a file."""

    def load(self) -> Iterable[CppTask]:
        """All of them, in their order."""
        for task in load_tasks(self.config.source):
            if task.split == self.config.split:
                data = CppData(name=task.task_id, prompt=REQUEST.format(prompt=task.prompt), **row_of(task))
                yield CppTask(data, self.config.task)
