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
    tasks = _wanted(load_tasks(source, config=settings.config, split=settings.split), settings, str(source))
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


def _wanted(tasks: list[Task], settings: TaskSettings, source: str) -> list[Task]:
    """The tasks with the right tags and a prompt that is not too long. Raises UserError where there is none."""
    most = settings.max_prompt_length
    tagged = [task for task in tasks if settings.tags is None or set(settings.tags) & set(task.tags)]
    wanted = [task for task in tagged if most is None or len(task.prompt) <= most]
    if not wanted:
        raise UserError(
            f"none of the {len(tasks)} tasks of {source} is wanted: {len(tagged)} have one of tasks.tags "
            f"{settings.tags}, and of these none a prompt of at most tasks.max_prompt_length {most} characters"
        )
    return wanted


def evenly_spaced(tasks: Sequence[Task], limit: int | None) -> list[Task]:
    """At most `limit` tasks, evenly spaced, so that every part of the list is represented."""
    if limit is None or limit >= len(tasks):
        return list(tasks)
    return [tasks[i * len(tasks) // limit] for i in range(limit)]
