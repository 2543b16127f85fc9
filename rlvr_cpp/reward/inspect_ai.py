"""A scorer for inspect_ai: `Task(dataset=..., solver=generate(), scorer=rlvr_cpp.reward.inspect_ai.compiler())`.

The fields that `rlvr_cpp.reward.rows` describes stand in a sample's metadata; its target may stand for `test`. What the
infrastructure failed to judge is an error of its sample, never a score.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlvr_cpp.reward.rows import read_program, shared_verifier
from rlvr_cpp.reward.tiers import compute_reward
from rlvr_cpp.verifier.result import VerifyResult
from rlvr_sandbox import SandboxError


def compiler() -> Any:
    """The scorer: the reward of each answer."""
    from inspect_ai.scorer import Score, mean, scorer, stderr

    async def score(state: Any, target: Any) -> Any:
        answer = state.output.completion
        result = await judged(answer, state.metadata, target.text)
        reward = compute_reward(result)
        if reward is None:
            raise SandboxError(f"an answer could not be judged and must not be scored: {result.stderr}")
        return Score(value=reward, answer=answer, explanation=result.stderr or result.status)

    return scorer(metrics=[mean(), stderr()], name="compiler")(lambda: score)()


async def judged(answer: str, metadata: Mapping[str, Any] | None, target: str = "") -> VerifyResult:
    """The verdict on an answer, by the tests in a sample's metadata or else by its target."""
    row = dict(metadata or {})
    if row.get("test") is None and row.get("cases") is None and target:
        row["test"] = target
    (result,) = await shared_verifier().verify_many_async([read_program(answer, row)])
    return result
