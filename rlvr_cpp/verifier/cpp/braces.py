"""Which braces of a text count: those of the branches of its conditionals that are read.

All branches of a conditional open and close the same braces, or no brace could be told from another without a
preprocessor. So of each one the first branch that is not `#if 0` is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from rlvr_cpp.verifier.cpp.lexemes import OUTLINE, Lexeme, lexemes

SEMICOLON = re.compile(r"[ \t]*;")


class Branches:
    """Follows the directives of a text, and tells whether what comes next is read."""

    def __init__(self) -> None:
        self._open: list[tuple[bool, bool]] = []
        """Of each conditional, whether this branch is read and whether one was."""
        self._left_out = 0

    @property
    def are_read(self) -> bool:
        """Whether what comes next is read."""
        return not self._left_out

    def follow(self, word: str, is_zero: bool) -> None:
        """Take a directive into account, of which only those of conditionals mean anything."""
        if word in ("if", "ifdef", "ifndef"):
            self._open.append((not is_zero, not is_zero))
            self._left_out += is_zero
        elif word in ("else", "elif", "elifdef", "elifndef") and self._open:
            is_read, was_read = self._open[-1]
            self._open[-1] = (not was_read, True)
            self._left_out += is_read - (not was_read)
        elif word == "endif" and self._open:
            self._left_out -= not self._open.pop()[0]


def open_braces(code: str) -> int:
    """How many braces a text opens and does not close."""
    depth = 0
    for brace in _braces(code):
        depth = max(0, depth + (1 if brace.text == "{" else -1))
    return depth


def closing_brace(code: str, depth: int) -> int | None:
    """Where the brace ends, and its semicolon, that closes the outermost of `depth` braces opened before the text."""
    for brace in _braces(code):
        depth += 1 if brace.text == "{" else -1
        if depth == 0:
            semicolon = SEMICOLON.match(code, brace.end)
            return semicolon.end() if semicolon else brace.end
    return None


def _braces(code: str) -> Iterator[Lexeme]:
    branches = Branches()
    for lexeme in lexemes(code, OUTLINE):
        if lexeme.kind == "brace" and branches.are_read:
            yield lexeme
        elif lexeme.kind in ("conditional", "zero"):
            branches.follow(lexeme.text, is_zero=lexeme.kind == "zero")
