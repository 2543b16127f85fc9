"""Which tasks are trained on, which are held out, and some of many."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from rlvr_cpp.errors import UserError
from rlvr_cpp.tasks.settings import TaskSettings
from rlvr_cpp.tasks.sources import Source, load_sources
from rlvr_cpp.tasks.task import Task


def choose_tasks(settings: TaskSettings, limit: int | None, seed: int) -> tuple[list[Task], list[Task]]:
    """`(training, held out)` of all sources that the settings name, of the latter at most `limit`."""
    return split_sources(load_sources(settings), settings.held_out_fraction, limit, seed)


def split_sources(
    sources: Sequence[Source], fraction: float, limit: int | None, seed: int
) -> tuple[list[Task], list[Task]]:
    """`(training, held out)`: as a source marks them, else a random split by the seed.

    Raises UserError where one of the two is empty.
    """
    training: list[Task] = []
    held_out: list[Task] = []
    for source in sources:
        marked = [[task for task in source.tasks if task.split == split] for split in ("train", "held_out")]
        if not all(marked):
            tasks = list(source.tasks)
            Random(seed).shuffle(tasks)
            cut = round(len(tasks) * fraction)
            marked = [tasks[cut:], tasks[:cut]]
        training += marked[0]
        held_out += marked[1]
    if not training or not held_out:
        names = " and ".join(source.name for source in sources)
        raise UserError(
            f"{names} gives {len(training)} training and {len(held_out)} held-out tasks with tasks.held_out_fraction "
            f"{fraction}: both need at least one"
        )
    return training, evenly_spaced(held_out, limit)


def evenly_spaced(tasks: Sequence[Task], limit: int | None) -> list[Task]:
    """At most `limit` tasks, evenly spaced, so that every part of the list is represented."""
    if limit is None or limit >= len(tasks):
        return list(tasks)
    return [tasks[i * len(tasks) // limit] for i in range(limit)]
