"""Which tasks to ask: those of which a group is expected to tell answers apart.

A task that is passed with probability p has rewards of variance p (1 - p): nothing is learned from what always or never
passes ("learnability", arXiv 2502.12272; DAPO, arXiv 2503.14476, discards such groups after they were paid for). What
is known of p are passes and failures so far; a task is drawn in proportion to p (1 - p) as expected under the Beta
distribution that they leave of a uniform one. So a task that was never asked has two thirds of the largest weight, and
one that is never solved keeps a little. All that is known fades with every step, for the policy changes: what was never
solved is asked again, and so is what always was.

A draw depends on what was observed and on the number of the step alone, so that processes agree and a run that goes on
draws as it would have.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from random import Random
from statistics import fmean
from typing import Any

MEMORY = 0.98
"""What a step leaves of what was known: half of it after 34 steps."""


class LearnableTasks:
    """Draws tasks by what is known of their pass rates."""

    def __init__(self, tasks: Mapping[str, Sequence[str]], shares: Mapping[str, float], seed: int) -> None:
        """`tasks` are the ids of each source, `shares` what part of the prompts it has."""
        self.tasks, self.shares, self.seed = tasks, shares, seed
        self._known: dict[str, tuple[float, float]] = {}
        """Passes and failures of each task that was asked, faded."""

    def take(self, count: int, step: int, number: int = 0, without: Collection[str] = ()) -> list[str]:
        """The ids that round `number` of `step` asks, all different, none of those in `without` while others are left.

        By exponential clocks: the smallest `count` of each task's own, whose rate is its weight.
        """
        random = Random(f"learnability:{self.seed}:{step}:{number}")
        clocks = {task: random.expovariate(weight) for task, weight in self._weights().items()}
        return sorted(clocks, key=lambda task: (task in without, clocks[task]))[:count]

    def observe(self, answers: Iterable[tuple[str, bool]]) -> None:
        """Take in a whole step: the task of each answer that was judged, and whether it passed."""
        self._known = {task: (MEMORY * passed, MEMORY * failed) for task, (passed, failed) in self._known.items()}
        for task, is_pass in answers:
            passed, failed = self._known.get(task, (0.0, 0.0))
            self._known[task] = (passed + is_pass, failed + (not is_pass))

    def learnability(self, task: str) -> float:
        """The expected p (1 - p), in (0, 1/4]."""
        a, b = (1 + count for count in self._known.get(task, (0.0, 0.0)))
        return a * b / ((a + b) * (a + b + 1))

    def gain(self, drawn: Collection[str]) -> float:
        """The mean learnability of these tasks over that of all: 1 is what a uniform draw has."""
        everyone = [task for own in self.tasks.values() for task in own]
        return fmean(map(self.learnability, drawn)) / fmean(map(self.learnability, everyone))

    def state(self) -> dict[str, Any]:
        """What is known, as JSON has it."""
        return {task: list(counts) for task, counts in self._known.items()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        self._known = {task: (passed, failed) for task, (passed, failed) in state.items()}

    def _weights(self) -> dict[str, float]:
        """Learnability, in each source scaled to the source's share."""
        weights: dict[str, float] = {}
        for source, own in self.tasks.items():
            values = {task: self.learnability(task) for task in own}
            scale = self.shares[source] / sum(values.values())
            weights |= {task: scale * value for task, value in values.items()}
        return weights
