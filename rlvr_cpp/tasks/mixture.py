"""An endless order of tasks from several sources, each of which has its share of every stretch.

Whose turn it is follows from the weights alone: the source that is furthest behind its share. Which of its tasks comes
is its own shuffled order, all of them once before any comes again. So a seed and a number of draws say what is next,
and nothing has to be kept to go on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

from rlvr_cpp.errors import UserError
from rlvr_cpp.tasks.sources import Source
from rlvr_cpp.tasks.task import Task


class Mixture:
    """Draws ids of tasks; two of one seed draw the same."""

    def __init__(self, weights: Mapping[str, float], tasks: Mapping[str, Sequence[str]], seed: str) -> None:
        """`tasks` are the ids of each source that has a weight."""
        total = sum(weights.values())
        self.shares = {name: weight / total for name, weight in weights.items()}
        self.tasks, self._seed = tasks, seed
        self._waiting: dict[str, list[str]] = {name: [] for name in weights}
        """What is left of each source's round."""
        self._rounds = dict.fromkeys(weights, 0)
        self._drawn = dict.fromkeys(weights, 0)

    def take(self, count: int) -> list[str]:
        """The next ids, all of them different."""
        taken: list[str] = []
        for _ in range(count):
            drawn = sum(self._drawn.values()) + 1
            behind = sorted(self.shares, key=lambda name: self._drawn[name] - self.shares[name] * drawn)
            name, task = next((name, task) for name in behind if (task := self._next(name, taken)) is not None)
            self._waiting[name].remove(task)
            self._drawn[name] += 1
            taken.append(task)
        return taken

    def again(self, purpose: str) -> Mixture:
        """Another order of the same tasks, from its beginning."""
        return Mixture(self.shares, self.tasks, f"{purpose}:{self._seed}")

    def check(self, count: int) -> None:
        """Raise UserError where a source cannot give its share of so many different tasks."""
        for name, share in self.shares.items():
            if len(self.tasks[name]) < share * count:
                raise UserError(
                    f"the weights of tasks.source give {name} {share * count:.1f} of {count} prompts a step and it has "
                    f"{len(self.tasks[name])} training tasks: lower its weight or trainer.batch_size"
                )

    def _next(self, name: str, taken: Sequence[str]) -> str | None:
        """The source's next task that is not taken; None where all are."""
        waiting = self._waiting[name]
        found = next((task for task in waiting if task not in taken), None)
        if found is None and not set(self.tasks[name]) <= {*taken}:
            more = [*self.tasks[name]]
            Random(f"{self._seed}:{name}:{self._rounds[name]}").shuffle(more)
            self._rounds[name] += 1
            waiting += more
            found = next(task for task in waiting if task not in taken)
        return found


def describe_sources(sources: Sequence[Source], training: Sequence[Task]) -> list[str]:
    """Of each source how many training tasks it gives and, by their number or its weight, which part of the prompts."""
    counts = {source.name: len(source.among(training)) for source in sources}
    parts = [counts[source.name] if source.weight is None else source.weight for source in sources]
    return [
        f"{source.name}: {counts[source.name]} training tasks, {part / sum(parts):.1%} of the prompts"
        for source, part in zip(sources, parts, strict=True)
    ]


def mixture_of(sources: Sequence[Source], training: Sequence[Task], seed: int) -> Mixture | None:
    """The order in which training tasks of weighted sources are drawn; None without weights.

    Raises UserError where a source has none.
    """
    weights = {source.name: source.weight for source in sources if source.weight is not None}
    if not weights:
        return None
    tasks = {source.name: [task.task_id for task in source.among(training)] for source in sources}
    for name, ids in tasks.items():
        if not ids:
            raise UserError(f"{name} has a weight in tasks.source and no training task is left of it: leave it out")
    return Mixture(weights, tasks, str(seed))
