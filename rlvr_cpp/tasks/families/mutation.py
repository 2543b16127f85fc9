"""Small edits of a C++ body: mutants that still mean something, and breakages that should not compile.

The quality gate asks that tests kill the mutants; the corpus of the shipped base model is made imperfect with both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

SWAPS = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\+=", "-="),
        (r"\+\+(\w+)\)", r"\1 += 2)"),
        (r"\+\+(\w+);", r"--\1;"),
        (r"<=", "<"),
        (r" < ", " <= "),
        (r" > ", " >= "),
        (r" > ", " < "),
        (r"==", "!="),
        (r"!=", "=="),
        (r"&&", "||"),
        (r"\|\|", "&&"),
        (r" \+ ", " - "),
        (r" - ", " + "),
        (r" \* ", " + "),
        (r" % ", " / "),
        (r"<<", ">>"),
        (r">>", "<<"),
        (r" \| ", " & "),
        (r" & ", " | "),
        (r" \^ ", " | "),
        (r"~", ""),
    )
)
EXTREME_UPDATE = re.compile(r"if \((.+) [<>] (\w+)\) \2 = \1;")  # means the same with <= and >=
NUMBER = re.compile(r"(?<![\w.])\d+")


def mutants(code: str) -> list[str]:
    """Every single swap of an operator and every constant made one larger, in order of place."""
    found = dict.fromkeys(edited for _, edited in sorted(_edits(code)))
    found.pop(code, None)
    return list(found)


def _edits(code: str) -> Iterator[tuple[int, str]]:
    for pattern, replacement in SWAPS:
        for match in pattern.finditer(code):
            new = match.expand(replacement)
            if new in (" <= ", " >= ") and _is_extreme_update(code, match.start()):
                continue
            yield match.start(), code[: match.start()] + new + code[match.end() :]
    for match in NUMBER.finditer(code):
        yield match.start(), code[: match.start()] + str(int(match.group()) + 1) + code[match.end() :]


def _is_extreme_update(code: str, place: int) -> bool:
    return any(match.start() <= place < match.end() for match in EXTREME_UPDATE.finditer(code))


def breakages(code: str) -> list[str]:
    """The slips that a compiler rejects: lost semicolons, braces and parentheses, and misspelt names."""
    edits = (
        (";\n", "\n"),
        (")", ""),
        ("(", ""),
        ("int r", "int s"),
        ("int i", "int j"),
        ("return ", "retrun "),
        ("}\n", ""),
    )
    found = dict.fromkeys(code.replace(old, new, 1) for old, new in edits)
    found.pop(code, None)
    return list(found)
