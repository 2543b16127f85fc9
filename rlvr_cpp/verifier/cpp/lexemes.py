"""The one reader of C++ text: lines joined, comments and literals found, directives, and the syntax tree.

Two readers that disagree let a program say one thing to the judge and another to the compiler, so each of a compiler's
first steps stands here once. g++ is the reference; a test holds every reader to it.

Joining lines moves what follows, so `lexemes` reads the joined text and tells where each piece was written. Raw strings
keep their splices, as the standard says. Outside of literals trigraphs are read under every standard: `??` begins
nothing else there. Inside of literals and comments they are read as C++17 does, not at all; who must be safe under
older standards, too, reads all `readings`.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import NamedTuple

import tree_sitter_cpp
from tree_sitter import Language, Node, Parser

LINE_END = r"(?:\r\n?|\n)"
BLANK = r"[ \t\f\v\0]"
SPLICE = re.compile(rf"\\{BLANK}*{LINE_END}")
"""What joins two lines for g++, which allows blanks and NULs behind the backslash."""
POSSIBLE_SPLICE = re.compile(rf"(?:\\|\?\?/){BLANK}*{LINE_END}")
"""What joins two lines for some compiler under some standard: clang++ allows no NUL, and C++17 has no trigraphs."""
CLANG_SPLICES = [re.compile(rf"{mark}[ \t\f\v]*{LINE_END}") for mark in (r"\\", r"(?:\\|\?\?/)")]

LITERALS = (
    r"(?P<comment>//[^\r\n]*|/\*.*?(?:\*/|\Z))|"
    r'(?P<raw>(?<![\w$"\'])(?:u8|[uUL])?R"(?P<delimiter>[^ ()\\\t\v\f\r\n"]{0,16})\()|'
    r'(?P<string>(?P<prefix>(?<![\w$"\'])(?:u8|[uUL]))?"(?:\\[^\r\n]|[^"\\\r\n])*")|'
    r"(?P<character>(?:(?<![\w$\"'])(?:u8|[uUL]))?'(?:\\[^\r\n]|[^'\\\r\n])*')|"
    r"(?P<unclosed>(?:(?<![\w$\"'])(?:u8|[uUL]))?[\"'][^\r\n]*)|"
    r"(?P<number>(?:\.|(?<![\w$]))[0-9](?:'\w|[eEpP][+-]|[\w.])*)"
)
"""Comments, strings, characters and numbers (the quote in `1'000` opens nothing) of a text without its splices.

A comment that is never closed ends with the text, a string or character with its line; of a raw string this is the
opening only. A word at the end of a literal is its suffix and no prefix of the next one: `"a"R"(b"` has no raw string.
"""
FILE_NAME = r'(?:<[^>\r\n]*>|"[^"\r\n]*")'
GAP = rf"(?:{BLANK}|/\*[^*]*\*+(?:[^/*][^*]*\*+)*/)*+"
OUTLINE = re.compile(
    rf"(?:^|(?<=\r)){GAP}(?:#|%:|\?\?=){GAP}(?P<conditional>if(?:n?def)?|el(?:se|if(?:n?def)?)|endif)\b"
    rf"(?P<zero>{GAP}0{GAP}(?=//|[\r\n]|\Z))?|(?P<brace>[{{}}]|<%|%>|\?\?[<>])|"
    rf"(?:(?:#|%:){GAP}(?:include(?:_next)?|import)|\b__has_include(?:_next)?{GAP}\(){GAP}(?P<file>{FILE_NAME})|{LITERALS}",
    re.DOTALL | re.MULTILINE,
)
"""Literals, braces and conditional lines, in a fraction of the time that all tokens take."""
TOKENS = re.compile(
    rf"(?P<newline>{LINE_END})|(?P<blank>(?:{BLANK}|\ufeff)+)|{LITERALS}|(?P<word>(?:[^\W\d]|\$)[\w$]*)|"
    r"(?P<mark>\?\?[=(/)'<!>-]|%:|<:(?!:(?![:>]))|:>|<%|%>|::|->|.)",
    re.DOTALL,
)
"""Everything in a text."""
SPELLINGS = {"%:": "#", "<:": "[", ":>": "]", "<%": "{", "%>": "}"} | {
    f"??{last}": meant for last, meant in zip("=(/)'<!>-", "#[\\]^{|}~", strict=True)
}
FILE = re.compile(FILE_NAME)
BEFORE_FILE_NAME = {("#", word) for word in ("include", "include_next", "import")} | {
    (word, "(") for word in ("__has_include", "__has_include_next")
}
HASH = re.compile(r"#|%:|\?\?=")
SPACE = re.compile(r"[\s\0]*")
NAME = re.compile(r"(?!\d)(?:[\w$]|\\[uU][0-9A-Fa-f]{4,8})+")


class Joined(NamedTuple):
    """A text without its splices, and the way back."""

    text: str
    starts: list[int]
    """Where in `text` each piece begins that stood between two splices."""
    origins: list[int]
    """Where it began in the text as it was written."""

    def written(self, place: int) -> int:
        """Where a character of `text` was written."""
        piece = bisect_right(self.starts, place) - 1
        return self.origins[piece] + place - self.starts[piece]

    def joined(self, place: int) -> int:
        """Where in `text` a written character stands that is no part of a splice."""
        piece = bisect_right(self.origins, place) - 1
        return self.starts[piece] + place - self.origins[piece]


class Lexeme(NamedTuple):
    """A piece of a text."""

    kind: str
    """The name of a group: `comment raw string character unclosed number`; in an outline also `brace`, `conditional`
    and `zero` (`#if 0`), among tokens `newline`, `word`, `mark` and `file`, the name behind `#include`."""
    text: str
    """Without splices, but for raw strings; digraphs and trigraphs as what they stand for; of a conditional line its
    word."""
    start: int
    """In the text as it was written, as is `end`."""
    end: int
    opening: str = ""
    """How a string begins, up to its first character."""

    @property
    def closing(self) -> str:
        """How a string ends."""
        return f'){self.opening.partition(chr(34))[2][:-1]}"' if self.kind == "raw" else '"'

    @property
    def content(self) -> str:
        """What stands in a string, escapes and all."""
        return self.text[len(self.opening) :].removesuffix(self.closing)


class Edit(NamedTuple):
    """What is put in place of a part of a text, counted in its characters or, behind a syntax tree, in its bytes."""

    start: int
    end: int
    text: str


def without_splices(code: str) -> Joined:
    """The text with its lines joined as g++ joins them; in raw strings, too, which only `lexemes` can tell."""
    starts, origins, pieces = [0], [0], []
    length = 0
    for splice in SPLICE.finditer(code):
        pieces.append(code[origins[-1] : splice.start()])
        length += len(pieces[-1])
        starts.append(length)
        origins.append(splice.end())
    pieces.append(code[origins[-1] :])
    return Joined("".join(pieces), starts, origins)


def readings(code: str) -> list[str]:
    """The text with its lines joined in every way in which some compiler joins them under some standard."""
    joins = [SPLICE, POSSIBLE_SPLICE, *CLANG_SPLICES] if "\0" in code or "??/" in code else [SPLICE]
    return list(dict.fromkeys(join.sub("", code) for join in joins))


def lexemes(code: str, pattern: re.Pattern[str] = TOKENS) -> Iterator[Lexeme]:
    """The pieces of a text, `OUTLINE` or all `TOKENS`, in order and without blanks. Any text will do, C++ or not."""
    joined = without_splices(code)
    position, before, further = 0, "", ""
    while match := pattern.search(joined.text, position):
        kind, position = str(match.lastgroup), match.end()
        if kind == "blank":
            continue
        if (further, before) in BEFORE_FILE_NAME and (name := FILE.match(joined.text, match.start())):
            position = name.end()
            lexeme = Lexeme("file", name[0], joined.written(name.start()), joined.written(position - 1) + 1)
        elif kind == "raw":
            lexeme = _raw_string(code, joined, match)
            position = joined.joined(lexeme.end - 1) + 1
        else:
            lexeme = _lexeme(joined, match)
        if kind not in ("comment", "newline"):
            further, before = before, lexeme.text
        yield lexeme


def _lexeme(joined: Joined, match: re.Match[str]) -> Lexeme:
    kind, text = str(match.lastgroup), match.group()
    if kind in ("mark", "brace"):
        text = SPELLINGS.get(text, text)
    elif kind in ("conditional", "zero"):
        text = match["conditional"]
    opening = f'{match["prefix"] or ""}"' if kind == "string" else ""
    return Lexeme(kind, text, joined.written(match.start()), joined.written(match.end() - 1) + 1, opening)


def _raw_string(code: str, joined: Joined, opening: re.Match[str]) -> Lexeme:
    """The raw string as it was written; one that is never closed ends with the text."""
    start, inner = joined.written(opening.start()), joined.written(opening.end() - 1) + 1
    closing = f'){opening["delimiter"]}"'
    close = code.find(closing, inner)
    end = close + len(closing) if close >= 0 else len(code)
    return Lexeme("raw", opening.group() + code[inner:end], start, end, opening.group())


def directives(tokens: Iterable[Lexeme]) -> tuple[list[Lexeme], list[list[Lexeme]]]:
    """A text's tokens outside of directives, and those of each directive, `#` first; no comments."""
    plain: list[Lexeme] = []
    found: list[list[Lexeme]] = []
    target, at_line_start = plain, True
    for token in tokens:
        if token.kind == "newline":
            target, at_line_start = plain, True
        elif token.kind != "comment":
            if at_line_start and token.text == "#" and token.kind == "mark":
                target = []
                found.append(target)
            target.append(token)
            at_line_start = False
    return plain, found


def possible_directives(text: str, word: str) -> Iterator[tuple[int, str]]:
    """Where `# word` stands in one of the `readings`, and the name after it, if any, in comments and literals, too.

    For who must miss none: a reader that knows where a string ends could be led astray, this one cannot.
    """
    skip = _Gaps(text).end
    for sign in HASH.finditer(text):
        start = skip(sign.end())
        if text.startswith(word, start):
            name = NAME.match(text, skip(start + len(word)))
            yield sign.start(), name[0] if name else ""


class _Gaps:
    """White space and comments of a text, in a time that grows with the text alone, whatever the text is."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.closings = [match.start() for match in re.finditer(r"\*/", text)]
        self.after: dict[int, int] = {}
        for closing in reversed(self.closings):
            self.after[closing] = self.end(closing + 2)

    def end(self, start: int) -> int:
        """The first place from `start` on that is neither space nor in a comment."""
        place = SPACE.match(self.text, start).end()  # type: ignore[union-attr]
        if not self.text.startswith("/*", place):
            return place
        index = bisect_left(self.closings, place + 2)
        return self.after[self.closings[index]] if index < len(self.closings) else place


@cache
def _language() -> Language:
    return Language(tree_sitter_cpp.language())


def parse(source: bytes) -> Node:
    """The root of the syntax tree of a text, however broken."""
    return Parser(_language()).parse(source).root_node


def walk(node: Node, enter: Callable[[Node], bool] = lambda node: True) -> Iterator[Node]:
    """The node and everything below it, in the order of the text; nothing below a node that `enter` refuses."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        if enter(node):
            waiting.extend(reversed(node.children))


def node_text(node: Node | None) -> str:
    """The text of a node; empty where there is none."""
    return node.text.decode(errors="replace") if node is not None and node.text else ""
