"""Have a test in a process of its own sign its marker, so that nothing of a candidate's that it prints is taken for it.

A test may print what it got and stop before it reports: `FAIL got`, and then whatever the candidate has returned, such
as `PASSED 7/8` on a line of its own. So the test's own `PASSED ` is replaced, before it is compiled, by a word that no
candidate knows, and only lines that begin with this word count.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from rlvr_cpp.verifier.cpp.lexemes import Lexeme, lexemes
from rlvr_cpp.verifier.verdict import MARKER

WORD = "PASSED"
OWN = re.compile(rf'(["(\n]|\\n){WORD} (?=["%{{0-9])')
PRINTS = frozenset(("cout", "printf", "__builtin_printf", "puts", "fputs", "fprintf", "print", "println"))
BEFORE, BEHIND = frozenset("<(,?:"), frozenset("<),;:")
"""What stands beside a string that is printed as it is; `<<` is read as two marks."""


@lru_cache(maxsize=256)
def signed(test: str, signature: str) -> str:
    """The test with its marker signed; the same where not every `PASSED` in it is clearly printed as a marker."""
    if WORD not in test:
        return test
    tokens = [token for token in lexemes(test) if token.kind not in ("comment", "newline")]
    pieces, done = [], 0
    for place, token in enumerate(tokens):
        if token.kind not in ("string", "raw") or WORD not in token.text:
            continue
        written = test[token.start : token.end]
        if written.count(WORD) != len(OWN.findall(written)) or not _is_printed(tokens, place):
            return test
        pieces += [test[done : token.start], OWN.sub(rf"\g<1>{signature} ", written)]
        done = token.end
    return "".join([*pieces, test[done:]])


def unsigned(output: bytes, signature: str) -> bytes:
    """What a signed test has printed, its marker as it was before, and indented whatever else would be read as one."""

    def line(text: bytes) -> bytes:
        if text.startswith(signature.encode() + b" "):
            return text.replace(signature.encode(), WORD.encode(), 1)
        return b" " + text if MARKER.match(text.rstrip(b"\r")) else text

    return b"\n".join(map(line, output.split(b"\n")))


def _is_printed(tokens: Sequence[Lexeme], place: int) -> bool:
    """The string stands in a statement that prints it, and is neither compared nor another function's argument."""
    behind = tokens[place + 1 : place + 2]
    if tokens[place - 1].text not in BEFORE or not (behind and behind[0].text in BEHIND):
        return False
    closed = 0
    for at in range(place - 1, 0, -1):
        text, before = tokens[at].text, tokens[at - 1]
        if text in (";", "{", "}"):
            return False
        if closed == 0 and text in PRINTS:
            return True
        if closed == 0 and text == "(" and before.kind == "word" and before.text not in PRINTS:
            return False
        closed += (text == ")") - (text == "(" and closed > 0)
    return False
