"""How a model is asked in a chat: the conversation, what its template makes of it, and the token that ends its turn.

A template is a program that came with the model. One that leaves out what it is given, or does not read an argument,
would train or measure on a request that nobody meant, so what it writes of a canary is looked at when a model is
loaded.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rlvr_cpp.errors import UserError, first_line
from rlvr_cpp.policy.settings import ChatSettings
from rlvr_cpp.tasks.task import Task

CHAT_REQUEST = (
    "Complete this C++ so that it does what its comment says. Answer with the complete definition of "
    "`{entry_point}` in one ```cpp code block and nothing else.\n\n```cpp\n{prompt}\n```"
)
SAID = "It is done."
"""An answer in front of which a template is asked for what ends a turn."""


def chat_messages(task: Task, system: str | None = None) -> list[dict[str, str]]:
    """The conversation in which a task is asked: one user message, behind a system prompt where there is one."""
    request = CHAT_REQUEST.format(entry_point=task.entry_point, prompt=task.prompt.rstrip())
    before = [] if system is None else [{"role": "system", "content": system}]
    return [*before, {"role": "user", "content": request}]


def rendered(
    tokenizer: Any, messages: Sequence[Mapping[str, str]], asked: ChatSettings, *, answered: bool = False
) -> str:
    """A conversation as the template writes it, up to where an answer begins unless it is `answered`.

    Raises UserError where the template fails.
    """
    arguments = {str(name): value for name, value in asked.template_kwargs.items()}
    try:
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=not answered, tokenize=False, **arguments)
    except Exception as error:  # a template is a program of the model's, and raises whatever it likes
        raise UserError(
            f"the model's chat template fails ({first_line(error)}): look at policy.chat.template_kwargs and "
            "policy.chat.system, or use policy.prompt_format=completion"
        ) from error
    return str(text)


def check_template(tokenizer: Any, canary: Task, asked: ChatSettings) -> str:
    """The canary as it is asked. Raises UserError where the template leaves out something that it is given."""
    text = rendered(tokenizer, chat_messages(canary, asked.system), asked)
    if problems := list(_left_out(tokenizer, text, canary, asked)):
        raise UserError("; ".join(problems))
    return text


def _left_out(tokenizer: Any, text: str, canary: Task, asked: ChatSettings) -> Iterator[str]:
    if canary.prompt.strip() not in text:
        yield (
            "the model's chat template does not write what the user says (some want it in parts): name another by "
            "policy.chat.template_kwargs.chat_template, or use policy.prompt_format=completion"
        )
    if asked.system is not None and asked.system.strip() not in text:
        yield f"policy.chat.system is {asked.system!r}, which the model's chat template leaves out: use null"
    own = inspect.signature(tokenizer.apply_chat_template).parameters
    template = tokenizer.get_chat_template(asked.template_kwargs.get("chat_template"))
    if unread := [str(name) for name in asked.template_kwargs if str(name) not in template and name not in own]:
        yield (
            f"policy.chat.template_kwargs has {', '.join(unread)}, which the model's chat template does not read: "
            "leave it out"
        )


def turn_end(tokenizer: Any, canary: Task, asked: ChatSettings) -> int | None:
    """The token that the template writes behind an answer; None where it is no token, or an answer is not written.

    Many instruct models end their turns with another token than the one that their tokenizers call the end.
    """
    messages = [*chat_messages(canary, asked.system), {"role": "assistant", "content": SAID}]
    try:
        behind = rendered(tokenizer, messages, asked, answered=True).rpartition(SAID)[2].lstrip()
    except UserError:  # it takes no answers
        return None
    added = tokenizer.get_added_vocab()
    ends = [token for token in added if token and behind.startswith(token)]
    return added[max(ends, key=len)] if ends else None
