"""A comparison that the candidate's own code decides is asked with changed literals as well.

Who says yes to everything has compared nothing. An honest `==` may ignore or fold what was changed, so that nobody but
a reference can say of each change that it makes a difference; of all of them together, one has to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from tree_sitter import Node

from rlvr_cpp.verifier.cpp.lexemes import node_text, parse, walk
from rlvr_cpp.verifier.tiers.observer.thunks import Lifted, kept_parameters, last_name

Denied = Literal["each", "one", "none"]
"""Which of the changes have to be denied; with `none` there are no challenges."""
CLASSES = ("class_specifier", "struct_specifier", "union_specifier")
CHANGES = ("assignment_expression", "update_expression", "new_expression", "delete_expression", "lambda_expression")


@dataclass(frozen=True)
class Pure:
    """What trusted text says of calls that may be repeated."""

    classes: frozenset[str] = frozenset()
    """A call of one of these makes an object."""
    methods: frozenset[str] = frozenset()
    """Functions that are `const` wherever they are declared."""
    kept: frozenset[tuple[str, int]] = frozenset()
    """Arguments that stay what they are (`kept_parameters`)."""


def read_pure(trusted: str) -> Pure:
    """Read it off a text."""
    nodes = list(walk(parse(trusted.encode(errors="replace"))))
    functions = [node for node in nodes if node.type == "function_declarator"]
    methods = {True: set[str](), False: set[str]()}
    for node in functions:
        is_constant = any(node_text(child) == "const" for child in node.children if child.type == "type_qualifier")
        methods[is_constant].add(last_name(node.child_by_field_name("declarator")))
    classes = {node_text(node.child_by_field_name("name")) for node in nodes if node.type in CLASSES}
    return Pure(frozenset(classes - {""}), frozenset(methods[True] - methods[False]), kept_parameters(functions))


def can_be_repeated(node: Node, pure: Pure) -> bool:
    """Whether a comparison changes nothing that is there before and after it, as far as trusted text tells."""
    parts = list(walk(node))
    if any(part.type in CHANGES for part in parts):
        return False
    return all(_is_pure(part, pure) for part in parts if part.type == "call_expression")


def _is_pure(node: Node, pure: Pure) -> bool:
    function, listed = node.child_by_field_name("function"), node.child_by_field_name("arguments")
    name, owner = last_name(function), function.child_by_field_name("argument") if function is not None else None
    if function is not None and function.type == "field_expression":
        name = last_name(function.child_by_field_name("field"))
        return name in pure.methods or (owner is not None and _makes_object(owner, pure))
    arguments = listed.named_children if listed is not None else []
    kept = all((name, place) in pure.kept for place, _ in enumerate(arguments))
    return name in pure.classes or (bool(arguments) and kept)


def _makes_object(node: Node, pure: Pure) -> bool:
    made = node.child_by_field_name("function") if node.type == "call_expression" else node.child_by_field_name("type")
    return made is not None and made.type != "field_expression" and last_name(made) in pure.classes


def changed(lifted: Lifted, pure: Pure) -> Iterator[list[str]]:
    """The arguments with another literal in one place, once for each that is compared or that an object is made of."""
    for place, literal in lifted.literals.items():
        above = literal.parent
        is_plain = above is not None and above.type in ("initializer_list", "binary_expression")
        if is_plain or (above is not None and above.parent is not None and _makes_object(above.parent, pure)):
            other = [*lifted.arguments]
            other[place] = _other_literal(other[place])
            yield other


def _other_literal(argument: str) -> str:
    """An argument that is a literal as sent, with a value that is not far from it: what is made from it is sound.

    Numbers are changed towards one, a word in its last letter or digit.
    """
    match = re.fullmatch(r'static_cast<const char\*>\((.*)"\)', argument, re.DOTALL)
    if match is None:
        return f"rlvr::another({argument})"
    text, last = match[1], match[1][-1:]
    if not re.fullmatch(r"[A-Za-z0-9]", last) or text[-2:-1] == "\\" or not text.startswith('"'):
        return f'static_cast<const char*>({text}~")'
    return f'static_cast<const char*>({text[:-1]}{chr(ord(last) + (1 if last in "0aA1" else -1))}")'


def challenge_text(thunk: int, asked: Sequence[str], others: Sequence[Sequence[str]], denied: Denied) -> str:
    """A comparison asked in several ways, as an expression without a comma outside of parentheses."""
    asks = [f"rlvr::ask<int>({', '.join([str(thunk), *arguments])})" for arguments in (asked, *others)]
    named = " ".join(f"auto rlvr_ask_{n} = [&] {{ return {ask}; }};" for n, ask in enumerate(asks))
    listed = ", ".join(f"rlvr::asked(rlvr_ask_{n})" for n, _ in enumerate(asks))
    each = "true" if denied == "each" else "false"
    return f"([&] {{ {named} rlvr::Asked rlvr_asked[] = {{{listed}}}; return rlvr::challenge(rlvr_asked, {each}); }}())"
