"""A reward function for trl: `GRPOTrainer(reward_funcs=rlvr_cpp.reward.trl.reward, ...)`.

The columns of the data set are the row that `rlvr_cpp.reward.rows` describes. A chat is answered by a fenced block or
by code alone. A plain prompt without a `declaration` beside it is C++ that the completion continues. What the
infrastructure failed to judge is None, which trl leaves out of its group's mean and gives no advantage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rlvr_cpp.reward.rows import message_text, read_program, shared_verifier
from rlvr_cpp.reward.tiers import compute_reward
from rlvr_cpp.verifier.program import Program
from rlvr_cpp.verifier.result import VerifyResult
from rlvr_cpp.verifier.verifier import Verifier


class CompilerReward:
    """A reward function that judges with `verifier`, or with g++ and the defaults where there is none."""

    __name__ = "compiler"  # trl names its metrics after the function

    def __init__(self, verifier: Verifier | None = None) -> None:
        self.verifier = verifier

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """The reward of each completion, None where it is unscorable. Raises UserError for columns without tests."""
        rows = {name: column for name, column in columns.items() if _is_column(column, len(prompts))}
        programs = [
            _program(prompt, completion, {name: column[number] for name, column in rows.items()})
            for number, (prompt, completion) in enumerate(zip(prompts, completions, strict=True))
        ]
        results = (self.verifier or shared_verifier()).verify_many(programs)
        _log(results, columns.get("log_extra"), columns.get("log_metric"))
        return [compute_reward(result) for result in results]


reward = CompilerReward()


def _program(prompt: Any, completion: Any, row: dict[str, Any]) -> Program:
    continues = isinstance(prompt, str) and row.get("declaration") is None
    row.setdefault("prompt", prompt)
    if continues and (row.get("test") is not None or row.get("cases") is not None):
        row["declaration"] = prompt
    return read_program(message_text(completion), row, continues=continues)


def _is_column(column: Any, count: int) -> bool:
    """A column of the data set, not one of the other things that trl hands over."""
    return isinstance(column, Sequence) and not isinstance(column, str) and len(column) == count


def _log(
    results: Sequence[VerifyResult],
    log_extra: Callable[[str, list[Any]], None] | None,
    log_metric: Callable[[str, float], None] | None,
) -> None:
    """Statuses for trl's table of completions, rates for its metrics."""
    if log_extra is not None:
        log_extra("status", [result.status for result in results])
    scored = [result for result in results if result.status != "sandbox_error"]
    if log_metric is not None and scored:
        log_metric("compile_rate", sum(result.compile_ok for result in scored) / len(scored))
        log_metric("pass_rate", sum(result.passed for result in scored) / len(scored))
        log_metric("unscorable", 1 - len(scored) / len(results))
