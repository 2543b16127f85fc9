"""What a policy is paid for a batch of judged programs: by their tests alone, or by more (`shaping.open_score`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rlvr_cpp.reward.tiers import binary_reward, compute_reward
from rlvr_cpp.verifier.program import Program
from rlvr_cpp.verifier.result import VerifyResult

Payment = Callable[
    [Sequence[Program], Sequence[VerifyResult], Sequence[str], Mapping[str, Program]], Sequence[float | None]
]
"""Programs, their results, the group that each is compared in and the groups' reference solutions, to rewards."""


@dataclass(frozen=True)
class Score:
    """How results become rewards; None is unscorable."""

    primary: Callable[[VerifyResult], float | None]
    """By the tests alone: what a group is kept or discarded by."""
    paid: Payment
    """What the policy is paid: the same, or the shaped reward."""


def _one_by_one(reward: Callable[[VerifyResult], float | None]) -> Score:
    return Score(reward, lambda programs, results, groups, references: [reward(result) for result in results])


BY_TESTS = _one_by_one(compute_reward)
"""The tiers of `compute_reward`."""
BY_PASSING = _one_by_one(binary_reward)
"""1 for a pass and 0 for anything else."""
