"""How a model tells its thoughts from its answer, found in its tokenizer and its chat template.

A template may write the opening marker itself, so that the completion begins with thoughts; a tokenizer may have the
markers as special tokens, which a decoder leaves out. Both are found when a model is loaded, told, and proved: an
answer behind thoughts that hold a wrong draft goes through tokenizer and decoder, and the answer must come out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rlvr_cpp.errors import UserError
from rlvr_cpp.policy.settings import PolicySettings
from rlvr_cpp.tasks.completion import read_completion
from rlvr_cpp.tasks.task import Task
from rlvr_cpp.verifier.think import KNOWN_THOUGHTS, MARKERS, Marker, Thoughts, strip_think_token_ids

SHORTEST = 5  # characters of a special token that is part of a marker: `<s>` is part of none
CANARY = Task("canary", "int twice(int x) {\n", "", "twice")
DRAFT = "Maybe so:\n```cpp\nint twice(int x) { return x; }\n```\nNo.\n"
ANSWER = "\n\n```cpp\nint twice(int x) { return 2 * x; }\n```"


@dataclass(frozen=True)
class Thinking:
    """What was found for one model."""

    thoughts: Thoughts = KNOWN_THOUGHTS
    tokens: dict[int, str] = field(default_factory=dict)
    """Special tokens that are markers or parts of one: what a decoder must not leave out."""
    marker: Marker | None = None
    """The markers of this model; None where neither its template nor its tokenizer knows any."""

    @property
    def has_channels(self) -> bool:
        """Whether thoughts and answers are messages of their own, so that the end of one is not the turn's."""
        return self.marker is not None and self.marker[0].startswith("<|channel|>")

    def describe(self) -> str:
        """One line for who starts a run."""
        if self.marker is None:
            return "no marker in template or tokenizer; the known ones are looked for"
        opening, closing = self.marker
        by = "opened by the template" if self.thoughts.are_open else f"opened by {opening}"
        return f"{by}, closed by {closing}{', special tokens' if self.tokens else ''}"


def markers_of(settings: PolicySettings) -> tuple[Marker, ...]:
    """The markers that the settings name, or the known ones. Raises UserError where one is no pair."""
    if settings.think_markers is None:
        return MARKERS
    for pair in settings.think_markers:
        if len(pair) != 2 or not all(pair):
            raise UserError(f"policy.think_markers has {pair!r}: each is an opening and a closing text")
    return tuple((opening, closing) for opening, closing in settings.think_markers)


def find_thinking(tokenizer: Any, rendered: str, markers: Sequence[Marker]) -> Thinking:
    """The markers of a model whose template has rendered this text in front of an answer."""
    lowered = rendered.rstrip().lower()
    added = {str(token): number for token, number in tokenizer.get_added_vocab().items()}
    opened = next((marker for marker in markers if lowered.endswith(marker[0].lower())), None)
    template = str(tokenizer.chat_template or "").lower()
    tokens = tuple(token for token in added if len(token) >= SHORTEST)
    named = (pair for pair in markers if pair[0].startswith(tokens) or pair[1].lower() in template)
    marker = opened or next(named, None)
    first = () if marker is None else (marker,)
    ordered = (*first, *(other for other in markers if other != marker))
    special = {token for token in added if token in set(tokenizer.all_special_tokens) and len(token) >= SHORTEST}
    parts = {added[token]: token for token in special if any(token in text for pair in ordered for text in pair)}
    return Thinking(Thoughts(ordered, opened is not None), parts, marker)


def decode(tokenizer: Any, thinking: Thinking, ids: Sequence[int]) -> str:
    """The text of tokens, without special ones but for those that mark thoughts."""
    if not any(number in thinking.tokens for number in ids):
        return str(tokenizer.decode(ids, skip_special_tokens=True))
    pieces, begin = [], 0
    for place, number in enumerate(ids):
        if number in thinking.tokens:
            pieces += [tokenizer.decode(ids[begin:place], skip_special_tokens=True), thinking.tokens[number]]
            begin = place + 1
    return "".join([*pieces, tokenizer.decode(ids[begin:], skip_special_tokens=True)])


def prove_thinking(tokenizer: Any, thinking: Thinking) -> None:
    """Take an answer behind thoughts through tokenizer and decoder. Raises UserError where it does not come out."""
    if thinking.marker is None:
        return
    opening, closing = thinking.marker
    thought = ("" if thinking.thoughts.are_open else opening) + DRAFT
    for text, is_answer in ((thought + closing + ANSWER, True), (thought, False)):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        code = read_completion(CANARY, decode(tokenizer, thinking, ids), True, thinking.thoughts).code
        if ("2 * x" in code, "return x;" in code, bool(code)) != (is_answer, False, is_answer):
            raise UserError(
                f"of an answer behind thoughts {code[:40]!r} is left: {opening!r} and {closing!r} do not come "
                "through this tokenizer, so name the model's own in policy.think_markers"
            )
        _check_ids(tokenizer, thinking, ids, code)


def _check_ids(tokenizer: Any, thinking: Thinking, ids: Sequence[int], code: str) -> None:
    """What is left by tokens alone, where both markers are tokens, must be what is left of the text."""
    numbers = {token: number for number, token in thinking.tokens.items()}
    opening, closing = thinking.marker or ("", "")
    if opening not in numbers or closing not in numbers:
        return
    whole = [numbers[opening], *ids] if thinking.thoughts.are_open else ids
    left = decode(tokenizer, thinking, strip_think_token_ids(whole, numbers[opening], numbers[closing]))
    if read_completion(CANARY, left, chat=True).code.strip() != (code or CANARY.prompt).strip():
        raise UserError(f"{opening!r} and {closing!r} mean something else as tokens than as text: name others")
