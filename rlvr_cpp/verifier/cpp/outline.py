"""What a text holds at its top level and where each piece stands: definitions, directives, statements.

`signature.py` says what C++ means, from its syntax tree. This says where things begin and end, also in texts that are
half a program: a body without its head, a class that is left open, branches of a conditional that both open the same
brace. It reads lexemes alone, in a time that grows with the text, and never raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Literal, NamedTuple

from rlvr_cpp.verifier.cpp.lexemes import OUTLINE, Lexeme, lexemes

Kind = Literal["function", "prototype", "type", "variable", "alias", "scope", "directive", "statement", "close"]
"""A `scope` is a namespace or `extern "C" {`; a `close` is a brace whose opening is not in the text."""
DEFINITIONS = ("function", "type", "variable", "alias")

STATEMENT_TEXT = """
    if for while do switch return else try catch case default break continue goto throw delete new static_assert
    co_return co_yield co_await"""
SPECIFIER_TEXT = """
    alignas decltype noexcept requires explicit __attribute__ __declspec sizeof typeof __typeof__ asm __asm__"""
TYPE_TEXT = """
    const volatile struct class union enum typename unsigned signed short long int char bool float double void auto
    wchar_t"""
STATEMENTS = frozenset(STATEMENT_TEXT.split())
"""What a statement may begin with."""
NOT_FUNCTIONS = STATEMENTS | frozenset(SPECIFIER_TEXT.split())
"""What may stand before a parenthesis and is no function's name."""
NOT_NAMES = frozenset(TYPE_TEXT.split())
"""What may end a parameter that has no name."""
TYPE_WORDS = frozenset(("struct", "class", "union", "enum"))
ACCESS = frozenset(("public", "private", "protected"))
BEFORE_A_BODY = frozenset(("const", "noexcept", "override", "final", "mutable", "try"))
SEMICOLON = re.compile(r"[ \t]*;")
OPENING = {"(": ")", "[": "]", "{": "}"}
MAX_NESTING = 4  # of namespaces whose contents are read


class Head(NamedTuple):
    """What the tokens before an item's brace, `=` or `;` say."""

    kind: Kind
    name: str = ""
    parameters: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Item:
    """One piece of a text at its top level, with the white space and comments before it."""

    start: int
    """Where the piece before it ends."""
    end: int
    tokens: tuple[Lexeme, ...]
    """Without comments. Of a conditional's other branches, too."""
    body: int | None
    """The number of the token that opens its braces; None without."""
    is_closed: bool
    """It ends in the text. Else it is the last one."""
    inner: tuple[Item, ...] = ()
    """Of a scope: what stands in it."""

    @property
    def head(self) -> int:
        """Where its first token begins, behind `public:` and its like."""
        first = 0
        while first + 2 < len(self.tokens) and _is_access(self.tokens, first):
            first += 2
        return self.tokens[first].start

    @cached_property
    def read(self) -> Head:
        """What it is."""
        return _read_head(self.tokens, self.body)

    @property
    def kind(self) -> Kind:
        """What sort of thing it is."""
        return self.read.kind

    @property
    def name(self) -> str:
        """What it defines or declares; empty where it has no name."""
        return self.read.name

    @cached_property
    def names(self) -> frozenset[str]:
        """What it defines at global scope: in an unnamed namespace or `extern "C"`, what stands there."""
        if self.kind == "scope" and not self.name:
            return frozenset().union(*(item.names for item in self.inner))
        return frozenset({self.name} if self.name and self.kind in (*DEFINITIONS, "scope") else ())

    @cached_property
    def words(self) -> frozenset[str]:
        """The identifiers that it uses and does not seem to declare itself."""
        return frozenset(_free_words(self.tokens))

    @cached_property
    def spelling(self) -> tuple[str, ...]:
        """Its tokens, to compare it with another."""
        return tuple(token.text for token in self.tokens)

    @property
    def is_whole(self) -> bool:
        """It is closed, and says more in its braces than nothing or `...`."""
        if not self.is_closed or self.body is None:
            return self.is_closed
        return any(token.text not in ".;{}" for token in self.tokens[self.body :])

    @property
    def includes(self) -> bool:
        """It is `#include`, or lets names be used without their namespace."""
        return self.spelling[:2] == ("#", "include") or (self.kind == "statement" and self.spelling[0] == "using")


def outline(code: str, nesting: int = 0) -> list[Item]:
    """The items of a text, in order. Each begins where the one before ends; behind the last is no token."""
    scanner = _Scanner(code, nesting)
    for tokens, is_live in _pieces(code):
        if tokens[0].text == "#" and tokens[0].kind == "directive":
            scanner.directive(tokens)
        elif is_live:
            scanner.token(tokens[0])
        else:
            scanner.leave_out(tokens[0])
    return scanner.finish()


def open_items(code: str) -> list[tuple[Item, int]]:
    """What a text leaves open at its end, outermost first, each with where its text begins: item and offset add up.

    A function whose head alone stands at the end counts as open.
    """
    found: list[tuple[Item, int]] = []
    offset = 0
    while len(found) < MAX_NESTING:
        items = outline(code[offset:], nesting=MAX_NESTING)
        if not items or items[-1].is_closed or items[-1].kind == "statement":
            break
        last = items[-1]
        found.append((last, offset))
        if last.body is None or last.kind not in ("type", "scope"):
            break
        offset += last.tokens[last.body].end
    return found


def open_braces(code: str) -> int:
    """How many braces a text opens and does not close."""
    depth = 0
    for brace in _braces(code):
        depth = max(0, depth + (1 if brace.text == "{" else -1))
    return depth


def closing_brace(code: str, depth: int) -> int | None:
    """Where the brace ends, and its semicolon, that closes the outermost of `depth` braces opened before the text."""
    for brace in _braces(code):
        depth += 1 if brace.text == "{" else -1
        if depth == 0:
            semicolon = SEMICOLON.match(code, brace.end)
            return semicolon.end() if semicolon else brace.end
    return None


def _braces(code: str) -> Iterator[Lexeme]:
    branches = _Branches()
    for lexeme in lexemes(code, OUTLINE):
        if lexeme.kind == "brace" and branches.are_read:
            yield lexeme
        elif lexeme.kind in ("conditional", "zero"):
            branches.follow(lexeme.text, is_zero=lexeme.kind == "zero")


def _pieces(code: str) -> Iterator[tuple[list[Lexeme], bool]]:
    """Each token, or all tokens of a directive, and whether it stands in a branch that is read."""
    branches = _Branches()
    line: list[Lexeme] | None = None
    at_line_start = True
    for token in lexemes(code):
        if token.kind == "newline":
            if line is not None:
                yield line, _follow(branches, line)
            line, at_line_start = None, True
        elif token.kind != "comment":
            if at_line_start and token.text == "#" and token.kind == "mark":
                line = [token._replace(kind="directive")]
            elif line is not None:
                line.append(token)
            else:
                yield [token], branches.are_read
            at_line_start = False
    if line is not None:
        yield line, _follow(branches, line)


def _follow(branches: _Branches, line: Sequence[Lexeme]) -> bool:
    if len(line) > 1:
        branches.follow(line[1].text, is_zero=[token.text for token in line[2:4]] == ["0"])
    return branches.are_read


class _Branches:
    """Which branches of conditionals are read: of each one, the first that is not `#if 0`.

    All branches open and close the same braces, or no brace could be told from another without a preprocessor.
    """

    def __init__(self) -> None:
        self._open: list[tuple[bool, bool]] = []
        """Of each conditional, whether this branch is read and whether one was."""
        self._left_out = 0

    @property
    def are_read(self) -> bool:
        """Whether what comes next is read."""
        return not self._left_out

    def follow(self, word: str, is_zero: bool) -> None:
        """Take a directive into account, of which only those of conditionals mean anything."""
        if word in ("if", "ifdef", "ifndef"):
            self._open.append((not is_zero, not is_zero))
            self._left_out += is_zero
        elif word in ("else", "elif", "elifdef", "elifndef") and self._open:
            is_read, was_read = self._open[-1]
            self._open[-1] = (not was_read, True)
            self._left_out += is_read - (not was_read)
        elif word == "endif" and self._open:
            self._left_out -= not self._open.pop()[0]


@dataclass
class _Draft:
    """An item that is being read."""

    tokens: list[Lexeme] = field(default_factory=list)
    body: int | None = None
    head: Head | None = None
    """Known from its brace on, as is what follows."""
    has_initialisers: bool = False
    """Of a constructor: `) : member{` may come before its body."""
    has_constraint: bool = False
    is_closed: bool = True


class _Scanner:
    """Collects tokens until they make an item."""

    def __init__(self, code: str, nesting: int) -> None:
        self._code, self._nesting = code, nesting
        self._ended: list[_Draft] = []
        self._pending = _Draft()
        self._open: list[tuple[str, int]] = []
        """Brackets of the pending item, each with its token's number."""
        self._depth = 0
        """How many of them are braces."""

    def token(self, token: Lexeme) -> None:
        """Take a token of a branch that is read."""
        text = token.text if token.kind == "mark" else ""
        pending = self._pending.tokens
        if text == "}" and not self._open:
            self._end()
            self._pending.tokens.append(token)
            self._end()
        elif text == ";" and not pending and self._ended:
            self.leave_out(token)
        else:
            pending.append(token)
            if text in OPENING:
                self._enter(text)
            elif text in (")", "]") and self._open and OPENING[self._open[-1][0]] == text:
                self._open.pop()
            elif text == "}":
                self._leave()
            elif text == ";" and self._may_end():
                self._end()

    def directive(self, line: list[Lexeme]) -> None:
        """Take a directive: an item of its own, unless it stands in the middle of one."""
        is_conditional = len(line) > 1 and line[1].text.startswith(("if", "el", "endif"))
        if self._open or (self._pending.tokens and is_conditional):
            self._pending.tokens.extend(line)
            return
        self._end()
        self._pending.tokens.extend(line)
        self._end()

    def leave_out(self, token: Lexeme) -> None:
        """Take a token that belongs to whatever stands before it."""
        (self._pending if self._pending.tokens or not self._ended else self._ended[-1]).tokens.append(token)

    def finish(self) -> list[Item]:
        """The items; what is pending is the last one."""
        if self._pending.tokens:
            self._end()
            self._ended[-1].is_closed = False
        items: list[Item] = []
        for draft in self._ended:
            items.append(self._item(draft, items[-1].end if items else 0))
        return items

    def _item(self, draft: _Draft, start: int) -> Item:
        tokens = draft.tokens
        item = Item(start, tokens[-1].end, tuple(tokens), draft.body, draft.is_closed)
        if item.kind != "scope" or draft.body is None or self._nesting >= MAX_NESTING:
            return item
        inside = self._code[tokens[draft.body].end : tokens[-1].start if draft.is_closed else None]
        return replace(item, inner=tuple(outline(inside, self._nesting + 1)))

    def _enter(self, mark: str) -> None:
        draft = self._pending
        if mark == "{" and not self._open and draft.body is None:
            draft.body = len(draft.tokens) - 1
            draft.head = _read_head(draft.tokens, draft.body)
            texts = [token.text for token in draft.tokens]
            draft.has_initialisers = any(pair == (")", ":") for pair in pairwise(texts))
            draft.has_constraint = "requires" in texts
        self._open.append((mark, len(draft.tokens) - 1))
        self._depth += mark == "{"

    def _leave(self) -> None:
        """A brace closes, and with it whatever was left open in it."""
        number = 0
        while self._open:
            mark, number = self._open.pop()
            if mark == "{":
                self._depth -= 1
                break
        if not self._open and self._ends_with_brace(number):
            self._end()

    def _ends_with_brace(self, opening: int) -> bool:
        draft = self._pending
        if draft.head is None:
            return False
        if draft.head.kind == "function":
            before = draft.tokens[opening - 1]
            is_name = before.text == ">" or (before.kind == "word" and before.text not in BEFORE_A_BODY)
            return not (draft.has_initialisers and is_name)
        return draft.head.kind == "scope" or (draft.head.kind == "statement" and not draft.has_constraint)

    def _may_end(self) -> bool:
        """A semicolon in parentheses ends nothing in `for (;;)`; elsewhere the parentheses are broken."""
        if not self._open:
            return True
        return not self._depth and self._pending.tokens[0].text not in STATEMENTS

    def _end(self) -> None:
        if self._pending.tokens:
            self._ended.append(self._pending)
            self._pending, self._open, self._depth = _Draft(), [], 0


def _read_head(tokens: Sequence[Lexeme], body: int | None) -> Head:
    """What an item is, by what stands before its first brace, `=` or `;`."""
    if tokens[0].kind == "directive":
        is_macro = len(tokens) > 2 and tokens[1].text == "define"
        return Head("directive", tokens[2].text if is_macro else "")
    first = tokens[0].text
    if first == "}" and tokens[0].kind == "mark":
        return Head("close")
    if first in STATEMENTS:
        return Head("statement")
    head, opener = _before_opener(tokens, body)
    if first in ("using", "typedef"):
        return _read_alias(tokens, head, opener)
    if not head:
        return Head("statement")
    if opener == "{" and (scope := _read_scope(head)) is not None:
        return scope
    if opener == "{" and (name := _type_name(head)):
        return Head("type", name)
    if (place := _function_name(head)) is not None:
        return _read_function(head, place, opener)
    names = [token for token in head if token.kind == "word"]
    if opener in ("=", "{", ";") and len(names) > 1:
        brackets = [number for number, token in enumerate(head) if token.text == "[" and number]
        declared = [token for token in head[: brackets[0] if brackets else None] if token.kind == "word"]
        return Head("variable", (declared or names)[-1].text)
    return Head("statement")


def _before_opener(tokens: Sequence[Lexeme], body: int | None) -> tuple[list[Lexeme], str]:
    """The tokens before the first brace, `=` or `;` outside of parentheses, and which of them it is; without access
    specifiers, heads of templates and attributes."""
    head: list[Lexeme] = []
    depth = place = 0
    while place < len(tokens):
        token = tokens[place]
        if _is_access(tokens, place):
            place += 2
            continue
        if token.kind == "mark" and not depth:
            if token.text == "{" or token.text == ";":
                return head, token.text
            if token.text == "=" and not any(one.text == "operator" for one in head[-3:]):
                return head, "="
        if token.text == "template" and place + 1 < len(tokens) and tokens[place + 1].text == "<":
            place = _behind_angles(tokens, place + 1)
            continue
        if [one.text for one in tokens[place : place + 2]] == ["[", "["]:
            place = _behind_group(tokens, place)
            continue
        depth += (token.text in ("(", "[")) - (token.text in (")", "]") and depth > 0) if token.kind == "mark" else 0
        head.append(token)
        place += 1
    return head, ""


def _is_access(tokens: Sequence[Lexeme], place: int) -> bool:
    return place + 1 < len(tokens) and tokens[place].text in ACCESS and tokens[place + 1].text == ":"


def _behind_angles(tokens: Sequence[Lexeme], place: int) -> int:
    """Behind the `>` that closes the `<` at `place`."""
    depth = inner = 0
    while place < len(tokens):
        text = tokens[place].text
        inner += (text in ("(", "[", "{")) - (text in (")", "]", "}"))
        depth += (text == "<") - (text == ">") if not inner else 0
        place += 1
        if depth <= 0:
            break
    return place


def _behind_group(tokens: Sequence[Lexeme], place: int) -> int:
    """Behind the bracket that closes the one at `place`."""
    depth = 0
    while place < len(tokens):
        text = tokens[place].text
        depth += (text in OPENING) - (text in OPENING.values())
        place += 1
        if depth <= 0:
            break
    return place


def _read_alias(tokens: Sequence[Lexeme], head: Sequence[Lexeme], opener: str) -> Head:
    if tokens[0].text == "using":
        return Head("alias", head[1].text) if opener == "=" and len(head) > 1 else Head("statement")
    words = [token.text for token in tokens if token.kind == "word"]
    return Head("type" if opener == "{" else "alias", words[-1])


def _read_scope(head: Sequence[Lexeme]) -> Head | None:
    words = [token.text for token in head if token.kind == "word"]
    if "namespace" in words[:2]:
        return Head("scope", "" if words[-1] == "namespace" else "::".join(words[words.index("namespace") + 1 :]))
    is_linkage = len(head) == 2 and head[0].text == "extern" and head[1].kind == "string"
    return Head("scope") if is_linkage else None


def _type_name(head: Sequence[Lexeme]) -> str:
    """The name of the class or enumeration that a brace behind `head` opens; empty where it opens something else."""
    place = next((number for number, token in enumerate(head) if token.text in TYPE_WORDS), None)
    if place is None:
        return ""
    place += 1
    while place < len(head) and (head[place].text in TYPE_WORDS or head[place].text in ("alignas", "__attribute__")):
        place = place + 1 if head[place].text in TYPE_WORDS else _behind_group(head, place + 1)
    if place >= len(head) or head[place].kind != "word":
        return ""
    end = place + 1
    while end + 1 < len(head) and head[end].text == "::":
        end += 2
    if end < len(head) and head[end].text == "<":
        end = _behind_angles(head, end)
    if end < len(head) and head[end].text not in (":", "final"):
        return ""
    return "".join(token.text for token in head[place:end])


def _function_name(head: Sequence[Lexeme]) -> int | None:
    """Where in the head of a function the parenthesis of its parameters stands."""
    place, has_angles = 0, True
    while place < len(head):
        token, before = head[place], head[place - 1] if place else head[0]
        if token.text == "operator" and token.kind == "word":
            behind = range(place + 1, len(head))
            return next((n for n in behind if head[n].text == "(" and head[n - 1].text != "operator"), None)
        if token.text == "<" and before.kind == "word" and has_angles:
            end = _behind_angles(head, place)
            has_angles = head[end - 1].text == ">"  # else there are none further on
            place = end if has_angles else place + 1
        elif token.text == "(":
            if before.kind == "word" and before.text not in NOT_FUNCTIONS | NOT_NAMES:
                return place
            place = _behind_group(head, place)
        else:
            place += 1
    return None


def _read_function(head: Sequence[Lexeme], place: int, opener: str) -> Head:
    first = place - 1
    operator = next((n for n in range(place) if head[n].text == "operator"), None)
    if operator is not None:
        first = operator
    while first > 1 and head[first - 1].text in ("::", "~"):
        first -= 2 if head[first - 1].text == "::" else 1
    name = "".join(token.text for token in head[first:place])
    listed = head[place + 1 : _behind_group(head, place) - 1]
    is_value = len(listed) == 1 and listed[0].kind in ("number", "string", "character")
    if opener != "{":
        return Head("variable", name) if is_value else Head("prototype", name, _parameters(listed))
    return Head("function", name, _parameters(listed))


def _parameters(listed: Sequence[Lexeme]) -> tuple[str, ...]:
    """The parameters' types as they are spelled, without names and defaults."""
    groups: list[list[Lexeme]] = [[]]
    depth = 0
    for token in listed:
        if token.kind == "mark":
            depth += (token.text in "([{<") - (token.text in ")]}>")
            if token.text == "," and depth == 0:
                groups.append([])
                continue
        groups[-1].append(token)
    types = (_type_of(group) for group in groups if group)
    return tuple(one for one in types if one != "void")


def _type_of(parameter: Sequence[Lexeme]) -> str:
    default = next((number for number, token in enumerate(parameter) if token.text == "="), len(parameter))
    kept = list(parameter[:default])
    if len(kept) > 1 and kept[-1].kind == "word" and kept[-1].text not in NOT_NAMES:
        before = kept[-2]
        is_qualified = before.text == "::" or (
            before.text in ("const", "volatile", "struct", "class") and len(kept) == 2
        )
        kept = kept if is_qualified else kept[:-1]
    if kept and kept[0].text == "const" and not any(token.text in "&*" for token in kept):
        kept = kept[1:]  # of a value, which the caller does not see
    return " ".join(token.text for token in kept)


def _free_words(tokens: Sequence[Lexeme]) -> Iterator[str]:
    """Identifiers that are not members, qualified, or declared where they stand."""
    declared = {
        token.text
        for before, token in pairwise(tokens)
        if token.kind == "word" and before.kind == "word" and before.text not in NOT_FUNCTIONS
    }
    for number, token in enumerate(tokens):
        before = tokens[number - 1].text if number else ""
        if token.kind == "word" and token.text not in declared and before not in (".", "->"):
            is_global = before != "::" or number < 2 or tokens[number - 2].kind != "word"
            if is_global:
                yield token.text
