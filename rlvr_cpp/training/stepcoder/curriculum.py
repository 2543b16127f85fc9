"""Curriculum of code completion: the policy is given the beginning of a known solution and has to write the rest.

StepCoder (arXiv 2402.01391) starts where little is left to write and moves the start towards the beginning as the
policy learns. Two rules say where: a fraction of the solution that shrinks by a step whenever a group does well enough
(`line`), or the paper's, start points at the solution's conditional statements (`conditional`). Either way what is
given is whole lines and never all of them, and every task has a level of its own.

A given prefix is part of the prompt: no loss term may count it. It also makes compiling easier by itself, so only
numbers measured without one say how good a policy is.
"""

from __future__ import annotations

import dataclasses
import math
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from statistics import fmean
from typing import TYPE_CHECKING, Any

import tree_sitter_cpp
from tree_sitter import Language, Node, Parser

from rlvr_cpp.tasks.task import Task
from rlvr_cpp.training.rollout import Rollout
from rlvr_cpp.verifier.cpp.lexemes import LEXEME

if TYPE_CHECKING:
    from rlvr_cpp.training.config import StepCoderConfig

CONDITIONALS = frozenset(
    ("if_statement", "for_statement", "for_range_loop", "while_statement", "do_statement", "switch_statement")
)
DIGITS = 9  # 0.7 - 7 * 0.1 is not 0 in floating point


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
    """How far one task has come."""

    fraction: float
    """The longest prefix that it is given, a share of the solution's characters; with `conditional` at the start."""
    moves: int = 0
    """How many start points it has left behind; only `conditional` counts them, at the last one too."""
    rate_sum: float = 0.0
    """The sum of the rates of all batches since the current start point was reached."""
    batches: int = 0
    """How many batches those are."""


class PrefixCurriculum:
    """Which prefix each task is given: a level for every task, and a global one where new tasks begin.

    It depends on what was observed alone, not on who was asked for: processes that observe the same agree.
    """

    def __init__(self, settings: StepCoderConfig) -> None:
        self.settings = settings
        self.fraction = settings.cccs_init_frac
        """Where a task begins that was never observed."""
        self._levels: dict[str, Level] = {}

    def prefix(self, task: Task) -> str:
        """The part of the solution that is put behind the prompt: whole lines, often none.

        It stays the same until the next `observe`.
        """
        return (task.reference or "")[: self._cut(task)]

    def observe(self, groups: Iterable[GroupOutcome]) -> None:
        """Take in a whole batch: each task, and the global fraction, moves by one step at most.

        A task of which a group was not judged stays, and so does the global fraction. A task that is new gets the
        level that it was asked at.
        """
        by_task: defaultdict[str, list[GroupOutcome]] = defaultdict(list)
        for group in groups:
            if group.has_reference:
                by_task[group.task_id].append(group)
        for task_id, own in by_task.items():
            if all(group.judged for group in own):
                self._advance(self._levels.setdefault(task_id, Level(self.fraction)), self._rate(own))
        everyone = [group for own in by_task.values() for group in own]
        if everyone and all(group.judged for group in everyone):
            self.fraction = self._lowered(self.fraction, self._rate(everyone))

    def mean_fraction(self, tasks: Iterable[Task]) -> float:
        """The share of its solution that a task is given, on average over those that have one; 0 where none has."""
        shares = [self._cut(task) / len(task.reference) for task in tasks if task.reference]
        return fmean(shares) if shares else 0.0

    def state(self) -> dict[str, Any]:
        """All levels, as JSON has them."""
        levels = {task_id: dataclasses.asdict(level) for task_id, level in self._levels.items()}
        return {"fraction": self.fraction, "tasks": levels}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken, under the same settings."""
        self.fraction = state["fraction"]
        self._levels = {task_id: Level(**level) for task_id, level in state["tasks"].items()}

    @property
    def _at_conditionals(self) -> bool:
        return self.settings.cccs_boundary == "conditional"

    def _cut(self, task: Task) -> int:
        level = self._levels.get(task.task_id) or Level(self.fraction)
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

    def _advance(self, level: Level, rate: float) -> None:
        if not self._at_conditionals:
            level.fraction = self._lowered(level.fraction, rate)
            return
        level.rate_sum += rate
        level.batches += 1
        if exceeds(level.rate_sum / level.batches, self.settings.cccs_decay_threshold):
            level.moves, level.rate_sum, level.batches = level.moves + 1, 0.0, 0

    def _lowered(self, fraction: float, rate: float) -> float:
        return next_fraction(
            fraction,
            rate,
            threshold=self.settings.cccs_decay_threshold,
            step=self.settings.cccs_decay_step,
            minimum=self.settings.cccs_min_prefix_frac,
        )


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
    plain = LEXEME.sub(_masked, text)
    code = len(plain.rstrip())
    return [0, *(match.end() for match in re.finditer(r"(?<!\\)\n", plain) if match.end() < code)]


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
    unread = [_parser().parse(source).root_node]
    while unread:
        node: Node = unread.pop()
        unread.extend(node.children)
        if node.type in CONDITIONALS and node.start_byte >= begin:
            offset = len(source[begin : node.start_byte].decode(errors="replace"))
            found.add(_at_or_before(points, offset))
    return tuple(sorted(found - {0}))


def _at_or_before(points: list[int], offset: int) -> int:
    return points[bisect_right(points, offset) - 1]


def _masked(lexeme: re.Match[str]) -> str:
    """As many spaces for a comment, as many letters for anything else."""
    text = lexeme.group()
    return (" " if text.startswith(("//", "/*")) else "x") * len(text)


@cache
def _parser() -> Parser:
    return Parser(Language(tree_sitter_cpp.language()))


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
