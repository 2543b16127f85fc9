"""A copy of a program on which warnings and clang-tidy's findings are counted: what would silence them has no effect.

Line markers and `#line` move code into a "system header", pragmas and attributes switch warnings off, `(void)x` feigns
a use, and clang-tidy obeys the bare word NOLINT wherever it stands, in strings and names too. All of that is undone
with spaces or letters of the same width, so lines and, but for NOLINT in a string, columns stay. No string's value
changes: `"NOLINT"` becomes `"NOLIN" "T"`.

The text is read as a compiler's first phases read it: line splices, digraphs, comments inside of directives, raw
strings. A syntax tree cannot stand in for that: tree-sitter takes `%:pragma`, `#pr\\<newline>agma` and `# /**/ pragma`
for errors, keeps macro bodies as opaque text, and loses its way where the candidate wants it to. What macros or
conditionals put together from pieces (`__attribute__((A))` with `#define A unused`) is not followed.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

SPLICE = re.compile(r"\\[ \t\f\v\0]*(?:\r\n|\n|\r)")
TOKEN = re.compile(
    r"(?P<newline>\r\n?|\n)|(?P<blank>[ \t\f\v\0\ufeff]+)|(?P<comment>//[^\r\n]*|/\*.*?(?:\*/|\Z))|"
    r'(?P<raw>(?P<raw_prefix>(?:u8|[uUL])?R)"(?P<delimiter>[^ ()\\\t\v\f\n\r"]{0,16})\()|'
    r'(?P<string>(?P<prefix>u8|[uUL])?"(?:\\[^\r\n]|[^"\\\r\n])*")|'
    r"(?P<character>(?:u8|[uUL])?'(?:\\[^\r\n]|[^'\\\r\n])*')|"
    r"(?P<unclosed>(?:u8|[uUL])?[\"'][^\r\n]*)|"
    r"(?P<number>\.?[0-9](?:'\w|[eEpP][+-]|[\w.])*)|(?P<word>(?:[^\W\d]|\$)[\w$]*)|"
    r"(?P<mark>\?\?=|%:|<:(?!:(?![:>]))|:>|<%|%>|::|.)",
    re.DOTALL,
)
DIGRAPHS = {"??=": "#", "%:": "#", "<:": "[", ":>": "]", "<%": "{", "%>": "}"}
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


class Token(NamedTuple):
    """A piece of the program behind splices and digraphs."""

    kind: str
    text: str
    """Of a raw string what stands between its parentheses."""
    start: int
    """In the program as it was written, as is `end`."""
    end: int
    opening: str = ""
    """How a string begins, up to its first character."""


class Edit(NamedTuple):
    """What is put in place of a part of the program."""

    start: int
    end: int
    text: str


def lint_copy(code: str) -> LintCopy:
    """The program with whatever silences a warning undone. Any text will do, C++ or not; idempotent."""
    copy, suppressions = code, 0
    while undone := _undone(copy):  # what is undone may have stood between the parts of something else
        copy, suppressions = undone[0], suppressions + undone[1]
    return LintCopy(copy, suppressions)


def _undone(code: str) -> tuple[str, int] | None:
    """The program with every suppression in sight undone, and how many; None where there is none."""
    tokens = list(_tokens(code))
    edits = sorted({*_silencers(code, tokens), *_odd_splices(code, tokens), *_nolints(code, tokens)})
    pieces: list[str] = []
    position = count = 0
    for edit in edits:
        if edit.start >= position:  # else it stands in something that is gone already
            pieces += code[position : edit.start], edit.text
            position = edit.end
            count += 1
    return ("".join([*pieces, code[position:]]), count) if edits else None


def _tokens(code: str) -> Iterator[Token]:
    """Everything but blanks, from the text without its splices; raw strings are read with theirs."""
    starts, origins, logical = _without_splices(code)

    def written(place: int) -> int:
        segment = bisect_right(starts, place) - 1
        return origins[segment] + place - starts[segment]

    position = 0
    while match := TOKEN.match(logical, position):
        kind, text, position = str(match.lastgroup), match.group(), match.end()
        start, end, opening = written(match.start()), written(position - 1) + 1, ""
        if kind == "raw":
            delimiter = match["delimiter"]
            close = code.find(f'){delimiter}"', end)
            text = code[end:close] if close >= 0 else code[end:]
            opening, end = match.group(), close + len(delimiter) + 2 if close >= 0 else len(code)
            segment = bisect_right(origins, end - 1) - 1
            position = starts[segment] + end - origins[segment]
        elif kind == "string":
            opening = f'{match["prefix"] or ""}"'
        if kind != "blank":
            yield Token(kind, DIGRAPHS.get(text, text) if kind == "mark" else text, start, end, opening)


def _without_splices(code: str) -> tuple[list[int], list[int], str]:
    """The code without its splices, and where each piece of it begins there and in the code."""
    starts, origins, pieces = [0], [0], []
    length = 0
    for splice in SPLICE.finditer(code):
        pieces.append(code[origins[-1] : splice.start()])
        length += len(pieces[-1])
        starts.append(length)
        origins.append(splice.end())
    pieces.append(code[origins[-1] :])
    return starts, origins, "".join(pieces)


def _silencers(code: str, tokens: Sequence[Token]) -> Iterator[Edit]:
    """Directives, pragma operators, attributes, feigned uses, and the name that only an analyzer defines."""
    plain, directives = _split(tokens)
    yield from _silencers_in(code, plain)
    for directive in directives:
        name, rest = (directive[1], directive[2:]) if len(directive) > 1 else (directive[0], [])
        words = [token.text for token in rest[:2]]
        if name.kind == "number" or name.text == "line" or (name.text == "pragma" and _is_silencing(words)):
            yield _blanked(code, directive[0].start, directive[-1].end)
        elif name.text == "define":
            yield from _silencers_in(code, _macro_body(rest), is_macro=True)
    for token in tokens:
        if token.text == ANALYZER and token.kind == "word":
            yield Edit(token.start, token.end, f"_{code[token.start + 1 : token.end].replace('l', '1', 1)}")


def _split(tokens: Sequence[Token]) -> tuple[list[Token], list[list[Token]]]:
    """The program's tokens outside of directives, and each directive's; no comments."""
    plain: list[Token] = []
    directives: list[list[Token]] = []
    target, at_line_start = plain, True
    for token in tokens:
        if token.kind == "newline":
            target, at_line_start = plain, True
        elif token.kind != "comment":
            if at_line_start and token.text == "#" and token.kind == "mark":
                target = []
                directives.append(target)
            target.append(token)
            at_line_start = False
    return plain, directives


def _macro_body(definition: list[Token]) -> list[Token]:
    """What stands behind the name of a macro and its parameters, if a parenthesis follows the name at once."""
    if len(definition) > 1 and definition[1].text == "(" and definition[1].start == definition[0].end:
        closing = next((i for i, token in enumerate(definition) if token.text == ")"), len(definition))
        return definition[closing + 1 :]
    return definition[1:]


def _is_silencing(words: Sequence[str]) -> bool:
    return tuple(words[:2]) in SILENCING_PRAGMAS or list(words[:1]) == ["unused"]


def _silencers_in(code: str, tokens: list[Token], is_macro: bool = False) -> Iterator[Edit]:
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


def _pragma_operators(code: str, tokens: list[Token]) -> tuple[list[Edit], list[Token]]:
    """`_Pragma` with a silencing text, or with one that only a macro's expansion shows; and the other tokens."""
    edits: list[Edit] = []
    others: list[Token] = []
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


def _behind_operand(tokens: list[Token], opening: int) -> int:
    """The index behind the parenthesis that closes the one at `opening`; `opening` itself where none does at once."""
    depth = 0
    for i in range(opening, len(tokens)):
        depth += (tokens[i].text == "(") - (tokens[i].text == ")")
        if depth == 0 and i > opening:
            return i + 1
        if depth == 0 or tokens[i].text in (";", "{", "}", "_Pragma"):
            break
    return opening


def _words(literal: Token) -> list[str]:
    """The words of a pragma that stands in a string."""
    text = literal.text
    if literal.kind == "string":
        text = re.sub(r"\\([\\\"])", r"\1", text[len(literal.opening) : -1])
    return [token.text for token in _tokens(text) if token.kind not in ("comment", "newline")]


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
    code: str, tokens: list[Token], texts: list[str], inner: range, partners: dict[int, int]
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
    return before in WORDS_BEFORE_CAST or not (before in (">", '""') or re.match(r"\w", before))


def _odd_splices(code: str, tokens: Sequence[Token]) -> Iterator[Edit]:
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


def _nolints(code: str, tokens: Sequence[Token]) -> Iterator[Edit]:
    """Every `NOLINT`: the O becomes a zero, in strings the word is cut in two, file names stay."""
    places = [match.start() for match in re.finditer("NOLINT", code)]
    starts = [token.start for token in tokens] if places else []
    for place in places:
        i = bisect_right(starts, place) - 1
        token = tokens[i] if i >= 0 else None
        if token is None or token.end <= place or token.kind not in ("string", "raw", "character"):
            yield Edit(place + 1, place + 2, "0")
        elif token.kind == "character":
            yield Edit(place + 5, place + 6, r"\124")
        elif i < 2 or tokens[i - 2].text != "#" or tokens[i - 1].text not in ("include", "include_next", "import"):
            closing = f'){token.opening.partition(chr(34))[2][:-1]}"' if token.kind == "raw" else '"'
            yield Edit(place + 5, place + 5, f"{closing} {token.opening}")


def _blanked(code: str, start: int, end: int) -> Edit:
    """Spaces in place of a part; its line ends stay, and its splices, which a macro's body needs."""

    def blank(match: re.Match[str]) -> str:
        return match["splice"].replace("\0", " ") if match["splice"] else " "

    return Edit(start, end, re.sub(r"(?P<splice>\\[ \t\f\v\0]*(?=[\r\n]))|[^\r\n]", blank, code[start:end]))
