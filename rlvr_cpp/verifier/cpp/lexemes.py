"""The lexemes of a C++ text, and its syntax tree: the one place that reads either."""

from __future__ import annotations

import re
from functools import cache

import tree_sitter_cpp
from tree_sitter import Language, Node, Parser

LEXEME = re.compile(
    r'//(?:\\\n|[^\n])*|/\*.*?(?:\*/|\Z)|R"(?P<tag>[^\s()\\]{0,16})\((?:.*?\)(?P=tag)"|.*\Z)'
    r"|\"(?:\\.|[^\"\\\n])*\"?|(?<!\w)\d(?:'?[\w.])*|'(?:\\.|[^'\\\n])*'?|[{}]"
    r"|^[ \t]*#[ \t]*(?P<conditional>if(?:n?def)?|el(?:se|if(?:n?def)?)|endif)\b(?P<zero>[ \t]+0[ \t\r]*(?=//|\n|\Z))?",
    re.DOTALL | re.MULTILINE,
)
"""Comments, literals (numbers too: the quote in `1'000` opens nothing), braces, conditional lines.

What is never closed ends with its line, a raw string with the text."""


@cache
def _language() -> Language:
    return Language(tree_sitter_cpp.language())


def _parse(source: bytes) -> Node:
    return Parser(_language()).parse(source).root_node
