"""What a candidate's files include: headers of the system and files of its own, nothing else.

The jail holds nothing else either. That is said here once more, in the text, for hosts whose jail has holes: a name
that leads out of the program's folder, or that only the preprocessor can tell, is no honest include.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from rlvr_cpp.verifier.cpp.lexemes import BLANK, FILE, FILE_NAME, GAP, LITERALS, lexemes

INCLUDE = re.compile(
    rf"(?:^|(?<=\r)){GAP}(?:#|%:|\?\?=){GAP}(?P<include>include(?:_next)?|import|embed)\b{GAP}"
    rf"(?:(?P<file>{FILE_NAME})|(?P<computed>[^\r\n]*))|{LITERALS}",
    re.DOTALL | re.MULTILINE,
)


class Foreign(NamedTuple):
    """An include that is neither the system's nor the candidate's own."""

    file: str
    line: int
    name: str
    """As written."""


def foreign_includes(files: Mapping[str, str]) -> Iterator[Foreign]:
    """Every such include in the files of a program, which are known by name."""
    for name, text in files.items():
        for lexeme in lexemes(text, INCLUDE):
            if lexeme.kind == "computed" or (lexeme.kind == "file" and not _is_known(lexeme.text, name, files)):
                written = FILE.search(lexeme.text) or re.search(rf"\w+{BLANK}*$", lexeme.text)
                yield Foreign(name, text.count("\n", 0, lexeme.start) + 1, written[0] if written else "")


def _is_known(directive: str, within: str, files: Mapping[str, str]) -> bool:
    found = FILE.search(directive)
    name = found[0][1:-1] if found else ""
    beside = posixpath.normpath(posixpath.join(posixpath.dirname(within), name))
    if found and found[0].startswith('"') and (beside in files or posixpath.normpath(name) in files):
        return True
    return not name.startswith("/") and ".." not in name.split("/")
