"""Which tasks are trained on, which are held out, and some of many."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from rlvr_cpp.errors import UserError
from rlvr_cpp.tasks.settings import TaskSettings
from rlvr_cpp.tasks.task import BUILTIN, Task, load_tasks
from rlvr_cpp.tasks.tiers import strong_enough


def choose_tasks(settings: TaskSettings, limit: int | None, seed: int) -> tuple[list[Task], list[Task]]:
    """`(training, held out)`: as the source marks them, else a random split by the seed.

    Those below `tasks.min_tier` are left out. Raises UserError where one of the two is empty.
    """
    source = settings.source or BUILTIN
    tasks = _tagged(load_tasks(source, config=settings.config, split=settings.split), settings.tags, str(source))
    tasks = strong_enough(tasks, settings.min_tier, source)
    training = [task for task in tasks if task.split == "train"]
    held_out = [task for task in tasks if task.split == "held_out"]
    if not training or not held_out:
        Random(seed).shuffle(tasks)
        cut = round(len(tasks) * settings.held_out_fraction)
        held_out, training = tasks[:cut], tasks[cut:]
    if not training or not held_out:
        raise UserError(
            f"{source} gives {len(training)} training and {len(held_out)} held-out tasks with tasks.held_out_fraction "
            f"{settings.held_out_fraction}: both need at least one"
        )
    return training, evenly_spaced(held_out, limit)


def _tagged(tasks: list[Task], tags: list[str] | None, source: str) -> list[Task]:
    """The tasks with one of the tags. Raises UserError where there is none."""
    tagged = [task for task in tasks if tags is None or set(tags) & set(task.tags)]
    if not tagged:
        known = ", ".join(sorted({tag for task in tasks for tag in task.tags})) or "no tags"
        raise UserError(f"none of the {len(tasks)} tasks of {source} has one of tasks.tags {tags}: they have {known}")
    return tagged


def evenly_spaced(tasks: Sequence[Task], limit: int | None) -> list[Task]:
    """At most `limit` tasks, evenly spaced, so that every part of the list is represented."""
    if limit is None or limit >= len(tasks):
        return list(tasks)
    return [tasks[i * len(tasks) // limit] for i in range(limit)]
