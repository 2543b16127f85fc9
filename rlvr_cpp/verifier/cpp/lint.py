"""A copy of a program on which warnings and clang-tidy's findings are counted: what would silence them has no effect.

Line markers and `#line` move code into a "system header", pragmas and attributes switch warnings off, `(void)x` feigns
a use, and clang-tidy obeys the bare word NOLINT wherever it stands, in strings and names too. All of that is undone
with spaces or letters of the same width, so lines and, but for NOLINT in a string, columns stay. No string's value
changes: `"NOLINT"` becomes `"NOLIN" "T"`.

The text is read as a compiler's first phases read it (`lexemes`). A syntax tree cannot stand in for that: tree-sitter
takes `%:pragma`, `#pr\\<newline>agma` and `# /**/ pragma` for errors, keeps macro bodies as opaque text, and loses its
way where the candidate wants it to. What macros or conditionals put together from pieces (`__attribute__((A))` with
`#define A unused`) is not followed.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rlvr_cpp.verifier.cpp.lexemes import SPLICE, Edit, Lexeme, directives, lexemes

TRIGRAPHS_BACKWARDS = re.compile(r"[ \t]*(?:/\?\?[ \t]*)+")
"""At a line's end; under old standards only they join it with the next."""

SILENCING_PRAGMAS = {(vendor, what) for vendor in ("GCC", "clang") for what in ("diagnostic", "system_header")}
UNUSED = {"maybe_unused", "unused", "__unused__", "__maybe_unused__"}
ANALYZER = "__clang_analyzer__"
"""Defined by clang-tidy alone: under it a program can show other code than it compiles."""
WORDS_BEFORE_CAST = {"else", "do", "return", "co_return", "case", "and", "or", "not"}
WORDS_BEFORE_CONDITION = {"if", "while", "for", "switch", "constexpr", "catch"}
WORDS_BEHIND_PARAMETERS = {"const", "volatile", "noexcept", "override", "final", "mutable", "throw", "try", "requires"}
BEHIND_OPERAND = {";", ",", ")", ":", "?", "}", ""}


@dataclass(frozen=True)
class LintCopy:
    """A program in which nothing is silenced."""

    code: str
    """The same lines at the same numbers."""
    suppressions: int
    """How many things were undone; 0 if and only if `code` is the program itself."""


def lint_copy(code: str) -> LintCopy:
    """The program with whatever silences a warning undone. Any text will do, C++ or not; idempotent."""
    copy, suppressions = code, 0
    while undone := _undone(copy):  # what is undone may have stood between the parts of something else
        copy, suppressions = undone[0], suppressions + undone[1]
    return LintCopy(copy, suppressions)


def _undone(code: str) -> tuple[str, int] | None:
    """The program with every suppression in sight undone, and how many; None where there is none."""
    tokens = list(lexemes(code))
    edits = sorted({*_silencers(code, tokens), *_odd_splices(code, tokens), *_nolints(code, tokens)})
    pieces: list[str] = []
    position = count = 0
    for edit in edits:
        if edit.start >= position:  # else it stands in something that is gone already
            pieces += code[position : edit.start], edit.text
            position = edit.end
            count += 1
    return ("".join([*pieces, code[position:]]), count) if edits else None


def _silencers(code: str, tokens: Sequence[Lexeme]) -> Iterator[Edit]:
    """Directives, pragma operators, attributes, feigned uses, and the name that only an analyzer defines."""
    plain, found = directives(tokens)
    yield from _silencers_in(code, plain)
    for directive in found:
        name, rest = (directive[1], directive[2:]) if len(directive) > 1 else (directive[0], [])
        words = [token.text for token in rest[:2]]
        if name.kind == "number" or name.text == "line" or (name.text == "pragma" and _is_silencing(words)):
            yield _blanked(code, directive[0].start, directive[-1].end)
        elif name.text == "define":
            yield from _silencers_in(code, _macro_body(rest), is_macro=True)
    for token in tokens:
        if token.text == ANALYZER and token.kind == "word":
            yield Edit(token.start, token.end, f"_{code[token.start + 1 : token.end].replace('l', '1', 1)}")


def _macro_body(definition: list[Lexeme]) -> list[Lexeme]:
    """What stands behind the name of a macro and its parameters, if a parenthesis follows the name at once."""
    if len(definition) > 1 and definition[1].text == "(" and definition[1].start == definition[0].end:
        closing = next((i for i, token in enumerate(definition) if token.text == ")"), len(definition))
        return definition[closing + 1 :]
    return definition[1:]


def _is_silencing(words: Sequence[str]) -> bool:
    return tuple(words[:2]) in SILENCING_PRAGMAS or list(words[:1]) == ["unused"]


def _silencers_in(code: str, tokens: list[Lexeme], is_macro: bool = False) -> Iterator[Edit]:
    edits, tokens = _pragma_operators(code, tokens)
    yield from edits
    texts = [token.text if token.kind in ("word", "mark") else '""' for token in tokens] + [""] * 5
    partners = _partners(texts)
    if is_macro and "".join(texts) in {"maybe_unused", "__unused__", "gnu::unused"}:
        yield _blanked(code, tokens[0].start, tokens[-1].end)
    behind = 0
    for i in range(len(tokens)):
        opening = i + len(heading) - 1 if (heading := _attribute_heading(texts, i)) else -1
        if opening in partners and i >= behind:
            behind = partners[opening]
            yield from _attributes(code, tokens, texts, range(opening + 1, behind), partners)
        elif operand := _feigned_use(texts, partners, i):
            first, last = tokens[operand[0]].start, tokens[operand[-1]].end
            yield Edit(first, last, "0" + _blanked(code, first, last).text[1:])


def _pragma_operators(code: str, tokens: list[Lexeme]) -> tuple[list[Edit], list[Lexeme]]:
    """`_Pragma` with a silencing text, or with one that only a macro's expansion shows; and the other tokens."""
    edits: list[Edit] = []
    others: list[Lexeme] = []
    i = 0
    while i < len(tokens):
        end = i + 1
        if tokens[i].text == "_Pragma" and tokens[i].kind == "word":
            end = _behind_operand(tokens, end)
            operand = tokens[i + 2 : end - 1]
            if len(operand) != 1 or operand[0].kind not in ("string", "raw") or _is_silencing(_words(operand[0])):
                edits.append(_blanked(code, tokens[i].start, tokens[end - 1].end))
                i = end
                continue
        others += tokens[i:end]
        i = end
    return edits, others


def _behind_operand(tokens: list[Lexeme], opening: int) -> int:
    """The index behind the parenthesis that closes the one at `opening`; `opening` itself where none does at once."""
    depth = 0
    for i in range(opening, len(tokens)):
        depth += (tokens[i].text == "(") - (tokens[i].text == ")")
        if depth == 0 and i > opening:
            return i + 1
        if depth == 0 or tokens[i].text in (";", "{", "}", "_Pragma"):
            break
    return opening


def _words(literal: Lexeme) -> list[str]:
    """The words of a pragma that stands in a string."""
    text = literal.content
    if literal.kind == "string":
        text = re.sub(r"\\([\\\"])", r"\1", text)
    return [token.text for token in lexemes(text) if token.kind not in ("comment", "newline")]


def _partners(texts: list[str]) -> dict[int, int]:
    """For each bracket the index of the one it belongs to."""
    partners: dict[int, int] = {}
    waiting: list[int] = []
    for i, text in enumerate(texts):
        if text in ("(", "[", "{"):
            waiting.append(i)
        elif text in (")", "]", "}") and waiting:
            partners[i] = waiting.pop()
            partners[partners[i]] = i
    return partners


def _attribute_heading(texts: list[str], i: int) -> list[str]:
    """The tokens with which a list of attributes begins at `i`; none where none does."""
    if texts[i : i + 2] == ["[", "["]:
        return texts[i : i + 2]
    is_gnu = texts[i] in ("__attribute__", "__attribute") and texts[i + 1 : i + 3] == ["(", "("]
    return texts[i : i + 3] if is_gnu else []


def _attributes(
    code: str, tokens: list[Lexeme], texts: list[str], inner: range, partners: dict[int, int]
) -> Iterator[Edit]:
    """The names among an attribute's that keep a warning or an analyzer's finding back, their vendor with them."""
    for i in inner:
        vendor = texts[i - 2] if texts[i - 1] == "::" else ""
        first = i - 2 if vendor else i
        last = partners.get(i + 1, i) if texts[i + 1] == "(" else i
        is_suppress = texts[i] == "suppress" and vendor in ("gsl", "clang")
        if (texts[i] in UNUSED or is_suppress) and texts[last + 1] in (",", "]", ")"):
            yield _blanked(code, tokens[first].start, tokens[last].end)


def _feigned_use(texts: list[str], partners: dict[int, int], i: int) -> range | None:
    """The operand of a cast to void, or of an assignment to `std::ignore`, that begins at `i` and is a plain name."""
    behind = BEHIND_OPERAND
    if texts[i : i + 3] == ["(", "void", ")"] and _may_cast(texts, partners, i):
        place = i + 3
    elif texts[i : i + 5] == ["static_cast", "<", "void", ">", "("]:
        place, behind = i + 4, set()
    elif texts[i : i + 2] == ["void", "("] and (i == 0 or texts[i - 1] in (";", "{", "}", "else", "do", ":")):
        place, behind = i + 1, {";", ""}
    elif texts[i : i + 4] == ["std", "::", "ignore", "="]:
        place = i + 4
    else:
        return None
    opened = texts[place] == "("
    first = place + opened
    name = first + (texts[first] == "&")
    is_name = re.fullmatch(r"[^\W\d]\w*", texts[name]) and texts[name] not in WORDS_BEHIND_PARAMETERS
    is_closed = not opened or texts[name + 1] == ")"
    is_whole = not behind or texts[name + 1 + opened] in behind
    return range(first, name + 1) if is_name and is_closed and is_whole else None


def _may_cast(texts: list[str], partners: dict[int, int], i: int) -> bool:
    """The `(void)` at `i` is a cast, not the parameters of a function."""
    before = texts[i - 1] if i else ";"
    if before == ")":
        opening = partners.get(i - 1, 0)
        is_cast = opening == i - 3 and texts[i - 2] == "void"
        return is_cast or (opening > 0 and texts[opening - 1] in WORDS_BEFORE_CONDITION)
    if before == "]":
        return texts[i - 2] == "]"
    return before in WORDS_BEFORE_CAST or not (before in (">", "->", '""') or re.match(r"\w", before))


def _odd_splices(code: str, tokens: Sequence[Lexeme]) -> Iterator[Edit]:
    """Splices on which the compilers (NUL before the line's end) or the standards disagree, outside of raw strings."""
    raw = [token for token in tokens if token.kind == "raw"]
    starts = [token.start for token in raw]
    spans = [match.span() for match in SPLICE.finditer(code) if "\0" in match.group()]
    for line in re.finditer(r"[^\r\n]+", code) if "??/" in code else ():
        match = TRIGRAPHS_BACKWARDS.match(line.group()[::-1])
        if match and line.end() < len(code):  # else no line end follows
            spans.append((line.end() - match.end(), line.end()))
    for start, end in spans:
        token = bisect_right(starts, start) - 1
        if token < 0 or raw[token].end <= start:
            yield _blanked(code, start, end)


def _nolints(code: str, tokens: Sequence[Lexeme]) -> Iterator[Edit]:
    """Every `NOLINT`: the O becomes a zero, in strings the word is cut in two, file names stay."""
    places = [match.start() for match in re.finditer("NOLINT", code)]
    starts = [token.start for token in tokens] if places else []
    for place in places:
        i = bisect_right(starts, place) - 1
        token = tokens[i] if i >= 0 and tokens[i].end > place else None
        if token is None or token.kind not in ("string", "raw", "character", "file"):
            yield Edit(place + 1, place + 2, "0")
        elif token.kind == "character":
            yield Edit(place + 5, place + 6, r"\124")
        elif token.kind != "file":
            yield Edit(place + 5, place + 5, f"{token.closing} {token.opening}")
        elif next(tokens[j].text for j in range(i - 1, -1, -1) if tokens[j].kind != "comment") == "(":
            yield Edit(place + 1, place + 2, "0")  # `__has_include` asks for a file that need not exist


def _blanked(code: str, start: int, end: int) -> Edit:
    """Spaces in place of a part; its line ends stay, and its splices, which a macro's body needs."""

    def blank(match: re.Match[str]) -> str:
        return match["splice"].replace("\0", " ") if match["splice"] else " "

    return Edit(start, end, re.sub(r"(?P<splice>\\[ \t\f\v\0]*(?=[\r\n]))|[^\r\n]", blank, code[start:end]))
