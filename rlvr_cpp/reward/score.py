"""What a policy is paid for judged completions: by their tests alone, or by more (`configured.open_score`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlvr_cpp.reward.tiers import binary_reward, compute_reward
from rlvr_cpp.verifier.program import Program
from rlvr_cpp.verifier.result import VerifyResult

if TYPE_CHECKING:
    from rlvr_cpp.tasks.task import Task


@dataclass(frozen=True)
class Judged:
    """A completion and its verdict."""

    task: Task
    prefix: str
    """The beginning of the answer that was given with the prompt."""
    completion: str
    """What the policy wrote behind prompt and prefix."""
    program: Program
    result: VerifyResult
    group: str
    """Names the completions that it is compared with."""


Payment = Callable[[Sequence[Judged]], Sequence[float | None]]
"""Judged completions to rewards, in order; None is unscorable."""


@dataclass(frozen=True)
class Score:
    """How results become rewards; None is unscorable."""

    primary: Callable[[VerifyResult], float | None] | None
    """By the tests alone: what a group is kept or discarded by. None where that is what is paid."""
    paid: Payment
    """What the policy is paid: the same, the shaped reward, or one of the user's own."""


def _one_by_one(reward: Callable[[VerifyResult], float | None]) -> Score:
    return Score(reward, lambda judged: [reward(one.result) for one in judged])


BY_TESTS = _one_by_one(compute_reward)
"""The tiers of `compute_reward`."""
BY_PASSING = _one_by_one(binary_reward)
"""1 for a pass and 0 for anything else."""
