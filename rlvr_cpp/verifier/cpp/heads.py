"""What the tokens before a definition's brace, `=` or `;` say: what sort of thing it is, its name, its parameters.

No compiler's grammar: it reads what people write at the top level of a file, and never raises.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from rlvr_cpp.verifier.cpp.lexemes import Lexeme

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
OTHER_TEXT = """
    and and_eq bitand bitor compl concept consteval constexpr constinit const_cast dynamic_cast export extern
    false final friend import inline module mutable namespace not not_eq nullptr operator or or_eq override
    pragma private protected public register reinterpret_cast static static_cast template this thread_local true
    typedef typeid using virtual xor xor_eq"""
KEYWORDS = NOT_FUNCTIONS | NOT_NAMES | frozenset(OTHER_TEXT.split())
TYPE_WORDS = frozenset(("struct", "class", "union", "enum"))
ACCESS = frozenset(("public", "private", "protected"))
OPENING = {"(": ")", "[": "]", "{": "}"}


class Head(NamedTuple):
    """What the tokens before an item's brace, `=` or `;` say."""

    kind: Kind
    name: str = ""
    parameters: tuple[str, ...] | None = None


def read_head(tokens: Sequence[Lexeme], body: int | None) -> Head:
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
        declared = head[: brackets[0] if brackets else None]
        last = max((n for n, token in enumerate(declared) if token.kind == "word"), default=None)
        return Head("variable", names[-1].text if last is None else _qualified(declared, last, declared[last].text))
    return Head("statement")


def _before_opener(tokens: Sequence[Lexeme], body: int | None) -> tuple[list[Lexeme], str]:
    """The tokens before the first brace, `=` or `;` outside of parentheses, and which of them it is; without access
    specifiers, heads of templates and attributes."""
    head: list[Lexeme] = []
    depth = place = 0
    while place < len(tokens):
        token = tokens[place]
        if is_access(tokens, place):
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


def is_access(tokens: Sequence[Lexeme], place: int) -> bool:
    """An access specifier begins at `place`."""
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


def _qualified(head: Sequence[Lexeme], place: int, name: str) -> str:
    """The name, which begins at `place`, behind the classes before it, which are told without their arguments."""
    names = [name]
    while place > 1 and head[place - 1].text == "::":
        place -= 2
        depth = 0
        while place > 0 and (depth or head[place].text == ">"):
            depth += (head[place].text == ">") - (head[place].text == "<")
            place -= 1
        if head[place].kind != "word" or head[place].text in NOT_NAMES:
            break
        names.append(head[place].text)
    return "::".join(reversed(names))


def _read_function(head: Sequence[Lexeme], place: int, opener: str) -> Head:
    first = place - 1
    operator = next((n for n in range(place) if head[n].text == "operator"), None)
    if operator is not None:
        first = operator
    elif first and head[first - 1].text == "~":
        first -= 1
    own = "".join(token.text for token in head[first:place])
    name = _qualified(head, first, own)
    listed = head[place + 1 : _behind_group(head, place) - 1]
    is_value = len(listed) == 1 and listed[0].kind in ("number", "string", "character")
    if opener != "{":
        return Head("variable", name) if is_value else Head("prototype", name, _parameters(listed))
    return Head("function", name, _parameters(listed))


def arguments_at(tokens: Sequence[Lexeme], place: int) -> int:
    """How many arguments the call has whose parenthesis stands at `place`."""
    listed = tokens[place + 1 : _behind_group(tokens, place) - 1]
    depth = commas = 0
    for token in listed:
        depth += (token.text in OPENING) - (token.text in OPENING.values())
        commas += token.text == "," and depth == 0
    return commas + bool(listed)


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
