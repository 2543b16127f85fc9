"""Take a reasoning block off the front of a completion before it is judged.

Only the verifier sees the stripped text: to the policy its thoughts are actions and stay in every loss term. A block
counts only where the completion begins with it, so a marker inside a string literal or a comment survives. A block
that never closes leaves no program at all.

Some templates write the opening marker into the prompt, so that the completion begins inside the block. Who knows that
says so (`Thoughts.are_open`); in a model's answer (`answer_start`) a closing marker that nothing opened is enough.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

Marker = tuple[str, str]
MARKERS: tuple[Marker, ...] = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<thoughts>", "</thoughts>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("◁think▷", "◁/think▷"),
    ("<|channel|>analysis", "<|channel|>final<|message|>"),
)
"""The field's markers, in any case: DeepSeek-R1 and Qwen3, Seed-OSS, Magistral, Command A, Kimi, gpt-oss, and words
that prompts ask for. gpt-oss thinks in channels; what it says is the last one's message."""
ANSWER = re.compile(r"<answer>", re.IGNORECASE)
ANSWER_END = re.compile(r"</answer>", re.IGNORECASE)


@dataclass(frozen=True)
class Thoughts:
    """How a model marks what it thinks."""

    markers: tuple[Marker, ...] = MARKERS
    are_open: bool = False
    """The prompt has opened a block of the first marker: a completion begins in it."""


KNOWN_THOUGHTS = Thoughts()
"""Of a model of which nothing is known."""


def strip_think_blocks(text: str, markers: Sequence[Marker] = MARKERS) -> str:
    """`text` from the end of its leading think block on; unchanged without one, empty where it never closes."""
    return text[think_block_end(text, markers) :]


def think_block_end(text: str, markers: Sequence[Marker] = MARKERS) -> int:
    """The offset at which the program begins: 0 without a leading block, `len(text)` where it never closes."""
    begin = len(text) - len(text.lstrip())
    for opening, closing in markers:
        if text[begin : begin + len(opening)].lower() == opening.lower():
            return _behind(text, closing, begin + len(opening))
    return 0


def answer_span(text: str, thoughts: Thoughts = KNOWN_THOUGHTS) -> tuple[int, int]:
    """Where a model's answer begins and ends: behind its thoughts, inside of the last `<answer>` where it has one.

    An answer that ends while it thinks is empty, at the end of the text.
    """
    begin = think_block_end(text, thoughts.markers)
    if not begin and thoughts.are_open:
        begin = _behind(text, thoughts.markers[0][1], 0)
    elif not begin:
        begin = max((_unopened(text, marker) for marker in thoughts.markers), default=0)
    opened = [match for match in ANSWER.finditer(text) if _is_plain(text, match)]
    if not opened or (begin < len(text) and opened[-1].end() < begin):
        return begin, len(text)
    closed = [match for match in ANSWER_END.finditer(text, opened[-1].end()) if _is_plain(text, match)]
    return opened[-1].end(), closed[0].start() if closed else len(text)


def strip_think_token_ids(token_ids: Sequence[int], opening_id: int, closing_id: int) -> list[int]:
    """The same on token ids, for tokenizers whose markers are single special tokens.

    Unlike the text form it cannot look past leading white space: the block must be the first token.
    """
    ids = list(token_ids)
    if not ids or ids[0] != opening_id:
        return ids
    if closing_id not in ids:
        return []
    return ids[ids.index(closing_id) + 1 :]


def _behind(text: str, closing: str, start: int) -> int:
    found = re.compile(re.escape(closing), re.IGNORECASE).search(text, start)
    return found.end() if found else len(text)


def _unopened(text: str, marker: Marker) -> int:
    """Behind the first closing marker that nothing opened; 0 without one."""
    opening, closing = (re.compile(re.escape(word), re.IGNORECASE) for word in marker)
    for found in closing.finditer(text):
        if _is_plain(text, found):
            return 0 if opening.search(text, 0, found.start()) else found.end()
    return 0


def _is_plain(text: str, found: re.Match[str]) -> bool:
    """The match is in no string of its line: between no two quotation marks, of which an odd number stands before."""
    start = text.rfind("\n", 0, found.start()) + 1
    end = text.find("\n", found.end())
    before, behind = text[start : found.start()], text[found.end() : end if end >= 0 else None]
    return before.count('"') % 2 == 0 or '"' not in behind
