"""Curriculum of code completion: the policy is given the beginning of a known solution and has to write the rest.

StepCoder (arXiv 2402.01391) starts where little is left to write and moves the start towards the beginning as the
policy learns. Two rules say where: a fraction of the solution that shrinks by a step (`line`), or the paper's, start
points at the solution's conditional statements (`conditional`). Either way what is given is whole lines and never all
of them.

Less is given where the average rate since the last move exceeds a threshold: one lucky group moves nothing. `line`
weighs the last observations most and asks for three of them. Until a task has as many of its own it goes with all
tasks together; from then on its level is its own.

A given prefix is part of the prompt: no loss term may count it. It also makes compiling easier by itself, so only
numbers measured without one say how good a policy is.
"""

from __future__ import annotations

import dataclasses
import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean
from typing import TYPE_CHECKING, Any

from rlvr_cpp.tasks.task import Task
from rlvr_cpp.training.rollout import Rollout
from rlvr_cpp.verifier.cpp.lexemes import lexemes, parse, walk

if TYPE_CHECKING:
    from rlvr_cpp.training.config import StepCoderConfig

CONDITIONALS = frozenset(
    ("if_statement", "for_statement", "for_range_loop", "while_statement", "do_statement", "switch_statement")
)
DIGITS = 9  # 0.7 - 7 * 0.1 is not 0 in floating point
MEMORY = {"line": 0.9, "conditional": 1.0}
"""What the weight of an observation is multiplied by with each that follows."""
LEAST_OBSERVED = {"line": 3, "conditional": 1}
"""How many observations an average needs before it says anything."""


@dataclass(frozen=True)
class GroupOutcome:
    """How the completions of one prompt fared."""

    task_id: str
    compile_rate: float
    """The share of the group that compiled."""
    pass_rate: float
    """The share of the group that passed every test."""
    judged: bool = True
    """False where the infrastructure failed for any member: such rates move nothing."""
    has_reference: bool = True
    """False where the task has no solution of which a part could be given: such a group has no say."""


@dataclass
class Level:
    """How far one task, or all of them together, have come."""

    fraction: float
    """The longest prefix that is given, a share of the solution's characters; with `conditional` at the start."""
    moves: int = 0
    """How many start points are left behind; only `conditional` counts them, at the last one too."""
    observed: int = 0
    """How many batches there were."""
    since_move: int = 0
    """How many of them since something else was given."""
    rate_sum: float = 0.0
    """Their rates, weighted."""
    weight_sum: float = 0.0

    def take(self, rate: float, memory: float) -> None:
        """Add the rate of one more batch."""
        self.observed += 1
        self.since_move += 1
        self.rate_sum = memory * self.rate_sum + rate
        self.weight_sum = memory * self.weight_sum + 1.0

    def begin_anew(self, fraction: float) -> None:
        """Give another fraction: what was observed so far says nothing about it."""
        self.fraction, self.since_move, self.rate_sum, self.weight_sum = fraction, 0, 0.0, 0.0


class PrefixCurriculum:
    """Which prefix each task is given: by a level of all tasks together, and by its own once that is known.

    It depends on what was observed alone, not on who was asked for: processes that observe the same agree.
    """

    def __init__(self, settings: StepCoderConfig) -> None:
        self.settings = settings
        self._common = Level(settings.cccs_init_frac)
        self._levels: dict[str, Level] = {}

    @property
    def fraction(self) -> float:
        """What a task is given that has no level of its own."""
        return self._common.fraction

    def prefix(self, task: Task) -> str:
        """The part of the solution that is put behind the prompt: whole lines, often none.

        It stays the same until the next `observe`.
        """
        return (task.reference or "")[: self._cut(task)]

    def observe(self, groups: Iterable[GroupOutcome]) -> None:
        """Take in a whole batch: each task, and the common level, moves by one step at most.

        A task of which a group was not judged stays, and so does the common level.
        """
        by_task: defaultdict[str, list[GroupOutcome]] = defaultdict(list)
        for group in groups:
            if group.has_reference:
                by_task[group.task_id].append(group)
        for task_id, own in by_task.items():
            if all(group.judged for group in own):
                self._observe_task(self._levels.setdefault(task_id, Level(self.fraction)), self._rate(own))
        everyone = [group for own in by_task.values() for group in own]
        if everyone and all(group.judged for group in everyone):
            average = self._average(self._common, self._rate(everyone))
            if average is not None:
                self._shorten(self._common, average)

    def mean_fraction(self, tasks: Iterable[Task]) -> float:
        """The share of its solution that a task is given, on average over those that have one; 0 where none has."""
        shares = [self._cut(task) / len(task.reference) for task in tasks if task.reference]
        return fmean(shares) if shares else 0.0

    def state(self) -> dict[str, Any]:
        """All levels, as JSON has them."""
        levels = {task_id: dataclasses.asdict(level) for task_id, level in self._levels.items()}
        return {"common": dataclasses.asdict(self._common), "tasks": levels}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken, under the same settings."""
        self._common = Level(**state["common"])
        self._levels = {task_id: Level(**level) for task_id, level in state["tasks"].items()}

    @property
    def _at_conditionals(self) -> bool:
        return self.settings.cccs_boundary == "conditional"

    def _cut(self, task: Task) -> int:
        level = self._levels.get(task.task_id)
        if level is None or not self._is_own(level):
            level = self._common
        reference = task.reference or ""
        if not self._at_conditionals:
            return cut_at_fraction(reference, level.fraction)
        offsets = (0, *conditional_starts(task.prompt, reference))
        longest = kept_units(len(reference), level.fraction)
        stages = [offsets[start] for start in conditional_stages(len(offsets) - 1) if offsets[start] <= longest]
        return stages[min(level.moves, len(stages) - 1)]

    def _rate(self, groups: Iterable[GroupOutcome]) -> float:
        by_passing = self._at_conditionals or self.settings.cccs_metric == "pass_rate"
        return fmean(group.pass_rate if by_passing else group.compile_rate for group in groups)

    def _is_own(self, level: Level) -> bool:
        """Whether a task's level says enough to be gone by."""
        return level.observed >= LEAST_OBSERVED[self.settings.cccs_boundary]

    def _observe_task(self, level: Level, rate: float) -> None:
        if not self._is_own(level) and level.fraction != self.fraction:
            level.begin_anew(self.fraction)
        average = self._average(level, rate)
        if average is None:
            return
        if not self._at_conditionals:
            self._shorten(level, average)
        elif exceeds(average, self.settings.cccs_decay_threshold):
            level.moves += 1
            level.begin_anew(level.fraction)

    def _shorten(self, level: Level, average: float) -> None:
        settings = self.settings
        fraction = next_fraction(
            level.fraction,
            average,
            threshold=settings.cccs_decay_threshold,
            step=settings.cccs_decay_step,
            minimum=settings.cccs_min_prefix_frac,
        )
        if fraction != level.fraction:
            level.begin_anew(fraction)

    def _average(self, level: Level, rate: float) -> float | None:
        """A level's average with one more rate; None where that says nothing yet."""
        boundary = self.settings.cccs_boundary
        level.take(rate, MEMORY[boundary])
        return level.rate_sum / level.weight_sum if level.since_move >= LEAST_OBSERVED[boundary] else None


def next_fraction(fraction: float, rate: float, *, threshold: float, step: float, minimum: float) -> float:
    """The fraction for the next batch: a step less, but not below `minimum`, where `rate` exceeds `threshold`."""
    return max(minimum, round(fraction - step, DIGITS)) if exceeds(rate, threshold) else fraction


def exceeds(rate: float, threshold: float) -> bool:
    """Whether a rate is greater, by more than what a mean of floating-point numbers may be off."""
    return round(rate - threshold, DIGITS) > 0


def kept_units(count: int, fraction: float) -> int:
    """How many of `count` units are at most `fraction` of them."""
    return math.floor(fraction * count + 1e-9)


def conditional_stages(count: int) -> list[int]:
    """StepCoder's start points for a solution with `count` conditionals, each as the number of the conditional.

    From the last conditional on, about sqrt(count) of them at equal distances, then 0: nothing is given.
    """
    if count == 0:
        return [0]
    curricula = math.isqrt(count - 1) + 1
    return [*range(count, 0, -math.ceil(count / curricula)), 0]


def cut_points(text: str) -> list[int]:
    """The offsets at which a prefix of `text` may end, 0 first: beginnings of lines.

    No line that begins inside of a comment or a literal, or that a backslash joins with the one before, and none
    behind the last line of code: something is always left to write.
    """
    pieces = [lexeme for lexeme in lexemes(text) if lexeme.kind != "comment"]
    code = max((piece.end for piece in pieces if piece.kind != "newline"), default=0)
    return [0, *(piece.end for piece in pieces if piece.kind == "newline" and piece.end < code)]


def cut_at_fraction(text: str, fraction: float) -> int:
    """Where the longest prefix ends that may be given and has at most `fraction` of the characters."""
    return _at_or_before(cut_points(text), kept_units(len(text), fraction))


@lru_cache(maxsize=4096)
def conditional_starts(prompt: str, reference: str) -> tuple[int, ...]:
    """The offsets in `reference` of the lines in which its conditional statements begin, in order.

    Each line once. What begins in the prompt, or so early that the prefix would be empty, is no start point.
    """
    points = cut_points(reference)
    source = (prompt + reference).encode(errors="replace")
    begin = len(prompt.encode(errors="replace"))
    found = set()
    for node in walk(parse(source)):
        if node.type in CONDITIONALS and node.start_byte >= begin:
            offset = len(source[begin : node.start_byte].decode(errors="replace"))
            found.add(_at_or_before(points, offset))
    return tuple(sorted(found - {0}))


def _at_or_before(points: list[int], offset: int) -> int:
    return points[bisect_right(points, offset) - 1]


def group_outcomes(rollouts: Sequence[Rollout], group_size: int) -> list[GroupOutcome]:
    """How each group of a batch fared, for the curriculum."""
    groups = [rollouts[start : start + group_size] for start in range(0, len(rollouts), group_size)]
    return [
        GroupOutcome(
            group[0].task_id,
            compile_rate=sum(rollout.result.compile_ok for rollout in group) / group_size,
            pass_rate=sum(rollout.result.passed for rollout in group) / group_size,
            judged=all(rollout.primary is not None for rollout in group),
            has_reference=group[0].has_reference,
        )
        for group in groups
    ]
