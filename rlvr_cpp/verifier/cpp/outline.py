"""What a text holds at its top level and where each piece stands: definitions, directives, statements.

`signature.py` says what C++ means, from its syntax tree. This says where things begin and end, also in texts that are
half a program: a body without its head, a class that is left open, branches of a conditional that both open the same
brace. It reads lexemes alone, in a time that grows with the text, and never raises.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise

from rlvr_cpp.verifier.cpp.braces import Branches
from rlvr_cpp.verifier.cpp.heads import (
    DEFINITIONS,
    KEYWORDS,
    NOT_FUNCTIONS,
    OPENING,
    STATEMENTS,
    Head,
    Kind,
    arguments_at,
    is_access,
    read_head,
)
from rlvr_cpp.verifier.cpp.lexemes import Lexeme, lexemes

BEFORE_A_BODY = frozenset(("const", "noexcept", "override", "final", "mutable", "try"))
MAX_NESTING = 4  # of namespaces whose contents are read
OPERATORS = frozenset("+-*/%^&|~!=<>")
MAX_OPERATOR = 3  # marks


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
        while first + 2 < len(self.tokens) and is_access(self.tokens, first):
            first += 2
        return self.tokens[first].start

    @cached_property
    def read(self) -> Head:
        """What it is."""
        return read_head(self.tokens, self.body)

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
        """It is closed, and says more in its braces than nothing, `...`, or what is to be done in words."""
        if not self.is_closed or self.body is None:
            return self.is_closed
        says = any(token.text not in ".;{}" for token in self.tokens[self.body :])
        return says and not (self.kind == "function" and _is_prose(self.tokens[self.body + 1 : -1]))

    def calls_of_itself(self) -> Iterator[int]:
        """With how many arguments each."""
        inside = self.tokens[self.body :] if self.kind == "function" and self.body is not None else ()
        for place, (token, behind) in enumerate(pairwise(inside)):
            if token.text == self.name and behind.text == "(":
                yield arguments_at(inside, place + 1)

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


def _pieces(code: str) -> Iterator[tuple[list[Lexeme], bool]]:
    """Each token, or all tokens of a directive, and whether it stands in a branch that is read."""
    branches = Branches()
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


def _follow(branches: Branches, line: Sequence[Lexeme]) -> bool:
    if len(line) > 1:
        branches.follow(line[1].text, is_zero=[token.text for token in line[2:4]] == ["0"])
    return branches.are_read


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
            draft.head = read_head(draft.tokens, draft.body)
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


def _is_prose(body: Sequence[Lexeme]) -> bool:
    """A body without a statement, or with three names in a row, is pseudocode."""
    names = [token.kind == "word" and token.text not in KEYWORDS for token in body]
    has_statement = any(token.text in (";", "}") for token in body)
    return not has_statement or any(map(all, zip(names, names[1:], names[2:], strict=False)))


def _free_words(tokens: Sequence[Lexeme]) -> Iterator[str]:
    """Identifiers that are not members, qualified, or declared where they stand, and operators as they are defined."""
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
    for place, token in enumerate(tokens):
        run = ""
        for mark in tokens[place : place + MAX_OPERATOR]:
            if mark.kind != "mark" or mark.text not in OPERATORS or mark.start != token.start + len(run):
                break
            run += mark.text
            yield f"operator{run}"
