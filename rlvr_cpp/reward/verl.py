"""A reward function for verl:

    reward.custom_reward_function.path=pkg://rlvr_cpp.reward.verl
    reward.custom_reward_function.name=compute_score

`ground_truth` is the C++ test, or cases: a mapping or JSON text such as `{"inputs": [...], "outputs": [...]}`. The
other fields that `rlvr_cpp.reward.rows` describes may stand in `extra_info`.

verl has no word for a completion that could not be judged: every number is a reward, and one NaN makes NaN of its whole
group and the update worthless. So such a completion raises, which ends the run where the last checkpoint stands, and
never lends it a score. verl's reward managers `rate_limited` and `prime` catch whatever is raised and do make 0 of it:
use `naive` or `dapo`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from rlvr_cpp.errors import UserError
from rlvr_cpp.reward.rows import FIELDS, read_program, row_of
from rlvr_cpp.reward.tiers import compute_reward
from rlvr_cpp.tasks.task import Task
from rlvr_cpp.verifier.verifier import Verifier
from rlvr_sandbox import SandboxError


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    *,
    compiler: str = "g++",
    timeout: float = 10.0,
    workers: int | None = None,
    require: str = "any",
    cache: str | None = None,
    **_: Any,
) -> dict[str, float | str]:
    """The score of one answer with what verl may log: `acc` is 1 for a full pass, `status` says what happened.

    The settings of the verifier come from `reward.custom_reward_function.reward_kwargs`. Each of verl's reward workers
    has a verifier of its own: let `workers` be the cores divided by `reward.num_workers`. Raises SandboxError where the
    infrastructure failed, UserError for a ground truth that holds no tests.
    """
    extra = extra_info or {}
    row = {name: extra[name] for name in FIELDS if name in extra} | _tests(ground_truth)
    program = read_program(solution_str, row)
    result = _verifier(compiler, timeout, workers, require, cache).verify(program)
    score = compute_reward(result)
    if score is None:
        raise SandboxError(f"a completion could not be judged and must not be scored: {result.stderr}")
    return {
        "score": score,
        "acc": float(result.passed),
        "status": result.status,
        "compiled": float(result.compile_ok),
        "tests_passed": float(result.tests_passed),
        "tests_total": float(result.tests_total),
    }


def verl_row(task: Task) -> dict[str, Any]:
    """What verl's data set needs of a task beside its `prompt`: the tests that `compute_score` reads, and no solution.

    Every row has the same fields of the same types, as a parquet file needs them.
    """
    fields = row_of(task)
    tests = [fields.pop(name) for name in ("cases", "test")]
    return {
        "data_source": "rlvr-cpp",
        "ability": "code",
        "reward_model": {"style": "rule", "ground_truth": tests[0] or tests[1]},
        "extra_info": {"index": task.task_id, **fields},
    }


@cache
def _verifier(compiler: str, timeout: float, workers: int | None, require: str, cache: str | None) -> Verifier:
    return Verifier(compiler=compiler, timeout=timeout, workers=workers, require=require, cache=cache)


def _tests(ground_truth: Any) -> dict[str, Any]:
    """C++ begins with no brace, and with a bracket only where an attribute does; JSON begins with either."""
    if not isinstance(ground_truth, str):
        return {"cases": ground_truth}
    text = ground_truth.lstrip()
    if text.startswith("{") or (text.startswith("[") and (not text.startswith("[[") or _is_json(text))):
        return {"cases": ground_truth}
    if not text:
        raise UserError("ground_truth is empty: it must be a C++ test, or inputs and outputs")
    return {"test": ground_truth}


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
