"""Which tasks a model has room for: behind a prompt that fills its context nothing can be written.

Such a task fails whatever the policy does, so it is refused or, by a limit that the user sets, left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from rlvr_cpp.errors import UserError
from rlvr_cpp.policy.policy import Policy
from rlvr_cpp.tasks.task import Task


def fitting(tasks: Sequence[Task], policy: Policy, most: int | None, answer: int) -> list[Task]:
    """The tasks whose prompts have at most `most` tokens, all where that is None.

    Raises UserError where one of them and `answer` tokens are more than the model's context, or none is left.
    """
    lengths = {task.task_id: len(policy.prompt_ids(task)) for task in tasks}
    fit = [task for task in tasks if most is None or lengths[task.task_id] <= most]
    if not fit:
        raise UserError(
            f"tasks.max_prompt_tokens is {most} and the shortest prompt has {min(lengths.values())}: raise it, or use "
            "null"
        )
    longest = max(fit, key=lambda task: lengths[task.task_id])
    context = context_of(policy)
    if context is not None and lengths[longest.task_id] + answer > context:
        over = sum(lengths[task.task_id] + answer > context for task in fit)
        raise UserError(
            f"the prompts of {over} of {len(fit)} tasks leave no room for {answer} tokens in the model's context of "
            f"{context}, such as {longest.task_id!r} with {lengths[longest.task_id]}: leave them out by "
            f"tasks.max_prompt_tokens={max(1, context - answer)}, allow shorter answers, or take a model with more "
            "context"
        )
    return fit


def context_of(policy: Policy) -> int | None:
    """Tokens that the model can look back on; None where it does not say."""
    known = getattr(policy.model.config.get_text_config(), "max_position_embeddings", None)
    return known if isinstance(known, int) and known > 0 else None
