"""Which tasks a model has room for: behind a prompt that fills its context nothing can be written.

Such a task fails whatever the policy does, so it is refused or, by a limit that the user sets, left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from rlvr_cpp.errors import UserError
from rlvr_cpp.policy.policy import Policy
from rlvr_cpp.runs.console import console
from rlvr_cpp.tasks.task import Task


def fitting(tasks: Sequence[Task], policy: Policy, most: int | None, answer: int) -> list[Task]:
    """The tasks whose prompts have at most `most` tokens, all where that is None.

    Raises UserError where one of them fills the model's context, or none is left. Warns where one leaves less room
    than for `answer` tokens.
    """
    lengths = {task.task_id: len(policy.prompt_ids(task)) for task in tasks}
    fit = {task: lengths[task.task_id] for task in tasks if most is None or lengths[task.task_id] <= most}
    if not fit:
        shortest = min(lengths.values())
        raise UserError(
            f"tasks.max_prompt_tokens is {most} and the shortest prompt has {shortest}: raise it, or use null"
        )
    context, longest = context_of(policy), max(fit, key=lambda task: fit[task])
    if context is not None and fit[longest] >= context:
        full = sum(length >= context for length in fit.values())
        raise UserError(
            f"the prompts of {full} of {len(fit)} tasks fill the model's context of {context} tokens, such as "
            f"{longest.task_id!r} with {fit[longest]}: leave them out by tasks.max_prompt_tokens="
            f"{max(context // 2, context - answer)}, or take a model with more context"
        )
    if context is not None and fit[longest] + answer > context:
        console.print(
            f"warning: behind a prompt of {fit[longest]} tokens the model's context of {context} has less room than "
            f"for the {answer} tokens that an answer may have",
            style="yellow",
            soft_wrap=True,
        )
    return list(fit)


def context_of(policy: Policy) -> int | None:
    """Tokens that the model can look back on; None where it does not say."""
    known = getattr(policy.model.config.get_text_config(), "max_position_embeddings", None)
    return known if isinstance(known, int) and known > 0 else None
