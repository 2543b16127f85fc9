"""Take a reasoning block off the front of a completion before it is judged.

Only the verifier sees the stripped text: to the policy its thoughts are actions and stay in every loss term. A block
counts only where the completion begins with it, so a marker inside a string literal or a comment survives. A block
that never closes leaves no program at all.
"""

from __future__ import annotations

from collections.abc import Sequence

MARKERS = (("<think>", "</think>"),)


def strip_think_blocks(text: str, markers: Sequence[tuple[str, str]] = MARKERS) -> str:
    """`text` from the end of its leading think block on; unchanged without one, empty where it never closes."""
    return text[think_block_end(text, markers) :]


def think_block_end(text: str, markers: Sequence[tuple[str, str]] = MARKERS) -> int:
    """The offset at which the program begins: 0 without a leading block, `len(text)` where it never closes."""
    begin = len(text) - len(text.lstrip())
    for opening, closing in markers:
        if text.startswith(opening, begin):
            end = text.find(closing, begin + len(opening))
            return len(text) if end < 0 else end + len(closing)
    return 0


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
