"""Where code stands in an answer: in fences of every form, in inline code, or among prose without any mark.

A line decides. A fence opens with three or more ticks or tildes, at the start of a line or behind prose, and closes
with as many of the same; one that meets another opening was never closed. What stands in a literal or comment of the
block's own code closes nothing.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from rlvr_cpp.verifier.cpp.lexemes import OUTLINE, Lexeme, lexemes

CPP = re.compile(r"(?:cpp|c\+\+|gnu\+\+|cplusplus|cc|cxx|c|h|hh|hpp|hxx)-?(?:\d\w)?")
MARKDOWN = frozenset(("markdown", "md"))
LINE = re.compile(r"[^\n]*(?:\n|\Z)")
OPENING = re.compile(r"[ \t]*(?:(?:[-*+]|\d+[.)])[ \t]+)?(?P<fence>`{3,}|~{3,})[ \t]*(?P<info>[^\n]*)")
GLUED = re.compile(r"[^`\n]*\S[ \t]*(?P<fence>`{3,})[ \t]*(?P<info>[A-Za-z0-9+#.-]*)[ \t\r]*$")
"""A fence behind prose: `Here it is: ` and three ticks."""
WORD = re.compile(r"(?:\{(?:#[\w-]+[ \t]+)?)?\.?(?P<language>[A-Za-z][\w+#.-]*)\}?(?P<rest>.*)")
LANGUAGE = re.compile(r"[A-Za-z][\w+#.-]*")
LONE_LANGUAGE = re.compile(r"(?P<language>[\w+]+)[ \t\r]*\n")
"""A language that stands on the line below its fence."""
ATTRIBUTES = re.compile(r"[ \t]*(?:[:,{].*|[\w-]+=.*|[\w./\\-]+\.\w+|[.#][^{}]*\})?[ \t\r]*")
"""What may follow a fence's language and is no code: a title, numbers of lines, the name of a file."""
LONE_ATTRIBUTE = re.compile(r"[ \t]+[\w-]+[ \t\r]*")
"""What may follow a language that is known, such as `showLineNumbers`."""
INLINE = re.compile(r"(?P<fence>`+)(?P<code>[^`\n]+)(?P=fence)(?!`)")
INDENT = re.compile(r"[ \t]*")
MAX_CLOSINGS = 16
"""Of one answer, how many lines that look like the end of a fence are tried where a literal or comment is open."""

INVISIBLE = "\ufeff\u200b\u2060"
CODE_LINE = re.compile(
    r"[ \t]*(?![\\<])(?:"
    r"#[ \t]*(?:include|define|undef|pragma|if|ifdef|ifndef|el|endif|error|line)\b|//|/\*|\*/|[{}]|\[\["
    r"|(?:using|typedef|template|struct|class|enum|union|namespace|static|inline|constexpr|const|extern|unsigned|signed"
    r"|auto|void|bool|char|short|int|long|float|double|std::)\b[^.?!]*(?:[;{,)}]|const|noexcept|->[^\n]*)[ \t\r]*$"
    r"|template[ \t]*<[^\n]*>[ \t\r]*$|requires\b[^\n]*[)>][ \t\r]*$"
    r"|(?:\}[ \t]*)?(?:if|for|while|switch|else[ \t]+if)\b[ \t]*(?:constexpr[ \t]*)?\([^\n]*\)[ \t\r]*$"
    r"|(?:else|do)[ \t\r]*$"
    r"|[^\n]*[;{}][ \t\r]*(?://[^\n]*)?$"
    r"|(?:[\w:<>,&*]+[ \t]+)+[*&]*[\w:~]+[ \t]*\([^\n]*\)[ \t]*(?:const|noexcept|override)?[ \t\r]*$"
    r")"
)
"""How a line of C++ looks that no line of prose looks like."""
GOES_ON = re.compile(r"[ \t]+\S|[^\n]*[,(=+*/%&|<][ \t\r]*$|return\b")
"""How a line may look that stands above one of code and belongs to it."""
TAGS = re.compile(r"(?:[ \t]*</?[A-Za-z][\w-]*>)+")
MAX_TAGS = 200
"""Characters of them behind a line."""
END_TAGS = re.compile(r"(?:</[A-Za-z][\w-]*>[ \t\r]*)+$")
LONE_NAME = re.compile(r"[ \t]*(?:struct|class|enum|union|namespace)\b[\w:<> \t,]*")
"""A class or namespace whose brace stands on the next line."""
LONE_TYPE = re.compile(r"(?:const[ \t]+)?[A-Za-z_][\w:]*(?:<[^\n]*>)?[ \t]*[*&]*[ \t\r]*")
"""The type of a function whose name stands on the next line."""


@dataclass(frozen=True)
class Block:
    """A part of an answer that may be code."""

    start: int
    end: int
    language: str
    """As the fence names it, in small letters; empty where it names none or there is no fence."""
    is_inline: bool = False
    """It stands between ticks in a line of prose."""

    @property
    def rank(self) -> int:
        """2 for C++, 1 where the language is not said, 0 for another one."""
        return 2 if CPP.fullmatch(self.language) else 0 if self.language else 1


def fenced_blocks(text: str, start: int = 0) -> list[Block]:
    """The blocks in fences, in order."""
    blocks: list[Block] = []
    position, closings = start, 0
    while position < len(text):
        line = LINE.match(text, position)
        assert line is not None
        opening = _opening(text, line)
        if opening is None:
            blocks.extend(_inline(text, line))
            position = line.end()
            continue
        fence, language, begin = opening
        end, position, tried = _closing(text, fence, begin, MAX_CLOSINGS - closings)
        if end == len(text):
            end = max((block.end for block in unfenced_blocks(text, begin)), default=end)
        closings += tried
        inside = fenced_blocks(text[:end], begin) if language in MARKDOWN else []
        named = LONE_LANGUAGE.match(text, begin, end) if not language else None
        if named is not None and CPP.fullmatch(named["language"].lower()):
            begin, language = named.end(), named["language"].lower()
        blocks.extend(inside or [Block(_visible(text, begin, end), end, language)])
    return blocks


def unfenced_blocks(text: str, start: int = 0, stop: int | None = None) -> list[Block]:
    """Runs of lines that look like C++, outside of fences."""
    blocks: list[Block] = []
    begin = end = None
    depth, in_comment = 0, False
    lines = [*LINE.finditer(text, start, len(text) if stop is None else stop)]
    for number, line in enumerate(lines):
        first, last = _without_tags(line)
        content, code = text[first:last].strip(), text[first:last]
        following = next((other[0].strip() for other in lines[number + 1 : number + 3] if other[0].strip()), "")
        if depth > 0 or in_comment or CODE_LINE.match(code) or _begins_code(code, following):
            begin = first if begin is None else begin
            end = last
            depth = max(0, depth + _balance(content))
            in_comment = content.rfind("*/") < content.rfind("/*") or (in_comment and "*/" not in content)
        elif content and begin is not None and end is not None:
            blocks.append(Block(_visible(text, begin, end), end, ""))
            begin = None
    if begin is not None and end is not None:
        blocks.append(Block(_visible(text, begin, end), end, ""))
    return blocks


def loose_body(text: str) -> tuple[int, int]:
    """Where statements stand among prose, from the first line that looks like code to the last; all where none does."""
    blocks = unfenced_blocks(text)
    if not blocks:
        return 0, len(text)
    begin = blocks[0].start
    while begin > 0:
        above = text.rfind("\n", 0, begin - 1) + 1
        line = text[above : begin - 1]
        if not line.strip() or not GOES_ON.match(line):
            break
        begin = above
    return begin, blocks[-1].end


def _without_tags(line: re.Match[str]) -> tuple[int, int]:
    """A line without the tags of HTML around it, such as `<pre><code>`; no line of C++ begins or ends so."""
    before, behind = TAGS.match(line[0]), END_TAGS.search(line[0], max(0, len(line[0]) - MAX_TAGS))
    first = line.start() + (before.end() if before else 0)
    return first, max(first, line.start() + behind.start() if behind else line.end())


def _opening(text: str, line: re.Match[str]) -> tuple[str, str, int] | None:
    """The fence, the language and where the content begins, if a block opens in this line."""
    match = OPENING.match(text, line.start(), line.end())
    if match is None and (match := GLUED.match(text, line.start(), line.end())) is None:
        return None
    if match["fence"][0] in match["info"]:
        return None  # inline code between ticks
    word = WORD.match(match["info"])
    if word is None:
        is_bare = not match["info"].strip()
        return (match["fence"], "", line.end()) if is_bare else (match["fence"], "", match.start("info"))
    is_language = CPP.fullmatch(word["language"].lower()) is not None
    rest = word["rest"].rstrip()
    if ATTRIBUTES.fullmatch(rest) or (is_language and LONE_ATTRIBUTE.fullmatch(rest)):
        return match["fence"], word["language"].lower(), line.end()
    begin = match.start("info") + (word.start("rest") if is_language else 0)
    return match["fence"], word["language"].lower() if is_language else "", begin


def _closing(text: str, fence: str, begin: int, tries: int) -> tuple[int, int, int]:
    """Where the content of a block ends, where the text goes on, and how many ends were no ends."""
    closing = re.compile(rf"{re.escape(fence[0])}{{{len(fence)},}}")
    position, tried = begin, 0
    while position < len(text):
        line = LINE.match(text, position)
        assert line is not None
        found = closing.match(text, INDENT.match(text, position).end())  # type: ignore[union-attr]
        behind = text[found.end() : line.end()].strip() if found else ""
        if found is None and fence[0] == "`":
            found = _glued_closing(text, line, closing)
        if found is not None and (tried >= tries or not _is_inside(text, begin, found.start())):
            goes_on = position if LANGUAGE.fullmatch(behind) else line.end()
            return max(begin, found.start()), goes_on, tried
        tried += found is not None
        position = line.end()
    return len(text), len(text), tried


def _glued_closing(text: str, line: re.Match[str], closing: re.Pattern[str]) -> re.Match[str] | None:
    """The fence at the end of a line of code, as in `}` and three ticks."""
    stripped = line.start() + len(line[0].rstrip())
    ticks = len(line[0].rstrip()) - len(line[0].rstrip().rstrip("`"))
    found = closing.match(text, stripped - ticks) if ticks else None
    before = text[line.start() : stripped - ticks]
    is_code = before.rstrip().endswith((";", "}", "*/")) and before.count("`") == 0
    return found if is_code else None


def _is_inside(text: str, begin: int, place: int) -> bool:
    """Whether `place` is in a raw string or a comment of the code that begins at `begin` and goes on behind."""
    found = deque(lexemes(text[begin:place], OUTLINE), maxlen=1)
    if not found or found[0].end != place - begin:
        return False
    closing = _end_of(found[0])
    return bool(closing) and not found[0].text.endswith(closing) and closing in text[place:]


def _end_of(literal: Lexeme) -> str:
    """How a literal or comment ends that may hold lines; empty for all others."""
    if literal.kind == "raw":
        return literal.closing
    return "*/" if literal.kind == "comment" and literal.text.startswith("/*") else ""


def _inline(text: str, line: re.Match[str]) -> Iterator[Block]:
    """Definitions that stand between ticks in a line."""
    for match in INLINE.finditer(text, line.start(), line.end()):
        if "{" in match["code"] and "}" in match["code"]:
            start, end = match.span("code")
            word = WORD.match(match["code"])
            named = word["language"].lower() if word and len(match["fence"]) > 1 else ""
            language = named if CPP.fullmatch(named) else ""
            yield Block(start + len(language), end, language, is_inline=True)


def _begins_code(line: str, following: str) -> bool:
    """A line that is code by what comes behind it: a brace, or a function's name below its type."""
    content = line.rstrip()
    if following.startswith("{") and (content.endswith((")", "const", "noexcept")) or LONE_NAME.fullmatch(content)):
        return True
    is_head = re.match(r"[A-Za-z_][\w:]*\s*\(", following) is not None and following.endswith(("{", ")", ",", "("))
    return LONE_TYPE.fullmatch(content) is not None and is_head


def _balance(line: str) -> int:
    braces = [lexeme.text for lexeme in lexemes(line, OUTLINE) if lexeme.kind == "brace"]
    return braces.count("{") - braces.count("}")


def _visible(text: str, begin: int, end: int) -> int:
    """Past byte order marks and their like, which no compiler reads."""
    while begin < end and text[begin] in INVISIBLE:
        begin += 1
    return begin
