"""Reward functions for Prime Intellect's verifiers.

`compiler_reward` is for its current interface (`verifiers.v1`): plug it into the tasks of any task set by name,

    --env.taskset.task.rewards.compiler.fn rlvr_cpp.reward.verifiers:compiler_reward

or return it from a task's own `@vf.reward` method. The fields that `rlvr_cpp.reward.rows` describes stand in the task's
data, `answer` may stand for `test`. `rubric_reward` is for the older `vf.Rubric(funcs=[rubric_reward])`, which ended
with version 0.3: the same fields in a row's `info`, or the test in its `answer`.

What the infrastructure failed to judge is an error on its trace, which verifiers does not train on. A rubric makes 0 of
every error, so there it is NaN, which no one can take for a score.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rlvr_cpp.reward.rows import FIELDS, message_text, read_program, shared_verifier
from rlvr_cpp.reward.tiers import compute_reward
from rlvr_cpp.verifier.result import VerifyResult
from rlvr_sandbox import SandboxError


async def compiler_reward(task: Any, trace: Any) -> float:
    """The reward of a trace's last reply, judged by the tests in the data of its task.

    Raises SandboxError where the infrastructure failed, UserError for a task without tests.
    """
    row = {name: getattr(task, name) for name in (*FIELDS, "answer") if hasattr(task, name)}
    result = await _judged(trace.last_reply, row)
    reward = compute_reward(result)
    if reward is None:
        raise SandboxError(f"a completion could not be judged and must not be scored: {result.stderr}")
    return reward


async def rubric_reward(completion: Any, info: Any = None, answer: Any = None) -> float:
    """The reward of a completion, NaN where the infrastructure failed."""
    row = dict(info) if isinstance(info, Mapping) else {}
    if answer:
        row["answer"] = answer
    reward = compute_reward(await _judged(message_text(completion), row))
    return math.nan if reward is None else reward


async def _judged(answer: str, row: dict[str, Any]) -> VerifyResult:
    if row.get("test") is None and row.get("cases") is None:
        row["test"] = row.get("answer")
    (result,) = await shared_verifier().verify_many_async([read_program(answer, row)])
    return result
