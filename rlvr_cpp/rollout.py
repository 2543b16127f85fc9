"""Score what the policy wrote, and keep how each score came about.

trl's contract for a reward function returns floats only, while group rules, masks and logs need the whole result. So
the reward object keeps the last batch's rollouts and the trainer reads them right after scoring: nothing is verified
twice, and nothing travels through dataset columns but the task's id.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlvr_cpp.completion import read_completion
from rlvr_cpp.result import CHEATS, VerifyResult
from rlvr_cpp.reward import compute_reward
from rlvr_cpp.tasks import Task
from rlvr_cpp.verifier import Verifier


@dataclass(frozen=True)
class Rollout:
    """One completion of a training batch."""

    task_id: str
    completion: str
    tokens: int
    """Length of the completion, the end-of-sequence token included."""
    reward: float | None
    """None where the infrastructure failed."""
    result: VerifyResult

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
                "tokens": self.tokens,
                "cache_hit": result.cache_hit,
                "completion": self.completion,
            }
        )


class CompilerReward:
    """A reward function for trl: judges completions with a compiler and keeps the last batch in `rollouts`."""

    __name__ = "compiler"  # trl names its metrics after the function

    def __init__(self, tasks: Sequence[Task], verifier: Verifier, chat: bool) -> None:
        self.tasks: Mapping[str, Task] = {task.task_id: task for task in tasks}
        self.verifier = verifier
        self.chat = chat
        self.rollouts: list[Rollout] = []
        self.seconds = 0.0
        """Spent verifying the last batch."""

    def __call__(
        self,
        *,
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]],
        task_id: Sequence[str],
        **_: Any,
    ) -> list[float | None]:
        """The reward of each completion, None where it is unscorable."""
        started = time.monotonic()
        texts = [_text(completion) for completion in completions]
        tasks = [self.tasks[name] for name in task_id]
        programs = [
            task.program(read_completion(task, text, self.chat).code) for task, text in zip(tasks, texts, strict=True)
        ]
        results = self.verifier.verify_many(programs)
        self.rollouts = [
            Rollout(task.task_id, text, len(ids), compute_reward(result), result)
            for task, text, ids, result in zip(tasks, texts, completion_ids, results, strict=True)
        ]
        self.seconds = time.monotonic() - started
        return [rollout.reward for rollout in self.rollouts]


def _text(completion: Any) -> str:
    """A completion is text, or a conversation whose last message is the answer."""
    return completion if isinstance(completion, str) else str(completion[-1]["content"])


def batch_metrics(rollouts: Sequence[Rollout], max_tokens: int) -> dict[str, float]:
    """Rates over one batch: `compile_rate`, `pass_rate`, `forged`, `truncated`, `unscorable`, `cache_hits`.

    And `tokens`, the mean length of a completion.
    """
    scored = [r for r in rollouts if r.reward is not None]
    count, scorable = len(rollouts), max(1, len(scored))
    return {
        "compile_rate": sum(r.result.compile_ok for r in scored) / scorable,
        "pass_rate": sum(r.result.passed for r in scored) / scorable,
        "forged": sum(r.result.status in CHEATS for r in scored) / scorable,
        "truncated": sum(r.tokens >= max_tokens for r in rollouts) / count,
        "unscorable": 1 - len(scored) / count,
        "cache_hits": sum(r.result.cache_hit for r in rollouts) / count,
        "tokens": sum(r.tokens for r in rollouts) / count,
    }
