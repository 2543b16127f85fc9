"""Attempts at tasks: what a model wrote, what the judge said of it, and the rates of many.

What the infrastructure failed to judge is unscorable: it counts in no rate, and an evaluation that goes on asks for it
again.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from rlvr_cpp.policy.completers import GREEDY, SAMPLED, Kind
from rlvr_cpp.runs.evidence import Outcomes, task_scores
from rlvr_cpp.runs.files import JsonLines, read_lines, replace_text
from rlvr_cpp.runs.statistics import Estimate, pass_rate
from rlvr_cpp.tasks.task import Task
from rlvr_cpp.verifier.result import VerifyResult


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One completion of one task and what became of it."""

    kind: Kind
    task_id: str
    sample: int
    """Which of the task's completions of this kind, from 0."""
    completion: str
    result: VerifyResult

    @property
    def key(self) -> tuple[Kind, str, int]:
        """Which question it answers."""
        return self.kind, self.task_id, self.sample

    @property
    def passed(self) -> bool | None:
        """It passed every test; None where the infrastructure failed to judge it."""
        return None if self.result.status == "sandbox_error" else self.result.passed

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Attempt:
        """What `to_json` wrote."""
        row = json.loads(line)
        return cls(**{**row, "result": VerifyResult.from_json(json.dumps(row["result"]))})


@dataclass(frozen=True)
class Evaluation:
    """Attempts at the same tasks."""

    attempts: tuple[Attempt, ...]
    """The greedy one of every task, then the first sampled one of every task, then the second."""

    def of(self, kind: Kind) -> tuple[Attempt, ...]:
        """The attempts of one kind."""
        return tuple(attempt for attempt in self.attempts if attempt.kind == kind)

    def outcomes(self, kind: Kind) -> Outcomes:
        """By task: did each of its completions pass."""
        found: dict[str, tuple[bool | None, ...]] = {}
        for attempt in self.of(kind):
            found[attempt.task_id] = (*found.get(attempt.task_id, ()), attempt.passed)
        return found

    @property
    def unscorable(self) -> int:
        """Attempts that the infrastructure failed to judge; they count in no rate."""
        return sum(attempt.passed is None for attempt in self.attempts)

    @property
    def samples(self) -> int:
        """Sampled completions of each task."""
        return max((attempt.sample + 1 for attempt in self.of(SAMPLED)), default=0)

    def greedy_pass_at_1(self) -> Estimate:
        """With Wilson's interval; NaN where nothing could be judged."""
        return pass_rate([bool(score) for score in task_scores(self.outcomes(GREEDY)).values()])

    def pass_at_k(self) -> dict[int, float]:
        """Unbiased, by k: for 1 and the number of samples, over the tasks that were judged as often."""
        scores = {k: task_scores(self.outcomes(SAMPLED), k) for k in ends(self.samples)}
        return {k: fmean(values.values()) for k, values in scores.items() if values}

    def over(self, tasks: Iterable[Task]) -> Evaluation:
        """The attempts at these tasks alone."""
        names = {task.task_id for task in tasks}
        return Evaluation(tuple(attempt for attempt in self.attempts if attempt.task_id in names))

    def save(self, path: Path) -> None:
        """Every attempt, one JSON object a line; all or nothing."""
        replace_text(path, "".join(attempt.to_json() + "\n" for attempt in self.attempts))

    @classmethod
    def load(cls, path: Path) -> Evaluation:
        """What `save` wrote."""
        return cls(tuple(read_lines(path, Attempt.from_json)))


def ends(samples: int) -> tuple[int, ...]:
    """The least and the greatest k that so many samples are good for; none without samples."""
    return tuple(sorted({1, samples} - {0})) if samples else ()


def in_order(attempts: Collection[Attempt], tasks: Sequence[Task]) -> Evaluation:
    """The attempts as one evaluation of the tasks, whoever made them and whenever."""
    place = {task.task_id: n for n, task in enumerate(tasks)}
    return Evaluation(tuple(sorted(attempts, key=lambda a: (a.kind != GREEDY, a.sample, place[a.task_id]))))


def open_samples(path: Path) -> JsonLines[Attempt]:
    """`samples.jsonl`, to be added to. What it knows need not be made again; what could not be judged is taken out."""
    return JsonLines(path, Attempt.from_json, lambda attempt: attempt.passed is not None)
