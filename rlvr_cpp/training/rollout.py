"""Judge what the policy writes while it is still writing, and keep how each score came about.

trl's contract for a reward function returns floats only, while group rules, masks, curriculum and logs need the whole
result. So the scorer keeps the batch's rollouts and the trainer reads them right after scoring: nothing is verified
twice, and nothing travels through dataset columns but the task's id.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlvr_cpp.policy.openings import Opening
from rlvr_cpp.reward.score import BY_TESTS, Judged, Score
from rlvr_cpp.runs.samples import DIAGNOSTICS_LIMIT, SAID_LIMIT
from rlvr_cpp.tasks.completion import Candidate, read_completion
from rlvr_cpp.tasks.task import Task
from rlvr_cpp.training.groups import TIE
from rlvr_cpp.verifier.program import Program
from rlvr_cpp.verifier.result import VerifyResult
from rlvr_cpp.verifier.stream import VerificationStream
from rlvr_cpp.verifier.think import KNOWN_THOUGHTS, Thoughts
from rlvr_cpp.verifier.verifier import Verifier

if TYPE_CHECKING:
    from rlvr_cpp.training.config import GRPOConfig


@dataclass(frozen=True)
class Request:
    """What one row of a batch asks of the policy."""

    task: Task
    opening: Opening
    """The beginning of the answer that is given (CCCS); empty without."""
    group: str
    """Names the row's group in this batch."""


@dataclass(frozen=True)
class Rollout:
    """One completion of a training batch."""

    task_id: str
    prefix: str
    """The beginning of the answer that was given."""
    completion: str
    """What the policy wrote behind prompt and prefix."""
    ids: tuple[int, ...]
    """Its tokens, the end-of-sequence token included."""
    truncated: bool
    """It reached the length limit without an end."""
    primary: float | None
    """The reward of the tests alone, which group rules look at, or one of the user's own; None is unscorable."""
    reward: float | None
    """What the policy is paid: `primary`, or the shaped reward."""
    candidate: Candidate
    program: Program
    result: VerifyResult
    has_reference: bool
    """The task has a solution that a prefix could be taken of."""

    def log_line(self, step: int) -> str:
        """One line of JSON for the completions log."""
        result = self.result
        return json.dumps(
            {
                "step": step,
                "task_id": self.task_id,
                "reward": self.reward,
                "status": result.status,
                "error_class": result.error_class,
                "tests_passed": result.tests_passed,
                "tests_total": result.tests_total,
                "tokens": len(self.ids),
                "truncated": self.truncated,
                "cache_hit": result.cache_hit,
                "prefix": self.prefix,
                "completion": self.completion,
                "diagnostics": [(d.line, d.severity, d.message) for d in result.diagnostics[:DIAGNOSTICS_LIMIT]],
                "said": "" if result.status == "ok" or result.diagnostics else result.stderr[:SAID_LIMIT],
            }
        )


class RolloutScorer:
    """Takes the completions of one batch as they end and gives the batch's rollouts."""

    def __init__(
        self,
        verifier: Verifier,
        decode: Callable[[Sequence[int]], str],
        eos_ids: Collection[int],
        chat: bool,
        score: Score = BY_TESTS,
        thoughts: Thoughts = KNOWN_THOUGHTS,
    ) -> None:
        self.verifier, self.decode, self.eos_ids, self.chat, self.score = verifier, decode, eos_ids, chat, score
        self.thoughts = thoughts
        self.busy_seconds = 0.0
        """How long something of the last batch was being judged."""
        self._requests: Sequence[Request] = ()
        self._order: list[int] = []
        self._drafts: dict[int, _Draft] = {}
        self._open = ExitStack()
        self._stream: VerificationStream | None = None

    def prepare(self, tasks: Sequence[Task]) -> None:
        """These tasks' answers are judged next: while nothing is, build what they have in common."""
        self.verifier.prepare([task.program(task.prompt) for task in tasks])

    def another(self) -> RolloutScorer:
        """One for a batch that begins before this one's is done."""
        return type(self)(self.verifier, self.decode, self.eos_ids, self.chat, self.score, self.thoughts)

    def drop(self) -> None:
        """End what is being judged of an interrupted batch."""
        self._open.close()

    def begin(self, requests: Sequence[Request]) -> None:
        """A new batch; what is left of an interrupted one is dropped."""
        self.drop()
        self._requests, self._order, self._drafts = requests, [], {}
        self._stream = self._open.enter_context(self.verifier.stream())

    def submit(self, index: int, ids: Sequence[int]) -> None:
        """A row of the batch has ended: its judging begins."""
        assert self._stream is not None
        request = self._requests[index]
        text = self.decode(ids)
        candidate = read_completion(request.task, request.opening.text + text, self.chat, self.thoughts)
        draft = _Draft(tuple(ids), text, candidate, request.task.program(candidate.code))
        self._drafts[index] = draft
        self._order.append(index)
        self._stream.submit(draft.program)

    def is_dead(self, rows: Sequence[int], algorithm: GRPOConfig) -> bool:
        """Whether a group is judged already, and its tests say nothing: then nothing is learned from its rows."""
        assert self._stream is not None
        primary = self.score.primary
        if primary is None or algorithm.zero_variance == "keep":
            return False
        known = dict(zip(self._order, self._stream.known(), strict=True))
        results = [known[row] for row in rows]
        if None in results:
            return False
        metric = [primary(result) for result in results if result is not None]
        scorable = [value for value in metric if value is not None]
        return len(scorable) < 2 or max(scorable) - min(scorable) <= TIE

    def finish(self) -> list[Rollout]:
        """Every row's rollout, in order, once all are judged."""
        assert self._stream is not None
        results = dict(zip(self._order, self._stream.results(), strict=True))
        self.busy_seconds = self._stream.seconds
        self._open.close()
        rewards = self.score.paid([self._judged(i, results[i]) for i in range(len(self._requests))])
        return [self._rollout(i, results[i], reward) for i, reward in enumerate(rewards)]

    def _judged(self, index: int, result: VerifyResult) -> Judged:
        request, draft = self._requests[index], self._drafts[index]
        return Judged(request.task, request.opening.text, draft.text, draft.program, result, request.group)

    def _rollout(self, index: int, result: VerifyResult, reward: float | None) -> Rollout:
        request, draft = self._requests[index], self._drafts[index]
        return Rollout(
            task_id=request.task.task_id,
            prefix=request.opening.text,
            completion=draft.text,
            ids=draft.ids,
            truncated=draft.ids[-1] not in self.eos_ids,
            primary=reward if self.score.primary is None else self.score.primary(result),
            reward=reward,
            candidate=draft.candidate,
            program=draft.program,
            result=result,
            has_reference=bool(request.task.reference),
        )


@dataclass(frozen=True)
class _Draft:
    """A completion on its way to its verdict."""

    ids: tuple[int, ...]
    text: str
    candidate: Candidate
    program: Program


def batch_metrics(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Rates over one batch: `compile_rate`, `pass_rate`, `forged`, `truncated`, `unscorable`, `cache_hits`.

    And `tokens`, the mean length of a completion, and `prefixed`, the share that had a prefix.
    """
    scored = [r for r in rollouts if r.reward is not None]
    count, scorable = len(rollouts), max(1, len(scored))
    return {
        "compile_rate": sum(r.result.compile_ok for r in scored) / scorable,
        "pass_rate": sum(r.result.passed for r in scored) / scorable,
        "forged": sum(r.result.is_cheat for r in scored) / scorable,
        "truncated": sum(r.truncated for r in rollouts) / count,
        "unscorable": 1 - len(scored) / count,
        "cache_hits": sum(r.result.cache_hit for r in rollouts) / count,
        "tokens": sum(len(r.ids) for r in rollouts) / count,
        "prefixed": sum(bool(r.prefix) for r in rollouts) / count,
    }


def mean_reward(rollouts: Sequence[Rollout]) -> float:
    """Over scorable completions; NaN without any."""
    scored = [rollout.reward for rollout in rollouts if rollout.reward is not None]
    return sum(scored) / len(scored) if scored else math.nan
