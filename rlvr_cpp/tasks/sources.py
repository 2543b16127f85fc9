"""Where tasks come from: one source, several together, or several that are mixed by weights.

`tasks.source` is a file or data set, a list of them, or a mapping from each to its weight. Of a list every task is
drawn as often as any other; with weights a source has its share of the prompts, however many tasks it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from rlvr_cpp.errors import UserError
from rlvr_cpp.tasks.settings import TaskSettings
from rlvr_cpp.tasks.shapes import DIFFICULTY
from rlvr_cpp.tasks.task import BUILTIN, Task, load_tasks
from rlvr_cpp.tasks.tiers import strong_enough, with_a_judge

SHIPPED = "shipped"
"""How the shipped set is called where it is one of several."""


@dataclass(frozen=True)
class Source:
    """Tasks from one place."""

    name: str
    tasks: tuple[Task, ...]
    weight: float | None = None
    """What part of the prompts it has beside the other sources; None where it has what its tasks are of all."""

    def among(self, tasks: Iterable[Task]) -> list[Task]:
        """Those of the tasks that are its own."""
        own = {task.task_id for task in self.tasks}
        return [task for task in tasks if task.task_id in own]


def load_sources(settings: TaskSettings) -> list[Source]:
    """Every source with the tasks that the settings let through.

    Raises UserError for a source that cannot be read, or of which no task is left, and for an id that two have.
    """
    sources = [
        Source(name, tuple(_filtered(_load(name, settings), settings, name)), weight)
        for name, weight in source_weights(settings.source).items()
    ]
    places: dict[str, str] = {}
    for source in sources:
        for task in source.tasks:
            if (other := places.setdefault(task.task_id, source.name)) != source.name:
                raise UserError(f"task_id {task.task_id!r} is in {other} and {source.name}: every task needs its own")
    return sources


def source_weights(source: Any) -> dict[str, float | None]:
    """The names in `tasks.source`, each with its weight, if it has one. Raises UserError."""
    if source is None or isinstance(source, str | Path):
        return {SHIPPED if source is None else str(source): None}
    if isinstance(source, Mapping) and source:
        for name, weight in source.items():
            if type(weight) not in (int, float) or not 0 < weight < inf:
                raise UserError(f"tasks.source gives {name!r} the weight {weight!r}: it must be a number above 0")
        return {str(name): float(weight) for name, weight in source.items()}
    if isinstance(source, Sequence) and source and all(isinstance(name, str) for name in source):
        if len(set(source)) < len(source):
            raise UserError(f"tasks.source is {source}: it names a source twice; to draw it more often use weights")
        return dict.fromkeys(source)
    raise UserError(
        f"tasks.source is {source!r}: it must be a file or data set, a list of them, or a mapping to weights such as "
        "{a.jsonl: 3, b.jsonl: 1}"
    )


def _load(name: str, settings: TaskSettings) -> list[Task]:
    if name == SHIPPED:
        return load_tasks(BUILTIN)
    return with_a_judge(load_tasks(name, config=settings.config, split=settings.split), name)


def _filtered(tasks: list[Task], settings: TaskSettings, name: str) -> list[Task]:
    """The tasks with one of the tags, of one of the difficulties, judged as strongly as is asked."""
    for key, prefix, wanted in (("tags", "", settings.tags), ("difficulty", DIFFICULTY, settings.difficulty)):
        if wanted is None:
            continue
        named = {prefix + word for word in wanted}
        kept = [task for task in tasks if named & set(task.tags)]
        if not kept:
            tags = sorted({tag for task in tasks for tag in task.tags if tag.startswith(prefix)})
            known = ", ".join(tag.removeprefix(prefix) for tag in tags) or "none"
            raise UserError(
                f"none of the {len(tasks)} tasks of {name} has one of tasks.{key} {wanted}: they have {known}"
            )
        tasks = kept
    return strong_enough(tasks, settings.min_tier, name)
