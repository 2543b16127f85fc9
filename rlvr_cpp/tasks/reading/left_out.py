"""What is left out of an answer before code is looked for: marks of quotations, and includes of files that it brings.

Where a fence stands behind `>`, the lines around it are read without these marks. An answer of several files is judged
as one text: what includes one of them finds it there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from rlvr_cpp.verifier.cpp.lexemes import Joined
from rlvr_cpp.verifier.tiers.oracle import STANDARD_HEADERS

QUOTATION = re.compile(r"(?m)(?:^[ ]{0,3}>[^\n]*(?:\n|\Z))+")
MARK = r"(?:[ ]{0,3}>[ ]?)"
FENCED = re.compile(rf"(?m)^(?P<marks>{MARK}++)[ \t]*(?:`{{3}}|~{{3}})")
INCLUDE = re.compile(r'(?m)^[ \t>]*(?P<directive>#[ \t]*include[ \t]*"(?P<file>[^"\n]+)")')
NAME = re.compile(r"[\w.+-]+")


def without_wrapping(text: str) -> Joined:
    """The text without any of these, and the way back."""
    starts, origins, pieces = [0], [0], []
    length = 0
    for start, end in sorted([*_quotation_marks(text), *_own_includes(text)]):
        pieces.append(text[origins[-1] : start])
        length += len(pieces[-1])
        starts.append(length)
        origins.append(end)
    pieces.append(text[origins[-1] :])
    return Joined("".join(pieces), starts, origins)


def _quotation_marks(text: str) -> Iterator[tuple[int, int]]:
    """Of each line of a quotation as many as stand before its fence."""
    for quotation in QUOTATION.finditer(text):
        if (fence := FENCED.search(quotation[0])) is not None:
            marks = re.compile(rf"(?m)^{MARK}{{1,{fence['marks'].count('>')}}}+")
            yield from (mark.span() for mark in marks.finditer(text, quotation.start(), quotation.end()))


def _own_includes(text: str) -> Iterator[tuple[int, int]]:
    """Those of files that the answer names elsewhere, as it does where it shows them."""
    found = [include for include in INCLUDE.finditer(text) if include["file"] not in STANDARD_HEADERS]
    named = {name[0].strip("_.-") for name in NAME.finditer(INCLUDE.sub("", text))} if found else set()
    return (include.span("directive") for include in found if include["file"].rpartition("/")[2] in named)
