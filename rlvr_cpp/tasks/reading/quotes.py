"""Answers in a quotation: where a fence stands behind `>`, the lines around it are read without these marks."""

from __future__ import annotations

import re

from rlvr_cpp.verifier.cpp.lexemes import Joined

QUOTATION = re.compile(r"(?m)(?:^[ ]{0,3}>[^\n]*(?:\n|\Z))+")
MARK = r"(?:[ ]{0,3}>[ ]?)"
FENCED = re.compile(rf"(?m)^(?P<marks>{MARK}++)[ \t]*(?:`{{3}}|~{{3}})")


def without_quotes(text: str) -> Joined:
    """The text with the marks of its quotations left out, as many of a line as stand before the fence."""
    starts, origins, pieces = [0], [0], []
    length = 0
    for quotation in QUOTATION.finditer(text):
        fence = FENCED.search(quotation[0])
        if fence is None:
            continue
        marks = re.compile(rf"(?m)^{MARK}{{1,{fence['marks'].count('>')}}}+")
        for mark in marks.finditer(text, quotation.start(), quotation.end()):
            pieces.append(text[origins[-1] : mark.start()])
            length += len(pieces[-1])
            starts.append(length)
            origins.append(mark.end())
    pieces.append(text[origins[-1] :])
    return Joined("".join(pieces), starts, origins)
